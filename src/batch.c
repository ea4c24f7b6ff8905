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
 *	collect		the rows that others refer to are read, link by link, until no
 *				new ones are found; the keys of all are the parameters of what
 *				follows
 *	blockers	accounts that a foreign key stops are dropped; then, since rows of
 *				theirs may have let others go, the rows are collected anew
 *	steps		the rows are deleted, set to null, or counted, stage by stage, and
 *				with their stage the accounts themselves, if they are due still
 *	audit		one audit row is written for each
 *	prove		no row was kept, those collected are those deleted, and deferred
 *				constraints hold
 *
 * Locking the accounts first is what makes the rest safe: whoever inserts a row
 * that references one takes FOR KEY SHARE on it, so has either committed, and
 * is seen by the statements that follow, or waits until the account is gone and
 * fails.  The row locks are held until the transaction ends, or until the
 * subtransaction is rolled back; then everything begins anew from "lock".
 *
 * Rows of a step are not locked when they are collected, as long as no cascade
 * leads from them to accounts.  One that has been given to somebody else when it
 * is to be deleted stays; then its children must, too, so the attempt fails.
 *
 * Rows are counted as they stream by, each given to its account by the btree
 * comparison of its key; only those that others refer to are kept.
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
	Account   **accounts;		/* those still in it */
	int			naccounts;
	RowSet	  **sets;			/* by step: its rows; NULL if none refer to
								 * them */
	MemoryContext context;		/* of the accounts' set, and all else */
	MemoryContext rows_context; /* of the other sets */
	int		   *seen;			/* by link: rows that it leads to, and that
								 * were asked for rows that lead to them */
	const char *doing;			/* what is being done now ... */
	Oid			table;			/* ... to which table, if to one */
} Attempt;

/* What to do with a row that a statement returns */
typedef void (*RowHandler) (Attempt *attempt, TupleTableSlot *slot, void *arg);

typedef struct RowReceiver
{
	DestReceiver pub;
	Attempt    *attempt;
	RowHandler	handler;
	void	   *arg;			/* passed to it */
	MemoryContext row_context;	/* reset for each row */
} RowReceiver;

/* Rows of a step that a link has just led to */
typedef struct Collected
{
	PlanLink   *link;
	List	   *rows;			/* Row * */
} Collected;

static bool attempt_body(void *arg);
static void check_session_is_unchanged(Run *run);
static void set_doing(Attempt *attempt, const char *doing, Oid table);
static void lock_accounts(Attempt *attempt);
static void collect_rows(Attempt *attempt);
static bool collect_from(Attempt *attempt, PlanStep *step);
static bool drop_blocked_accounts(Attempt *attempt);
static bool execute_steps(Attempt *attempt);
static bool execute_deletes(Attempt *attempt, PlanStage *stage);
static void execute_counts(Attempt *attempt, PlanStep *step);
static bool has_rows(Attempt *attempt, PlanLink *link);
static bool accounts_are_gone(Attempt *attempt);
static bool rows_are_gone(Attempt *attempt);
static bool rows_of_step_are_gone(Attempt *attempt, PlanStep *step);
static void check_collected_are_gone(Attempt *attempt);
pg_noreturn static void throw_changed_rows(PlanStep *step);
static bool fail_found(Attempt *attempt, Oid constraint, Oid table);
static void forget_blocked(Account **accounts, int naccounts);
static void tally(Attempt *attempt);
static void take_pending(Attempt *attempt, Account **accounts, int naccounts);
static Datum *bind(Run *run, Attempt *attempt, PlanStatement *statement,
				   Datum *caller_values, PlanLink *collected);
static uint64 for_each_row(Attempt *attempt, PlanStatement *statement,
						   int expected, PlanLink *collected,
						   RowHandler handler, void *arg);
static bool receive_row(TupleTableSlot *slot, DestReceiver *self);
static Row *row_of_link(Attempt *attempt, PlanLink *link, TupleTableSlot *slot,
						int column);
