/*-------------------------------------------------------------------------
 *
 * hook.c
 *	  What is special in how our statements are planned and begun.
 *
 * Four things that no statement can say of itself, and that no setting could say
 * without its being felt by the triggers that a statement fires:
 *
 * - It finds its rows by an index, and visits them in the order in which they lie.
 *	 For many keys the planner would often rather read the whole table, as it takes it
 *	 that there are rows for each key, and that each page comes from disk.  In memory
 *	 that is several times as dear, and otherwise hardly cheaper: the pages are
 *	 visited in the same order.
 *	 Where the values have no hash in common with the keys, the rows are visited one by
 *	 one: see KeyAccess.
 * - It is not compiled: with plans ruled out, costs say nothing.
 * - It reads ahead, pages of the table and (see ahead.c) of its index: without that,
 *	 most of a run is waiting for one page after the other, if the data does not fit
 *	 into memory.
 * - It goes without foreign-key checks of which it is proved that they would find
 *	 nothing; see prove.c.  Their triggers are taken from the executor's own list, for
 *	 that one statement: what it fires in turn has all of its checks.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/hook.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_trigger.h"
#include "executor/executor.h"
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "optimizer/planner.h"
#include "storage/bufmgr.h"

#include "scheduled_deletion.h"

/* pages to be read ahead, unless effective_io_concurrency says more, or none */
#define READ_AHEAD		128

static PlannedStmt *plan_statement(SD_PLANNER_PARAMETERS);
static PlannedStmt *next_planner(SD_PLANNER_PARAMETERS);
static void start_executor(QueryDesc *query, int flags);
static void next_start(QueryDesc *query, int flags);
static void leave_out_triggers(ResultRelInfo *target, PlanStatement *statement);

/* The statement that is executed next, or NULL */
static PlanStatement *expected = NULL;

static planner_hook_type next_planner_hook;
static ExecutorStart_hook_type next_start_hook;

/* Install the hooks, once for each session */
void
sd_install_hooks(void)
{
	next_planner_hook = planner_hook;
	planner_hook = plan_statement;
	next_start_hook = ExecutorStart_hook;
	ExecutorStart_hook = start_executor;
}

/*
 * Know of a statement that is executed next; or, if it is NULL, that it has
 * ended, also by an error.
 */
void
sd_expect(PlanStatement *statement)
{
	expected = statement;
	if (statement != NULL)
		statement->is_elided = false;
}

/* The first hook: that statement goes by its index, as KeyAccess says */
static PlannedStmt *
plan_statement(SD_PLANNER_PARAMETERS)
{
	bool		seqscan = enable_seqscan;
	bool		indexscan = enable_indexscan;
	bool		indexonlyscan = enable_indexonlyscan;
	bool		bitmapscan = enable_bitmapscan;
	PlannedStmt *volatile result = NULL;

	if (expected == NULL ||
		(expected->access != SD_BY_INDEX && expected->access != SD_BY_ROWS) ||
		strcmp(query_string, expected->query.data) != 0)
		return next_planner(SD_PLANNER_ARGUMENTS);

	enable_seqscan = false;
	enable_bitmapscan = expected->access == SD_BY_INDEX;
	enable_indexscan = enable_indexonlyscan = !enable_bitmapscan;
	PG_TRY();
	{
		result = next_planner(SD_PLANNER_ARGUMENTS);
		/* costs say nothing any more, and the batch is no time to compile */
		result->jitFlags = PGJIT_NONE;
	}
	PG_FINALLY();
	{
		enable_seqscan = seqscan;
		enable_indexscan = indexscan;
		enable_indexonlyscan = indexonlyscan;
		enable_bitmapscan = bitmapscan;
	}
	PG_END_TRY();
	return result;
}

/* The planner that was there before, or the server's own */
static PlannedStmt *
next_planner(SD_PLANNER_PARAMETERS)
{
	if (next_planner_hook != NULL)
		return next_planner_hook(SD_PLANNER_ARGUMENTS);
	return standard_planner(SD_PLANNER_ARGUMENTS);
}

/* The second hook: let that statement begin as it should, and none after it */
static void
start_executor(QueryDesc *query, int flags)
{
	PlanStatement *statement = expected;
	int			io_concurrency = effective_io_concurrency;
	bool		reads_ahead;
	ListCell   *lc;

	if (statement == NULL ||
		strcmp(query->sourceText, statement->query.data) != 0)
	{
		next_start(query, flags);
		return;
	}
	expected = NULL;

	reads_ahead = statement->access == SD_BY_INDEX && io_concurrency > 0;
	if (reads_ahead)
		effective_io_concurrency = Max(io_concurrency, READ_AHEAD);
	PG_TRY();
	{
		next_start(query, flags);
	}
	PG_FINALLY();
	{
		effective_io_concurrency = io_concurrency;
	}
	PG_END_TRY();
	if (reads_ahead)
		sd_read_ahead(query);

	if (query->operation == CMD_DELETE)
	{
		foreach(lc, query->estate->es_opened_result_relations)
			leave_out_triggers(lfirst(lc), statement);
	}
}

/* The same of the executor's start */
static void
next_start(QueryDesc *query, int flags)
{
	if (next_start_hook != NULL)
		next_start_hook(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

/*
 * Take the triggers out of a target's list, which is the executor's own copy.
 * What it keeps for each trigger, by its place in the list, is not made yet.
 */
static void
leave_out_triggers(ResultRelInfo *target, PlanStatement *statement)
{
	TriggerDesc *list = target->ri_TrigDesc;
	bool		any_after = false;
	int			nleft = 0;

	if (list == NULL || statement->proved_checks == NIL)
		return;
	for (int i = 0; i < list->numtriggers; i++)
	{
		Trigger    *trigger = &list->triggers[i];

		if (sd_checks_deletion(trigger) &&
			list_member_oid(statement->proved_checks, trigger->tgconstraint))
		{
			statement->is_elided = true;
			continue;
		}
		any_after = any_after ||
			TRIGGER_TYPE_MATCHES(trigger->tgtype, TRIGGER_TYPE_ROW,
								 TRIGGER_TYPE_AFTER, TRIGGER_TYPE_DELETE);
		list->triggers[nleft++] = *trigger;
	}
	list->numtriggers = nleft;
	list->trig_delete_after_row = any_after;
}
