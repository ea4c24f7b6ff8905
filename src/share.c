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
 * So what it costs depends on the rows of the attempt, and not on how many accounts
 * are on hold, nor on how many rows they have.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/share.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "run.h"

/* A row leads by a link to something that stays */
typedef struct Stranger
{
	Row		   *row;			/* which must stay for it: the one for which the
								 * row is deleted, or the row itself if that stays
								 * anyhow */
	Oid			table;			/* of the row that is deleted; or ... */
	PlanStep   *above;			/* ... of the one that stays */
	Datum		values[FLEXIBLE_ARRAY_MEMBER];
} Stranger;

/* The strangers of a link */
typedef struct LinkStrangers
{
	PlanLink   *link;
	PlanStatement above;		/* reads what they are, once it is prepared */
	List	   *strangers;		/* Stranger *: not read yet */
} LinkStrangers;

/* Rows that are being read */
typedef struct RowsAbove
{
	PlanStep   *step;
	List	   *found;			/* Row * */
} RowsAbove;

/* What the rows of an attempt share with others; lives as long as it does */
struct Sharing
{
	LinkStrangers *links;		/* by number of the link */
	RowSet	  **above;			/* by step: rows that stay, to which rows lead */
};

static bool none_collected_is_held(Attempt *attempt);
static void note_stranger(Attempt *attempt, PlanLink *link, const Stranger *who,
						  TupleTableSlot *slot, int column);
static bool read_strangers(Attempt *attempt);
static void read_link(Attempt *attempt, LinkStrangers *of_link);
static bool is_hold_key(Attempt *attempt, PlanLink *link);
static void add_keys(RowSet *above, PlanLink *link, List *strangers);
static void read_above(Attempt *attempt, PlanLink *link, Datum *values);
static void read_same_values(Attempt *attempt, PlanKey *key);
static Datum *array_of_column(LinkStrangers *of_link, List *strangers);
static void add_rows_above(Attempt *attempt, PlanStep *step,
						   PlanStatement *statement, Datum *values);
static void row_above(Attempt *attempt, TupleTableSlot *slot, void *arg);
static bool has_shared_keys(PlanStep *step);
static void add_lead(Attempt *attempt, Lead lead);
static void note_held(Attempt *attempt, PlanStep *step, RowSet *rows, bool is_ours);
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
	attempt->sharing->above = palloc0(sizeof(RowSet *) *
									  (list_length(plan->steps) + list_length(plan->watched)));
}

/*
 * Note that a row which was collected leads to another one: it may have to stay, and
 * then so must that.
 */
void
sd_note_lead(Attempt *attempt, PlanStep *step, Row *row, Row *target)
{
	if (attempt->sharing != NULL)
		add_lead(attempt, (Lead) {.step = step,.row = row,.target = target});
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

		note_stranger(attempt, link,
					  &(Stranger) {.row = target,.table = part->step->table},
					  slot, column);
		column += link->ncolumns;
	}
}

/*
 * Note where a link leads from a row whose columns begin with that one of the slot,
 * and who must stay for it, unless that is a row of the attempt, or nothing.
 */
static void
note_stranger(Attempt *attempt, PlanLink *link, const Stranger *who,
			  TupleTableSlot *slot, int column)
{
	RowSet	   *ours = link->key->step->is_watched ? NULL :
		attempt->sets[link->key->step->number];
	MemoryContext caller_context;
	LinkStrangers *of_link;
	Stranger   *stranger;

	for (int i = 0; i < link->ncolumns; i++)
	{
		if (slot_attisnull(slot, column + i))
			return;
	}
	/* of those with the same key, the others may be somebody else's */
	if (link->key->is_unique && ours != NULL &&
		sd_row_of_link(attempt, link, slot, column) != NULL)
		return;

	caller_context = MemoryContextSwitchTo(attempt->context);
	of_link = &attempt->sharing->links[link->number];
	of_link->link = link;
	stranger = palloc(offsetof(Stranger, values) + sizeof(Datum) * link->ncolumns);
	*stranger = *who;
	for (int i = 0; i < link->ncolumns; i++)
	{
		bool		is_null;
		Datum		value = slot_getattr(slot, column + i, &is_null);

		stranger->values[i] = datumCopy(value, get_typbyval(link->types[i]),
										get_typlen(link->types[i]));
	}
	of_link->strangers = lappend(of_link->strangers, stranger);
	MemoryContextSwitchTo(caller_context);
}

/*
 * Can all the collected rows be deleted?  If not, since one is an account on hold, the
 * accounts that it goes with are FAILED.  Nothing is deleted yet.
 */