static Row *must_be_there(Row *row);
static void locked_row(Attempt *attempt, TupleTableSlot *slot, void *arg);
static void found_row(Attempt *attempt, TupleTableSlot *slot, void *arg);
static void collected_row(Attempt *attempt, TupleTableSlot *slot, void *arg);
static void counted_row(Attempt *attempt, TupleTableSlot *slot, void *arg);
static void expected_row(Attempt *attempt, TupleTableSlot *slot, void *arg);
static void deleted_row(Attempt *attempt, TupleTableSlot *slot, void *arg);
static void mark_deleted(Attempt *attempt, PlanStep *step,
						 TupleTableSlot *slot, int column);
static bool check_constraints_now(void *arg);

/*
 * Ask a statement that returns keys and due times for accounts, which are
 * pending, and belong to the current memory context.  The values are those that
 * the caller has to give.
 */
Account *
sd_pick_accounts(Run *run, PlanStatement *pick, Datum *values,
				 const char *nulls, int *naccounts)
{
	DeletionPlan *plan = run->plan;
	int			nkeys = plan->key->ncolumns;
	int			nvalues = plan->account->nvalues;
	int			nsteps = list_length(plan->steps);
	int			n = sd_execute(pick, SPI_OK_SELECT,
							   bind(run, NULL, pick, values, NULL), nulls, NULL);
	Account    *accounts = palloc0(sizeof(Account) * Max(n, 1));
	int64	   *rows = palloc_extended(sizeof(int64) * nsteps * Max(n, 1),
									   MCXT_ALLOC_HUGE);

	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	tupdesc = SPI_tuptable->tupdesc;
		Account    *account = &accounts[i];
		bool		is_null;

		account->key = palloc(sizeof(Datum) * nvalues);
		account->nulls = palloc(sizeof(bool) * nvalues);
		memset(account->nulls, true, sizeof(bool) * nvalues);
		for (int j = 0; j < nkeys; j++)
		{
			KeyColumn  *column = &plan->key->columns[j];
			Datum		value = SPI_getbinval(tuple, tupdesc, j + 1,
											  &account->nulls[j]);

			account->key[j] = datumCopy(value, column->typbyval,
										column->typlen);
		}
		account->due = SPI_getbinval(tuple, tupdesc, nkeys + 1, &is_null);
		account->rows = rows + (int64) i * nsteps;
	}
	SPI_freetuptable(SPI_tuptable);
	*naccounts = n;
	return accounts;
}

/*
 * Try to delete those of the accounts that are pending; what is done is kept
 * if "keep" is set, and else was only a trial.
 *
 * Returns true if there was no error.  Then each account is DELETED (if "keep"
 * is set; else PENDING still) or, by what a query said of it, SKIPPED, GONE or
 * FAILED; only not FAILED by a key that stops it, if this was a trial.  Returns false, with nothing deleted, if there was an error that may
 * be any of the pending accounts' or not theirs at all.  An error that is the
 * run's is thrown.
 */
