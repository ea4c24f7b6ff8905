/*-------------------------------------------------------------------------
 *
 * run.h
 *	  A run: its accounts, its attempts and its results, and what its files offer to
 *	  each other.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/run.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef RUN_H
#define RUN_H

#include "scheduled_deletion.h"

/*
 * Where an account stands.  batch.c moves it on from PENDING by what a query
 * said of it alone; search.c by an error, when it was tried alone.
 */
typedef enum AccountState
{
	SD_PENDING,					/* to be tried */
	SD_SKIPPED,					/* locked by someone else */
	SD_GONE,					/* not due any more, or not there */
	SD_HELD,					/* see hold */
	SD_FAILED,					/* see failure */
	SD_DELETED
} AccountState;

typedef struct Account
{
	Datum	   *key;			/* its values of the account step's keys: the
								 * first ones are its key, the others valid
								 * once locked */
	bool	   *nulls;			/* of those */
	Datum		due;			/* of the due column's type */
	AccountState state;
	Failure    *failure;		/* set if FAILED, or SKIPPED for an error */
	Hold	   *hold;			/* set if and only if HELD */
	bool		found;			/* by the query that was last asked */
	bool		is_blocked;		/* FAILED, by rows that may be other accounts' */
	bool		was_tried_together; /* FAILED, also with others that did alike */
	int64		kept;			/* rows found, and not yet seen to be deleted */
	Jsonb	  **details;		/* columns to be kept, NULL if null; once
								 * locked */
	int64	   *rows;			/* by step, of the last attempt */
	int			attempts;		/* that failed before ... */
	char	   *remembered;		/* ... as it is called in deletion_failure ... */
	int64		hash;			/* ... of that ... */
	bool		uncertain;		/* ... maybe for no fault of its own ... */
	TimestampTz last_attempt_at;
	TimestampTz next_attempt_at;
	bool		has_failed;		/* ... if it is there */
} Account;

/* A row of a step that others refer to, and whose it is */
typedef struct Row
{
	Account    *account;
	int64	   *rows;			/* the account's: it is to be near */
	int			number;			/* its place in the set */
	Hold	   *held;			/* for which it must stay; NULL if it may go */
	Hold	  **held_by_key;	/* by key, of a row that is the first in its set
								 * with that value: for which another one with it
								 * must stay; NULL if none must */
	Failure    *failure;		/* the same, as it is told; NULL if it is
								 * another's */
	bool	   *nulls;			/* by value */
	union
	{
		bool	   *deleted;	/* by key: a row with that value was */
		bool	   *is_read;	/* of a row that stays: all with that value
								 * were read */
	};
	Datum		values[FLEXIBLE_ARRAY_MEMBER];	/* those of the step's keys */
} Row;

/* The rows of a step that belong to the accounts of an attempt; see rows.c */
typedef struct RowSet RowSet;

/* Where an account stands among those that have failed before */
typedef struct FailingPosition
{
	bool		valid;
	TimestampTz next_attempt_at;
	int64		hash;
} FailingPosition;

/* Rows that were read of deletion_failure, and the accounts that they are of */
typedef struct Remembered
{
	struct Run *run;
	SPITupleTable *rows;
	int			nrows;
	bool		is_last;		/* there are no more */
	Account    *accounts;		/* without those on hold ... */
	int			naccounts;		/* ... of which there are so many */
} Remembered;

/* bytes that a row takes to which others refer, roughly */
#define SD_ROW_MEMORY	256.0

/* How large the next batch is to be; see pace.c */
typedef struct Pace
{
	int			size;
	double		memory;			/* bytes that were kept for an account of the
								 * last batch: of rows that others refer to,
								 * and of details */
	int64		target;			/* how long one is to take, in microseconds */
	double		fixed;			/* what one costs however small it is ... */
	double		last_size;		/* ... as the last two of other sizes tell */
	double		last_time;
} Pace;

/* What others must have replicated before the next batch */
typedef struct LagLimit
{
	int64		time;			/* microseconds; 0: however late they are */
	int64		bytes;			/* 0: however much it is */
} LagLimit;

/* Rows of a table to which a run has done something */
typedef struct TableRows
{
	char	   *table_name;
	StepAction	action;
	char	   *reason;			/* why they are kept, or NULL */
	int64		rows;
} TableRows;

/*
 * What a run has done so far.  A copy of it can be put back when the transaction
 * that came after it is undone.
 */
