/*-------------------------------------------------------------------------
 *
 * remember.c
 *	  Which tables are meant: those that the extension's own tables remember by
 *	  number (OID), name and row type.
 *
 * A number can become another table's: OIDs are used again once they have wrapped
 * around, and a dump of an older version has numbers of tables that were dropped.
 * So a table is the one that was meant only if it has the row type, which it keeps
 * when it is renamed or moved to another schema, or else the name.  Otherwise it is
 * lost, as if it had been dropped.
 *
 * Before the extension was updated to 1.2 no types are remembered, and any table of
 * that number is taken.  The script of that version has the same conditions, for
 * pg_dump.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/remember.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "scheduled_deletion.h"

/*
 * Names are compared as they are without quotes, which may be written or not; that
 * of a table is made from pg_class c and pg_namespace n.
 */
#define UNQUOTED(name) "pg_catalog.replace(" name ", '\"', '')"
#define NAME_NOW	UNQUOTED("pg_catalog.concat(n.nspname, '.', c.relname)")
#define TABLES_NOW \
	"pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n" \
	" ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"

/* as index deletion_hold_table has it */
#define NUMBER_OF_HOLD \
	"coalesce(h.account_table::pg_catalog.oid, 0::pg_catalog.oid)"

/* Whose tables are to be written as they are now */
typedef struct Note
{
	Oid			schema;
	const char *policy;
} Note;

static char *is_same(const char *alias, const char *column);
static bool note_body(void *arg);
static void note_table(Note *note, const char *name, const char *column,
					   const char *condition);
static bool is_any_on_hold(Oid schema);
pg_noreturn static void throw_lost_holds(Oid schema, const char *name,
										 Oid number, Oid table);

/*
 * The condition that a column of one of the extension's tables, which has that
 * alias in the query, means a table that is there.  False of a null.
 */
char *
sd_is_remembered(Oid schema, const char *name, const char *alias,
				 const char *column)
{
	if (!sd_has_types(schema, name, column))
		return psprintf("EXISTS (SELECT FROM pg_catalog.pg_class c"
						" WHERE c.oid OPERATOR(pg_catalog.=) %s.%s::pg_catalog.oid)",
						alias, column);
	return psprintf("EXISTS (SELECT FROM " TABLES_NOW
					" WHERE c.oid OPERATOR(pg_catalog.=) %s.%s::pg_catalog.oid AND %s)",
					alias, column, is_same(alias, column));
}

/* Is the type of a table remembered beside that column? */
bool
sd_has_types(Oid schema, const char *name, const char *column)
{
	return sd_has_own_column(schema, name, psprintf("%s_type", column));
}

/* The condition that a table of that number, c and n, is the one that was meant */
static char *
is_same(const char *alias, const char *column)
{
	return psprintf("(c.reltype OPERATOR(pg_catalog.=) %s.%s_type"
					" OR " NAME_NOW " OPERATOR(pg_catalog.=) " UNQUOTED("%s.%s_name") ")",
					alias, column, alias, column);
}

/*
 * Remember the tables of a policy, and of the holds on its accounts, as they are
 * called now; what is as it was is not written.  Rows that somebody else has locked
 * are left to the next run, as is all if somebody else has changed it since the
 * transaction's snapshot.
 */
void
sd_note_tables(Oid schema, const char *policy)
{
	Note		note = {schema, policy};
	bool		done;
	ErrorData  *error;

	if (!sd_has_types(schema, "deletion_policy", "account_table"))
		return;
	error = sd_in_subtransaction(note_body, &note, true, &done);
	if (error != NULL && !sd_may_try_again(error))
		ReThrowError(error);
}

/* The same, in a subtransaction; always true */
static bool
note_body(void *arg)
{
	Note	   *note = arg;

	note_table(note, "deletion_policy", "account_table",
			   "t.policy OPERATOR(pg_catalog.=) $1");
	note_table(note, "deletion_policy", "audit_table",
			   "t.policy OPERATOR(pg_catalog.=) $1");
	note_table(note, "deletion_step", "step_table",
			   "t.policy OPERATOR(pg_catalog.=) $1");
	note_table(note, "deletion_step", "via",
			   "t.policy OPERATOR(pg_catalog.=) $1");
	note_table(note, "deletion_hold", "account_table",
			   psprintf("t.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) (SELECT p.account_table::pg_catalog.oid"
						" FROM %s p WHERE p.policy OPERATOR(pg_catalog.=) $1)",
						sd_own_table(note->schema, "deletion_policy")));
	return true;
}

