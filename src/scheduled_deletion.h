/*-------------------------------------------------------------------------
 *
 * scheduled_deletion.h
 *	  The vocabulary of scheduled_deletion: what a policy, a plan and a failure
 *	  are, and what each file offers to the others.  run.h has what a run is made
 *	  of, check.h what a check finds, account.h what people decide of one account.
 *
 * Files depend on each other in one direction, the order of the prototypes
 * below; those of the other headers come before them.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/scheduled_deletion.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCHEDULED_DELETION_H
#define SCHEDULED_DELETION_H

#include "access/attnum.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_attribute.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "compat.h"

#define SD_MIN_BATCH_SIZE		1
#define SD_DEFAULT_BATCH_SIZE	100000
#define SD_MAX_BATCH_SIZE		1000000

/* accounts of the first batch, while nothing is known of tonight's failures */
#define SD_FIRST_BATCH_SIZE	512

/* the same if that is committed, while nothing is known of how long it takes */
#define SD_FIRST_COMMITTED_BATCH_SIZE	10

/* entries of the report's "errors"; the rest is told by "errors_truncated" */
#define SD_MAX_ERRORS		1000

/* tells our own errors, which quote nothing of a person, from all others */
#undef TEXTDOMAIN
#define TEXTDOMAIN PG_TEXTDOMAIN("scheduled_deletion")

/* the triggers that guard accounts on hold, and what they execute */
#define SD_GUARD				"guard_held_accounts"
#define SD_KEY_GUARD			"guard_held_account_keys"
#define SD_TRUNCATE_GUARD		"guard_held_accounts_truncate"
#define SD_GUARD_FUNCTION		"refuse_held_account"

/* unknown, of a number of rows or a cost */
#define SD_UNKNOWN				(-1.0)

/* the audit table of a policy that names none, beside the account table */
#define SD_AUDIT_TABLE			"audit_log"

/* Settings */
extern int	sd_batch_size;
extern char *sd_enabled;
extern int	sd_batch_duration;
extern bool sd_elide_fk_checks;
extern int	sd_lock_timeout;
extern int	sd_pause_between;
extern int	sd_progress_interval;
extern int	sd_retention;

/* What happens to the rows of a step */
typedef enum StepAction
{
	SD_DELETE,
	SD_SET_NULL,				/* their columns that lead to the account */
	SD_SET_DEFAULT,
	SD_KEEP,
	SD_BLOCK					/* nothing: they stop the account */
} StepAction;

/*
 * A policy as it stands in deletion_policy and deletion_step.  A table that is
 * there is followed by OID; one that is lost is invalid, and its number may be
 * another table's: see remember.c.  The names are those of the last time at
 * which they were noted.
 */
typedef struct DeletionStep
{
	Oid			table;			/* invalid: lost */
	Oid			number;			/* the same as it is written */
	char	   *table_name;
	List	   *columns;		/* char *: a key's columns, or several times
								 * so many */
	StepAction	action;
	char	   *reason;			/* NULL if none was given */
	bool		after_account;
	Oid			via;			/* table that the columns lead to; invalid:
								 * accounts, or lost */
	char	   *via_name;		/* NULL: accounts */
	List	   *via_columns;	/* char *; NIL: its primary key */
	Jsonb	   *match;			/* values that rows must have, or NULL */
	List	   *matches;		/* StepMatch *: the same */
	bool		is_linked;		/* what the columns lead to is in the plan */
} DeletionStep;

typedef struct StepMatch
{
	char	   *column;
	char	   *value;
} StepMatch;

typedef struct DeletionPolicy
{
	Oid			schema;			/* of the extension */
	char	   *name;
	Oid			account_table;	/* invalid: lost */
	Oid			account_number; /* the same as it is written */
	char	   *account_table_name;
	List	   *key_columns;	/* char * */
	char	   *due_column;
	Interval   *grace;
	char	   *done_column;	/* NULL if it has none */
	Oid			audit_table;	/* as the account table */
	Oid			audit_number;
	List	   *audit_tables;	/* those of all policies */
	char	   *audit_table_name;
	Jsonb	   *audit_columns;	/* NULL if they have the names that they
								 * should */
	List	   *audit_details;	/* char *: account columns to be kept */
	bool		follow_blocking_keys;
	text	   *time_zone;
	bool		enabled;
	int			brake_accounts; /* the most that a run may delete; 0: any */
	double		brake_share;	/* the same as a part of all; 1: all */
	List	   *steps;			/* DeletionStep *, in the order given */
} DeletionPolicy;