typedef struct RunResults
{
	int64		deleted;
	int64		failed;
	int64		skipped;
	int64		held;			/* accounts that are due, and on hold */
	int64		waiting;		/* due, and have failed not long ago */
	bool		fk_checks_elided;
	List	   *tables;			/* TableRows *, in the order of the plan */
	int			nerrors;		/* of run->errors, at most SD_MAX_ERRORS */
} RunResults;

/* The account picked last, after which the next pick begins */
typedef struct Cursor
{
	bool		valid;
	Oid			table;			/* whose rows it can go on with ... */
	Oid			due_type;		/* ... if the types are still these */
	List	   *key_types;
	Datum		due;
	Datum	   *key;
	MemoryContext context;		/* of the list and the values */
} Cursor;

/*
 * A run of one policy: from the first claim to the report, in one transaction or
 * in many.  It lives in run_context, what belongs to a transaction in
 * transaction_context, and what belongs to a batch in batch_context, which is
 * reset before each.
 */
typedef struct Run
{
	/* Arguments */
	Oid			schema;			/* of the extension */
	char	   *policy_name;
	int64		run_id;
	TimestampTz started_at;		/* the moment at which accounts must be due */
	bool		is_limited;		/* delete no more than max_accounts */
	int64		max_accounts;
	bool		dry_run;
	bool		release_brake;	/* however many are due */
	bool		commits;		/* each batch has a transaction of its own */
	int			batch_size;		/* accounts of a batch, at most */
	int64		began;			/* the same moment, by sd_clock() */
	int64		max_runtime;	/* microseconds since then; 0: no limit */

	/* State of the run */
	int64		due;			/* accounts that are due at its beginning, or
								 * SD_UNKNOWN */
	int64		ahead;			/* accounts that are due after the cursor, by
								 * what the brake has counted, or SD_UNKNOWN */
	int64		since_counted;	/* accounts that the cursor has passed since */
	Cursor		cursor;
	bool		is_drained;		/* nothing more is due that has not failed
								 * before ... */
	int			announced;		/* accounts that the next batch may have, as
								 * the ledger has it; 0: any */
	List	   *suspects;		/* char *: keys of those who were being
								 * deleted when an error ended the run */
	bool		meets_failing;	/* some that were picked have failed before */
	bool		tries_failing;	/* ... so it is the turn of those */
	int64		until;			/* until then, by sd_clock(); 0: not yet known */
	bool		tries_uncertain;	/* ... of those whose fault it may not be */
	FailingPosition passed[2];	/* the last one that was tried; of those */
	int			tried_uncertain;	/* how many of them were tried */
	bool		any_success;	/* some account was deleted, if only in trial */
	bool		is_careful;		/* code of users writes rows that come late: so
								 * is each attempt */
	int			nplans;			/* that were made in a row because others were
								 * outdated */
	int			moment_failures;	/* lock timeouts and the like so far ... */
	bool		is_impatient;	/* ... so many that it waits for no more locks */
	int			equal_failures; /* in a row, without a success in between */
	Failure    *last_failure;	/* that of the row */
	int64		searched;		/* accounts gone through in search of failures */
	int64		failed_in_search;	/* accounts found to fail by that */
	Pace		pace;
	const char *waiting_for;	/* what keeps it from beginning a batch, or
								 * NULL */
	int64		told;			/* when somebody was last told how far it is, by
								 * sd_clock() */
	MemoryContext run_context;
	MemoryContext failure_context;	/* of last_failure */

	/* State of the transaction */
	DeletionPolicy *policy;
	DeletionPlan *plan;
	DueBounds	bounds;			/* of the values of the due column that are
								 * due */
	bool		can_defer;		/* some constraint or trigger is deferrable
								 * ... */
	bool		audit_can_defer;	/* ... of the audit table, too */
	bool		is_outdated;	/* tables of the plan have other partitions by
								 * now: it is to be made anew */
	int			nkept;			/* subtransactions in which accounts were
								 * deleted */
	PlanStatement check_deferred;
	Oid			user_id;		/* who called */
	bool		has_failing;	/* some account has failed before ... */
	AttrNumber	uncertain;		/* column of deletion_failure; 0: there is
								 * none before version 1.2 */
	RowSet	   *failing_rows;	/* ... by their keys; NULL: to be asked for */
	struct
	{
		List	   *failed;		/* Account *: to be written as failing ... */
		List	   *gone;		/* ... and no longer */
	}			notes;
	List	   *refusals;		/* Refusal *: accounts whose hold no run has
								 * met before */
	MemoryContext holds_context;	/* of what is known of accounts on hold
									 * ... */
	char	   *state_of_holds; /* ... as long as this is it */
	RowSet	  **holds;			/* by step: the accounts on hold among its
								 * rows, by the keys by which the holds were
								 * placed; NULL: none */
	RowSet	   *held;			/* those of the account step that are there,
								 * with all their keys; or, where it is asked
								 * for, of the accounts that were just picked */
	List	   *tables;			/* TableRows *, by step ... */
	int64	   *rows;			/* ... and how many of each */
	MemoryContext transaction_context;
	MemoryContext batch_context;

	/* Results */
	TimestampTz completed_at;
	Failure    *fatal_failure;	/* NULL, or why it could not run, or go on */
	RunResults	results;
	List	   *errors;			/* RunError * */
	const char *stop_reason;	/* NULL as long as it goes on */
} Run;

