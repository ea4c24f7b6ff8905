/*-------------------------------------------------------------------------
 *
 * run.c
 *	  One policy's run, from its first claim to its last: pick due accounts,
 *	  earliest due first, and delete them batch by batch.
 *
 * Each batch that succeeds leaves one live subtransaction behind, of which a
 * backend keeps 64 where other sessions need not look for them on disk.  So
 * batches grow with the run: one is at least an eighth of what was done before,
 * which makes about 30 of a million accounts, and no more than 60 if some fail.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/run.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run.h"

/* a batch that succeeds lets the next one be so many times as large */
#define SD_GROWTH		4

/* accounts picked at once where some of them may have to be left out */
#define PICK_SIZE		10000

/* a batch is at least this part of all accounts before it */
#define SD_BATCH_SHARE	8

/* the account picked last, after which the next pick begins */
typedef struct Cursor
{
	bool		valid;
	Datum		due;			/* of the due column's type */
	Datum	   *key;
} Cursor;

static void refuse_pending_violation(Run *run);
static void delete_due_accounts(Run *run);
static int	choose_accounts(Run *run, Account *accounts, int naccounts,
							int limit, List **held, Account *last);
static int	choose_batch_size(Run *run, bool *whole);
static Account *pick_accounts(Run *run, Cursor *cursor, int64 limit,
							  int *naccounts);
static void move_cursor(Run *run, Cursor *cursor, Account *last);
static void stop_after_internal_error(Run *run);
static void record_error(Run *run, Account *account);

/*
 * Run a policy as the fields under "Arguments" say, and fill in the results.
 * Expects a connection to SPI; the current memory context becomes the run's.
 */
void
sd_run(Run *run)
{
	run->run_context = CurrentMemoryContext;
	run->batch_context = AllocSetContextCreate(CurrentMemoryContext,
											   "scheduled_deletion batch",
											   ALLOCSET_DEFAULT_SIZES);
	run->next_batch_size = SD_FIRST_BATCH_SIZE;

	run->plan = sd_make_plan(run->policy, RowExclusiveLock);
	run->cutoff = sd_cutoff(run->plan, run->started_at);
	sd_check_tables(run->plan);
	sd_prepare_plan(run->plan);
	sd_prepare_batches(run);
	refuse_pending_violation(run);
	sd_refresh_holds(run);
	sd_load_failing(run);
	if (!run->release_brake)
		sd_brake(run);

	run->rows = palloc0(sizeof(int64) * list_length(run->plan->steps));
	delete_due_accounts(run);
	sd_try_failing(run);
	sd_write_failing(run);
	sd_write_refusals(run);
	if (run->stop_reason == NULL)
		run->stop_reason = "drained";
	MemoryContextDelete(run->batch_context);
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
 * Pick and delete, until nothing is due that has not failed before, or until a
 * reason to stop.
 */
static void
delete_due_accounts(Run *run)
{
	Cursor		cursor = {0};

	while (sd_may_go_on(run))
	{
		bool		whole;
		int64		limit = choose_batch_size(run, &whole);
		int			naccounts;
		Account    *accounts;
		Account		last;
		List	   *held;		/* Account * */
		ListCell   *lc;

		limit = sd_within_limit(run, limit);
		if (limit == 0)
			break;

		MemoryContextReset(run->batch_context);
		MemoryContextSwitchTo(run->batch_context);
		accounts = pick_accounts(run, &cursor,
								 run->nfailing > 0 || sd_held_accounts(run) != NULL ?
								 Max(limit, PICK_SIZE) : limit, &naccounts);
		if (naccounts == 0)
			break;

		naccounts = choose_accounts(run, accounts, naccounts, limit, &held, &last);
		if (naccounts > 0 && !sd_delete_batch(run, accounts, naccounts, whole))
			run->next_batch_size = Max(naccounts / SD_BATCH_SHARE,
									   SD_FIRST_BATCH_SIZE);
		else
		{
			sd_record_results(run, accounts, naccounts);
			foreach(lc, held)
				sd_record_held(run, lfirst(lc));
			move_cursor(run, &cursor, &last);
			run->next_batch_size = Max(run->next_batch_size,
									   Min(naccounts, SD_MAX_BATCH_SIZE / SD_GROWTH) * SD_GROWTH);
		}
		MemoryContextSwitchTo(run->run_context);
	}
	MemoryContextSwitchTo(run->run_context);
}

/*
 * May the run begin another batch?  Not if it has stopped, nor if somebody has
 * disabled the policy since, or removed it.
 */
bool
sd_may_go_on(Run *run)
{
	if (run->stop_reason == NULL && !sd_is_enabled(run->policy))
		run->stop_reason = "disabled";
	return run->stop_reason == NULL;
}

/*
 * Choose so many of the picked accounts to be tried now; returns how many, at the
 * beginning of the array.  Those that have failed before come last of all, and those
 * on hold not at all: these are added to *held.  *last is the last one that need not
 * be picked again, as it was picked: once it is locked, it may be due at another time.
 */
static int
choose_accounts(Run *run, Account *accounts, int naccounts, int limit,
				List **held, Account *last)
{
	int			n = 0;

	*held = NIL;
	for (int i = 0; i < naccounts && n < limit; i++)
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
		else if (!sd_has_failed_before(run, last))
			accounts[n++] = accounts[i];
	}
	return n;
}

