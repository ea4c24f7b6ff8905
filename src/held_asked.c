/*-------------------------------------------------------------------------
 *
 * held_asked.c
 *	  Who of some accounts is on hold, where so many are that not all are read.
 *
 * Holds are found by the text of the account's key, which an index has.  That is right
 * only if equal keys have equal texts, and the key is, and has the types, by which all
 * holds on the table were placed: deletion_hold.key_types tells.  Otherwise all are
 * read, as values of the types that there are now; see held.c.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/held_asked.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "run.h"

/* so many holds on a table are always read */
#define FEW_HOLDS	200

static Datum texts_of_keys(PlanKey *key, RowSet *rows);

/* The types of a key, as deletion_hold.key_types has them */
char *
sd_key_types(PlanKey *key)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < key->ncolumns; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? "," : "",
						 format_type_be(key->columns[i].type));
	return buf.data;
}

/*
 * Is it to be asked who is on hold of a table, by that key, rather than read all?  Yes
 * if there are many holds, all by that key and its types of now.
 */
bool
sd_asks_for_holds(Oid schema, Oid table, PlanKey *key)
{
	Oid			argtypes[] = {OIDOID, NAMEARRAYOID, TEXTOID, INT4OID};
	Datum		values[lengthof(argtypes)];
	char	   *holds = sd_own_table(schema, "deletion_hold");

	if (key == NULL || !sd_has_exact_text(key) ||
		!sd_has_own_column(schema, "deletion_hold", "key_types"))
		return false;
	values[0] = ObjectIdGetDatum(table);
	values[1] = sd_name_array(sd_key_names(key));
	values[2] = CStringGetTextDatum(sd_key_types(key));
	values[3] = Int32GetDatum(FEW_HOLDS);

	/* each range by index deletion_hold_keys */
	return sd_query_latest_as_owner(schema,
									psprintf("SELECT FROM (SELECT FROM %1$s h"
											 " WHERE h.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1 LIMIT $4 OPERATOR(pg_catalog.+) 1) h"
											 " HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) $4"
											 " AND NOT EXISTS (SELECT FROM %1$s h WHERE h.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1"
											 " AND h.key_columns OPERATOR(pg_catalog.<) $2)"
											 " AND NOT EXISTS (SELECT FROM %1$s h WHERE h.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1"
											 " AND h.key_columns OPERATOR(pg_catalog.>) $2)"
											 " AND NOT EXISTS (SELECT FROM %1$s h WHERE h.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1"
											 " AND h.key_columns OPERATOR(pg_catalog.=) $2 AND h.key_types OPERATOR(pg_catalog.<) $3)"
											 " AND NOT EXISTS (SELECT FROM %1$s h WHERE h.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1"
											 " AND h.key_columns OPERATOR(pg_catalog.=) $2 AND h.key_types OPERATOR(pg_catalog.>) $3)"
											 " AND NOT EXISTS (SELECT FROM %1$s h WHERE h.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1"
											 " AND h.key_columns OPERATOR(pg_catalog.=) $2 AND h.key_types IS NULL)",
											 holds),
									lengthof(argtypes), argtypes, values) > 0;
}

/*
 * The active holds on accounts that those rows have as their key: Hold *, one for each
 * account, chosen as sd_load_holds() does.  As of now, whatever snapshot the
 * transaction has.
 */
List *
sd_ask_for_holds(Oid schema, Oid table, PlanKey *key, RowSet *rows)
{
	Oid			argtypes[] = {OIDOID, NAMEARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID};
	Datum		values[lengthof(argtypes)];

	if (sd_count_rows(rows) == 0)
		return NIL;
	values[0] = ObjectIdGetDatum(table);
	values[1] = sd_name_array(sd_key_names(key));
	values[2] = texts_of_keys(key, rows);
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	return sd_query_holds(schema,
						  psprintf("SELECT DISTINCT ON (h.account) h.key_columns, h.account, h.reason, h.refused_at IS NOT NULL"
								   " FROM pg_catalog.unnest($3) k (account) JOIN %s h"
								   " ON h.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1"
								   " AND h.key_columns OPERATOR(pg_catalog.=) $2"
								   " AND pg_catalog.hashtextextended(h.account, 0)"
								   " OPERATOR(pg_catalog.=) pg_catalog.hashtextextended(k.account, 0)"
								   " AND h.account OPERATOR(pg_catalog.=) k.account"
								   " WHERE h.held_until IS NULL OR h.held_until OPERATOR(pg_catalog.>) $4"
								   " ORDER BY h.account, h.refused_at, h.held_at, h.reason",
								   sd_own_table(schema, "deletion_hold")),
						  lengthof(argtypes), argtypes, values);
}

/* The keys of rows that have one, as portable text: an array */
static Datum
texts_of_keys(PlanKey *key, RowSet *rows)
{
	int			nrows;
	Row		  **keys = sd_rows_by_key(rows, key, &nrows);
	Datum	   *texts = palloc_extended(sizeof(Datum) * Max(nrows, 1), MCXT_ALLOC_HUGE);
	int			nestlevel = sd_begin_portable_text();

	for (int i = 0; i < nrows; i++)
		texts[i] = CStringGetTextDatum(sd_key_text(key, &keys[i]->values[key->first_value]));
	AtEOXact_GUC(true, nestlevel);
	return PointerGetDatum(construct_array(texts, nrows, TEXTOID, -1, false,
										   TYPALIGN_INT));
}
