/*-------------------------------------------------------------------------
 *
 * strangers.c
 *	  What rows that are deleted lead to, and is not deleted: read upwards, to the
 *	  accounts to which it belongs.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/strangers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "share.h"

/* Rows that are being read */
typedef struct RowsAbove
{
	PlanStep   *step;
	List	   *found;			/* Row * */
} RowsAbove;

static void read_link(Attempt *attempt, LinkStrangers *of_link);
static RowSet *rows_above(Attempt *attempt, PlanStep *step);
static bool is_hold_key(Attempt *attempt, PlanLink *link);
static CoercionPathType conversion(PlanLink *link, int column, Oid *function);
static void add_keys(RowSet *above, PlanLink *link, List *strangers);
static void read_above(Attempt *attempt, PlanLink *link, Datum *values);
static Datum *array_of_column(LinkStrangers *of_link, List *strangers);
static void add_rows_above(Attempt *attempt, PlanStep *step,
						   PlanStatement *statement, Datum *values);
static void row_above(Attempt *attempt, TupleTableSlot *slot, void *arg);
static bool has_shared_keys(PlanStep *step);

/*
 * Note where a link leads from a row whose columns begin with that one of the slot,
 * and who must stay for it, unless that is a row of the attempt, or nothing.
 */
void
sd_note_stranger(Attempt *attempt, PlanLink *link, const Stranger *who,
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

/* Read what is not read yet of what rows lead to; false if there is nothing */
bool
sd_read_strangers(Attempt *attempt)
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
	MemoryContext caller_context = MemoryContextSwitchTo(attempt->context);
	RowSet	   *above = rows_above(attempt, step);
	List	   *strangers = of_link->strangers;
	List	   *unread = NIL;
	ListCell   *lc;

	of_link->strangers = NIL;	/* reading them finds others */
	foreach(lc, strangers)
	{
		Stranger   *stranger = lfirst(lc);
		Row		   *row = sd_find_row(above, link, stranger->values);

		if (row == NULL || !row->is_read[link->key->number])
			unread = lappend(unread, stranger);
	}
	if (is_hold_key(attempt, link))
		add_keys(above, link, unread);
	else if (unread != NIL)
		read_above(attempt, link, array_of_column(of_link, unread));
	foreach(lc, strangers)
	{
		Stranger   *stranger = lfirst(lc);
		Row		   *row = sd_find_row(above, link, stranger->values);

		if (row == NULL)
			continue;
		row->is_read[link->key->number] = true;
		sd_add_lead(attempt, (Lead) {.row = row,.key = link->key,
					 .target = stranger->row,.table = stranger->table,
					 .above = stranger->above});
	}
	list_free(unread);
	list_free_deep(strangers);
	MemoryContextSwitchTo(caller_context);
}

/* The rows of a step that stay, to which others lead; made in the attempt's context */
static RowSet *
rows_above(Attempt *attempt, PlanStep *step)
{
	RowSet	  **above = &attempt->sharing->above[step->number];

	if (*above == NULL)
		*above = sd_make_rows(step);
	return *above;
}

/*
 * Does a link lead to accounts by the key by which holds on them are placed, and can its
 * values be converted to that?  Then nothing more has to be known of them.
 */
static bool
is_hold_key(Attempt *attempt, PlanLink *link)
{
	PlanStep   *step = link->key->step;
	List	   *keys = sd_hold_keys(attempt->run->plan, step);

	if ((step != attempt->run->plan->account && !step->is_watched) ||
		list_length(keys) != 1 || linitial(keys) != link->key || !link->key->is_unique)
		return false;
	for (int i = 0; i < link->ncolumns; i++)
	{
		Oid			function;

		if (conversion(link, i, &function) == COERCION_PATH_NONE)
			return false;
	}
	return true;
}

/* How a value of a link becomes one of its key: none if not without loss */
static CoercionPathType
conversion(PlanLink *link, int column, Oid *function)
{
	CoercionPathType path;

	*function = InvalidOid;
	if (link->types[column] == link->key->columns[column].type)
		return COERCION_PATH_RELABELTYPE;
	path = find_coercion_pathway(link->key->columns[column].type,
								 link->types[column], COERCION_IMPLICIT, function);
	return path == COERCION_PATH_RELABELTYPE ||
		(path == COERCION_PATH_FUNC && get_func_nargs(*function) == 1) ?
		path : COERCION_PATH_NONE;
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
			Datum		value = ((Stranger *) lfirst(lc))->values[i];
			Oid			function;

			(void) conversion(link, i, &function);
			row->nulls[link->key->first_value + i] = false;
			row->values[link->key->first_value + i] = OidIsValid(function) ?
				OidFunctionCall1(function, value) : value;
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
void
sd_read_same_values(Attempt *attempt, PlanKey *key)
{
	RowSet	   *ours = attempt->sets[key->step->number];
	RowSet	   *above = rows_above(attempt, key->step);
	PlanStatement statement = {0};
	Oid			types[INDEX_MAX_KEYS];
	Oid			equals[INDEX_MAX_KEYS];
	Datum		values[INDEX_MAX_KEYS];

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
			sd_find_by_key(above, key, &row->values[key->first_value]) : NULL;

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

			sd_note_stranger(attempt, link, &(Stranger) {.row = row,.above = step},
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
