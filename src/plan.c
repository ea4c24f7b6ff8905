/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  From a policy to the plan of tonight: its tables, whose rows go with an
 *	  account and in which order, and the statements for it.
 *
 * A run, deletion_plan() and the registration of a policy all make their plan
 * here; what one of them shows or refuses is what the others do.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/plan.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "scheduled_deletion.h"

static void resolve_account_table(DeletionPlan *plan, Relation rel);
static void check_done_column(DeletionPlan *plan, Relation rel);

/*
 * Resolve a policy against the catalog, lock its tables, and write its
 * statements.  Throws an error for the first thing that is not there or not fit.
 */
DeletionPlan *
sd_make_plan(DeletionPolicy *policy, LOCKMODE lockmode)
{
	DeletionPlan *plan = sd_begin_plan(policy, lockmode);

	sd_resolve_audit_table(plan);
	sd_discover(plan);
	sd_find_hold_links(plan);
	sd_refuse_audit_cascades(plan);
	sd_refuse_steps(plan);
	sd_refuse_detaching(plan);
	sd_order_steps(plan);
	sd_prove_checks(plan);
	sd_write_statements(plan);
	return plan;
}

/* Begin a plan with the step that deletes the accounts */
DeletionPlan *
sd_begin_plan(DeletionPolicy *policy, LOCKMODE lockmode)
{
	DeletionPlan *plan = palloc0(sizeof(DeletionPlan));
	Relation	account_table;

	plan->policy = policy;
	plan->lockmode = lockmode;
	account_table = sd_open_table(policy, "account table",
								  policy->account_table, policy->account_number,
								  policy->account_table_name, lockmode);
	resolve_account_table(plan, account_table);
	table_close(account_table, NoLock);
	return plan;
}

/*
 * Parse the statements, for which the caller must have the privileges.
 *
 * Where each batch is to be small, each is to use indexes: of a few keys in a
 * hundred, the planner would rather read the whole table, for each batch anew.
 */
void
sd_prepare_plan(DeletionPlan *plan, bool for_few_keys)
{
	ListCell   *lc;

	foreach(lc, plan->statements)
	{
		PlanStatement *statement = lfirst(lc);

		/* Citus does not lock rows by a generic plan */
		statement->for_few_keys = for_few_keys && statement != &plan->lock &&
			statement->access > SD_NO_KEYS && statement->access < SD_BY_SCAN;
		sd_prepare(statement);
	}
}

/* Can accounts stop each other by a foreign key? */
bool
sd_has_related_accounts(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step->action == SD_BLOCK &&
			list_member_oid(plan->account_tables, step->table))
			return true;
	}
	return false;
}

/* Are there rows to be collected, for others refer to them? */
bool
sd_collects_rows(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step != plan->account && step->keys != NIL)
			return true;
	}
	return false;
}

/* The account table: its key, and its columns that the policy names */
static void
resolve_account_table(DeletionPlan *plan, Relation rel)
{
	DeletionPolicy *policy = plan->policy;
	PlanStep   *step = palloc0(sizeof(PlanStep));
	ListCell   *lc;

	step->action = SD_DELETE;
	step->table = RelationGetRelid(rel);
	step->table_name = sd_table_name(step->table);
	step->may_lock_rows = true;
	plan->account = step;
	plan->steps = list_make1(step);
	plan->account_tables = step->members =
		find_all_inheritors(step->table, NoLock, NULL);

	plan->key = sd_account_key(plan, rel);
	plan->self = sd_make_link(plan, step, rel, policy->key_columns, plan->key,
							  InvalidOid, NULL);

	sd_resolve_due_column(plan, rel);
	if (policy->done_column != NULL)
		check_done_column(plan, rel);
	foreach(lc, policy->audit_details)
		(void) sd_column(policy, rel, "account table", lfirst(lc),
						 "audit_details");
}

/* A done column that is never null would leave all accounts alone for ever */
static void
check_done_column(DeletionPlan *plan, Relation rel)
{
	char	   *name = plan->policy->done_column;
	Form_pg_attribute attr = sd_column(plan->policy, rel, "account table", name,
									   "done_column");

	if (strcmp(name, plan->policy->due_column) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("due column and done column of deletion policy \"%s\" are the same",
						plan->policy->name),
				 errdetail("Accounts that are due would be done."),
				 errhint("Name another done column, or none.")));
	if (getBaseType(attr->atttypid) == BOOLOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("done column \"%s\" of account table \"%s\" is a boolean",
						name, plan->account->table_name),
				 errdetail("Only accounts in which it is null are deleted, and false is not null."),
				 errhint("Use a column that tells the time at which an account was finished, or none.")));
	if (sd_is_not_null(plan->account->table, name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("done column \"%s\" of account table \"%s\" is NOT NULL",
						name, plan->account->table_name),
				 errdetail("Only accounts in which it is null are deleted."),
				 errhint("Use a column that tells the time at which an account was finished, or none.")));
}
