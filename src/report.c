/*-------------------------------------------------------------------------
 *
 * report.c
 *	  A call's report and an account's audit details, as jsonb: the only file
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

#include "run.h"

static JsonbValue *put_report(JsonbState *state, Run *run);
static void put_outcome(JsonbState *state, Run *run, const char *policy);
static JsonbValue *put_reports(JsonbState *state, Call *call);
static void put_deleted_records(JsonbState *state, List *tables);
static void put_errors(JsonbState *state, Call *call, int64 nfailed);
static void put_rows_that_stay(JsonbState *state, List *tables,
							   int64 *rows);
static void put_records(JsonbState *state, List *tables, int64 *rows,
						const char *key, StepAction action);
static void put_error(JsonbState *state, RunError *error);
static void begin_object(JsonbState *state);
static JsonbValue *end_object(JsonbState *state);
static void begin_array(JsonbState *state);
static void end_array(JsonbState *state);
static void put_key(JsonbState *state, const char *key);
static void put_null(JsonbState *state, const char *key);
static void put_text(JsonbState *state, const char *key,
					 const char *value);
static void put_bool(JsonbState *state, const char *key, bool value);
static void put_int(JsonbState *state, const char *key, int64 value);
static void put_times(JsonbState *state, TimestampTz started_at,
					  TimestampTz completed_at);
static void put_seconds(JsonbState *state, const char *key, int64 time);
static void put_time(JsonbState *state, const char *key, Datum value,
					 Oid type);
static void put_jsonb(JsonbState *state, const char *key, Jsonb *value);
static void put_value(JsonbState *state, JsonbValue *value);

/*
 * The report of a call that has ended, in the current memory context: that of
 * its one policy or, of several, the sums, with the report of each.
 */
Jsonb *
sd_report(Call *call)
{
	JsonbState	state = {0};

	if (list_length(call->runs) == 1)
		return sd_report_of_run(linitial(call->runs));
	return JsonbValueToJsonb(put_reports(&state, call));
}

/* The report of one policy, in the current memory context */
Jsonb *
sd_report_of_run(Run *run)
{
	JsonbState	state = {0};

	return JsonbValueToJsonb(put_report(&state, run));
}

/* The arguments of a call that are not left out, in the current memory context */
Jsonb *
sd_arguments(Call *call)
{
	JsonbState	state = {0};

	begin_object(&state);
	if (call->policy_name != NULL)
		put_text(&state, "policy", call->policy_name);
	if (call->max_accounts > 0)
		put_int(&state, "max_accounts", call->max_accounts);
	if (call->release_brake)
		put_bool(&state, "release_brake", true);
	if (call->commits && call->batch_size != sd_batch_size)
		put_int(&state, "batch_size", call->batch_size);
	if (call->max_runtime > 0)
		put_seconds(&state, "max_runtime", call->max_runtime);
	if (call->commits && call->pause != sd_pause_between * (int64) 1000)
		put_seconds(&state, "pause", call->pause);
	if (call->max_lag.time > 0)
		put_seconds(&state, "max_lag", call->max_lag.time);
	if (call->max_lag.bytes > 0)
		put_int(&state, "max_lag_bytes", call->max_lag.bytes);
	return JsonbValueToJsonb(end_object(&state));
}

/* The report of one policy */
static JsonbValue *
put_report(JsonbState *state, Run *run)
{
	begin_object(state);
	put_times(state, run->started_at, run->completed_at);
	if (run->fatal_failure != NULL)
	{
		put_text(state, "fatal_error", run->fatal_failure->message);
		put_text(state, "sqlstate",
				 unpack_sql_state(run->fatal_failure->sqlstate));
		put_text(state, "hint", run->fatal_failure->hint);
	}
	if (run->fatal_failure != NULL && !run->commits)
	{
		put_int(state, "run_id", run->run_id);
		put_text(state, "policy", run->policy_name);
		put_bool(state, "dry_run", run->dry_run);
		return end_object(state);
	}

	put_int(state, "users_processed", run->results.deleted + run->results.failed);
	put_int(state, "users_deleted", run->results.deleted);

	put_deleted_records(state, run->results.tables);
	put_rows_that_stay(state, run->results.tables, NULL);

	put_key(state, "errors");
	begin_array(state);
	for (int i = 0; i < run->results.nerrors; i++)
		put_error(state, list_nth(run->errors, i));
	end_array(state);
	put_bool(state, "errors_truncated", run->results.failed > run->results.nerrors);

	put_outcome(state, run, run->policy_name);
	return end_object(state);
}

/* Which run it was and how it ended; policy is NULL for several */
static void
put_outcome(JsonbState *state, Run *run, const char *policy)
{
	put_int(state, "run_id", run->run_id);
	put_text(state, "policy", policy);
	put_bool(state, "dry_run", run->dry_run);
	put_int(state, "users_failed", run->results.failed);
	put_int(state, "users_skipped", run->results.skipped);
	put_int(state, "users_held", run->results.held);
	put_int(state, "users_waiting", run->results.waiting);
	put_bool(state, "fk_checks_elided", run->results.fk_checks_elided);
	put_text(state, "stop_reason", run->stop_reason);
}

