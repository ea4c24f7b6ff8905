/*-------------------------------------------------------------------------
 *
 * suspects.c
 *	  Accounts that a run was deleting when it ended before its time: one of them
 *	  may end each run, so that the next one tries them last.
 *
 * An error that ends the procedure tells whom it was deleting, and they are written
 * into deletion_failure as "uncertain", with the ledger.  A session that dies, or a
 * commit that fails, can tell nothing any more.  So the ledger has, as of the commit
 * before, where the batch under way began and how many accounts it may have; the
 * next run of the policy picks these, and writes the same of them.
 *
 * The function keeps nothing of a transaction that was undone: to leave accounts out
 * of it, the procedure must have met them.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/suspects.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run.h"

#define INTERRUPTED	"a run was interrupted while it was deleting this account, or others"

static bool knows_batches(Oid schema);
static bool begin_after(Run *run, HeapTuple tuple, TupleDesc tupdesc);
static List *next_failing(Run *run, int limit);
static bool suspect_body(void *arg);
static void write_suspects(Run *run, List *keys, bool is_counted, TimestampTz at,
						   const char *sqlstate, const char *message);

/* What an interrupted run says of its batch */
typedef struct Interrupted
{
	Run		   *run;
	SPITupleTable *rows;		/* how many accounts, after which due time and
								 * account, or after which that have failed */
} Interrupted;

/* Does the ledger know of batches under way?  Only since version 1.2. */
static bool
knows_batches(Oid schema)
{
	return sd_has_own_column(schema, "deletion_run", "next_batch");
}

/*
 * An error ends the run while it is deleting these accounts: keep their keys until
 * that is written.
 */
void
sd_suspect(Run *run, Account **accounts, int naccounts)
{
	MemoryContext caller_context = MemoryContextSwitchTo(run->run_context);

	run->suspects = NIL;
	for (int i = 0; i < naccounts; i++)
		run->suspects = lappend(run->suspects,
								sd_key_text(run->plan->key, accounts[i]->key));
	MemoryContextSwitchTo(caller_context);
}

/*
 * Write who was being deleted when the run ended, by run->fatal_failure.  Who was it
 * alone has failed.
 */
void
sd_write_suspects(Run *run)
{
	if (run->suspects == NIL || !knows_batches(run->schema))
		return;
	write_suspects(run, run->suspects, list_length(run->suspects) == 1,
				   GetCurrentTimestamp(),
				   unpack_sql_state(run->fatal_failure->sqlstate),
				   psprintf("%s; a run ended by that while it was deleting this account%s",
							run->fatal_failure->message,
							list_length(run->suspects) > 1 ? " and others" : ""));
}

/*
 * Write into the ledger where the next batch begins, and how many accounts it may
 * have; or that there is none.  The batch must have no more.
 */
void
sd_announce_batch(Run *run)
{
	Oid			argtypes[] = {INT8OID, TEXTOID, INT4OID, TEXTOID, TEXTOID, BOOLOID,
	BOOLOID, INT8OID, INT8OID};
	Datum		values[lengthof(argtypes)] = {0};
	char		nulls[] = "   nn    ";
	FailingPosition *passed = &run->passed[run->tries_uncertain];

	if (!knows_batches(run->schema))
		return;
	run->announced = run->stop_reason != NULL ? 0 : sd_largest_batch(run);
	values[0] = Int64GetDatum(run->run_id);
	values[1] = CStringGetTextDatum(run->policy_name);
	values[2] = Int32GetDatum(run->announced);
	if (run->cursor.valid && run->announced > 0)
	{
		int			nestlevel = sd_begin_portable_text();
		Oid			output;
		bool		is_varlena;

		getTypeOutputInfo(run->cursor.due_type, &output, &is_varlena);
		values[3] = CStringGetTextDatum(OidOutputFunctionCall(output, run->cursor.due));
		values[4] = CStringGetTextDatum(sd_key_text(run->plan->key, run->cursor.key));
		nulls[3] = nulls[4] = ' ';
		AtEOXact_GUC(true, nestlevel);
	}
	values[5] = BoolGetDatum(run->is_drained);
	values[6] = BoolGetDatum(run->tries_uncertain);
	values[7] = Int64GetDatum(passed->valid ? passed->next_attempt_at : DT_NOBEGIN);
	values[8] = Int64GetDatum(passed->valid ? passed->hash : PG_INT64_MIN);
	(void) sd_execute_as_owner(run->schema,
							   psprintf("UPDATE %s SET next_batch = CASE WHEN $3 OPERATOR(pg_catalog.>) 0 THEN"
										" pg_catalog.jsonb_build_object('accounts', $3,"
										" 'due', $4, 'account', $5, 'failing', $6,"
										" 'uncertain', $7, 'next_attempt', $8, 'hash', $9) END"
										" WHERE run_id OPERATOR(pg_catalog.=) $1 AND policy OPERATOR(pg_catalog.=) $2"
										" AND (next_batch IS NOT NULL OR $3 OPERATOR(pg_catalog.>) 0)",
										sd_own_table(run->schema, "deletion_run")),
							   SPI_OK_UPDATE, lengthof(argtypes), argtypes, values, nulls);
}