/*
 * A row of deletion_policy or deletion_step that is to be written: its columns,
 * of which some may be null.
 */
typedef enum PolicyColumn
{
	SD_POLICY,
	SD_ACCOUNT_TABLE,			/* and account_table_name */
	SD_KEY_COLUMNS = SD_ACCOUNT_TABLE + 2,
	SD_DUE_COLUMN,
	SD_GRACE,
	SD_DONE_COLUMN,
	SD_AUDIT_TABLE_COLUMN,		/* and audit_table_name */
	SD_AUDIT_COLUMNS = SD_AUDIT_TABLE_COLUMN + 2,
	SD_AUDIT_DETAILS,
	SD_BLOCKING_KEYS,
	SD_TIME_ZONE,
	SD_OVERDUE_AFTER,
	SD_ENABLED,
	SD_BRAKE_ACCOUNTS,
	SD_BRAKE_SHARE,
	SD_NCOLUMNS
} PolicyColumn;

typedef enum StepColumn
{
	SD_STEP_POLICY,
	SD_STEP_TABLE,				/* and step_table_name */
	SD_STEP_COLUMNS = SD_STEP_TABLE + 2,
	SD_STEP_ACTION,
	SD_STEP_REASON,
	SD_STEP_AFTER_ACCOUNT,
	SD_STEP_VIA,				/* and via_name */
	SD_STEP_VIA_COLUMNS = SD_STEP_VIA + 2,
	SD_STEP_MATCH
} StepColumn;

typedef struct PolicyRow
{
	Datum		values[SD_NCOLUMNS];
	char		nulls[SD_NCOLUMNS + 1];
} PolicyRow;

#define SD_NULL_ROW		{.nulls = "nnnnnnnnnnnnnnnnn"}

/* Where a statement's parameter gets its value from */
typedef enum ParamSource
{
	SD_PARAM_CALLER,			/* the caller of sd_execute() */
	SD_PARAM_CONSTANT,			/* the statement itself */
	SD_PARAM_SURELY_DUE,		/* the values up to this one are due ... */
	SD_PARAM_PERHAPS_DUE,		/* ... and none after this one is ... */
	SD_PARAM_MOMENT,			/* ... at this moment, that of the run */
	SD_PARAM_GRACE,				/* the policy's */
	SD_PARAM_TIME_ZONE,			/* the policy's */
	SD_PARAM_KEYS				/* a key's values, of the rows in this attempt */
} ParamSource;

/* Which values of the due column are due at a moment; see due.c */
typedef struct DueBounds
{
	TimestampTz moment;
	Datum		surely;			/* all up to this one are ... */
	Datum		perhaps;		/* ... and none after this one is */
} DueBounds;

typedef struct StatementParam
{
	ParamSource source;
	Oid			type;
	Datum		value;			/* if CONSTANT */
	struct PlanKey *key;		/* if KEYS, and which of its columns */
	int			column;
} StatementParam;

/*
 * How a statement finds the rows of the keys that it takes: the last of its
 * links'
 */
typedef enum KeyAccess
{
	SD_NO_KEYS,
	SD_BY_INDEX,				/* by an index, however many keys there are */
	SD_BY_ROWS,					/* the same, but not by a bitmap that may
								 * forget which rows: without a hash, each row
								 * of a page would be compared with each key */
	SD_BY_COLUMNS,				/* by several columns at once, as the planner
								 * likes */
	SD_BY_SCAN					/* no index finds them */
} KeyAccess;

