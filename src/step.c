/*-------------------------------------------------------------------------
 *
 * step.c
 *	  A step of a plan: what happens to the rows of one table.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/step.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_inherits.h"
#include "utils/lsyscache.h"

#include "scheduled_deletion.h"

static bool can_keep_rows(Relation rel, StepAction action);

/*
 * A table, or the partitioned table of which it is a part: a step is about the
 * whole, so that no two are about the same rows; its links may be about a part.
 */
Oid
sd_root_of(Oid table)
{
	return get_rel_relispartition(table) ?
		llast_oid(get_partition_ancestors(table)) : table;
}

/* Open that, locked; it is there, for its part is */
Relation
sd_open_root(DeletionPlan *plan, Oid table, LOCKMODE lockmode)
{
	Oid			root = sd_root_of(table);

	return sd_open_table(plan->policy, "step table", root, root,
						 get_rel_name(root), lockmode);
}

/*
 * The step that does that to rows of the table; made, at the end of the plan, if
 * there is none yet.
 */
PlanStep *
sd_plan_step(DeletionPlan *plan, Relation rel, StepAction action,
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
	step->members = find_all_inheritors(step->table, NoLock, NULL);
	step->can_keep_rows = can_keep_rows(rel, action);
	step->may_lock_rows = sd_may_lock(step->table);
	step->number = list_length(plan->steps);
	plan->steps = lappend(plan->steps, step);
	return step;
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

/*
 * Refuse a plan while a partition of one of its tables is being detached without a
 * lock that keeps it there: to new snapshots it is no part of the table any more,
 * so neither a step nor the action of a foreign key reaches its rows.
 */
void
sd_refuse_detaching(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		foreach(cell, find_all_inheritors(step->table, NoLock, NULL))
		{
			bool		is_detaching = false;

			if (get_rel_relkind(lfirst_oid(cell)) != RELKIND_PARTITIONED_TABLE)
				continue;
			(void) find_inheritance_children_extended(lfirst_oid(cell), false,
													  NoLock, &is_detaching, NULL);
			if (is_detaching)
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("a partition of table \"%s\" is being detached",
								sd_table_name(lfirst_oid(cell))),
						 errdetail("Its rows would survive their account."),
						 errhint("If ALTER TABLE ... DETACH PARTITION CONCURRENTLY was interrupted, run ALTER TABLE ... DETACH PARTITION ... FINALIZE; else wait for it.")));
		}
	}
}

/*
 * Has a table of a plan other partitions or children than when it was made?  ROW
 * EXCLUSIVE does not keep others from attaching one: nobody has looked at its triggers,
 * nor at what refers to it.
 */
bool
sd_is_outdated(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (!equal(step->members, find_all_inheritors(step->table, NoLock, NULL)))
			return true;
	}
	return false;
}

/* Is a table an audit table, this policy's or another's, or a partition of one? */
bool
sd_is_audit_table(DeletionPlan *plan, Oid table)
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
