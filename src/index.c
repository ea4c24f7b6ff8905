/*-------------------------------------------------------------------------
 *
 * index.c
 *	  Whether a table has an index that serves a statement.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/index.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/amapi.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

/* more rows than that are too many to be gone through for one key */
#define MAX_ROWS_FOR_VALUE	1000

static bool serves(Relation index, WantedIndex *wanted);
static bool finds_one_value(Relation index);
static bool takes(Relation index, int column, WantedIndex *wanted, int name);
static bool is_implied(Relation index, WantedIndex *wanted);
static int	position_of(List *names, Relation index, AttrNumber attnum);

/* The index that finds the rows which lead to accounts by a link */
WantedIndex *
sd_index_of_link(PlanLink *link)
{
	WantedIndex *wanted = palloc0(sizeof(WantedIndex));
	ListCell   *lc;

	wanted->names = sd_link_names(link);
	wanted->operators = link->equals;
	for (int i = 0; i < link->ncolumns; i++)
	{
		Oid			type = get_atttype(link->step->table,
									   get_attnum(link->step->table,
												  link->names[i]));

		if (!IsPolymorphicType(link->types[i]) &&
			!IsBinaryCoercible(getBaseType(type), link->types[i]))
			wanted->is_converted = true;
	}
	if (link->definition != NULL)
	{
		foreach(lc, link->definition->matches)
			wanted->matched = lappend(wanted->matched,
									  ((StepMatch *) lfirst(lc))->column);
	}
	return wanted;
}

/* Is there an index that finds the rows which lead to accounts by a link? */
bool
sd_has_index_for(PlanLink *link)
{
	return sd_has_index(link->step->table, sd_index_of_link(link));
}

/* Has a table, and not only a partition of it, an index like that? */
bool
sd_has_index(Oid table, WantedIndex *wanted)
{
	Relation	rel = table_open(table, NoLock);
	bool		found = false;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		found = found || serves(index, wanted);
		index_close(index, AccessShareLock);
	}
	table_close(rel, NoLock);
	return found;
}

/* Can no two rows of a table have the same values in those columns? */
bool
sd_is_unique(Oid table, List *names)
{
	Relation	rel = table_open(table, NoLock);
	bool		found = false;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		bool		is_covered = form->indisunique && form->indisvalid &&
			!sd_is_partial(index);

		for (int i = 0; i < form->indnkeyatts; i++)
			is_covered = is_covered &&
				position_of(names, index, form->indkey.values[i]) >= 0;
		found = found || is_covered;
		index_close(index, AccessShareLock);
	}
	table_close(rel, NoLock);
	return found;
}

/*
 * Do the first columns of an index find the rows, or at least few others?
 * Between those wanted there may be some of which the value is known.
 */
static bool
serves(Relation index, WantedIndex *wanted)
{
	Form_pg_index form = index->rd_index;
	int			nfound = 0;
	double		rows;

	if (!form->indisvalid || !finds_one_value(index) || wanted->is_converted)
		return false;
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		AttrNumber	attnum = form->indkey.values[i];
		int			name = position_of(wanted->names, index, attnum);

		if (name >= 0 && takes(index, i, wanted, name))
			nfound++;
		else if (position_of(wanted->matched, index, attnum) < 0 &&
				 position_of(wanted->nulls, index, attnum) < 0)
			break;
		if (nfound == list_length(wanted->names))
			return is_implied(index, wanted);
	}
	if (nfound == 0)
		return false;

	/* some of the columns are enough if few rows have the same values there */
	rows = sd_rows_for_value(form->indrelid, form->indkey.values[0]);
	return (rows == SD_UNKNOWN || rows <= MAX_ROWS_FOR_VALUE) &&
		is_implied(index, wanted);
}

/* Need an index not be read whole for each value, as BRIN and bloom are? */
static bool
finds_one_value(Relation index)
{
	switch (index->rd_rel->relam)
	{
		case BTREE_AM_OID:
		case HASH_AM_OID:
		case GIN_AM_OID:
		case GIST_AM_OID:
		case SPGIST_AM_OID:
			return true;
	}
	return index->rd_indam->amcanorder;
}

/* Does an index compare a column as the statement does? */
static bool
takes(Relation index, int column, WantedIndex *wanted, int name)
{
	Oid			table = index->rd_index->indrelid;
	AttrNumber	attnum = index->rd_index->indkey.values[column];
	Oid			type;
	int32		typmod;
	Oid			collation;

	if (wanted->operators == NULL)
		return index->rd_rel->relam == BTREE_AM_OID;
	get_atttypetypmodcoll(table, attnum, &type, &typmod, &collation);
	return op_in_opfamily(wanted->operators[name], index->rd_opfamily[column]) &&
		index->rd_indcollation[column] == collation;
}

/*
 * Has a partial index all rows that the statement is about?  Its predicate is
 * only looked at: RelationGetIndexPredicate() would evaluate functions in it, with
 * the rights of whoever looks.
 */
static bool
is_implied(Relation index, WantedIndex *wanted)
{
	Datum		predicate;
	bool		is_null;
	ListCell   *lc;

	predicate = SysCacheGetAttr(INDEXRELID, index->rd_indextuple,
								Anum_pg_index_indpred, &is_null);
	if (is_null)
		return true;
	foreach(lc, make_ands_implicit(stringToNode(TextDatumGetCString(predicate))))
	{
		NullTest   *test = lfirst(lc);
		AttrNumber	attnum;

		if (!IsA(test, NullTest) || !IsA(test->arg, Var))
			return false;
		attnum = ((Var *) test->arg)->varattno;
		if (test->nulltesttype == IS_NULL ?
			position_of(wanted->nulls, index, attnum) < 0 :
			position_of(wanted->names, index, attnum) < 0 &&
			position_of(wanted->matched, index, attnum) < 0)
			return false;
	}
	return true;
}

/* Has an index only some of the rows? */
bool
sd_is_partial(Relation index)
{
	return !heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/* The place of a column of the index's table among names, or -1 */
static int
position_of(List *names, Relation index, AttrNumber attnum)
{
	char	   *name;
	ListCell   *lc;

	if (attnum == InvalidAttrNumber)	/* an expression */
		return -1;
	name = get_attname(index->rd_index->indrelid, attnum, false);
	foreach(lc, names)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return foreach_current_index(lc);
	}
	return -1;
}
