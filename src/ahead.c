/*-------------------------------------------------------------------------
 *
 * ahead.c
 *	  Which pages are asked for before a statement that goes by an index reads them.
 *
 * A bitmap scan of a table knows its pages, and reads ahead as many as it is told to.
 * The scan of the index that finds them does not: it waits for one leaf page after
 * the other, and where the index is not in memory that takes as long as all pages of
 * the table.  But the keys are known, and which leaf pages they are on is written one
 * level above, where some hundred times fewer pages are.
 *
 * Where most pages of a table are wanted, asking for each is dearer than what it saves:
 * the operating system sees that they are read in order, and reads large pieces ahead
 * by itself, but only as long as nobody else does.  So there it is left to that.
 * (Since PostgreSQL 18 a scan asks for large pieces by itself.)
 *
 * All that is a hint: what has changed when the pages are read at last, or is not as it
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

#include "access/heapam.h"
#include "access/nbtree.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "executor/nodeIndexscan.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"

#include "scheduled_deletion.h"

/* pages of a table by which it is judged how far apart they lie */
#define PAGES_TO_JUDGE		64

/*
 * How far apart they lie if it is all the same: at 1.8, to ask for each took a sixth
 * longer, and at 5, not to ask a half.
 */
#define MAX_DISTANCE		2.5

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

/* A scan of a table, and the pages it has come to since it was last judged */
typedef struct WatchedScan
{
	dlist_node	node;			/* of watched_scans */
	MemoryContextCallback end;	/* takes it away with its query's memory */
	BitmapHeapScanState *scan;
	ExecProcNodeMtd next_row;
	int			read_ahead;		/* how many pages, if any */
	BlockNumber first_page;
	BlockNumber page;
	int			npages;
} WatchedScan;

/* The one that was last at work comes first; triggers may execute others meanwhile */
static dlist_head watched_scans = DLIST_STATIC_INIT(watched_scans);

static bool read_ahead_of_node(PlanState *node, void *room);
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
static void watch_scan(BitmapHeapScanState *scan);
static TupleTableSlot *next_row_of_watched(PlanState *node);
static WatchedScan *find_watched(PlanState *node);
static void end_watching(void *watched);
static void judge_scan(WatchedScan *watched);

/*
 * Let pages of indexes and tables be read ahead for a query that is about to be
 * executed.  Of indexes, it is no more of them than there are shared buffers: those
 * that come first must still be there when the last ones have come.
 */
void
sd_read_ahead(QueryDesc *query)
{
	MemoryContext caller_context = MemoryContextSwitchTo(query->estate->es_query_cxt);
	int			room = NBuffers;

	(void) read_ahead_of_node(query->planstate, &room);
	MemoryContextSwitchTo(caller_context);
}

/* The same of one node of the plan and those below it */
static bool
read_ahead_of_node(PlanState *node, void *room)
{
	if (node == NULL)
		return false;
	if (IsA(node, BitmapIndexScanState))
		read_ahead_of_scan(castNode(BitmapIndexScanState, node), room);
	else if (IsA(node, BitmapHeapScanState))
		watch_scan(castNode(BitmapHeapScanState, node));
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

/* Watch how far apart the pages of a scan lie; other kinds of tables have none */
static void
watch_scan(BitmapHeapScanState *scan)
{
	WatchedScan *watched;

	if (sd_get_read_ahead(scan) == 0 ||
		scan->ss.ss_currentRelation->rd_rel->relam != HEAP_TABLE_AM_OID)
		return;
	watched = palloc0(sizeof(WatchedScan));
	watched->end.func = end_watching;
	watched->end.arg = watched;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &watched->end);
	dlist_push_tail(&watched_scans, &watched->node);
	watched->scan = scan;
	watched->next_row = scan->ss.ps.ExecProcNodeReal;
	watched->read_ahead = sd_get_read_ahead(scan);
	ExecSetExecProcNode(&scan->ss.ps, next_row_of_watched);
}

/* Execute a scan, and judge it from time to time */
static TupleTableSlot *
next_row_of_watched(PlanState *node)
{
	WatchedScan *watched = find_watched(node);
	TupleTableSlot *slot = watched->next_row(node);
	BlockNumber page;

	if (TupIsNull(slot))
		return slot;
	page = ((HeapScanDesc) watched->scan->ss.ss_currentScanDesc)->rs_cblock;
	if (page != watched->page)
	{
		watched->page = page;
		if (++watched->npages == PAGES_TO_JUDGE)
			judge_scan(watched);
	}
	return slot;
}

/* What is known of a scan; partitions have their turns */
static WatchedScan *
find_watched(PlanState *node)
{
	dlist_iter	iter;

	dlist_foreach(iter, &watched_scans)
	{
		WatchedScan *watched = dlist_container(WatchedScan, node, iter.cur);

		if (&watched->scan->ss.ps != node)
			continue;
		dlist_move_head(&watched_scans, &watched->node);
		return watched;
	}
	elog(ERROR, "a scan is executed that is not watched");
}

static void
end_watching(void *watched)
{
	dlist_delete(&((WatchedScan *) watched)->node);
}

/* Read pages ahead if of those that it has passed, too few were wanted */
static void
judge_scan(WatchedScan *watched)
{
	BlockNumber passed = watched->page - watched->first_page;
	int			read_ahead = passed > MAX_DISTANCE * watched->npages ? watched->read_ahead : 0;

	if (read_ahead != sd_get_read_ahead(watched->scan))
	{
		elog(DEBUG1, "scheduled_deletion: table \"%s\": %d pages are read ahead from page %u on",
			 RelationGetRelationName(watched->scan->ss.ss_currentRelation), read_ahead,
			 watched->page);
		sd_set_read_ahead(watched->scan, read_ahead);
	}
	watched->first_page = watched->page;
	watched->npages = 0;
}
