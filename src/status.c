/*-------------------------------------------------------------------------
 *
 * status.c
 *	  How a policy stands now: what of deletion_status is not in the extension's own
 *	  tables.
 *
 * It is read as the caller, who need not be the role that runs the job; only what a
 * SELECT locks is locked.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/status.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "run.h"

#define NSTATUS_COLUMNS	6

/* unknown, of what may be true or false */
#define UNKNOWN			(-1)

/* How a policy stands */
typedef struct Status
{
	Run		   *run;
	int64		due;			/* SD_UNKNOWN if it could not be counted */
	bool		has_oldest;		/* is any due that is not on hold? ... */
	TimestampTz oldest;			/* ... since when */
	int64		held;			/* that are due */
	const char *blocked_by;		/* NULL: nothing stops it as a whole */
} Status;

static void look(Status *status, bool (*body) (void *));
static bool look_at_accounts(void *arg);
static bool look_without_plan(void *arg);
static void refuse_hidden_accounts(DeletionPlan *plan);
static void find_oldest(Status *status, int64 limit);
static int	is_scheduled(const char *policy);

/* Add the row of a policy to a result */
void
sd_put_status(DeletionPolicy *policy, ReturnSetInfo *result)
{
	Run			run = {0};
	Status		status = {.run = &run,.due = SD_UNKNOWN,.held = SD_UNKNOWN};
	Datum		values[NSTATUS_COLUMNS];
	bool		nulls[NSTATUS_COLUMNS] = {false};
	int			scheduled = is_scheduled(policy->name);

	run.schema = policy->schema;
	run.policy_name = policy->name;
	run.policy = policy;
	run.due = run.ahead = SD_UNKNOWN;
	run.started_at = GetCurrentTimestamp();
	sd_begin_run(&run);
	look(&status, look_at_accounts);
	if (status.due == SD_UNKNOWN)
		look(&status, look_without_plan);

	if (!sd_may_run())
		status.blocked_by = psprintf("setting scheduled_deletion.enabled is \"%s\"",
									 sd_enabled);

	values[0] = CStringGetTextDatum(policy->name);
	values[1] = Int64GetDatum(status.due);
	nulls[1] = status.due == SD_UNKNOWN;
	values[2] = TimestampTzGetDatum(status.oldest);
	nulls[2] = !status.has_oldest;
	values[3] = Int64GetDatum(status.held);
	nulls[3] = status.held == SD_UNKNOWN;
	if (status.blocked_by != NULL)
		values[4] = CStringGetTextDatum(status.blocked_by);
	else
		nulls[4] = true;
	values[5] = BoolGetDatum(scheduled == true);
	nulls[5] = scheduled == UNKNOWN;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Look at something in a subtransaction that is rolled back, so that no lock is
 * kept. An error is what the run would meet, too, unless it is that the caller
 * may not look.
 */
static void
look(Status *status, bool (*body) (void *))
{
	bool		done;
	ErrorData  *error = sd_in_subtransaction(body, status, false, &done);

	if (error == NULL)
		return;
	if (sd_concerns_the_call(error) ||
		error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		ReThrowError(error);
	if (status->blocked_by == NULL)
		status->blocked_by = sd_fatal_failure(error)->message;
}

/* Who is due, and who is on hold, as a run would see it; then its brake */
static bool
look_at_accounts(void *arg)
{
	Status	   *status = arg;
	Run		   *run = status->run;
	int64		due;
	ListCell   *lc;

	run->transaction_context = run->batch_context = run->holds_context =
		AllocSetContextCreate(run->run_context, "scheduled_deletion status",
							  ALLOCSET_DEFAULT_SIZES);
	run->plan = sd_make_plan(run->policy, AccessShareLock);
	refuse_hidden_accounts(run->plan);
	sd_find_due_bounds(run->plan, run->started_at, &run->bounds);
	sd_prepare(&run->plan->pick);
	sd_prepare(&run->plan->still_due);
	foreach(lc, run->plan->hold_links)
	{
		PlanLink   *link = lfirst(lc);

		if (!link->step->is_watched)
			sd_prepare(&link->collect);
	}

	sd_refresh_holds(run);
	due = sd_count_due(run, PG_INT64_MAX);
	status->held = sd_count_held_due(run);
	if (due > status->held)
		find_oldest(status, status->held + 1);
	run->due = status->due = due;

	sd_load_failing(run);
	sd_brake(run);
	return true;
}

/* Who is due, on hold or not, where no plan can be made */
static bool
look_without_plan(void *arg)
{
	Status	   *status = arg;
	Run		   *run = status->run;
	int64		due;

	run->held = NULL;
	run->plan = sd_begin_plan(run->policy, AccessShareLock);
	refuse_hidden_accounts(run->plan);
	sd_find_due_bounds(run->plan, run->started_at, &run->bounds);
	sd_write_account_statements(run->plan);
	sd_prepare(&run->plan->pick);
	due = sd_count_due(run, PG_INT64_MAX);
	if (due > 0)
		find_oldest(status, 1);
	status->due = due;
	return true;
}

/* An account that the caller does not see would not be counted */
static void
refuse_hidden_accounts(DeletionPlan *plan)
{
	if (check_enable_rls(plan->account->table, InvalidOid, true) == RLS_ENABLED)
		sd_throw_hidden(plan->account->table,
						"Accounts that it hides would not be counted.", "Look");
}

/* Since when the first account is due that is not on hold: one of so many is not */
static void
find_oldest(Status *status, int64 limit)
{
	Run		   *run = status->run;
	int			naccounts;
	Account    *accounts = sd_pick_first_accounts(run, limit, &naccounts);

	sd_ask_about(run, accounts, naccounts);
	for (int i = 0; i < naccounts && !status->has_oldest; i++)
	{
		if (sd_is_held(run, &accounts[i]))
			continue;
		status->has_oldest = true;
		status->oldest = sd_due_at(run->plan, accounts[i].due);
	}
}

/*
 * Does an active job of pg_cron call a run of the policy?  Unknown where
 * pg_cron is not in this database, or the caller sees only some of its jobs,
 * and none that does.
 */
static int
is_scheduled(const char *policy)
{
	Oid			argtypes[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(policy)};
	Oid			extension = get_extension_oid("pg_cron", true);
	Oid			schema = get_namespace_oid("cron", true);
	Oid			jobs = OidIsValid(schema) ? get_relname_relid("job", schema) : InvalidOid;

	if (!OidIsValid(extension) || !OidIsValid(jobs) ||
		getExtensionOfObject(RelationRelationId, jobs) != extension ||
		sd_namespace_aclcheck(schema, GetUserId(), ACL_USAGE) != ACLCHECK_OK ||
		pg_class_aclcheck(jobs, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		return UNKNOWN;

	/*
	 * one that names no policy, by its name or as the first argument, runs
	 * them all
	 */
	if (sd_query_catalog("SELECT FROM cron.job,"
						 " regexp_replace(command, '--[^\\n]*|/\\*.*?\\*/', '', 'g') c"
						 " WHERE active AND database = current_database()"
						 " AND c ~* '(process|run)_scheduled_deletions\"?\\s*\\('"
						 " AND c !~* 'dry_run\"?\\s*(=>|:=)\\s*true'"
						 " AND (position(quote_literal($1) IN c) > 0 OR position('$' || $1 || '$' IN c) > 0"
						 " OR c !~* '(_scheduled_deletions\"?\\s*\\(\\s*E?[''$]|policy\"?\\s*(=>|:=))')"
						 " LIMIT 1", lengthof(argtypes), argtypes, values) > 0)
		return true;
	return check_enable_rls(jobs, InvalidOid, true) == RLS_ENABLED ? UNKNOWN : false;
}
