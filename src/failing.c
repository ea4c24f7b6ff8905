/*-------------------------------------------------------------------------
 *
 * failing.c
 *	  Accounts that have failed before: deletion_failure remembers them, so that
 *	  they are tried last, and not before some time has passed.
 *
 * A run asks of the accounts that it picks which are remembered, and leaves those
 * out.  It tries those whose time has come when nothing else is due, in their
 * order and in small batches: however many are remembered, they keep no other
 * account from being deleted, and cost a batch of others nearly nothing.  The time
 * between two attempts doubles, up to twelve hours, so that each nightly run tries
 * them all.
 *
 * An account is found there by its key as text, where equal keys have equal texts;
 * of keys of other types all are read.
 *
 * What is written there is in remember.c.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/failing.c
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
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "run.h"

/*
 * Accounts that are tried together; most of them will fail again.  Where
 * constraints can be deferred, each try checks all that the run has deferred
 * before.
 */
#define FAILING_BATCH		512
#define SMALL_FAILING_BATCH	64

/* so many of those whose fault it may not be are tried alone */
#define MANY_UNCERTAIN		64

/* remembered accounts, or keys to be looked up, that are in memory at once */
#define CHUNK_SIZE		8192

/* so few that each run looks at all of them at its end */
#define FEW_REMEMBERED	256

/* what they may take at least, in microseconds */
#define LEAST_TIME		(10 * USECS_PER_SEC)

/* columns of deletion_failure, whose order no version changes */
#define ANUM_ACCOUNT			2
#define ANUM_ATTEMPTS			3
#define ANUM_LAST_ATTEMPT_AT	5
#define ANUM_NEXT_ATTEMPT_AT	6

/* what is read of a row */
#define COLUMNS \
	"f.account, f.attempts, f.last_attempt_at, f.next_attempt_at," \
	" pg_catalog.hashtextextended(f.account, 0), %s"

/* What was read of deletion_failure, to be made accounts of */
typedef struct Remembered
{
	Run		   *run;
	SPITupleTable *rows;
	int			nrows;
	Account    *accounts;		/* but for those on hold ... */
	int			naccounts;		/* ... of which there are so many */
} Remembered;

static bool has_remembered(Run *run);
static bool has_exact_text(PlanKey *key);
static void read_remembered(Run *run, Remembered *remembered,
							const char *condition, FailingPosition *after,
							int limit);
static void forget_rows(Remembered *remembered, ErrorData *error);
static void read_to_be_tried(Run *run, Remembered *remembered, bool uncertain,
							 FailingPosition *after, int limit);
static bool are_left(Run *run);
static void read_all(Run *run, Remembered *remembered, FailingPosition *after);
static bool make_accounts(void *arg);
static void make_account(Run *run, Account *account, SPITupleTable *rows, int i);
static void fill_from_slot(Run *run, Account *account, TupleTableSlot *slot);
static void load_keys(Run *run);
static int	look_up(Run *run, Account *accounts, int naccounts);
static Datum hash_of_key(Datum key);
static bool is_of_key(TupleTableSlot *slot, Datum key);
static void look_at_all(Run *run,
						void (*look) (Run *run, Account *account, int64 *count),
						int64 *count);
static void count_due(Run *run, Account *account, int64 *count);
static bool was_tried(Run *run, Account *account);
static bool is_passed(Run *run, Account *account);
static bool is_waiting(Run *run, Account *account);
static void count_if_waiting(Run *run, Account *account, int64 *count);
static bool count_waiting_of_due(Run *run);

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
	if (run->has_failing && !has_exact_text(run->plan->key))
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
 * Do values that the key takes for equal have the same text?  Then who is
 * remembered can be asked by that.
 */
static bool
has_exact_text(PlanKey *key)
{
	for (int i = 0; i < key->ncolumns; i++)
	{
		KeyColumn  *column = &key->columns[i];

		if (column->opfamily >= FirstNormalObjectId)
			return false;
		switch (column->type)
		{
			case INT2OID:
			case INT4OID:
			case INT8OID:
			case OIDOID:
			case UUIDOID:
			case DATEOID:
			case BYTEAOID:
				break;
			case TEXTOID:
			case VARCHAROID:
				if (!get_collation_isdeterministic(column->collation))
					return false;
				break;
			default:
				return false;
		}
	}
	return true;
}

/*
 * Read rows of the policy in the current memory context: those that satisfy a
 * condition on what is $2 to $5, in the order of the columns named last, after a
 * position, no more than so many.
 */
