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
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "scheduled_deletion.h"

#define NPLAN_COLUMNS	12

static void put_row(DeletionPlan *plan, PlanStep *step, PlanLink *link,
					double estimate, ReturnSetInfo *result);
static char *via(PlanLink *link);
static Datum fk_checks(DeletionPlan *plan, PlanStep *step, bool *is_null);

/* Add the rows of a plan to a result; those that block come first */
void
sd_describe_plan(DeletionPlan *plan, ReturnSetInfo *result)
{
	double	   *estimates = sd_estimate_steps(plan);
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
						sd_estimate_link(lfirst(cell), estimates), result);
		}
	}
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
	List	   *columns = link != NULL ? sd_link_names(link) :
		plan->policy->key_columns;

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
	if (step->action == SD_DELETE)
		values[7] = fk_checks(plan, step, &nulls[7]);
	else
		nulls[7] = true;
	values[8] = Int64GetDatum((int64) rint(estimate));
	nulls[8] = estimate == SD_UNKNOWN;
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

/* The table and columns that a link leads to */
static char *
via(PlanLink *link)
{
	return sd_sql_columns(OidIsValid(link->key->member) ?
						  link->key->member : link->key->step->table,
						  sd_key_names(link->key));
}

/*
 * Does the server check foreign keys when a row of the step is deleted?  Null
 * if there are none.
 */
static Datum
fk_checks(DeletionPlan *plan, PlanStep *step, bool *is_null)
{
	int			nchecks = 0;
	int			nproved = 0;
	ListCell   *lc;

	foreach(lc, find_all_inheritors(step->table, NoLock, NULL))
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);
		ListCell   *cell;

		foreach(cell, sd_triggers(rel))
		{
			Trigger    *trigger = lfirst(cell);

			if (!sd_checks_deletion(trigger))
				continue;
			nchecks++;
			if (step == plan->account &&
				list_member_oid(plan->proved_checks, trigger->tgconstraint))
				nproved++;
		}
		table_close(rel, NoLock);
	}
	*is_null = nchecks == 0;
	return CStringGetTextDatum(nproved == 0 ? "run" :
							   nproved < nchecks ? "some proved empty" : "proved empty");
}