bool
sd_attempt(Run *run, Account **accounts, int naccounts, bool keep,
		   Failure **failure)
{
	MemoryContext caller_context = CurrentMemoryContext;
	Attempt		attempt = {.run = run};
	ErrorData  *error;
	bool		done;

	attempt.context = AllocSetContextCreate(run->batch_context,
											"scheduled_deletion attempt",
											ALLOCSET_DEFAULT_SIZES);
	attempt.rows_context = AllocSetContextCreate(attempt.context,
												 "scheduled_deletion rows",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(attempt.context);
	attempt.sets = palloc0(sizeof(RowSet *) * list_length(run->plan->steps));
	attempt.seen = palloc(sizeof(int) * run->plan->nlinks);

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

	if (!keep)
		forget_blocked(accounts, naccounts);
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
	MemoryContextDelete(attempt.context);
	return error == NULL;
}

/* Look once at what every attempt of the run has to know */
void
sd_prepare_batches(Run *run)
{
	PlanStatement deferrable = {0};

	initStringInfo(&deferrable.query);
	appendStringInfoString(&deferrable.query,
						   "SELECT FROM pg_catalog.pg_trigger WHERE tgdeferrable LIMIT 1");
	sd_prepare(&deferrable);
	run->can_defer = sd_execute(&deferrable, SPI_OK_SELECT, NULL, NULL,
								NULL) > 0;

	/* it checks what is pending, too */
	initStringInfo(&run->check_deferred.query);
	appendStringInfoString(&run->check_deferred.query,
						   "SET CONSTRAINTS ALL IMMEDIATE");
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
	do
		collect_rows(attempt);
	while (drop_blocked_accounts(attempt));
	if (attempt->naccounts == 0)
		return false;

	if (!execute_steps(attempt) || !accounts_are_gone(attempt))
		return false;

	set_doing(attempt, "writing audit rows to",
			  attempt->run->plan->policy->audit_table);
	sd_write_audit_rows(attempt->run, attempt->accounts, attempt->naccounts);

	if (!rows_are_gone(attempt))
		return false;
	check_collected_are_gone(attempt);
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
	Account   **accounts = attempt->accounts;
	int			naccounts = attempt->naccounts;
	Account   **missing = palloc(sizeof(Account *) * naccounts);
	int			nmissing = 0;

	set_doing(attempt, "locking rows of", plan->policy->account_table);
	for_each_row(attempt, &plan->lock, SPI_OK_SELECT, NULL, locked_row, NULL);

	for (int i = 0; i < naccounts; i++)
	{
		if (!accounts[i]->found)
			missing[nmissing++] = accounts[i];
	}
	if (nmissing > 0)
	{
		take_pending(attempt, missing, nmissing);
		for_each_row(attempt, &plan->still_due, SPI_OK_SELECT, NULL, found_row,
					 plan->self);
		for (int i = 0; i < nmissing; i++)
			missing[i]->state = missing[i]->found ? SD_SKIPPED : SD_GONE;
	}
	take_pending(attempt, accounts, naccounts);
}

/*
 * Collect the rows to be deleted that others refer to, from the accounts
 * outwards, until no link leads to a new one.
 */
static void
collect_rows(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	MemoryContext caller_context = MemoryContextSwitchTo(attempt->rows_context);
	bool		found;
	ListCell   *lc;

	MemoryContextReset(attempt->rows_context);
	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step != plan->account && step->keys != NIL)
			attempt->sets[step->number] = sd_make_rows(step);
	}
	memset(attempt->seen, 0, sizeof(int) * plan->nlinks);

	/* what is deleted last is what the others refer to */
	do
	{
		found = false;
		for (int i = list_length(plan->stages) - 1; i >= 0; i--)
		{
			PlanStage  *stage = list_nth(plan->stages, i);

			foreach(lc, stage->steps)
				found |= collect_from(attempt, lfirst(lc));
		}
	} while (found);
	MemoryContextSwitchTo(caller_context);
}

/* Collect the rows of a step that lead to rows which are new; any? */
static bool
collect_from(Attempt *attempt, PlanStep *step)
{
	RowSet	   *set = attempt->sets[step->number];
	bool		found = false;
	ListCell   *lc;

	if (set == NULL || step->action != SD_DELETE)
		return false;

	foreach(lc, step->links)
	{
		PlanLink   *link = lfirst(lc);
		int			nrows = sd_count_rows(attempt->sets[link->key->step->number]);
		Collected	collected = {.link = link};
		ListCell   *cell;

		if (attempt->seen[link->number] == nrows)
			continue;
		set_doing(attempt, "reading", step->table);
		for_each_row(attempt, &link->collect, SPI_OK_SELECT, link,
					 collected_row, &collected);
		attempt->seen[link->number] = nrows;
		foreach(cell, collected.rows)
		{
			sd_add_row(set, lfirst(cell));
			found = true;
		}
		list_free(collected.rows);
	}
	return found;
}

