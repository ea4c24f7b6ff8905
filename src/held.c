/*-------------------------------------------------------------------------
 *
 * held.c
 *	  Which accounts are on hold: what table deletion_hold says, as keys of the
 *	  account table.
 *
 * The table is read and written as its owner.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/held.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "run.h"

/* the condition that a row is a hold, which is $1 to $4; by the index, the hash */
#define THIS_HOLD \
	"account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1" \
	" AND key_columns OPERATOR(pg_catalog.=) $2" \
	" AND pg_catalog.hashtextextended(account, 0)" \
	" OPERATOR(pg_catalog.=) pg_catalog.hashtextextended($3, 0)" \
	" AND account OPERATOR(pg_catalog.=) $3" \
	" AND reason OPERATOR(pg_catalog.=) $4"

static List *deleted_tables(DeletionPlan *plan);
static List *account_tables(Oid schema, List *candidates);
static void add_hold_links(DeletionPlan *plan, PlanStep *step);
static bool have_columns(Oid table, List *names);
static Row *make_held_row(PlanStep *step, PlanKey *key, Hold *hold);
static bool execute_on_hold(Oid schema, Oid account_table, Hold *hold,
							int expected, const char *query);
pg_noreturn static void throw_unreadable(PlanStep *step, Hold *hold,
										 const char *detail);

/*
 * Find by which keys rows that a plan deletes can be accounts on hold: those of its
 * account table, and of others that are the account table of some policy, or were
 * when a hold was placed; and those that belong to accounts on hold of other tables.
 */
void
sd_find_hold_links(DeletionPlan *plan)
{
	Oid			schema = plan->policy->schema;
	List	   *deleted = deleted_tables(plan);
	List	   *tables;
	ListCell   *lc;

	sd_refuse_lost_holds(schema, deleted);
	tables = account_tables(schema, deleted);
	plan->hold_tables = list_union_oid(tables, sd_tables_with_holds(schema));
	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step == plan->account ||
			(step->action == SD_DELETE && list_member_oid(tables, step->table)))
			add_hold_links(plan, step);
	}
	sd_watch_other_accounts(plan, deleted);
	foreach(lc, plan->watched)
		add_hold_links(plan, lfirst(lc));
}

/*
 * Are there other tables by now whose accounts can be on hold, or are, or other keys by
 * which they are?  The plan does not know how rows lead to them.
 */
bool
sd_has_new_hold_tables(DeletionPlan *plan)
{
	Oid			schema = plan->policy->schema;
	ListCell   *lc;

	/* one that was placed by another key would not be asked for */
	foreach(lc, plan->hold_links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->step->asks_for_holds &&
			!sd_asks_for_holds(schema, link->step->table, link->key))
			return true;
	}
	return list_difference_oid(account_tables(schema, deleted_tables(plan)),
							   plan->hold_tables) != NIL ||
		list_difference_oid(sd_tables_with_holds(schema), plan->hold_tables) != NIL;
}

/* The tables that rows of a plan are deleted from */
static List *
deleted_tables(DeletionPlan *plan)
{
	List	   *tables = NIL;
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step->action == SD_DELETE)
			tables = lappend_oid(tables, step->table);
	}
	return tables;
}

/* Those of some tables of which accounts can be on hold; by an index, however many are */
static List *
account_tables(Oid schema, List *candidates)
{
	Oid			argtypes[] = {OIDARRAYOID};
	Datum		values[] = {sd_oid_array(candidates)};

	(void) sd_query_latest_as_owner(schema,
									psprintf("SELECT c.oid FROM pg_catalog.unnest($1) c (oid)"
											 " WHERE EXISTS (SELECT FROM %s p WHERE p.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) c.oid)"
											 " OR (SELECT h.account_table::pg_catalog.oid FROM %s h"
											 " WHERE h.account_table::pg_catalog.oid OPERATOR(pg_catalog.>=) c.oid"
											 " ORDER BY h.account_table::pg_catalog.oid LIMIT 1) OPERATOR(pg_catalog.=) c.oid",
											 sd_own_table(schema, "deletion_policy"),
											 sd_own_table(schema, "deletion_hold")),
									lengthof(argtypes), argtypes, values);
	return sd_oids_of_rows();
}

