/*-------------------------------------------------------------------------
 *
 * names.c
 *	  How tables, types and operators are written: in statements, so that they
 *	  mean the same under any search_path, and in messages, as people call them.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/names.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

static char *unambiguous(char *name);

/* The name of a table with its schema, quoted for a statement */
char *
sd_qualified_name(Oid table)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
									  get_rel_name(table));
}

/* The qualified and quoted name of one of the extension's tables */
char *
sd_own_table(Oid schema, const char *name)
{
	return quote_qualified_identifier(get_namespace_name(schema), name);
}

/* Has one of the extension's tables that column?  Not before the update that adds it. */
bool
sd_has_own_column(Oid schema, const char *name, const char *column)
{
	return get_attnum(get_relname_relid(name, schema), column) != InvalidAttrNumber;
}

/*
 * The name by which messages and reports call a table: bare where the caller's
 * search_path finds it, else with its schema.
 */
char *
sd_table_name(Oid table)
{
	char	   *name = get_rel_name(table);

	if (name == NULL)
		return psprintf("%u", table);
	if (RelationIsVisible(table))
		return unambiguous(name);
	return psprintf("%s.%s",
					unambiguous(get_namespace_name(get_rel_namespace(table))),
					unambiguous(name));
}

/* A name as it is, but quoted if it could be taken for one with its schema */
static char *
unambiguous(char *name)
{
	return strchr(name, '.') == NULL ? name :
		pstrdup(quote_identifier(name));
}

/* A table as a query of the caller would name it, quoted */
char *
sd_sql_name(Oid table)
{
	return DatumGetCString(DirectFunctionCall1(regclassout,
											   ObjectIdGetDatum(table)));
}

/* The same with columns: orders(user_id) */
char *
sd_sql_columns(Oid table, List *names)
{
	return psprintf("%s(%s)", sd_sql_name(table), sd_sql_names(names));
}

/* Names for a statement: quoted if need be, with commas between them */
char *
sd_sql_names(List *names)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, names)
		appendStringInfo(&buf, "%s%s", foreach_current_index(lc) > 0 ? ", " : "",
						 quote_identifier(lfirst(lc)));
	return buf.data;
}

/*
 * The beginning of a call of one of our functions for a policy, its first
 * argument
 */
char *
sd_own_call(DeletionPolicy *policy, const char *function)
{
	return psprintf("SELECT %s.%s(%s",
					quote_identifier(get_namespace_name(policy->schema)),
					function, quote_literal_cstr(policy->name));
}

/* A type with its schema, as it is without a length: "character" is one long */
char *
sd_type_name(Oid type)
{
	return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN |
								FORMAT_TYPE_FORCE_QUALIFY);
}

/* The condition that a row is one of a partition, or of a parent alone */
char *
sd_member_condition(Oid member)
{
	StringInfoData buf;
	List	   *tables = get_rel_relkind(member) == RELKIND_PARTITIONED_TABLE ?
		find_all_inheritors(member, NoLock, NULL) : list_make1_oid(member);
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "t.tableoid OPERATOR(pg_catalog.=) ANY ('{");
	foreach(lc, tables)
		appendStringInfo(&buf, "%s%u", foreach_current_index(lc) > 0 ? "," : "",
						 lfirst_oid(lc));
	appendStringInfoString(&buf, "}'::pg_catalog.oid[])");
	return buf.data;
}

/* An operator with its schema, and a space on either side */
void
sd_append_operator(StringInfo buf, Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	appendStringInfo(buf, " OPERATOR(%s.%s) ",
					 quote_identifier(get_namespace_name(form->oprnamespace)),
					 NameStr(form->oprname));
	ReleaseSysCache(tuple);
}

/* Names as a person lists them: "a", "b" */
char *
sd_name_list(List *names)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, names)
		appendStringInfo(&buf, "%s\"%s\"", buf.len > 0 ? ", " : "",
						 (char *) lfirst(lc));
	return buf.data;
}

/* Names as the array that a table has them in, and back */
Datum
sd_name_array(List *names)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(list_length(names), 1));
	ListCell   *lc;

	foreach(lc, names)
		values[foreach_current_index(lc)] =
		DirectFunctionCall1(namein, CStringGetDatum(lfirst(lc)));
	return PointerGetDatum(construct_array(values, list_length(names), NAMEOID,
										   NAMEDATALEN, false, TYPALIGN_CHAR));
}

/* Names as a literal of that type: '{user_id}' */
char *
sd_name_array_literal(List *names)
{
	return quote_literal_cstr(OidOutputFunctionCall(F_ARRAY_OUT,
													sd_name_array(names)));
}

List *
sd_names_of_array(ArrayType *array)
{
	Datum	   *values;
	bool	   *nulls;
	int			n;
	List	   *names = NIL;

	deconstruct_array(array, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR,
					  &values, &nulls, &n);
	for (int i = 0; i < n; i++)
		names = lappend(names, nulls[i] ? pstrdup("") :
						pstrdup(NameStr(*DatumGetName(values[i]))));
	return names;
}

/* Are two lists of names the same? */
bool
sd_same_names(List *a, List *b)
{
	ListCell   *lc;
	ListCell   *cell;

	if (list_length(a) != list_length(b))
		return false;
	forboth(lc, a, cell, b)
	{
		if (strcmp(lfirst(lc), lfirst(cell)) != 0)
			return false;
	}
	return true;
}