/*
 * Drop the accounts that a foreign key stops: told before anything is deleted,
 * they cost no attempt.  True if there were any, and others are left.
 */
static bool
drop_blocked_accounts(Attempt *attempt)
{
	bool		dropped = false;
	ListCell   *lc;

	foreach(lc, attempt->run->plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		if (step->action != SD_BLOCK)
			continue;
		foreach(cell, step->links)
		{
			PlanLink   *link = lfirst(cell);

			if (!link->is_asked || !has_rows(attempt, link))
				continue;
			set_doing(attempt, "reading", step->table);
			for_each_row(attempt, &link->find, SPI_OK_SELECT, NULL, found_row,
						 link);
			dropped |= fail_found(attempt, link->constraint, step->table);
		}
	}
	if (dropped)
		take_pending(attempt, attempt->accounts, attempt->naccounts);
	return dropped && attempt->naccounts > 0;
}

/*
 * Execute the plan, stage by stage, counting the rows of each account.  False if
 * rows were kept: then their accounts are FAILED.
 */
static bool
execute_steps(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	bool		result = true;
	ListCell   *lc;

	for (int i = 0; i < attempt->naccounts; i++)
		memset(attempt->accounts[i]->rows, 0,
			   sizeof(int64) * list_length(plan->steps));

	foreach(lc, plan->stages)
	{
		PlanStage  *stage = lfirst(lc);

		if (stage->deletes == NIL)
			execute_counts(attempt, linitial(stage->steps));
		else if (!execute_deletes(attempt, stage))
			result = false;
	}
	return result;
}

/*
 * Delete the rows of a stage.  A row that two links lead to goes with the first,
 * and is counted for its account only.
 *
 * Where a trigger or rule could keep a row, those to be deleted are counted
 * before: afterwards it may lead to nobody any more.  False if any was kept.
 * (The rows of a circle are known: they were collected.)
 */
static bool
execute_deletes(Attempt *attempt, PlanStage *stage)
{
	PlanStep   *step = llast(stage->steps);
	bool		is_kept = false;
	ListCell   *lc;

	for (int i = 0; i < attempt->naccounts; i++)
		attempt->accounts[i]->kept = 0;
	foreach(lc, stage->deletes)
	{
		PlanDelete *delete = lfirst(lc);
		PlanLink   *link = linitial(((DeletePart *) linitial(delete->parts))->links);

		if (!stage->is_circle)
		{
			if (!has_rows(attempt, link))
				continue;
			set_doing(attempt, "reading", step->table);
			if (step->can_keep_rows)
				for_each_row(attempt, &link->find, SPI_OK_SELECT, NULL,
							 expected_row, link);
		}
		set_doing(attempt, "deleting from", step->table);
		for_each_row(attempt, &delete->statement,
					 list_length(delete->parts) > 1 ?
					 SPI_OK_SELECT : SPI_OK_DELETE_RETURNING,
					 NULL, deleted_row, delete);
	}
	for (int i = 0; i < attempt->naccounts; i++)
		is_kept = is_kept || attempt->accounts[i]->kept > 0;
	if (stage->is_circle || !is_kept)
		return true;

	/* those of another account by now are not kept, but were changed */
	if (!rows_of_step_are_gone(attempt, step))
		return false;
	set_doing(attempt, "deleting from", step->table);
	throw_changed_rows(step);
}

/*
 * Count the rows of a step that stay; set them to null if the server does not
 * do that by itself.
 */