/* A generated statement; statement.c shows each */
typedef struct PlanStatement
{
	StringInfoData query;
	List	   *params;			/* StatementParam *, $1 first */
	bool		for_few_keys;	/* planned once, as for a handful */
	KeyAccess	access;
	List	   *proved_checks;	/* Oid: foreign keys whose checks it can go
								 * without ... */
	bool		is_elided;		/* ... and did when it was last executed */
	bool		must_begin;		/* it deletes, which only the hook makes safe */
	bool		was_begun;		/* so it did when it was last executed */
	SPIPlanPtr	plan;			/* NULL before sd_prepare() ... */
	const char *source_text;	/* ... of which this is the text */
} PlanStatement;

/*
 * A column of a key.  Its values are of the type by which its btree operator
 * family compares them: a domain's base type, a varchar's text.
 */
typedef struct KeyColumn
{
	char	   *name;
	char	   *value;			/* t.<name>, cast if need be */
	Oid			type;
	Oid			array_type;
	int16		typlen;
	bool		typbyval;
	char		typalign;
	Oid			collation;
	Oid			opfamily;
	Oid			opcintype;		/* type, or polymorphic, as for an enum */
} KeyColumn;

/* Columns of a step's table by which rows of other tables refer to its rows */
typedef struct PlanKey
{
	struct PlanStep *step;
	Oid			member;			/* only rows of this partition, or of a parent
								 * without its children, if valid */
	int			number;			/* among the keys of the step */
	bool		is_unique;		/* no two rows have the same, as far as a link
								 * leads to it */
	int			first_value;	/* place of its columns among the step's
								 * values */
	int			ncolumns;
	KeyColumn  *columns;
	FmgrInfo   *compare;		/* of each, btree comparison of two values */
	FmgrInfo   *hash;			/* the same for all values that it finds
								 * equal; NULL if some column has none */
	TupleDesc	tupdesc;		/* of a composite key, else NULL */
} PlanKey;

/* How the rows of a step lead to an account: by a key of another step */
typedef struct PlanLink
{
	struct PlanStep *step;		/* whose rows these are */
	PlanKey    *key;
	int			number;			/* among the links of the plan */
	Oid			constraint;		/* the foreign key; invalid: the policy says
								 * so */
	bool		cascades;		/* and its action is CASCADE */
	bool		is_free;		/* no foreign key says so: rows can come at any
								 * time */
	bool		is_asked;		/* of a step that blocks: a query can tell
								 * whom */
	int			ncolumns;
	char	  **names;
	char	  **values;			/* as they are compared: t.<name>, cast if
								 * need be */
	Oid		   *types;			/* of the values */
	Oid		   *equals;			/* operators: value = key */
	FmgrInfo   *compare;		/* btree comparisons (value, key) */
	FmgrInfo   *hash;			/* as those of the key; NULL if there are none */
	KeyAccess	access;
	Oid			member;			/* only rows of this partition, or of a parent
								 * without its children, if valid */
	DeletionStep *definition;	/* NULL if it is a foreign key */
	PlanStatement find;			/* the values of rows that lead to the
								 * accounts */
	PlanStatement set_null;		/* if the action is, and the policy says so */
	PlanStatement collect;		/* values and keys, if the step has keys ... */
	PlanStatement collect_locked;	/* ... and the rows are locked; it is prepared
									 * when it is first needed */
} PlanLink;

typedef struct PlanStep
{
	StepAction	action;
	Oid			table;
	char	   *table_name;		/* as the report calls it */
	DeletionStep *definition;	/* NULL if it was found in the catalog */
	List	   *links;			/* PlanLink *, in the order to be tried */
	List	   *keys;			/* PlanKey *; a primary key is the first */
	int			nvalues;		/* of all keys */
	List	   *members;		/* Oid: the table and all its partitions and
								 * children */
	bool		can_keep_rows;	/* a BEFORE trigger or a rule can prevent it */
	bool		lock_rows;		/* a cascade leads from its rows to accounts */
	bool		may_lock_rows;	/* the caller has the privileges for it */
	bool		is_watched;		/* it is no step of the plan; see watch.c */
	bool		asks_for_holds;	/* it is asked who of its rows is on hold, for
								 * too many are; see held_asked.c */
	bool		is_walked;		/* what refers to its rows was looked for */
	struct PlanStep *deleted_by;	/* the step that deletes rows of this
									 * table */
	int			number;			/* its place in plan->steps */
	int			position;		/* that of its stage; 0 if it blocks */
} PlanStep;

