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

static JsonbValue *put_report(JsonbParseState **state, Run *run);
static void put_outcome(JsonbParseState **state, Run *run, const char *policy);
static JsonbValue *put_reports(JsonbParseState **state, Call *call);
static void put_record_sums(JsonbParseState **state, Call *call);
static List *deleting_steps(Run *run);
static void put_errors(JsonbParseState **state, Call *call, int64 nfailed);
static void put_rows_that_stay(JsonbParseState **state, Run *run,
							   int64 *rows_by_step);
static void put_records(JsonbParseState **state, Run *run,
						int64 *rows_by_step, const char *key,
						StepAction action);
static void put_error(JsonbParseState **state, RunError *error);
static void begin_object(JsonbParseState **state);
static JsonbValue *end_object(JsonbParseState **state);
static void begin_array(JsonbParseState **state);
static void end_array(JsonbParseState **state);
static void put_key(JsonbParseState **state, const char *key);
static void put_null(JsonbParseState **state, const char *key);
static void put_text(JsonbParseState **state, const char *key,
					 const char *value);
static void put_bool(JsonbParseState **state, const char *key, bool value);
static void put_int(JsonbParseState **state, const char *key, int64 value);
static void put_times(JsonbParseState **state, TimestampTz started_at,
					  TimestampTz completed_at);
static void put_time(JsonbParseState **state, const char *key, Datum value,
					 Oid type);
static void put_jsonb(JsonbParseState **state, const char *key, Jsonb *value);
static void put_value(JsonbParseState **state, JsonbValue *value);

/*
 * The report of a call that has ended, in the current memory context: that of
 * its one policy or, of several, the sums, with the report of each.
 */
Jsonb *
sd_report(Call *call)
{
	JsonbParseState *state = NULL;

	if (list_length(call->runs) == 1)
		return JsonbValueToJsonb(put_report(&state, linitial(call->runs)));
	return JsonbValueToJsonb(put_reports(&state, call));
}

/* The report of one policy */
static JsonbValue *
put_report(JsonbParseState **state, Run *run)
{
	ListCell   *lc;

	begin_object(state);
	put_times(state, run->started_at, run->completed_at);
	if (run->fatal_failure != NULL)
	{
		put_text(state, "fatal_error", run->fatal_failure->message);
		put_text(state, "sqlstate",
				 unpack_sql_state(run->fatal_failure->sqlstate));
		put_text(state, "hint", run->fatal_failure->hint);
		put_int(state, "run_id", run->run_id);
		put_text(state, "policy", run->policy->name);
		put_bool(state, "dry_run", run->dry_run);
		return end_object(state);
	}

	put_int(state, "users_processed", run->deleted + run->failed);
	put_int(state, "users_deleted", run->deleted);

	put_key(state, "total_records_deleted");
	begin_object(state);
	foreach(lc, deleting_steps(run))
	{
		PlanStep   *step = lfirst(lc);

		put_int(state, step->table_name, run->rows[step->number]);
	}
	end_object(state);
	put_rows_that_stay(state, run, run->rows);

	put_key(state, "errors");
	begin_array(state);
	foreach(lc, run->errors)
		put_error(state, lfirst(lc));
	end_array(state);
	put_bool(state, "errors_truncated", run->failed > list_length(run->errors));

	put_outcome(state, run, run->policy->name);
	return end_object(state);
}

/* Which run it was and how it ended; policy is NULL for several */
static void
put_outcome(JsonbParseState **state, Run *run, const char *policy)
{
	put_int(state, "run_id", run->run_id);
	put_text(state, "policy", policy);
	put_bool(state, "dry_run", run->dry_run);
	put_int(state, "users_failed", run->failed);
	put_int(state, "users_skipped", run->skipped);
	put_int(state, "users_held", run->nheld);
	put_int(state, "users_waiting", run->waiting);
	put_bool(state, "fk_checks_elided", false);
	put_text(state, "stop_reason", run->stop_reason);
}

/* The sums of several policies, and the report of each */
static JsonbValue *
put_reports(JsonbParseState **state, Call *call)
{
	Run			sum = {.stop_reason = "drained"};
	int			nfailed = 0;	/* policies */
	ListCell   *lc;

	foreach(lc, call->runs)
	{
		Run		   *run = lfirst(lc);

		if (run->fatal_failure != NULL)
		{
			nfailed++;
			continue;
		}
		sum.deleted += run->deleted;
		sum.failed += run->failed;
		sum.skipped += run->skipped;
		sum.nheld += run->nheld;
		sum.waiting += run->waiting;
		if (strcmp(run->stop_reason, "drained") != 0)
			sum.stop_reason = run->stop_reason;
	}

	sum.run_id = call->run_id;
	sum.dry_run = call->dry_run;

	begin_object(state);
	put_times(state, call->started_at, call->completed_at);
	put_int(state, "users_processed", sum.deleted + sum.failed);
	put_int(state, "users_deleted", sum.deleted);
	put_record_sums(state, call);
	put_errors(state, call, sum.failed);
	put_outcome(state, &sum, NULL);
	put_int(state, "policies_failed", nfailed);

	put_key(state, "policies");
	begin_object(state);
	foreach(lc, call->runs)
	{
		Run		   *run = lfirst(lc);

		put_key(state, run->policy->name);
		put_report(state, run);
	}
	end_object(state);
	return end_object(state);
}

