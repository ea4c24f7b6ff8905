/*-------------------------------------------------------------------------
 *
 * definition.c
 *	  The steps that the operator has defined: to what their columns lead, and
 *	  which of them cannot be followed.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/definition.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "scheduled_deletion.h"

static void refuse_second_reason(DeletionPolicy *policy, PlanStep *step,
								 DeletionStep *definition);
static List *referring_columns(DeletionPolicy *policy, Relation account_table,
							   DeletionStep *definition);
static void refuse_unsettable(DeletionPlan *plan, PlanStep *step, Relation rel,
							  List *columns);
static bool is_set_to_null(PlanStep *step, const char *column);
static void refuse_lost_steps(DeletionPolicy *policy);
static void refuse_contradictions(DeletionPlan *plan);
static void refuse_contradiction(DeletionPlan *plan, PlanLink *link);
static bool has_same_columns(PlanLink *link, PlanLink *other);

/* Link a step of the policy to the step on whose table it hangs */
void
sd_add_defined_links(DeletionPlan *plan, PlanStep *target,
					 DeletionStep *definition)
{
	DeletionPolicy *policy = plan->policy;
	Relation	target_rel = table_open(target->table, NoLock);
	Relation	rel = table_open(sd_root_of(definition->table), NoLock);
	PlanStep   *step = sd_plan_step(plan, rel, definition->action, definition);
	List	   *key_columns = definition->via_columns;
	PlanKey    *key;
	int			ncolumns;
	ListCell   *lc;

	refuse_second_reason(policy, step, definition);
	if (key_columns == NIL)
		key_columns = target != plan->account ?
			sd_primary_key_columns(target_rel) :
			definition->after_account ?
			referring_columns(policy, target_rel, definition) :
			policy->key_columns;
	if (key_columns == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("table \"%s\", on which step table \"%s\" of deletion policy \"%s\" hangs, has no primary key",
						target->table_name, step->table_name, policy->name),
				 errhint("Name the columns that the step leads to, as via_columns.")));
	for (int i = 0; i < list_length(key_columns); i++)
		(void) sd_column(policy, target_rel, "step table",
						 list_nth(key_columns, i), "via_columns");
	foreach(lc, definition->matches)
		(void) sd_column(policy, rel, "step table",
						 ((StepMatch *) lfirst(lc))->column, "match");

	ncolumns = list_length(key_columns);
	if (list_length(definition->columns) % ncolumns != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("columns of step table \"%s\" of deletion policy \"%s\" do not match columns %s of table \"%s\"",
						step->table_name, policy->name,
						sd_name_list(key_columns), target->table_name),
				 errhint("Name one column for each of them, or several times so many: then a row leads there by any of the groups.")));

	definition->is_linked = true;
	key = sd_find_key(target, target_rel, key_columns, InvalidOid, InvalidOid,
					  InvalidOid);
	for (int i = 0; i < list_length(definition->columns); i += ncolumns)
	{
		List	   *columns = NIL;
		PlanLink   *link;

		for (int j = 0; j < ncolumns; j++)
			columns = lappend(columns, list_nth(definition->columns, i + j));
		link = sd_make_link(plan, step, rel, columns, key, InvalidOid, NULL);
		link->definition = definition;
		link->is_free = true;
		if (definition->table != step->table)
			link->member = definition->table;
		if (step->action == SD_SET_NULL)
			refuse_unsettable(plan, step, rel, columns);
		sd_add_link(plan, link);
	}
	table_close(rel, NoLock);
	table_close(target_rel, NoLock);
}

/* An audit row tells one reason for all rows of a table that are kept */
static void
refuse_second_reason(DeletionPolicy *policy, PlanStep *step,
					 DeletionStep *definition)
{
	if (step->action == SD_KEEP &&
		strcmp(step->definition->reason, definition->reason) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("rows of step table \"%s\" of deletion policy \"%s\" are kept for another reason already",
						step->table_name, policy->name),
				 errdetail("It is: %s", step->definition->reason),
				 errhint("Give the same reason, or take the other step out with remove_deletion_step().")));
}

/*
 * The columns of the account table by which it refers to those of a step that
 * comes after it, or its key if it does not.
 */
static List *
referring_columns(DeletionPolicy *policy, Relation account_table,
				  DeletionStep *definition)
{
	ListCell   *lc;

	foreach(lc, sd_foreign_keys(account_table))
	{
		ForeignKeyCacheInfo *fk = lfirst_node(ForeignKeyCacheInfo, lc);
		List	   *names = NIL;
		ListCell   *cell;

		if (fk->confrelid != definition->table ||
			fk->nkeys != list_length(definition->columns))
			continue;
		foreach(cell, definition->columns)
		{
			for (int i = 0; i < fk->nkeys; i++)
			{
				if (fk->confkey[i] == get_attnum(fk->confrelid, lfirst(cell)))
					names = lappend(names,
									get_attname(RelationGetRelid(account_table),
												fk->conkey[i], false));
			}
		}
		if (list_length(names) == fk->nkeys)
			return names;
	}
	return policy->key_columns;
}

/*
 * Columns that are to be set to null must take it, and not be those by which
 * rows are found that are to be set to null, too.
 */
