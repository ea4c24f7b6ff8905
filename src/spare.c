/*-------------------------------------------------------------------------
 *
 * spare.c
 *	  Whom a run must leave alone: accounts on hold.
 *
 * Before each attempt, once its accounts are locked, a statement that sees what
 * has been committed by then tells whether the holds are still those that are
 * known, and they are read anew if not.  Whoever has placed a hold had the
 * account locked, so it counts, or was too late.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/spare.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "run.h"

/* The rows that are read of accounts on hold */
typedef struct HeldAccounts
{
	PlanLink   *link;
	List	   *rows;			/* Row * */
} HeldAccounts;

static void read_holds(Run *run);
static RowSet *find_held(Run *run, PlanStep *step, RowSet *holds);
static void held_account(Attempt *attempt, TupleTableSlot *slot, void *arg);
static void drop_held(Attempt *attempt, RowSet *holds);

/* Know which accounts are on hold now, whatever snapshot the transaction has */
void
sd_refresh_holds(Run *run)
{
	DeletionPlan *plan = run->plan;
	List	   *tables = NIL;
	const char *state;
	ListCell   *lc;

	foreach(lc, plan->hold_links)
	{
		PlanStep   *step = ((PlanLink *) lfirst(lc))->step;

		if (!step->asks_for_holds)
			tables = list_append_unique_oid(tables, step->table);
	}
	state = tables != NIL ? sd_state_of_holds(plan->policy->schema, tables) : "";
	if (run->state_of_holds != NULL && strcmp(state, run->state_of_holds) == 0)
		return;

	/* unknown, as long as they cannot be read */
	run->state_of_holds = NULL;
	run->holds = NULL;
	run->held = NULL;
	MemoryContextReset(run->holds_context);
	if (state[0] != '\0')
		read_holds(run);
	run->state_of_holds = MemoryContextStrdup(run->holds_context, state);
}

static void
read_holds(Run *run)
{
	DeletionPlan *plan = run->plan;
	MemoryContext caller_context = MemoryContextSwitchTo(run->holds_context);
	PlanStep   *step = NULL;
	ListCell   *lc;

	run->holds = palloc0(sizeof(RowSet *) * sd_count_tables(plan));
	foreach(lc, plan->hold_links)
	{
		PlanLink   *link = lfirst(lc);
		List	   *holds;
		RowSet	   *rows;

		if (link->step == step || link->step->asks_for_holds)
			continue;
		step = link->step;
		holds = sd_load_holds(plan->policy->schema, step->table, true);
		if (holds == NIL)
			continue;
		rows = sd_held_rows(step, sd_hold_keys(plan, step), holds);
		run->holds[step->number] = rows;
		if (step == plan->account)
			run->held = find_held(run, step, rows);
	}
	MemoryContextSwitchTo(caller_context);
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

/* Is any account on hold, of the tables of the plan, as far as is known? */
bool
sd_is_any_on_hold(Run *run)
{
	ListCell   *lc;

	foreach(lc, run->plan->hold_links)
	{
		if (((PlanLink *) lfirst(lc))->step->asks_for_holds)
			return true;
	}
	return run->holds != NULL;
}

/*
 * The accounts on hold of a step, at least those among the rows, in the current
 * memory context or one that lives longer; NULL if there are none
 */
RowSet *
sd_holds_on(Run *run, PlanStep *step, RowSet *rows)
{
	PlanKey    *key;
	List	   *holds;

	if (!step->asks_for_holds)
		return run->holds != NULL ? run->holds[step->number] : NULL;
	key = linitial(sd_hold_keys(run->plan, step));
	holds = sd_ask_for_holds(run->plan->policy->schema, step->table, key, rows);
	return holds != NIL ? sd_held_rows(step, list_make1(key), holds) : NULL;
}

/*
 * All accounts on hold, as far as they are there; NULL if there are no holds.  Where
 * they are asked for, that takes long, and is rarely wanted.
 */
RowSet *
sd_held_accounts(Run *run)
{
	PlanStep   *step = run->plan->account;
	List	   *holds;

	if (!step->asks_for_holds)
		return run->held;
	holds = sd_load_holds(run->plan->policy->schema, step->table, true);
	return holds != NIL ?
		find_held(run, step, sd_held_rows(step, sd_hold_keys(run->plan, step), holds)) : NULL;
}

/*
 * Ask who is on hold of accounts that were just picked, if that is asked for, and
 * their key tells.  The answer is in the current memory context, until
 * sd_forget_asked().
 */
void
sd_ask_about(Run *run, Account *accounts, int naccounts)
{
	PlanStep   *step = run->plan->account;
	RowSet	   *rows;

	if (!step->asks_for_holds)
		return;
	run->held = NULL;
	if (linitial(sd_hold_keys(run->plan, step)) != run->plan->key)
		return;
	rows = sd_make_rows(step);
	for (int i = 0; i < naccounts; i++)
		sd_add_account(rows, step, &accounts[i]);
	run->held = sd_holds_on(run, step, rows);
}

/* What was answered goes with its memory context */
void
sd_forget_asked(Run *run)
{
	if (run->plan->account->asks_for_holds)
		run->held = NULL;
}

/*
 * Is an account that is picked on hold, as far as is known?  Then it need not
 * even be locked, and its hold is set.
 */
bool
sd_is_held(Run *run, Account *account)
{
	Row		   *row;

	if (run->held == NULL)
		return false;
	row = sd_find_row(run->held, run->plan->self, account->key);
	if (row == NULL)
		return false;
	account->hold = row->account->hold;
	return true;
}

/* Drop the accounts of an attempt that are on hold, whose rows are locked */
void
sd_spare_held(Attempt *attempt)
{
	Run		   *run = attempt->run;

	sd_set_doing(attempt, "reading the holds on accounts of",
				 run->plan->account->table);
	sd_refresh_holds(run);
	drop_held(attempt, sd_holds_on(run, run->plan->account,
								   attempt->sets[run->plan->account->number]));
}

static void
drop_held(Attempt *attempt, RowSet *holds)
{
	Run		   *run = attempt->run;
	int			number = run->plan->account->number;
	MemoryContext caller_context = MemoryContextSwitchTo(run->batch_context);

	for (int i = 0; holds != NULL && i < sd_count_rows(attempt->sets[number]); i++)
	{
		Row		   *row = sd_get_row(attempt->sets[number], i);
		Row		   *hold = sd_find_same_row(holds, row);

		if (hold == NULL)
			continue;
		row->account->state = SD_HELD;
		row->account->hold = sd_copy_hold(hold->account->hold);
	}
	MemoryContextSwitchTo(caller_context);
}