/*
 * How many of so many accounts the caller lets the run delete; if none, it stops
 * for that.
 */
int64
sd_within_limit(Run *run, int64 naccounts)
{
	if (!run->is_limited)
		return naccounts;
	naccounts = Min(naccounts, run->max_accounts - run->deleted);
	if (naccounts == 0)
		run->stop_reason = "max_accounts";
	return naccounts;
}

/*
 * How many accounts to pick, and whether to try them as a whole: worth it if
 * less than one failure in two tries is to be expected of so many.
 *
 * Where constraints can be deferred, each trial of a search checks all that the
 * batches before it have deferred; so there is only one search, of all accounts.
 */
static int
choose_batch_size(Run *run, bool *whole)
{
	int64		tried = run->deleted + run->failed;
	int64		largest = Min(Max(sd_batch_size, tried / SD_BATCH_SHARE),
							  SD_MAX_BATCH_SIZE);
	int64		size = Min(largest, run->next_batch_size);

	if (run->failed_in_search > 0)
		size = Min(size, tried / (2 * run->failed_in_search));

	*whole = size >= Min(largest, Max(SD_FIRST_BATCH_SIZE,
									  tried / SD_BATCH_SHARE));
	if (*whole)
		return size;
	return run->can_defer ? SD_MAX_BATCH_SIZE : largest;
}

/* Pick the accounts that are due next, without a lock */
static Account *
pick_accounts(Run *run, Cursor *cursor, int64 limit, int *naccounts)
{
	int			nkeys = run->plan->key->ncolumns;
	Datum	   *values = palloc0(sizeof(Datum) * (nkeys + 2));
	char	   *nulls = palloc(nkeys + 3);
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

/* Let the next pick begin after an account, whose key is copied */
static void
move_cursor(Run *run, Cursor *cursor, Account *last)
{
	PlanKey    *key = run->plan->key;
	MemoryContext caller_context = MemoryContextSwitchTo(run->run_context);

	cursor->valid = true;
	cursor->due = last->due;
	cursor->key = palloc(sizeof(Datum) * key->ncolumns);
	for (int i = 0; i < key->ncolumns; i++)
		cursor->key[i] = datumCopy(last->key[i], key->columns[i].typbyval,
								   key->columns[i].typlen);
	MemoryContextSwitchTo(caller_context);
}

/*
 * Add what became of the accounts of a batch to the results of the run, and note
 * which of them have failed.
 */
void
sd_record_results(Run *run, Account *accounts, int naccounts)
{
	for (int i = 0; i < naccounts; i++)
	{
		switch (accounts[i].state)
		{
			case SD_DELETED:
				run->deleted++;
				break;
			case SD_FAILED:
				run->failed++;
				record_error(run, &accounts[i]);
				break;
			case SD_SKIPPED:
				run->skipped++;
				break;
			case SD_HELD:
				sd_record_held(run, &accounts[i]);
				break;
			case SD_GONE:
				break;
			case SD_PENDING:
				elog(ERROR, "an account of the batch was not tried");
		}
	}
	sd_record_failing(run, accounts, naccounts);
	if (run->internal_error != NULL)
		stop_after_internal_error(run);
}

/*
 * Something is wrong that is not to be expected, with the server or with this
 * extension: what is done stays, and nothing more is done.
 */
static void
stop_after_internal_error(Run *run)
{
	run->stop_reason = "internal_error";
	ereport(WARNING,
			(errcode(run->internal_error->sqlstate),
			 errmsg("deletion run stopped: %s", run->internal_error->message),
			 errdetail("It came of one account, which is tried last from now on; the others are left to the next run."),
			 errhint("See the server's log, and table deletion_failure.")));
}

/* Keep why an account failed for the report, as long as there is room */
static void
record_error(Run *run, Account *account)
{
	MemoryContext caller_context;
	RunError   *error;

	if (list_length(run->errors) == SD_MAX_ERRORS)
		return;
	caller_context = MemoryContextSwitchTo(run->run_context);
	error = palloc(sizeof(RunError));
	error->account = sd_key_text(run->plan->key, account->key);
	error->failure = sd_copy_failure(account->failure);
	run->errors = lappend(run->errors, error);
	MemoryContextSwitchTo(caller_context);
}