static void
refuse_unsettable(DeletionPlan *plan, PlanStep *step, Relation rel,
				  List *columns)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		char	   *column = lfirst(lc);
		bool		is_generated = sd_column(plan->policy, rel, "step table",
											 column, "columns")->attgenerated != '\0';
		bool		is_not_null = sd_is_not_null(step->table, column);

		if (is_not_null || is_generated || is_set_to_null(step, column))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("column \"%s\" of step table \"%s\" of deletion policy \"%s\" cannot be set to null",
							column, step->table_name, plan->policy->name),
					 is_not_null ? errdetail("It is NOT NULL.") :
					 is_generated ? errdetail("It is a generated column.") :
					 errdetail("Rows that are found by it and another column would not be found any more."),
					 errhint("Change the column, use another action, or let a foreign key do it with ON DELETE SET NULL and the columns to be set.")));
	}
}

/* Does a link of a step name that column? */
static bool
is_set_to_null(PlanStep *step, const char *column)
{
	ListCell   *lc;

	foreach(lc, step->links)
	{
		PlanLink   *link = lfirst(lc);

		for (int i = 0; i < link->ncolumns; i++)
		{
			if (!OidIsValid(link->constraint) && link->ncolumns > 1 &&
				strcmp(link->names[i], column) == 0)
				return true;
		}
	}
	return false;
}

/* Refuse steps of the policy that cannot be followed, once all is discovered */
void
sd_refuse_steps(DeletionPlan *plan)
{
	refuse_lost_steps(plan->policy);
	refuse_contradictions(plan);
}

/* A step of the policy must hang on something that is there, and deleted */
static void
refuse_lost_steps(DeletionPolicy *policy)
{
	ListCell   *lc;

	foreach(lc, policy->steps)
	{
		DeletionStep *definition = lfirst(lc);

		if (!definition->is_linked && get_rel_name(definition->via) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("step table \"%s\" of deletion policy \"%s\" hangs on table \"%s\", which does not exist any more",
							sd_table_name(definition->table), policy->name,
							definition->via_name),
					 errhint("Call remove_deletion_step(%s, %s), and add the step again if it leads to a table that is there.",
							 quote_literal_cstr(policy->name),
							 quote_literal_cstr(sd_qualified_name(definition->table)))));
		if (!definition->is_linked)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("step table \"%s\" of deletion policy \"%s\" hangs on table \"%s\", of which nothing is deleted",
							sd_table_name(definition->table), policy->name,
							sd_table_name(definition->via)),
					 errhint("Add a step for that table first, or call remove_deletion_step(%s, %s).",
							 quote_literal_cstr(policy->name),
							 quote_literal_cstr(sd_qualified_name(definition->table)))));
	}
}

/*
 * What the policy says of rows must not be contradicted: neither by another step
 * over the same columns, nor, if it keeps them, by anything that deletes from the
 * same table.  Steps that match values may be about other rows.
 */
static void
refuse_contradictions(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		ListCell   *cell;

		foreach(cell, ((PlanStep *) lfirst(lc))->links)
		{
			PlanLink   *link = lfirst(cell);

			if (link->definition != NULL)
				refuse_contradiction(plan, link);
		}
	}
}

/* The same, of one link that the policy defines */
static void
refuse_contradiction(DeletionPlan *plan, PlanLink *link)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		if (step->table != link->step->table || step == link->step)
			continue;
		foreach(cell, step->links)
		{
			PlanLink   *other = lfirst(cell);

			if (other->definition != NULL && other->definition->match != NULL &&
				link->definition->match != NULL)
				continue;
			if (link->step->action == SD_KEEP && step->action == SD_DELETE)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("rows of step table \"%s\" of deletion policy \"%s\" cannot be kept",
								step->table_name, plan->policy->name),
						 OidIsValid(other->constraint) ?
						 errdetail("Foreign key \"%s\" may delete them with rows of table \"%s\".",
								   get_constraint_name(other->constraint),
								   other->key->step->table_name) :
						 errdetail("Another step deletes from the table."),
						 errhint("Add a step for the columns of that key with the action 'set null', or take the other step out.")));
			if (other->definition != NULL && has_same_columns(link, other))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("step table \"%s\" of deletion policy \"%s\" has two steps over the same columns",
								step->table_name, plan->policy->name),
						 errdetail("They differ in their action."),
						 errhint("Take them out with remove_deletion_step(), and add one.")));
		}
	}
}

/* Do two links lead by the same columns to the same key? */
static bool
has_same_columns(PlanLink *link, PlanLink *other)
{
	if (link->key != other->key || link->ncolumns != other->ncolumns)
		return false;
	for (int i = 0; i < link->ncolumns; i++)
	{
		if (strcmp(link->names[i], other->names[i]) != 0)
			return false;
	}
	return true;
}

/*
 * Accounts are deleted because they are due, and not by a step; audit rows are
 * not deleted at all.
 */
void
sd_refuse_deleting_step(DeletionPlan *plan, DeletionStep *definition)
{
	bool		is_account = list_member_oid(plan->account_tables,
											 definition->table);

	if (definition->action == SD_DELETE &&
		(is_account || sd_is_audit_table(plan, definition->table)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a step cannot delete from %s \"%s\" of deletion policy \"%s\"",
						is_account ? "account table" : "audit table",
						sd_table_name(definition->table), plan->policy->name),
				 is_account ?
				 errdetail("It would delete accounts that need not be due.") :
				 errdetail("It would delete the record of what was deleted.")));
}