/* One column of rows of one of the extension's tables; $1 is the policy */
static void
note_table(Note *note, const char *name, const char *column,
		   const char *condition)
{
	Oid			argtypes[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(note->policy)};
	char	   *own = sd_own_table(note->schema, name);

	/*
	 * UPDATE own SET column_name = ..., column_type = ... for each row whose
	 * table is the one that was meant, and has another name or type
	 */
	(void) sd_execute_as_owner(note->schema,
							   psprintf("UPDATE %s t SET %s_name = u.name, %s_type = u.type"
										" FROM (SELECT t.ctid, c.reltype AS type,"
										" pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name"
										" FROM %s t JOIN (" TABLES_NOW ")"
										" ON c.oid OPERATOR(pg_catalog.=) t.%s::pg_catalog.oid"
										" WHERE %s AND %s"
										" AND (t.%s_type IS NULL"
										" OR t.%s_type OPERATOR(pg_catalog.<>) c.reltype"
										" OR " UNQUOTED("t.%s_name") " OPERATOR(pg_catalog.<>) " NAME_NOW ")"
										" FOR UPDATE OF t SKIP LOCKED) u"
										" WHERE t.ctid OPERATOR(pg_catalog.=) u.ctid",
										own, column, column, own, column,
										condition, is_same("t", column),
										column, column, column),
							   SPI_OK_UPDATE, lengthof(argtypes), argtypes,
							   values, NULL);
}

/*
 * Refuse to go on where it is not known whether accounts of those tables are on
 * hold: a hold that was placed on another table has the number of one of them, or a
 * hold on a table that was dropped has its name.
 */
void
sd_refuse_lost_holds(Oid schema, List *tables)
{
	Oid			argtypes[] = {OIDARRAYOID};
	Datum		values[] = {sd_oid_array(tables)};
	char	   *holds = sd_own_table(schema, "deletion_hold");
	bool		is_null;

	if (tables == NIL || !sd_has_types(schema, "deletion_hold", "account_table") ||
		!is_any_on_hold(schema))
		return;

	/*
	 * The names and numbers that holds have, each found by the index after the
	 * one before; of those that are about the tables, one that is lost
	 */
	if (sd_query_latest_as_owner(schema,
								 psprintf("WITH RECURSIVE o (name, number) AS ("
										  "(SELECT h.account_table_name, " NUMBER_OF_HOLD
										  " FROM %s h ORDER BY 1, 2 LIMIT 1)"
										  " UNION ALL SELECT f.* FROM o CROSS JOIN LATERAL ("
										  "SELECT h.account_table_name, " NUMBER_OF_HOLD " FROM %s h"
										  " WHERE ROW(h.account_table_name, " NUMBER_OF_HOLD ")"
										  " OPERATOR(pg_catalog.>) ROW(o.name, o.number)"
										  " ORDER BY 1, 2 LIMIT 1) f)"
										  " SELECT o.name, o.number, c.oid FROM o JOIN (" TABLES_NOW ")"
										  " ON c.oid OPERATOR(pg_catalog.=) ANY ($1)"
										  " WHERE CASE WHEN (c.oid OPERATOR(pg_catalog.=) o.number)"
										  " OPERATOR(pg_catalog.<>)"
										  " (" NAME_NOW " OPERATOR(pg_catalog.=) " UNQUOTED("o.name") ")"
										  " THEN EXISTS (SELECT FROM %s h"
										  " WHERE h.account_table_name OPERATOR(pg_catalog.=) o.name"
										  " AND " NUMBER_OF_HOLD " OPERATOR(pg_catalog.=) o.number"
										  " AND (h.held_until IS NULL"
										  " OR h.held_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp())"
										  " AND NOT %s) END LIMIT 1",
										  holds, holds, holds,
										  sd_is_remembered(schema, "deletion_hold",
														   "h", "account_table")),
								 lengthof(argtypes), argtypes, values) > 0)
		throw_lost_holds(schema,
						 SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1),
						 DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
														SPI_tuptable->tupdesc, 2, &is_null)),
						 DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
														SPI_tuptable->tupdesc, 3, &is_null)));
}

static bool
is_any_on_hold(Oid schema)
{
	return sd_query_latest_as_owner(schema,
									psprintf("SELECT FROM %s LIMIT 1",
											 sd_own_table(schema, "deletion_hold")),
									0, NULL, NULL) > 0;
}

/* Holds have that name and number; the table has one of them */
static void
throw_lost_holds(Oid schema, const char *name, Oid number, Oid table)
{
	const char *update = psprintf("UPDATE %s SET", sd_own_table(schema, "deletion_hold"));
	const char *literal = quote_literal_cstr(name);
	const char *now = quote_literal_cstr(sd_qualified_name(table));

	if (table == number)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("holds were placed on accounts of table \"%s\", whose OID is that of table \"%s\" now",
						name, sd_table_name(table)),
				 errhint("If that is the same table under another name: %s account_table_name = %s WHERE account_table_name = %s; or else: %s account_table = NULL WHERE account_table_name = %s; as the owner of table deletion_hold.",
						 update, now, literal, update, literal)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("holds were placed on accounts of table \"%s\", which was dropped, and another table has that name now",
					name),
			 errhint("If its accounts are the same: %s account_table = %s WHERE account_table_name = %s; or else delete those rows; as the owner of table deletion_hold.",
					 update, now, literal)));
}
