/*-------------------------------------------------------------------------
 *
 * check.h
 *	  What a check finds, and what its files offer to each other.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/check.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef CHECK_H
#define CHECK_H

#include "scheduled_deletion.h"

/* How grave a finding is */
typedef enum Severity
{
	SD_ERROR,					/* a run stops, or accounts stay */
	SD_WARNING,					/* it may go wrong, or further than meant */
	SD_INFO						/* worth to be known */
} Severity;

/* One line of what check_deletion_policy() has to say */
typedef struct Finding
{
	const char *policy;			/* NULL: the extension as a whole */
	Severity	severity;
	int			number;			/* in the order in which they were found */
	const char *code;
	char	   *object;			/* as SQL would name it */
	char	   *message;
	char	   *detail;			/* these are NULL if there are none */
	char	   *hint;
	char	   *remedy;			/* a statement that mends it */
} Finding;

/* The check of a policy */
typedef struct Check
{
	Oid			role;			/* that runs the job */
	DeletionPolicy *policy;
	DeletionPlan *plan;			/* as a run would make it; NULL if it cannot */
	DeletionPlan *followed;		/* the same with all that blocks followed */
	StepAction *proposed;		/* by number of the links that block: what to
								 * do with their rows */
	List	   *fired;			/* Oid: triggers and rules that a run fires */
	List	   *unsafe_tables;	/* Oid: to query them runs code of a role
								 * without the caller's rights */
	double		cost;			/* of all queries of users' rows so far */
	List	   *findings;		/* Finding * */
} Check;

/* check.c */
extern List *sd_check_policy(DeletionPolicy *policy, Oid role);
extern void sd_put_findings(List *findings, List *earlier,
							ReturnSetInfo *result);
extern int	sd_count_findings(List *findings, Severity severity);

/* check_keys.c and its like, by what they look at */
extern void sd_check_keys(Check *check);
extern void sd_check_columns(Check *check);
extern bool sd_is_named_after_accounts(Check *check, const char *column);
extern void sd_check_indexes(Check *check);
extern void sd_check_triggers(Check *check);
extern void sd_check_role(Check *check);
extern List *sd_check_exposure(Oid schema);
extern void sd_check_holds(Check *check);
extern void sd_check_accounts(Check *check);
extern bool sd_may_ask(Check *check, Oid table);
extern char *sd_next_unread_mark(DeletionPolicy *policy, int *i);

/* check_code.c */
extern void sd_check_code(Check *check, List *tables, List *written);

/* finding.c */
extern Finding *sd_add_finding(Check *check, Severity severity,
							   const char *code, char *object, char *message);
extern bool sd_has_remedy(List *findings, const char *remedy);
extern char *sd_drop_constraint(const char *table, const char *constraint);
extern char *sd_step_remedy(Check *check, PlanLink *link, const char *action);
extern char *sd_about_rows(Oid table);

#endif							/* CHECK_H */
