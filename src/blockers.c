/*-------------------------------------------------------------------------
 *
 * blockers.c
 *	  What a plan has to know of the foreign keys that stop accounts, or act by
 *	  themselves: which rows must be locked so that no others come under them, and
 *	  whom a query can tell.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/blockers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "utils/lsyscache.h"

#include "scheduled_deletion.h"

static bool user_code_may_delete(DeletionPlan *plan);
static bool may_be_unlinked(DeletionPlan *plan, PlanLink *link);

/*
 * Find the steps from whose rows cascades lead to rows of the account table.
 * They have to be locked when it is asked whether there are any: who adds one
 * later must wait, or it would be erased without being due.
 */
void
sd_find_rows_to_lock(DeletionPlan *plan)
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
 * Are the rows of a step locked whenever they are collected?  Those from which
 * cascades lead to accounts must be.  Those that others refer to by a key that is set
 * to null, or its default, are if the caller may lock them: the server does it to rows
 * that come later, too, and they would not be counted.
 */
bool
sd_is_locked_when_collected(DeletionPlan *plan, PlanStep *step)
{
	ListCell   *lc;

	if (step->lock_rows)
		return true;
	if (step == plan->account || !step->may_lock_rows)
		return false;
	foreach(lc, plan->links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->key->step == step && OidIsValid(link->constraint) &&
			(link->step->action == SD_SET_NULL || link->step->action == SD_SET_DEFAULT))
			return true;
	}
	return false;
}

/*
 * Can a query tell whom a blocking key stops?  Rows of the account table must be
 * asked for.  Of others, not if users' code may delete them in time, or the
 * server unlink them; nor if the caller may not read the table, or row-level
 * security shows only a part of it.  Then the server's own check tells, when it
 * is tried.
 */
void
sd_find_askable_links(DeletionPlan *plan)
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
				(!user_code && sd_may_read(step->table) &&
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
			ListCell   *trigger_cell;

			foreach(trigger_cell, sd_triggers(rel))
			{
				Trigger    *trigger = lfirst(trigger_cell);

				if (!trigger->tgisinternal && sd_fires(trigger) &&
					!sd_is_guard(plan->policy->schema, trigger) &&
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
