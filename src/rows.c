/*-------------------------------------------------------------------------
 *
 * rows.c
 *	  The rows of a step that belong to the accounts of an attempt: by which keys
 *	  rows of other tables refer to them, and whose they are.
 *
 * A set is filled by one statement after the other, and then asked: for arrays
 * of a key's values, which are parameters of the statements that follow, and
 * for the row that a value belongs to.  For the arrays, the rows are sorted by the key
 * when it is first asked for, and again when rows were added; where the type has a hash
 * function, a row is found by a table of hashes, to which those are added that are new.
 *
 * Nothing tells rows apart for certain: a table need not have a primary key, and
 * a key to which only the policy leads need not be unique.  So all is said of the
 * values of each key, which are what others refer to.
 *
 * A set and all that is in it lives in the memory context that is current when
 * it is made.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/rows.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "run.h"

/*
 * Values of a key that some row may have, how they are compared (value, key),
 * and hashed
 */
typedef struct Wanted
{
	PlanKey    *key;
	FmgrInfo   *compare;
	FmgrInfo   *hash;			/* NULL: not at all */
	Datum	   *values;
} Wanted;

/* A row in a table of hashes */
typedef struct RowEntry
{
	Row		   *row;
	uint32		hash;
	char		status;
} RowEntry;

static int	compare_values(Wanted *wanted, Row *row);

/* What is looked up is in private_data, as no row has it yet */
#define SH_PREFIX rowhash
#define SH_ELEMENT_TYPE RowEntry
#define SH_KEY_TYPE Row *
#define SH_KEY row
#define SH_HASH_KEY(table, key) 0
#define SH_EQUAL(table, a, b) (compare_values((table)->private_data, a) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* The rows of a set that have a key, sorted by it; of equal ones, the first added */
typedef struct RowIndex
{
	bool		is_valid;		/* no row was added since it was sorted */
	Row		  **rows;
	int			nrows;
	Row		   *last;			/* found last; values come in runs */
	rowhash_hash *hashes;		/* NULL if not made yet ... */
	int			nhashed;		/* ... of so many rows of the set */
	Datum	   *arrays;			/* of each column, 0 if not made yet */
} RowIndex;

struct RowSet
{
	PlanStep   *step;
	MemoryContext context;
	Row		  **rows;			/* in the order in which they were added */
	int			nrows;
	int			max_rows;
	RowIndex   *indexes;		/* by number of the key */
};

static void copy_values(PlanStep *step, Row *row);
static Row *find(RowSet *set, Wanted *wanted);
static Row *find_by_hash(RowSet *set, Wanted *wanted);
static void hash_new_rows(RowSet *set, PlanKey *key);
static uint32 hash_values(PlanKey *key, FmgrInfo *hash, Datum *values);
static Row *find_by_order(RowIndex *index, Wanted *wanted);
static RowIndex *valid_index(RowSet *set, PlanKey *key);
static Row *find_key(RowSet *set, Row *row, PlanKey *key);
static int	compare_rows(const void *a, const void *b, void *arg);
static int	compare_rows_in_order(const void *a, const void *b, void *arg);
static Datum make_array(Row **rows, int nrows, PlanKey *key, int column);

/* An empty set, for rows of that step */
RowSet *
sd_make_rows(PlanStep *step)
{
	RowSet	   *set = palloc0(sizeof(RowSet));

	set->step = step;
	set->context = CurrentMemoryContext;
	set->max_rows = 64;
	set->rows = palloc(sizeof(Row *) * set->max_rows);
	set->indexes = palloc0(sizeof(RowIndex) * list_length(step->keys));
	return set;
}

/*
 * A row of that step and account in the current memory context, which the caller
 * fills in, and may add to a set that does not live longer.
 */