/* If a row must stay, another one must, to which it leads */
typedef struct Lead
{
	PlanStep   *step;			/* of a collected row; NULL: it stays anyhow ... */
	Row		   *row;
	PlanKey    *key;			/* ... and any row with that key of it counts */
	Row		   *target;
	Oid			table;			/* whose rows must stay for it, if it is by a
								 * key ... */
	PlanStep   *above;			/* ... unless the target stays anyhow: its step */
} Lead;

/* What the rows of an attempt share with others; see share.c */
typedef struct Sharing Sharing;

/*
 * An attempt to delete a set of accounts.  Lives in its own memory context, but
 * for the results, which are in the accounts.
 */
typedef struct Attempt
{
	Run		   *run;
	Account   **accounts;		/* those still in it */
	int			naccounts;
	RowSet	  **sets;			/* by step: its rows; NULL if none refer to
								 * them */
	MemoryContext context;		/* of the accounts' set, and all else */
	MemoryContext rows_context; /* of the other sets */
	int		   *seen;			/* by link: rows that it leads to, and that
								 * were asked for rows that lead to them */
	bool		notes_sharing;	/* even if nobody is on hold yet */
	Sharing    *sharing;		/* NULL if nobody is on hold */
	Lead	   *leads;			/* if anybody is: what leads to what */
	int			nleads;
	int			max_leads;
	bool		is_shared;		/* some row must stay */
	bool		is_careful;		/* rows come late: those collected are locked,
								 * and looked for again before what they refer
								 * to is deleted */
	int			nrepeated;		/* times that it has begun anew after an error */
	int64		ndeleted;		/* rows so far */
	bool		is_elided;		/* were foreign-key checks left out? */
	const char *doing;			/* what is being done now ... */
	Oid			table;			/* ... to which table, if to one */
} Attempt;

/* An account that was left alone because of a hold */
typedef struct Refusal
{
	Hold	   *hold;
	Datum	   *key;
	Jsonb	   *details;		/* of the audit row */
} Refusal;

/* What to do with a row that a statement returns */
typedef void (*RowHandler) (Attempt *attempt, TupleTableSlot *slot, void *arg);

typedef struct RunError
{
	char	   *account;		/* its key as text */
	Failure    *failure;
} RunError;

/* One call of process_scheduled_deletions() or run_scheduled_deletions() */
typedef struct Call
{
	/* Arguments */
	Oid			schema;			/* of the extension */
	char	   *policy_name;	/* NULL: every one that is enabled */
	int64		max_accounts;	/* 0: no limit */
	bool		dry_run;
	bool		release_brake;
	bool		commits;		/* each batch has a transaction of its own */
	int			batch_size;		/* accounts of a batch, at most */
	int64		max_runtime;	/* microseconds; 0: no limit */
	int64		pause;			/* between two batches, in microseconds */
	LagLimit	max_lag;

	Oid			ledger;			/* deletion_run */

	/* Results */
	int64		run_id;
	TimestampTz started_at;
	int64		began;			/* the same moment, by sd_clock() */
	TimestampTz completed_at;
	List	   *runs;			/* Run *, one for each policy */
} Call;

/* call.c */
extern void sd_call(Call *call);

/* procedure.c */
extern void sd_call_procedure(Call *call);
extern void sd_raise_failures(Call *call);

/* turn.c */
extern Run *sd_add_run(Call *call, const char *policy);
extern void sd_tell_fatal_failure(Run *run);

/* log.c */
extern void sd_log_start(Run *run);
extern void sd_log_failure(Run *run, Failure *failure);
extern void sd_log_end(Run *run);
extern void sd_log_error(Call *call);