bool
sd_may_delete_collected(Attempt *attempt)
{
	ListCell   *lc;

	if (attempt->sharing == NULL)
		return true;
	if (!none_collected_is_held(attempt))
		return false;
	foreach(lc, attempt->run->plan->links)
	{
		PlanKey    *key = ((PlanLink *) lfirst(lc))->key;

		if (!key->is_unique && attempt->sets[key->step->number] != NULL)
			read_same_values(attempt, key);
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
	while (read_strangers(attempt))
		;
	foreach(lc, list_concat_copy(run->plan->steps, run->plan->watched))
	{
		PlanStep   *step = lfirst(lc);

		if (attempt->sharing->above[step->number] != NULL)
			note_held(attempt, step, attempt->sharing->above[step->number], false);
	}
	return !fail_sharing(attempt);
}

/* Read what is not read yet of what rows lead to; false if there is nothing */
static bool
read_strangers(Attempt *attempt)
{
	bool		result = false;

	for (int i = 0; i < attempt->run->plan->nlinks; i++)
	{
		LinkStrangers *of_link = &attempt->sharing->links[i];

		if (of_link->strangers == NIL)
			continue;
		read_link(attempt, of_link);
		result = true;
	}
	return result;
}

/* The same of one link: it leads from rows to those above them */
static void
read_link(Attempt *attempt, LinkStrangers *of_link)
{
	PlanLink   *link = of_link->link;
	PlanStep   *step = link->key->step;
	RowSet	  **above = &attempt->sharing->above[step->number];
	MemoryContext caller_context = MemoryContextSwitchTo(attempt->context);
	List	   *strangers = of_link->strangers;
	List	   *unread = NIL;
	ListCell   *lc;

	of_link->strangers = NIL;	/* reading them finds others */
	if (*above == NULL)
		*above = sd_make_rows(step);
	foreach(lc, strangers)
	{
		Stranger   *stranger = lfirst(lc);
		Row		   *row = sd_find_row(*above, link, stranger->values);

		if (row == NULL || !row->is_read[link->key->number])
			unread = lappend(unread, stranger);
	}
	if (is_hold_key(attempt, link))
		add_keys(*above, link, unread);
	else if (unread != NIL)
		read_above(attempt, link, array_of_column(of_link, unread));
	foreach(lc, strangers)
	{
		Stranger   *stranger = lfirst(lc);
		Row		   *row = sd_find_row(*above, link, stranger->values);

		if (row == NULL)
			continue;
		row->is_read[link->key->number] = true;
		add_lead(attempt, (Lead) {.row = row,.key = link->key,
					 .target = stranger->row,.table = stranger->table,
					 .above = stranger->above});
	}
	list_free(unread);
	list_free_deep(strangers);
	MemoryContextSwitchTo(caller_context);
}

/*
 * Does a link lead to accounts by the key by which holds on them are placed?  Then
 * nothing more has to be known of them.
 */
static bool
is_hold_key(Attempt *attempt, PlanLink *link)
{
	DeletionPlan *plan = attempt->run->plan;
	PlanStep   *step = link->key->step;
	List	   *keys = sd_hold_keys(plan, step);

	if ((step != plan->account && !step->is_watched) ||
		list_length(keys) != 1 || linitial(keys) != link->key || !link->key->is_unique)
		return false;
	for (int i = 0; i < link->ncolumns; i++)
	{
		if (link->types[i] != link->key->columns[i].type)
			return false;
	}
	return true;
}

/* Add rows of which only that key is known, to which strangers lead */
static void
add_keys(RowSet *above, PlanLink *link, List *strangers)
{
	PlanStep   *step = link->key->step;
	ListCell   *lc;

	foreach(lc, strangers)
	{
		Row		   *row = sd_make_row(step, NULL);

		memset(row->nulls, true, sizeof(bool) * step->nvalues);
		for (int i = 0; i < link->ncolumns; i++)
		{
			row->nulls[link->key->first_value + i] = false;
			row->values[link->key->first_value + i] = ((Stranger *) lfirst(lc))->values[i];
		}
		sd_add_row(above, row);
	}
}

/* Read the rows to which those values lead by a link */
static void
read_above(Attempt *attempt, PlanLink *link, Datum *values)
{
	PlanStatement *above = &attempt->sharing->links[link->number].above;
	Oid			equals[INDEX_MAX_KEYS];

	if (above->plan == NULL)
	{
		for (int i = 0; i < link->ncolumns; i++)
			equals[i] = get_commutator(link->equals[i]);
		sd_write_above(link->key, link->types, equals, above);
		sd_prepare(above);
	}
	add_rows_above(attempt, link->key->step, above, values);
}

/*
 * Read who has the same values as rows of the attempt of a key that several rows may
 * have.  That is done before anything is deleted: the actions of foreign keys may
 * change these values.
 */
static void
read_same_values(Attempt *attempt, PlanKey *key)
{
	RowSet	   *ours = attempt->sets[key->step->number];
	RowSet	  **above = &attempt->sharing->above[key->step->number];
	PlanStatement statement = {0};
	Oid			types[INDEX_MAX_KEYS];
	Oid			equals[INDEX_MAX_KEYS];
	Datum		values[INDEX_MAX_KEYS];

	if (*above == NULL)
		*above = sd_make_rows(key->step);
	for (int i = 0; i < key->ncolumns; i++)
	{
		KeyColumn  *column = &key->columns[i];

		types[i] = column->type;
		equals[i] = get_opfamily_member(column->opfamily, column->opcintype,
										column->opcintype, BTEqualStrategyNumber);
		values[i] = sd_key_array(ours, key, i);
	}
	sd_write_above(key, types, equals, &statement);
	sd_prepare(&statement);
	add_rows_above(attempt, key->step, &statement, values);
	for (int i = 0; i < sd_count_rows(ours); i++)
	{
		Row		   *row = sd_get_row(ours, i);
		Row		   *first = sd_has_key(row, key) ?
			sd_find_by_key(*above, key, &row->values[key->first_value]) : NULL;

		if (first != NULL)
			first->is_read[key->number] = true;
	}
}

/* The values of strangers, an array for each column of their link */
static Datum *
array_of_column(LinkStrangers *of_link, List *strangers)
{
	PlanLink   *link = of_link->link;
	Datum	   *arrays = palloc(sizeof(Datum) * link->ncolumns);
	Datum	   *values = palloc_extended(sizeof(Datum) * list_length(strangers),
										 MCXT_ALLOC_HUGE);

	for (int i = 0; i < link->ncolumns; i++)
	{
		int16		length;
		bool		by_value;
		char		alignment;
		ListCell   *lc;

		get_typlenbyvalalign(link->types[i], &length, &by_value, &alignment);
		foreach(lc, strangers)
			values[foreach_current_index(lc)] = ((Stranger *) lfirst(lc))->values[i];
		arrays[i] = PointerGetDatum(construct_array(values, list_length(strangers),
													link->types[i], length, by_value,
													alignment));
	}
	pfree(values);
	return arrays;
}

/*
 * A row of a step to which others lead, and that is not deleted: its keys, and then
 * the columns of the step's links.  What it leads to is above it.
 */
static void
row_above(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	RowsAbove  *rows = arg;
	PlanStep   *step = rows->step;
	RowSet	   *above = attempt->sharing->above[step->number];
	MemoryContext caller_context = MemoryContextSwitchTo(attempt->context);
	Row		   *row = sd_make_row(step, NULL);
	Row		   *same;
	int			column = step->nvalues + 1;
	ListCell   *lc;

	sd_fill_row(step, row, slot, 1);
	same = sd_find_same_row(above, row);
	if (same == NULL || has_shared_keys(step))
	{
		rows->found = lappend(rows->found, row);
		foreach(lc, step->links)
		{
			PlanLink   *link = lfirst(lc);

			note_stranger(attempt, link, &(Stranger) {.row = row,.above = step},
						  slot, column);
			column += link->ncolumns;
		}
	}
	MemoryContextSwitchTo(caller_context);
}

/* Read rows above by a statement, and add them */
static void
add_rows_above(Attempt *attempt, PlanStep *step, PlanStatement *statement,
			   Datum *values)
{
	RowSet	   *above = attempt->sharing->above[step->number];
	RowsAbove	rows = {.step = step};
	ListCell   *lc;

	sd_set_doing(attempt, "reading", step->table);
	(void) sd_for_each_answer(attempt, statement, values, row_above, &rows);
	foreach(lc, rows.found)
		sd_add_row(above, lfirst(lc));
	list_free(rows.found);
}

/* The bytes that all of this takes, roughly */
double
sd_size_of_sharing(Attempt *attempt)
{
	double		size = (double) attempt->max_leads * sizeof(Lead);

	for (int i = 0; attempt->sharing != NULL &&
		 i < list_length(attempt->run->plan->steps); i++)
	{
		if (attempt->sharing->above[i] != NULL)
			size += sd_count_rows(attempt->sharing->above[i]) * SD_ROW_MEMORY;
	}
	return size;
}

/* Can rows of a step have a key in common? */
static bool
has_shared_keys(PlanStep *step)
{
	ListCell   *lc;

	foreach(lc, step->keys)
	{
		if (!((PlanKey *) lfirst(lc))->is_unique)
			return true;
	}
	return false;
}

/* Add a lead to those of the attempt */
static void
add_lead(Attempt *attempt, Lead lead)
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
