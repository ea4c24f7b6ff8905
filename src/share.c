/*-------------------------------------------------------------------------
 *
 * share.c
 *	  Rows that an account shares with one on hold: they must stay, and so must the
 *	  account, with everybody else who would take them away.
 *
 * A row that is deleted tells where else it leads than to the account for which it
 * goes: to another account, or to a row that stays.  Those are followed upwards, to
 * the accounts to which they belong, once all rows of an attempt are deleted.  If one
 * of these is on hold, the attempt is rolled back, and all accounts from which links
 * lead to the shared row fail at once: to delete them again for each one would take
 * for ever in a long thread of replies.
 *
 * What is read of those is in strangers.c.  So what it costs depends on the rows of
 * the attempt, and not on how many accounts are on hold, nor on how many rows they
 * have.
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

#include "share.h"

static bool none_collected_is_held(Attempt *attempt);
static void note_held(Attempt *attempt, PlanStep *step, RowSet *rows,
					  bool is_ours);
static void must_stay(RowSet *above, PlanStep *step, Row *row, Hold *hold);
static bool fail_sharing(Attempt *attempt);
static bool spread(Attempt *attempt, Lead *lead);

/*
 * Begin to note what rows lead to, if anybody is on hold.  The current memory
 * context is the attempt's.
 */
void
sd_begin_sharing(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;

	attempt->sharing = NULL;
	attempt->is_shared = false;
	attempt->leads = NULL;
	attempt->nleads = attempt->max_leads = 0;
	if (!attempt->notes_sharing && !sd_is_any_on_hold(attempt->run))
		return;
	attempt->sharing = palloc0(sizeof(Sharing));
	attempt->sharing->links = palloc0(sizeof(LinkStrangers) * Max(plan->nlinks, 1));
	attempt->sharing->above = palloc0(sizeof(RowSet *) * sd_count_tables(plan));
}

/*
 * Note that a row which was collected leads to another one: it may have to stay, and
 * then so must that.
 */
void
sd_note_lead(Attempt *attempt, PlanStep *step, Row *row, Row *target)
{
	if (attempt->sharing != NULL)
		sd_add_lead(attempt, (Lead) {.step = step,.row = row,.target = target});
}

/*
 * A row was deleted that leads to "target" by the first of its part's links that
 * leads anywhere: note what else it leads to.  The columns of all links of the part
 * begin with that one of the slot.
 */
void
sd_note_strangers(Attempt *attempt, DeletePart *part, Row *target,
				  TupleTableSlot *slot, int column)
{
	ListCell   *lc;

	/* if it leads to no other, whether the target is shared is asked of that */
	if (attempt->sharing == NULL || !part->is_shared)
		return;
	foreach(lc, list_concat_copy(part->links, part->others))
	{
		PlanLink   *link = lfirst(lc);

		sd_note_stranger(attempt, link,
						 &(Stranger) {.row = target,.table = part->step->table},
						 slot, column);
		column += link->ncolumns;
	}
}

/*
 * Can all the collected rows be deleted?  If not, since one is an account on hold, the
 * accounts that it goes with are FAILED.  Nothing is deleted yet.
 */
bool
sd_may_delete_collected(Attempt *attempt)
{
	List	   *keys = NIL;
	ListCell   *lc;

	if (attempt->sharing == NULL)
		return true;
	if (!none_collected_is_held(attempt))
		return false;

	/* several links may lead to one key */
	foreach(lc, attempt->run->plan->links)
		keys = list_append_unique_ptr(keys, ((PlanLink *) lfirst(lc))->key);
	foreach(lc, keys)
	{
		PlanKey    *key = lfirst(lc);

		if (!key->is_unique && attempt->sets[key->step->number] != NULL)
			sd_read_same_values(attempt, key);
	}
	return true;
}

static bool
none_collected_is_held(Attempt *attempt)
{
	PlanStep   *account = attempt->run->plan->account;
	ListCell   *lc;

	foreach(lc, attempt->run->plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step != account && attempt->sets[step->number] != NULL)
			note_held(attempt, step, attempt->sets[step->number], true);
	}
	return !fail_sharing(attempt);
}

/*
 * Does no row of those that were deleted belong to an account on hold?  Rows that can
 * be accounts of other tables are not locked before they are deleted: by now, nobody
 * can place a hold on one any more.  If there is any, the accounts that they go with
 * are FAILED.
 */
bool
sd_none_is_held(Attempt *attempt)
{
	Run		   *run = attempt->run;
	ListCell   *lc;

	if (((PlanLink *) llast(run->plan->hold_links))->step != run->plan->account)
		sd_refresh_holds(run);
	if (!sd_is_any_on_hold(run))
		return true;

	/*
	 * If the first one was placed meanwhile, nothing is known of sharing.  If
	 * a trigger of the transaction has placed it, it is taken back now.
	 */
	if (attempt->sharing == NULL)
	{
		attempt->notes_sharing = true;
		return false;
	}
	if (!none_collected_is_held(attempt))
		return false;
	while (sd_read_strangers(attempt))
		;
	foreach(lc, list_concat_copy(run->plan->steps, run->plan->watched))
	{
		PlanStep   *step = lfirst(lc);

		if (attempt->sharing->above[step->number] != NULL)
			note_held(attempt, step, attempt->sharing->above[step->number], false);
	}
	return !fail_sharing(attempt);
}

