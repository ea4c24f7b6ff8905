/*-------------------------------------------------------------------------
 *
 * share.c
 *	  Rows that an account shares with one on hold: they must stay, and so must the
 *	  account, with everybody else who would take them away.
 *
 * Such a row is known before anything is deleted, if it is one that others
 * refer to; else it shows when it is deleted: it then returns what it looks
 * like under its lock, and the attempt is rolled back.  (Asking before would
 * cost every run, and miss those that are given to an account on hold
 * meanwhile.)  Either way, all accounts from which links lead to it fail at
 * once: to delete them again for each one would take for ever in a long thread
 * of replies.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/share.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "run.h"

static bool fail_sharing(Attempt *attempt);
static void check_link(Attempt *attempt, DeletePart *part, PlanLink *link,
					   Row *target, TupleTableSlot *slot, int *column);
static void must_stay(Attempt *attempt, PlanStep *step, Row *row, Row *held);

/*
 * Know whose rows must stay in an attempt: those of accounts on hold, as an
 * attempt of their own, in which nothing is deleted.
 */
void
sd_begin_sharing(Attempt *attempt)
{
	Run		   *run = attempt->run;
	DeletionPlan *plan = run->plan;
	Attempt    *held;

	attempt->held = NULL;
	attempt->shared = NIL;
	attempt->leads = NULL;
	attempt->nleads = attempt->max_leads = 0;
	if (run->held == NULL)
		return;

	held = palloc0(sizeof(Attempt));
	held->run = run;
	held->context = attempt->context;
	held->sets = run->held;
	attempt->held = held;
	if (!plan->shares_rows)
		return;

	held->rows_context = AllocSetContextCreate(attempt->context,
											   "scheduled_deletion rows on hold",
											   ALLOCSET_DEFAULT_SIZES);
	held->sets = palloc0(sizeof(RowSet *) * list_length(plan->steps));
	held->seen = palloc(sizeof(int) * plan->nlinks);
	sd_begin_rows(held);
	held->sets[plan->account->number] = sd_make_rows(plan->account);
	for (int i = 0; i < list_length(plan->steps); i++)
	{
		int			nrows = run->held[i] != NULL ? sd_count_rows(run->held[i]) : 0;

		for (int j = 0; j < nrows; j++)
			sd_add_row(held->sets[i], sd_get_row(run->held[i], j));
	}
	sd_collect_rows(held);
}

/*
 * Can all the collected rows be deleted?  If not, since one is an account on
 * hold, or a row of one, the accounts that it goes with are FAILED.
 */
bool
sd_may_delete_collected(Attempt *attempt)
{
	if (attempt->held == NULL)
		return true;
	for (int i = 0; i < attempt->nleads; i++)
	{
		Lead	   *lead = &attempt->leads[i];
		RowSet	   *held = attempt->held->sets[lead->step->number];

		if (held != NULL)
			must_stay(attempt, lead->step, lead->row,
					  sd_find_same_row(held, lead->row));
	}
	return !fail_sharing(attempt);
}

/*
 * Rows of other tables that can be accounts on hold are not locked before they
 * are deleted: has a hold been placed on one meanwhile?  By now, nobody can any
 * more.  If so, the accounts that they go with are FAILED.
 */
bool
sd_none_is_held(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	ListCell   *lc;

	if (((PlanLink *) llast(plan->hold_links))->step == plan->account)
		return true;
	attempt->held = NULL;		/* it may be gone after that */
	sd_refresh_holds(attempt->run);
	if (attempt->run->holds == NULL)
		return true;
	foreach(lc, plan->hold_links)
	{
		PlanStep   *step = ((PlanLink *) lfirst(lc))->step;
		RowSet	   *holds = attempt->run->holds[step->number];
		Row		   *row;
		int			i = 0;

		if (step == plan->account || holds == NULL)
			continue;
		while ((row = sd_next_same_row(attempt->sets[step->number], holds, &i)) != NULL)
			must_stay(attempt, step, row, sd_find_same_row(holds, row));
	}
	return !fail_sharing(attempt);
}

/*
 * A row was deleted that leads to "target" by the first of its part's links
 * that leads anywhere: does one lead to an account on hold, or a row of one,
 * too?  The columns of all links of the part begin with that one of the slot.
 */
void
sd_check_sharing(Attempt *attempt, DeletePart *part, Row *target,
				 TupleTableSlot *slot, int column)
{
	ListCell   *lc;

	/* if it leads to no other, whether the target is shared was asked of that */
	if (!part->is_shared)
		return;
	foreach(lc, part->links)
		check_link(attempt, part, lfirst(lc), target, slot, &column);
	foreach(lc, part->others)
		check_link(attempt, part, lfirst(lc), target, slot, &column);
}

static void
check_link(Attempt *attempt, DeletePart *part, PlanLink *link, Row *target,
		   TupleTableSlot *slot, int *column)
{
	if (attempt->held->sets[link->key->step->number] != NULL)
		must_stay(attempt, part->step, target,
				  sd_row_of_link(attempt->held, link, slot, *column));
	*column += link->ncolumns;
}

/* Is no row of those that were deleted shared?  Else the accounts are FAILED. */
bool
sd_none_is_shared(Attempt *attempt)
{
	return attempt->held == NULL || !fail_sharing(attempt);
}

/*
 * Note that a row, or what leads to it, must stay because of one on hold, if
 * there is one.
 */
static void
must_stay(Attempt *attempt, PlanStep *step, Row *row, Row *held)
{
	MemoryContext caller_context;

	if (held == NULL || row->failure != NULL)
		return;
	caller_context = MemoryContextSwitchTo(attempt->context);
	row->failure = sd_held_rows_failure(step->table, held->account->hold->reason);
	attempt->shared = lappend(attempt->shared, row);
	MemoryContextSwitchTo(caller_context);
}

/*
 * Fail all accounts from which links lead to rows that must stay; false if
 * there are none.  What leads to a row was mostly noted before it, so one pass
 * from the end does almost always.
 */
static bool
fail_sharing(Attempt *attempt)
{
	MemoryContext caller_context;
	bool		found;

	if (attempt->shared == NIL)
		return false;
	do
	{
		found = false;
		for (int i = attempt->nleads - 1; i >= 0; i--)
		{
			Lead	   *lead = &attempt->leads[i];
			Row		   *row = lead->row->failure != NULL ? lead->row :
				sd_find_same_row(attempt->sets[lead->step->number], lead->row);

			if (row == NULL || row->failure == NULL || lead->target->failure != NULL)
				continue;
			lead->target->failure = row->failure;
			attempt->shared = lappend(attempt->shared, lead->target);
			found = true;
		}
	} while (found);

	caller_context = MemoryContextSwitchTo(attempt->run->batch_context);
	for (int i = 0; i < sd_count_rows(attempt->sets[attempt->run->plan->account->number]); i++)
	{
		Row		   *row = sd_get_row(attempt->sets[attempt->run->plan->account->number], i);

		if (row->failure == NULL)
			continue;
		row->account->state = SD_FAILED;
		row->account->failure = sd_copy_failure(row->failure);
		row->account->is_blocked = false;
	}
	MemoryContextSwitchTo(caller_context);
	return true;
}
