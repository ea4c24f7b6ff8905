/*-------------------------------------------------------------------------
 *
 * statement_above.c
 *	  The statement that reads what rows lead to, where that stays; statement.c tells
 *	  how statements are written.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/statement_above.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/lsyscache.h"

#include "scheduled_deletion.h"

static void append_key_of_values(PlanKey *key, Oid *equals, StringInfo buf);

/*
 * The rows that have certain values of a key, which are the parameters, of those types
 * and compared by those operators (key, value):
 *
 *	SELECT t.<key>, ... [, t.<column>, ...] FROM <table> t
 *	WHERE t.<key> = ANY ($1) [AND ...]
 *	[AND EXISTS (SELECT FROM ROWS FROM (unnest($1), ...) k (c0, ...)
 *		WHERE t.<key> = k.c0 AND ...)]
 *
 * with all keys of the step, and the columns of its own links.
 */
void
sd_write_above(PlanKey *key, Oid *types, Oid *equals, PlanStatement *above)
{
	StringInfo	buf = &above->query;
	ListCell   *lc;

	initStringInfo(buf);
	for (int i = 0; i < key->ncolumns; i++)
		(void) sd_add_param(above, SD_PARAM_CALLER, get_array_type(types[i]));
	appendStringInfoString(buf, "SELECT ");
	sd_append_key_values(buf, key->step);
	foreach(lc, key->step->links)
	{
		PlanLink   *upper = lfirst(lc);

		for (int i = 0; i < upper->ncolumns; i++)
			appendStringInfo(buf, ", %s", sd_link_value(above, upper, i));
	}
	appendStringInfo(buf, " FROM %s t WHERE ", sd_qualified_name(key->step->table));
	for (int i = 0; i < key->ncolumns; i++)
	{
		appendStringInfo(buf, "%s%s", i > 0 ? " AND " : "", key->columns[i].value);
		sd_append_operator(buf, equals[i]);
		appendStringInfo(buf, "ANY ($%d)", i + 1);
	}
	if (OidIsValid(key->member))
		appendStringInfo(buf, " AND %s", sd_member_condition(key->member));
	if (key->ncolumns > 1)
		append_key_of_values(key, equals, buf);
}

/* The condition that the columns of a key together are one of the values */
static void
append_key_of_values(PlanKey *key, Oid *equals, StringInfo buf)
{
	appendStringInfoString(buf, " AND EXISTS (SELECT FROM ROWS FROM (");
	for (int i = 0; i < key->ncolumns; i++)
		appendStringInfo(buf, "%spg_catalog.unnest($%d)", i > 0 ? ", " : "", i + 1);
	appendStringInfoString(buf, ") k (");
	for (int i = 0; i < key->ncolumns; i++)
		appendStringInfo(buf, "%sc%d", i > 0 ? ", " : "", i);
	appendStringInfoString(buf, ") WHERE ");
	for (int i = 0; i < key->ncolumns; i++)
	{
		appendStringInfo(buf, "%s%s", i > 0 ? " AND " : "",
						 key->columns[i].value);
		sd_append_operator(buf, equals[i]);
		appendStringInfo(buf, "k.c%d", i);
	}
	appendStringInfoChar(buf, ')');
}
