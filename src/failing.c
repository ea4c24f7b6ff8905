/*-------------------------------------------------------------------------
 *
 * failing.c
 *	  Accounts that have failed before: deletion_failure remembers them, so that
 *	  they are tried last, and not before some time has passed.
 *
 * A run asks of the accounts that it picks which are remembered, and leaves those
 * out.  It tries those whose time has come when nothing else is due, in their
 * order and in small batches: however many are remembered, they keep no other
 * account from being deleted, and cost a batch of others nearly nothing.  The time
 * between two attempts doubles, up to twelve hours, so that each nightly run tries
 * them all.
 *
 * Last come those whose fault it may not be, each alone: one of them may end each
 * run that tries it.
 *
 * How they are read is in failing_read.c, what is written of them in failing_write.c.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/failing.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run.h"

/*
 * Accounts that are tried together; most of them will fail again.  Where
 * constraints can be deferred, each try checks all that the run has deferred
 * before.
 */
#define FAILING_BATCH		512
#define SMALL_FAILING_BATCH	64

/* so many of those whose fault it may not be are tried alone */
#define MANY_UNCERTAIN		64

/* so few that each run looks at all of them at its end */
#define FEW_REMEMBERED	256

/* what they may take at least, in microseconds */
#define LEAST_TIME		(10 * USECS_PER_SEC)

static void look_at_all(Run *run,
						void (*look) (Run *run, Account *account, int64 *count),
						int64 *count);
static void count_due(Run *run, Account *account, int64 *count);
static bool are_left(Run *run);
static bool was_tried(Run *run, Account *account);
static bool is_passed(Run *run, Account *account);
static bool is_waiting(Run *run, Account *account);
static void count_if_waiting(Run *run, Account *account, int64 *count);
static bool count_waiting_of_due(Run *run);

/*
 * How many accounts are due that have failed before; not those that only may have.
 * All are looked at: the caller would else stop the run.
 */
int64
sd_count_failing_due(Run *run)
{
	int64		ndue = 0;

	if (run->has_failing)
		look_at_all(run, count_due, &ndue);
	return ndue;
}

/*
 * Look at all accounts of the policy that are remembered, some at a time: which
 * are due is "found"
 */
static void
look_at_all(Run *run, void (*look) (Run *run, Account *account, int64 *count),
			int64 *count)
{
	FailingPosition position = {0};
	Remembered	remembered;
	MemoryContext caller_context = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "scheduled_deletion failing",
												  ALLOCSET_DEFAULT_SIZES);

	do
	{
		Account   **accounts;

		MemoryContextSwitchTo(context);
		sd_read_remembered(run, &remembered, &position);
		accounts = palloc(sizeof(Account *) * Max(remembered.naccounts, 1));
		for (int i = 0; i < remembered.naccounts; i++)
			accounts[i] = &remembered.accounts[i];
		if (remembered.naccounts > 0)
			sd_find_due(run, accounts, remembered.naccounts);
		for (int i = 0; i < remembered.naccounts; i++)
			look(run, accounts[i], count);
		MemoryContextSwitchTo(caller_context);
		MemoryContextReset(context);
	} while (!remembered.is_last);
	MemoryContextDelete(context);
}

static void
count_due(Run *run, Account *account, int64 *count)
{
	*count += account->found && account->attempts > 0;
}

/*
 * Accounts that have failed before and whose time has come, to be tried again;
 * returns how many: no more than fit into a batch.
 */
int
sd_copy_failing(Run *run, Account **accounts)
{
	Remembered	remembered = {0};

	for (int i = 0; i < (run->uncertain != 0 ? 2 : 1) && run->has_failing &&
		 remembered.naccounts == 0; i++)
	{
		FailingPosition first = {0};

		sd_read_to_be_tried(run, &remembered, i == 1, &first, FAILING_BATCH);
	}
	*accounts = remembered.accounts;
	return remembered.naccounts;
}

/*
 * May accounts that have failed before be tried, and are there any whose time
 * has come? If that takes longer than all that went before, the others are left
 * to the next run, which begins with them.  Those whose fault it may not be come
 * last, and all in the same run: most of them can be deleted.
 */
bool
sd_may_try_failing(Run *run)
{
	if (run->until == 0)
	{
		int64		now = sd_clock();

		run->until = now + Max(now - run->began, LEAST_TIME);
	}
	if (!run->has_failing)
		return false;
	if (!run->tries_uncertain)
	{
		if (sd_clock() < run->until && are_left(run))
			return true;
		if (run->uncertain == 0)
			return false;
		run->tries_uncertain = true;
	}
	return are_left(run);
}

/* Are there any to be tried of those whose turn it is? */
static bool
are_left(Run *run)
{
	FailingPosition position = run->passed[run->tries_uncertain];
	Remembered	remembered;

	sd_read_to_be_tried(run, &remembered, run->tries_uncertain, &position, 1);
	return remembered.nrows > 0;
}