/*
 * Of runs of the policy that have ended in a batch of which they could not tell any
 * more, write the accounts that it may have had.  Where that cannot be found out,
 * since the keys have another type now, nobody is written.
 */
void
sd_suspect_interrupted(Run *run)
{
	Oid			argtypes[] = {TEXTOID, INT8OID};
	Datum		values[] = {CStringGetTextDatum(run->policy->name), Int64GetDatum(run->run_id)};
	Interrupted interrupted = {.run = run};
	bool		done;
	ErrorData  *error;

	if (!knows_batches(run->schema))
		return;
	if (sd_execute_as_owner(run->schema,
							psprintf("WITH r AS MATERIALIZED (SELECT ctid, next_batch b FROM %s"
									 " WHERE policy OPERATOR(pg_catalog.=) $1 AND next_batch IS NOT NULL"
									 " AND completed_at IS NOT NULL AND run_id OPERATOR(pg_catalog.<>) $2"
									 " FOR UPDATE SKIP LOCKED)"
									 " UPDATE %s d SET next_batch = NULL FROM r"
									 " WHERE d.ctid OPERATOR(pg_catalog.=) r.ctid"
									 " RETURNING (b OPERATOR(pg_catalog.->>) 'accounts')::pg_catalog.int4,"
									 " b OPERATOR(pg_catalog.->>) 'due', b OPERATOR(pg_catalog.->>) 'account',"
									 " (b OPERATOR(pg_catalog.->>) 'failing')::pg_catalog.bool,"
									 " (b OPERATOR(pg_catalog.->>) 'uncertain')::pg_catalog.bool,"
									 " (b OPERATOR(pg_catalog.->>) 'next_attempt')::pg_catalog.int8,"
									 " (b OPERATOR(pg_catalog.->>) 'hash')::pg_catalog.int8,"
									 " sqlstate, message, completed_at",
									 sd_own_table(run->schema, "deletion_run"),
									 sd_own_table(run->schema, "deletion_run")),
							SPI_OK_UPDATE_RETURNING, lengthof(argtypes), argtypes,
							values, NULL) == 0)
		return;
	interrupted.rows = SPI_tuptable;
	error = sd_in_subtransaction(suspect_body, &interrupted, true, &done);
	if (error != NULL && sd_concerns_the_call(error))
		ReThrowError(error);
	SPI_freetuptable(interrupted.rows);
	run->cursor.valid = false;
	run->passed[run->tries_uncertain].valid = false;
	run->tries_uncertain = false;
	sd_load_failing(run);
}

/* Mostly there is one such run; of several, the first says as much as any; always true */
static bool
suspect_body(void *arg)
{
	Interrupted *interrupted = arg;
	Run		   *run = interrupted->run;
	SPITupleTable *rows = interrupted->rows;
	HeapTuple	first = rows->vals[0];
	bool		is_null;
	int			n = DatumGetInt32(SPI_getbinval(first, rows->tupdesc, 1, &is_null));
	char	   *sqlstate = SPI_getvalue(first, rows->tupdesc, 8);
	char	   *message = SPI_getvalue(first, rows->tupdesc, 9);
	TimestampTz ended_at =
		DatumGetTimestampTz(SPI_getbinval(first, rows->tupdesc, 10, &is_null));
	List	   *keys = begin_after(run, first, rows->tupdesc) ?
		next_failing(run, n) : sd_next_accounts(run, n);

	write_suspects(run, keys, false, ended_at, sqlstate != NULL ? sqlstate : "57000",
				   message != NULL ? message : INTERRUPTED);
	return true;
}

