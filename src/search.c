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
#include "utils/timestamp.h"

#include "run.h"

/* parts into which a chunk that fails is divided */
#define SD_PARTS		4

/* of the batch, and of those due last: tried alone before an error is everybody's */
#define SD_SAMPLE_SIZE	16

/* equal failures in a row after which that is asked of an account's error, too */
#define SD_MAX_EQUAL_FAILURES	1000

/* lock timeouts and the like after which a run does not look for single accounts */
#define SD_MAX_MOMENT_FAILURES	16

static bool may_be_everybodys(Failure *failure);
static void stop_if_all_fail(Run *run, Account **accounts, int naccounts,
							 Failure *failure);
static void find_failures(Run *run, Account **accounts, int naccounts);
static int	choose_chunk_size(Run *run);
static void try_in_parts(Run *run, Account **accounts, int naccounts,
						 bool keep);
static void put_off(Account **accounts, int naccounts);
static void charge(Run *run, Account *account, Failure *failure);

/*
 * Delete a batch, every account of which is pending; afterwards none is.  If
 * "whole" is set, it is first tried at once; if a large batch fails then,
 * nothing is done, and the answer is false: the caller should try smaller ones.
 */
bool
sd_delete_batch(Run *run, Account *accounts, int naccounts, bool whole)
{
	Account   **batch = palloc(sizeof(Account *) * naccounts);
	Failure    *failure;

	for (int i = 0; i < naccounts; i++)
		batch[i] = &accounts[i];

	if (whole)
	{
		if (sd_attempt(run, batch, naccounts, true, &failure))
			return true;
		if (may_be_everybodys(failure))
			stop_if_all_fail(run, batch, naccounts, failure);
		if (naccounts > SD_FIRST_BATCH_SIZE)
			return false;
	}

	find_failures(run, batch, naccounts);
	if (run->last_failure != NULL && may_be_everybodys(run->last_failure))
		stop_if_all_fail(run, batch, naccounts, run->last_failure);
	try_in_parts(run, batch, naccounts, true);
	return true;
}

/*
 * Is it an error that speaks of the schema or of the audit table, rather than of
 * the account at which it showed?
 */
static bool
may_be_everybodys(Failure *failure)
{
	return failure->kind == SD_SCHEMA_FAILURE || failure->while_auditing;
}

/*
 * End the run with a failure if it seems to be everybody's: if no account could
 * be deleted so far, and of those that are tried alone here, from all over the
 * batch and from the end of the queue, none can.  One that can is proof enough
 * that the failure is not everybody's; another failure proves nothing.
 */
static void
stop_if_all_fail(Run *run, Account **accounts, int naccounts,
				 Failure *failure)
{
	Datum		limit = Int64GetDatum(SD_SAMPLE_SIZE);
	Account    *latest;
	int			nlatest;
	int			nsamples = Min(naccounts, SD_SAMPLE_SIZE);
	Failure    *sample_failure;

	if (run->tries_failing)
		return;
	for (int i = 0; i < nsamples && !run->any_success; i++)
	{
		int			sample = (int64) i * (naccounts - 1) / Max(nsamples - 1, 1);

		(void) sd_attempt(run, &accounts[sample], 1, false, &sample_failure);
	}
	if (run->any_success)
		return;

	latest = sd_pick_accounts(run, &run->plan->pick_latest, &limit, NULL,
							  &nlatest);
	nlatest = sd_leave_out_failing(run, latest, nlatest);
	for (int i = 0; i < nlatest && !run->any_success; i++)
	{
		Account    *account = &latest[i];

		(void) sd_attempt(run, &account, 1, false, &sample_failure);
	}
	if (!run->any_success)
		sd_throw_failure(failure);
}

/* Go through accounts in chunks, in trial, and charge those that fail alone */
static void
find_failures(Run *run, Account **accounts, int naccounts)
{
	int			length;

	for (int start = 0; start < naccounts; start += length)
	{
		length = Min(choose_chunk_size(run), naccounts - start);
		try_in_parts(run, accounts + start, length, false);
		run->searched += length;

		if (run->last_failure != NULL &&
			run->equal_failures >= (may_be_everybodys(run->last_failure) ?
									SD_SAMPLE_SIZE : SD_MAX_EQUAL_FAILURES))
			stop_if_all_fail(run, accounts + start + length,
							 naccounts - start - length, run->last_failure);
	}
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
		charge(run, accounts[0], failure);
		return;
	}
	if (failure->kind == SD_MOMENT_FAILURE &&
		++run->moment_failures > SD_MAX_MOMENT_FAILURES)
	{
		put_off(accounts, naccounts);
		return;
	}
	for (int start = 0; start < naccounts; start += part)
		try_in_parts(run, accounts + start, Min(part, naccounts - start),
					 keep);
}

/* Leave the pending ones of these accounts to the next run */
static void
put_off(Account **accounts, int naccounts)
{
	for (int i = 0; i < naccounts; i++)
	{
		if (accounts[i]->state == SD_PENDING)
			accounts[i]->state = SD_SKIPPED;
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
		put_off(&account, 1);
		return;
	}
	account->state = SD_FAILED;
	account->failure = failure;
	run->failed_in_search++;
	if (failure->kind == SD_INTERNAL_FAILURE)
		run->internal_error = failure;

	if (run->last_failure == NULL ||
		!sd_same_failure(run->last_failure, failure))
	{
		MemoryContext caller_context = MemoryContextSwitchTo(run->run_context);

		run->last_failure = sd_copy_failure(failure);
		run->equal_failures = 0;
		MemoryContextSwitchTo(caller_context);
	}
	run->equal_failures++;
}
