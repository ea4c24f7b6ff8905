/*-------------------------------------------------------------------------
 *
 * due.c
 *	  When an account is due: from a value of the due column to the moment at
 *	  which the grace has passed, and back.
 *
 * Days and months of the grace, and values without a time zone, are read on the
 * clock of the policy's time zone, never the session's.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/due.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/int.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "scheduled_deletion.h"

/*
 * Months are not of one length, so that to go back by a number of them and then
 * forth leads elsewhere: by four days at most, and one more over a century.  So far
 * are the bounds on each side of where a grace in months leads back to.
 */
#define MONTH_SLACK		(8 * USECS_PER_DAY)

static bool is_fixed(DeletionPlan *plan);
static Datum bound(DeletionPlan *plan, TimestampTz moment, bool surely);
static Datum value_of_number(DeletionPlan *plan, int64 number, int64 step);
static int64 step_of_values(DeletionPlan *plan);
static TimestampTz later(TimestampTz moment, int64 time);
static int64 offset_near(DeletionPlan *plan, TimestampTz moment, bool most);
static Timestamp to_local(DeletionPlan *plan, TimestampTz moment);
static TimestampTz from_local(DeletionPlan *plan, Timestamp local);
static bool is_far(Timestamp value, Interval *grace, TimestampTz *end);

/* Find out the type of the due column, a domain's base type, and its precision */
void
sd_resolve_due_column(DeletionPlan *plan, Relation rel)
{
	Form_pg_attribute due = sd_column(plan->policy, rel, "account table",
									  plan->policy->due_column, "due_column");

	plan->due_typmod = due->atttypmod;
	plan->due_type = getBaseTypeAndTypmod(due->atttypid, &plan->due_typmod);
	get_typlenbyval(plan->due_type, &plan->due_typlen, &plan->due_typbyval);
	if (plan->due_type != TIMESTAMPTZOID && plan->due_type != TIMESTAMPOID &&
		plan->due_type != DATEOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("due column \"%s\" of account table \"%s\" has type %s",
						NameStr(due->attname), plan->account->table_name,
						format_type_be(due->atttypid)),
				 errdetail("It must be timestamp with time zone, timestamp without time zone, or date."),
				 errhint("Name another column, or change its type.")));
}

/*
 * Which values of the due column are due at a moment, as far as that can be told
 * without looking at each: parameters of that type let an index on the column
 * serve.  Between the two bounds, only the definition tells: see sd_append_due().
 *
 * Throws an error if the grace reaches back beyond the beginning of time.
 */
void
sd_find_due_bounds(DeletionPlan *plan, TimestampTz moment, DueBounds *bounds)
{
	bounds->moment = moment;
	bounds->surely = bound(plan, moment, true);
	bounds->perhaps = bound(plan, moment, false);
}

/* The value of a parameter of a statement's condition that an account is due */
Datum
sd_due_param(DeletionPlan *plan, DueBounds *bounds, ParamSource source)
{
	switch (source)
	{
		case SD_PARAM_SURELY_DUE:
			return bounds->surely;
		case SD_PARAM_PERHAPS_DUE:
			return bounds->perhaps;
		case SD_PARAM_MOMENT:
			return TimestampTzGetDatum(bounds->moment);
		case SD_PARAM_GRACE:
			return IntervalPGetDatum(plan->policy->grace);
		case SD_PARAM_TIME_ZONE:
			return PointerGetDatum(plan->policy->time_zone);
		default:
			elog(ERROR, "unexpected parameter source: %d", source);
	}
}

/*
 * The values of a statement's parameters, and their types, if all of them belong to
 * its condition that an account is due; with places for two more.
 */