/* Be where the batch began; true if that was among accounts that have failed before */
static bool
begin_after(Run *run, HeapTuple tuple, TupleDesc tupdesc)
{
	char	   *due = SPI_getvalue(tuple, tupdesc, 2);
	char	   *account = SPI_getvalue(tuple, tupdesc, 3);
	FailingPosition *passed;
	bool		is_null;
	int			nestlevel = sd_begin_portable_text();

	run->cursor.valid = false;
	if (due != NULL && account != NULL)
	{
		Account		last = {0};

		last.due = sd_value_from_text(run->plan->due_type, due, "due");
		last.key = sd_key_from_text(run->plan->key, account);
		sd_move_cursor(run, &last, 0);
	}
	AtEOXact_GUC(true, nestlevel);
	run->tries_uncertain = DatumGetBool(SPI_getbinval(tuple, tupdesc, 5, &is_null));
	passed = &run->passed[run->tries_uncertain];
	passed->valid = true;
	passed->next_attempt_at = DatumGetInt64(SPI_getbinval(tuple, tupdesc, 6, &is_null));
	passed->hash = DatumGetInt64(SPI_getbinval(tuple, tupdesc, 7, &is_null));
	return DatumGetBool(SPI_getbinval(tuple, tupdesc, 4, &is_null));
}

/* The keys of so many accounts that would be tried next, of those that have failed */
static List *
next_failing(Run *run, int limit)
{
	List	   *keys = NIL;
	Account    *accounts;
	int			n;

	while (limit > 0 && (n = sd_next_failing(run, &accounts, limit)) > 0)
	{
		for (int i = 0; i < n; i++)
			keys = lappend(keys, accounts[i].remembered);
		limit -= n;
	}
	return keys;
}

/*
 * Write of accounts that a run ended while it was deleting them.  It counts as an
 * attempt of theirs if it must have been that one.  The one that is first in a batch
 * is tried last of them, since a batch is often at that when it is slow.
 */
static void
write_suspects(Run *run, List *keys, bool is_counted, TimestampTz at,
			   const char *sqlstate, const char *message)
{
	Oid			argtypes[] = {TEXTOID, TEXTARRAYOID, INT4OID, TIMESTAMPTZOID, TEXTOID, TEXTOID};
	Datum		values[lengthof(argtypes)];
	char	  **texts = palloc(sizeof(char *) * Max(list_length(keys), 1));
	ListCell   *lc;

	if (keys == NIL)
		return;
	foreach(lc, keys)
		texts[foreach_current_index(lc)] = lfirst(lc);
	values[0] = CStringGetTextDatum(run->policy_name);
	values[1] = sd_text_array(texts, list_length(keys));
	values[2] = Int32GetDatum(is_counted ? 1 : 0);
	values[3] = TimestampTzGetDatum(at);
	values[4] = CStringGetTextDatum(sqlstate);
	values[5] = CStringGetTextDatum(message);
	(void) sd_execute_as_owner(run->schema,
							   psprintf("INSERT INTO %s AS f (policy, account, attempts,"
										" first_attempt_at, last_attempt_at, next_attempt_at,"
										" sqlstate, message, uncertain)"
										" SELECT $1, k.account, $3, $4, $4,"
										" $4 OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => k.n OPERATOR(pg_catalog./) 1000000.0::pg_catalog.float8),"
										" $5, $6, true"
										" FROM pg_catalog.unnest($2) WITH ORDINALITY k (account, n)"
										" WHERE EXISTS (SELECT FROM %s p WHERE p.policy OPERATOR(pg_catalog.=) $1)"
										" ON CONFLICT (policy, pg_catalog.hashtextextended(account, 0))"
										" DO UPDATE SET"
										" attempts = f.attempts OPERATOR(pg_catalog.+) $3,"
										" last_attempt_at = excluded.last_attempt_at,"
										" next_attempt_at = excluded.next_attempt_at,"
										" sqlstate = excluded.sqlstate, table_name = NULL,"
										" constraint_name = NULL, message = excluded.message,"
										" uncertain = true",
										sd_own_table(run->schema, "deletion_failure"),
										sd_own_table(run->schema, "deletion_policy")),
							   SPI_OK_INSERT, lengthof(argtypes), argtypes, values, NULL);
}
