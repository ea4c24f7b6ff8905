/*-------------------------------------------------------------------------
 *
 * ahead.c
 *	  Ask for the pages of indexes that a statement is going to read, before it does.
 *
 * A bitmap scan of a table knows its pages, and reads ahead.  The scan of the
 * index that finds them does not: it waits for one leaf page after the other, and
 * where the index is not in memory that takes as long as all pages of the table.
 * But the keys are known, and which leaf pages they are on is written one level
 * above, where some hundred times fewer pages are.
 *
 * It is a hint: what has changed when the pages are read at last, or is not as it
 * should be, costs time, and nothing else.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/ahead.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "catalog/pg_am.h"
#include "executor/nodeIndexscan.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"

#include "scheduled_deletion.h"

/* The keys that are looked for in an index, and how far we are */
typedef struct LeafSearch
{
	Relation	index;
	BTScanInsert key;			/* the one that is looked for now */
	Datum	   *keys;
	bool	   *nulls;
	int			nkeys;
	int			next;			/* number of the key after that */
	BlockNumber *leaves;		/* found on the page above them */
	int			nleaves;
} LeafSearch;

static bool read_ahead_of_node(PlanState *node, int *room);
static void read_ahead_of_scan(BitmapIndexScanState *scan, int *room);
static ScanKey array_of_first_column(BitmapIndexScanState *scan);
static void read_ahead_of_keys(Relation index, ArrayType *keys, int *room);
static bool next_key(LeafSearch *search);
static Buffer read_parent(LeafSearch *search);
static Buffer read_page(Relation index, BlockNumber block);
static void find_leaves(LeafSearch *search, Page page);
static OffsetNumber find_child(LeafSearch *search, Page page,
							   OffsetNumber first);
static int32 compare(LeafSearch *search, Page page, OffsetNumber child);
static BlockNumber child_block(Page page, OffsetNumber child);

/*
 * Let the leaf pages be read ahead on which a query that is about to be executed
 * finds keys by an array of them; no more than there are shared buffers, as those
 * that come first must still be there when the last ones have come.
 */
void
sd_read_ahead_of_indexes(QueryDesc *query)
{
	int			room = NBuffers;

	(void) read_ahead_of_node(query->planstate, &room);
}

/* The same of one node of the plan and those below it */
static bool
read_ahead_of_node(PlanState *node, int *room)
{
	if (node == NULL)
		return false;
	if (IsA(node, BitmapIndexScanState))
		read_ahead_of_scan(castNode(BitmapIndexScanState, node), room);
	return planstate_tree_walker(node, read_ahead_of_node, room);
}

/* The same of one index; the executor has it open, and locked */
static void
read_ahead_of_scan(BitmapIndexScanState *scan, int *room)
{
	Relation	index = scan->biss_RelationDesc;
	ScanKey		keys;

	if (index == NULL || index->rd_rel->relam != BTREE_AM_OID)
		return;
	/* they are evaluated once more when it begins */
	if (scan->biss_NumRuntimeKeys > 0)
		ExecIndexEvalRuntimeKeys(scan->biss_RuntimeContext,
								 scan->biss_RuntimeKeys,
								 scan->biss_NumRuntimeKeys);
	keys = array_of_first_column(scan);
	if (keys != NULL)
		read_ahead_of_keys(index, DatumGetArrayTypeP(keys->sk_argument), room);
}

/* The array that an index's first column must be in, or NULL */
static ScanKey
array_of_first_column(BitmapIndexScanState *scan)
{
	for (int i = 0; i < scan->biss_NumScanKeys; i++)
	{
		ScanKey		key = &scan->biss_ScanKeys[i];

		if (key->sk_attno == 1 && (key->sk_flags & SK_SEARCHARRAY) &&
			!(key->sk_flags & SK_ISNULL) &&
			key->sk_strategy == BTEqualStrategyNumber &&
			(!OidIsValid(key->sk_subtype) ||
			 key->sk_subtype == scan->biss_RelationDesc->rd_opcintype[0]))
			return key;
	}
	return NULL;
}

