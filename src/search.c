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

#include "scheduled_deletion.h"

/* parts into which a chunk that fails is divided */
#define SD_PARTS		4

/* accounts tried alone before an error is taken to be that of all */
#define SD_SAMPLE_SIZE	16

static void stop_if_all_fail(Run *run, Account **accounts, int naccounts,
							 Failure *failure);
static void find_failures(Run *run, Account **accounts, int naccounts);
static int	choose_chunk_size(Run *run);
static void try_in_parts(Run *run, Account **accounts, int naccounts,
						 bool keep);
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
		stop_if_all_fail(run, batch, naccounts, failure);
		if (naccounts > SD_FIRST_BATCH_SIZE)
			return false;
	}

	find_failures(run, batch, naccounts);
	try_in_parts(run, batch, naccounts, true);
	return true;
}

/*
 * End the run if an error seems to be every account's: none has been deleted so
 * far, and accounts from all over the batch fail alike when tried alone.  If
 * those are all that are left of it, then only an error of the schema, or of the
 * audit table, is not charged to them.
 *
 * Accounts that are not pending any more, for instance because someone else has
 * locked them, say nothing about the error.
 */
static void
stop_if_all_fail(Run *run, Account **accounts, int naccounts,
				 Failure *failure)
{
	Account   **pending = palloc(sizeof(Account *) * naccounts);
	int			npending = 0;
	int			nsamples;

	if (run->any_success || failure->kind == SD_MOMENT_FAILURE)
		return;

	for (int i = 0; i < naccounts; i++)
	{
		if (accounts[i]->state == SD_PENDING)
			pending[npending++] = accounts[i];
	}

	nsamples = Min(npending, SD_SAMPLE_SIZE);
	for (int i = 0; i < nsamples; i++)
	{
		int			sample = (int64) i * (npending - 1) / Max(nsamples - 1, 1);
		Failure    *sample_failure;

		if (sd_attempt(run, &pending[sample], 1, false, &sample_failure) ||
			!sd_same_failure(sample_failure, failure))
			return;
	}

	if (nsamples < npending || failure->kind == SD_SCHEMA_FAILURE ||
		failure->while_auditing)
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
	}
}

/*
 * How many accounts to try at once, when one in m has failed: a chunk of n has
 * a fixed cost of about two accounts, and wastes n accounts in n/m of the
 * cases.  That is least for n = sqrt(2 m).  At first, m is taken to be the size
 * of a first batch, for one of that size has just failed.
 */
static int
choose_chunk_size(Run *run)
{
	double		m = (double) (run->searched + SD_FIRST_BATCH_SIZE) /
		(run->failed_in_search + 1);

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
	for (int start = 0; start < naccounts; start += part)
		try_in_parts(run, accounts + start, Min(part, naccounts - start),
					 keep);
}

/* An account failed alone: put it off if that was bad luck, else it failed */
static void
charge(Run *run, Account *account, Failure *failure)
{
	if (failure->kind == SD_MOMENT_FAILURE)
	{
		account->state = SD_SKIPPED;
		return;
	}
	account->state = SD_FAILED;
	account->failure = failure;
	run->failed_in_search++;
}