static void
read_remembered(Run *run, Remembered *remembered, const char *condition,
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
static void
read_to_be_tried(Run *run, Remembered *remembered, bool uncertain,
				 FailingPosition *after, int limit)
{
	const char *which = "";

	if (run->uncertain != 0)
		which = uncertain ? "f.uncertain AND " : "NOT f.uncertain AND ";
	read_remembered(run, remembered,
					psprintf("%sf.next_attempt_at OPERATOR(pg_catalog.<=) $2"
							 " AND (f.last_attempt_at OPERATOR(pg_catalog.<) $2"
							 " OR f.last_attempt_at OPERATOR(pg_catalog.>) $3)"
							 " AND (f.next_attempt_at, pg_catalog.hashtextextended(f.account, 0))"
							 " OPERATOR(pg_catalog.>) ($4, $5)"
							 " ORDER BY f.next_attempt_at, 5", which),
					after, limit);
}

/* Read any of them, after a position, which moves on */
static void
read_all(Run *run, Remembered *remembered, FailingPosition *after)
{
	read_remembered(run, remembered,
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

	remembered->accounts = palloc0(sizeof(Account) * remembered->nrows);
	for (int i = 0; i < remembered->nrows; i++)
	{
		Account    *account = &remembered->accounts[n];

		memset(account, 0, sizeof(Account));
		make_account(run, account, remembered->rows, i);
		if (sd_is_held(run, account))
			sd_note_gone(run, account);
		else
			n++;
	}
	AtEOXact_GUC(true, nestlevel);
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
		read_all(run, &remembered, &position);
		for (int i = 0; i < remembered.naccounts; i++)
			sd_add_account(run->failing_rows, step, &remembered.accounts[i]);
	} while (remembered.nrows == CHUNK_SIZE);
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

/*
 * How many accounts are due that have failed before; not those that only may have.
 * All are looked at: the caller would else stop the run.
 */
int64
sd_count_failing_due(Run *run)
{
	int64		ndue = 0;

	if (run->has_failing)
		look_at_all(run, count_due, &ndue);
	return ndue;
}

/*
 * Look at all accounts of the policy that are remembered, some at a time: which
 * are due is "found"
 */
static void
look_at_all(Run *run, void (*look) (Run *run, Account *account, int64 *count),
			int64 *count)
{
	FailingPosition position = {0};
	Remembered	remembered;
	MemoryContext caller_context = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "scheduled_deletion failing",
												  ALLOCSET_DEFAULT_SIZES);

	do
	{
		Account   **accounts;

		MemoryContextSwitchTo(context);
		read_all(run, &remembered, &position);
		accounts = palloc(sizeof(Account *) * Max(remembered.naccounts, 1));
		for (int i = 0; i < remembered.naccounts; i++)
			accounts[i] = &remembered.accounts[i];
		if (remembered.naccounts > 0)
			sd_find_due(run, accounts, remembered.naccounts);
		for (int i = 0; i < remembered.naccounts; i++)
			look(run, accounts[i], count);
		MemoryContextSwitchTo(caller_context);
		MemoryContextReset(context);
	} while (remembered.nrows == CHUNK_SIZE);
	MemoryContextDelete(context);
}

static void
count_due(Run *run, Account *account, int64 *count)
{
	*count += account->found && account->attempts > 0;
}

/*
 * Accounts that have failed before and whose time has come, to be tried again;
 * returns how many: no more than fit into a batch.
 */
int
sd_copy_failing(Run *run, Account **accounts)
{
	Remembered	remembered = {0};

	for (int i = 0; i < (run->uncertain != 0 ? 2 : 1) && run->has_failing &&
		 remembered.naccounts == 0; i++)
	{
		FailingPosition first = {0};

		read_to_be_tried(run, &remembered, i == 1, &first, FAILING_BATCH);
	}
	*accounts = remembered.accounts;
	return remembered.naccounts;
}

/*
 * May accounts that have failed before be tried, and are there any whose time
 * has come? If that takes longer than all that went before, the others are left
 * to the next run, which begins with them.  Those whose fault it may not be come
 * last, and all in the same run: most of them can be deleted.
 */
bool
sd_may_try_failing(Run *run)
{
	if (run->until == 0)
	{
		int64		now = sd_clock();

		run->until = now + Max(now - run->began, LEAST_TIME);
	}
	if (!run->has_failing)
		return false;
	if (!run->tries_uncertain)
	{
		if (sd_clock() < run->until && are_left(run))
			return true;
		if (run->uncertain == 0)
			return false;
		run->tries_uncertain = true;
	}
	return are_left(run);
}

/* Are there any to be tried of those whose turn it is? */
static bool
are_left(Run *run)
{
	FailingPosition position = run->passed[run->tries_uncertain];
	Remembered	remembered;

	read_to_be_tried(run, &remembered, run->tries_uncertain, &position, 1);
	return remembered.nrows > 0;
}

/* Try a batch of them, no more than so many */
void
sd_try_failing(Run *run, int64 limit)
{
	Account    *accounts;
	int			n;

	if (!run->tries_failing)
	{
		run->tries_failing = true;
		run->searched = 0;
		run->failed_in_search = 0;
	}
	MemoryContextReset(run->batch_context);
	MemoryContextSwitchTo(run->batch_context);
	limit = Min(limit, run->can_defer ? SMALL_FAILING_BATCH : FAILING_BATCH);
	if (run->tries_uncertain)
		limit = Min(limit, sd_next_uncertain_batch(run));
	if (run->commits)
		limit = Min(limit, Min(run->batch_size, run->pace.size));
	if (run->announced > 0)
		limit = Min(limit, run->announced);
	if (limit > 0)
	{
		n = sd_next_failing(run, &accounts, limit);
		if (run->tries_uncertain)
			run->tried_uncertain += n;
		if (n > 0)
			(void) sd_delete_batch(run, accounts, n, false);
		sd_record_results(run, accounts, n);
	}
	MemoryContextSwitchTo(run->transaction_context);
}

/*
 * How many accounts to try together of which one may end the run: each alone, unless
 * they are many, so that it takes few of the others along
 */
int
sd_next_uncertain_batch(Run *run)
{
	if (sd_has_related_accounts(run->plan))
		return SMALL_FAILING_BATCH;
	return 1 + run->tried_uncertain / MANY_UNCERTAIN;
}

/* The next ones to be tried, no more than so many; returns how many */
int
sd_next_failing(Run *run, Account **accounts, int limit)
{
	Remembered	remembered;

	read_to_be_tried(run, &remembered, run->tries_uncertain,
					 &run->passed[run->tries_uncertain], limit);
	*accounts = remembered.accounts;
	return remembered.naccounts;
}

/*
 * Was an account tried since the run began, by it or by another?  What is to
 * come was written when the clock was wrong.
 */
static bool
was_tried(Run *run, Account *account)
{
	return account->last_attempt_at >= run->started_at &&
		account->last_attempt_at <= GetCurrentTimestamp();
}

/* Has the run come to an account, in the order in which they are tried? */
static bool
is_passed(Run *run, Account *account)
{
	FailingPosition *passed = &run->passed[account->uncertain];

	if (!passed->valid)
		return false;
	return account->next_attempt_at < passed->next_attempt_at ||
		(account->next_attempt_at == passed->next_attempt_at &&
		 account->hash <= passed->hash);
}

/*
 * Does an account wait that is due and has failed before?  Those that were to be
 * tried, and have not been for want of time, wait for the next run; but not where
 * the run was ended otherwise.
 */
static bool
is_waiting(Run *run, Account *account)
{
	return !was_tried(run, account) &&
		(account->next_attempt_at > run->started_at ||
		 (strcmp(run->stop_reason, "drained") == 0 && !is_passed(run, account)));
}

/*
 * Count the accounts that wait, in a run that has ended, and note which are not
 * due any more.  Where many are remembered, and few accounts are due, only those
 * are asked for: who is not due any more is then noted when its time comes.
 */
void
sd_count_waiting(Run *run)
{
	Oid			argtypes[] = {TEXTOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(run->policy->name),
	Int32GetDatum(FEW_REMEMBERED + 1)};

	if (!run->has_failing)
		return;
	if (sd_execute_as_owner(run->policy->schema,
							psprintf("SELECT FROM %s WHERE policy OPERATOR(pg_catalog.=) $1 LIMIT $2",
									 sd_own_table(run->policy->schema, "deletion_failure")),
							SPI_OK_SELECT, lengthof(argtypes), argtypes,
							values, NULL) > FEW_REMEMBERED)
	{
		/* who is due was picked, and all of them were asked for */
		if (run->is_drained && !run->meets_failing)
			return;
		if (count_waiting_of_due(run))
			return;
	}
	look_at_all(run, count_if_waiting, &run->results.waiting);
}

static void
count_if_waiting(Run *run, Account *account, int64 *count)
{
	if (!is_waiting(run, account))
		return;
	if (account->found)
		(*count)++;
	else
		sd_note_gone(run, account);
}

/* The same by the accounts that are due; false if they are not few */
static bool
count_waiting_of_due(Run *run)
{
	int			n;
	Account    *accounts = sd_pick_first_accounts(run, FEW_REMEMBERED + 1, &n);

	if (n > FEW_REMEMBERED)
		return false;
	(void) sd_find_failing(run, accounts, n);
	for (int i = 0; i < n; i++)
	{
		if (accounts[i].has_failed && is_waiting(run, &accounts[i]) &&
			!sd_is_held(run, &accounts[i]))
			run->results.waiting++;
	}
	return true;
}
