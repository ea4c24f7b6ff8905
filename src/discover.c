/*-------------------------------------------------------------------------
 *
 * discover.c
 *	  From the account table outwards: whose rows go with an account, whose stay,
 *	  and whose stop it, as the policy's steps and tonight's foreign keys say.
 *
 * A table whose rows are deleted is walked: each step of the policy that hangs
 * on it, and each foreign key that refers to it, is a link, by which rows of
 * another table lead to its rows.  What happens to those is the step's action
 * or follows from the key's; if they are deleted, their table is walked in turn.
 *
 *	ON DELETE CASCADE		deleted, so that they are counted
 *	SET NULL, SET DEFAULT	left to the server's own action, and counted
 *	NO ACTION, RESTRICT		they block the account; or deleted, if the policy
 *							follows blocking keys
 *
 * A step of the policy goes before a key over the same columns.  Rows of the
 * account table are deleted only because they are due, never because a key leads
 * to them: such a key blocks, and so does one from the audit table.
 *
 * Keys are read from the triggers that enforce them: what is disabled, or not
 * enforced, has none that fires.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/discover.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

/* A foreign key, seen from the table that it refers to */
typedef struct ForeignKey
{
	Oid			constraint;
	char	   *name;
	Oid			table;			/* the referencing one */
	StepAction	action;			/* SD_BLOCK if it has none */
	bool		cascades;
	Oid			index;			/* of the referenced columns */
	List	   *columns;		/* char * */
	List	   *referenced;		/* char * */
	Oid			equals[INDEX_MAX_KEYS]; /* column = referenced column */
} ForeignKey;

static Oid	root_of(Oid table);
static Relation open_root(DeletionPlan *plan, Oid table, LOCKMODE lockmode);
static PlanStep *add_step(DeletionPlan *plan, Relation rel, StepAction action,
						  DeletionStep *definition);
static PlanStep *next_to_walk(DeletionPlan *plan);
static void walk(DeletionPlan *plan, PlanStep *step);
static void add_defined_links(DeletionPlan *plan, PlanStep *target,
							  DeletionStep *definition);
static List *referring_columns(DeletionPolicy *policy, Relation account_table,
							   DeletionStep *definition);
static void refuse_unsettable(DeletionPlan *plan, PlanStep *step, Relation rel,
							  List *columns);
static bool is_set_to_null(PlanStep *step, const char *column);
static void add_key_link(DeletionPlan *plan, PlanStep *target, Relation member,
						 ForeignKey *fk);
static StepAction choose_action(DeletionPlan *plan, ForeignKey *fk);
static bool is_defined(DeletionPlan *plan, PlanStep *target, ForeignKey *fk);
static void refuse_late_key(DeletionPlan *plan, PlanStep *target,
							PlanStep *step, ForeignKey *fk);
static ForeignKey *read_key(Trigger *trigger, Relation member);
static bool fires(Trigger *trigger);
static bool can_keep_rows(Relation rel, StepAction action);
static void refuse_lost_steps(DeletionPolicy *policy);
static void refuse_deleting_step(DeletionPlan *plan, DeletionStep *definition);
static bool is_audit_table(DeletionPlan *plan, Oid table);
static void find_deleted_tables(DeletionPlan *plan);
static void find_rows_to_lock(DeletionPlan *plan);
static void find_askable_links(DeletionPlan *plan);
static bool user_code_may_delete(DeletionPlan *plan);
static bool may_read(Oid table);
static bool may_be_unlinked(DeletionPlan *plan, PlanLink *link);

/*
 * Fill in the steps of the plan and their links; the account step is there.
 * All tables of it are locked afterwards.
 */
void
sd_discover(DeletionPlan *plan)
{
	DeletionPolicy *policy = plan->policy;
	PlanStep   *step;
	ListCell   *lc;

	/* the order of the policy's steps is that in which they are listed */
	foreach(lc, policy->steps)
	{
		DeletionStep *definition = lfirst(lc);
		Relation	rel;

		table_close(sd_open_table(policy, "step table", definition->table,
								  definition->table_name, plan->lockmode),
					NoLock);
		rel = open_root(plan, definition->table, plan->lockmode);
		refuse_deleting_step(plan, definition);
		(void) add_step(plan, rel, definition->action, definition);
		table_close(rel, NoLock);
	}

	walk(plan, plan->account);
	while ((step = next_to_walk(plan)) != NULL)
		walk(plan, step);

	refuse_lost_steps(policy);
	find_deleted_tables(plan);
	find_rows_to_lock(plan);
	find_askable_links(plan);
}