/* Try a batch of them, no more than so many */
void
sd_try_failing(Run *run, int64 limit)
{
	Account    *accounts;
	int			n;

	if (!run->tries_failing)
	{
		run->tries_failing = true;
		run->searched = 0;
		run->failed_in_search = 0;
	}
	MemoryContextReset(run->batch_context);
	MemoryContextSwitchTo(run->batch_context);
	limit = Min(limit, run->can_defer ? SMALL_FAILING_BATCH : FAILING_BATCH);
	if (run->tries_uncertain)
		limit = Min(limit, sd_next_uncertain_batch(run));
	if (run->commits)
		limit = Min(limit, Min(run->batch_size, run->pace.size));
	if (run->announced > 0)
		limit = Min(limit, run->announced);
	if (limit > 0)
	{
		n = sd_next_failing(run, &accounts, limit);
		if (run->tries_uncertain)
			run->tried_uncertain += n;
		if (n > 0)
			(void) sd_delete_batch(run, accounts, n, false);
		if (run->is_outdated)
			sd_record_tried(run, accounts, n);
		else
			sd_record_results(run, accounts, n);
	}
	MemoryContextSwitchTo(run->transaction_context);
}

/*
 * How many accounts to try together of which one may end the run: each alone, unless
 * they are many, so that it takes few of the others along
 */
int
sd_next_uncertain_batch(Run *run)
{
	if (sd_has_related_accounts(run->plan))
		return SMALL_FAILING_BATCH;
	return 1 + run->tried_uncertain / MANY_UNCERTAIN;
}

/* The next ones to be tried, no more than so many; returns how many */
int
sd_next_failing(Run *run, Account **accounts, int limit)
{
	Remembered	remembered;

	sd_read_to_be_tried(run, &remembered, run->tries_uncertain,
						&run->passed[run->tries_uncertain], limit);
	*accounts = remembered.accounts;
	return remembered.naccounts;
}

/*
 * Was an account tried since the run began, by it or by another?  What is to
 * come was written when the clock was wrong.
 */
static bool
was_tried(Run *run, Account *account)
{
	return account->last_attempt_at >= run->started_at &&
		account->last_attempt_at <= GetCurrentTimestamp();
}

/* Has the run come to an account, in the order in which they are tried? */
static bool
is_passed(Run *run, Account *account)
{
	FailingPosition *passed = &run->passed[account->uncertain];

	if (!passed->valid)
		return false;
	return account->next_attempt_at < passed->next_attempt_at ||
		(account->next_attempt_at == passed->next_attempt_at &&
		 account->hash <= passed->hash);
}

/*
 * Does an account wait that is due and has failed before?  Those that were to be
 * tried, and have not been for want of time, wait for the next run; but not where
 * the run was ended otherwise.
 */
static bool
is_waiting(Run *run, Account *account)
{
	return !was_tried(run, account) &&
		(account->next_attempt_at > run->started_at ||
		 (strcmp(run->stop_reason, "drained") == 0 && !is_passed(run, account)));
}

/*
 * Count the accounts that wait, in a run that has ended, and note which are not
 * due any more.  Where many are remembered, and few accounts are due, only those
 * are asked for: who is not due any more is then noted when its time comes.
 */
void
sd_count_waiting(Run *run)
{
	Oid			argtypes[] = {TEXTOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(run->policy->name),
	Int32GetDatum(FEW_REMEMBERED + 1)};

	if (!run->has_failing)
		return;
	if (sd_execute_as_owner(run->policy->schema,
							psprintf("SELECT FROM %s WHERE policy OPERATOR(pg_catalog.=) $1 LIMIT $2",
									 sd_own_table(run->policy->schema, "deletion_failure")),
							SPI_OK_SELECT, lengthof(argtypes), argtypes,
							values, NULL) > FEW_REMEMBERED)
	{
		/* who is due was picked, and all of them were asked for */
		if (run->is_drained && !run->meets_failing)
			return;
		if (count_waiting_of_due(run))
			return;
	}
	look_at_all(run, count_if_waiting, &run->results.waiting);
}

static void
count_if_waiting(Run *run, Account *account, int64 *count)
{
	if (!is_waiting(run, account))
		return;
	if (account->found)
		(*count)++;
	else
		sd_note_gone(run, account);
}

/* The same by the accounts that are due; false if they are not few */
static bool
count_waiting_of_due(Run *run)
{
	int			n;
	Account    *accounts = sd_pick_first_accounts(run, FEW_REMEMBERED + 1, &n);

	if (n > FEW_REMEMBERED)
		return false;
	(void) sd_find_failing(run, accounts, n);
	sd_ask_about(run, accounts, n);
	for (int i = 0; i < n; i++)
	{
		if (accounts[i].has_failed && is_waiting(run, &accounts[i]) &&
			!sd_is_held(run, &accounts[i]))
			run->results.waiting++;
	}
	sd_forget_asked(run);
	return true;
}