/* Steps that are executed at once */
typedef struct PlanStage
{
	List	   *steps;			/* PlanStep *; one, or a circle */
	int			number;			/* its place in plan->stages */
	bool		is_circle;		/* rows of these steps refer to each other */
	List	   *deletes;		/* PlanDelete *, NIL if nothing is deleted */
} PlanStage;

/*
 * One DELETE.  Mostly of the rows of one link.  Steps that refer to each other
 * in a circle have one for all of their rows: between two, the server would
 * find rows that refer to nothing, or take the action of a key.
 */
typedef struct PlanDelete
{
	PlanStatement statement;
	List	   *parts;			/* DeletePart * */
} PlanDelete;

/* Rows that a PlanDelete returns of one step */
typedef struct DeletePart
{
	PlanStep   *step;
	List	   *links;			/* PlanLink *: their values are returned ... */
	List	   *others;			/* ... and those of links that may lead its
								 * rows to other accounts ... */
	int			first_column;	/* ... from here on, then those of its keys */
	bool		is_shared;		/* may a row lead to several rows? */
} DeletePart;

/*
 * A policy resolved against the catalog, for one run.  Every table of the plan
 * is locked when it is made, and stays so until the transaction (of a dry run,
 * or of one policy among several: its subtransaction) ends.
 */
typedef struct DeletionPlan
{
	DeletionPolicy *policy;
	LOCKMODE	lockmode;		/* ROW EXCLUSIVE, or ACCESS SHARE to look at
								 * it */
	PlanStep   *account;		/* the step that deletes the accounts */
	PlanKey    *key;			/* theirs */
	PlanLink   *self;			/* its own columns, compared with it */
	List	   *hold_links;		/* PlanLink *: by which rows that are deleted
								 * can be accounts on hold, or those that are
								 * watched */
	List	   *hold_tables;	/* Oid: tables that rows are deleted from, whose
								 * accounts can be on hold; and all of which
								 * some are */
	List	   *watched;		/* PlanStep *: tables with accounts on hold from
								 * which nothing is deleted ... */
	List	   *watch_links;	/* ... and PlanLink *: by which rows that are
								 * deleted belong to those, too */
	List	   *account_tables; /* the account table and all its partitions */
	Oid			due_type;		/* timestamptz, timestamp or date */
	int16		due_typlen;
	bool		due_typbyval;	/* a timestamp is not, with 32 bits */
	int32		due_typmod;		/* -1, or how many decimals of a second */
	Oid			audit_key_type; /* what the audit table's user_id is given */
	Oid			performed_by_type;	/* invalid if it has no such column */

	List	   *steps;			/* PlanStep *; those that block are not
								 * executed */
	List	   *links;			/* PlanLink *, of all steps, as they are found */
	int			nlinks;			/* and that of the accounts */
	List	   *stages;			/* PlanStage *, in the order of execution */

	bool		runs_code;		/* of users, before the accounts are gone */
	bool		can_fail;		/* an account can turn out to fail only when
								 * its rows are deleted: a query cannot tell */
	List	   *proved_checks;	/* Oid: foreign keys, on the account table and
								 * its partitions, whose checks would find
								 * nothing when accounts are deleted */

	PlanStatement pick;
	PlanStatement pick_sample;
	PlanStatement due;			/* of which the number is counted */
	PlanStatement lock;
	PlanStatement still_due;
	PlanStatement audit;
	List	   *statements;		/* PlanStatement *: all that a run may need */
} DeletionPlan;

/* Privileges on an object that a role lacks to run a plan */
typedef struct MissingPrivilege
{
	char	   *privileges;		/* SELECT, DELETE */
	char	   *what;			/* table "x" */
	char	   *object;			/* as a finding names it */
	char	   *grant;			/* the statement that grants them */
} MissingPrivilege;