Row *
sd_make_row(PlanStep *step, Account *account)
{
	int			nvalues = step->nvalues;
	Row		   *row = palloc0(offsetof(Row, values) +
							  (sizeof(Datum) + sizeof(bool)) * nvalues +
							  sizeof(bool) * list_length(step->keys));

	row->account = account;
	row->rows = account != NULL ? account->rows : NULL;
	row->nulls = (bool *) &row->values[nvalues];
	row->deleted = row->nulls + nvalues;
	return row;
}

/*
 * Give a row the values of all keys, which begin with that column of a slot; they
 * are copied into the current memory context.
 */
void
sd_fill_row(PlanStep *step, Row *row, TupleTableSlot *slot, int first_column)
{
	for (int i = 0; i < step->nvalues; i++)
		row->values[i] = slot_getattr(slot, first_column + i, &row->nulls[i]);
	copy_values(step, row);
}

/* Let a row's values be its own, in the current memory context */
static void
copy_values(PlanStep *step, Row *row)
{
	ListCell   *lc;

	foreach(lc, step->keys)
	{
		PlanKey    *key = lfirst(lc);

		for (int i = 0; i < key->ncolumns; i++)
		{
			KeyColumn  *column = &key->columns[i];
			int			n = key->first_value + i;

			if (!row->nulls[n])
				row->values[n] = datumCopy(row->values[n], column->typbyval,
										   column->typlen);
		}
	}
}

/* Add a row to a set */
void
sd_add_row(RowSet *set, Row *row)
{
	if (set->nrows == set->max_rows)
	{
		set->max_rows *= 2;
		set->rows = repalloc_huge(set->rows, sizeof(Row *) * set->max_rows);
	}
	row->number = set->nrows;
	set->rows[set->nrows++] = row;
	for (int i = 0; i < list_length(set->step->keys); i++)
		set->indexes[i].is_valid = false;
}

/*
 * Add the row of an account, as far as its values are known.  They are copied to
 * where the row is: it is compared with each of the rows that lead to it, in
 * whatever order they come, and each place in memory that is looked at costs.
 */
void
sd_add_account(RowSet *set, PlanStep *step, Account *account)
{
	Row		   *row = sd_make_row(step, account);

	memcpy(row->values, account->key, sizeof(Datum) * step->nvalues);
	memcpy(row->nulls, account->nulls, sizeof(bool) * step->nvalues);
	copy_values(step, row);
	sd_add_row(set, row);
}

int
sd_count_rows(RowSet *set)
{
	return set->nrows;
}

Row *
sd_get_row(RowSet *set, int i)
{
	return set->rows[i];
}

/* The row to whose key values lead by a link, or NULL */
Row *
sd_find_row(RowSet *set, PlanLink *link, Datum *values)
{
	Wanted		wanted = {link->key, link->compare, link->hash, values};

	return find(set, &wanted);
}

/* The row with that key, or NULL */
Row *
sd_find_by_key(RowSet *set, PlanKey *key, Datum *values)
{
	Wanted		wanted = {key, key->compare, key->hash, values};

	return find(set, &wanted);
}

/* The row that is wanted, or NULL */
static Row *
find(RowSet *set, Wanted *wanted)
{
	return wanted->hash != NULL ? find_by_hash(set, wanted) :
		find_by_order(valid_index(set, wanted->key), wanted);
}

/* By a table of hashes, which is made when it is first needed */
static Row *
find_by_hash(RowSet *set, Wanted *wanted)
{
	RowIndex   *index = &set->indexes[wanted->key->number];
	RowEntry   *entry;

	hash_new_rows(set, wanted->key);
	index->hashes->private_data = wanted;
	entry = rowhash_lookup_hash(index->hashes, NULL,
								hash_values(wanted->key, wanted->hash, wanted->values));
	return entry != NULL ? entry->row : NULL;
}

/*
 * Hash the rows that were added since by a key, of equal ones the first; the hash table
 * lives as long as the set
 */
