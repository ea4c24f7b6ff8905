/*-------------------------------------------------------------------------
 *
 * search.c
 *	  Delete a batch of accounts although some of them fail: find out which,
 *	  without paying much for it.
 *
 * A batch is tried as a whole first.  If that fails, and the failing account is
 * not known by a query, the batch is gone through in chunks that are rolled
 * back, whether they fail or not; a chunk that fails is gone through in
 * quarters, down to single accounts.  What is left is deleted in one
 * subtransaction.  So a run keeps one subtransaction for each batch, however
 * many of its accounts fail, and a batch costs little more than three times its
 * rows; run.c sees to it that few batches are tried in vain.
 *
 * Where each batch has a transaction of its own, chunks that do not fail are
 * kept, as long as there are few of them: then a batch costs little more than
 * twice its rows.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/search.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run.h"

/* parts into which a chunk that fails is divided */
#define SD_PARTS		4

/* of the batch, and of those that have failed before: tried alone before an error is
 * everybody's */
#define SD_SAMPLE_SIZE	16

/* the same of all that are due */
#define SD_RANDOM_SAMPLE_SIZE	64

/* equal failures in a row after which that is asked of an account's error, too */
#define SD_MAX_EQUAL_FAILURES	1000

/* tries of an account alone whose rows others may have changed in the first one */
#define SD_RETRIES		2

/* subtransactions that a batch may have kept before chunks are rolled back */
#define SD_MAX_KEPT_CHUNKS		32

/* lock timeouts and the like after which a run waits for no lock any more */
#define SD_MAX_MOMENT_FAILURES	16

static bool may_be_everybodys(Failure *failure);
static void stop_if_all_fail(Run *run, Account **accounts, int naccounts,
							 Failure *failure);
static Account **pointers_to(Account *accounts, int naccounts);
static bool any_can_be_deleted(Run *run, Account **accounts, int naccounts,
							   int nsamples);
static void find_failures(Run *run, Account **accounts, int naccounts);
static bool can_still_be_deleted(Run *run, Account **accounts, int naccounts);
static int	equal_failures_to_stop(Failure *failure);
static int	choose_chunk_size(Run *run);
static void try_in_parts(Run *run, Account **accounts, int naccounts,
						 bool keep);
static void note_moment_failure(Run *run, Failure *failure);
static bool is_of_others(Failure *failure);
static void try_together(Run *run, Account **accounts, int naccounts);
static void charge(Run *run, Account *account, Failure *failure);

/*
 * Delete a batch, every account of which is pending; afterwards none is.  If
 * "whole" is set, it is first tried at once; if a large batch fails then,
 * nothing is done, and the answer is false: the caller should try smaller ones.
 */
bool
sd_delete_batch(Run *run, Account *accounts, int naccounts, bool whole)
{
	Account   **batch = pointers_to(accounts, naccounts);
	Failure    *failure;

	if (whole)
	{
		if (sd_attempt(run, batch, naccounts, true, &failure))
			return true;
		note_moment_failure(run, failure);
		if (may_be_everybodys(failure))
			stop_if_all_fail(run, batch, naccounts, failure);
		if (naccounts > SD_FIRST_BATCH_SIZE)
			return false;
	}

	find_failures(run, batch, naccounts);
	if (run->last_failure != NULL && may_be_everybodys(run->last_failure))
		stop_if_all_fail(run, batch, naccounts, run->last_failure);
	try_in_parts(run, batch, naccounts, true);
	try_together(run, batch, naccounts);
	return true;
}

/*
 * Is it an error that speaks of the schema, the server or the audit table, rather
 * than of the account at which it showed?
 */
static bool
may_be_everybodys(Failure *failure)
{
	return failure->kind == SD_SCHEMA_FAILURE ||
		failure->kind == SD_SERVER_FAILURE || failure->while_auditing;
}

/*
 * End the run with a failure if it seems to be everybody's: if no account could
 * be deleted so far, and of those that are tried alone here, from all over the
 * batch, at random from all that are due, and from those that have failed before,
 * none can.  One that can is proof enough that the failure is not everybody's;
 * another failure proves nothing.
 *
 * At random, for the run writes nothing down when it ends so: what keeps it from
 * seeing an account that can be deleted tonight must not do so every night.
 */
