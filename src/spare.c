/*-------------------------------------------------------------------------
 *
 * spare.c
 *	  What a run must leave alone: accounts on hold, and the rows of theirs that
 *	  other accounts share.
 *
 * The holds are read anew in each attempt, once its accounts are locked, by a
 * statement that sees what has been committed by then: whoever has placed a hold
 * had the account locked, so it counts, or was too late.
 *
 * That a row is shared shows when it is deleted: it then returns what it looks
 * like under its lock, and the attempt is rolled back.  Asking before would cost
 * every run, and miss those that are given to an account on hold meanwhile.
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

static List *keys_of(DeletionPlan *plan, PlanStep *step);
static Attempt *begin_held(Attempt *attempt);
static void find_held(Attempt *attempt, Attempt *held, PlanStep *step,
					  RowSet *holds);
static void drop_held(Attempt *attempt, RowSet *holds);
static void held_account(Attempt *held, TupleTableSlot *slot, void *arg);
static void fail_owner(Attempt *attempt, PlanStep *step, Account *owner,
					   Row *held);
static bool write_body(void *arg);

/*
 * Know which accounts are on hold when a run begins, so that they need not even be
 * locked; where holds are not by the key by which it names accounts, it does without.
 */
void
sd_load_held(Run *run)
{
	DeletionPlan *plan = run->plan;
	List	   *holds = sd_load_holds(plan->policy->schema,
									  plan->account->table, true);

	if (holds != NIL && linitial(plan->hold_links) == plan->self)
		run->holds = sd_held_rows(plan->account, keys_of(plan, plan->account),
								  holds);
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

/* How many of them are due */
int64
sd_count_held_due(Run *run)
{
	PlanStep   *step = run->plan->account;
	int			nkeys = run->plan->key->ncolumns;
	int			n = run->holds != NULL ? sd_count_rows(run->holds) : 0;
	Account   **accounts = palloc(sizeof(Account *) * Max(n, 1));
	int64		ndue = 0;

	if (n == 0)
		return 0;
	for (int i = 0; i < n; i++)
	{
		Account    *account = palloc0(sizeof(Account));

		account->key = palloc0(sizeof(Datum) * step->nvalues);
		memcpy(account->key, sd_get_row(run->holds, i)->values,
			   sizeof(Datum) * nkeys);
		account->nulls = palloc(sizeof(bool) * step->nvalues);
		memset(account->nulls, true, sizeof(bool) * step->nvalues);
		memset(account->nulls, false, sizeof(bool) * nkeys);
		accounts[i] = account;
	}
	sd_find_due(run, accounts, n);
	for (int i = 0; i < n; i++)
		ndue += accounts[i]->found;
	return ndue;
}

/* Was an account that is picked on hold then?  If so, its hold is set. */
bool
sd_is_held(Run *run, Account *account)
{
	Row		   *row;

	if (run->holds == NULL)
		return false;
	row = sd_find_row(run->holds, run->plan->key, run->plan->self->compare,
					  account->key);
	if (row == NULL)
		return false;
	account->hold = row->account->hold;
	return true;
}

/*
 * Drop the accounts of an attempt that are on hold, whose rows are locked; and find
 * what the others must not delete with theirs: the accounts on hold and their rows,
 * as an attempt of their own, in which nothing is deleted.
 */
void
sd_spare_held(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	Attempt    *held = NULL;
	PlanStep   *step = NULL;
	ListCell   *lc;

	attempt->held = NULL;
	foreach(lc, plan->hold_links)
	{
		PlanLink   *link = lfirst(lc);
		List	   *holds;

		if (link->step == step)
			continue;
		step = link->step;
		sd_set_doing(attempt, "reading the holds on accounts of", step->table);
		holds = sd_load_holds(plan->policy->schema, step->table, true);
		if (holds == NIL)
			continue;
		if (held == NULL)
			held = begin_held(attempt);
		find_held(attempt, held, step,
				  sd_held_rows(step, keys_of(plan, step), holds));
	}
	if (held == NULL)
		return;
	if (plan->shares_rows)
		sd_collect_rows(held);
	attempt->held = held;
}

static Attempt *
begin_held(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	Attempt    *held = palloc0(sizeof(Attempt));

	held->run = attempt->run;
	held->context = attempt->context;
	held->rows_context = AllocSetContextCreate(attempt->context,
											   "scheduled_deletion rows on hold",
											   ALLOCSET_DEFAULT_SIZES);
	held->sets = palloc0(sizeof(RowSet *) * list_length(plan->steps));
	held->seen = palloc(sizeof(int) * plan->nlinks);
	sd_begin_rows(held);
	held->sets[plan->account->number] = sd_make_rows(plan->account);
	return held;
}

/*
 * Find the rows of a step that are accounts on hold; if it is the accounts', those of
 * the attempt are dropped.
 */
static void
find_held(Attempt *attempt, Attempt *held, PlanStep *step, RowSet *holds)
{
	RowSet	   *rows = held->sets[step->number];
	HeldAccounts accounts = {0};
	ListCell   *lc;

	if (step == attempt->run->plan->account)
		drop_held(attempt, holds);

	/* the holds tell only one key of each */
	held->sets[step->number] = holds;
	foreach(lc, attempt->run->plan->hold_links)
	{
		accounts.link = lfirst(lc);
		if (accounts.link->step == step)
			sd_for_each_row(held, &accounts.link->collect, SPI_OK_SELECT, NULL,
							held_account, &accounts);
	}
	foreach(lc, accounts.rows)
		sd_add_row(rows, lfirst(lc));
	held->sets[step->number] = rows;
}

static void
drop_held(Attempt *attempt, RowSet *holds)
{
	for (int i = 0; i < attempt->naccounts; i++)
	{
		Account    *account = attempt->accounts[i];
		Row		   *row = sd_make_row(attempt->run->plan->account, account);
		MemoryContext caller_context;
		Row		   *hold;

		memcpy(row->values, account->key,
			   sizeof(Datum) * attempt->run->plan->account->nvalues);
		memcpy(row->nulls, account->nulls,
			   sizeof(bool) * attempt->run->plan->account->nvalues);
		hold = account->state == SD_PENDING ? sd_find_same_row(holds, row) : NULL;
		pfree(row);
		if (hold == NULL)
			continue;
		caller_context = MemoryContextSwitchTo(attempt->run->batch_context);
		account->state = SD_HELD;
		account->hold = sd_copy_hold(hold->account->hold);
		MemoryContextSwitchTo(caller_context);
	}
}

/* An account is on hold: with it come its other keys */
static void
held_account(Attempt *held, TupleTableSlot *slot, void *arg)
{
	HeldAccounts *accounts = arg;
	PlanStep   *step = accounts->link->step;
	Row		   *hold = sd_must_be_there(sd_row_of_link(held, accounts->link, slot, 1));
	MemoryContext caller_context = MemoryContextSwitchTo(held->context);
	Row		   *row = sd_make_row(step, hold->account);

	sd_fill_row(step, row, slot, accounts->link->ncolumns + 1);
	accounts->rows = lappend(accounts->rows, row);
	MemoryContextSwitchTo(caller_context);
}

/*
 * A row was deleted for an account: does it lead to one on hold, too?  Then the
 * account that it was deleted for is FAILED.  The columns of all links of the part
 * begin with that one of the slot.
 */
void
sd_check_sharing(Attempt *attempt, DeletePart *part, Account *owner,
				 TupleTableSlot *slot, int column)
{
	List	   *links = list_concat_copy(part->links, part->others);
	ListCell   *lc;

	foreach(lc, links)
	{
		PlanLink   *link = lfirst(lc);

		if (attempt->held->sets[link->key->step->number] != NULL)
			fail_owner(attempt, part->step, owner,
					   sd_row_of_link(attempt->held, link, slot, column));
		column += link->ncolumns;
	}
}

/* The same of a row that others refer to: is it an account on hold, or a row of one? */
void
sd_check_row(Attempt *attempt, PlanStep *step, Row *row, Account *owner)
{
	fail_owner(attempt, step, owner,
			   sd_find_same_row(attempt->held->sets[step->number], row));
}

/*
 * Is none of the collected rows of other tables an account on hold?  Else the accounts
 * that they belong to are FAILED.  Asked before they are deleted, to spare the guard
 * its error; and afterwards, for only then they are locked, and nobody can place a hold
 * on them any more.
 */
bool
sd_none_is_held(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	bool		result = true;
	ListCell   *lc;

	foreach(lc, plan->hold_links)
	{
		PlanStep   *step = ((PlanLink *) lfirst(lc))->step;
		RowSet	   *rows = attempt->sets[step->number];
		List	   *holds;
		RowSet	   *held;
		Row		   *row;
		int			i = 0;

		if (step == plan->account || sd_count_rows(rows) == 0)
			continue;
		holds = sd_load_holds(plan->policy->schema, step->table, true);
		if (holds == NIL)
			continue;
		held = sd_held_rows(step, keys_of(plan, step), holds);
		while ((row = sd_next_same_row(rows, held, &i)) != NULL)
		{
			Row		   *hold = sd_find_same_row(held, row);

			fail_owner(attempt, step, row->account, hold);
			result = false;
		}
	}
	return result;
}

/* Fail an account if a row that it deletes is one of an account on hold, or leads there */
static void
fail_owner(Attempt *attempt, PlanStep *step, Account *owner, Row *held)
{
	MemoryContext caller_context;

	if (held == NULL || owner->state == SD_FAILED)
		return;
	caller_context = MemoryContextSwitchTo(attempt->run->batch_context);
	owner->failure = sd_held_rows_failure(step->table, held->account->hold->reason);
	owner->state = SD_FAILED;
	owner->is_blocked = false;
	MemoryContextSwitchTo(caller_context);
}

/*
 * Note that an account was left alone, if no run has met its hold before; what is
 * needed for the audit row is copied.
 */
void
sd_record_refusal(Run *run, Account *account)
{
	PlanKey    *key = run->plan->key;
	MemoryContext caller_context;
	Refusal    *refusal;

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
 * end of the run: until then, nobody who
 * places or releases a hold has to wait for it.  What was deleted must not be undone
 * if they cannot be written.
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
	return true;
}
