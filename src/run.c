/*-------------------------------------------------------------------------
 *
 * run.c
 *	  One policy's run, from its first claim to its last: pick due accounts,
 *	  earliest due first, and delete them batch by batch; then those that have
 *	  failed before.
 *
 * A run has one transaction, or one for each batch.  The plan is made anew in each:
 * only as long as it holds the locks is the catalog what the plan was made from.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/run.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run.h"

/* accounts picked at once where some of them may have to be left out */
#define PICK_SIZE		1000

/* so often a plan is made anew because tables have got other partitions */
#define MAX_PLANS		20

static MemoryContext new_cursor_context(Run *run);
static void refuse_pending_violation(Run *run);
static bool may_go_on(Run *run);
static int64 within_limit(Run *run, int64 naccounts);
static void delete_due_accounts(Run *run);
static int	choose_accounts(Run *run, Account *accounts, int naccounts,
							int limit, List **held, Account *last,
							int *ntaken);
static Account *pick_accounts(Run *run, int64 limit, int *naccounts);
static void check_cursor(Run *run);

/*
 * Run a policy in the current transaction as the fields under "Arguments" say, and
 * fill in the results.  Expects a connection to SPI; the current memory context
 * becomes the run's.
 */
void
sd_run(Run *run, DeletionPolicy *policy)
{
	sd_begin_run(run);
	sd_begin_transaction(run, policy);
	if (!run->dry_run)
		sd_suspect_interrupted(run);
	if (!run->release_brake)
		sd_brake(run);
	while (run->stop_reason == NULL)
	{
		sd_next_batch(run);
		if (run->stop_reason == NULL && run->is_outdated)
		{
			sd_end_transaction(run);
			sd_begin_transaction(run, policy);
		}
	}

	/* not before: who changes the policy would wait for the whole run */
	if (!run->dry_run)
		sd_note_tables(run->schema, run->policy_name);
	sd_end_transaction(run);
}

/* Begin a run; the current memory context becomes its own */
void
sd_begin_run(Run *run)
{
	run->run_context = CurrentMemoryContext;
	run->failure_context = AllocSetContextCreate(run->run_context,
												 "scheduled_deletion failure",
												 ALLOCSET_SMALL_SIZES);
	run->cursor.context = new_cursor_context(run);
}

/* Of a cursor's own, which is as it was if the transaction is undone */
static MemoryContext
new_cursor_context(Run *run)
{
	return AllocSetContextCreate(run->run_context, "scheduled_deletion cursor",
								 ALLOCSET_SMALL_SIZES);
}

/*
 * Begin a transaction of a run: make the plan, refuse what must not start, and read
 * who is on hold, and who has failed before.  Expects a connection to SPI that ends
 * with the transaction, as does all that is allocated here.
 */
void
sd_begin_transaction(Run *run, DeletionPolicy *policy)
{
	run->transaction_context = CurrentMemoryContext;
	run->batch_context = AllocSetContextCreate(CurrentMemoryContext,
											   "scheduled_deletion batch",
											   ALLOCSET_DEFAULT_SIZES);
	run->holds_context = AllocSetContextCreate(CurrentMemoryContext,
											   "scheduled_deletion holds",
											   ALLOCSET_DEFAULT_SIZES);
	run->state_of_holds = NULL;
	run->notes.failed = run->notes.gone = NIL;
	run->refusals = NIL;
	if (run->is_outdated && ++run->nplans > MAX_PLANS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the plan of deletion policy \"%s\" is outdated all the time",
						policy->name),
				 errdetail("Its tables get other partitions, or accounts of other tables are placed on hold, in each batch."),
				 errhint("Run it when nobody does that.")));
	run->is_outdated = false;
	run->nkept = 0;

	/* in a transaction of its own, nothing is locked for long */
	if (run->commits)
		run->is_impatient = false;

	run->policy = policy;
	run->plan = sd_make_plan(policy, RowExclusiveLock);
	run->tables = sd_tables_of_plan(run->plan);
	run->rows = palloc0(sizeof(int64) * list_length(run->plan->steps));
	sd_find_due_bounds(run->plan, run->started_at, &run->bounds);
	if (!run->commits && !run->plan->can_fail && !sd_collects_rows(run->plan) &&
		run->policy->audit_details == NIL)
		run->pace.size = run->batch_size;
	sd_check_tables(run->plan);
	sd_prepare_plan(run->plan, run->commits);
	sd_prepare_batches(run);
	refuse_pending_violation(run);
	check_cursor(run);
	sd_refresh_holds(run);
	sd_load_failing(run);
}

