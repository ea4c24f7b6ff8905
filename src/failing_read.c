/*-------------------------------------------------------------------------
 *
 * failing_read.c
 *	  What deletion_failure says of accounts that have failed before: whether those
 *	  that a run has picked are there, and who is to be tried again.
 *
 * An account is found there by its key as text, where equal keys have equal texts;
 * of keys of other types all are read, once in each transaction.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/failing_read.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "run.h"

/* rows that are in memory at once */
#define CHUNK_SIZE		8192

/* columns of deletion_failure, whose order no version changes */
#define ANUM_ACCOUNT			2
#define ANUM_ATTEMPTS			3
#define ANUM_LAST_ATTEMPT_AT	5
#define ANUM_NEXT_ATTEMPT_AT	6

/* what is read of a row, but for column "uncertain" */
#define COLUMNS \
	"f.account, f.attempts, f.last_attempt_at, f.next_attempt_at," \
	" pg_catalog.hashtextextended(f.account, 0), %s"

static bool has_remembered(Run *run);
static void read_rows(Run *run, Remembered *remembered, const char *condition,
					  FailingPosition *after, int limit);
static void forget_rows(Remembered *remembered, ErrorData *error);
static bool make_accounts(void *arg);
static void make_account(Run *run, Account *account, SPITupleTable *rows, int i);
static void fill_from_slot(Run *run, Account *account, TupleTableSlot *slot);
static Datum hash_of_key(Datum key);
static void load_keys(Run *run);
static int	look_up(Run *run, Account *accounts, int naccounts);
static bool is_of_key(TupleTableSlot *slot, Datum key);

/*
 * Begin to know who has failed before, in a transaction: whether anybody of the
 * policy is remembered and, where keys have no exact text, who.
 */
void
sd_load_failing(Run *run)
{
	run->failing_rows = NULL;
	run->uncertain = get_attnum(get_relname_relid("deletion_failure", run->policy->schema),
								"uncertain");
	run->has_failing = has_remembered(run);
	if (run->has_failing && !sd_has_exact_text(run->plan->key))
		load_keys(run);
}

static bool
has_remembered(Run *run)
{
	Oid			argtypes[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(run->policy->name)};
	uint64		n = sd_execute_as_owner(run->policy->schema,
										psprintf("SELECT FROM %s WHERE policy OPERATOR(pg_catalog.=) $1 LIMIT 1",
												 sd_own_table(run->policy->schema, "deletion_failure")),
										SPI_OK_SELECT, lengthof(argtypes), argtypes,
										values, NULL);

	SPI_freetuptable(SPI_tuptable);
	return n > 0;
}

/*
 * Read rows of the policy in the current memory context: those that satisfy a
 * condition on what is $2 to $5, in the order of the columns named last, after a
 * position, no more than so many.
 */
static void
read_rows(Run *run, Remembered *remembered, const char *condition,
		  FailingPosition *after, int limit)
{
	Oid			schema = run->policy->schema;
	Oid			argtypes[] = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, INT8OID, INT4OID};
	Datum		values[lengthof(argtypes)];
	char		nulls[] = "      ";
	bool		done;
	ErrorData  *error;

	values[0] = CStringGetTextDatum(run->policy->name);
	values[1] = TimestampTzGetDatum(run->started_at);
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[3] = TimestampTzGetDatum(after->valid ? after->next_attempt_at : DT_NOBEGIN);
	values[4] = Int64GetDatum(after->valid ? after->hash : PG_INT64_MIN);
	values[5] = Int32GetDatum(limit);

	remembered->run = run;
	remembered->nrows =
		sd_execute_as_owner(schema,
							psprintf("SELECT " COLUMNS " FROM %s f"
									 " WHERE f.policy OPERATOR(pg_catalog.=) $1 AND %s LIMIT $6",
									 run->uncertain != 0 ? "f.uncertain" : "false",
									 sd_own_table(schema, "deletion_failure"), condition),
							SPI_OK_SELECT, lengthof(argtypes), argtypes, values, nulls);
	remembered->rows = SPI_tuptable;
	remembered->naccounts = 0;
	remembered->is_last = remembered->nrows < limit;
	if (remembered->nrows > 0)
	{
		bool		is_null;
		HeapTuple	last = remembered->rows->vals[remembered->nrows - 1];

		after->valid = true;
		after->next_attempt_at =
			DatumGetTimestampTz(SPI_getbinval(last, remembered->rows->tupdesc, 4,
											  &is_null));
		after->hash = DatumGetInt64(SPI_getbinval(last, remembered->rows->tupdesc, 5,
												  &is_null));
		error = sd_in_subtransaction(make_accounts, remembered, true, &done);
		if (error != NULL)
			forget_rows(remembered, error);
	}
	SPI_freetuptable(remembered->rows);
}

