/*-------------------------------------------------------------------------
 *
 * check_triggers.c
 *	  What stands between a statement of a run and the rows that it changes:
 *	  triggers and rules that can keep them, constraints that are checked late,
 *	  publications that refuse, and code that is not the job role's own.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/check_triggers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "commands/proclang.h"
#include "executor/executor.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteDefine.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "check.h"

/* What a run does to a table, its partitions and children */
typedef struct Change
{
	Oid			table;
	CmdType		event;
} Change;

static List *find_changes(DeletionPlan *plan);
static void add_change(List **changes, Oid table, CmdType event);
static void check_change(Check *check, Change *change);
static void check_trigger(Check *check, Relation rel, Change *change,
						  Trigger *trigger);
static bool fires_on(Trigger *trigger, CmdType event);
static bool lets_rows_go(Oid function, const char *row);
static bool matches(Datum text, const char *pattern);
static void check_rule(Check *check, Change *change, RewriteRule *rule);
static void check_replica_identity(Check *check, Relation rel, Change *change);
static bool may_be_changed(void *arg);
static Oid	unique_index(Relation rel);

/* Add what is to be said of the tables that a run changes */
void
sd_check_triggers(Check *check)
{
	List	   *tables = NIL;
	List	   *written = NIL;
	ListCell   *lc;

	foreach(lc, find_changes(check->plan))
	{
		Change	   *change = lfirst(lc);

		check_change(check, change);
		tables = list_append_unique_oid(tables, change->table);
		if (change->event != CMD_DELETE)
			written = list_append_unique_oid(written, change->table);
	}
	sd_check_code(check, tables, written);
}

/* The tables that a run changes, each once for what it does to it */
static List *
find_changes(DeletionPlan *plan)
{
	List	   *changes = NIL;
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step->action == SD_DELETE)
			add_change(&changes, step->table, CMD_DELETE);
		else if (step->action == SD_SET_NULL || step->action == SD_SET_DEFAULT)
			add_change(&changes, step->table, CMD_UPDATE);
	}
	if (OidIsValid(plan->policy->audit_table))
		add_change(&changes, plan->policy->audit_table, CMD_INSERT);
	return changes;
}

static void
add_change(List **changes, Oid table, CmdType event)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(table, NoLock, NULL))
	{
		Change	   *change = palloc(sizeof(Change));

		change->table = lfirst_oid(lc);
		change->event = event;
		*changes = lappend(*changes, change);
	}
}

static void
check_change(Check *check, Change *change)
{
	Relation	rel = table_open(change->table, AccessShareLock);
	ListCell   *lc;

	foreach(lc, sd_triggers(rel))
	{
		Trigger    *trigger = lfirst(lc);

		/* those of a partition that come from the whole are told there */
		if (!trigger->tgisinternal && !trigger->tgisclone &&
			!sd_is_guard(check->policy->schema, trigger) &&
			sd_fires(trigger) && fires_on(trigger, change->event))
			check_trigger(check, rel, change, trigger);
	}
	for (int i = 0; rel->rd_rules != NULL && i < rel->rd_rules->numLocks; i++)
		check_rule(check, change, rel->rd_rules->rules[i]);
	if (rel->rd_rel->relkind == RELKIND_RELATION)
		check_replica_identity(check, rel, change);
	table_close(rel, NoLock);
}

static bool
fires_on(Trigger *trigger, CmdType event)
{
	switch (event)
	{
		case CMD_DELETE:
			return TRIGGER_FOR_DELETE(trigger->tgtype);
		case CMD_UPDATE:
			return TRIGGER_FOR_UPDATE(trigger->tgtype);
		default:
			return TRIGGER_FOR_INSERT(trigger->tgtype);
	}
}

static void
check_trigger(Check *check, Relation rel, Change *change, Trigger *trigger)
{
	char	   *table = sd_table_name(RelationGetRelid(rel));
	const char *row = change->event == CMD_DELETE ? "OLD" : "NEW";
	Finding    *finding;

	check->fired = lappend_oid(check->fired, trigger->tgoid);
	if (trigger->tgdeferrable)
	{
		finding = sd_add_finding(check, SD_INFO, "deferred_constraint",
								 sd_sql_name(change->table),
								 psprintf("constraint trigger \"%s\" of table \"%s\" is deferrable",
										  trigger->tgname, table));
		finding->detail = "A run fires it once to prove each batch, rolls that back, and it fires again at COMMIT.";
		finding->hint = "It should do nothing that a rollback does not undo.";
	}

	/* a BEFORE UPDATE trigger is on every other table, and hardly keeps a row */
	if (TRIGGER_FOR_BEFORE(trigger->tgtype) && TRIGGER_FOR_ROW(trigger->tgtype) &&
		change->event != CMD_UPDATE && !lets_rows_go(trigger->tgfoid, row))
	{
		finding = sd_add_finding(check, SD_WARNING, "row_keeping_trigger",
								 sd_sql_name(change->table),
								 psprintf("trigger \"%s\" can keep rows of table \"%s\" from being %s",
										  trigger->tgname, table,
										  change->event == CMD_DELETE ?
										  "deleted" : "written"));
		finding->detail = psprintf("Function %s is called before each row, and does not surely return %s; accounts whose rows it keeps fail.",
								   format_procedure(trigger->tgfoid), row);
		finding->hint = psprintf("Let it return %s for what is to go on, or fire after the row.",
								 row);
	}
}

