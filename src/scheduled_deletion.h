/*-------------------------------------------------------------------------
 *
 * scheduled_deletion.h
 *	  The vocabulary of scheduled_deletion: what a policy, a plan, an account,
 *	  a failure and a run are, and what each file offers to the others.
 *
 * Files depend on each other in one direction, the order of the prototypes
 * below: scheduled_deletion.c -> run.c -> search.c -> batch.c -> ledger.c ->
 * preflight.c -> plan.c -> policy.c -> resolve.c -> failure.c -> spi_util.c;
 * report.c only reads a Run.
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
#include "catalog/pg_attribute.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "compat.h"

#define SD_MIN_BATCH_SIZE		1
#define SD_DEFAULT_BATCH_SIZE	10000
#define SD_MAX_BATCH_SIZE		1000000

/* accounts of the first batch, while nothing is known of tonight's failures */
#define SD_FIRST_BATCH_SIZE	512

/* entries of the report's "errors"; the rest is told by "errors_truncated" */
#define SD_MAX_ERRORS		1000

/* Settings */
extern int	sd_batch_size;

/*
 * A policy as it stands in deletion_policy and deletion_step.  Tables are
 * followed by OID; the names are those of the time of registration and serve
 * only to tell which table is gone.
 */
typedef struct DeletionStep
{
	Oid			table;
	char	   *table_name;
	List	   *columns;		/* char *, in the order to be tried */
} DeletionStep;

typedef struct DeletionPolicy
{
	Oid			schema;			/* of the extension */
	char	   *name;
	Oid			account_table;
	char	   *account_table_name;
	char	   *key_column;
	char	   *due_column;
	char	   *done_column;	/* NULL if it has none */
	Oid			audit_table;
	char	   *audit_table_name;
	List	   *steps;			/* DeletionStep *, in execution order */
	Oid			key_type;		/* valid only after sd_resolve_key() */
} DeletionPolicy;

/* A generated statement; plan.c says what its parameters are */
typedef struct PlanStatement
{
	const char *query;
	int			nargs;
	Oid			argtypes[4];
	SPIPlanPtr	plan;			/* NULL before sd_prepare() */
} PlanStatement;

/* How the values of a column are compared with accounts' keys */
typedef struct KeyMatch
{
	Oid			equals;			/* operator: column = key */
	FmgrInfo	compare;		/* btree comparison (column, key) */
} KeyMatch;

/* A column of a step, whose values are the keys of accounts */
typedef struct PlanColumn
{
	char	   *name;
	char	   *value;			/* as it is compared: t.<name>, cast if need be */
	KeyMatch	match;
	PlanStatement delete;		/* RETURNING the value */
	PlanStatement left;			/* the value, of rows that are still there */
} PlanColumn;

typedef struct PlanStep
{
	Oid			table;
	char	   *table_name;		/* as the report calls it */
	int			ncolumns;
	PlanColumn *columns;
	bool		can_keep_rows;	/* a BEFORE DELETE trigger or a rule is there */
} PlanStep;

/* A foreign key outside the plan that stops the accounts it leads to */
typedef struct PlanBlocker
{
	Oid			constraint;
	Oid			table;			/* the referencing one */
	PlanColumn *column;			/* of a step, whose rows are referenced */
	PlanStatement find;			/* that column's value, of the rows that are */
} PlanBlocker;

/*
 * A policy resolved against the catalog, for one run.  Every table of the plan
 * is locked ROW EXCLUSIVE when it is made, and stays so until the transaction
 * (of a dry run: its subtransaction) ends.
 */
typedef struct DeletionPlan
{
	DeletionPolicy *policy;

	/* the key, and the btree operator family that orders it */
	AttrNumber	key_attnum;
	Oid			key_type;		/* a domain's base type, a varchar's text */
	Oid			key_array_type;
	int16		key_typlen;
	bool		key_typbyval;
	char		key_typalign;
	Oid			key_collation;
	Oid			key_opfamily;
	Oid			key_opcintype;	/* key_type, or polymorphic, as for an enum */
	FmgrInfo	key_output;
	FmgrInfo	key_compare;

	/* statements, in the order of a batch */
	PlanStatement pick;
	PlanStatement pick_latest;
	PlanStatement lock;
	PlanStatement still_due;
	List	   *blockers;		/* PlanBlocker * */
	int			nsteps;			/* the account table is the last step */
	PlanStep   *steps;
	PlanStatement audit;

	/* tables of which rows may go: partitions, children and cascades included */
	List	   *reached;
	Oid			cascade_back;	/* key by which other accounts may, or invalid */
	List	   *statements;		/* PlanStatement *: all of these */
} DeletionPlan;

/* Whom an error concerns */
typedef enum FailureKind
{
	SD_ACCOUNT_FAILURE,			/* the accounts that were being deleted */
	SD_MOMENT_FAILURE,			/* nobody: the next attempt may well succeed */
	SD_SCHEMA_FAILURE,			/* every account: the schema, or a privilege */
	SD_RUN_FAILURE				/* the run itself: thrown on at once */
} FailureKind;

/*
 * Why something could not be deleted, in words of ours: nothing in it comes
 * from the text of an error.
 */
typedef struct Failure
{
	FailureKind kind;
	int			sqlstate;
	char	   *message;
	char	   *table_name;		/* NULL if none is known */
	char	   *constraint_name;	/* NULL if none is known */
	bool		while_auditing; /* raised by the insertion of audit rows */
} Failure;