/*
 * Rows that cannot be read as keys any more, since those have another type now,
 * are forgotten; any other error is thrown on.
 */
static void
forget_rows(Remembered *remembered, ErrorData *error)
{
	Run		   *run = remembered->run;
	char	  **keys = palloc(sizeof(char *) * remembered->nrows);

	if (sd_concerns_the_call(error))
		ReThrowError(error);
	for (int i = 0; i < remembered->nrows; i++)
		keys[i] = SPI_getvalue(remembered->rows->vals[i], remembered->rows->tupdesc, 1);
	remembered->naccounts = 0;
	sd_forget_accounts(run->policy->schema, run->policy->name, keys,
					   remembered->nrows);
}

/*
 * Read accounts whose time has come, in the order in which they are to be tried,
 * after a position, which moves on: those that have failed for certain, or the
 * others.  What is to come was written when the clock was wrong.
 */
void
sd_read_to_be_tried(Run *run, Remembered *remembered, bool uncertain,
					FailingPosition *after, int limit)
{
	const char *which = "";

	if (run->uncertain != 0)
		which = uncertain ? "f.uncertain AND " : "NOT f.uncertain AND ";
	read_rows(run, remembered,
			  psprintf("%sf.next_attempt_at OPERATOR(pg_catalog.<=) $2"
					   " AND (f.last_attempt_at OPERATOR(pg_catalog.<) $2"
					   " OR f.last_attempt_at OPERATOR(pg_catalog.>) $3)"
					   " AND (f.next_attempt_at, pg_catalog.hashtextextended(f.account, 0))"
					   " OPERATOR(pg_catalog.>) ($4, $5)"
					   " ORDER BY f.next_attempt_at, 5", which),
			  after, limit);
}

/* Read any of them, after a position, which moves on */
void
sd_read_remembered(Run *run, Remembered *remembered, FailingPosition *after)
{
	read_rows(run, remembered,
			  "pg_catalog.hashtextextended(f.account, 0) OPERATOR(pg_catalog.>) $5"
			  " ORDER BY 5", after, CHUNK_SIZE);
}

/* Accounts of the rows; of those that are on hold it is noted that they are */
static bool
make_accounts(void *arg)
{
	Remembered *remembered = arg;
	Run		   *run = remembered->run;
	int			nestlevel = sd_begin_portable_text();
	int			n = 0;

	remembered->accounts = palloc0(sizeof(Account) * Max(remembered->nrows, 1));
	for (int i = 0; i < remembered->nrows; i++)
		make_account(run, &remembered->accounts[i], remembered->rows, i);
	AtEOXact_GUC(true, nestlevel);
	sd_ask_about(run, remembered->accounts, remembered->nrows);
	for (int i = 0; i < remembered->nrows; i++)
	{
		if (sd_is_held(run, &remembered->accounts[i]))
			sd_note_gone(run, &remembered->accounts[i]);
		else
			remembered->accounts[n++] = remembered->accounts[i];
	}
	sd_forget_asked(run);
	remembered->naccounts = n;
	return true;
}

/* The account of a row, pending, in the current memory context */
static void
make_account(Run *run, Account *account, SPITupleTable *rows, int i)
{
	PlanStep   *step = run->plan->account;
	int			nkeys = run->plan->key->ncolumns;
	bool		is_null;

	account->remembered = SPI_getvalue(rows->vals[i], rows->tupdesc, 1);
	account->key = palloc0(sizeof(Datum) * step->nvalues);
	memcpy(account->key,
		   sd_key_from_text(run->plan->key, account->remembered),
		   sizeof(Datum) * nkeys);
	account->nulls = palloc(sizeof(bool) * step->nvalues);
	memset(account->nulls, true, sizeof(bool) * step->nvalues);
	memset(account->nulls, false, sizeof(bool) * nkeys);
	account->rows = palloc0(sizeof(int64) * list_length(run->plan->steps));
	account->attempts =
		DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &is_null));
	account->last_attempt_at =
		DatumGetTimestampTz(SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &is_null));
	account->next_attempt_at =
		DatumGetTimestampTz(SPI_getbinval(rows->vals[i], rows->tupdesc, 4, &is_null));
	account->hash =
		DatumGetInt64(SPI_getbinval(rows->vals[i], rows->tupdesc, 5, &is_null));
	account->uncertain =
		DatumGetBool(SPI_getbinval(rows->vals[i], rows->tupdesc, 6, &is_null));
	account->has_failed = true;
}