/* ledger.c */
extern void sd_begin_call(Call *call);
extern void sd_lock_run(Call *call);
extern void sd_unlock_run(Call *call);
extern void sd_write_run(Call *call, Run *run);
extern void sd_tell_interrupted(Oid schema);
extern void sd_prune_ledger(Oid schema);

/* status.c */
extern void sd_put_status(DeletionPolicy *policy, ReturnSetInfo *result);

/* run.c */
extern void sd_run(Run *run, DeletionPolicy *policy);
extern void sd_begin_run(Run *run);
extern void sd_begin_transaction(Run *run, DeletionPolicy *policy);
extern bool sd_is_over(Run *run);
extern void sd_next_batch(Run *run);
extern void sd_record_tried(Run *run, Account *accounts, int naccounts);
extern void sd_end_transaction(Run *run);
extern List *sd_next_accounts(Run *run, int limit);
extern void sd_move_cursor(Run *run, Account *last, int ntaken);
extern Account *sd_pick_first_accounts(Run *run, int64 limit, int *naccounts);

/* progress.c */
extern void sd_tell_progress(Run *run);

/* lag.c */
extern void sd_check_lag_limit(LagLimit *limit);
extern const char *sd_lagging(LagLimit *limit);

/* result.c */
extern int64 sd_accounts_done(Run *run);
extern int64 sd_count_records(Run *run);
extern void sd_record_results(Run *run, Account *accounts, int naccounts);
extern List *sd_tables_of_plan(DeletionPlan *plan);
extern void sd_add_tables(Run *run);
extern List *sd_sum_tables(List *tables, List *others, int64 *rows);

/* pace.c */
extern int	sd_choose_batch(Run *run, bool *whole);
extern int	sd_largest_batch(Run *run);
extern void sd_batch_was_deleted(Run *run, int naccounts);
extern void sd_batch_failed(Run *run, int naccounts);
extern void sd_adapt_pace(Run *run, int naccounts, int64 time, bool calm);
extern int64 sd_clock(void);
extern void sd_pause(int64 time);

/* brake.c */
extern void sd_brake(Run *run);
extern void sd_brake_again(Run *run);
extern int64 sd_count_due(Run *run, int64 limit);
extern int64 sd_count_held_due(Run *run);

/* refusal.c */
extern void sd_record_held(Run *run, Account *account);
extern void sd_write_refusals(Run *run);

/* failing_read.c */
extern void sd_load_failing(Run *run);
extern int	sd_find_failing(Run *run, Account *accounts, int naccounts);
extern void sd_read_to_be_tried(Run *run, Remembered *remembered,
								bool uncertain, FailingPosition *after,
								int limit);
extern void sd_read_remembered(Run *run, Remembered *remembered,
							   FailingPosition *after);

/* failing.c */
extern int64 sd_count_failing_due(Run *run);
extern int	sd_copy_failing(Run *run, Account **accounts);
extern bool sd_may_try_failing(Run *run);
extern void sd_try_failing(Run *run, int64 limit);
extern int	sd_next_uncertain_batch(Run *run);
extern int	sd_next_failing(Run *run, Account **accounts, int limit);
extern void sd_count_waiting(Run *run);

/* failing_write.c */
extern void sd_record_failing(Run *run, Account *accounts, int naccounts);
extern void sd_note_gone(Run *run, Account *account);
extern void sd_write_failing(Run *run);
extern void sd_forget_failing(Oid schema, const char *policy);
extern void sd_forget_accounts(Oid schema, const char *policy, char **keys,
							   int nkeys);
extern uint64 sd_retry(Oid schema, const char *account, const char *policy);
extern void sd_retry_held(Oid schema);
extern Datum sd_text_array(char **texts, int n);

/* suspects.c */
extern void sd_suspect(Run *run, Account **accounts, int naccounts);
extern void sd_write_suspects(Run *run);
extern void sd_announce_batch(Run *run);
extern void sd_suspect_interrupted(Run *run);

/* search.c */
extern bool sd_delete_batch(Run *run, Account *accounts, int naccounts,
							bool whole);

/* batch.c */
extern Account *sd_pick_accounts(Run *run, PlanStatement *pick, Datum *values,
								 const char *nulls, int *naccounts);
extern void sd_prepare_batches(Run *run);
extern void sd_find_due(Run *run, Account **accounts, int naccounts);
extern void sd_lock_again(Run *run, Account **accounts, int naccounts);
extern void sd_forget_blocked(Account **accounts, int naccounts);
extern bool sd_attempt(Run *run, Account **accounts, int naccounts, bool keep,
					   Failure **failure);
extern ErrorData *sd_deferred_error(Run *run);