/* By the key of tonight, and those by which holds were placed before */
static void
add_hold_links(DeletionPlan *plan, PlanStep *step)
{
	Oid			schema = plan->policy->schema;
	Relation	rel = table_open(step->table, NoLock);
	PlanKey    *key = sd_hold_key(step, rel,
								  step == plan->account ? plan->key : NULL);
	List	   *keys = key != NULL ? list_make1(key) : NIL;
	ListCell   *lc;

	step->asks_for_holds = sd_asks_for_holds(schema, step->table, key);
	if (!step->asks_for_holds)
		keys = list_concat_unique_ptr(keys,
									  sd_add_hold_keys(step, sd_load_holds(schema, step->table,
																		   true)));

	foreach(lc, keys)
	{
		key = lfirst(lc);
		plan->hold_links = lappend(plan->hold_links,
								   key == plan->key ? plan->self :
								   sd_make_link(plan, step, rel,
												sd_key_names(key), key,
												InvalidOid, NULL));
	}
	table_close(rel, NoLock);
}

/* The keys by which rows of a step can be on hold: PlanKey * */
List *
sd_hold_keys(DeletionPlan *plan, PlanStep *step)
{
	List	   *keys = NIL;
	ListCell   *lc;

	foreach(lc, plan->hold_links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->step == step)
			keys = lappend(keys, link->key);
	}
	return keys;
}

/*
 * What the active holds on accounts of those tables come to, as of now: another
 * text when one is placed, changed, released or expires; empty if there are
 * none.
 */
char *
sd_state_of_holds(Oid schema, List *tables)
{
	Oid			argtypes[] = {OIDARRAYOID, TIMESTAMPTZOID};
	Datum		values[] = {sd_oid_array(tables),
	TimestampTzGetDatum(GetCurrentTimestamp())};
	char	   *state;

	(void) sd_query_latest_as_owner(schema,
									psprintf("SELECT pg_catalog.concat_ws(' ',"
											 " CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.>) 0 THEN pg_catalog.count(*) END,"
											 " pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ',"
											 " account_table::pg_catalog.oid, key_columns, account, reason, held_at, held_until), 0)))"
											 " FROM %s WHERE account_table::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ($1)"
											 " AND (held_until IS NULL OR held_until OPERATOR(pg_catalog.>) $2)",
											 sd_own_table(schema, "deletion_hold")),
									lengthof(argtypes), argtypes, values);
	state = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	return state;
}

/*
 * The holds on accounts of a table: Hold *.  If "only_active", those that have not
 * expired, one for each account and the columns by which it is named; of several
 * the one that a run has met before, or else the oldest.  As of now, whatever
 * snapshot the transaction has.
 */
List *
sd_load_holds(Oid schema, Oid account_table, bool only_active)
{
	Oid			argtypes[] = {OIDOID, BOOLOID, TIMESTAMPTZOID};
	Datum		values[] = {ObjectIdGetDatum(account_table),
		BoolGetDatum(only_active),
	TimestampTzGetDatum(GetCurrentTimestamp())};

	return sd_query_holds(schema,
						  psprintf("SELECT %s key_columns, account, reason, refused_at IS NOT NULL"
								   " FROM %s WHERE account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1"
								   " AND (NOT $2 OR held_until IS NULL OR held_until OPERATOR(pg_catalog.>) $3)"
								   " ORDER BY key_columns, account, refused_at, held_at, reason",
								   only_active ? "DISTINCT ON (key_columns, account)" : "",
								   sd_own_table(schema, "deletion_hold")),
						  lengthof(argtypes), argtypes, values);
}

/*
 * The holds that a query returns, as of now: Hold *.  Its columns are those of the key,
 * the account, the reason, and whether a run has met it.
 */
List *
sd_query_holds(Oid schema, const char *query, int nargs, Oid *argtypes, Datum *values)
{
	uint64		n = sd_query_latest_as_owner(schema, query, nargs, argtypes, values);
	SPITupleTable *rows = SPI_tuptable;
	List	   *holds = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		Hold	   *hold = palloc(sizeof(Hold));
		HeapTuple	tuple = rows->vals[i];
		bool		is_null;
		Datum		names = SPI_getbinval(tuple, rows->tupdesc, 1, &is_null);

		hold->key_columns = sd_names_of_array(DatumGetArrayTypeP(names));
		hold->account = SPI_getvalue(tuple, rows->tupdesc, 2);
		hold->reason = SPI_getvalue(tuple, rows->tupdesc, 3);
		hold->is_refused = DatumGetBool(SPI_getbinval(tuple, rows->tupdesc, 4,
													  &is_null));
		holds = lappend(holds, hold);
	}
	SPI_freetuptable(rows);
	return holds;
}

