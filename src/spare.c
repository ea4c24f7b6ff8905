/*-------------------------------------------------------------------------
 *
 * spare.c
 *	  Whom a run must leave alone: accounts on hold.
 *
 * Before each attempt, once its accounts are locked, a statement that sees what has
 * been committed by then tells whether the holds are still those that are known, and
 * they are read anew if not.  Whoever has placed a hold had the account locked, so it
 * counts, or was too late.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/spare.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/datum.h"
#include "utils/memutils.h"

#include "run.h"

/* The rows that are read of accounts on hold */
typedef struct HeldAccounts
{
	PlanLink   *link;
	List	   *rows;			/* Row * */
} HeldAccounts;

static void read_holds(Run *run);
static List *keys_of(DeletionPlan *plan, PlanStep *step);
static RowSet *find_held(Run *run, PlanStep *step, RowSet *holds);
static void held_account(Attempt *attempt, TupleTableSlot *slot, void *arg);
static void drop_held(Attempt *attempt);
static bool write_body(void *arg);

/* Know which accounts are on hold now, whatever snapshot the transaction has */
void
sd_refresh_holds(Run *run)
{
	DeletionPlan *plan = run->plan;
	List	   *tables = NIL;
	char	   *state;
	ListCell   *lc;

	foreach(lc, plan->hold_links)
		tables = list_append_unique_oid(tables,
										((PlanLink *) lfirst(lc))->step->table);
	state = sd_state_of_holds(plan->policy->schema, tables);
	if (run->holds_context == NULL)
		run->holds_context = AllocSetContextCreate(run->run_context,
												   "scheduled_deletion holds",
												   ALLOCSET_DEFAULT_SIZES);
	else if (strcmp(state, run->state_of_holds) == 0)
		return;
	MemoryContextReset(run->holds_context);
	run->holds = NULL;
	run->held = NULL;
	run->state_of_holds = MemoryContextStrdup(run->holds_context, state);
	if (state[0] != '\0')
		read_holds(run);
}

static void
read_holds(Run *run)
{
	DeletionPlan *plan = run->plan;
	MemoryContext caller_context = MemoryContextSwitchTo(run->holds_context);
	PlanStep   *step = NULL;
	ListCell   *lc;

	run->holds = palloc0(sizeof(RowSet *) * list_length(plan->steps));
	run->held = palloc0(sizeof(RowSet *) * list_length(plan->steps));
	foreach(lc, plan->hold_links)
	{
		PlanLink   *link = lfirst(lc);
		List	   *holds;
		RowSet	   *rows;

		if (link->step == step)
			continue;
		step = link->step;
		holds = sd_load_holds(plan->policy->schema, step->table, true);
		if (holds == NIL)
			continue;
		rows = sd_held_rows(step, keys_of(plan, step), holds);
		run->holds[step->number] = rows;
		run->held[step->number] = find_held(run, step, rows);
	}
	MemoryContextSwitchTo(caller_context);
}

/* The keys by which rows of a step can be on hold: PlanKey * */
static List *
keys_of(DeletionPlan *plan, PlanStep *step)
{
	List	   *keys = NIL;
	ListCell   *lc;

	foreach(lc, plan->hold_links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->step == step)
			keys = lappend(keys, link->key);
	}
	return keys;
}

/* The rows of a step that are accounts on hold, with all their keys */
static RowSet *
find_held(Run *run, PlanStep *step, RowSet *holds)
{
	Attempt		attempt = {.run = run,.context = CurrentMemoryContext};
	RowSet	   *rows = sd_make_rows(step);
	HeldAccounts accounts = {0};
	ListCell   *lc;

	attempt.sets = palloc0(sizeof(RowSet *) * list_length(run->plan->steps));
	attempt.sets[step->number] = holds;
	foreach(lc, run->plan->hold_links)
	{
		accounts.link = lfirst(lc);
		if (accounts.link->step == step)
			sd_for_each_row(&attempt, &accounts.link->collect, SPI_OK_SELECT,
							NULL, held_account, &accounts);
	}
	foreach(lc, accounts.rows)
		sd_add_row(rows, lfirst(lc));
	return rows;
}

static void
held_account(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	HeldAccounts *accounts = arg;
	PlanStep   *step = accounts->link->step;
	Row		   *hold = sd_must_be_there(sd_row_of_link(attempt, accounts->link,
													   slot, 1));
	MemoryContext caller_context = MemoryContextSwitchTo(attempt->context);
	Row		   *row = sd_make_row(step, hold->account);

	sd_fill_row(step, row, slot, accounts->link->ncolumns + 1);
	accounts->rows = lappend(accounts->rows, row);
	MemoryContextSwitchTo(caller_context);
}

/* The accounts on hold, as far as they are there; NULL if there are no holds */
RowSet *
sd_held_accounts(Run *run)
{
	return run->held != NULL ? run->held[run->plan->account->number] : NULL;
}

/*
 * Is an account that is picked on hold, as far as is known?  Then it need not even be
 * locked, and its hold is set.
 */