/* execute.c */
extern bool sd_execute_steps(Attempt *attempt);
extern bool sd_accounts_are_gone(Attempt *attempt);
extern bool sd_rows_are_gone(Attempt *attempt);
extern void sd_check_no_row_came(Attempt *attempt);
extern void sd_check_collected_are_gone(Attempt *attempt);
extern bool sd_fail_found(Attempt *attempt, Oid constraint, Oid table);

/* share.c */
extern void sd_begin_sharing(Attempt *attempt);
extern void sd_note_lead(Attempt *attempt, PlanStep *step, Row *row, Row *target);
extern void sd_note_strangers(Attempt *attempt, DeletePart *part, Row *target,
							  TupleTableSlot *slot, int column);
extern bool sd_may_delete_collected(Attempt *attempt);
extern bool sd_none_is_held(Attempt *attempt);
extern double sd_size_of_sharing(Attempt *attempt);

/* spare.c */
extern void sd_refresh_holds(Run *run);
extern bool sd_is_any_on_hold(Run *run);
extern RowSet *sd_holds_on(Run *run, PlanStep *step, RowSet *rows);
extern RowSet *sd_held_accounts(Run *run);
extern void sd_ask_about(Run *run, Account *accounts, int naccounts);
extern void sd_forget_asked(Run *run);
extern bool sd_is_held(Run *run, Account *account);
extern void sd_spare_held(Attempt *attempt);

/* collect.c */
extern void sd_begin_rows(Attempt *attempt);
extern void sd_collect_rows(Attempt *attempt);
extern bool sd_collect_late_rows(Attempt *attempt);
extern int64 sd_count_collected(Attempt *attempt);

/* receive.c */
extern void sd_set_doing(Attempt *attempt, const char *doing, Oid table);
extern Datum *sd_bind(Run *run, Attempt *attempt, PlanStatement *statement,
					  Datum *caller_values, PlanLink *collected);
extern uint64 sd_for_each_row(Attempt *attempt, PlanStatement *statement,
							  int expected, PlanLink *collected,
							  RowHandler handler, void *arg);
extern uint64 sd_for_each_answer(Attempt *attempt, PlanStatement *statement,
								 Datum *values, RowHandler handler, void *arg);
extern bool sd_has_rows(Attempt *attempt, PlanLink *link);
extern Row *sd_row_of_link(Attempt *attempt, PlanLink *link,
						   TupleTableSlot *slot, int column);
extern Row *sd_must_be_there(Row *row);
extern void sd_found_row(Attempt *attempt, TupleTableSlot *slot, void *arg);

/* rows.c */
extern RowSet *sd_make_rows(PlanStep *step);
extern Row *sd_make_row(PlanStep *step, Account *account);
extern void sd_fill_row(PlanStep *step, Row *row, TupleTableSlot *slot,
						int first_column);
extern void sd_add_row(RowSet *set, Row *row);
extern void sd_add_account(RowSet *set, PlanStep *step, Account *account);
extern int	sd_count_rows(RowSet *set);
extern Row *sd_get_row(RowSet *set, int i);
extern Row *sd_find_row(RowSet *set, PlanLink *link, Datum *values);
extern Row *sd_find_by_key(RowSet *set, PlanKey *key, Datum *values);
extern bool sd_has_key(Row *row, PlanKey *key);
extern Row *sd_find_same_row(RowSet *set, Row *row);
extern bool sd_is_new_row(RowSet *set, Row *row);
extern bool sd_mark_deleted(RowSet *set, Row *row);
extern bool sd_all_deleted(RowSet *set);
extern Row **sd_rows_by_key(RowSet *set, PlanKey *key, int *nrows);
extern Datum sd_key_array(RowSet *set, PlanKey *key, int column);
extern Datum sd_new_key_array(RowSet *set, PlanKey *key, int column, int first);

/* held.c and held_asked.c, for a run */
extern List *sd_ask_for_holds(Oid schema, Oid table, PlanKey *key, RowSet *rows);
extern RowSet *sd_held_rows(PlanStep *step, List *keys, List *holds);

/* audit.c and report.c, of a run */
extern void sd_write_audit_rows(Run *run, Account **accounts, int naccounts);
extern Jsonb *sd_report(Call *call);
extern Jsonb *sd_report_of_run(Run *run);
extern Jsonb *sd_arguments(Call *call);
extern Jsonb *sd_audit_details(Run *run, Account *account);
extern Jsonb *sd_refusal_details(Run *run, Account *account);

#endif							/* RUN_H */
