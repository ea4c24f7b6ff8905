/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  The guard: triggers on an account table by which nobody else deletes an
 *	  account that is on hold, either.
 *
 * It fires after the statement has deleted its rows: by then they are locked, so
 * that a hold is seen, or its caller waits; and no other trigger can change what
 * was decided.  The holds are read once for all rows of a statement.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/guard.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "account.h"
#include "run.h"

/* What is known of a statement's table; lives as long as the statement */
typedef struct Guard
{
	Oid			schema;			/* of the extension */
	PlanStep	step;			/* the account table, as far as its keys */
	List	   *keys;			/* PlanKey *: by which holds were placed */
	RowSet	   *holds;			/* NULL if there are none */
} Guard;

PG_FUNCTION_INFO_V1(refuse_held_account);

static void create_trigger(Oid schema, Oid table, const char *name,
						   const char *events, const char *level);
static char *key_changes(Oid schema, DeletionPlan *plan);
static bool drop_trigger(Oid table, const char *name);
static void run_command(const char *command);
static bool is_event_of_guard(TriggerEvent event);
static Guard *make_guard(Oid schema, Oid table);
static void check_row(Guard *guard, TriggerData *trigger);
static bool get_key(PlanKey *key, TupleTableSlot *slot, Datum *values);
pg_noreturn static void throw_held(Guard *guard, PlanKey *key, Datum *values,
								   Hold *hold);

/*
 * Install the guard on the account table of a policy, or take it away; false if it
 * is so already.  It goes with the extension.
 */
bool
sd_set_guard(Oid schema, const char *policy_name, bool enabled)
{
	DeletionPolicy *policy = sd_only_policy(schema, policy_name);
	DeletionPlan *plan = sd_begin_plan(policy, AccessShareLock);
	Oid			table = plan->account->table;
	ListCell   *lc;

	if (!enabled)
	{
		bool		was_there = drop_trigger(table, SD_GUARD);

		was_there |= drop_trigger(table, SD_KEY_GUARD);
		foreach(lc, plan->account_tables)
			was_there |= drop_trigger(lfirst_oid(lc), SD_TRUNCATE_GUARD);
		return was_there;
	}
	if (sd_has_guard(schema, table))
		return false;
	create_trigger(schema, table, SD_GUARD, "AFTER DELETE", "ROW");
	create_trigger(schema, table, SD_KEY_GUARD, "AFTER UPDATE",
				   psprintf("ROW WHEN (%s)", key_changes(schema, plan)));

	/* a partition can be emptied alone */
	foreach(lc, plan->account_tables)
		create_trigger(schema, lfirst_oid(lc), SD_TRUNCATE_GUARD,
					   "BEFORE TRUNCATE", "STATEMENT");
	return true;
}

/*
 * The condition that a column was changed by which an account can be on hold:
 * bit by bit, which is no operator of anybody's.
 */
static char *
key_changes(Oid schema, DeletionPlan *plan)
{
	Oid			argtypes[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(plan->account->table)};
	Relation	rel = table_open(plan->account->table, NoLock);
	List	   *names = sd_key_names(sd_hold_key(plan->account, rel, plan->key));
	uint64		n = sd_query_latest_as_owner(schema,
											 psprintf("SELECT pg_catalog.unnest(key_columns) FROM %s"
													  " WHERE account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1",
													  sd_own_table(schema, "deletion_policy")),
											 lengthof(argtypes), argtypes, values);
	StringInfoData old_values;
	StringInfoData new_values;
	ListCell   *lc;

	for (uint64 i = 0; i < n; i++)
		names = lappend(names, SPI_getvalue(SPI_tuptable->vals[i],
											SPI_tuptable->tupdesc, 1));
	initStringInfo(&old_values);
	initStringInfo(&new_values);
	foreach(lc, names)
	{
		const char *comma = foreach_current_index(lc) > 0 ? ", " : "";

		appendStringInfo(&old_values, "%sOLD.%s", comma, quote_identifier(lfirst(lc)));
		appendStringInfo(&new_values, "%sNEW.%s", comma, quote_identifier(lfirst(lc)));
	}
	table_close(rel, NoLock);
	return psprintf("pg_catalog.record_image_ne(ROW(%s), ROW(%s))",
					old_values.data, new_values.data);
}

static void
create_trigger(Oid schema, Oid table, const char *name, const char *events,
			   const char *level)
{
	const char *table_name = sd_qualified_name(table);

	run_command(psprintf("CREATE OR REPLACE TRIGGER %s %s ON %s FOR EACH %s EXECUTE FUNCTION %s.%s()",
						 name, events, table_name, level,
						 quote_identifier(get_namespace_name(schema)),
						 SD_GUARD_FUNCTION));
	run_command(psprintf("ALTER TRIGGER %s ON %s DEPENDS ON EXTENSION scheduled_deletion",
						 name, table_name));
}

