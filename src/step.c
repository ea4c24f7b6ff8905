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

	return sd_open_table(plan->policy, "step table", root, get_rel_name(root),
						 lockmode);
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
	step->can_keep_rows = can_keep_rows(rel, action);
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