/* Why an account must not be deleted: a row of deletion_hold */
typedef struct Hold
{
	List	   *key_columns;	/* char *: by which it was placed */
	char	   *account;		/* its key as portable text */
	char	   *reason;
	bool		is_refused;		/* some run has left the account alone */
} Hold;

/* Whom an error concerns */
typedef enum FailureKind
{
	SD_ACCOUNT_FAILURE,			/* the accounts that were being deleted */
	SD_MOMENT_FAILURE,			/* nobody: the next attempt may well succeed */
	SD_SCHEMA_FAILURE,			/* every account: the schema, or a privilege */
	SD_SERVER_FAILURE,			/* every account: what the server needs */
	SD_INTERNAL_FAILURE,		/* an account's, unless some in a row have it */
	SD_RUN_FAILURE				/* the run itself: thrown on at once */
} FailureKind;

/*
 * Why something could not be deleted, in words of ours: nothing in it comes
 * from the text of somebody else's error.
 */
typedef struct Failure
{
	FailureKind kind;
	int			sqlstate;
	char	   *message;
	char	   *hint;			/* NULL unless it ended the run of a policy */
	char	   *table_name;		/* NULL if none is known */
	char	   *constraint_name;	/* NULL if none is known */
	bool		while_auditing; /* raised by the insertion of audit rows */
} Failure;

/* settings.c */
extern void sd_define_settings(void);

/* register.c */
extern void sd_add_policy(Oid schema, PolicyRow *row);
extern void sd_alter_policy(Oid schema, PolicyRow *row);
extern void sd_add_step(Oid schema, PolicyRow *row);
extern void sd_check_not_negative(Datum interval, const char *name);

/* describe.c */
extern void sd_describe_plan(DeletionPlan *plan, ReturnSetInfo *result);

/* estimate.c */
extern double *sd_estimate_steps(DeletionPlan *plan);
extern double sd_estimate_link(PlanLink *link, double *estimates);
extern double sd_count_tuples(Oid table);
extern double sd_rows_for_value(Oid table, AttrNumber attnum);
extern double sd_planner_expects(const char *label, const char *query,
								 int nargs, Oid *argtypes, Datum *values);

/* audit.c */
extern void sd_resolve_audit_table(DeletionPlan *plan);
extern void sd_refuse_audit_cascades(DeletionPlan *plan);
extern void sd_write_audit_row(DeletionPlan *plan, Datum *key,
							   const char *action, Jsonb *details,
							   Datum *performed_by);
extern Datum sd_performed_by(DeletionPlan *plan, char *performed_by);

/* preflight.c */
extern bool sd_may_run(void);
extern void sd_check_session(const char *command);
extern void sd_check_tables(DeletionPlan *plan);
extern List *sd_missing_privileges(DeletionPlan *plan, Oid role);
extern void sd_add_missing(List **missing, Oid role, const char *privileges,
						   const char *kind, const char *name,
						   const char *quoted_name, const char *object);
pg_noreturn extern void sd_throw_hidden(Oid table, const char *detail,
										const char *what_to_do);
extern List *sd_hidden_tables(DeletionPlan *plan, Oid role);

/* plan.c */
extern DeletionPlan *sd_make_plan(DeletionPolicy *policy, LOCKMODE lockmode);
extern DeletionPlan *sd_begin_plan(DeletionPolicy *policy, LOCKMODE lockmode);
extern bool sd_has_related_accounts(DeletionPlan *plan);
extern bool sd_collects_rows(DeletionPlan *plan);
extern void sd_prepare_plan(DeletionPlan *plan, bool for_few_keys);

/* due.c */
extern void sd_resolve_due_column(DeletionPlan *plan, Relation account_table);
extern void sd_find_due_bounds(DeletionPlan *plan, TimestampTz moment,
							   DueBounds *bounds);
extern Datum sd_due_param(DeletionPlan *plan, DueBounds *bounds,
						  ParamSource source);
extern Datum *sd_bind_due(DeletionPlan *plan, DueBounds *bounds,
						  PlanStatement *statement, Oid **argtypes);