/*
 * Where an account stands.  batch.c moves it on from PENDING by what a query
 * said of it alone; search.c by an error, when it was tried alone.
 */
typedef enum AccountState
{
	SD_PENDING,					/* to be tried */
	SD_SKIPPED,					/* locked by someone else */
	SD_GONE,					/* not due any more, or not there */
	SD_FAILED,					/* see failure */
	SD_DELETED
} AccountState;

typedef struct Account
{
	Datum		key;
	TimestampTz due;
	AccountState state;
	Failure    *failure;		/* set if and only if FAILED */
	bool		found;			/* by the query that was last asked */
	int64	   *deleted;		/* rows by step, of the last attempt */
} Account;

/*
 * A run: from the first claim to the report.  Lives in the SPI procedure's
 * memory context; what belongs to a batch lives in batch_context, which is
 * reset after it.
 */
typedef struct Run
{
	/* Arguments */
	Oid			schema;			/* of the extension */
	const char *policy_name;	/* NULL: the one that is enabled */
	int64		max_accounts;	/* 0: no limit */
	bool		dry_run;

	/* State */
	int64		run_id;
	TimestampTz started_at;		/* the moment at which accounts must be due */
	TimestampTz completed_at;
	DeletionPlan *plan;
	bool		can_defer;		/* some constraint or trigger is deferrable */
	PlanStatement check_deferred;
	Oid			user_id;		/* who called */
	bool		any_success;	/* some account was deleted, if only in trial */
	int			moment_failures;	/* lock timeouts and the like so far */
	int			equal_failures; /* in a row, without a success in between */
	Failure    *last_failure;	/* that of the row */
	int64		searched;		/* accounts gone through in search of failures */
	int64		failed_in_search;	/* accounts found to fail by that */
	MemoryContext run_context;
	MemoryContext batch_context;

	int			next_batch_size;	/* of the next attempt of a whole batch */

	/* Results */
	int64		deleted;
	int64		failed;
	int64		skipped;
	int64	   *deleted_records;	/* rows by step */
	List	   *errors;			/* RunError *, at most SD_MAX_ERRORS */
	const char *stop_reason;
} Run;

typedef struct RunError
{
	char	   *account;		/* its key as text */
	Failure    *failure;
} RunError;

/* run.c */
extern void sd_run(Run *run);

/* search.c */
extern bool sd_delete_batch(Run *run, Account *accounts, int naccounts,
							bool whole);

/* batch.c */
extern Account *sd_pick_accounts(Run *run, PlanStatement *pick, Datum *values,
								 const char *nulls, int *naccounts);
extern void sd_prepare_batches(Run *run);
extern bool sd_attempt(Run *run, Account **accounts, int naccounts, bool keep,
					   Failure **failure);
extern ErrorData *sd_deferred_error(Run *run);

/* ledger.c */
extern void sd_write_audit_rows(Run *run, Account **accounts, int naccounts);

/* preflight.c */
extern void sd_check_session(void);
extern void sd_check_tables(DeletionPlan *plan);

/* plan.c */
extern DeletionPlan *sd_make_plan(DeletionPolicy *policy);
extern void sd_prepare_plan(DeletionPlan *plan);
extern ArrayType *sd_key_array(DeletionPlan *plan, Account **accounts,
							   int naccounts);
extern char *sd_key_text(DeletionPlan *plan, Datum key);

/* policy.c */
extern DeletionPolicy *sd_load_policy(Oid schema, const char *name);

/* resolve.c */
extern Oid	sd_find_table(const char *name);
extern Relation sd_open_table(DeletionPolicy *policy, const char *role,
							  Oid table, const char *table_name);
extern Form_pg_attribute sd_column(Relation rel, const char *role,
								   const char *column);
extern void sd_require_type(Relation rel, const char *role,
							Form_pg_attribute column, Oid type);
extern void sd_resolve_key(DeletionPlan *plan, Relation account_table);
extern KeyMatch sd_match_key(DeletionPlan *plan, Relation rel,
							 Form_pg_attribute column);
extern void sd_check_audit_table(DeletionPlan *plan, Relation audit_table);
extern char *sd_create_audit_table(const char *name, Oid key_type);

/* failure.c */
extern Failure *sd_failure_from_error(ErrorData *edata, const char *doing,
									  Oid table);
extern Failure *sd_blocked_failure(Oid constraint, Oid table);
extern Failure *sd_kept_rows_failure(Oid table);
extern Failure *sd_copy_failure(const Failure *failure);
extern bool sd_same_failure(const Failure *a, const Failure *b);
pg_noreturn extern void sd_throw_failure(const Failure *failure);

/* report.c */
extern Jsonb *sd_report(Run *run);
extern Jsonb *sd_audit_details(Run *run, Account *account);

/* spi_util.c */
extern ErrorData *sd_in_subtransaction(bool (*body) (void *), void *arg,
									   bool keep, bool *done);
extern void sd_prepare(PlanStatement *statement);
extern uint64 sd_execute(PlanStatement *statement, int expected,
						 Datum *values, const char *nulls, DestReceiver *dest);
extern uint64 sd_execute_as_owner(Oid schema, const char *query, int expected,
								  int nargs, Oid *argtypes, Datum *values,
								  const char *nulls);
extern char *sd_qualified_name(Oid table);
extern char *sd_table_name(Oid table);

#endif							/* SCHEDULED_DELETION_H */