/* What the caller did before must not be blamed on accounts */
static void
refuse_pending_violation(Run *run)
{
	ErrorData  *error = sd_deferred_error(run);
	Failure    *failure;

	if (error == NULL)
		return;
	failure = sd_failure_from_error(error, "checking deferred constraints",
									InvalidOid);
	if (failure->kind == SD_RUN_FAILURE || failure->kind == SD_SERVER_FAILURE)
		sd_throw_failure(failure);
	ereport(ERROR,
			(errcode(failure->sqlstate),
			 errmsg("cannot delete accounts in a transaction that violates a deferred constraint"),
			 errdetail("What was done before the call raises %s.",
					   failure->message),
			 errhint("Mend those rows first, or call in a transaction of its own.")));
}

/*
 * Delete the next batch, or know why the run ends: stop_reason.
 */
void
sd_next_batch(Run *run)
{
	if (!may_go_on(run))
		return;
	if (!run->is_drained)
	{
		sd_brake_again(run);
		delete_due_accounts(run);
	}
	else
		sd_try_failing(run, within_limit(run, PG_INT64_MAX));

	/* not to be found out after a pause */
	if (run->stop_reason == NULL && within_limit(run, 1) > 0 &&
		run->is_drained && !sd_may_try_failing(run))
		run->stop_reason = "drained";
}

/*
 * End a transaction of a run: write down who has failed, and who was left alone.
 * If the run ends with it, count those that wait.
 */
void
sd_end_transaction(Run *run)
{
	if (run->stop_reason != NULL)
		sd_count_waiting(run);
	sd_write_failing(run);
	sd_write_refusals(run);
	sd_add_tables(run);
}

/*
 * May the run begin another batch?  Not if somebody has disabled the policy since,
 * or removed it, nor if its time is over.
 */
static bool
may_go_on(Run *run)
{
	if (!sd_is_enabled(run->schema, run->policy_name))
		run->stop_reason = "disabled";
	else if (sd_is_over(run))
		run->stop_reason = "max_runtime";
	return run->stop_reason == NULL;
}

/* Is the time over that the run may take? */
bool
sd_is_over(Run *run)
{
	return run->max_runtime > 0 &&
		sd_clock() - run->began >= run->max_runtime;
}

/*
 * How many of so many accounts the caller lets the run delete; if none, it stops
 * for that.
 */
static int64
within_limit(Run *run, int64 naccounts)
{
	if (!run->is_limited)
		return naccounts;
	naccounts = Min(naccounts, run->max_accounts - run->results.deleted);
	if (naccounts == 0)
		run->stop_reason = "max_accounts";
	return naccounts;
}

/*
 * Pick accounts that are due and have not failed before, and delete a batch of
 * them; know if there are no more.
 */
static void
delete_due_accounts(Run *run)
{
	bool		whole;
	int64		limit = within_limit(run, sd_choose_batch(run, &whole));
	int			naccounts = 0;

	if (run->announced > 0)
		limit = Min(limit, run->announced);
	while (naccounts == 0 && !run->is_drained && limit > 0)
	{
		int64		npick = run->meets_failing || sd_is_any_on_hold(run) ?
			Max(limit + 1, PICK_SIZE) : limit + 1;
		int			npicked;
		int			ntaken;
		Account    *accounts;
		List	   *held;		/* Account * */
		Account		last;
		ListCell   *lc;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(run->batch_context);
		MemoryContextSwitchTo(run->batch_context);
		accounts = pick_accounts(run, npick, &npicked);
		run->meets_failing |= sd_find_failing(run, accounts, npicked) > 0;
		naccounts = choose_accounts(run, accounts, npicked, limit, &held, &last,
									&ntaken);
		if (naccounts > 0 &&
			!sd_delete_batch(run, accounts, naccounts, whole) && !run->is_outdated)
			sd_batch_failed(run, naccounts);
		else if (run->is_outdated)
		{
			/* those that were not deleted are picked again by the next plan */
			sd_record_tried(run, accounts, naccounts);
		}
		else
		{
			sd_record_results(run, accounts, naccounts);
			foreach(lc, held)
				sd_record_held(run, lfirst(lc));
			if (ntaken > 0)
				sd_move_cursor(run, &last, ntaken);
			run->is_drained = ntaken == npicked && npicked < npick;
			run->nplans = 0;
			sd_batch_was_deleted(run, naccounts);
		}
		MemoryContextSwitchTo(run->transaction_context);
	}
}

/* Record which accounts were deleted, and which failed; the others are as before */
void
sd_record_tried(Run *run, Account *accounts, int naccounts)
{
	int			n = 0;

	for (int i = 0; i < naccounts; i++)
	{
		if (accounts[i].state == SD_DELETED || accounts[i].state == SD_FAILED)
			accounts[n++] = accounts[i];
	}
	sd_record_results(run, accounts, n);
}

/*
 * Choose so many of the picked accounts to be tried now; returns how many, at
 * the beginning of the array.  Those that have failed before come last of all,
 * and those on hold not at all: these are added to *held.  *last is the last
 * one that need not be picked again, as it was picked: once it is locked, it
 * may be due at another time; *ntaken is its place.
 */