static void
execute_counts(Attempt *attempt, PlanStep *step)
{
	ListCell   *lc;

	foreach(lc, step->links)
	{
		PlanLink   *link = lfirst(lc);
		uint64		nrows;

		if (!has_rows(attempt, link))
			continue;
		set_doing(attempt, "reading", step->table);
		nrows = for_each_row(attempt, &link->find, SPI_OK_SELECT, NULL,
							 counted_row, link);
		if (nrows == 0 || step->action != SD_SET_NULL ||
			OidIsValid(link->constraint))
			continue;
		set_doing(attempt, "updating", step->table);
		if (sd_execute(&link->set_null, SPI_OK_UPDATE,
					   bind(attempt->run, attempt, &link->set_null, NULL, NULL),
					   NULL, NULL) != nrows)
			throw_changed_rows(step);
	}
}

/* Is there a row to which those of a link could lead? */
static bool
has_rows(Attempt *attempt, PlanLink *link)
{
	return sd_count_rows(attempt->sets[link->key->step->number]) > 0;
}

/* Was every account deleted that was claimed?  If not, those are FAILED. */
static bool
accounts_are_gone(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;

	for (int i = 0; i < attempt->naccounts; i++)
	{
		Account    *account = attempt->accounts[i];

		account->found = account->rows[plan->account->number] != 1;
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
	bool		result = true;
	ListCell   *lc;

	foreach(lc, attempt->run->plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step->can_keep_rows && !rows_of_step_are_gone(attempt, step))
			result = false;
	}
	return result;
}

/* The same of one step */
static bool
rows_of_step_are_gone(Attempt *attempt, PlanStep *step)
{
	bool		result = true;
	ListCell   *lc;

	set_doing(attempt, "reading", step->table);
	foreach(lc, step->links)
	{
		PlanLink   *link = lfirst(lc);

		if (!has_rows(attempt, link))
			continue;
		for_each_row(attempt, &link->find, SPI_OK_SELECT, NULL, found_row,
					 link);
		if (fail_found(attempt, InvalidOid, step->table))
			result = false;
	}
	return result;
}

/*
 * Were all rows deleted whose children were?  One that was given to somebody
 * else in the meantime was not.
 */
static void
check_collected_are_gone(Attempt *attempt)
{
	ListCell   *lc;

	foreach(lc, attempt->run->plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		RowSet	   *set = attempt->sets[step->number];

		if (set == NULL || step == attempt->run->plan->account)
			continue;
		set_doing(attempt, "deleting from", step->table);
		if (!sd_all_deleted(set))
			throw_changed_rows(step);
	}
}

/* The rows of a step are not those any more that were read before */
static void
throw_changed_rows(PlanStep *step)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("rows of table \"%s\" were changed meanwhile",
					step->table_name)));
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
		account->is_blocked = OidIsValid(constraint);
	}
	MemoryContextSwitchTo(caller_context);
	return failure != NULL;
}

/*
 * Let accounts that a key stopped be pending again: in a trial of some accounts
 * of a batch, it may be the others that stop them.
 */
static void
forget_blocked(Account **accounts, int naccounts)
{
	for (int i = 0; i < naccounts; i++)
	{
		if (accounts[i]->state == SD_FAILED && accounts[i]->is_blocked)
		{
			accounts[i]->state = SD_PENDING;
			accounts[i]->failure = NULL;
		}
	}
}

/* Add accounts that are deleted for good to the results of the run */
static void
tally(Attempt *attempt)
{
	Run		   *run = attempt->run;

	for (int i = 0; i < attempt->naccounts; i++)
	{
		attempt->accounts[i]->state = SD_DELETED;
		for (int j = 0; j < list_length(run->plan->steps); j++)
			run->rows[j] += attempt->accounts[i]->rows[j];
	}
}

/* Make the pending ones of these accounts those of the attempt */
static void
take_pending(Attempt *attempt, Account **accounts, int naccounts)
{
	PlanStep   *step = attempt->run->plan->account;
	Account   **pending = palloc(sizeof(Account *) * Max(naccounts, 1));
	RowSet	   *set = sd_make_rows(step);

	attempt->naccounts = 0;
	for (int i = 0; i < naccounts; i++)
	{
		Row		   *row;

		if (accounts[i]->state != SD_PENDING)
			continue;
		pending[attempt->naccounts++] = accounts[i];
		row = sd_make_row(step, accounts[i]);
		memcpy(row->values, accounts[i]->key, sizeof(Datum) * step->nvalues);
		memcpy(row->nulls, accounts[i]->nulls, sizeof(bool) * step->nvalues);
		sd_add_row(set, row);
	}
	attempt->accounts = pending;
	attempt->sets[step->number] = set;
}

