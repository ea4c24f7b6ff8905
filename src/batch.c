/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  One attempt to delete a set of accounts: all of them, or none.
 *
 * An attempt is one subtransaction, in which
 *
 *	lock		the accounts that are still due are locked FOR UPDATE; those that
 *				someone else has locked are skipped, not waited for
 *	holds		(accounts under a hold are to be dropped here, by a statement with
 *				a snapshot of its own)
 *	blockers	accounts that a foreign key outside the plan stops are dropped
 *	steps		their rows are deleted, table by table and column by column
 *	account		and the accounts themselves, if they are due still
 *	audit		one audit row is written for each
 *	prove		no row was kept, and deferred constraints hold
 *
 * Locking the accounts first is what makes the rest safe: whoever inserts a row
 * that references one takes FOR KEY SHARE on it, so has either committed, and
 * is seen by the statements that follow, or waits until the account is gone and
 * fails.  The row locks are held until the transaction ends, or until the
 * subtransaction is rolled back; then everything begins anew from "lock".
 *
 * Rows are counted as they stream by, each given to its account by the btree
 * comparison of its key; none is kept.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/batch.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "scheduled_deletion.h"

typedef struct Attempt
{
	Run		   *run;
	Account   **accounts;		/* those still in it, sorted by key */
	int			naccounts;
	ArrayType  *keys;			/* theirs */
	const char *doing;			/* what is being done now ... */
	Oid			table;			/* ... to which table, if to one */
} Attempt;

/* What to do with a row, once it is known whose it is */
typedef void (*AccountRow) (Account *account, TupleTableSlot *slot, void *arg);

/* A receiver of rows whose first column is a key */
typedef struct AccountReceiver
{
	DestReceiver pub;
	Attempt    *attempt;
	KeyMatch   *match;			/* of that column */
	AccountRow	row;
	void	   *arg;			/* passed to it */
	Account    *last;			/* found for the row before; rows come in runs */
	MemoryContext row_context;	/* reset for each row */
} AccountReceiver;

static bool attempt_body(void *arg);
static void check_session_is_unchanged(Run *run);
static void set_doing(Attempt *attempt, const char *doing, Oid table);
static void lock_accounts(Attempt *attempt);
static void drop_blocked_accounts(Attempt *attempt);
static void delete_rows(Attempt *attempt);
static bool accounts_are_gone(Attempt *attempt);
static bool rows_are_gone(Attempt *attempt);
static bool fail_found(Attempt *attempt, Oid constraint, Oid table);
static void tally(Attempt *attempt);
static void take_pending(Attempt *attempt, Account **accounts, int naccounts);
static int	compare_accounts(const void *a, const void *b, void *arg);
static void for_each_row(Attempt *attempt, PlanStatement *statement,
						 int expected, KeyMatch *match, AccountRow row,
						 void *arg);
static bool receive_row(TupleTableSlot *slot, DestReceiver *self);
static Account *find_account(AccountReceiver *receiver, Datum value);
static void mark_locked(Account *account, TupleTableSlot *slot, void *arg);
static void mark_found(Account *account, TupleTableSlot *slot, void *arg);
static void count_row(Account *account, TupleTableSlot *slot, void *arg);
static bool check_constraints_now(void *arg);

/*
 * Ask a statement that returns keys and due times for accounts, which are
 * pending, and belong to the current memory context.
 */
Account *
sd_pick_accounts(Run *run, PlanStatement *pick, Datum *values,
				 const char *nulls, int *naccounts)
{
	DeletionPlan *plan = run->plan;
	Account    *accounts;
	int64	   *deleted;

	*naccounts = sd_execute(pick, SPI_OK_SELECT, values, nulls, NULL);
	accounts = palloc0(sizeof(Account) * Max(*naccounts, 1));
	deleted = palloc_extended(sizeof(int64) * plan->nsteps * Max(*naccounts, 1),
							  MCXT_ALLOC_HUGE);

	for (int i = 0; i < *naccounts; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	tupdesc = SPI_tuptable->tupdesc;
		bool		is_null;

		accounts[i].key = datumCopy(SPI_getbinval(tuple, tupdesc, 1, &is_null),
									plan->key_typbyval, plan->key_typlen);
		accounts[i].due = DatumGetTimestampTz(SPI_getbinval(tuple, tupdesc, 2,
															&is_null));
		accounts[i].deleted = deleted + (int64) i * plan->nsteps;
	}
	SPI_freetuptable(SPI_tuptable);
	return accounts;
}