static void
hash_new_rows(RowSet *set, PlanKey *key)
{
	RowIndex   *index = &set->indexes[key->number];

	if (index->hashes == NULL)
		index->hashes = rowhash_create(set->context, Max(set->nrows, 64), NULL);
	for (; index->nhashed < set->nrows; index->nhashed++)
	{
		Row		   *row = set->rows[index->nhashed];
		Wanted		wanted = {key, key->compare, key->hash,
		&row->values[key->first_value]};
		bool		found;

		if (!sd_has_key(row, key))
			continue;
		index->hashes->private_data = &wanted;
		rowhash_insert_hash(index->hashes, row,
							hash_values(key, key->hash, wanted.values), &found);
	}
}

/* A hash of the values of all columns of a key */
static uint32
hash_values(PlanKey *key, FmgrInfo *hash, Datum *values)
{
	uint32		result = 0;

	for (int i = 0; i < key->ncolumns; i++)
		result = hash_combine(result,
							  DatumGetUInt32(FunctionCall1Coll(&hash[i],
															   key->columns[i].collation,
															   values[i])));
	return result;
}

/* By binary search: a type need not have a hash function */
static Row *
find_by_order(RowIndex *index, Wanted *wanted)
{
	int			low = 0;
	int			high = index->nrows - 1;

	if (index->last != NULL && compare_values(wanted, index->last) == 0)
		return index->last;
	while (low <= high)
	{
		int			middle = low + (high - low) / 2;
		int			result = compare_values(wanted, index->rows[middle]);

		if (result == 0)
			return index->last = index->rows[middle];
		if (result < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	return NULL;
}

/* A row of a set that has a key in common with another, or NULL */
Row *
sd_find_same_row(RowSet *set, Row *row)
{
	ListCell   *lc;

	foreach(lc, set->step->keys)
	{
		Row		   *same = sd_has_key(row, lfirst(lc)) ?
			find_key(set, row, lfirst(lc)) : NULL;

		if (same != NULL)
			return same;
	}
	return NULL;
}

/*
 * Has a row a key that is not in the set yet?  Only such a row leads to others
 * that are not known.
 */
bool
sd_is_new_row(RowSet *set, Row *row)
{
	ListCell   *lc;

	foreach(lc, set->step->keys)
	{
		if (sd_has_key(row, lfirst(lc)) && find_key(set, row, lfirst(lc)) == NULL)
			return true;
	}
	return false;
}

/* Note that a row was deleted; false if it has a key that is not in the set */
bool
sd_mark_deleted(RowSet *set, Row *row)
{
	ListCell   *lc;

	foreach(lc, set->step->keys)
	{
		PlanKey    *key = lfirst(lc);
		Row		   *same;

		if (!sd_has_key(row, key))
			continue;
		same = find_key(set, row, key);
		if (same == NULL)
			return false;
		same->deleted[key->number] = true;
	}
	return true;
}

/* Was a row with each key of each row deleted? */
bool
sd_all_deleted(RowSet *set)
{
	ListCell   *lc;

	foreach(lc, set->step->keys)
	{
		PlanKey    *key = lfirst(lc);
		RowIndex   *index = valid_index(set, key);

		for (int i = 0; i < index->nrows; i++)
		{
			if (!index->rows[i]->deleted[key->number])
				return false;
		}
	}
	return true;
}

/* The row of a set with the same key as another, or NULL */
static Row *
find_key(RowSet *set, Row *row, PlanKey *key)
{
	return sd_find_by_key(set, key, &row->values[key->first_value]);
}

/* An array of a column of a key, of all rows that have it */
Datum
sd_key_array(RowSet *set, PlanKey *key, int column)
{
	RowIndex   *index = valid_index(set, key);

	if (index->arrays[column] == 0)
	{
		MemoryContext caller_context = MemoryContextSwitchTo(set->context);

		index->arrays[column] = make_array(index->rows, index->nrows, key,
										   column);
		MemoryContextSwitchTo(caller_context);
	}
	return index->arrays[column];
}

/* The rows that have a key, one for each value of it, in its order; *nrows of them */
Row **
sd_rows_by_key(RowSet *set, PlanKey *key, int *nrows)
{
	RowIndex   *index = valid_index(set, key);

	*nrows = index->nrows;
	return index->rows;
}

/*
 * An array of a column of a key, of the rows added from number "first" on, in the
 * current context
 */
Datum
sd_new_key_array(RowSet *set, PlanKey *key, int column, int first)
{
	Row		  **rows = palloc_extended(sizeof(Row *) * Max(set->nrows - first, 1),
									   MCXT_ALLOC_HUGE);
	int			nrows = 0;
	Datum		array;

	for (int i = first; i < set->nrows; i++)
	{
		if (sd_has_key(set->rows[i], key))
			rows[nrows++] = set->rows[i];
	}
	array = make_array(rows, nrows, key, column);
	pfree(rows);
	return array;
}

/* The rows that have a key, sorted by it now if they are not */
static RowIndex *
valid_index(RowSet *set, PlanKey *key)
{
	RowIndex   *index = &set->indexes[key->number];
	MemoryContext caller_context;
	int			n = 0;

	if (index->is_valid)
		return index;

	caller_context = MemoryContextSwitchTo(set->context);
	if (index->rows != NULL)
		pfree(index->rows);
	index->rows = palloc_extended(sizeof(Row *) * Max(set->nrows, 1),
								  MCXT_ALLOC_HUGE);
	for (int i = 0; i < set->nrows; i++)
	{
		if (sd_has_key(set->rows[i], key))
			index->rows[n++] = set->rows[i];
	}
	qsort_arg(index->rows, n, sizeof(Row *), compare_rows_in_order, key);

	index->nrows = 0;
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || compare_rows(&index->rows[index->nrows - 1],
								   &index->rows[i], key) != 0)
			index->rows[index->nrows++] = index->rows[i];
	}
	index->arrays = palloc0(sizeof(Datum) * key->ncolumns);
	index->last = NULL;
	index->is_valid = true;
	MemoryContextSwitchTo(caller_context);
	return index;
}

