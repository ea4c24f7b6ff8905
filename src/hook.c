/*-------------------------------------------------------------------------
 *
 * hook.c
 *	  What is special in how our statements are planned and begun.
 *
 * Five things that no statement can say of itself, and that no setting could say
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
 * - It deletes what it says, and nothing else.  A foreign key with ON DELETE CASCADE
 *	 would delete what others have written under its rows since those of the plan were
 *	 deleted: rows that nobody has judged, nor counted.  So such keys act as RESTRICT
 *	 here, in the same list: a late row is an error, after which batch.c begins anew.
 *	 At that time there is nothing to cascade to, so it costs the same query.
 *
 * A statement is known by its source text, of which each prepared statement has a copy
 * of its own: not by what the text says, for code of users that runs while ours is
 * planned may execute the same.
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
#include "utils/fmgroids.h"

#include "scheduled_deletion.h"

/* pages to be read ahead, unless effective_io_concurrency says more, or none */
#define READ_AHEAD		128

static PlannedStmt *plan_statement(SD_PLANNER_PARAMETERS);
static PlannedStmt *next_planner(SD_PLANNER_PARAMETERS);
static void start_executor(QueryDesc *query, int flags);
static void next_start(QueryDesc *query, int flags);
static bool is_expected(const char *source_text);
static bool deletes_rows(QueryDesc *query);
static void change_triggers(ResultRelInfo *target, PlanStatement *statement);
static void leave_out_triggers(ResultRelInfo *target, PlanStatement *statement);
static void refuse_late_rows(ResultRelInfo *target);

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
 * Know of a statement that is executed next.  Returns the one around it, or NULL, which
 * is to be given to sd_expect_again() when this one has ended, also by an error: a
 * function of the extension may be called by what a statement of ours executes.
 */
PlanStatement *
sd_expect(PlanStatement *statement)
{
	PlanStatement *outer = expected;

	expected = statement;
	statement->is_elided = false;
	statement->was_begun = false;
	return outer;
}

void
sd_expect_again(PlanStatement *outer)
{
	expected = outer;
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

	if (!is_expected(query_string) ||
		(expected->access != SD_BY_INDEX && expected->access != SD_BY_ROWS))
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

/* The second hook: let that statement begin as it should */
static void
start_executor(QueryDesc *query, int flags)
{
	PlanStatement *statement = expected;
	int			io_concurrency = effective_io_concurrency;
	bool		reads_ahead;
	ListCell   *lc;

	if (!is_expected(query->sourceText))
	{
		next_start(query, flags);
		return;
	}

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

	if (!deletes_rows(query))
		return;
	statement->was_begun = true;
	foreach(lc, query->estate->es_opened_result_relations)
	{
		ResultRelInfo *target = lfirst(lc);

		change_triggers(target, statement);

		/* rows of a partition may fire those of a list of their own */
		if (target->ri_RootResultRelInfo != NULL)
			change_triggers(ExecGetTriggerResultRel(query->estate,
													RelationGetRelid(target->ri_RelationDesc),
													NULL),
							statement);
	}
}

/* Is it the statement that is executed next, or what a rule has made of it? */
static bool
is_expected(const char *source_text)
{
	return expected != NULL && source_text == expected->source_text;
}

/*
 * Is it a DELETE of ours, or a SELECT from several?  Not what a rule does besides.
 */
static bool
deletes_rows(QueryDesc *query)
{
	return query->plannedstmt->canSetTag &&
		(query->operation == CMD_DELETE || query->plannedstmt->hasModifyingCTE);
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

/* Change which triggers the deleted rows of a target fire, and what these do */
static void
change_triggers(ResultRelInfo *target, PlanStatement *statement)
{
	leave_out_triggers(target, statement);
	refuse_late_rows(target);
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

/* Let the keys act as RESTRICT by which a target's rows would take others along */
static void
refuse_late_rows(ResultRelInfo *target)
{
	TriggerDesc *list = target->ri_TrigDesc;

	for (int i = 0; list != NULL && i < list->numtriggers; i++)
	{
		if (list->triggers[i].tgfoid == F_RI_FKEY_CASCADE_DEL &&
			list->triggers[i].tgisinternal)
			list->triggers[i].tgfoid = F_RI_FKEY_RESTRICT_DEL;
	}
}