Datum *
sd_bind_due(DeletionPlan *plan, DueBounds *bounds, PlanStatement *statement,
			Oid **argtypes)
{
	int			nparams = list_length(statement->params);
	Datum	   *values = palloc(sizeof(Datum) * (nparams + 2));
	ListCell   *lc;

	*argtypes = palloc(sizeof(Oid) * (nparams + 2));
	foreach(lc, statement->params)
	{
		StatementParam *param = lfirst(lc);

		(*argtypes)[foreach_current_index(lc)] = param->type;
		values[foreach_current_index(lc)] = sd_due_param(plan, bounds, param->source);
	}
	return values;
}

/* Does the grace, added to the due column's values, take as long whatever the time? */
static bool
is_fixed(DeletionPlan *plan)
{
	return plan->due_type == TIMESTAMPTZOID &&
		plan->policy->grace->month == 0 && plan->policy->grace->day == 0;
}

/*
 * A value such that it and all before it are surely due at a moment; or else, such
 * that none after it is.  Where a clock is put forward or back within a day, the
 * offset counts that makes it so.
 */
static Datum
bound(DeletionPlan *plan, TimestampTz moment, bool surely)
{
	Interval   *grace = plan->policy->grace;
	int64		slack = grace->month != 0 ? MONTH_SLACK : 0;
	Timestamp	local;

	if (is_fixed(plan))
		return TimestampTzGetDatum(moment - grace->time);

	local = DatumGetTimestamp(DirectFunctionCall2(timestamp_mi_interval,
												  TimestampGetDatum(moment + offset_near(plan, moment, !surely)),
												  IntervalPGetDatum(grace)));
	local += surely ? -slack : slack;
	if (!IS_VALID_TIMESTAMP(local))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	switch (plan->due_type)
	{
		case TIMESTAMPTZOID:
			return TimestampTzGetDatum(local -
									   offset_near(plan, from_local(plan, local),
												   surely));
		case DATEOID:
			return DirectFunctionCall1(timestamp_date, TimestampGetDatum(local));
		default:
			return TimestampGetDatum(local);
	}
}

/*
 * A value of the due column, at its precision, whose account is not due before a
 * moment, while that of the value before it is: mostly the only one.
 */
Datum
sd_due_value(DeletionPlan *plan, TimestampTz moment)
{
	int64		step = step_of_values(plan);
	DueBounds	bounds;
	int64		low;
	int64		high;

	sd_find_due_bounds(plan, moment, &bounds);
	low = plan->due_type == DATEOID ? DatumGetDateADT(bounds.surely) :
		DatumGetTimestamp(bounds.surely) / step;
	high = plan->due_type == DATEOID ? DatumGetDateADT(bounds.perhaps) :
		DatumGetTimestamp(bounds.perhaps) / step;

	/* quotients are truncated, also those of negative numbers */
	low -= 2;
	high += 2;
	while (high - low > 1)
	{
		int64		middle = low + (high - low) / 2;

		if (sd_due_at(plan, value_of_number(plan, middle, step)) < moment)
			low = middle;
		else
			high = middle;
	}
	return value_of_number(plan, high, step);
}

/* Values of the due column as numbers that follow each other */
static Datum
value_of_number(DeletionPlan *plan, int64 number, int64 step)
{
	if (plan->due_type == DATEOID)
		return DateADTGetDatum((DateADT) number);
	if (!IS_VALID_TIMESTAMP(number * step))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return TimestampGetDatum(number * step);
}

/* How far apart those values are: in microseconds, unless they are dates */
static int64
step_of_values(DeletionPlan *plan)
{
	int64		step = USECS_PER_SEC;

	if (plan->due_type == DATEOID)
		return 1;
	for (int i = plan->due_typmod < 0 ? MAX_TIMESTAMP_PRECISION : plan->due_typmod;
		 i > 0; i--)
		step /= 10;
	return step;
}

/*
 * The moment from which an account with that value of the due column is due: what
 * sd_append_due() writes in SQL.  Near the ends of time it is for ever, or never.
 */
