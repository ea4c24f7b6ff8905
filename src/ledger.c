/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  The ledger: a row of deletion_run for each policy of a run.
 *
 * A run in one transaction writes its row at its end, one of many with each of
 * them.  As long as the latter is at work, its session has a lock on the number
 * of the run; a row that is not complete, and whose number is not locked, is
 * that of a run which was interrupted.  It is no advisory lock, which a trigger
 * might release.
 *
 * Nobody waits for what is written here, but for the owner of a row.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/ledger.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "run.h"

static LOCKTAG lock_of_run(Call *call);
static void change_quietly(Oid schema, bool (*body) (void *));
static bool tell_interrupted(void *arg);
static bool prune(void *arg);

/* Begin a call: the time, and the number of the run */
void
sd_begin_call(Call *call)
{
	call->started_at = GetCurrentTimestamp();
	call->began = sd_clock();
	call->ledger = get_relname_relid("deletion_run", call->schema);
	call->run_id = nextval_internal(get_relname_relid("deletion_run_id",
													  call->schema), false);
}

/*
 * Let others see that the run is at work, until a transaction fails, the
 * session ends, or it is unlocked.
 */
void
sd_lock_run(Call *call)
{
	LOCKTAG		tag = lock_of_run(call);

	if (LockAcquire(&tag, ExclusiveLock, true, false) == LOCKACQUIRE_ALREADY_HELD)
		(void) LockRelease(&tag, ExclusiveLock, true);
}

void
sd_unlock_run(Call *call)
{
	LOCKTAG		tag = lock_of_run(call);

	(void) LockRelease(&tag, ExclusiveLock, true);
}

/* View deletion_progress knows it, too */
static LOCKTAG
lock_of_run(Call *call)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, call->ledger, (uint32) call->run_id, 0);
	return tag;
}

/* Write how far a run has come, or how it ended if completed_at is set */
void
sd_write_run(Call *call, Run *run)
{
	Oid			argtypes[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, INT4OID,
		TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID,
	INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID};
	Datum		values[lengthof(argtypes)] = {0};
	char		nulls[lengthof(argtypes)];
	bool		is_complete = run->completed_at != 0;
	Failure    *failure = run->fatal_failure;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(run->run_id);
	values[1] = CStringGetTextDatum(run->policy_name);
	values[2] = CStringGetTextDatum(call->commits ? "procedure" : "function");
	values[3] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[4] = JsonbPGetDatum(sd_arguments(call));
	values[5] = Int32GetDatum(MyProcPid);
	values[6] = TimestampTzGetDatum(run->started_at);
	values[7] = TimestampTzGetDatum(is_complete ? run->completed_at : GetCurrentTimestamp());
	values[8] = TimestampTzGetDatum(run->completed_at);
	values[9] = Int64GetDatum(run->due);
	values[10] = Int64GetDatum(run->results.deleted);
	values[11] = Int64GetDatum(run->results.failed);
	values[12] = Int64GetDatum(run->results.skipped);
	values[13] = Int64GetDatum(run->results.held);
	values[14] = Int64GetDatum(run->results.waiting);
	values[15] = Int64GetDatum(sd_count_records(run));
	if (!is_complete)
		nulls[8] = 'n';
	if (run->due == SD_UNKNOWN)
		nulls[9] = 'n';
	if (run->stop_reason != NULL)
		values[16] = CStringGetTextDatum(run->stop_reason);
	else
		nulls[16] = 'n';
	if (failure != NULL)
	{
		values[17] = CStringGetTextDatum(unpack_sql_state(failure->sqlstate));
		values[18] = CStringGetTextDatum(failure->message);
	}
	else
		nulls[17] = nulls[18] = 'n';
	if (is_complete)
		values[19] = JsonbPGetDatum(sd_report_of_run(run));
	else
		nulls[19] = 'n';
	if (run->waiting_for != NULL && !is_complete)
		values[20] = CStringGetTextDatum(run->waiting_for);
	else
		nulls[20] = 'n';

	/*
	 * INSERT INTO deletion_run (...) VALUES (...) ON CONFLICT DO UPDATE SET
	 * ...
	 */
	(void) sd_execute_as_owner(call->schema,
							   psprintf("INSERT INTO %s (run_id, policy, form, started_by, arguments, pid,"
										" started_at, updated_at, completed_at, users_due, users_deleted,"
										" users_failed, users_skipped, users_held, users_waiting,"
										" records_deleted, stop_reason, sqlstate, message, report, waiting_for)"
										" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
										" $13, $14, $15, $16, $17, $18, $19, $20, $21)"
										" ON CONFLICT (run_id, policy) DO UPDATE SET"
										" updated_at = excluded.updated_at,"
										" completed_at = excluded.completed_at,"
										" users_due = excluded.users_due,"
										" users_deleted = excluded.users_deleted,"
										" users_failed = excluded.users_failed,"
										" users_skipped = excluded.users_skipped,"
										" users_held = excluded.users_held,"
										" users_waiting = excluded.users_waiting,"
										" records_deleted = excluded.records_deleted,"
										" stop_reason = excluded.stop_reason,"
										" sqlstate = excluded.sqlstate,"
										" message = excluded.message,"
										" report = excluded.report,"
										" waiting_for = excluded.waiting_for",
										sd_own_table(call->schema, "deletion_run")),
							   SPI_OK_INSERT, lengthof(argtypes), argtypes,
							   values, nulls);
}

/* Tell of runs whose session has died that they were interrupted */
void
sd_tell_interrupted(Oid schema)
{
	change_quietly(schema, tell_interrupted);
}

static bool
tell_interrupted(void *arg)
{
	Oid			schema = *(Oid *) arg;
	const char *table = sd_own_table(schema, "deletion_run");

	(void) sd_execute_as_owner(schema,
							   psprintf("UPDATE %s SET completed_at = updated_at, stop_reason = 'interrupted', waiting_for = NULL"
										" WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
										"SELECT r.ctid FROM %s r WHERE r.completed_at IS NULL"
										" AND EXISTS (SELECT FROM %s p WHERE p.run_id OPERATOR(pg_catalog.=) r.run_id"
										" AND NOT p.running) FOR UPDATE SKIP LOCKED))",
										table, table,
										sd_own_table(schema, "deletion_progress")),
							   SPI_OK_UPDATE, 0, NULL, NULL, NULL);
	return true;
}

/* Delete what has been in the tables for longer than they are to remember it */
void
sd_prune_ledger(Oid schema)
{
	if (sd_retention > 0)
		change_quietly(schema, prune);
}

static bool
prune(void *arg)
{
	Oid			schema = *(Oid *) arg;
	Oid			argtypes[] = {TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(GetCurrentTimestamp() -
												sd_retention * USECS_PER_MINUTE)};

	sd_delete_unlocked_as_owner(schema, "deletion_run",
								"completed_at OPERATOR(pg_catalog.<) $1",
								lengthof(argtypes), argtypes, values, NULL);
	sd_delete_unlocked_as_owner(schema, "deletion_failure",
								"last_attempt_at OPERATOR(pg_catalog.<) $1",
								lengthof(argtypes), argtypes, values, NULL);
	return true;
}

/*
 * Change rows in a subtransaction.  Where others have changed them since, or have
 * locked them, the next run will see to it.
 */
static void
change_quietly(Oid schema, bool (*body) (void *))
{
	bool		done;
	ErrorData  *error = sd_in_subtransaction(body, &schema, true, &done);

	if (error != NULL && !sd_may_try_again(error))
		ReThrowError(error);
}