static int
choose_accounts(Run *run, Account *accounts, int naccounts, int limit,
				List **held, Account *last, int *ntaken)
{
	int			n = 0;
	int			i;

	*held = NIL;
	sd_ask_about(run, accounts, naccounts);
	for (i = 0; i < naccounts && n < limit; i++)
	{
		*last = accounts[i];
		if (sd_is_held(run, last))
		{
			Account    *account = palloc(sizeof(Account));

			/* others may change the hold before it is recorded */
			*account = *last;
			account->hold = sd_copy_hold(last->hold);
			*held = lappend(*held, account);
		}
		else if (!last->has_failed)
			accounts[n++] = accounts[i];
	}
	sd_forget_asked(run);
	*ntaken = i;
	return n;
}

/*
 * The keys, as text, of so many accounts that the next batch would have; the cursor
 * moves on
 */
List *
sd_next_accounts(Run *run, int limit)
{
	List	   *keys = NIL;
	bool		is_drained = false;

	while (!is_drained && list_length(keys) < limit)
	{
		int			npicked;
		int			ntaken;
		Account    *accounts = pick_accounts(run, PICK_SIZE, &npicked);
		List	   *held;
		Account		last;
		int			n;

		(void) sd_find_failing(run, accounts, npicked);
		n = choose_accounts(run, accounts, npicked, limit - list_length(keys), &held,
							&last, &ntaken);
		for (int i = 0; i < n; i++)
			keys = lappend(keys, sd_key_text(run->plan->key, accounts[i].key));
		if (ntaken > 0)
			sd_move_cursor(run, &last, 0);
		is_drained = ntaken == npicked && npicked < PICK_SIZE;
	}
	return keys;
}

/* Pick the accounts that are due next, without a lock */
static Account *
pick_accounts(Run *run, int64 limit, int *naccounts)
{
	Cursor	   *cursor = &run->cursor;
	int			nkeys = run->plan->key->ncolumns;
	Datum	   *values = palloc0(sizeof(Datum) * (nkeys + 2));
	char	   *nulls = palloc(list_length(run->plan->pick.params) + 1);
	int			n = 0;
	ListCell   *lc;

	values[0] = Int64GetDatum(limit);
	values[1] = cursor->due;
	if (cursor->valid)
		memcpy(&values[2], cursor->key, sizeof(Datum) * nkeys);

	foreach(lc, run->plan->pick.params)
	{
		StatementParam *param = lfirst(lc);
		bool		is_cursor = param->source == SD_PARAM_CALLER &&
			foreach_current_index(lc) > 0;

		nulls[n++] = is_cursor && !cursor->valid ? 'n' : ' ';
	}
	return sd_pick_accounts(run, &run->plan->pick, values, nulls, naccounts);
}

/* The accounts that are due first, no more than so many */
Account *
sd_pick_first_accounts(Run *run, int64 limit, int *naccounts)
{
	run->cursor.valid = false;
	return pick_accounts(run, limit, naccounts);
}

/*
 * Begin from the start if the accounts are others now, or their values of other
 * types
 */
static void
check_cursor(Run *run)
{
	DeletionPlan *plan = run->plan;
	Cursor	   *cursor = &run->cursor;

	if (!cursor->valid)
		return;
	cursor->valid = cursor->table == plan->account->table &&
		cursor->due_type == plan->due_type &&
		list_length(cursor->key_types) == plan->key->ncolumns;
	for (int i = 0; cursor->valid && i < plan->key->ncolumns; i++)
		cursor->valid = list_nth_oid(cursor->key_types, i) == plan->key->columns[i].type;

	/* of those, the brake has counted none */
	if (!cursor->valid)
		run->ahead = SD_UNKNOWN;
}

/*
 * Let the next pick begin after an account, whose values are copied: the last of so many
 * that were due after the cursor.
 */
void
sd_move_cursor(Run *run, Account *last, int ntaken)
{
	PlanKey    *key = run->plan->key;
	Cursor	   *cursor = &run->cursor;
	MemoryContext caller_context;

	run->since_counted += ntaken;
	if (run->ahead != SD_UNKNOWN)
		run->ahead = Max(run->ahead - ntaken, 0);
	cursor->context = new_cursor_context(run);
	caller_context = MemoryContextSwitchTo(cursor->context);
	cursor->valid = true;
	cursor->table = run->plan->account->table;
	cursor->due_type = run->plan->due_type;
	cursor->due = datumCopy(last->due, run->plan->due_typbyval,
							run->plan->due_typlen);
	cursor->key_types = NIL;
	cursor->key = palloc(sizeof(Datum) * key->ncolumns);
	for (int i = 0; i < key->ncolumns; i++)
	{
		cursor->key_types = lappend_oid(cursor->key_types, key->columns[i].type);
		cursor->key[i] = datumCopy(last->key[i], key->columns[i].typbyval,
								   key->columns[i].typlen);
	}
	MemoryContextSwitchTo(caller_context);
}