/* The bytes that all of this takes, roughly */
double
sd_size_of_sharing(Attempt *attempt)
{
	double		size = (double) attempt->max_leads * sizeof(Lead);

	for (int i = 0; attempt->sharing != NULL &&
		 i < sd_count_tables(attempt->run->plan); i++)
	{
		if (attempt->sharing->above[i] != NULL)
			size += sd_count_rows(attempt->sharing->above[i]) * SD_ROW_MEMORY;
	}
	return size;
}

/* Add a lead to those of the attempt */
void
sd_add_lead(Attempt *attempt, Lead lead)
{
	if (attempt->nleads == attempt->max_leads)
	{
		Size		size;

		attempt->max_leads = Max(1024, attempt->max_leads * 2);
		size = sizeof(Lead) * attempt->max_leads;
		attempt->leads = attempt->leads == NULL ?
			MemoryContextAllocHuge(attempt->context, size) :
			repalloc_huge(attempt->leads, size);
	}
	attempt->leads[attempt->nleads++] = lead;
}

/*
 * Note which rows of a step are accounts on hold: of those to be deleted, whose own
 * table tells of it; or of those above.
 */
static void
note_held(Attempt *attempt, PlanStep *step, RowSet *rows, bool is_ours)
{
	MemoryContext caller_context = MemoryContextSwitchTo(attempt->context);
	RowSet	   *holds = sd_holds_on(attempt->run, step, rows);

	for (int i = 0; holds != NULL && i < sd_count_rows(rows); i++)
	{
		Row		   *row = sd_get_row(rows, i);
		Row		   *hold = sd_find_same_row(holds, row);

		if (hold == NULL)
			continue;
		attempt->is_shared = true;
		if (is_ours)
		{
			row->held = hold->account->hold;
			row->failure = sd_held_rows_failure(step->table, row->held->reason);
		}
		else
			must_stay(rows, step, row, hold->account->hold);
	}
	MemoryContextSwitchTo(caller_context);
}

/* A row above must stay, and what leads to it by any of its keys */
static void
must_stay(RowSet *above, PlanStep *step, Row *row, Hold *hold)
{
	ListCell   *lc;

	row->held = hold;
	foreach(lc, step->keys)
	{
		PlanKey    *key = lfirst(lc);
		Row		   *first = sd_has_key(row, key) ?
			sd_find_by_key(above, key, &row->values[key->first_value]) : NULL;

		if (first == NULL)
			continue;
		if (first->held_by_key == NULL)
			first->held_by_key = palloc0(sizeof(Hold *) * list_length(step->keys));
		first->held_by_key[key->number] = hold;
	}
}

/*
 * Fail all accounts from which links lead to rows that must stay; false if
 * there are none.  What leads to a row was mostly noted before it, so one pass
 * from the end does almost always.
 */
static bool
fail_sharing(Attempt *attempt)
{
	RowSet	   *accounts = attempt->sets[attempt->run->plan->account->number];
	MemoryContext caller_context;
	bool		found;

	if (!attempt->is_shared)
		return false;
	caller_context = MemoryContextSwitchTo(attempt->context);
	do
	{
		found = false;
		for (int i = attempt->nleads - 1; i >= 0; i--)
			found |= spread(attempt, &attempt->leads[i]);
	} while (found);

	MemoryContextSwitchTo(attempt->run->batch_context);
	found = false;
	for (int i = 0; i < sd_count_rows(accounts); i++)
	{
		Row		   *row = sd_get_row(accounts, i);

		if (row->failure == NULL)
			continue;
		row->account->state = SD_FAILED;
		row->account->failure = sd_copy_failure(row->failure);
		row->account->is_blocked = false;
		found = true;
	}
	MemoryContextSwitchTo(caller_context);
	return found;
}

/* If a row must stay, what leads to it must, too; is that new? */
static bool
spread(Attempt *attempt, Lead *lead)
{
	Row		   *target = lead->target;
	Row		   *row = lead->row;
	Hold	   *hold;

	if (target->held != NULL)
		return false;
	if (lead->key != NULL)
		hold = row->held_by_key != NULL ? row->held_by_key[lead->key->number] : NULL;
	else
	{
		if (row->held == NULL)
			row = sd_find_same_row(attempt->sets[lead->step->number], row);
		hold = row != NULL ? row->held : NULL;
	}
	if (hold == NULL)
		return false;
	if (lead->above != NULL)
		must_stay(attempt->sharing->above[lead->above->number], lead->above, target, hold);
	else
	{
		target->held = hold;
		target->failure = lead->key != NULL ?
			sd_held_rows_failure(lead->table, hold->reason) : row->failure;
	}
	return true;
}
