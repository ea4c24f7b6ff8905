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
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
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

static PlanStep *next_to_walk(DeletionPlan *plan);
static void walk(DeletionPlan *plan, PlanStep *step);
static void add_key_link(DeletionPlan *plan, PlanStep *target, Relation member,
						 ForeignKey *fk);
static void refuse_childs_key(PlanStep *target, ForeignKey *fk);
static StepAction choose_action(DeletionPlan *plan, ForeignKey *fk);
static bool is_defined(DeletionPlan *plan, PlanStep *target, ForeignKey *fk);
static void refuse_late_key(DeletionPlan *plan, PlanStep *target,
							PlanStep *step, ForeignKey *fk);
static ForeignKey *read_key(Trigger *trigger, Relation member);
static void find_deleted_tables(DeletionPlan *plan);

/*
 * Fill in the steps of the plan and their links; the account step is there.
 * All tables of it are locked afterwards.
 */
void
sd_discover(DeletionPlan *plan)
{
	PlanStep   *step;
	ListCell   *lc;

	/* the order of the policy's steps is that in which they are listed */
	foreach(lc, plan->policy->steps)
	{
		DeletionStep *definition = lfirst(lc);
		Relation	rel;

		table_close(sd_open_table(plan->policy, "step table",
								  definition->table, definition->number,
								  definition->table_name, plan->lockmode),
					NoLock);
		rel = sd_open_root(plan, definition->table, plan->lockmode);
		sd_refuse_deleting_step(plan, definition);
		(void) sd_plan_step(plan, rel, definition->action, definition);
		table_close(rel, NoLock);
	}

	walk(plan, plan->account);
	while ((step = next_to_walk(plan)) != NULL)
		walk(plan, step);

	find_deleted_tables(plan);
	sd_find_rows_to_lock(plan);
	sd_find_askable_links(plan);
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

		if ((definition->via_name != NULL ? sd_root_of(definition->via) :
			 plan->policy->account_table) == step->table)
			sd_add_defined_links(plan, step, definition);
	}

	foreach(lc, find_all_inheritors(step->table, plan->lockmode, NULL))
	{
		Relation	member = table_open(lfirst_oid(lc), NoLock);
		ListCell   *cell;

		foreach(cell, sd_triggers(member))
		{
			ForeignKey *fk = read_key(lfirst(cell), member);

			if (fk != NULL)
				add_key_link(plan, step, member, fk);
		}
		table_close(member, NoLock);
	}
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

	refuse_childs_key(target, fk);
	action = choose_action(plan, fk);
	rel = sd_open_root(plan, fk->table,
					   action == SD_BLOCK ? AccessShareLock : plan->lockmode);
	step = sd_plan_step(plan, rel, action, NULL);
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
	sd_add_link(plan, link);
	table_close(rel, NoLock);
}

/*
 * What refers to a column that only an inheritance child has cannot be found by
 * the rows of its parent.
 */
static void
refuse_childs_key(PlanStep *target, ForeignKey *fk)
{
	ListCell   *lc;

	foreach(lc, fk->referenced)
	{
		if (get_attnum(target->table, lfirst(lc)) == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("foreign key \"%s\" refers to column \"%s\", which an inheritance child of table \"%s\" has and the table itself has not",
							fk->name, (char *) lfirst(lc), target->table_name),
					 errhint("Add the column to the table, or drop the constraint.")));
	}
}

/* What is done with the rows of a foreign key of which the policy says nothing */
static StepAction
choose_action(DeletionPlan *plan, ForeignKey *fk)
{
	if (fk->action == SD_SET_NULL || fk->action == SD_SET_DEFAULT)
		return fk->action;
	if (sd_is_audit_table(plan, fk->table) ||
		list_member_oid(plan->account_tables, fk->table))
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

		if (step->table != sd_root_of(fk->table))
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
			link->is_free = false;
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
 * of its partitions, unless its own trigger is disabled.  A key over periods is left
 * to the server's own check.
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
	if (!sd_fires(trigger) || !trigger->tgisinternal)
		return NULL;

	tuple = sd_get_constraint(trigger->tgconstraint);
	form = (Form_pg_constraint) GETSTRUCT(tuple);
	if ((OidIsValid(form->conparentid) && sd_is_known_by_whole_key(trigger)) ||
		sd_is_period_key(form))
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
