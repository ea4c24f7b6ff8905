/*-------------------------------------------------------------------------
 *
 * elide.c
 *	  Execute a statement without foreign-key checks of which it is proved that they
 *	  would find nothing; see prove.c.
 *
 * The means is a hook that takes their triggers from the executor's own list, for
 * that one statement: what it fires in turn has all of its checks.
 * session_replication_role would switch off, and on, much more.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/elide.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_trigger.h"
#include "executor/executor.h"

#include "scheduled_deletion.h"

static void start_executor(QueryDesc *query, int flags);
static void leave_out_triggers(ResultRelInfo *target, PlanStatement *statement);

/* The statement that is to begin without its checks, or NULL */
static PlanStatement *next_statement = NULL;

static ExecutorStart_hook_type next_hook;

/* Install the hook, once for each session */
void
sd_install_elision(void)
{
	next_hook = ExecutorStart_hook;
	ExecutorStart_hook = start_executor;
}

/*
 * Let a statement, which is executed next, go without its proved checks; NULL: none.  It must
 * be NULL again before the statement ends, also by an error.
 */
void
sd_elide_checks(PlanStatement *statement)
{
	next_statement = statement;
	if (statement != NULL)
		statement->is_elided = false;
}

/* The hook: let that statement begin without those triggers, and none after it */
static void
start_executor(QueryDesc *query, int flags)
{
	PlanStatement *statement = next_statement;
	ListCell   *lc;

	if (next_hook != NULL)
		next_hook(query, flags);
	else
		standard_ExecutorStart(query, flags);

	if (statement == NULL || query->operation != CMD_DELETE ||
		strcmp(query->sourceText, statement->query.data) != 0)
		return;
	next_statement = NULL;
	foreach(lc, query->estate->es_opened_result_relations)
		leave_out_triggers(lfirst(lc), statement);
}

/*
 * Take the triggers out of a target's list, which is the executor's own copy.  What it keeps
 * for each trigger, by its place in the list, is not made yet.
 */
static void
leave_out_triggers(ResultRelInfo *target, PlanStatement *statement)
{
	TriggerDesc *list = target->ri_TrigDesc;
	bool		any_after = false;
	int			nleft = 0;

	if (list == NULL)
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