/*
 * Does a trigger's function let each row go on, as far as can be seen?  Of
 * PL/pgSQL, if all that it returns is the row; or if it tells operations apart,
 * and returns a row for each.
 */
static bool
lets_rows_go(Oid function, const char *row)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Datum		source;
	bool		is_null;
	bool		result = false;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &is_null);
	if (((Form_pg_proc) GETSTRUCT(tuple))->prolang ==
		get_language_oid("plpgsql", true) && !is_null)
		result = !matches(source, "\\mreturn\\M(?!\\s+(old|new|coalesce\\s*\\(\\s*(new\\s*,\\s*old|old\\s*,\\s*new)\\s*\\))\\s*;)") &&
			!matches(source, psprintf("\\m%s\\s*:?=", row)) &&
			(!matches(source, psprintf("\\mreturn\\s+(?!%s|coalesce)", row)) ||
			 (matches(source, "\\mtg_op\\M") &&
			  matches(source, psprintf("\\mreturn\\s+%s\\M", row))));
	ReleaseSysCache(tuple);
	return result;
}

/* Does a pattern occur in a text, in whatever case? */
static bool
matches(Datum text, const char *pattern)
{
	return DatumGetBool(DirectFunctionCall2Coll(texticregexeq,
												DEFAULT_COLLATION_OID, text,
												CStringGetTextDatum(pattern)));
}

/* A rule that puts something else in the place of what a run does */
static void
check_rule(Check *check, Change *change, RewriteRule *rule)
{
	ObjectAddress address = {RewriteRelationId, rule->ruleId, 0};
	Finding    *finding;

	if (rule->event != change->event || rule->enabled == RULE_DISABLED ||
		rule->enabled == RULE_FIRES_ON_REPLICA)
		return;
	check->fired = lappend_oid(check->fired, rule->ruleId);
	if (!rule->isInstead)
		return;
	finding = sd_add_finding(check, SD_ERROR, "row_keeping_rule",
							 sd_sql_name(change->table),
							 psprintf("%s puts something else in the place of what a run does",
									  getObjectDescription(&address, false)));
	finding->detail = change->event == CMD_INSERT ?
		"Without an audit row no account is deleted." :
		"Accounts whose rows it keeps fail.";
	finding->hint = "Use a trigger that lets the row go, or leave the table out.";
}

/*
 * A published table that the server does not let a run change, since subscribers
 * could not tell which row it is.  The server's own check says so.
 */
static void
check_replica_identity(Check *check, Relation rel, Change *change)
{
	Oid			table = RelationGetRelid(rel);
	bool		done;
	ErrorData  *error;
	Finding    *finding;
	Oid			index;

	if (change->event == CMD_INSERT)
		return;
	error = sd_in_subtransaction(may_be_changed, change, false, &done);
	if (error == NULL)
		return;
	if (sd_concerns_the_call(error))
		ReThrowError(error);

	finding = sd_add_finding(check, SD_ERROR, "no_replica_identity",
							 sd_sql_name(table),
							 psprintf("table \"%s\" is published, and has no replica identity for what a run does to it",
									  sd_table_name(table)));
	finding->detail = "The server refuses to delete or update rows of it.";
	if (OidIsValid(RelationGetReplicaIndex(rel)) ||
		rel->rd_rel->relreplident == REPLICA_IDENTITY_FULL)
	{
		finding->hint = "Let the publication's row filters and column lists name columns of the replica identity.";
		return;
	}
	index = unique_index(rel);
	finding->remedy = psprintf("ALTER TABLE %s REPLICA IDENTITY %s",
							   sd_qualified_name(table),
							   OidIsValid(index) ?
							   psprintf("USING INDEX %s",
										quote_identifier(get_rel_name(index))) :
							   "FULL");
}

static bool
may_be_changed(void *arg)
{
	Change	   *change = arg;
	Relation	rel = table_open(change->table, NoLock);

	CheckCmdReplicaIdentity(rel, change->event);
	table_close(rel, NoLock);
	return true;
}

/* An index that can be a replica identity, or InvalidOid */
static Oid
unique_index(Relation rel)
{
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		bool		is_fit = form->indisunique && form->indisvalid &&
			form->indimmediate && !sd_is_partial(index) &&
			index->rd_rel->relam == BTREE_AM_OID;

		for (int i = 0; i < form->indnkeyatts; i++)
		{
			AttrNumber	attnum = form->indkey.values[i];

			is_fit = is_fit && attnum > 0 &&
				TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attnotnull;
		}
		if (is_fit)
			result = lfirst_oid(lc);
		index_close(index, AccessShareLock);
	}
	return result;
}