/* What a row of deletion_failure says of an account but for its key */
static void
fill_from_slot(Run *run, Account *account, TupleTableSlot *slot)
{
	bool		is_null;

	account->has_failed = true;
	account->attempts = DatumGetInt32(slot_getattr(slot, ANUM_ATTEMPTS, &is_null));
	account->last_attempt_at =
		DatumGetTimestampTz(slot_getattr(slot, ANUM_LAST_ATTEMPT_AT, &is_null));
	account->next_attempt_at =
		DatumGetTimestampTz(slot_getattr(slot, ANUM_NEXT_ATTEMPT_AT, &is_null));
	account->hash =
		DatumGetInt64(hash_of_key(slot_getattr(slot, ANUM_ACCOUNT, &is_null)));
	if (run->uncertain != 0)
		account->uncertain =
			DatumGetBool(slot_getattr(slot, run->uncertain, &is_null));
}

/* The hash of a key as text, which the indexes have */
static Datum
hash_of_key(Datum key)
{
	return DirectFunctionCall2Coll(hashtextextended, DEFAULT_COLLATION_OID, key,
								   Int64GetDatum(0));
}

/* Read all that are remembered, where they cannot be asked for */
static void
load_keys(Run *run)
{
	PlanStep   *step = run->plan->account;
	FailingPosition position = {0};
	Remembered	remembered;

	run->failing_rows = sd_make_rows(step);
	do
	{
		sd_read_remembered(run, &remembered, &position);
		for (int i = 0; i < remembered.naccounts; i++)
			sd_add_account(run->failing_rows, step, &remembered.accounts[i]);
	} while (!remembered.is_last);
}

/*
 * Find out which of these accounts, which were picked, have failed before
 * ("has_failed"), and what is remembered of them.  Returns how many.
 */
int
sd_find_failing(Run *run, Account *accounts, int naccounts)
{
	int			nfound = 0;

	if (!run->has_failing)
		return 0;
	if (run->failing_rows == NULL)
	{
		for (int start = 0; start < naccounts; start += CHUNK_SIZE)
			nfound += look_up(run, accounts + start, Min(naccounts - start, CHUNK_SIZE));
		return nfound;
	}
	for (int i = 0; i < naccounts; i++)
	{
		Row		   *row = sd_find_row(run->failing_rows, run->plan->self, accounts[i].key);

		if (row == NULL)
			continue;
		accounts[i].attempts = row->account->attempts;
		accounts[i].last_attempt_at = row->account->last_attempt_at;
		accounts[i].next_attempt_at = row->account->next_attempt_at;
		accounts[i].hash = row->account->hash;
		accounts[i].uncertain = row->account->uncertain;
		accounts[i].has_failed = true;
		nfound++;
	}
	return nfound;
}

/*
 * The same by the hashes of their keys' texts, each looked up in the unique index:
 * a statement would cost more than the batch.
 */
static int
look_up(Run *run, Account *accounts, int naccounts)
{
	Oid			schema = run->policy->schema;
	Relation	table = table_open(get_relname_relid("deletion_failure", schema),
								   AccessShareLock);
	Relation	index = index_open(get_relname_relid("deletion_failure_account", schema),
								   AccessShareLock);
	TupleTableSlot *slot = table_slot_create(table, NULL);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "scheduled_deletion key",
												  ALLOCSET_SMALL_SIZES);
	ScanKeyData keys[2];
	IndexScanDesc scan;
	int			nfound = 0;

	PushActiveSnapshot(GetTransactionSnapshot());
	scan = sd_index_beginscan(table, index, GetActiveSnapshot(), lengthof(keys));
	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[0], F_TEXTEQ,
						   CStringGetTextDatum(run->policy->name));
	for (int i = 0; i < naccounts; i++)
	{
		MemoryContext caller_context = MemoryContextSwitchTo(context);
		Datum		key = CStringGetTextDatum(sd_key_text(run->plan->key, accounts[i].key));

		/* the scan must not allocate there */
		MemoryContextSwitchTo(caller_context);
		ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid,
							   InvalidOid, F_INT8EQ, hash_of_key(key));
		index_rescan(scan, keys, lengthof(keys), NULL, 0);
		if (index_getnext_slot(scan, ForwardScanDirection, slot) &&
			is_of_key(slot, key))
		{
			fill_from_slot(run, &accounts[i], slot);
			nfound++;
		}
		MemoryContextReset(context);
	}
	index_endscan(scan);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(table, NoLock);
	MemoryContextDelete(context);
	return nfound;
}

/* Is a row of deletion_failure about the account of that key, as text? */
static bool
is_of_key(TupleTableSlot *slot, Datum key)
{
	bool		is_null;
	Datum		account = slot_getattr(slot, ANUM_ACCOUNT, &is_null);

	return DatumGetBool(DirectFunctionCall2Coll(texteq, DEFAULT_COLLATION_OID,
												account, key));
}