/*
 * A table, or the partitioned table of which it is a part: a step is about the
 * whole, so that no two are about the same rows; its links may be about a part.
 */
static Oid
root_of(Oid table)
{
	return get_rel_relispartition(table) ?
		llast_oid(get_partition_ancestors(table)) : table;
}

/* Open that, locked; it is there, for its part is */
static Relation
open_root(DeletionPlan *plan, Oid table, LOCKMODE lockmode)
{
	Oid			root = root_of(table);

	return sd_open_table(plan->policy, "step table", root, get_rel_name(root),
						 lockmode);
}

/*
 * The step that does that to rows of the table; made, at the end of the plan, if
 * there is none yet.
 */
static PlanStep *
add_step(DeletionPlan *plan, Relation rel, StepAction action,
		 DeletionStep *definition)
{
	PlanStep   *step;
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		step = lfirst(lc);
		if (step->table == RelationGetRelid(rel) && step->action == action)
			return step;
	}

	step = palloc0(sizeof(PlanStep));
	step->action = action;
	step->table = RelationGetRelid(rel);
	step->table_name = sd_table_name(step->table);
	step->definition = definition;
	step->can_keep_rows = can_keep_rows(rel, action);
	step->number = list_length(plan->steps);
	plan->steps = lappend(plan->steps, step);
	return step;
}

/* A step that deletes rows, and is not walked yet, or NULL */
static PlanStep *
next_to_walk(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step->action == SD_DELETE && step->links != NIL && !step->is_walked)
			return step;
	}
	return NULL;
}

/* Find what leads to the rows of a table that are deleted */
static void
walk(DeletionPlan *plan, PlanStep *step)
{
	ListCell   *lc;

	step->is_walked = true;
	foreach(lc, plan->policy->steps)
	{
		DeletionStep *definition = lfirst(lc);

		if ((OidIsValid(definition->via) ? root_of(definition->via) :
			 plan->policy->account_table) == step->table)
			add_defined_links(plan, step, definition);
	}

	foreach(lc, find_all_inheritors(step->table, plan->lockmode, NULL))
	{
		Relation	member = table_open(lfirst_oid(lc), NoLock);

		for (int i = 0; member->trigdesc != NULL &&
			 i < member->trigdesc->numtriggers; i++)
		{
			ForeignKey *fk = read_key(&member->trigdesc->triggers[i], member);

			if (fk != NULL)
				add_key_link(plan, step, member, fk);
		}
		table_close(member, NoLock);
	}
}

/* Link a step of the policy to the step on whose table it hangs */
static void
add_defined_links(DeletionPlan *plan, PlanStep *target,
				  DeletionStep *definition)
{
	DeletionPolicy *policy = plan->policy;
	Relation	target_rel = table_open(target->table, NoLock);
	Relation	rel = table_open(root_of(definition->table), NoLock);
	PlanStep   *step = add_step(plan, rel, definition->action, definition);
	List	   *key_columns = definition->via_columns;
	PlanKey    *key;
	int			ncolumns;
	ListCell   *lc;

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
		if (definition->table != step->table)
			link->member = definition->table;
		if (step->action == SD_SET_NULL)
			refuse_unsettable(plan, step, rel, columns);
		step->links = lappend(step->links, link);
	}
	table_close(rel, NoLock);
	table_close(target_rel, NoLock);
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

	foreach(lc, RelationGetFKeyList(account_table))
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
					 errhint("Change the column, or use another action.")));
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

