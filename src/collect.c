/*-------------------------------------------------------------------------
 *
 * collect.c
 *	  Collect the rows of accounts that others refer to: whose keys are parameters
 *	  of the statements that delete those.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/collect.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "run.h"

/* Rows of a step that a link has just led to */
typedef struct Collected
{
	PlanLink   *link;
	List	   *rows;			/* Row * */
} Collected;

static bool collect_once(Attempt *attempt);
static bool collect_from(Attempt *attempt, PlanStep *step);
static PlanStatement *collect_statement(Attempt *attempt, PlanLink *link);
static void collected_row(Attempt *attempt, TupleTableSlot *slot, void *arg);

/* Begin with no rows but the accounts */
void
sd_begin_rows(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	MemoryContext caller_context = MemoryContextSwitchTo(attempt->rows_context);
	ListCell   *lc;

	MemoryContextReset(attempt->rows_context);
	attempt->nleads = 0;
	attempt->is_shared = false;
	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step != plan->account && step->keys != NIL)
			attempt->sets[step->number] = sd_make_rows(step);
	}
	memset(attempt->seen, 0, sizeof(int) * plan->nlinks);
	MemoryContextSwitchTo(caller_context);
}

/*
 * Collect the rows to be deleted that others refer to, from those that are there
 * outwards, until no link leads to a new one.
 */
void
sd_collect_rows(Attempt *attempt)
{
	while (collect_once(attempt))
		;
}

/* Collect those that have come since, from all that are there; any? */
bool
sd_collect_late_rows(Attempt *attempt)
{
	bool		found = false;

	memset(attempt->seen, 0, sizeof(int) * attempt->run->plan->nlinks);
	while (collect_once(attempt))
		found = true;
	return found;
}

/* Follow each link from the rows that are new to it; any new ones? */
static bool
collect_once(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	MemoryContext caller_context = MemoryContextSwitchTo(attempt->rows_context);
	bool		found = false;
	ListCell   *lc;

	/* what is deleted last is what the others refer to */
	for (int i = list_length(plan->stages) - 1; i >= 0; i--)
	{
		PlanStage  *stage = list_nth(plan->stages, i);

		foreach(lc, stage->steps)
			found |= collect_from(attempt, lfirst(lc));
	}
	MemoryContextSwitchTo(caller_context);
	return found;
}

/* How many rows were collected */
int64
sd_count_collected(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	int64		nrows = 0;

	for (int i = 0; i < list_length(plan->steps); i++)
	{
		if (attempt->sets[i] != NULL && i != plan->account->number)
			nrows += sd_count_rows(attempt->sets[i]);
	}
	return nrows;
}

/* Collect the rows of a step that lead to rows which are new; any? */
static bool
collect_from(Attempt *attempt, PlanStep *step)
{
	RowSet	   *set = attempt->sets[step->number];
	bool		found = false;
	ListCell   *lc;

	if (set == NULL || step->action != SD_DELETE)
		return false;

	foreach(lc, step->links)
	{
		PlanLink   *link = lfirst(lc);
		int			nrows = sd_count_rows(attempt->sets[link->key->step->number]);
		Collected	collected = {.link = link};
		ListCell   *cell;

		if (attempt->seen[link->number] == nrows)
			continue;
		sd_set_doing(attempt, "reading", step->table);
		sd_for_each_row(attempt, collect_statement(attempt, link), SPI_OK_SELECT,
						link, collected_row, &collected);
		attempt->seen[link->number] = nrows;
		foreach(cell, collected.rows)
		{
			sd_add_row(set, lfirst(cell));
			found = true;
		}
		list_free(collected.rows);
	}
	return found;
}

/* The statement that collects the rows of a link, and locks them if need be */
static PlanStatement *
collect_statement(Attempt *attempt, PlanLink *link)
{
	if (!attempt->is_careful || !link->step->may_lock_rows)
		return &link->collect;
	if (link->collect_locked.plan == NULL)
		sd_prepare(&link->collect_locked);
	return &link->collect_locked;
}

/* A row that others refer to, which may have been collected before */
static void
collected_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	Collected  *collected = arg;
	PlanLink   *link = collected->link;
	Row		   *target = sd_must_be_there(sd_row_of_link(attempt, link, slot, 1));
	MemoryContext caller_context = MemoryContextSwitchTo(attempt->rows_context);
	Row		   *row = sd_make_row(link->step, target->account);

	sd_fill_row(link->step, row, slot, link->ncolumns + 1);
	sd_note_lead(attempt, link->step, row, target);
	if (sd_is_new_row(attempt->sets[link->step->number], row))
		collected->rows = lappend(collected->rows, row);
	MemoryContextSwitchTo(caller_context);
}
