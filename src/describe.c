/*-------------------------------------------------------------------------
 *
 * describe.c
 *	  What deletion_plan() shows: the plan that a run would follow now, a row for
 *	  each way in which rows of a table lead to an account.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/describe.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_statistic.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

#define NPLAN_COLUMNS	12

/* unknown, of a number of rows */
#define UNKNOWN			(-1.0)

static double *estimate_steps(DeletionPlan *plan);
static double estimate_due_accounts(DeletionPlan *plan);
static double estimate_link(PlanLink *link, double *estimates);
static double count_tuples(Oid table);
static double null_fraction(Oid table, const char *column);
static void put_row(DeletionPlan *plan, PlanStep *step, PlanLink *link,
					double estimate, ReturnSetInfo *result);
static char *via(PlanLink *link);
static bool is_referenced(Oid table);

/* Add the rows of a plan to a result; those that block come first */
void
sd_describe_plan(DeletionPlan *plan, ReturnSetInfo *result)
{
	double	   *estimates = estimate_steps(plan);
	ListCell   *lc;

	for (int position = 0; position <= list_length(plan->steps); position++)
	{
		foreach(lc, plan->steps)
		{
			PlanStep   *step = lfirst(lc);
			ListCell   *cell;

			if (step->position != position)
				continue;
			if (step == plan->account)
				put_row(plan, step, NULL, estimates[step->number], result);
			foreach(cell, step->links)
				put_row(plan, step, lfirst(cell),
						estimate_link(lfirst(cell), estimates), result);
		}
	}
}

/* How many rows of each step belong to the accounts that are due now */
static double *
estimate_steps(DeletionPlan *plan)
{
	double	   *estimates = palloc(sizeof(double) * list_length(plan->steps));

	for (int i = 0; i < list_length(plan->steps); i++)
		estimates[i] = UNKNOWN;
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
				double		rows = estimate_link(lfirst(cell), estimates);

				if (rows != UNKNOWN)
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
 * As the planner estimates it; UNKNOWN if the table was never analyzed, or to a
 * caller who may not read it.
 */
static double
estimate_due_accounts(DeletionPlan *plan)
{
	Oid			argtypes[] = {plan->due_type};
	Datum		values[] = {sd_cutoff(plan, GetCurrentTimestamp())};
	const char *label = "\"Plan Rows\": ";
	char	   *output;
	MemoryContext caller_context = CurrentMemoryContext;

	if (count_tuples(plan->account->table) == UNKNOWN ||
		pg_class_aclcheck(plan->account->table, GetUserId(),
						  ACL_SELECT) != ACLCHECK_OK)
		return UNKNOWN;
	if (SPI_execute_with_args(psprintf("EXPLAIN (FORMAT JSON) %s",
									   plan->due.query.data),
							  lengthof(argtypes), argtypes, values, NULL, false,
							  0) != SPI_OK_UTILITY)
		elog(ERROR, "EXPLAIN failed");
	output = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	MemoryContextSwitchTo(caller_context);
	output = strstr(output, label);
	return output == NULL ? UNKNOWN : strtod(output + strlen(label), NULL);
}

/*
 * Each row of the table that refers to anything refers to one of the rows there
 * as likely as to another.
 */
static double
estimate_link(PlanLink *link, double *estimates)
{
	double		all = count_tuples(link->key->step->table);
	double		referring = count_tuples(link->step->table);
	double		these = estimates[link->key->step->number];

	if (all <= 0 || referring == UNKNOWN || these == UNKNOWN)
		return referring == 0 ? 0 : UNKNOWN;
	return referring * (1.0 - null_fraction(link->step->table, link->names[0])) *
		Min(these / all, 1.0);
}

/* As ANALYZE or VACUUM saw it; UNKNOWN if none has */
static double
count_tuples(Oid table)
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
			sum = form->reltuples < 0 || sum == UNKNOWN ? UNKNOWN :
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

/* One row of the result; without a link, that of the accounts */
static void
put_row(DeletionPlan *plan, PlanStep *step, PlanLink *link, double estimate,
		ReturnSetInfo *result)
{
	static const char *const actions[] = {
		[SD_DELETE] = "delete",
		[SD_SET_NULL] = "set null",
		[SD_SET_DEFAULT] = "set default",
		[SD_KEEP] = "keep",
		[SD_BLOCK] = "block"
	};
	Datum		values[NPLAN_COLUMNS];
	bool		nulls[NPLAN_COLUMNS] = {false};
	bool		is_key = link != NULL && OidIsValid(link->constraint);
	DeletionStep *definition = link != NULL ? link->definition : NULL;
	List	   *columns = plan->policy->key_columns;

	if (link != NULL)
	{
		columns = NIL;
		for (int i = 0; i < link->ncolumns; i++)
			columns = lappend(columns, link->names[i]);
	}

	values[0] = CStringGetTextDatum(plan->policy->name);
	values[1] = Int32GetDatum(step->position);
	values[2] = ObjectIdGetDatum(link != NULL && OidIsValid(link->member) ?
								 link->member : step->table);
	values[3] = sd_name_array(columns);
	values[4] = CStringGetTextDatum(actions[step->action]);
	values[5] = CStringGetTextDatum(is_key ? "foreign key" : "policy");
	if (link != NULL)
		values[6] = CStringGetTextDatum(via(link));
	else
		nulls[6] = true;
	values[7] = CStringGetTextDatum("run");
	nulls[7] = step->action != SD_DELETE || !is_referenced(step->table);
	values[8] = Int64GetDatum((int64) rint(estimate));
	nulls[8] = estimate == UNKNOWN;
	if (is_key)
		values[9] = DirectFunctionCall1(namein,
										CStringGetDatum(get_constraint_name(link->constraint)));
	else
		nulls[9] = true;
	if (definition != NULL && definition->match != NULL)
		values[10] = JsonbPGetDatum(definition->match);
	else
		nulls[10] = true;
	if (definition != NULL && definition->reason != NULL)
		values[11] = CStringGetTextDatum(definition->reason);
	else
		nulls[11] = true;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* The table and columns that a link leads to, quoted as SQL: orders(id) */
static char *
via(PlanLink *link)
{
	Oid			table = OidIsValid(link->key->member) ?
		link->key->member : link->key->step->table;
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s(",
					 DatumGetCString(DirectFunctionCall1(regclassout,
														 ObjectIdGetDatum(table))));
	for (int i = 0; i < link->ncolumns; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(link->key->columns[i].name));
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/* Does the server check foreign keys when a row of the table is deleted? */
static bool
is_referenced(Oid table)
{
	Relation	rel = table_open(table, NoLock);
	bool		result = false;

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		if (RI_FKey_trigger_type(rel->trigdesc->triggers[i].tgfoid) == RI_TRIGGER_PK)
			result = true;
	}
	table_close(rel, NoLock);
	return result;
}