/*
 * The values of a statement's parameters: from the caller what it gives, in its
 * order, and the keys of all rows in the attempt; of those to which "collected"
 * leads, if it is given, only the ones that are new to it.
 */
static Datum *
bind(Run *run, Attempt *attempt, PlanStatement *statement,
	 Datum *caller_values, PlanLink *collected)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(list_length(statement->params), 1));
	ListCell   *lc;

	foreach(lc, statement->params)
	{
		StatementParam *param = lfirst(lc);
		Datum	   *value = &values[foreach_current_index(lc)];

		switch (param->source)
		{
			case SD_PARAM_CALLER:
				*value = *caller_values++;
				break;
			case SD_PARAM_CONSTANT:
				*value = param->value;
				break;
			case SD_PARAM_CUTOFF:
				*value = run->cutoff;
				break;
			case SD_PARAM_KEYS:
				{
					RowSet	   *set = attempt->sets[param->key->step->number];

					*value = collected != NULL && param->key == collected->key ?
						sd_new_key_array(set, param->key, param->column,
										 attempt->seen[collected->number]) :
						sd_key_array(set, param->key, param->column);
					break;
				}
		}
	}
	return values;
}

/*
 * Execute a statement for the accounts of the attempt, and call the handler for
 * each row that it returns.  Answers how many there were.  Before, no account is
 * "found".
 */
static uint64
for_each_row(Attempt *attempt, PlanStatement *statement, int expected,
			 PlanLink *collected, RowHandler handler, void *arg)
{
	RowReceiver receiver = {
		.pub = *None_Receiver,
		.attempt = attempt,
		.handler = handler,
		.arg = arg
	};
	uint64		nrows;

	receiver.pub.receiveSlot = receive_row;
	receiver.pub.mydest = DestTuplestore;	/* all that SPI asks: not DestSPI */

	for (int i = 0; i < attempt->naccounts; i++)
		attempt->accounts[i]->found = false;

	receiver.row_context = AllocSetContextCreate(CurrentMemoryContext,
												 "scheduled_deletion row",
												 ALLOCSET_SMALL_SIZES);
	nrows = sd_execute(statement, expected,
					   bind(attempt->run, attempt, statement, NULL, collected),
					   NULL, &receiver.pub);
	MemoryContextDelete(receiver.row_context);
	return nrows;
}

/* Give a row to its handler, in a memory context that is reset after it */
static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	RowReceiver *receiver = (RowReceiver *) self;
	MemoryContext caller_context = MemoryContextSwitchTo(receiver->row_context);

	receiver->handler(receiver->attempt, slot, receiver->arg);
	MemoryContextSwitchTo(caller_context);
	MemoryContextReset(receiver->row_context);
	return true;
}

/*
 * The row to which the columns of a link lead, which begin with that one of the
 * slot; NULL if there is none.
 */
static Row *
row_of_link(Attempt *attempt, PlanLink *link, TupleTableSlot *slot, int column)
{
	Datum		values[INDEX_MAX_KEYS];

	for (int i = 0; i < link->ncolumns; i++)
	{
		bool		is_null;

		values[i] = slot_getattr(slot, column + i, &is_null);
		if (is_null)
			return NULL;
	}
	return sd_find_row(attempt->sets[link->key->step->number], link->key,
					   link->compare, values);
}

/* A row that a statement returned must belong to an account of the attempt */
static Row *
must_be_there(Row *row)
{
	if (row == NULL)
		elog(ERROR, "a statement touched a row of an account that is not in its batch");
	return row;
}