/*
 * Try to delete those of the accounts that are pending; what is done is kept
 * if "keep" is set, and else was only a trial.
 *
 * Returns true if there was no error.  Then each account is DELETED (if "keep"
 * is set; else PENDING still) or, by what a query said of it, SKIPPED, GONE or
 * FAILED.  Returns false, with nothing deleted, if there was an error that may
 * be any of the pending accounts' or not theirs at all.  An error that is the
 * run's is thrown.
 */
bool
sd_attempt(Run *run, Account **accounts, int naccounts, bool keep,
		   Failure **failure)
{
	MemoryContext caller_context = CurrentMemoryContext;
	MemoryContext attempt_context;
	Attempt		attempt = {.run = run};
	ErrorData  *error;
	bool		done;

	attempt_context = AllocSetContextCreate(run->batch_context,
											"scheduled_deletion attempt",
											ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(attempt_context);

	/* after each round, at least one account fewer is pending */
	do
	{
		take_pending(&attempt, accounts, naccounts);
		if (attempt.naccounts == 0)
		{
			error = NULL;
			break;
		}
		error = sd_in_subtransaction(attempt_body, &attempt, keep, &done);
	} while (error == NULL && !done);

	MemoryContextSwitchTo(run->batch_context);
	if (error != NULL)
	{
		*failure = sd_failure_from_error(error, attempt.doing, attempt.table);
		(*failure)->while_auditing =
			attempt.table == run->plan->policy->audit_table;
		if ((*failure)->kind == SD_RUN_FAILURE)
			sd_throw_failure(*failure);
	}
	else if (attempt.naccounts > 0)
	{
		run->any_success = true;
		run->equal_failures = 0;
		if (keep)
			tally(&attempt);
	}

	MemoryContextSwitchTo(caller_context);
	MemoryContextDelete(attempt_context);
	return error == NULL;
}

/* Look once at what every attempt of the run has to know */
void
sd_prepare_batches(Run *run)
{
	PlanStatement deferrable = {.query =
		"SELECT FROM pg_catalog.pg_trigger WHERE tgdeferrable LIMIT 1"
	};

	sd_prepare(&deferrable);
	run->can_defer = sd_execute(&deferrable, SPI_OK_SELECT, NULL, NULL,
								NULL) > 0;

	/* it checks what is pending, too */
	run->check_deferred.query = "SET CONSTRAINTS ALL IMMEDIATE";
	sd_prepare(&run->check_deferred);

	run->user_id = GetUserId();
}

/*
 * The error that a deferred constraint would raise at COMMIT, or NULL.
 *
 * Checked in a subtransaction that is rolled back: if it were released, the
 * constraints would stay immediate for the caller.
 */
ErrorData *
sd_deferred_error(Run *run)
{
	bool		done;

	if (!run->can_defer)
		return NULL;
	return sd_in_subtransaction(check_constraints_now, run, false, &done);
}

static bool
check_constraints_now(void *arg)
{
	Run		   *run = arg;

	sd_execute(&run->check_deferred, SPI_OK_UTILITY, NULL, NULL, NULL);
	return true;
}

/*
 * The attempt itself, inside its subtransaction.  False, so that it is rolled
 * back, if none of the accounts can be deleted, or if a trigger or rule kept a
 * row: then the accounts that it belongs to are FAILED.
 */
static bool
attempt_body(void *arg)
{
	Attempt    *attempt = arg;
	ErrorData  *error;

	lock_accounts(attempt);
	drop_blocked_accounts(attempt);
	if (attempt->naccounts == 0)
		return false;

	delete_rows(attempt);
	if (!accounts_are_gone(attempt))
		return false;

	set_doing(attempt, "writing audit rows to",
			  attempt->run->plan->policy->audit_table);
	sd_write_audit_rows(attempt->run, attempt->accounts, attempt->naccounts);

	if (!rows_are_gone(attempt))
		return false;
	set_doing(attempt,
			  "checking that role and session_replication_role are as they were",
			  InvalidOid);
	check_session_is_unchanged(attempt->run);
	set_doing(attempt, "checking deferred constraints", InvalidOid);
	error = sd_deferred_error(attempt->run);
	if (error != NULL)
		ReThrowError(error);
	return true;
}

/*
 * A trigger that changes who deletes, or whether foreign keys are checked, makes
 * all that is proved here worthless.
 */
static void
check_session_is_unchanged(Run *run)
{
	if (GetUserId() != run->user_id ||
		SessionReplicationRole != SESSION_REPLICATION_ROLE_ORIGIN)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role or session_replication_role was changed")));
}

/* Note what an error would interrupt */
static void
set_doing(Attempt *attempt, const char *doing, Oid table)
{
	attempt->doing = doing;
	attempt->table = table;
}

/*
 * Lock the accounts that are due under the lock.  Of the others, those that
 * still look due are locked by someone else.
 */
static void
lock_accounts(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	KeyMatch   *match = &plan->steps[plan->nsteps - 1].columns[0].match;
	Attempt		missing = *attempt;

	set_doing(attempt, "locking rows of", plan->policy->account_table);
	for_each_row(attempt, &plan->lock, SPI_OK_SELECT, match, mark_locked,
				 NULL);

	missing.accounts = palloc(sizeof(Account *) * attempt->naccounts);
	missing.naccounts = 0;
	for (int i = 0; i < attempt->naccounts; i++)
	{
		if (!attempt->accounts[i]->found)
			missing.accounts[missing.naccounts++] = attempt->accounts[i];
	}
	if (missing.naccounts == 0)
		return;

	missing.keys = sd_key_array(plan, missing.accounts, missing.naccounts);
	for_each_row(&missing, &plan->still_due, SPI_OK_SELECT, match, mark_found,
				 NULL);
	for (int i = 0; i < missing.naccounts; i++)
		missing.accounts[i]->state = missing.accounts[i]->found ?
			SD_SKIPPED : SD_GONE;
	take_pending(attempt, attempt->accounts, attempt->naccounts);
}

/*
 * Drop the accounts that a foreign key outside the plan stops: told before
 * anything is deleted, they cost no attempt.
 */
static void
drop_blocked_accounts(Attempt *attempt)
{
	ListCell   *lc;

	foreach(lc, attempt->run->plan->blockers)
	{
		PlanBlocker *blocker = lfirst(lc);

		if (attempt->naccounts == 0)
			return;
		set_doing(attempt, "reading", blocker->table);
		for_each_row(attempt, &blocker->find, SPI_OK_SELECT,
					 &blocker->column->match, mark_found, NULL);
		if (fail_found(attempt, blocker->constraint, blocker->table))
			take_pending(attempt, attempt->accounts, attempt->naccounts);
	}
}

/*
 * Delete the rows of the accounts, and the accounts, which is the last step.  A
 * row that two columns of a step lead to goes with the first, and is counted
 * for its account only.
 */
static void
delete_rows(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;

	for (int i = 0; i < attempt->naccounts; i++)
		memset(attempt->accounts[i]->deleted, 0, sizeof(int64) * plan->nsteps);

	for (int i = 0; i < plan->nsteps; i++)
	{
		PlanStep   *step = &plan->steps[i];

		set_doing(attempt, "deleting from", step->table);
		for (int j = 0; j < step->ncolumns; j++)
			for_each_row(attempt, &step->columns[j].delete,
						 SPI_OK_DELETE_RETURNING, &step->columns[j].match,
						 count_row, &i);
	}
}

/* Was every account deleted that was claimed?  If not, those are FAILED. */
static bool
accounts_are_gone(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;

	for (int i = 0; i < attempt->naccounts; i++)
	{
		Account    *account = attempt->accounts[i];

		account->found = account->deleted[plan->nsteps - 1] != 1;
	}
	return !fail_found(attempt, InvalidOid, plan->policy->account_table);
}

/*
 * Where a trigger or a rule could have kept a row of a step, is none left?  If
 * there is, its accounts are FAILED.
 */
static bool
rows_are_gone(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	bool		result = true;

	for (int i = 0; i < plan->nsteps - 1; i++)
	{
		PlanStep   *step = &plan->steps[i];

		if (!step->can_keep_rows)
			continue;
		set_doing(attempt, "reading", step->table);
		for (int j = 0; j < step->ncolumns; j++)
		{
			for_each_row(attempt, &step->columns[j].left, SPI_OK_SELECT,
						 &step->columns[j].match, mark_found, NULL);
			if (fail_found(attempt, InvalidOid, step->table))
				result = false;
		}
	}
	return result;
}

/*
 * Fail the accounts that the last query found, because a foreign key stops them
 * or, without one, because rows of the table were kept.  False if it found none.
 */
static bool
fail_found(Attempt *attempt, Oid constraint, Oid table)
{
	MemoryContext caller_context;
	Failure    *failure = NULL;

	caller_context = MemoryContextSwitchTo(attempt->run->batch_context);
	for (int i = 0; i < attempt->naccounts; i++)
	{
		Account    *account = attempt->accounts[i];

		if (!account->found)
			continue;
		if (failure == NULL)
			failure = OidIsValid(constraint) ?
				sd_blocked_failure(constraint, table) :
				sd_kept_rows_failure(table);
		account->state = SD_FAILED;
		account->failure = failure;
	}
	MemoryContextSwitchTo(caller_context);
	return failure != NULL;
}

/* Add accounts that are deleted for good to the results of the run */
static void
tally(Attempt *attempt)
{
	Run		   *run = attempt->run;

	for (int i = 0; i < attempt->naccounts; i++)
	{
		attempt->accounts[i]->state = SD_DELETED;
		for (int j = 0; j < run->plan->nsteps; j++)
			run->deleted_records[j] += attempt->accounts[i]->deleted[j];
	}
}

/* Make the pending ones of these accounts those of the attempt */
static void
take_pending(Attempt *attempt, Account **accounts, int naccounts)
{
	DeletionPlan *plan = attempt->run->plan;
	Account   **pending = palloc(sizeof(Account *) * Max(naccounts, 1));

	attempt->naccounts = 0;
	for (int i = 0; i < naccounts; i++)
	{
		if (accounts[i]->state == SD_PENDING)
			pending[attempt->naccounts++] = accounts[i];
	}
	qsort_arg(pending, attempt->naccounts, sizeof(Account *),
			  compare_accounts, plan);
	attempt->accounts = pending;
	attempt->keys = sd_key_array(plan, pending, attempt->naccounts);
}

static int
compare_accounts(const void *a, const void *b, void *arg)
{
	DeletionPlan *plan = arg;

	return DatumGetInt32(FunctionCall2Coll(&plan->key_compare,
										   plan->key_collation,
										   (*(Account *const *) a)->key,
										   (*(Account *const *) b)->key));
}

/*
 * Execute a statement for the accounts of the attempt, and call row() for each
 * row that it returns, with the account whose key is in its first column.
 */
static void
for_each_row(Attempt *attempt, PlanStatement *statement, int expected,
			 KeyMatch *match, AccountRow row, void *arg)
{
	Datum		values[] = {PointerGetDatum(attempt->keys),
	TimestampTzGetDatum(attempt->run->started_at)};
	AccountReceiver receiver = {
		.pub = *None_Receiver,
		.attempt = attempt,
		.match = match,
		.row = row,
		.arg = arg
	};

	receiver.pub.receiveSlot = receive_row;
	receiver.pub.mydest = DestTuplestore;	/* all that SPI asks: not DestSPI */

	for (int i = 0; i < attempt->naccounts; i++)
		attempt->accounts[i]->found = false;

	receiver.row_context = AllocSetContextCreate(CurrentMemoryContext,
												 "scheduled_deletion row",
												 ALLOCSET_SMALL_SIZES);
	sd_execute(statement, expected, values, NULL, &receiver.pub);
	MemoryContextDelete(receiver.row_context);
}

/* Give a row to its account */
static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	AccountReceiver *receiver = (AccountReceiver *) self;
	MemoryContext caller_context = MemoryContextSwitchTo(receiver->row_context);
	bool		is_null;
	Datum		value = slot_getattr(slot, 1, &is_null);

	receiver->last = find_account(receiver, value);
	MemoryContextSwitchTo(caller_context);
	MemoryContextReset(receiver->row_context);

	receiver->row(receiver->last, slot, receiver->arg);
	return true;
}