bool
sd_is_held(Run *run, Account *account)
{
	RowSet	   *held = sd_held_accounts(run);
	Row		   *row;

	if (held == NULL)
		return false;
	row = sd_find_row(held, run->plan->key, run->plan->self->compare,
					  account->key);
	if (row == NULL)
		return false;
	account->hold = row->account->hold;
	return true;
}

/* How many accounts on hold are due */
int64
sd_count_held_due(Run *run)
{
	RowSet	   *held = sd_held_accounts(run);
	int			n = held != NULL ? sd_count_rows(held) : 0;
	Account   **accounts = palloc(sizeof(Account *) * Max(n, 1));
	int64		ndue = 0;

	if (n == 0)
		return 0;
	for (int i = 0; i < n; i++)
	{
		Row		   *row = sd_get_row(held, i);

		accounts[i] = palloc0(sizeof(Account));
		accounts[i]->key = row->values;
		accounts[i]->nulls = row->nulls;
	}
	sd_find_due(run, accounts, n);
	for (int i = 0; i < n; i++)
		ndue += accounts[i]->found;
	return ndue;
}

/*
 * Drop the accounts of an attempt that are on hold, whose rows are locked; and know
 * whose rows must stay, too.
 */
void
sd_spare_held(Attempt *attempt)
{
	Run		   *run = attempt->run;

	sd_set_doing(attempt, "reading the holds on accounts of",
				 run->plan->account->table);
	sd_refresh_holds(run);
	if (sd_held_accounts(run) != NULL)
		drop_held(attempt);
	sd_begin_sharing(attempt);
}

static void
drop_held(Attempt *attempt)
{
	PlanStep   *step = attempt->run->plan->account;

	for (int i = 0; i < attempt->naccounts; i++)
	{
		Account    *account = attempt->accounts[i];
		Row		   *row = sd_make_row(step, account);
		MemoryContext caller_context;
		Row		   *hold;

		memcpy(row->values, account->key, sizeof(Datum) * step->nvalues);
		memcpy(row->nulls, account->nulls, sizeof(bool) * step->nvalues);
		hold = account->state == SD_PENDING ?
			sd_find_same_row(attempt->run->holds[step->number], row) : NULL;
		pfree(row);
		if (hold == NULL)
			continue;
		caller_context = MemoryContextSwitchTo(attempt->run->batch_context);
		account->state = SD_HELD;
		account->hold = sd_copy_hold(hold->account->hold);
		MemoryContextSwitchTo(caller_context);
	}
}

/*
 * Count an account that was left alone, and note it if no run has met its hold before;
 * what is needed for the audit row is copied.
 */
void
sd_record_held(Run *run, Account *account)
{
	PlanKey    *key = run->plan->key;
	MemoryContext caller_context;
	Refusal    *refusal;

	run->nheld++;
	if (account->hold->is_refused)
		return;
	caller_context = MemoryContextSwitchTo(run->run_context);
	refusal = palloc(sizeof(Refusal));
	refusal->hold = sd_copy_hold(account->hold);
	refusal->key = palloc(sizeof(Datum) * key->ncolumns);
	for (int i = 0; i < key->ncolumns; i++)
		refusal->key[i] = datumCopy(account->key[i], key->columns[i].typbyval,
									key->columns[i].typlen);
	refusal->details = sd_refusal_details(run, account);
	run->refusals = lappend(run->refusals, refusal);
	MemoryContextSwitchTo(caller_context);
}

/*
 * Write an audit row for each of them, and delete the holds that have expired, at the
 * end of the run: until then, nobody who places or releases a hold has to wait for
 * it.  What was deleted must not be undone if they cannot be written.
 */
void
sd_write_refusals(Run *run)
{
	ErrorData  *error;
	Failure    *failure;
	bool		done;

	error = sd_in_subtransaction(write_body, run, true, &done);
	if (error == NULL)
		return;
	failure = sd_failure_from_error(error, "writing audit rows (deletion_refused) to",
									run->policy->audit_table);
	if (failure->kind == SD_RUN_FAILURE)
		ReThrowError(error);
	if (failure->kind != SD_MOMENT_FAILURE)
		ereport(WARNING,
				(errcode(failure->sqlstate),
				 errmsg("that accounts are on hold cannot be audited: %s",
						failure->message)));
}

static bool
write_body(void *arg)
{
	Run		   *run = arg;
	ErrorData  *error;
	ListCell   *lc;

	foreach(lc, run->refusals)
	{
		Refusal    *refusal = lfirst(lc);

		if (sd_note_refusal(run->policy->schema, run->plan->account->table,
							refusal->hold))
			sd_write_audit_row(run->plan, refusal->key, "deletion_refused",
							   refusal->details, NULL);
	}
	sd_delete_expired_holds(run->policy->schema, run->plan->account->table);
	if (run->refusals == NIL || !run->audit_can_defer)
		return true;

	/* at COMMIT it would undo the run */
	error = sd_deferred_error(run);
	if (error != NULL)
		ReThrowError(error);
	return true;
}