/* False if there is none */
static bool
drop_trigger(Oid table, const char *name)
{
	if (!OidIsValid(get_trigger_oid(table, name, true)))
		return false;
	run_command(psprintf("DROP TRIGGER %s ON %s", name, sd_qualified_name(table)));
	return true;
}

static void
run_command(const char *command)
{
	(void) sd_query(command, SPI_OK_UTILITY, 0, NULL, NULL);
}

/*
 * refuse_held_account() RETURNS trigger
 *
 * Throw an error if an account that is on hold was deleted, or has another key now;
 * or if there is one in a table that is to be emptied.
 */
Datum
refuse_held_account(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Guard	   *guard = fcinfo->flinfo->fn_extra;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						SD_GUARD_FUNCTION)));
	if (!is_event_of_guard(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired after a row was deleted or updated, or by TRUNCATE",
						SD_GUARD_FUNCTION),
				 errhint("Drop trigger \"%s\", and call guard_held_accounts().",
						 trigger->tg_trigger->tgname)));

	if (guard == NULL)
	{
		MemoryContext caller_context = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		SPI_connect();
		MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		guard = make_guard(get_func_namespace(fcinfo->flinfo->fn_oid),
						   RelationGetRelid(trigger->tg_relation));
		SPI_finish();
		MemoryContextSwitchTo(caller_context);
		fcinfo->flinfo->fn_extra = guard;
	}
	if (guard->holds == NULL)
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_RESTRICT_VIOLATION),
				 errmsg("accounts of table \"%s\" are on hold",
						guard->step.table_name),
				 errhint("Table deletion_hold lists them.")));
	check_row(guard, trigger);
	return PointerGetDatum(NULL);
}

/* What the triggers of create_trigger() are fired by */
static bool
is_event_of_guard(TriggerEvent event)
{
	if (TRIGGER_FIRED_BY_TRUNCATE(event))
		return true;
	return TRIGGER_FIRED_AFTER(event) && TRIGGER_FIRED_FOR_ROW(event) &&
		(TRIGGER_FIRED_BY_DELETE(event) || TRIGGER_FIRED_BY_UPDATE(event));
}

/*
 * Read the holds on accounts of a table, or of the whole of which it is a
 * partition, in the current memory context.  Their keys are read as columns of
 * the partition: to lock the whole could be a deadlock with whoever alters it.
 */
static Guard *
make_guard(Oid schema, Oid table)
{
	Guard	   *guard = palloc0(sizeof(Guard));
	Oid			account_table = sd_root_of(table);
	List	   *holds = sd_load_holds(schema, account_table, true);

	guard->schema = schema;
	guard->step.table = table;
	guard->step.table_name = sd_table_name(account_table);
	if (holds == NIL)
		return guard;
	guard->keys = sd_add_hold_keys(&guard->step, holds);
	guard->holds = sd_held_rows(&guard->step, guard->keys, holds);
	return guard;
}

/* Refuse what was done to a row if it is an account on hold */
static void
check_row(Guard *guard, TriggerData *trigger)
{
	ListCell   *lc;

	foreach(lc, guard->keys)
	{
		PlanKey    *key = lfirst(lc);
		Datum		values[INDEX_MAX_KEYS];
		Datum		new_values[INDEX_MAX_KEYS];
		Row		   *row;

		if (!get_key(key, trigger->tg_trigslot, values))
			continue;
		row = sd_find_by_key(guard->holds, key, values);
		if (row == NULL ||
			(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) &&
			 get_key(key, trigger->tg_newslot, new_values) &&
			 sd_same_key(key, values, new_values)))
			continue;
		throw_held(guard, key, values, row->account->hold);
	}
}

/* The key of a row of the table or one of its partitions; false if it is null */
static bool
get_key(PlanKey *key, TupleTableSlot *slot, Datum *values)
{
	for (int i = 0; i < key->ncolumns; i++)
	{
		AttrNumber	attnum = get_attnum(slot->tts_tableOid, key->columns[i].name);
		bool		is_null;

		values[i] = slot_getattr(slot, attnum, &is_null);
		if (is_null)
			return false;
	}
	return true;
}

static void
throw_held(Guard *guard, PlanKey *key, Datum *values, Hold *hold)
{
	char	   *account = sd_key_text(key, values);

	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("account \"%s\" of table \"%s\" is on hold", account,
					guard->step.table_name),
			 errdetail("The reason is %s.", quote_literal_cstr(hold->reason)),
			 errhint("SELECT %s.release_account(%s); ends the hold.",
					 quote_identifier(get_namespace_name(guard->schema)),
					 quote_literal_cstr(account))));
}