/* An account is locked: what was picked may have changed since */
static void
locked_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	DeletionPlan *plan = attempt->run->plan;
	Account    *account = must_be_there(row_of_link(attempt, plan->self, slot,
													1))->account;
	int			nvalues = plan->account->nvalues;
	int			ndetails = list_length(plan->policy->audit_details);
	MemoryContext caller_context;
	bool		is_null;
	ListCell   *lc;

	caller_context = MemoryContextSwitchTo(attempt->context);
	account->found = true;
	foreach(lc, plan->account->keys)
	{
		PlanKey    *key = lfirst(lc);

		if (key == plan->key)
			continue;
		for (int i = 0; i < key->ncolumns; i++)
		{
			int			n = key->first_value + i;
			Datum		value = slot_getattr(slot, n + 1, &account->nulls[n]);

			if (!account->nulls[n])
				account->key[n] = datumCopy(value, key->columns[i].typbyval,
											key->columns[i].typlen);
		}
	}
	account->due = slot_getattr(slot, nvalues + 1, &is_null);
	account->details = palloc0(sizeof(Jsonb *) * Max(ndetails, 1));
	for (int i = 0; i < ndetails; i++)
	{
		Datum		value = slot_getattr(slot, nvalues + 2 + i, &is_null);

		if (!is_null)
			account->details[i] = DatumGetJsonbPCopy(value);
	}
	MemoryContextSwitchTo(caller_context);
}

/* A row that leads to an account by a link was found */
static void
found_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	must_be_there(row_of_link(attempt, arg, slot, 1))->account->found = true;
}

/* A row that others refer to, which may have been collected before */
static void
collected_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	Collected  *collected = arg;
	PlanLink   *link = collected->link;
	Row		   *target = must_be_there(row_of_link(attempt, link, slot, 1));
	MemoryContext caller_context = MemoryContextSwitchTo(attempt->rows_context);
	Row		   *row = sd_make_row(link->step, target->account);

	sd_fill_row(link->step, row, slot, link->ncolumns + 1);
	if (sd_is_new_row(attempt->sets[link->step->number], row))
		collected->rows = lappend(collected->rows, row);
	MemoryContextSwitchTo(caller_context);
}

/* A row of a step that leads to an account by a link */
static void
counted_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	PlanLink   *link = arg;

	must_be_there(row_of_link(attempt, link, slot, 1))->account->rows[link->step->number]++;
}

/* A row is to be deleted for the account to which a link leads */
static void
expected_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	must_be_there(row_of_link(attempt, arg, slot, 1))->account->kept++;
}

/* A row that was deleted goes with the account to which its first link leads */
static void
deleted_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	PlanDelete *delete = arg;
	DeletePart *part = linitial(delete->parts);
	Row		   *row = NULL;
	int			column;
	bool		is_null;
	ListCell   *lc;

	if (list_length(delete->parts) > 1)
		part = list_nth(delete->parts,
						DatumGetInt32(slot_getattr(slot, 1, &is_null)));

	column = part->first_column;
	foreach(lc, part->links)
	{
		PlanLink   *link = lfirst(lc);

		if (row == NULL)
			row = row_of_link(attempt, link, slot, column);
		column += link->ncolumns;
	}
	must_be_there(row)->account->rows[part->step->number]++;
	row->account->kept--;

	if (part->step != attempt->run->plan->account &&
		attempt->sets[part->step->number] != NULL)
		mark_deleted(attempt, part->step, slot, column);
}

/*
 * A row of a step was deleted that others may have referred to: it must be one
 * that was collected, or else nothing is known of those.
 */
static void
mark_deleted(Attempt *attempt, PlanStep *step, TupleTableSlot *slot, int column)
{
	Row		   *row = sd_make_row(step, NULL);

	sd_fill_row(step, row, slot, column);
	if (!sd_mark_deleted(attempt->sets[step->number], row))
		throw_changed_rows(step);
}