extern Datum sd_due_value(DeletionPlan *plan, TimestampTz moment);
extern TimestampTz sd_due_at(DeletionPlan *plan, Datum due);
extern bool sd_is_never_due(DeletionPlan *plan, Datum due);
extern Datum sd_never_due(DeletionPlan *plan);
extern TimestampTz sd_moment_after(DeletionPlan *plan, TimestampTz moment,
								   Interval *interval);

/* discover.c */
extern void sd_discover(DeletionPlan *plan);

/* blockers.c */
extern void sd_find_rows_to_lock(DeletionPlan *plan);
extern bool sd_is_locked_when_collected(DeletionPlan *plan, PlanStep *step);
extern void sd_find_askable_links(DeletionPlan *plan);

/* definition.c */
extern void sd_add_defined_links(DeletionPlan *plan, PlanStep *target,
								 DeletionStep *definition);
extern void sd_refuse_deleting_step(DeletionPlan *plan,
									DeletionStep *definition);
extern void sd_refuse_steps(DeletionPlan *plan);

/* step.c */
extern PlanStep *sd_plan_step(DeletionPlan *plan, Relation rel,
							  StepAction action, DeletionStep *definition);
extern Oid	sd_root_of(Oid table);
extern Relation sd_open_root(DeletionPlan *plan, Oid table, LOCKMODE lockmode);
extern void sd_refuse_detaching(DeletionPlan *plan);
extern bool sd_is_outdated(DeletionPlan *plan);
extern bool sd_is_audit_table(DeletionPlan *plan, Oid table);

/* order.c */
extern void sd_order_steps(DeletionPlan *plan);

/* prove.c */
extern void sd_prove_checks(DeletionPlan *plan);
extern bool sd_were_checks_proved(DeletionPlan *plan, PlanStatement *statement);

/* writers.c */
extern bool sd_has_unchecked_writers(void);

/* statement.c */
extern void sd_write_statements(DeletionPlan *plan);
extern int	sd_add_param(PlanStatement *statement, ParamSource source, Oid type);
extern void sd_add_statement(DeletionPlan *plan, PlanStatement *statement);
extern char *sd_link_value(PlanStatement *statement, PlanLink *link, int column);
extern void sd_append_goes(DeletionPlan *plan, PlanStatement *statement,
						   PlanStep *step);
extern void sd_append_values(PlanStatement *statement, PlanLink *link);
extern void sd_append_key_values(StringInfo buf, PlanStep *step);

/* statement_account.c */
extern void sd_write_account_statements(DeletionPlan *plan);
extern void sd_append_due(DeletionPlan *plan, PlanStatement *statement);
extern void sd_write_perhaps_due(DeletionPlan *plan, PlanStatement *statement);
extern void sd_write_find(DeletionPlan *plan, bool lock, PlanStatement *find);
extern void sd_write_set_due(DeletionPlan *plan, PlanStatement *set_due);
extern void sd_write_marked(DeletionPlan *plan, const char *column,
							bool is_flag, PlanStatement *marked);
extern void sd_write_leftovers(DeletionPlan *plan, PlanLink *link, int limit,
							   StringInfo query);

/* statement_above.c */
extern void sd_write_above(PlanKey *key, Oid *types, Oid *equals,
						   PlanStatement *above);

/* policy.c */
extern List *sd_load_policies(Oid schema, const char *name, bool all,
							  bool may_register);
extern List *sd_find_policies(Oid schema, const char *name, bool all,
							  bool may_register);
extern bool sd_is_enabled(Oid schema, const char *policy);
extern void sd_set_column(PolicyRow *row, int column, Datum value);
extern void sd_set_table(PolicyRow *row, int column, Oid table);
extern bool sd_insert_policy(Oid schema, PolicyRow *row);
extern void sd_update_policy(Oid schema, PolicyRow *row);
extern void sd_insert_step(Oid schema, PolicyRow *row);

/* link.c */
extern void sd_add_link(DeletionPlan *plan, PlanLink *link);
extern List *sd_link_names(PlanLink *link);
extern PlanLink *sd_make_link(DeletionPlan *plan, PlanStep *step, Relation rel,
							  List *names, PlanKey *key, Oid constraint,
							  Oid *fk_equals);

