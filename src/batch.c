/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  One attempt to delete a set of accounts: all of them, or none.
 *
 * An attempt is one subtransaction, in which
 *
 *	lock		the accounts that are still due are locked FOR UPDATE; those that
 *				someone else has locked are skipped, not waited for
 *	holds		accounts on hold are dropped, by what has been committed since they
 *				were locked
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
 * is to be deleted stays; then its children must, too, so the attempt fails.  If
 * somebody else has written a row under one, nobody knows whose that is: what its
 * foreign key would do to it is an error (hook.c), and so the attempt fails, too.
 * Then it begins anew, carefully: it locks what it collects, if the role may, and
 * looks for late rows again before the rows that they refer to are deleted.  After
 * some attempts the accounts are put off.
 *
 * Rows are counted as they stream by, each given to its account by its key, as
 * the key's own types compare it; only those that others refer to are kept.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/batch.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "run.h"

/* how long a run waits for a lock that has waited too often, in milliseconds */
#define IMPATIENT_LOCK_TIMEOUT	1

/* so often an attempt is repeated because others write rows under those that go */
#define MAX_REPEATED	3

static bool begins_anew(Attempt *attempt, ErrorData *error);
static bool note_outdated(Run *run);
static void end_attempt(Attempt *attempt, Account **accounts, int naccounts);
static bool attempt_body(void *arg);
static void check_deferred(Attempt *attempt, Oid table);
static void check_session_is_unchanged(Run *run);
static void lock_accounts(Attempt *attempt);
static bool drop_blocked_accounts(Attempt *attempt);
static double size_of_details(Attempt *attempt);
static void tally(Attempt *attempt);
static void ask_of_accounts(Run *run, PlanStatement *statement,
							RowHandler handler, void *arg, Account **accounts,
							int naccounts);
