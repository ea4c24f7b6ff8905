/*-------------------------------------------------------------------------
 *
 * check_holds.c
 *	  Holds that protect nobody, or only from the job.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/check_holds.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "check.h"
#include "run.h"

static void check_lost_holds(Check *check, List *holds);
static uint64 count_held(DeletionPlan *plan, PlanLink *link, RowSet *holds);

/* Add what is to be said of the holds on accounts of the policy */
void
sd_check_holds(Check *check)
{
	DeletionPlan *plan = check->plan;
	List	   *holds = sd_load_holds(check->policy->schema,
									  plan->account->table, true);
	Finding    *finding;

	if (holds == NIL)
		return;
	if (!sd_has_guard(check->policy->schema, plan->account->table))
	{
		finding = sd_add_finding(check, SD_INFO, "unguarded_hold",
								 sd_sql_name(plan->account->table),
								 psprintf("accounts of table \"%s\" are on hold, and not guarded",
										  plan->account->table_name));
		finding->detail = "The job leaves them alone; everybody else may delete them.";
		finding->remedy = psprintf("%s)", sd_own_call(check->policy, "guard_held_accounts"));
	}

	/* statements are not written for a plan that is not fit */
	if (plan->stages != NIL && sd_may_ask(check, plan->account->table))
		check_lost_holds(check, holds);
}

/* Holds on accounts that are not there, or not under that key */
static void
check_lost_holds(Check *check, List *holds)
{
	DeletionPlan *plan = check->plan;
	RowSet	   *rows = sd_held_rows(plan->account,
									sd_hold_keys(plan, plan->account), holds);
	uint64		nfound = 0;
	Finding    *finding;
	ListCell   *lc;

	foreach(lc, plan->hold_links)
	{
		if (((PlanLink *) lfirst(lc))->step == plan->account)
			nfound += count_held(plan, lfirst(lc), rows);
	}
	if (nfound >= list_length(holds))
		return;
	finding = sd_add_finding(check, SD_WARNING, "lost_hold",
							 sd_sql_name(plan->account->table),
							 psprintf("accounts of table \"%s\" that are on hold and not there: " UINT64_FORMAT,
									  plan->account->table_name,
									  list_length(holds) - nfound));
	finding->detail = "They were deleted by hand, or have another key now, by which nothing holds them.";
	finding->hint = "Table deletion_hold lists the holds. Place them anew where the key has changed, and release those that are lost.";
}

/* How many accounts there are of those on hold by that key */
static uint64
count_held(DeletionPlan *plan, PlanLink *link, RowSet *holds)
{
	List	   *params = link->collect.params;
	Oid		   *types = palloc(sizeof(Oid) * list_length(params));
	Datum	   *values = palloc(sizeof(Datum) * list_length(params));
	ListCell   *lc;

	foreach(lc, params)
	{
		StatementParam *param = lfirst(lc);

		types[foreach_current_index(lc)] = param->type;
		values[foreach_current_index(lc)] = sd_key_array(holds, param->key,
														 param->column);
	}
	return sd_query(link->collect.query.data, SPI_OK_SELECT,
					list_length(params), types, values);
}