/* Link the table of a foreign key to a step, as the key or the policy says */
static void
add_key_link(DeletionPlan *plan, PlanStep *target, Relation member,
			 ForeignKey *fk)
{
	StepAction	action;
	Relation	rel;
	PlanStep   *step;
	PlanKey    *key;
	PlanLink   *link;

	if (is_defined(plan, target, fk))
		return;

	action = choose_action(plan, fk);
	rel = open_root(plan, fk->table,
					action == SD_DELETE ? plan->lockmode : AccessShareLock);
	step = add_step(plan, rel, action, NULL);
	key = sd_find_key(target, member, fk->referenced, fk->index,
					  RelationGetRelid(member) != target->table ||
					  (member->rd_rel->relkind == RELKIND_RELATION &&
					   find_inheritance_children(target->table, NoLock) != NIL) ?
					  RelationGetRelid(member) : InvalidOid, InvalidOid);
	link = sd_make_link(plan, step, rel, fk->columns, key, fk->constraint,
						fk->equals);
	link->cascades = fk->cascades;
	if (fk->table != step->table ||
		(rel->rd_rel->relkind == RELKIND_RELATION &&
		 find_inheritance_children(fk->table, NoLock) != NIL))
		link->member = fk->table;
	step->links = lappend(step->links, link);
	table_close(rel, NoLock);
}

/* What is done with the rows of a foreign key of which the policy says nothing */
static StepAction
choose_action(DeletionPlan *plan, ForeignKey *fk)
{
	bool		is_audit = is_audit_table(plan, fk->table);

	if (fk->action == SD_SET_NULL || fk->action == SD_SET_DEFAULT)
		return fk->action;
	if (is_audit && fk->cascades)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FOREIGN_KEY),
				 errmsg("foreign key \"%s\" deletes rows of audit table \"%s\"",
						fk->name, sd_table_name(fk->table)),
				 errdetail("An audit row could not outlive what it refers to."),
				 errhint("Drop the constraint, or give it the action SET NULL.")));
	if (is_audit || list_member_oid(plan->account_tables, fk->table))
		return SD_BLOCK;
	if (fk->cascades || plan->policy->follow_blocking_keys)
		return SD_DELETE;
	return SD_BLOCK;
}

/*
 * Does a step of the policy say what happens to all rows of a foreign key?  If
 * it keeps them, the key must let them be.
 */
static bool
is_defined(DeletionPlan *plan, PlanStep *target, ForeignKey *fk)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		if (step->table != root_of(fk->table))
			continue;
		refuse_late_key(plan, target, step, fk);
		foreach(cell, step->links)
		{
			PlanLink   *link = lfirst(cell);
			bool		is_same = link->key->step == target &&
				link->definition != NULL && link->definition->match == NULL &&
				(!OidIsValid(link->member) || link->member == fk->table) &&
				link->ncolumns == list_length(fk->columns);

			for (int i = 0; is_same && i < link->ncolumns; i++)
				is_same = strcmp(link->names[i], list_nth(fk->columns, i)) == 0;
			if (!is_same)
				continue;
			if (step->action == SD_KEEP &&
				fk->action != SD_SET_NULL && fk->action != SD_SET_DEFAULT)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_FOREIGN_KEY),
						 errmsg("rows of step table \"%s\" of deletion policy \"%s\" cannot be kept",
								step->table_name, plan->policy->name),
						 errdetail("Foreign key \"%s\" %s.", fk->name,
								   fk->cascades ? "deletes them" :
								   "does not let the row go that they refer to"),
						 errhint("Use the action 'set null', or drop the constraint.")));
			link->cascades = fk->cascades;
			return true;
		}
	}
	return false;
}

/*
 * What the policy puts after the account must not refer to it: when its turn
 * comes, the key would have taken its action.
 */
static void
refuse_late_key(DeletionPlan *plan, PlanStep *target, PlanStep *step,
				ForeignKey *fk)
{
	if (target == plan->account && step->definition != NULL &&
		step->definition->after_account)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FOREIGN_KEY),
				 errmsg("rows of step table \"%s\" of deletion policy \"%s\" cannot come after the account",
						step->table_name, plan->policy->name),
				 errdetail("Foreign key \"%s\" refers to the account.",
						   fk->name),
				 errhint("Add the step without after_account.")));
}

/*
 * The foreign key for whose sake a trigger of "member" fires when a row of that
 * is deleted, or NULL.  The key of a whole partitioned table speaks for those
 * of its partitions.  A key over periods is left to the server's own check.
 */