static void take_pending(Attempt *attempt, Account **accounts, int naccounts);
static void take_accounts(Attempt *attempt, Account **accounts, int naccounts);
static void locked_row(Attempt *attempt, TupleTableSlot *slot, void *arg);
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
							   sd_bind(run, NULL, pick, values, NULL), nulls, NULL);
	Account    *accounts = palloc_extended(sizeof(Account) * Max(n, 1),
										   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int64	   *rows = palloc_extended(sizeof(int64) * nsteps * Max(n, 1),
									   MCXT_ALLOC_HUGE);
	Datum	   *keys = palloc_extended(sizeof(Datum) * nvalues * Max(n, 1),
									   MCXT_ALLOC_HUGE);
	bool	   *nulls_of_keys = palloc_extended(sizeof(bool) * nvalues * Max(n, 1),
												MCXT_ALLOC_HUGE);

	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	tupdesc = SPI_tuptable->tupdesc;
		Account    *account = &accounts[i];
		bool		is_null;

		account->key = keys + (int64) i * nvalues;
		account->nulls = nulls_of_keys + (int64) i * nvalues;
		memset(account->nulls, true, sizeof(bool) * nvalues);
		for (int j = 0; j < nkeys; j++)
		{
			KeyColumn  *column = &plan->key->columns[j];
			Datum		value = SPI_getbinval(tuple, tupdesc, j + 1,
											  &account->nulls[j]);

			account->key[j] = datumCopy(value, column->typbyval,
										column->typlen);
		}
		account->due = datumCopy(SPI_getbinval(tuple, tupdesc, nkeys + 1, &is_null),
								 plan->due_typbyval, plan->due_typlen);
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
 * FAILED; only not FAILED by a key that stops it, if this was a trial.  Returns
 * false, with nothing deleted, if there was an error that may be any of the
 * pending accounts' or not theirs at all; and if the plan is outdated.  An error that
 * is the run's is thrown.
 */
bool
sd_attempt(Run *run, Account **accounts, int naccounts, bool keep,
		   Failure **failure)
{
	MemoryContext caller_context = CurrentMemoryContext;
	Attempt		attempt = {.run = run,.is_careful = run->is_careful};
	ErrorData  *error;
	bool		is_put_off;
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

	/* each round but the last leaves fewer accounts pending, or is more careful */
	do
	{
		take_pending(&attempt, accounts, naccounts);
		if (attempt.naccounts == 0 || run->is_outdated)
		{
			error = NULL;
			break;
		}
		error = sd_in_subtransaction(attempt_body, &attempt, keep, &done);
	} while (error == NULL ? !done : begins_anew(&attempt, error));

	if (!keep)
		sd_forget_blocked(accounts, naccounts);
	MemoryContextSwitchTo(run->batch_context);
	is_put_off = run->is_outdated && attempt.naccounts > 0;
	if (is_put_off)
		*failure = sd_outdated_failure();
	else if (error != NULL)
	{
		*failure = sd_failure_from_error(error, attempt.doing, attempt.table);
		(*failure)->while_auditing =
			attempt.table == run->plan->policy->audit_table;
		if ((*failure)->kind == SD_RUN_FAILURE)
		{
			if (run->commits)
				sd_suspect(run, attempt.accounts, attempt.naccounts);
			sd_throw_failure(*failure);
		}

		/*
		 * the next time others need not write, but triggers will; under
		 * accounts, only those can
		 */
		if (sd_tells_late_row(error) && !run->plan->runs_code &&
			(IsolationUsesXactSnapshot() ||
			 attempt.table != run->plan->policy->account_table))
			(*failure)->kind = SD_MOMENT_FAILURE;
	}
	else if (attempt.naccounts > 0)
	{
		run->any_success = true;
		run->equal_failures = 0;
		if (keep)
		{
			run->nkept++;
			tally(&attempt);
		}
	}

	MemoryContextSwitchTo(caller_context);
	end_attempt(&attempt, accounts, naccounts);
	return error == NULL && !is_put_off;
}

/*
 * Is an attempt to begin anew after an error, since rows of others have come
 * meanwhile, or were changed?  Then it is careful.  If code of users writes such rows,
 * all others of the run are so from the beginning, for it will do so again.
 *
 * A snapshot that is as old as the transaction never shows what has come.
 */
static bool
begins_anew(Attempt *attempt, ErrorData *error)
{
	bool		is_late = sd_tells_late_row(error);

	/* its own keys may lead to it, of which the plan does not know */
	if (is_late && note_outdated(attempt->run))
		return false;
	if (IsolationUsesXactSnapshot() ||
		++attempt->nrepeated > (is_late ? MAX_REPEATED : 1) ||
		!(is_late || sd_tells_changed_rows(error)))
		return false;
	attempt->is_careful = true;
	if (attempt->run->plan->runs_code)
		attempt->run->is_careful = true;
	return true;
}

/* Has the plan to be made anew?  Then nothing more is deleted by it. */
static bool
note_outdated(Run *run)
{
	run->is_outdated = run->is_outdated || sd_is_outdated(run->plan) ||
		sd_has_new_hold_tables(run->plan);
	return run->is_outdated;
}

/* What was read of the accounts when they were locked is gone with an attempt */
static void
end_attempt(Attempt *attempt, Account **accounts, int naccounts)
{
	DeletionPlan *plan = attempt->run->plan;

	for (int i = 0; i < naccounts; i++)
	{
		for (int j = plan->key->ncolumns; j < plan->account->nvalues; j++)
			accounts[i]->nulls[j] = true;
	}
	MemoryContextDelete(attempt->context);
}

/* Find out which of these accounts are due: "found" */
void
sd_find_due(Run *run, Account **accounts, int naccounts)
{
	ask_of_accounts(run, &run->plan->still_due, sd_found_row, run->plan->self,
					accounts, naccounts);
}

/*
 * Lock accounts of which nothing was kept in an attempt, for the rest of the
 * transaction: those are "found" that are due still, and not locked by somebody
 * else.
 */
void
sd_lock_again(Run *run, Account **accounts, int naccounts)
{
	ask_of_accounts(run, &run->plan->lock, locked_row, NULL, accounts,
					naccounts);
}

/* Execute a statement for accounts outside of an attempt */
static void
ask_of_accounts(Run *run, PlanStatement *statement, RowHandler handler,
				void *arg, Account **accounts, int naccounts)
{
	MemoryContext caller_context = CurrentMemoryContext;
	Attempt		attempt = {.run = run};

	attempt.context = AllocSetContextCreate(run->batch_context,
											"scheduled_deletion question",
											ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(attempt.context);
	attempt.sets = palloc0(sizeof(RowSet *) * list_length(run->plan->steps));
	take_accounts(&attempt, accounts, naccounts);
	sd_for_each_row(&attempt, statement, SPI_OK_SELECT, NULL, handler, arg);
	MemoryContextSwitchTo(caller_context);
	end_attempt(&attempt, accounts, naccounts);
}

/* Look once at what every attempt of the run has to know */
void
sd_prepare_batches(Run *run)
{
	Oid			argtypes[] = {OIDARRAYOID};
	Datum		audit_tables = sd_oid_array(find_all_inheritors(run->policy->audit_table,
																NoLock, NULL));
	bool		is_null;

	run->can_defer = sd_query_catalog("SELECT bool_or(tgrelid = ANY ($1)) FROM pg_trigger"
									  " WHERE tgdeferrable HAVING count(*) > 0",
									  1, argtypes, &audit_tables) > 0;
	if (run->can_defer)
		run->audit_can_defer = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
														  SPI_tuptable->tupdesc,
														  1, &is_null));

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
 * back, if none of the accounts can be deleted; if some must not, which are no
 * longer pending then; or if foreign-key checks must not have been left out.
 */
static bool
attempt_body(void *arg)
{
	Attempt    *attempt = arg;
	Oid			audit_table = attempt->run->plan->policy->audit_table;

	attempt->is_elided = false;
	sd_set_lock_timeout(attempt->run->is_impatient ? IMPATIENT_LOCK_TIMEOUT :
						sd_lock_timeout);
	lock_accounts(attempt);
	sd_spare_held(attempt);
	sd_begin_sharing(attempt);
	take_pending(attempt, attempt->accounts, attempt->naccounts);
	do
	{
		sd_begin_rows(attempt);
		sd_collect_rows(attempt);
	} while (drop_blocked_accounts(attempt));
	if (attempt->naccounts == 0)
		return false;

	if (!sd_may_delete_collected(attempt) || !sd_execute_steps(attempt) ||
		!sd_accounts_are_gone(attempt) || !sd_none_is_held(attempt))
		return false;

	sd_check_no_row_came(attempt);

	/* what shows after that is the audit table's */
	if (attempt->run->audit_can_defer)
		check_deferred(attempt, InvalidOid);
	sd_set_doing(attempt, "writing audit rows to", audit_table);
	sd_write_audit_rows(attempt->run, attempt->accounts, attempt->naccounts);

	if (!sd_rows_are_gone(attempt))
		return false;
	sd_check_collected_are_gone(attempt);
	if (note_outdated(attempt->run))
		return false;
	sd_set_doing(attempt, "looking for partitions that are being detached",
				 InvalidOid);
	sd_refuse_detaching(attempt->run->plan);
	sd_set_doing(attempt,
				 "checking that role and session_replication_role are as they were",
				 InvalidOid);
	check_session_is_unchanged(attempt->run);
	check_deferred(attempt, attempt->run->audit_can_defer ? audit_table : InvalidOid);
	return true;
}

/* Deferred constraints must hold: of that table, if it is given, or of all */
static void
check_deferred(Attempt *attempt, Oid table)
{
	ErrorData  *error;

	sd_set_doing(attempt, OidIsValid(table) ?
				 "checking deferred constraints after writing audit rows to" :
				 "checking deferred constraints", table);
	error = sd_deferred_error(attempt->run);
	if (error != NULL)
		ReThrowError(error);
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

	sd_set_doing(attempt, "locking rows of", plan->policy->account_table);
	sd_for_each_row(attempt, &plan->lock, SPI_OK_SELECT, NULL, locked_row, NULL);

	for (int i = 0; i < naccounts; i++)
	{
		if (!accounts[i]->found)
			missing[nmissing++] = accounts[i];
	}
	if (nmissing > 0)
	{
		take_pending(attempt, missing, nmissing);
		sd_for_each_row(attempt, &plan->still_due, SPI_OK_SELECT, NULL, sd_found_row,
						plan->self);
		for (int i = 0; i < nmissing; i++)
			missing[i]->state = missing[i]->found ? SD_SKIPPED : SD_GONE;
	}
	take_pending(attempt, accounts, naccounts);
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

			if (!link->is_asked || !sd_has_rows(attempt, link))
				continue;
			sd_set_doing(attempt, "reading", step->table);
			sd_for_each_row(attempt, &link->find, SPI_OK_SELECT, NULL, sd_found_row,
							link);
			dropped |= sd_fail_found(attempt, link->constraint, step->table);
		}
	}
	if (dropped)
		take_pending(attempt, attempt->accounts, attempt->naccounts);
	return dropped && attempt->naccounts > 0;
}

