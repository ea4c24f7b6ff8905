/*-------------------------------------------------------------------------
 *
 * trigger.c
 *	  The triggers of a table: which there are, which of them fire, and which are
 *	  ours.
 *
 * The relation cache frees its own list whenever somebody changes the table, or
 * only analyzes it, and that is noticed, as each look into the catalog may: lock
 * or no lock.  So nobody else in the project reads that list.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/trigger.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "nodes/primnodes.h"
#include "rewrite/prs2lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

static bool is_key_change(char *condition);
static bool are_columns_of(Node *row, int varno);
static bool has_guard_for(Oid schema, Oid table, int16 event);
static Oid	guard_function(Oid schema);

/* The triggers of an open table, copied: Trigger * */
List *
sd_triggers(Relation rel)
{
	TriggerDesc *copy = CopyTriggerDesc(rel->trigdesc);
	List	   *triggers = NIL;

	for (int i = 0; copy != NULL && i < copy->numtriggers; i++)
		triggers = lappend(triggers, &copy->triggers[i]);
	return triggers;
}

/* Does a trigger fire where session_replication_role is "origin"? */
bool
sd_fires(Trigger *trigger)
{
	return trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN ||
		trigger->tgenabled == TRIGGER_FIRES_ALWAYS;
}

/*
 * Is a trigger that of a foreign key, which looks for rows that refer to one
 * when that is deleted?
 */
bool
sd_checks_deletion(Trigger *trigger)
{
	return trigger->tgisinternal && sd_fires(trigger) &&
		RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_PK &&
		TRIGGER_FOR_DELETE(trigger->tgtype);
}

/* The foreign key of which a constraint is the part that concerns some partition */
Oid
sd_whole_key(Oid constraint)
{
	for (;;)
	{
		HeapTuple	tuple = sd_get_constraint(constraint);
		Oid			parent = ((Form_pg_constraint) GETSTRUCT(tuple))->conparentid;

		ReleaseSysCache(tuple);
		if (!OidIsValid(parent))
			return constraint;
		constraint = parent;
	}
}

/*
 * Has a table the trigger of a foreign key that calls the function, and does it
 * fire?
 */
bool
sd_has_trigger(Relation rel, Oid constraint, Oid function)
{
	ListCell   *lc;

	foreach(lc, sd_triggers(rel))
	{
		Trigger    *trigger = lfirst(lc);

		if (trigger->tgisinternal && trigger->tgfoid == function && sd_fires(trigger) &&
			sd_whole_key(trigger->tgconstraint) == constraint)
			return true;
	}
	return false;
}

/*
 * Does a plan know of the foreign key of a trigger by the key of the whole table?  It
 * reads that by the same trigger there, which need not fire although that of a
 * partition does.
 */
bool
sd_is_known_by_whole_key(Trigger *trigger)
{
	Oid			constraint = sd_whole_key(trigger->tgconstraint);
	HeapTuple	tuple = sd_get_constraint(constraint);
	Relation	rel = table_open(((Form_pg_constraint) GETSTRUCT(tuple))->confrelid,
								 NoLock);
	bool		result;

	ReleaseSysCache(tuple);
	result = sd_has_trigger(rel, constraint, trigger->tgfoid);
	table_close(rel, NoLock);
	return result;
}

/*
 * Is a trigger one of those that guard accounts on hold, as guard.c creates them?
 * What differs in anything may run code of whoever wrote it, such as in its
 * condition, before it calls our function, or not call it at all.
 */
bool
sd_is_guard(Oid schema, Trigger *trigger)
{
	static const struct
	{
		const char *name;
		int16		type;
	}			guards[] = {
		{SD_GUARD, TRIGGER_TYPE_ROW | TRIGGER_TYPE_AFTER | TRIGGER_TYPE_DELETE},
		{SD_KEY_GUARD, TRIGGER_TYPE_ROW | TRIGGER_TYPE_AFTER | TRIGGER_TYPE_UPDATE},
		{SD_TRUNCATE_GUARD, TRIGGER_TYPE_STATEMENT | TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_TRUNCATE}
	};

	if (trigger->tgisinternal || trigger->tgfoid != guard_function(schema) ||
		OidIsValid(trigger->tgconstraint) || trigger->tgnargs != 0 ||
		trigger->tgnattr != 0 || trigger->tgoldtable != NULL ||
		trigger->tgnewtable != NULL)
		return false;
	for (int i = 0; i < lengthof(guards); i++)
	{
		if (strcmp(trigger->tgname, guards[i].name) == 0)
			return trigger->tgtype == guards[i].type &&
				(strcmp(trigger->tgname, SD_KEY_GUARD) == 0 ?
				 is_key_change(trigger->tgqual) : trigger->tgqual == NULL);
	}
	return false;
}

/*
 * Does a condition of a trigger say no more than that one of some columns was
 * changed, as guard.c writes it?
 *
 *	record_image_ne(ROW(OLD.<column>, ...), ROW(NEW.<column>, ...))
 */
static bool
is_key_change(char *condition)
{
	FuncExpr   *expr = condition != NULL ? stringToNode(condition) : NULL;

	return expr != NULL && IsA(expr, FuncExpr) &&
		expr->funcid == F_RECORD_IMAGE_NE &&
		are_columns_of(linitial(expr->args), PRS2_OLD_VARNO) &&
		are_columns_of(lsecond(expr->args), PRS2_NEW_VARNO);
}

/* Is an expression a row of nothing but columns of OLD, or of NEW? */
static bool
are_columns_of(Node *row, int varno)
{
	ListCell   *lc;

	if (!IsA(row, RowExpr))
		return false;
	foreach(lc, ((RowExpr *) row)->args)
	{
		Var		   *column = lfirst(lc);

		if (!IsA(column, Var) || column->varno != varno || column->varattno <= 0)
			return false;
	}
	return true;
}

/*
 * Are a table's accounts on hold guarded: their rows, their keys, and the table
 * and each partition as a whole?
 */
bool
sd_has_guard(Oid schema, Oid table)
{
	ListCell   *lc;

	if (!has_guard_for(schema, table, TRIGGER_TYPE_DELETE) ||
		!has_guard_for(schema, table, TRIGGER_TYPE_UPDATE))
		return false;
	foreach(lc, find_all_inheritors(table, NoLock, NULL))
	{
		if (!has_guard_for(schema, lfirst_oid(lc), TRIGGER_TYPE_TRUNCATE))
			return false;
	}
	return true;
}

static bool
has_guard_for(Oid schema, Oid table, int16 event)
{
	Relation	rel = table_open(table, NoLock);
	bool		result = false;
	ListCell   *lc;

	foreach(lc, sd_triggers(rel))
	{
		Trigger    *trigger = lfirst(lc);

		result = result || (sd_is_guard(schema, trigger) && sd_fires(trigger) &&
							(trigger->tgtype & event) != 0);
	}
	table_close(rel, NoLock);
	return result;
}

static Oid
guard_function(Oid schema)
{
	oidvector  *no_arguments = buildoidvector(NULL, 0);

	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
						   CStringGetDatum(SD_GUARD_FUNCTION),
						   PointerGetDatum(no_arguments),
						   ObjectIdGetDatum(schema));
}