static ForeignKey *
read_key(Trigger *trigger, Relation member)
{
	ForeignKey *fk;
	HeapTuple	tuple;
	Form_pg_constraint form;
	int			nkeys;
	AttrNumber	conkey[INDEX_MAX_KEYS];
	AttrNumber	confkey[INDEX_MAX_KEYS];
	Oid			equals[INDEX_MAX_KEYS];
	StepAction	action;

	switch (trigger->tgfoid)
	{
		case F_RI_FKEY_CASCADE_DEL:
			action = SD_DELETE;
			break;
		case F_RI_FKEY_SETNULL_DEL:
			action = SD_SET_NULL;
			break;
		case F_RI_FKEY_SETDEFAULT_DEL:
			action = SD_SET_DEFAULT;
			break;
		case F_RI_FKEY_NOACTION_DEL:
		case F_RI_FKEY_RESTRICT_DEL:
			action = SD_BLOCK;
			break;
		default:
			return NULL;
	}
	if (!fires(trigger))
		return NULL;

	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(trigger->tgconstraint));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for constraint %u",
			 trigger->tgconstraint);
	form = (Form_pg_constraint) GETSTRUCT(tuple);
	if (OidIsValid(form->conparentid) || sd_is_period_key(form))
	{
		ReleaseSysCache(tuple);
		return NULL;
	}

	fk = palloc0(sizeof(ForeignKey));
	fk->constraint = form->oid;
	fk->name = pstrdup(NameStr(form->conname));
	fk->table = form->conrelid;
	fk->action = action;
	fk->cascades = action == SD_DELETE;
	fk->index = form->conindid;
	DeconstructFkConstraintRow(tuple, &nkeys, conkey, confkey, equals,
							   NULL, NULL, NULL, NULL);
	for (int i = 0; i < nkeys; i++)
	{
		fk->columns = lappend(fk->columns,
							  get_attname(fk->table, conkey[i], false));
		fk->referenced = lappend(fk->referenced,
								 get_attname(RelationGetRelid(member),
											 confkey[i], false));
		fk->equals[i] = get_commutator(equals[i]);
	}
	ReleaseSysCache(tuple);
	return fk;
}

/* Does a trigger fire where session_replication_role is "origin"? */
static bool
fires(Trigger *trigger)
{
	return trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN ||
		trigger->tgenabled == TRIGGER_FIRES_ALWAYS;
}

/*
 * Could users' triggers or rules leave rows of the table, its partitions or
 * children as they are, whatever the action does to them?
 */
static bool
can_keep_rows(Relation rel, StepAction action)
{
	bool		result = rel->rd_rules != NULL;
	ListCell   *lc;

	if (action == SD_KEEP || action == SD_BLOCK)
		return false;
	foreach(lc, find_all_inheritors(RelationGetRelid(rel), NoLock, NULL))
	{
		Relation	member = table_open(lfirst_oid(lc), NoLock);

		if (member->trigdesc != NULL &&
			(action == SD_DELETE ? member->trigdesc->trig_delete_before_row :
			 member->trigdesc->trig_update_before_row))
			result = true;
		table_close(member, NoLock);
	}
	return result;
}

/* A step of the policy must hang on something that is deleted */
static void
refuse_lost_steps(DeletionPolicy *policy)
{
	ListCell   *lc;

	foreach(lc, policy->steps)
	{
		DeletionStep *definition = lfirst(lc);

		if (!definition->is_linked)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("step table \"%s\" of deletion policy \"%s\" hangs on table \"%s\", of which nothing is deleted",
							sd_table_name(definition->table), policy->name,
							get_rel_name(definition->via) != NULL ?
							sd_table_name(definition->via) :
							definition->via_name),
					 errhint("Add a step for that table first, or call remove_deletion_step(%s, %s).",
							 quote_literal_cstr(policy->name),
							 quote_literal_cstr(sd_table_name(definition->table)))));
	}
}

/*
 * Accounts are deleted because they are due, and not by a step; audit rows are
 * not deleted at all.
 */
static void
refuse_deleting_step(DeletionPlan *plan, DeletionStep *definition)
{
	bool		is_account = list_member_oid(plan->account_tables,
											 definition->table);

	if (definition->action == SD_DELETE &&
		(is_account || is_audit_table(plan, definition->table)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a step cannot delete from %s \"%s\" of deletion policy \"%s\"",
						is_account ? "account table" : "audit table",
						sd_table_name(definition->table), plan->policy->name),
				 is_account ?
				 errdetail("It would delete accounts that need not be due.") :
				 errdetail("It would delete the record of what was deleted.")));
}