/* held.c */
extern void sd_find_hold_links(DeletionPlan *plan);
extern bool sd_has_new_hold_tables(DeletionPlan *plan);
extern List *sd_hold_keys(DeletionPlan *plan, PlanStep *step);
extern char *sd_state_of_holds(Oid schema, List *tables);
extern List *sd_query_holds(Oid schema, const char *query, int nargs,
							Oid *argtypes, Datum *values);
extern List *sd_load_holds(Oid schema, Oid account_table, bool only_active);
extern List *sd_add_hold_keys(PlanStep *step, List *holds);
extern Datum *sd_held_key(PlanKey *key, Hold *hold);
extern Hold *sd_copy_hold(const Hold *hold);
extern void sd_delete_expired_holds(Oid schema, Oid account_table);
extern bool sd_delete_hold(Oid schema, Oid account_table, Hold *hold);
extern bool sd_note_refusal(Oid schema, Oid account_table, Hold *hold);
extern void sd_move_holds(Oid schema, DeletionPolicy *before, Oid new_table);

/* held_asked.c */
extern char *sd_key_types(PlanKey *key);
extern bool sd_asks_for_holds(Oid schema, Oid table, PlanKey *key);

/* watch.c */
extern List *sd_tables_with_holds(Oid schema);
extern void sd_watch_other_accounts(DeletionPlan *plan, List *deleted);
extern int	sd_count_tables(DeletionPlan *plan);

/* An index that is looked for */
typedef struct WantedIndex
{
	List	   *names;			/* columns by which rows are found */
	Oid		   *operators;		/* that compare them; NULL: by their order */
	List	   *matched;		/* others, of which the value is known ... */
	List	   *nulls;			/* ... or that are null */
	bool		is_converted;	/* their values are compared as another type,
								 * so that no index on them serves */
} WantedIndex;

/* index.c */
extern WantedIndex *sd_index_of_link(PlanLink *link);
extern bool sd_has_index(Oid table, WantedIndex *wanted);
extern bool sd_has_index_for(PlanLink *link);
extern bool sd_is_unique(Oid table, List *names);
extern bool sd_is_partial(Relation index);

/* key.c */
extern List *sd_key_names(PlanKey *key);
extern bool sd_same_key(PlanKey *key, Datum *a, Datum *b);
extern PlanKey *sd_account_key(DeletionPlan *plan, Relation account_table);
extern PlanKey *sd_hold_key(PlanStep *step, Relation account_table,
							PlanKey *otherwise);
extern PlanKey *sd_find_key(PlanStep *step, Relation rel, List *names,
							Oid index, Oid member, Oid cast);
extern List *sd_primary_key_columns(Relation rel);

/* key_text.c */
extern char *sd_key_text(PlanKey *key, Datum *values);
extern Datum sd_value_from_text(Oid type, char *text, const char *argument);
extern Datum *sd_key_from_text(PlanKey *key, char *text);
extern TupleDesc sd_key_tupdesc(PlanKey *key);
extern int	sd_begin_portable_text(void);
extern bool sd_has_exact_text(PlanKey *key);

/* remember.c */
extern char *sd_is_remembered(Oid schema, const char *name, const char *alias,
							  const char *column);
extern bool sd_has_types(Oid schema, const char *name, const char *column);
extern void sd_note_tables(Oid schema, const char *policy);
extern void sd_refuse_lost_holds(Oid schema, List *tables);

/* resolve.c */
extern Oid	sd_find_table(const char *name);
extern Relation sd_open_table(DeletionPolicy *policy, const char *role,
							  Oid table, Oid number, const char *table_name,
							  LOCKMODE lockmode);
extern Form_pg_attribute sd_find_column(Relation rel, const char *name);
extern Form_pg_attribute sd_column(DeletionPolicy *policy, Relation rel,
								   const char *role, const char *column,
								   const char *argument);
extern bool sd_is_not_null(Oid table, const char *column);
extern List *sd_foreign_keys(Relation rel);
extern HeapTuple sd_get_constraint(Oid constraint);
extern bool sd_may_read(Oid table);
extern bool sd_may_lock(Oid table);
extern char *sd_create_audit_table(Oid account_table, List *key_columns);