/* Is no column of a row's key null?  Else nothing refers to it. */
bool
sd_has_key(Row *row, PlanKey *key)
{
	for (int i = 0; i < key->ncolumns; i++)
	{
		if (row->nulls[key->first_value + i])
			return false;
	}
	return true;
}

static int
compare_rows(const void *a, const void *b, void *arg)
{
	PlanKey    *key = arg;
	Row		   *row = *(Row *const *) a;
	int			result = 0;

	for (int i = 0; result == 0 && i < key->ncolumns; i++)
		result = DatumGetInt32(FunctionCall2Coll(&key->compare[i],
												 key->columns[i].collation,
												 row->values[key->first_value + i],
												 (*(Row *const *) b)->values[key->first_value + i]));
	return result;
}

/* The same; of rows with equal keys, the one that was added first comes first */
static int
compare_rows_in_order(const void *a, const void *b, void *arg)
{
	int			result = compare_rows(a, b, arg);

	return result != 0 ? result :
		(*(Row *const *) a)->number - (*(Row *const *) b)->number;
}

/* Compare wanted values with a row's key */
static int
compare_values(Wanted *wanted, Row *row)
{
	PlanKey    *key = wanted->key;
	int			result = 0;

	for (int i = 0; result == 0 && i < key->ncolumns; i++)
		result = DatumGetInt32(FunctionCall2Coll(&wanted->compare[i],
												 key->columns[i].collation,
												 wanted->values[i],
												 row->values[key->first_value + i]));
	return result;
}

/* An array of a column of a key */
static Datum
make_array(Row **rows, int nrows, PlanKey *key, int column)
{
	KeyColumn  *type = &key->columns[column];
	Datum	   *values = palloc_extended(sizeof(Datum) * Max(nrows, 1),
										 MCXT_ALLOC_HUGE);
	ArrayType  *array;

	for (int i = 0; i < nrows; i++)
		values[i] = rows[i]->values[key->first_value + column];
	array = construct_array(values, nrows, type->type, type->typlen,
							type->typbyval, type->typalign);
	pfree(values);
	return PointerGetDatum(array);
}