/* Is a table an audit table, this policy's or another's, or a partition of one? */
static bool
is_audit_table(DeletionPlan *plan, Oid table)
{
	ListCell   *lc;

	foreach(lc, plan->policy->audit_tables)
	{
		if (list_member_oid(find_all_inheritors(lfirst_oid(lc), NoLock, NULL),
							table))
			return true;
	}
	return false;
}

/* Find for each step the one that deletes rows of the same table */
static void
find_deleted_tables(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		if (list_member_oid(plan->account_tables, step->table))
			step->deleted_by = plan->account;
		foreach(cell, plan->steps)
		{
			PlanStep   *other = lfirst(cell);

			if (other->table == step->table && other->action == SD_DELETE)
				step->deleted_by = other;
		}
	}
}

/*
 * Find the steps from whose rows cascades lead to rows of the account table.
 * They have to be locked when it is asked whether there are any: who adds one
 * later must wait, or it would be erased without being due.
 */
static void
find_rows_to_lock(DeletionPlan *plan)
{
	bool		found;

	do
	{
		ListCell   *lc;

		found = false;
		foreach(lc, plan->steps)
		{
			PlanStep   *step = lfirst(lc);
			bool		leads_to_accounts = step->lock_rows ||
				(step->action == SD_BLOCK &&
				 list_member_oid(plan->account_tables, step->table));
			ListCell   *cell;

			foreach(cell, step->links)
			{
				PlanLink   *link = lfirst(cell);

				if (leads_to_accounts && link->cascades &&
					!link->key->step->lock_rows)
					found = link->key->step->lock_rows = true;
			}
		}
	} while (found);
}

/*
 * Can a query tell whom a blocking key stops?  Rows of the account table must be
 * asked for.  Of others, not if users' code may delete them in time, or the
 * server unlink them; nor if the caller may not read the table, or row-level
 * security shows only a part of it.  Then the server's own check tells, when it
 * is tried.
 */
static void
find_askable_links(DeletionPlan *plan)
{
	bool		user_code = user_code_may_delete(plan);
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		bool		is_account = list_member_oid(plan->account_tables,
												 step->table);
		ListCell   *cell;

		if (step->action != SD_BLOCK)
			continue;
		foreach(cell, step->links)
		{
			PlanLink   *link = lfirst(cell);

			link->is_asked = is_account ||
				(!user_code && may_read(step->table) &&
				 check_enable_rls(step->table, InvalidOid, true) != RLS_ENABLED &&
				 !may_be_unlinked(plan, link));
		}
	}
}

/*
 * Could users' triggers or rules delete rows of any table while the accounts'
 * rows are deleted?
 */
static bool
user_code_may_delete(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		if (step->action != SD_DELETE)
			continue;
		foreach(cell, find_all_inheritors(step->table, NoLock, NULL))
		{
			Relation	rel = table_open(lfirst_oid(cell), NoLock);
			bool		result = rel->rd_rules != NULL;

			for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
			{
				Trigger    *trigger = &rel->trigdesc->triggers[i];

				if (!trigger->tgisinternal && fires(trigger) &&
					TRIGGER_FOR_DELETE(trigger->tgtype))
					result = true;
			}
			table_close(rel, NoLock);
			if (result)
				return true;
		}
	}
	return false;
}

/* May the caller read all of a table? */
static bool
may_read(Oid table)
{
	return sd_namespace_aclcheck(get_rel_namespace(table), GetUserId(),
								 ACL_USAGE) == ACLCHECK_OK &&
		pg_class_aclcheck(table, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

/* Is a column of a link set to null or its default by another step? */
static bool
may_be_unlinked(DeletionPlan *plan, PlanLink *link)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		if (step->table != link->step->table ||
			(step->action != SD_SET_NULL && step->action != SD_SET_DEFAULT))
			continue;
		foreach(cell, step->links)
		{
			PlanLink   *other = lfirst(cell);

			for (int i = 0; i < other->ncolumns; i++)
			{
				for (int j = 0; j < link->ncolumns; j++)
				{
					if (strcmp(other->names[i], link->names[j]) == 0)
						return true;
				}
			}
		}
	}
	return false;
}