/* trigger.c */
extern List *sd_triggers(Relation rel);
extern bool sd_fires(Trigger *trigger);
extern bool sd_checks_deletion(Trigger *trigger);
extern Oid	sd_whole_key(Oid constraint);
extern bool sd_has_trigger(Relation rel, Oid constraint, Oid function);
extern bool sd_is_known_by_whole_key(Trigger *trigger);
extern bool sd_is_guard(Oid schema, Trigger *trigger);
extern bool sd_has_guard(Oid schema, Oid table);

/* failure.c */
extern Failure *sd_failure_from_error(ErrorData *edata, const char *doing,
									  Oid table);
extern Failure *sd_fatal_failure(ErrorData *edata);
extern bool sd_concerns_the_call(ErrorData *edata);
extern bool sd_may_try_again(ErrorData *edata);
extern bool sd_tells_late_row(ErrorData *edata);
extern bool sd_tells_changed_rows(ErrorData *edata);
extern Failure *sd_blocked_failure(Oid constraint, Oid table);
extern Failure *sd_kept_rows_failure(Oid table);
extern Failure *sd_held_rows_failure(Oid table, const char *reason);
extern Failure *sd_outdated_failure(void);
extern Failure *sd_copy_failure(const Failure *failure);
extern bool sd_same_failure(const Failure *a, const Failure *b);
pg_noreturn extern void sd_throw_failure(const Failure *failure);

/* report.c */
extern Jsonb *sd_request_details(DeletionPlan *plan, Datum due);
extern Jsonb *sd_hold_details(DeletionPlan *plan, const char *reason,
							  TimestampTz *until);

/* spi_util.c */
extern ErrorData *sd_in_subtransaction(bool (*body) (void *), void *arg,
									   bool keep, bool *done);
extern void sd_set_lock_timeout(int timeout);
extern void sd_prepare(PlanStatement *statement);
extern uint64 sd_execute(PlanStatement *statement, int expected,
						 Datum *values, const char *nulls, DestReceiver *dest);
extern uint64 sd_query(const char *query, int expected, int nargs,
					   Oid *argtypes, Datum *values);
extern int64 sd_count(const char *query, int nargs, Oid *argtypes,
					  Datum *values);
extern uint64 sd_query_catalog(const char *query, int nargs, Oid *argtypes,
							   Datum *values);
extern List *sd_oids_of_rows(void);
extern Datum sd_oid_array(List *oids);
extern uint64 sd_execute_as_owner(Oid schema, const char *query, int expected,
								  int nargs, Oid *argtypes, Datum *values,
								  const char *nulls);
extern void sd_delete_unlocked_as_owner(Oid schema, const char *name,
										const char *condition, int nargs,
										Oid *argtypes, Datum *values,
										const char *nulls);
extern uint64 sd_query_latest_as_owner(Oid schema, const char *query, int nargs,
									   Oid *argtypes, Datum *values);

/* ahead.c */
extern void sd_read_ahead(QueryDesc *query);

/* hook.c */
extern void sd_install_hooks(void);
extern PlanStatement *sd_expect(PlanStatement *statement);
extern void sd_expect_again(PlanStatement *outer);

/* names.c */
extern char *sd_qualified_name(Oid table);
extern char *sd_own_table(Oid schema, const char *name);
extern bool sd_has_own_column(Oid schema, const char *name, const char *column);
extern char *sd_table_name(Oid table);
extern char *sd_sql_name(Oid table);
extern char *sd_own_call(DeletionPolicy *policy, const char *function);
extern char *sd_sql_columns(Oid table, List *names);
extern char *sd_sql_names(List *names);
extern char *sd_type_name(Oid type);
extern char *sd_member_condition(Oid member);
extern void sd_append_operator(StringInfo buf, Oid operator);
extern char *sd_name_list(List *names);
extern Datum sd_name_array(List *names);
extern char *sd_name_array_literal(List *names);
extern bool sd_same_names(List *a, List *b);
extern List *sd_names_of_array(ArrayType *array);

#endif							/* SCHEDULED_DELETION_H */