/*
 * Let accounts that a key stopped be pending again: where some accounts of a batch
 * were tried, it may be the others that stop them.
 */
void
sd_forget_blocked(Account **accounts, int naccounts)
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

/* The bytes that the accounts' details take until their audit rows are written */
static double
size_of_details(Attempt *attempt)
{
	double		size = 0;

	for (int i = 0; i < attempt->naccounts; i++)
	{
		for (int j = 0; j < list_length(attempt->run->policy->audit_details); j++)
		{
			if (attempt->accounts[i]->details[j] != NULL)
				size += VARSIZE(attempt->accounts[i]->details[j]);
		}
	}
	return size;
}

/* Add accounts that are deleted for good to the results of the run */
static void
tally(Attempt *attempt)
{
	Run		   *run = attempt->run;

	run->pace.memory = (sd_count_collected(attempt) * SD_ROW_MEMORY +
						sd_size_of_sharing(attempt) +
						size_of_details(attempt)) / attempt->naccounts;
	run->results.fk_checks_elided |= attempt->is_elided;
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
	Account   **pending = palloc(sizeof(Account *) * Max(naccounts, 1));
	int			npending = 0;

	for (int i = 0; i < naccounts; i++)
	{
		if (accounts[i]->state == SD_PENDING)
			pending[npending++] = accounts[i];
	}
	take_accounts(attempt, pending, npending);
}

