/*-------------------------------------------------------------------------
 *
 * pace.c
 *	  How large the next batch is to be.
 *
 * In one transaction, each batch that succeeds leaves one live subtransaction
 * behind, of which a backend keeps 64 where other sessions need not look for
 * them on disk.  So batches grow with the run: one is at least an eighth of
 * what was done before, which makes a dozen of a million accounts, by default,
 * and no more than 60 if some fail.  The first one is small, so that little is
 * done in vain if some do, and little is kept in memory, which bounds the
 * others.  But where no account can fail unless a query tells, and neither rows
 * nor details are kept, it is as large as any: then each page is visited once.
 *
 * Where each batch has a transaction of its own, it is to be so large that it takes
 * a given time.  But part of that time may not depend on its size: if a table has
 * no index that serves, each batch reads all of it.  Smaller batches would do so
 * more often, so one is at least as large as lets that part be half of its time.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/pace.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "run.h"

/* a batch that succeeds lets the next one be so many times as large */
#define SD_GROWTH		32

/* the same where it has a transaction of its own */
#define SD_CALM_GROWTH	2

/* bytes of a batch that are kept in memory */
#define SD_MAX_MEMORY	(SD_ROW_MEMORY * 1000000)

/* the same of how many rows of each step were deleted for each of its accounts */
#define SD_MAX_COUNTERS	(SD_MAX_MEMORY / 4)

/* a batch is at least this part of all accounts before it */
#define SD_BATCH_SHARE	8

/* sizes of two batches differ so much that their times can be compared */
#define SD_OTHER_SIZE	1.25

static int64 within_memory(Run *run, int64 naccounts);

/*
 * How many accounts to pick, and whether to try them as a whole: worth it if
 * less than one failure in two tries is to be expected of so many.
 *
 * Where constraints can be deferred, each trial of a search checks all that the
 * batches before it have deferred; so there is only one search, of all accounts.
 */
int
sd_choose_batch(Run *run, bool *whole)
{
	int64		tried = run->results.deleted + run->results.failed;
	int64		share = run->commits ? 0 : tried / SD_BATCH_SHARE;
	int64		largest = within_memory(run, Min(Max(run->batch_size, share),
												 SD_MAX_BATCH_SIZE));
	int64		size = Min(largest, run->pace.size);

	if (run->failed_in_search > 0)
		size = Min(size, tried / (2 * run->failed_in_search));

	if (run->commits)
	{
		/* accounts that refer to each other can only go together */
		int			least = sd_has_related_accounts(run->plan) ? SD_FIRST_BATCH_SIZE : 1;

		*whole = size >= Min(run->pace.size, largest);
		return Min(Max(run->pace.size, least), largest);
	}
	*whole = size >= Min(largest, Max(SD_FIRST_BATCH_SIZE, share));
	if (*whole)
		return size;
	return run->can_defer ? within_memory(run, SD_MAX_BATCH_SIZE) : largest;
}

/*
 * How many of so many accounts may be in a batch, by the memory that the last
 * one took, and by what each needs for counters, with however many tables
 */
static int64
within_memory(Run *run, int64 naccounts)
{
	naccounts = Min(naccounts, SD_MAX_COUNTERS /
					(sizeof(int64) * list_length(run->plan->steps)));
	if (run->pace.memory * naccounts <= SD_MAX_MEMORY)
		return naccounts;
	return Max((int64) (SD_MAX_MEMORY / run->pace.memory), 1);
}

/* How many accounts the next batch may have, whatever the pace becomes until then */
int
sd_largest_batch(Run *run)
{
	int			least = sd_has_related_accounts(run->plan) ? SD_FIRST_BATCH_SIZE : 1;

	if (run->is_drained && run->tries_uncertain)
		return sd_next_uncertain_batch(run);
	return Min(Max(SD_CALM_GROWTH * run->pace.size, least), run->batch_size);
}

/* A batch was deleted, but for single accounts */
void
sd_batch_was_deleted(Run *run, int naccounts)
{
	if (!run->commits)
		run->pace.size = Max(run->pace.size,
							 Min(naccounts, SD_MAX_BATCH_SIZE / SD_GROWTH) * SD_GROWTH);
}

/* A batch failed as a whole, and nothing was done */
void
sd_batch_failed(Run *run, int naccounts)
{
	run->pace.size = Max(naccounts / SD_BATCH_SHARE, SD_FIRST_BATCH_SIZE);
}

/*
 * A batch of so many accounts was committed, and took so many microseconds:
 * "calm" if it met no lock of others.
 */
void
sd_adapt_pace(Run *run, int naccounts, int64 time, bool calm)
{
	Pace	   *pace = &run->pace;
	double		n = naccounts;
	double		each;
	double		wanted;

	if (!calm)
	{
		pace->size = Max(Min(pace->size, naccounts) / 2, 1);
		return;
	}
	if (pace->last_size > 0 &&
		(n > pace->last_size * SD_OTHER_SIZE || pace->last_size > n * SD_OTHER_SIZE))
	{
		double		slope = (time - pace->last_time) / (n - pace->last_size);

		pace->fixed = slope > 0 ? Max(time - slope * n, 0) : Min(time, pace->last_time);
	}
	pace->last_size = n;
	pace->last_time = time;

	each = Max(time - pace->fixed, time / 16.0) / n;
	wanted = Max((run->pace.target - pace->fixed) / each, pace->fixed / each);
	if (wanted > pace->size)
		wanted = Min(wanted, SD_CALM_GROWTH * Max(n, 1));
	pace->size = Max((int) Min(wanted, run->batch_size), 1);
	elog(DEBUG1, "scheduled_deletion: %d accounts took %.1f ms, of which %.1f whatever their number; next %d",
		 naccounts, time / 1000.0, pace->fixed / 1000.0, pace->size);
}

/*
 * Microseconds on a clock that nobody puts forward or back, as may happen to the time
 * of day: only how long it is from one to another means anything.
 */
int64
sd_clock(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_MICROSEC(now);
}

/* Do nothing for so many microseconds; a cancel is obeyed */
void
sd_pause(int64 time)
{
	int64		until = sd_clock() + time;

	for (;;)
	{
		int64		left = until - sd_clock();

		CHECK_FOR_INTERRUPTS();
		if (left <= 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(left / 1000 + 1, 60 * 1000), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
