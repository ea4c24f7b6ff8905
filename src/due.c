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

#include "catalog/pg_type.h"
#include "common/int.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "scheduled_deletion.h"

static TimestampTz later(TimestampTz moment, int64 time);
static int64 offset_near(DeletionPlan *plan, TimestampTz moment, bool most);
static Timestamp to_local(DeletionPlan *plan, TimestampTz moment);
static TimestampTz from_local(DeletionPlan *plan, Timestamp local);
static Timestamp local_cutoff(Timestamp now, Interval *grace);
static bool has_passed(Timestamp due, Timestamp now, Interval *grace);

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
 * The latest value of the due column whose account is due at a moment: the last
 * one from which the grace has passed by then.  A parameter of that type lets an
 * index on the column serve.
 *
 * Where a clock is put forward or back within a day, values are told apart by
 * the offset that makes them due later: accounts may be late by as much as the
 * clock is put, twice, but none is early.
 */
Datum
sd_cutoff(DeletionPlan *plan, TimestampTz moment)
{
	Interval   *grace = plan->policy->grace;
	Timestamp	cutoff;

	if (plan->due_type == TIMESTAMPTZOID &&
		grace->month == 0 && grace->day == 0)
		return TimestampTzGetDatum(moment - grace->time);

	cutoff = local_cutoff(moment + offset_near(plan, moment, false), grace);
	switch (plan->due_type)
	{
		case TIMESTAMPTZOID:
			return TimestampTzGetDatum(cutoff -
									   offset_near(plan, from_local(plan, cutoff),
												   true));
		case DATEOID:
			return DirectFunctionCall1(timestamp_date,
									   TimestampGetDatum(cutoff));
		default:
			return TimestampGetDatum(cutoff);
	}
}

/*
 * The earliest value of the due column, at its precision, whose account is not
 * due before a moment.
 */
Datum
sd_due_value(DeletionPlan *plan, TimestampTz moment)
{
	Datum		due = sd_cutoff(plan, moment);
	int64		step = USECS_PER_SEC;

	if (plan->due_type == DATEOID)
	{
		while (sd_due_at(plan, due) < moment)
			due = DateADTGetDatum(DatumGetDateADT(due) + 1);
		return due;
	}

	for (int i = plan->due_typmod < 0 ? MAX_TIMESTAMP_PRECISION : plan->due_typmod;
		 i > 0; i--)
		step /= 10;
	for (;;)
	{
		Timestamp	value = DatumGetTimestamp(due);
		TimestampTz due_at;

		/* times before the epoch are negative */
		if (value % step != 0)
			value += value > 0 ? step - value % step : -(value % step);
		due = TimestampGetDatum(value);
		due_at = sd_due_at(plan, due);
		if (!IS_VALID_TIMESTAMP(value))
			ereport(ERROR,
					(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
					 errmsg("timestamp out of range")));
		if (due_at >= moment)
			return due;
		due = TimestampGetDatum(value + Max(moment - due_at, step));
	}
}

/* The moment from which an account with that value of the due column is due */
TimestampTz
sd_due_at(DeletionPlan *plan, Datum due)
{
	Interval   *grace = plan->policy->grace;
	Timestamp	local;

	if (plan->due_type == DATEOID)
		local = DatumGetTimestamp(DirectFunctionCall1(date_timestamp, due));
	else if (plan->due_type == TIMESTAMPOID)
		local = DatumGetTimestamp(due);
	else if (grace->month == 0 && grace->day == 0)
		return later(DatumGetTimestampTz(due), grace->time);
	else
		local = to_local(plan, DatumGetTimestampTz(due));
	return from_local(plan, DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
																  TimestampGetDatum(local),
																  IntervalPGetDatum(grace))));
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

/*
 * The latest time from which the grace has passed.  Not just the difference:
 * the last days of a long month have the same day of a short one a month later.
 */
static Timestamp
local_cutoff(Timestamp now, Interval *grace)
{
	Timestamp	low = DatumGetTimestamp(DirectFunctionCall2(timestamp_mi_interval,
															TimestampGetDatum(now),
															IntervalPGetDatum(grace)));
	Timestamp	high = low + 8 * USECS_PER_DAY;

	if (grace->month == 0)
		return low;
	while (!has_passed(low, now, grace))
		low -= USECS_PER_DAY;
	while (high - low > 1)
	{
		Timestamp	middle = low + (high - low) / 2;

		if (has_passed(middle, now, grace))
			low = middle;
		else
			high = middle;
	}
	return low;
}

static bool
has_passed(Timestamp due, Timestamp now, Interval *grace)
{
	return DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
												 TimestampGetDatum(due),
												 IntervalPGetDatum(grace))) <= now;
}
