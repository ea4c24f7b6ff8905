/*-------------------------------------------------------------------------
 *
 * report.c
 *	  A run's report and an account's audit details, as jsonb: the only file
 *	  that knows their keys.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/report.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/datetime.h"
#include "utils/json.h"

#include "scheduled_deletion.h"

static void begin_object(JsonbParseState **state);
static void put_key(JsonbParseState **state, const char *key);
static void put_null(JsonbParseState **state, const char *key);
static void put_text(JsonbParseState **state, const char *key,
					 const char *value);
static void put_bool(JsonbParseState **state, const char *key, bool value);
static void put_int(JsonbParseState **state, const char *key, int64 value);
static void put_seconds(JsonbParseState **state, const char *key,
						TimestampTz start, TimestampTz end);
static void put_timestamp(JsonbParseState **state, const char *key,
						  TimestampTz value);
static void put_value(JsonbParseState **state, JsonbValue *value);
static void put_error(JsonbParseState **state, RunError *error);

/* The report of a run that has ended, in the current memory context */
Jsonb *
sd_report(Run *run)
{
	JsonbParseState *state = NULL;
	ListCell   *lc;

	begin_object(&state);
	put_timestamp(&state, "started_at", run->started_at);
	put_timestamp(&state, "completed_at", run->completed_at);
	put_seconds(&state, "duration_seconds", run->started_at,
				run->completed_at);
	put_int(&state, "users_processed", run->deleted + run->failed);
	put_int(&state, "users_deleted", run->deleted);

	put_key(&state, "total_records_deleted");
	begin_object(&state);
	for (int i = 0; i < run->plan->nsteps; i++)
		put_int(&state, run->plan->steps[i].table_name,
				run->deleted_records[i]);
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);

	put_key(&state, "errors");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach(lc, run->errors)
		put_error(&state, lfirst(lc));
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	put_bool(&state, "errors_truncated", run->failed > list_length(run->errors));

	put_int(&state, "run_id", run->run_id);
	put_text(&state, "policy", run->plan->policy->name);
	put_bool(&state, "dry_run", run->dry_run);
	put_int(&state, "users_failed", run->failed);
	put_int(&state, "users_skipped", run->skipped);
	put_int(&state, "users_held", 0);
	put_int(&state, "users_waiting", 0);
	put_bool(&state, "fk_checks_elided", false);
	put_text(&state, "stop_reason", run->stop_reason);

	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* The details of an account's audit row, in the current memory context */
Jsonb *
sd_audit_details(Run *run, Account *account)
{
	JsonbParseState *state = NULL;

	begin_object(&state);
	put_timestamp(&state, "deletion_scheduled_at", account->due);

	put_key(&state, "deleted_records");
	begin_object(&state);
	for (int i = 0; i < run->plan->nsteps; i++)
	{
		if (account->deleted[i] > 0)
			put_int(&state, run->plan->steps[i].table_name,
					account->deleted[i]);
	}
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);

	put_text(&state, "policy", run->plan->policy->name);
	put_int(&state, "run_id", run->run_id);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* One element of the report's "errors" */
static void
put_error(JsonbParseState **state, RunError *error)
{
	Failure    *failure = error->failure;

	begin_object(state);
	put_text(state, "user_id", error->account);
	put_text(state, "error", failure->message);
	put_text(state, "sqlstate", unpack_sql_state(failure->sqlstate));
	put_text(state, "table_name", failure->table_name);
	put_text(state, "constraint_name", failure->constraint_name);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static void
begin_object(JsonbParseState **state)
{
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
}

static void
put_key(JsonbParseState **state, const char *key)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = pstrdup(key);
	value.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &value);
}

static void
put_null(JsonbParseState **state, const char *key)
{
	JsonbValue	value;

	put_key(state, key);
	value.type = jbvNull;
	put_value(state, &value);
}

static void
put_text(JsonbParseState **state, const char *key, const char *value)
{
	JsonbValue	string;

	if (value == NULL)
	{
		put_null(state, key);
		return;
	}
	put_key(state, key);
	string.type = jbvString;
	string.val.string.val = pstrdup(value);
	string.val.string.len = strlen(value);
	put_value(state, &string);
}

static void
put_bool(JsonbParseState **state, const char *key, bool value)
{
	JsonbValue	boolean;

	put_key(state, key);
	boolean.type = jbvBool;
	boolean.val.boolean = value;
	put_value(state, &boolean);
}

static void
put_int(JsonbParseState **state, const char *key, int64 value)
{
	JsonbValue	number;

	put_key(state, key);
	number.type = jbvNumeric;
	number.val.numeric = int64_to_numeric(value);
	put_value(state, &number);
}

/* Seconds between two times, to the millisecond */
static void
put_seconds(JsonbParseState **state, const char *key, TimestampTz start,
			TimestampTz end)
{
	JsonbValue	number;

	put_key(state, key);
	number.type = jbvNumeric;
	number.val.numeric = int64_div_fast_to_numeric((end - start) / 1000, 3);
	put_value(state, &number);
}

/* A time as ISO 8601 in UTC, whatever the session's time zone */
static void
put_timestamp(JsonbParseState **state, const char *key, TimestampTz value)
{
	const int	utc = 0;
	char		buf[MAXDATELEN + 1];

	JsonEncodeDateTime(buf, TimestampTzGetDatum(value), TIMESTAMPTZOID, &utc);
	put_text(state, key, buf);
}

static void
put_value(JsonbParseState **state, JsonbValue *value)
{
	pushJsonbValue(state, WJB_VALUE, value);
}