static void
stop_if_all_fail(Run *run, Account **accounts, int naccounts,
				 Failure *failure)
{
	Datum		limit = Int64GetDatum(SD_RANDOM_SAMPLE_SIZE);
	Account    *sample;
	int			nsamples;

	if (run->tries_failing &&
		!(failure->while_auditing && run->equal_failures > 1 &&
		  run->equal_failures == run->failed_in_search))
		return;
	if (any_can_be_deleted(run, accounts, naccounts, SD_SAMPLE_SIZE))
		return;

	sample = sd_pick_accounts(run, &run->plan->pick_sample, &limit, NULL,
							  &nsamples);
	if (any_can_be_deleted(run, pointers_to(sample, nsamples), nsamples,
						   nsamples))
		return;

	nsamples = sd_copy_failing(run, &sample);
	if (!any_can_be_deleted(run, pointers_to(sample, nsamples), nsamples,
							SD_SAMPLE_SIZE))
		sd_throw_failure(failure);
}

/* A pointer to each of these accounts */
static Account **
pointers_to(Account *accounts, int naccounts)
{
	Account   **pointers = palloc(sizeof(Account *) * Max(naccounts, 1));

	for (int i = 0; i < naccounts; i++)
		pointers[i] = &accounts[i];
	return pointers;
}

/* Has an account been deleted, or can one of so many of these, tried alone? */
static bool
any_can_be_deleted(Run *run, Account **accounts, int naccounts, int nsamples)
{
	Failure    *failure;

	nsamples = Min(nsamples, naccounts);
	for (int i = 0; i < nsamples && !run->any_success; i++)
	{
		int			sample = (int64) i * (naccounts - 1) / Max(nsamples - 1, 1);

		(void) sd_attempt(run, &accounts[sample], 1, false, &failure);
	}
	return run->any_success;
}

/*
 * Go through accounts in chunks, and charge those that fail alone.  Of the others,
 * some may be deleted afterwards; those that a key stops are pending still: it may
 * be accounts of other chunks that stop them.
 */
static void
find_failures(Run *run, Account **accounts, int naccounts)
{
	int			length;

	for (int start = 0; start < naccounts; start += length)
	{
		length = Min(choose_chunk_size(run), naccounts - start);
		try_in_parts(run, accounts + start, length,
					 run->commits && run->nkept < SD_MAX_KEPT_CHUNKS);
		sd_forget_blocked(accounts + start, length);
		run->searched += length;

		if (run->last_failure != NULL &&
			run->equal_failures >= equal_failures_to_stop(run->last_failure))
		{
			/* what could be deleted before need not be now */
			run->any_success = false;
			if (!can_still_be_deleted(run, accounts, start + length))
				stop_if_all_fail(run, accounts + start + length,
								 naccounts - start - length, run->last_failure);
		}
	}
}

/*
 * Can one of those accounts still be deleted that did not fail when they were
 * gone through?  One that was deleted by that is proof enough.
 */
static bool
can_still_be_deleted(Run *run, Account **accounts, int naccounts)
{
	Account   **pending = palloc(sizeof(Account *) * naccounts);
	int			npending = 0;

	for (int i = 0; i < naccounts; i++)
	{
		if (accounts[i]->state == SD_DELETED)
			return run->any_success = true;
		if (accounts[i]->state == SD_PENDING)
			pending[npending++] = accounts[i];
	}
	return any_can_be_deleted(run, pending, npending, SD_SAMPLE_SIZE);
}

/* How many equal failures in a row make it ask whether they are everybody's */
static int
equal_failures_to_stop(Failure *failure)
{
	return may_be_everybodys(failure) || failure->kind == SD_INTERNAL_FAILURE ?
		SD_SAMPLE_SIZE : SD_MAX_EQUAL_FAILURES;
}

/*
 * How many accounts to try at once, when one in m has failed: a chunk of n has
 * a fixed cost of about two accounts, and wastes n accounts in n/m of the
 * cases.  That is least for n = sqrt(2 m).  At first, m is taken to be the size
 * of a first batch, for one of that size has just failed; of accounts that have
 * failed before, every other one.
 */