/*
 * Let a step of the account table have the keys by which those holds were placed;
 * returns them: PlanKey *.  Throws an error if a hold is on something that is no
 * key any more: then nobody knows whom it is about.
 */
List *
sd_add_hold_keys(PlanStep *step, List *holds)
{
	Relation	rel = table_open(step->table, NoLock);
	int			nestlevel = sd_begin_portable_text();
	List	   *keys = NIL;
	PlanKey    *key = NULL;
	ListCell   *lc;

	foreach(lc, holds)
	{
		Hold	   *hold = lfirst(lc);

		/* they are sorted by that */
		if (key == NULL || !sd_same_names(sd_key_names(key), hold->key_columns))
		{
			if (!have_columns(step->table, hold->key_columns))
				throw_unreadable(step, hold, "A column of the key by which it was placed does not exist any more.");
			key = sd_find_key(step, rel, hold->key_columns, InvalidOid,
							  InvalidOid, InvalidOid);
			keys = list_append_unique_ptr(keys, key);
		}
		(void) sd_held_key(key, hold);
	}
	AtEOXact_GUC(true, nestlevel);
	table_close(rel, NoLock);
	return keys;
}

static bool
have_columns(Oid table, List *names)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (get_attnum(table, lfirst(lc)) == InvalidAttrNumber)
			return false;
	}
	return true;
}

/*
 * The accounts that are on hold, by those keys of the step; of each, only the
 * key by which the hold was placed is known.
 */
RowSet *
sd_held_rows(PlanStep *step, List *keys, List *holds)
{
	RowSet	   *set = sd_make_rows(step);
	int			nestlevel = sd_begin_portable_text();
	ListCell   *lc;

	foreach(lc, holds)
	{
		Hold	   *hold = lfirst(lc);
		PlanKey    *key = NULL;
		ListCell   *cell;

		foreach(cell, keys)
		{
			if (sd_same_names(sd_key_names(lfirst(cell)), hold->key_columns))
				key = lfirst(cell);
		}
		if (key == NULL)
			throw_unreadable(step, hold, "It was placed by another key while the run went on.");
		sd_add_row(set, make_held_row(step, key, hold));
	}
	AtEOXact_GUC(true, nestlevel);
	return set;
}

static Row *
make_held_row(PlanStep *step, PlanKey *key, Hold *hold)
{
	Account    *account = palloc0(sizeof(Account));
	Row		   *row = sd_make_row(step, account);

	account->hold = hold;
	memset(row->nulls, true, sizeof(bool) * step->nvalues);
	memset(row->nulls + key->first_value, false, sizeof(bool) * key->ncolumns);
	memcpy(row->values + key->first_value, sd_held_key(key, hold),
		   sizeof(Datum) * key->ncolumns);
	return row;
}

/*
 * The key that a hold is about; text is portable.  Throws an error that is
 * nobody's if it cannot be read: what the type's input function says would
 * quote the key, and be blamed on the account that is tried.
 */
Datum *
sd_held_key(PlanKey *key, Hold *hold)
{
	MemoryContext caller_context = CurrentMemoryContext;
	Datum	   *values = NULL;

	PG_TRY();
	{
		values = sd_key_from_text(key, hold->account);
	}
	PG_CATCH();
	{
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller_context);
		FlushErrorState();
		throw_unreadable(key->step, hold, "The key by which it was placed has another type now.");
	}
	PG_END_TRY();
	return values;
}

static void
throw_unreadable(PlanStep *step, Hold *hold, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("a hold on an account of table \"%s\" cannot be read",
					step->table_name),
			 errdetail("%s", detail),
			 errhint("Place it anew by the key that the account has now, and delete the row with reason %s from table deletion_hold, as its owner.",
					 quote_literal_cstr(hold->reason))));
}

/* A copy in the current memory context */
Hold *
sd_copy_hold(const Hold *hold)
{
	Hold	   *copy = palloc(sizeof(Hold));
	ListCell   *lc;

	*copy = *hold;
	copy->key_columns = NIL;
	foreach(lc, hold->key_columns)
		copy->key_columns = lappend(copy->key_columns, pstrdup(lfirst(lc)));
	copy->account = pstrdup(hold->account);
	copy->reason = pstrdup(hold->reason);
	return copy;
}

/*
 * Delete the holds on a table that have expired: that they ended, and when, is
 * in the audit row of their beginning.
 */
