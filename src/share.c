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
	Row		   *row;			/* what goes if that row goes: the row to which
								 * it leads for which it is deleted, or one that
								 * is above that */
	Oid			table;			/* whose row leads there; invalid if it stays */
	Datum		values[FLEXIBLE_ARRAY_MEMBER];
} Stranger;

/* The strangers of a link */
typedef struct LinkStrangers
{
	PlanLink   *link;
	PlanStatement above;		/* reads what they are, once it is prepared */
	List	   *strangers;		/* Stranger *: not read yet */
} LinkStrangers;

/* What the rows of an attempt share with others; lives as long as it does */
struct Sharing
{
	LinkStrangers *links;		/* by number of the link */
	RowSet	  **above;			/* by step: rows that stay, to which rows lead */
};

static bool none_collected_is_held(Attempt *attempt);
static void note_stranger(Attempt *attempt, PlanLink *link, Row *row, Oid table,
						  TupleTableSlot *slot, int column);
static bool read_strangers(Attempt *attempt);
static void read_link(Attempt *attempt, LinkStrangers *of_link);
static void read_above(Attempt *attempt, PlanLink *link, Datum *values);
static void read_same_values(Attempt *attempt, PlanKey *key);
static Datum *array_of_column(LinkStrangers *of_link, List *strangers);
static void row_above(Attempt *attempt, TupleTableSlot *slot, void *arg);
static bool has_shared_keys(PlanStep *step);
static void add_lead(Attempt *attempt, Lead lead);
static void note_held(Attempt *attempt, PlanStep *step, RowSet *rows, bool is_ours);
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
	if (!sd_is_any_on_hold(attempt->run))
		return;
	attempt->sharing = palloc0(sizeof(Sharing));
	attempt->sharing->links = palloc0(sizeof(LinkStrangers) * Max(plan->nlinks, 1));
	attempt->sharing->above = palloc0(sizeof(RowSet *) * list_length(plan->steps));
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

		note_stranger(attempt, link, target, part->step->table, slot, column);
		column += link->ncolumns;
	}
}

/*
 * Note where a link leads from a row whose columns begin with that one of the slot,
 * unless that is a row of the attempt, or nothing.
 */
static void
note_stranger(Attempt *attempt, PlanLink *link, Row *row, Oid table,
			  TupleTableSlot *slot, int column)
{
	RowSet	   *ours = attempt->sets[link->key->step->number];
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
	stranger->row = row;
	stranger->table = table;
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

	/* if the first one was placed meanwhile, nothing is known of sharing */
	if (attempt->sharing == NULL || !none_collected_is_held(attempt))
		return false;
	while (read_strangers(attempt))
		;
	foreach(lc, run->plan->steps)
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
	if (unread != NIL)
		read_above(attempt, link, array_of_column(of_link, unread));
	foreach(lc, strangers)
	{
		Stranger   *stranger = lfirst(lc);
		Row		   *row = sd_find_row(*above, link, stranger->values);

		if (row == NULL)
			continue;
		row->is_read[link->key->number] = true;
		add_lead(attempt, (Lead) {.row = row,.target = stranger->row,.table = stranger->table});
	}
	list_free(unread);
	list_free_deep(strangers);
	MemoryContextSwitchTo(caller_context);
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
	sd_set_doing(attempt, "reading", link->key->step->table);
	(void) sd_for_each_answer(attempt, above, values, row_above, link->key->step);
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
	sd_set_doing(attempt, "reading", key->step->table);
	(void) sd_for_each_answer(attempt, &statement, values, row_above, key->step);
	for (int i = 0; i < sd_count_rows(*above); i++)
		sd_get_row(*above, i)->is_read[key->number] = true;
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
	PlanStep   *step = arg;
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
		if (same != NULL)
			add_lead(attempt, (Lead) {.row = row,.target = same});
		sd_add_row(above, row);
		foreach(lc, step->links)
		{
			PlanLink   *link = lfirst(lc);

			note_stranger(attempt, link, row, InvalidOid, slot, column);
			column += link->ncolumns;
		}
	}
	MemoryContextSwitchTo(caller_context);
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
 * Note which rows of a step are accounts on hold.  Of those to be deleted, a row is
 * of its own table; what belongs to others is told by the table of the shared row.
 */
static void
note_held(Attempt *attempt, PlanStep *step, RowSet *rows, bool is_ours)
{
	MemoryContext caller_context = MemoryContextSwitchTo(attempt->context);
	RowSet	   *holds = sd_holds_on(attempt->run, step, rows);
	int			i = 0;
	Row		   *row;

	while (holds != NULL && (row = sd_next_same_row(rows, holds, &i)) != NULL)
	{
		row->held = sd_find_same_row(holds, row)->account->hold;
		if (is_ours)
			row->failure = sd_held_rows_failure(step->table, row->held->reason);
		attempt->is_shared = true;
	}
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

/* If a row must stay, what it leads to must, too; is that new? */
static bool
spread(Attempt *attempt, Lead *lead)
{
	Row		   *row = lead->row;
	Row		   *target = lead->target;

	if (row->held == NULL && lead->step != NULL)
		row = sd_find_same_row(attempt->sets[lead->step->number], row);
	if (row == NULL || row->held == NULL || target->held != NULL)
		return false;
	target->held = row->held;
	target->failure = OidIsValid(lead->table) ?
		sd_held_rows_failure(lead->table, row->held->reason) : row->failure;
	return true;
}
