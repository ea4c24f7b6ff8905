/*-------------------------------------------------------------------------
 *
 * order.c
 *	  In which order the steps of a plan are executed: rows before those that
 *	  they refer to, and otherwise as the policy lists them.
 *
 * Steps that refer to each other in a circle are one stage.  Stages are the
 * strongly connected components of the graph, which Tarjan's algorithm finds in
 * just this order.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/order.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "scheduled_deletion.h"

typedef struct Search
{
	DeletionPlan *plan;
	int		   *visited;		/* by step: when it was first seen, 0 if not
								 * yet */
	int		   *lowest;			/* the first seen that can be reached from it */
	int			clock;
	List	   *stack;			/* PlanStep *: seen, but in no component yet */
} Search;

static void visit(Search *search, PlanStep *step);
static bool must_go_first(PlanLink *link);
static List *steps_before(DeletionPlan *plan, PlanStep *step);

/* Fill in the stages of the plan, and the position of each step in them */
void
sd_order_steps(DeletionPlan *plan)
{
	int			nsteps = list_length(plan->steps);
	int			position = 0;
	Search		search = {.plan = plan};
	ListCell   *lc;

	search.visited = palloc0(sizeof(int) * nsteps);
	search.lowest = palloc0(sizeof(int) * nsteps);

	/* what the policy lists, then what leads to an account, then the rest */
	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step->definition != NULL && !step->definition->after_account)
			visit(&search, step);
	}
	visit(&search, plan->account);
	foreach(lc, plan->steps)
		visit(&search, lfirst(lc));

	foreach(lc, plan->stages)
	{
		ListCell   *cell;

		((PlanStage *) lfirst(lc))->number = position++;
		foreach(cell, ((PlanStage *) lfirst(lc))->steps)
			((PlanStep *) lfirst(cell))->position = position;
	}
}

/* Put a step into the order, after all that must come before it */
static void
visit(Search *search, PlanStep *step)
{
	List	   *before_it;
	PlanStage  *stage;
	PlanStep   *member;
	ListCell   *lc;

	if (step->action == SD_BLOCK || search->visited[step->number] > 0)
		return;
	check_stack_depth();
	search->visited[step->number] = search->lowest[step->number] =
		++search->clock;
	search->stack = lappend(search->stack, step);

	before_it = steps_before(search->plan, step);
	foreach(lc, before_it)
	{
		PlanStep   *before = lfirst(lc);

		if (search->visited[before->number] == 0)
		{
			visit(search, before);
			search->lowest[step->number] = Min(search->lowest[step->number],
											   search->lowest[before->number]);
		}
		else if (list_member_ptr(search->stack, before))
			search->lowest[step->number] = Min(search->lowest[step->number],
											   search->visited[before->number]);
	}

	if (search->lowest[step->number] < search->visited[step->number])
		return;
	stage = palloc0(sizeof(PlanStage));
	do
	{
		member = llast(search->stack);
		search->stack = list_delete_last(search->stack);
		stage->steps = lcons(member, stage->steps);
	} while (member != step);
	stage->is_circle = list_length(stage->steps) > 1 ||
		list_member_ptr(before_it, step);
	search->plan->stages = lappend(search->plan->stages, stage);
}

/*
 * Must rows that refer to others by a link, if they are deleted, too, be so
 * before these?  Yes if the link's key would not let these go, which only rows
 * that stay are set to null for, or if it would take an action that its own rows
 * do not take.
 */
static bool
must_go_first(PlanLink *link)
{
	if (link->step->action == SD_SET_NULL && OidIsValid(link->constraint))
	{
		for (int i = 0; i < link->ncolumns; i++)
		{
			if (sd_is_not_null(link->step->table, link->names[i]))
				return true;
		}
		return false;
	}
	return link->step->action == SD_BLOCK ||
		link->step->action == SD_SET_NULL ||
		link->step->action == SD_SET_DEFAULT;
}

/*
 * The steps that must be executed before the rows of a step are deleted: those
 * whose rows refer to them.  A step that the policy puts after the account is
 * deleted then, although it leads there.
 */
static List *
steps_before(DeletionPlan *plan, PlanStep *step)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (step->definition != NULL && step->definition->after_account)
		result = list_make1(plan->account);

	foreach(lc, plan->steps)
	{
		PlanStep   *other = lfirst(lc);
		bool		is_after = step == plan->account &&
			other->definition != NULL && other->definition->after_account;
		ListCell   *cell;

		foreach(cell, other->links)
		{
			PlanLink   *link = lfirst(cell);

			if (link->key->step != step || is_after)
				continue;
			if (other->action != SD_BLOCK)
				result = list_append_unique_ptr(result, other);
			if (other->deleted_by != NULL && must_go_first(link))
				result = list_append_unique_ptr(result, other->deleted_by);
		}
	}
	return result;
}
