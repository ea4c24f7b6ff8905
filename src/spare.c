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

/* The rows of the account table that are read of accounts on hold */
typedef struct HeldAccounts
{
	PlanLink   *link;
	List	   *rows;			/* Row * */
} HeldAccounts;

static void drop_held(Attempt *attempt, RowSet *holds);
static Attempt *find_held_rows(Attempt *attempt, RowSet *holds);
static void held_account(Attempt *held, TupleTableSlot *slot, void *arg);
static bool write_body(void *arg);

/*
 * Know which accounts are on hold when a run begins, so that they need not even be
 * locked; where holds are not by the key by which it names accounts, it does without.
 */
void
sd_load_held(Run *run)
{
	DeletionPlan *plan = run->plan;
	List	   *holds;

	if (linitial(plan->hold_keys) != plan->key)
		return;
	holds = sd_load_holds(plan->policy->schema, plan->account->table, true);
	if (holds != NIL)
		run->holds = sd_held_rows(plan->account, plan->hold_keys, holds);
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
 * what the others must not delete with theirs.
 */
void
sd_spare_held(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	List	   *holds = sd_load_holds(plan->policy->schema,
									  plan->account->table, true);
	RowSet	   *rows;

	attempt->held = NULL;
	if (holds == NIL)
		return;
	sd_set_doing(attempt, "reading the holds on accounts of",
				 plan->account->table);
	rows = sd_held_rows(plan->account, plan->hold_keys, holds);
	drop_held(attempt, rows);
	attempt->held = find_held_rows(attempt, rows);
}

static void
drop_held(Attempt *attempt, RowSet *holds)
{
	ListCell   *lc;

	for (int i = 0; i < attempt->naccounts; i++)
	{
		Account    *account = attempt->accounts[i];

		foreach(lc, attempt->run->plan->hold_links)
		{
			PlanLink   *link = lfirst(lc);
			PlanKey    *key = link->key;
			Row		   *row;

			if (account->state != SD_PENDING || account->nulls[key->first_value])
				continue;
			row = sd_find_row(holds, key, link->compare,
							  &account->key[key->first_value]);
			if (row == NULL)
				continue;
			account->state = SD_HELD;
			MemoryContextSwitchTo(attempt->run->batch_context);
			account->hold = sd_copy_hold(row->account->hold);
			MemoryContextSwitchTo(attempt->context);
		}
	}
}

/*
 * The accounts on hold as an attempt of their own, in which nothing is deleted:
 * only to tell whose a row is.
 */
static Attempt *
find_held_rows(Attempt *attempt, RowSet *holds)
{
	DeletionPlan *plan = attempt->run->plan;
	Attempt    *held = palloc0(sizeof(Attempt));
	HeldAccounts accounts = {0};
	RowSet	   *rows;
	ListCell   *lc;

	held->run = attempt->run;
	held->context = attempt->context;
	held->rows_context = AllocSetContextCreate(attempt->context,
											   "scheduled_deletion rows on hold",
											   ALLOCSET_DEFAULT_SIZES);
	held->sets = palloc0(sizeof(RowSet *) * list_length(plan->steps));
	held->seen = palloc(sizeof(int) * plan->nlinks);

	held->sets[plan->account->number] = holds;
	foreach(lc, plan->hold_links)
	{
		accounts.link = lfirst(lc);
		sd_for_each_row(held, &accounts.link->collect, SPI_OK_SELECT, NULL,
						held_account, &accounts);
	}
	rows = sd_make_rows(plan->account);
	foreach(lc, accounts.rows)
		sd_add_row(rows, lfirst(lc));
	held->sets[plan->account->number] = rows;

	if (plan->shares_rows)
		sd_collect_rows(held);
	return held;
}

/* An account is on hold: with it come its other keys */
static void
held_account(Attempt *held, TupleTableSlot *slot, void *arg)
{
	HeldAccounts *accounts = arg;
	PlanStep   *step = held->run->plan->account;
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
	MemoryContext caller_context;
	ListCell   *lc;

	foreach(lc, links)
	{
		PlanLink   *link = lfirst(lc);
		Row		   *row = NULL;

		if (attempt->held->sets[link->key->step->number] != NULL)
			row = sd_row_of_link(attempt->held, link, slot, column);
		column += link->ncolumns;
		if (row == NULL || owner->state == SD_FAILED)
			continue;
		caller_context = MemoryContextSwitchTo(attempt->run->batch_context);
		owner->failure = sd_held_rows_failure(part->step->table,
											  row->account->hold->reason);
		owner->state = SD_FAILED;
		owner->is_blocked = false;
		MemoryContextSwitchTo(caller_context);
	}
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
 * Write an audit row for each of them, at the end of the run: until then, nobody who
 * places or releases a hold has to wait for it.  What was deleted must not be undone
 * if they cannot be written.
 */
void
sd_write_refusals(Run *run)
{
	ErrorData  *error;
	Failure    *failure;
	bool		done;

	if (run->refusals == NIL)
		return;
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
	return true;
}