/* Make these accounts those of the attempt */
static void
take_accounts(Attempt *attempt, Account **accounts, int naccounts)
{
	PlanStep   *step = attempt->run->plan->account;
	RowSet	   *set = sd_make_rows(step);

	for (int i = 0; i < naccounts; i++)
		sd_add_account(set, step, accounts[i]);
	attempt->accounts = accounts;
	attempt->naccounts = naccounts;
	attempt->sets[step->number] = set;
}

/* An account is locked: what was picked may have changed since */
static void
locked_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	DeletionPlan *plan = attempt->run->plan;
	Account    *account = sd_must_be_there(sd_row_of_link(attempt, plan->self, slot,
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

	/* as it was picked, others may have it already */
	MemoryContextSwitchTo(attempt->run->batch_context);
	account->due = datumCopy(slot_getattr(slot, nvalues + 1, &is_null),
							 plan->due_typbyval, plan->due_typlen);
	MemoryContextSwitchTo(attempt->context);
	account->details = palloc0(sizeof(Jsonb *) * Max(ndetails, 1));
	for (int i = 0; i < ndetails; i++)
	{
		Datum		value = slot_getattr(slot, nvalues + 2 + i, &is_null);

		if (!is_null)
			account->details[i] = DatumGetJsonbPCopy(value);
	}
	MemoryContextSwitchTo(caller_context);
}