static int
choose_chunk_size(Run *run)
{
	double		presumed = run->tries_failing ? 2 : SD_FIRST_BATCH_SIZE;
	double		m = (run->searched + presumed) / (run->failed_in_search + 1);

	return Max(1, (int) sqrt(2 * m));
}

/*
 * Try accounts at once and, if that fails, in parts.  Those that fail alone are
 * charged with it; the others are deleted if "keep" is set, and pending still
 * if not.
 */
static void
try_in_parts(Run *run, Account **accounts, int naccounts, bool keep)
{
	int			part = Max(1, naccounts / SD_PARTS);
	Failure    *failure;

	CHECK_FOR_INTERRUPTS();
	if (sd_attempt(run, accounts, naccounts, keep, &failure))
		return;
	if (naccounts == 1)
	{
		for (int i = 0; i < SD_RETRIES && is_of_others(failure); i++)
		{
			if (sd_attempt(run, accounts, 1, keep, &failure))
				return;
		}
		charge(run, accounts[0], failure);
		return;
	}
	note_moment_failure(run, failure);
	for (int start = 0; start < naccounts; start += part)
		try_in_parts(run, accounts + start, Min(part, naccounts - start),
					 keep);
}

/*
 * After some lock timeouts, wait for no more locks.  Where the accounts of a
 * batch are locked for that batch only, one is enough: others may want them,
 * who do not wait for the rest of a transaction in the other case, either.
 */
static void
note_moment_failure(Run *run, Failure *failure)
{
	if (failure->kind == SD_MOMENT_FAILURE &&
		++run->moment_failures > (run->commits ? 0 : SD_MAX_MOMENT_FAILURES))
		run->is_impatient = true;
}

/*
 * Does a failure tell that rows were changed meanwhile?  Others may have done that,
 * and not do it again; a trigger will.
 */
static bool
is_of_others(Failure *failure)
{
	return failure->sqlstate == ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION;
}

/*
 * Accounts that a foreign key has stopped when each was tried alone may have
 * stopped each other: try those with the same failure together, once.
 */
static void
try_together(Run *run, Account **accounts, int naccounts)
{
	Account   **together = palloc(sizeof(Account *) * naccounts);

	for (int i = 0; i < naccounts; i++)
	{
		Failure    *failure = accounts[i]->failure;
		Failure    *new_failure;
		int			n = 0;

		if (accounts[i]->state != SD_FAILED ||
			failure->sqlstate != ERRCODE_FOREIGN_KEY_VIOLATION ||
			accounts[i]->was_tried_together)
			continue;
		for (int j = i; j < naccounts; j++)
		{
			if (accounts[j]->state != SD_FAILED ||
				!sd_same_failure(accounts[j]->failure, failure))
				continue;
			accounts[j]->was_tried_together = true;
			together[n++] = accounts[j];
		}
		if (n == 1)
			continue;
		for (int j = 0; j < n; j++)
			together[j]->state = SD_PENDING;
		(void) sd_attempt(run, together, n, true, &new_failure);
		for (int j = 0; j < n; j++)
		{
			if (together[j]->state == SD_PENDING)
				together[j]->state = SD_FAILED;
			else if (together[j]->state != SD_FAILED)
				together[j]->failure = NULL;
		}
	}
}

/*
 * An account failed alone: put it off if that was bad luck, else it failed.
 * Counts how many failed alike in a row.
 */
static void
charge(Run *run, Account *account, Failure *failure)
{
	if (failure->kind == SD_MOMENT_FAILURE)
	{
		account->state = SD_SKIPPED;
		account->failure = failure;
		return;
	}
	account->state = SD_FAILED;
	account->failure = failure;
	account->is_blocked = false;
	run->failed_in_search++;

	if (run->last_failure == NULL ||
		!sd_same_failure(run->last_failure, failure))
	{
		MemoryContext caller_context;

		MemoryContextReset(run->failure_context);
		caller_context = MemoryContextSwitchTo(run->failure_context);
		run->last_failure = sd_copy_failure(failure);
		run->equal_failures = 0;
		MemoryContextSwitchTo(caller_context);
	}
	run->equal_failures++;
}