void
sd_delete_expired_holds(Oid schema, Oid account_table)
{
	Oid			argtypes[] = {OIDOID, TIMESTAMPTZOID};
	Datum		values[] = {ObjectIdGetDatum(account_table),
	TimestampTzGetDatum(GetCurrentTimestamp())};

	sd_delete_unlocked_as_owner(schema, "deletion_hold",
								"account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1"
								" AND held_until OPERATOR(pg_catalog.<=) $2",
								lengthof(argtypes), argtypes, values, NULL);
}

/* Delete a hold; false if somebody else has done it */
bool
sd_delete_hold(Oid schema, Oid account_table, Hold *hold)
{
	return execute_on_hold(schema, account_table, hold, SPI_OK_DELETE,
						   psprintf("DELETE FROM %s WHERE " THIS_HOLD,
									sd_own_table(schema, "deletion_hold")));
}

/*
 * Note that a run has left an account alone because of a hold; false if that was
 * noted before, or is being noted, or changed, by somebody else.
 */
bool
sd_note_refusal(Oid schema, Oid account_table, Hold *hold)
{
	char	   *table = sd_own_table(schema, "deletion_hold");

	return execute_on_hold(schema, account_table, hold, SPI_OK_UPDATE,
						   psprintf("UPDATE %s h SET refused_at = $5"
									" FROM (SELECT ctid FROM %s WHERE " THIS_HOLD
									" AND refused_at IS NULL FOR UPDATE SKIP LOCKED) u"
									" WHERE h.ctid OPERATOR(pg_catalog.=) u.ctid",
									table, table));
}

/* Execute a statement about a hold, in which $5 is now; was there one? */
static bool
execute_on_hold(Oid schema, Oid account_table, Hold *hold, int expected,
				const char *query)
{
	Oid			argtypes[] = {OIDOID, NAMEARRAYOID, TEXTOID, TEXTOID,
	TIMESTAMPTZOID};
	Datum		values[] = {ObjectIdGetDatum(account_table),
		sd_name_array(hold->key_columns), CStringGetTextDatum(hold->account),
		CStringGetTextDatum(hold->reason),
	TimestampTzGetDatum(GetCurrentTimestamp())};

	return sd_execute_as_owner(schema, query, expected, lengthof(argtypes),
							   argtypes, values, NULL) > 0;
}

/*
 * Let holds be on an account table that a policy has by now: those on the table
 * that it had before, which is no policy's any more; and those on a lost one of the
 * same name, or of the name of the one before, if that is lost.  Its accounts are
 * the same, under another OID or name.
 */
void
sd_move_holds(Oid schema, DeletionPolicy *before, Oid new_table)
{
	bool		was_lost = before != NULL && !OidIsValid(before->account_table);
	Oid			argtypes[] = {OIDOID, OIDOID, TEXTOID, TEXTOID, BOOLOID};
	Datum		values[] = {ObjectIdGetDatum(before != NULL ? before->account_number : InvalidOid),
		ObjectIdGetDatum(new_table),
		CStringGetTextDatum(sd_qualified_name(new_table)),
		CStringGetTextDatum(was_lost ? before->account_table_name : ""),
	BoolGetDatum(was_lost)};
	char	   *holds = sd_own_table(schema, "deletion_hold");
	char	   *is_there = sd_is_remembered(schema, "deletion_hold", "h", "account_table");
	bool		has_types = sd_has_own_column(schema, "deletion_hold", "key_types");

	if (before != NULL && before->account_table == new_table)
		return;

	(void) sd_execute_as_owner(schema,
							   psprintf("WITH h AS (DELETE FROM %s h"
										" WHERE (h.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1"
										" AND $1 OPERATOR(pg_catalog.<>) $2"
										" AND %s OPERATOR(pg_catalog.<>) $5"
										" AND NOT EXISTS (SELECT FROM %s p"
										" WHERE p.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1))"
										" OR (h.account_table_name OPERATOR(pg_catalog.=) ANY (ARRAY[$3, $4])"
										" AND NOT %s)"
										" RETURNING *)"
										" INSERT INTO %s (account_table, account_table_name, key_columns,"
										" account, reason, held_by, held_at, held_until, refused_at%s)"
										" SELECT $2, $3, h.key_columns, h.account, h.reason,"
										" h.held_by, h.held_at, h.held_until, h.refused_at%s FROM h"
										" ON CONFLICT DO NOTHING",
										holds, is_there,
										sd_own_table(schema, "deletion_policy"),
										is_there, holds,
										has_types ? ", key_types" : "",
										has_types ? ", h.key_types" : ""),
							   SPI_OK_INSERT, lengthof(argtypes), argtypes,
							   values, NULL);
}