/* Read ahead the leaf pages of these keys, which are best in the order of the index */
static void
read_ahead_of_keys(Relation index, ArrayType *keys, int *room)
{
	LeafSearch	search = {.index = index};
	int16		typlen;
	bool		typbyval;
	char		typalign;
	int			nread = 0;

	get_typlenbyvalalign(ARR_ELEMTYPE(keys), &typlen, &typbyval, &typalign);
	deconstruct_array(keys, ARR_ELEMTYPE(keys), typlen, typbyval, typalign,
					  &search.keys, &search.nulls, &search.nkeys);
	search.key = _bt_mkscankey(index, NULL);
	search.key->keysz = 1;
	search.leaves = palloc(sizeof(BlockNumber) * MaxIndexTuplesPerPage);

	while (*room > 0 && next_key(&search))
	{
		Buffer		parent = read_parent(&search);

		if (!BufferIsValid(parent))
			break;
		search.nleaves = 0;
		find_leaves(&search, BufferGetPage(parent));
		UnlockReleaseBuffer(parent);
		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < search.nleaves && *room > 0; i++, nread++, (*room)--)
			(void) PrefetchBuffer(index, MAIN_FORKNUM, search.leaves[i]);
	}
	elog(DEBUG1, "scheduled_deletion: %d pages of index \"%s\" are read ahead",
		 nread, RelationGetRelationName(index));
	pfree(search.leaves);
	pfree(search.key);
	pfree(search.keys);
	pfree(search.nulls);
}

/* Look for the next key; false if there is none */
static bool
next_key(LeafSearch *search)
{
	ScanKey		column = &search->key->scankeys[0];

	while (search->next < search->nkeys && search->nulls[search->next])
		search->next++;
	if (search->next == search->nkeys)
		return false;
	column->sk_argument = search->keys[search->next++];
	column->sk_flags &= ~SK_ISNULL;
	return true;
}

/*
 * The page above the leaf on which the first row with the key is, pinned and
 * locked; InvalidBuffer if the root is a leaf, or if pages are changed so fast
 * that another one was found.
 */
static Buffer
read_parent(LeafSearch *search)
{
	Buffer		buffer = read_page(search->index, BTREE_METAPAGE);
	BTMetaPageData *meta = BTPageGetMeta(BufferGetPage(buffer));
	BlockNumber block = meta->btm_fastroot;
	uint32		level = meta->btm_fastlevel;

	UnlockReleaseBuffer(buffer);
	for (; block != P_NONE && level > 0; level--)
	{
		Page		page;
		BTPageOpaque opaque;

		buffer = read_page(search->index, block);
		page = BufferGetPage(buffer);
		opaque = BTPageGetOpaque(page);
		if (PageIsNew(page) || P_IGNORE(opaque) || opaque->btpo_level != level ||
			P_FIRSTDATAKEY(opaque) > PageGetMaxOffsetNumber(page))
		{
			UnlockReleaseBuffer(buffer);
			break;
		}
		if (level == 1)
			return buffer;
		block = child_block(page, find_child(search, page, P_FIRSTDATAKEY(opaque)));
		UnlockReleaseBuffer(buffer);
	}
	return InvalidBuffer;
}

static Buffer
read_page(Relation index, BlockNumber block)
{
	Buffer		buffer = ReadBuffer(index, block);

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	return buffer;
}

/*
 * The leaves of the key and of those after it, as far as they are below this page.
 * Of a key that has rows on several leaves, all of these.
 */
static void
find_leaves(LeafSearch *search, Page page)
{
	BTPageOpaque opaque = BTPageGetOpaque(page);
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	OffsetNumber child = find_child(search, page, P_FIRSTDATAKEY(opaque));
	OffsetNumber found = InvalidOffsetNumber;

	for (;;)
	{
		if (child != found)
			search->leaves[search->nleaves++] = child_block(page, child);
		found = child;

		if (child < last && compare(search, page, child + 1) == 0)
		{
			child++;
			continue;
		}
		if (!next_key(search))
			return;
		if (compare(search, page, child) <= 0 ||
			(child == last && !P_RIGHTMOST(opaque) &&
			 compare(search, page, P_HIKEY) > 0))
			break;
		if (child < last && compare(search, page, child + 1) > 0)
			child = find_child(search, page, child + 1);
	}
	/* to be looked for from the root */
	search->next--;
}

/*
 * The last child, from the first one given on, that begins before the key: there
 * its first row is.  The first one must begin before it.
 */
static OffsetNumber
find_child(LeafSearch *search, Page page, OffsetNumber first)
{
	OffsetNumber low = first;
	OffsetNumber high = PageGetMaxOffsetNumber(page);

	while (low < high)
	{
		OffsetNumber middle = low + (high - low + 1) / 2;

		if (compare(search, page, middle) > 0)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* The key, compared with where a child begins */
static int32
compare(LeafSearch *search, Page page, OffsetNumber child)
{
	return _bt_compare(search->index, search->key, page, child);
}

static BlockNumber
child_block(Page page, OffsetNumber child)
{
	return BTreeTupleGetDownLink((IndexTuple) PageGetItem(page,
														  PageGetItemId(page, child)));
}
