/*-------------------------------------------------------------------------
 *
 * estimate.c
 *	  How many rows there are, and how many belong to the accounts that are due,
 *	  as far as the planner's statistics tell.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/estimate.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "catalog/pg_statistic.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "scheduled_deletion.h"

static double estimate_due_accounts(DeletionPlan *plan);
static double null_fraction(Oid table, const char *column);

/* How many rows of each step belong to the accounts that are due now */
double *
sd_estimate_steps(DeletionPlan *plan)
{
	double	   *estimates = palloc(sizeof(double) * list_length(plan->steps));

	for (int i = 0; i < list_length(plan->steps); i++)
		estimates[i] = SD_UNKNOWN;
	estimates[plan->account->number] = estimate_due_accounts(plan);

	/* from the accounts outwards; of a circle, each step once */
	for (int i = list_length(plan->stages) - 1; i >= 0; i--)
	{
		ListCell   *lc;

		foreach(lc, ((PlanStage *) list_nth(plan->stages, i))->steps)
		{
			PlanStep   *step = lfirst(lc);
			double		sum = 0;
			bool		is_known = false;
			ListCell   *cell;

			foreach(cell, step->links)
			{
				double		rows = sd_estimate_link(lfirst(cell), estimates);

				if (rows != SD_UNKNOWN)
				{
					sum += rows;
					is_known = true;
				}
			}
			if (is_known && step != plan->account)
				estimates[step->number] = sum;
		}
	}
	return estimates;
}

/*
 * As the planner estimates it; unknown if the table was never analyzed, or to a
 * caller who may not read it.
 */
static double
estimate_due_accounts(DeletionPlan *plan)
{
	PlanStatement due = {0};
	DueBounds	bounds;
	Oid		   *argtypes;
	Datum	   *values;

	if (sd_count_tuples(plan->account->table) == SD_UNKNOWN ||
		pg_class_aclcheck(plan->account->table, GetUserId(),
						  ACL_SELECT) != ACLCHECK_OK)
		return SD_UNKNOWN;
	sd_write_perhaps_due(plan, &due);
	sd_find_due_bounds(plan, GetCurrentTimestamp(), &bounds);
	values = sd_bind_due(plan, &bounds, &due, &argtypes);
	return sd_planner_expects("Plan Rows", due.query.data,
							  list_length(due.params), argtypes, values);
}

/*
 * What the planner says of a statement as a whole: its "Plan Rows" or "Total
 * Cost".  The caller must have the privileges to execute it.
 */
double
sd_planner_expects(const char *label, const char *query, int nargs,
				   Oid *argtypes, Datum *values)
{
	char	   *output;

	label = psprintf("\"%s\": ", label);
	(void) sd_query(psprintf("EXPLAIN (FORMAT JSON) %s", query),
					SPI_OK_UTILITY, nargs, argtypes, values);
	output = strstr(SPI_getvalue(SPI_tuptable->vals[0],
								 SPI_tuptable->tupdesc, 1), label);
	return output == NULL ? SD_UNKNOWN : strtod(output + strlen(label), NULL);
}

/*
 * Each row of the table that refers to anything refers to one of the rows there
 * as likely as to another.
 */
double
sd_estimate_link(PlanLink *link, double *estimates)
{
	double		all = sd_count_tuples(link->key->step->table);
	double		referring = sd_count_tuples(link->step->table);
	double		these = estimates[link->key->step->number];

	if (all <= 0 || referring == SD_UNKNOWN || these == SD_UNKNOWN)
		return referring == 0 ? 0 : SD_UNKNOWN;
	return referring * (1.0 - null_fraction(link->step->table, link->names[0])) *
		Min(these / all, 1.0);
}

/* As ANALYZE or VACUUM saw it; SD_UNKNOWN if none has */
double
sd_count_tuples(Oid table)
{
	double		sum = 0;
	ListCell   *lc;

	foreach(lc, find_all_inheritors(table, NoLock, NULL))
	{
		HeapTuple	tuple = SearchSysCache1(RELOID,
											ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_class form;

		if (!HeapTupleIsValid(tuple))
			continue;
		form = (Form_pg_class) GETSTRUCT(tuple);
		if (form->relkind != RELKIND_PARTITIONED_TABLE)
			sum = form->reltuples < 0 || sum == SD_UNKNOWN ? SD_UNKNOWN :
				sum + form->reltuples;
		ReleaseSysCache(tuple);
	}
	return sum;
}

/* How many of the rows have a null there, as ANALYZE saw it */
static double
null_fraction(Oid table, const char *column)
{
	bool		inherited = get_rel_relkind(table) == RELKIND_PARTITIONED_TABLE;
	HeapTuple	tuple = SearchSysCache3(STATRELATTINH,
										ObjectIdGetDatum(table),
										Int16GetDatum(get_attnum(table, column)),
										BoolGetDatum(inherited));
	double		result = 0;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_statistic) GETSTRUCT(tuple))->stanullfrac;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* How many rows have the same value in a column, as ANALYZE saw it, or unknown */
double
sd_rows_for_value(Oid table, AttrNumber attnum)
{
	double		rows = sd_count_tuples(table);
	HeapTuple	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(table),
										Int16GetDatum(attnum), BoolGetDatum(false));
	double		distinct = 0;

	if (HeapTupleIsValid(tuple))
	{
		distinct = ((Form_pg_statistic) GETSTRUCT(tuple))->stadistinct;
		ReleaseSysCache(tuple);
	}
	if (rows == SD_UNKNOWN || distinct == 0)
		return SD_UNKNOWN;

	/* below zero it is a fraction of the rows */
	return distinct < 0 ? -1 / distinct : rows / distinct;
}
