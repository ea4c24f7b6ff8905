/*-------------------------------------------------------------------------
 *
 * account.h
 *	  What people decide of one account: that it is to be deleted, or is not, or
 *	  must not be.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/account.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include "scheduled_deletion.h"

/* What is asked for an account; as text, or NULL */
typedef struct Request
{
	char	   *account;		/* its key */
	char	   *policy;			/* NULL: the only one there is */
	char	   *performed_by;
} Request;

/* An account, and what is known of it */
typedef struct FoundAccount
{
	DeletionPlan *plan;			/* as far as its account and audit tables */
	Datum	   *key;			/* its values of the account step's keys: the
								 * first ones are its key, the others valid
								 * once found */
	PlanKey    *hold_key;		/* by which holds are placed */
	Datum	   *performed_by;	/* NULL: the system */

	/* Once it is found */
	bool		is_scheduled;	/* some day it will be due */
	Datum		due;			/* if it is */
	bool		is_done;
} FoundAccount;

/* schedule.c */
extern TimestampTz sd_schedule(Oid schema, Request *request, Interval *grace);
extern bool sd_cancel(Oid schema, Request *request);

/* hold.c */
extern void sd_hold(Oid schema, Request *request, const char *reason,
					TimestampTz *until);
extern bool sd_release(Oid schema, Request *request, const char *reason);

/* guard.c */
extern bool sd_set_guard(Oid schema, const char *policy, bool enabled);

/* account.c */
extern void sd_find_account(Oid schema, Request *request,
							FoundAccount *account);
extern bool sd_find_former_account(Oid schema, Request *request,
								   FoundAccount *account);
extern void sd_refuse_hidden_retry(Oid schema, char *key, char **policy);
extern DeletionPolicy *sd_only_policy(Oid schema, const char *name);

#endif							/* ACCOUNT_H */