TimestampTz
sd_due_at(DeletionPlan *plan, Datum due)
{
	Interval   *grace = plan->policy->grace;
	Timestamp	local;
	TimestampTz end;

	if (is_fixed(plan))
		return later(DatumGetTimestampTz(due), grace->time);
	if (plan->due_type != DATEOID)
		local = DatumGetTimestamp(due);
	else if (DatumGetDateADT(due) >= TIMESTAMP_END_JULIAN - POSTGRES_EPOCH_JDATE)
		TIMESTAMP_NOEND(local);
	else
		local = DatumGetTimestamp(DirectFunctionCall1(date_timestamp, due));
	if (is_far(local, grace, &end))
		return end;
	if (plan->due_type == TIMESTAMPTZOID)
		local = to_local(plan, local);
	return from_local(plan, DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
																  TimestampGetDatum(local),
																  IntervalPGetDatum(grace))));
}

/*
 * Is a value so near the end of time, or its beginning, that the grace may reach
 * beyond?  Then *end is that.
 */
static bool
is_far(Timestamp value, Interval *grace, TimestampTz *end)
{
	double		reach = fabs((double) grace->time) + (double) USECS_PER_DAY *
		(fabs((double) grace->month) * 31 + fabs((double) grace->day) + 2);

	if (value + reach >= END_TIMESTAMP)
		TIMESTAMP_NOEND(*end);
	else if (value - reach < MIN_TIMESTAMP)
		TIMESTAMP_NOBEGIN(*end);
	else
		return false;
	return true;
}

/* Is it never due, whatever the grace? */
bool
sd_is_never_due(DeletionPlan *plan, Datum due)
{
	return plan->due_type == DATEOID ? DATE_IS_NOEND(DatumGetDateADT(due)) :
		TIMESTAMP_IS_NOEND(DatumGetTimestamp(due));
}

/* The value of the due column that is never due, where null is not allowed */
Datum
sd_never_due(DeletionPlan *plan)
{
	DateADT		date;
	Timestamp	timestamp;

	DATE_NOEND(date);
	TIMESTAMP_NOEND(timestamp);
	return plan->due_type == DATEOID ? DateADTGetDatum(date) :
		TimestampGetDatum(timestamp);
}

/* A moment that long after another */
TimestampTz
sd_moment_after(DeletionPlan *plan, TimestampTz moment, Interval *interval)
{
	return from_local(plan, DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
																  TimestampGetDatum(to_local(plan, moment)),
																  IntervalPGetDatum(interval))));
}

/* A moment that many microseconds after another, or never */
static TimestampTz
later(TimestampTz moment, int64 time)
{
	TimestampTz result;

	if (TIMESTAMP_NOT_FINITE(moment))
		return moment;
	if (pg_add_s64_overflow(moment, time, &result) ||
		!IS_VALID_TIMESTAMP(result))
		TIMESTAMP_NOEND(result);
	return result;
}

/*
 * How far the clock of the policy's time zone is ahead of UTC at a moment or, if
 * that changes within a day before or after it, the least or the most of it.
 */
static int64
offset_near(DeletionPlan *plan, TimestampTz moment, bool most)
{
	int64		offset = to_local(plan, moment) - moment;

	for (int day = -1; day <= 1; day += 2)
	{
		TimestampTz near = moment + day * USECS_PER_DAY;
		int64		other = to_local(plan, near) - near;

		offset = most ? Max(offset, other) : Min(offset, other);
	}
	return offset;
}

/* A moment on the clock of the policy's time zone, and back */
static Timestamp
to_local(DeletionPlan *plan, TimestampTz moment)
{
	return DatumGetTimestamp(DirectFunctionCall2(timestamptz_zone,
												 PointerGetDatum(plan->policy->time_zone),
												 TimestampTzGetDatum(moment)));
}

static TimestampTz
from_local(DeletionPlan *plan, Timestamp local)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone,
												   PointerGetDatum(plan->policy->time_zone),
												   TimestampGetDatum(local)));
}