/* The sums of several policies, and the report of each */
static JsonbValue *
put_reports(JsonbState *state, Call *call)
{
	Run			sum = {.stop_reason = "drained"};
	List	   *tables = NIL;	/* TableRows * */
	int			nfailed = 0;	/* policies */
	ListCell   *lc;

	foreach(lc, call->runs)
	{
		Run		   *run = lfirst(lc);

		nfailed += run->fatal_failure != NULL;
		sum.results.deleted += run->results.deleted;
		sum.results.failed += run->results.failed;
		sum.results.skipped += run->results.skipped;
		sum.results.held += run->results.held;
		sum.results.waiting += run->results.waiting;
		sum.results.fk_checks_elided |= run->results.fk_checks_elided;
		tables = sd_sum_tables(tables, run->results.tables, NULL);
		if (strcmp(run->stop_reason, "drained") != 0)
			sum.stop_reason = run->stop_reason;
	}

	sum.run_id = call->run_id;
	sum.dry_run = call->dry_run;

	begin_object(state);
	put_times(state, call->started_at, call->completed_at);
	put_int(state, "users_processed", sum.results.deleted + sum.results.failed);
	put_int(state, "users_deleted", sum.results.deleted);
	put_deleted_records(state, tables);
	put_errors(state, call, sum.results.failed);
	put_outcome(state, &sum, NULL);
	put_int(state, "policies_failed", nfailed);

	put_key(state, "policies");
	begin_object(state);
	foreach(lc, call->runs)
	{
		Run		   *run = lfirst(lc);

		put_key(state, run->policy_name);
		put_report(state, run);
	}
	end_object(state);
	return end_object(state);
}

/* The rows deleted, by table, also where there are none */
static void
put_deleted_records(JsonbState *state, List *tables)
{
	ListCell   *lc;

	put_key(state, "total_records_deleted");
	begin_object(state);
	foreach(lc, tables)
	{
		TableRows  *table = lfirst(lc);

		if (table->action == SD_DELETE)
			put_int(state, table->table_name, table->rows);
	}
	end_object(state);
}

/* The errors of all policies, as far as there is room */
static void
put_errors(JsonbState *state, Call *call, int64 nfailed)
{
	int			nerrors = 0;
	ListCell   *lc;

	put_key(state, "errors");
	begin_array(state);
	foreach(lc, call->runs)
	{
		Run		   *run = lfirst(lc);

		for (int i = 0; i < run->results.nerrors && nerrors < SD_MAX_ERRORS; i++)
		{
			put_error(state, list_nth(run->errors, i));
			nerrors++;
		}
	}
	end_array(state);
	put_bool(state, "errors_truncated", nfailed > nerrors);
}

/* The details of an account's audit row, in the current memory context */
Jsonb *
sd_audit_details(Run *run, Account *account)
{
	List	   *columns = run->policy->audit_details;
	JsonbState	state = {0};
	ListCell   *lc;

	begin_object(&state);
	put_time(&state, "deletion_scheduled_at", account->due, run->plan->due_type);

	put_records(&state, run->tables, account->rows, "deleted_records", SD_DELETE);
	put_rows_that_stay(&state, run->tables, account->rows);

	if (columns != NIL)
	{
		put_key(&state, "account");
		begin_object(&state);
		foreach(lc, columns)
			put_jsonb(&state, lfirst(lc),
					  account->details[foreach_current_index(lc)]);
		end_object(&state);
	}

	put_text(&state, "policy", run->policy->name);
	put_int(&state, "run_id", run->run_id);
	return JsonbValueToJsonb(end_object(&state));
}

/* The details of an audit row that tells of a request, or that it was taken back */
Jsonb *
sd_request_details(DeletionPlan *plan, Datum due)
{
	JsonbState	state = {0};

	begin_object(&state);
	put_time(&state, "deletion_scheduled_at", due, plan->due_type);
	put_text(&state, "policy", plan->policy->name);
	return JsonbValueToJsonb(end_object(&state));
}

/* The details of one that tells of a hold, which ends then if that is given */
Jsonb *
sd_hold_details(DeletionPlan *plan, const char *reason, TimestampTz *until)
{
	JsonbState	state = {0};

	begin_object(&state);
	put_text(&state, "reason", reason);
	if (until != NULL)
		put_time(&state, "held_until", TimestampTzGetDatum(*until),
				 TIMESTAMPTZOID);
	put_text(&state, "policy", plan->policy->name);
	return JsonbValueToJsonb(end_object(&state));
}

/* The details of one that tells of a due account which was left alone */
Jsonb *
sd_refusal_details(Run *run, Account *account)
{
	JsonbState	state = {0};

	begin_object(&state);
	put_time(&state, "deletion_scheduled_at", account->due, run->plan->due_type);
	put_text(&state, "reason", account->hold->reason);
	put_text(&state, "policy", run->policy->name);
	put_int(&state, "run_id", run->run_id);
	return JsonbValueToJsonb(end_object(&state));
}