/* The rows deleted by all policies, by table */
static void
put_record_sums(JsonbParseState **state, Call *call)
{
	List	   *tables = NIL;	/* PlanStep *, the first of a table counts */
	ListCell   *lc;

	foreach(lc, call->runs)
		tables = list_concat(tables, deleting_steps(lfirst(lc)));

	put_key(state, "total_records_deleted");
	begin_object(state);
	foreach(lc, tables)
	{
		PlanStep   *step = lfirst(lc);
		int64		rows = 0;
		bool		is_first = true;
		ListCell   *cell;

		for (int i = 0; i < foreach_current_index(lc); i++)
			is_first = is_first &&
				((PlanStep *) list_nth(tables, i))->table != step->table;
		if (!is_first)
			continue;
		foreach(cell, call->runs)
		{
			ListCell   *other;

			foreach(other, deleting_steps(lfirst(cell)))
			{
				PlanStep   *same = lfirst(other);

				if (same->table == step->table)
					rows += ((Run *) lfirst(cell))->rows[same->number];
			}
		}
		put_int(state, step->table_name, rows);
	}
	end_object(state);
}

/* The steps of a run that delete rows, NIL if it could not run */
static List *
deleting_steps(Run *run)
{
	List	   *steps = NIL;
	ListCell   *lc;

	if (run->fatal_failure != NULL)
		return NIL;
	foreach(lc, run->plan->steps)
	{
		if (((PlanStep *) lfirst(lc))->action == SD_DELETE)
			steps = lappend(steps, lfirst(lc));
	}
	return steps;
}

/* The errors of all policies, as far as there is room */
static void
put_errors(JsonbParseState **state, Call *call, int64 nfailed)
{
	int			nerrors = 0;
	ListCell   *lc;

	put_key(state, "errors");
	begin_array(state);
	foreach(lc, call->runs)
	{
		Run		   *run = lfirst(lc);
		ListCell   *cell;

		if (run->fatal_failure != NULL)
			continue;
		foreach(cell, run->errors)
		{
			if (nerrors == SD_MAX_ERRORS)
				break;
			put_error(state, lfirst(cell));
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
	JsonbParseState *state = NULL;
	ListCell   *lc;

	begin_object(&state);
	put_time(&state, "deletion_scheduled_at", account->due, run->plan->due_type);

	put_records(&state, run, account->rows, "deleted_records", SD_DELETE);
	put_rows_that_stay(&state, run, account->rows);

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
	JsonbParseState *state = NULL;

	begin_object(&state);
	put_time(&state, "deletion_scheduled_at", due, plan->due_type);
	put_text(&state, "policy", plan->policy->name);
	return JsonbValueToJsonb(end_object(&state));
}

/* The details of one that tells of a hold, which ends then if that is given */
Jsonb *
sd_hold_details(DeletionPlan *plan, const char *reason, TimestampTz *until)
{
	JsonbParseState *state = NULL;

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
	JsonbParseState *state = NULL;

	begin_object(&state);
	put_time(&state, "deletion_scheduled_at", account->due, run->plan->due_type);
	put_text(&state, "reason", account->hold->reason);
	put_text(&state, "policy", run->policy->name);
	put_int(&state, "run_id", run->run_id);
	return JsonbValueToJsonb(end_object(&state));
}

/* Rows by table that were not deleted, and what was done to them */
static void
put_rows_that_stay(JsonbParseState **state, Run *run, int64 *rows_by_step)
{
	put_records(state, run, rows_by_step, "set_null_records", SD_SET_NULL);
	put_records(state, run, rows_by_step, "set_default_records", SD_SET_DEFAULT);
	put_records(state, run, rows_by_step, "retained_records", SD_KEEP);
}

/* Rows by table, of the steps that do that to rows, if there are any */
static void
put_records(JsonbParseState **state, Run *run, int64 *rows_by_step,
			const char *key, StepAction action)
{
	bool		is_begun = false;
	ListCell   *lc;

	foreach(lc, run->plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		int64		rows = rows_by_step[step->number];

		if (step->action != action || rows == 0)
			continue;
		if (!is_begun)
		{
			put_key(state, key);
			begin_object(state);
			is_begun = true;
		}
		if (action == SD_KEEP)
		{
			put_key(state, step->table_name);
			begin_object(state);
			put_int(state, "rows", rows);
			put_text(state, "reason", step->definition->reason);
			end_object(state);
		}
		else
			put_int(state, step->table_name, rows);
	}
	if (is_begun)
		end_object(state);
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
	end_object(state);
}

static void
begin_object(JsonbParseState **state)
{
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
}

static JsonbValue *
end_object(JsonbParseState **state)
{
	return pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static void
begin_array(JsonbParseState **state)
{
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
}

static void
end_array(JsonbParseState **state)
{
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
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

/* When something started and completed, and the seconds between, to the millisecond */
static void
put_times(JsonbParseState **state, TimestampTz started_at,
		  TimestampTz completed_at)
{
	JsonbValue	number;

	put_time(state, "started_at", TimestampTzGetDatum(started_at),
			 TIMESTAMPTZOID);
	put_time(state, "completed_at", TimestampTzGetDatum(completed_at),
			 TIMESTAMPTZOID);
	put_key(state, "duration_seconds");
	number.type = jbvNumeric;
	number.val.numeric = int64_div_fast_to_numeric((completed_at - started_at) / 1000, 3);
	put_value(state, &number);
}

/*
 * A time or date as ISO 8601; if it has a time zone, in UTC, whatever that of
 * the session.
 */
static void
put_time(JsonbParseState **state, const char *key, Datum value, Oid type)
{
	const int	utc = 0;
	char		buf[MAXDATELEN + 1];

	JsonEncodeDateTime(buf, value, type,
					   type == TIMESTAMPTZOID ? &utc : NULL);
	put_text(state, key, buf);
}

/* A value that is jsonb already, NULL for null */
static void
put_jsonb(JsonbParseState **state, const char *key, Jsonb *value)
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
put_value(JsonbParseState **state, JsonbValue *value)
{
	pushJsonbValue(state, WJB_VALUE, value);
}