/* The account with the key that equals a value, which must be there */
static Account *
find_account(AccountReceiver *receiver, Datum value)
{
	Attempt    *attempt = receiver->attempt;
	DeletionPlan *plan = attempt->run->plan;
	int			low = 0;
	int			high = attempt->naccounts - 1;

#define COMPARE(account) \
	DatumGetInt32(FunctionCall2Coll(&receiver->match->compare, \
									plan->key_collation, value, \
									(account)->key))

	if (receiver->last != NULL && COMPARE(receiver->last) == 0)
		return receiver->last;

	while (low <= high)
	{
		int			middle = low + (high - low) / 2;
		int			result = COMPARE(attempt->accounts[middle]);

		if (result == 0)
			return attempt->accounts[middle];
		if (result < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
#undef COMPARE

	elog(ERROR, "a statement touched a row of an account that is not in its batch");
}

/* The account is locked: what was picked may have changed since */
static void
mark_locked(Account *account, TupleTableSlot *slot, void *arg)
{
	bool		is_null;

	account->found = true;
	account->due = DatumGetTimestampTz(slot_getattr(slot, 2, &is_null));
}

static void
mark_found(Account *account, TupleTableSlot *slot, void *arg)
{
	account->found = true;
}

/* A row of the step whose number arg points to */
static void
count_row(Account *account, TupleTableSlot *slot, void *arg)
{
	account->deleted[*(int *) arg]++;
}