/* Rows by table that were not deleted, and what was done to them */
static void
put_rows_that_stay(JsonbState *state, List *tables, int64 *rows)
{
	put_records(state, tables, rows, "set_null_records", SD_SET_NULL);
	put_records(state, tables, rows, "set_default_records", SD_SET_DEFAULT);
	put_records(state, tables, rows, "retained_records", SD_KEEP);
}

/*
 * Rows by table, of those to whose rows that was done, if there are any.
 * Numbers that are not in the list of TableRows itself are given in its order.
 */
static void
put_records(JsonbState *state, List *tables, int64 *rows,
			const char *key, StepAction action)
{
	bool		is_begun = false;
	ListCell   *lc;

	foreach(lc, tables)
	{
		TableRows  *table = lfirst(lc);
		int64		nrows = rows != NULL ? rows[foreach_current_index(lc)] : table->rows;

		if (table->action != action || nrows == 0)
			continue;
		if (!is_begun)
		{
			put_key(state, key);
			begin_object(state);
			is_begun = true;
		}
		if (action == SD_KEEP)
		{
			put_key(state, table->table_name);
			begin_object(state);
			put_int(state, "rows", nrows);
			put_text(state, "reason", table->reason);
			end_object(state);
		}
		else
			put_int(state, table->table_name, nrows);
	}
	if (is_begun)
		end_object(state);
}

/* One element of the report's "errors" */
static void
put_error(JsonbState *state, RunError *error)
{
	Failure    *failure = error->failure;

	begin_object(state);
	put_text(state, "user_id", error->account);
	put_text(state, "error", failure->message);
	put_text(state, "sqlstate", unpack_sql_state(failure->sqlstate));
	put_text(state, "table_name", failure->table_name);
	put_text(state, "constraint_name", failure->constraint_name);
	end_object(state);
}

static void
begin_object(JsonbState *state)
{
	sd_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
}

static JsonbValue *
end_object(JsonbState *state)
{
	sd_push_jsonb(state, WJB_END_OBJECT, NULL);
	return state->result;
}

static void
begin_array(JsonbState *state)
{
	sd_push_jsonb(state, WJB_BEGIN_ARRAY, NULL);
}

static void
end_array(JsonbState *state)
{
	sd_push_jsonb(state, WJB_END_ARRAY, NULL);
}

static void
put_key(JsonbState *state, const char *key)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = pstrdup(key);
	value.val.string.len = strlen(key);
	sd_push_jsonb(state, WJB_KEY, &value);
}

static void
put_null(JsonbState *state, const char *key)
{
	JsonbValue	value;

	put_key(state, key);
	value.type = jbvNull;
	put_value(state, &value);
}

static void
put_text(JsonbState *state, const char *key, const char *value)
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
put_bool(JsonbState *state, const char *key, bool value)
{
	JsonbValue	boolean;

	put_key(state, key);
	boolean.type = jbvBool;
	boolean.val.boolean = value;
	put_value(state, &boolean);
}

static void
put_int(JsonbState *state, const char *key, int64 value)
{
	JsonbValue	number;

	put_key(state, key);
	number.type = jbvNumeric;
	number.val.numeric = int64_to_numeric(value);
	put_value(state, &number);
}

/* When something started and completed, and the time between */
static void
put_times(JsonbState *state, TimestampTz started_at,
		  TimestampTz completed_at)
{
	put_time(state, "started_at", TimestampTzGetDatum(started_at),
			 TIMESTAMPTZOID);
	put_time(state, "completed_at", TimestampTzGetDatum(completed_at),
			 TIMESTAMPTZOID);
	put_seconds(state, "duration_seconds", completed_at - started_at);
}

/* Microseconds as seconds, to the millisecond */
static void
put_seconds(JsonbState *state, const char *key, int64 time)
{
	JsonbValue	number;

	put_key(state, key);
	number.type = jbvNumeric;
	number.val.numeric = int64_div_fast_to_numeric(time / 1000, 3);
	put_value(state, &number);
}

/*
 * A time or date as ISO 8601; if it has a time zone, in UTC, whatever that of
 * the session.
 */
static void
put_time(JsonbState *state, const char *key, Datum value, Oid type)
{
	const int	utc = 0;
	char		buf[MAXDATELEN + 1];

	JsonEncodeDateTime(buf, value, type,
					   type == TIMESTAMPTZOID ? &utc : NULL);
	put_text(state, key, buf);
}

/* A value that is jsonb already, NULL for null */
static void
put_jsonb(JsonbState *state, const char *key, Jsonb *value)
{
	JsonbValue	json;

	if (value == NULL)
	{
		put_null(state, key);
		return;
	}
	put_key(state, key);
	JsonbToJsonbValue(value, &json);
	if (JB_ROOT_IS_SCALAR(value))
		(void) JsonbExtractScalar(&value->root, &json);
	put_value(state, &json);
}

static void
put_value(JsonbState *state, JsonbValue *value)
{
	sd_push_jsonb(state, WJB_VALUE, value);
}
