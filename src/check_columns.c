/*-------------------------------------------------------------------------
 *
 * check_columns.c
 *	  Columns that look as if they led to an account, by their name and type, and
 *	  do not: without a foreign key and without a step no run finds their rows.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/check_columns.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"

#include "check.h"

static List *column_names(Check *check);
static char *longer_names(Check *check);
static List *table_names(Check *check);
static void add_link_names(DeletionPlan *plan, List **names);
static void add_name_forms(List **names, const char *noun, const char *key);
static char *singular(const char *word);
static List *column_types(DeletionPlan *plan);
static void check_column(Check *check, Oid table, char *column);
static char *propose_step(Check *check, Relation rel, const char *column);
static bool deletes_by(DeletionPlan *plan, const char *column);
static bool is_of_several_kinds(Relation rel, const char *column);
static bool can_be_step(Oid table);
static bool is_linked(DeletionPlan *plan, Oid table, const char *column);

/*
 * Add the columns that look like references, of accounts with a key of one
 * column
 */
void
sd_check_columns(Check *check)
{
	/* a foreign key to anything else tells what a column is */
	static const char *const query =
		"SELECT c.oid, a.attname"
		" FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
		" JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
		" JOIN pg_type t ON t.oid = a.atttypid"
		" WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'"
		" AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
		" AND (a.attname = ANY ($1) OR a.attname ~ $4)"
		" AND CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END = ANY ($2)"
		" AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid"
		"  AND k.contype = 'f' AND a.attnum = ANY (k.conkey) AND NOT k.confrelid = ANY ($3))"
		" AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass"
		"  AND d.objid = c.oid AND d.deptype = 'e')"
		" ORDER BY n.nspname, c.relname, a.attnum";
	Oid			argtypes[] = {NAMEARRAYOID, OIDARRAYOID, OIDARRAYOID, TEXTOID};
	Datum		values[4];
	SPITupleTable *rows;
	uint64		n;

	if (check->plan->key->ncolumns > 1)
		return;
	values[0] = sd_name_array(column_names(check));
	values[1] = sd_oid_array(column_types(check->plan));
	values[2] = sd_oid_array(check->plan->account_tables);
	values[3] = CStringGetTextDatum(longer_names(check));
	n = sd_query_catalog(query, lengthof(argtypes), argtypes, values);
	rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		bool		is_null;
		Datum		table = SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &is_null);

		check_column(check, DatumGetObjectId(table),
					 SPI_getvalue(rows->vals[i], rows->tupdesc, 2));
	}
}

/*
 * Names that columns have, or would have, which lead to accounts: those that do,
 * and forms of the account table's name with the name of the key.
 */
static List *
column_names(Check *check)
{
	List	   *names = table_names(check);

	add_link_names(check->plan, &names);
	return names;
}

/*
 * The pattern of names that end in one of those forms: sender_user_id,
 * senderUserId
 */
static char *
longer_names(Check *check)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, table_names(check))
	{
		char	   *name = lfirst(lc);

		if (buf.len > 0)
			appendStringInfoChar(&buf, '|');
		if (strchr(name, '_') != NULL)
			appendStringInfo(&buf, "_%s", name);
		else
			appendStringInfo(&buf, "[a-z]%c%s", pg_toupper((unsigned char) *name),
							 name + 1);
	}

	/* what is not a letter, a number or "_" stands for itself in no pattern */
	for (int i = 0; i < buf.len; i++)
	{
		if (strchr("\\.^$*+?(){}", buf.data[i]) != NULL)
			buf.data[i] = '.';
	}
	return buf.len > 0 ? psprintf("(%s)$", buf.data) : "$.";
}

/* The forms of the account table's name, and of its last word */
static List *
table_names(Check *check)
{
	const char *table = get_rel_name(check->plan->account->table);
	const char *key = check->plan->key->columns[0].name;
	const char *last_word = strrchr(table, '_');
	List	   *names = NIL;

	add_name_forms(&names, singular(table), key);
	if (last_word != NULL && last_word[1] != '\0')
		add_name_forms(&names, singular(last_word + 1), key);
	return names;
}

/*
 * The columns of links to the accounts.  Not those that are called as the key is,
 * such as "id": those of other tables are their own keys.
 */
static void
add_link_names(DeletionPlan *plan, List **names)
{
	const char *key = plan->key->columns[0].name;
	ListCell   *lc;

	foreach(lc, plan->links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->key == plan->key && strcmp(link->names[0], key) != 0 &&
			(link->definition == NULL ||
			 (link->definition->match == NULL &&
			  !link->definition->after_account)))
			*names = lappend(*names, link->names[0]);
	}
}

/* user_id and userId, of "user" or "User" and "id" or "user_id" */
static void
add_name_forms(List **names, const char *noun, const char *key)
{
	size_t		length = strlen(noun);
	char	   *camel;

	if (pg_strncasecmp(key, noun, length) == 0)
		key += key[length] == '_' ? length + 1 : length;
	if (*key == '\0')
		return;
	camel = psprintf("%s%s", noun, key);
	camel[0] = pg_tolower((unsigned char) camel[0]);
	camel[length] = pg_toupper((unsigned char) key[0]);
	*names = lappend(*names, camel);
	*names = lappend(*names, psprintf("%s_%s", asc_tolower(noun, length), key));
}

/* A word without the ending of the plural */
static char *
singular(const char *word)
{
	size_t		length = strlen(word);

	if (length > 3 && pg_strcasecmp(word + length - 3, "ies") == 0)
		return psprintf("%.*sy", (int) length - 3, word);
	if (length > 1 && pg_strcasecmp(word + length - 1, "s") == 0 &&
		pg_strcasecmp(word + length - 2, "ss") != 0)
		return pnstrdup(word, length - 1);
	return pstrdup(word);
}

/* The types in which a key may be kept */
static List *
column_types(DeletionPlan *plan)
{
	KeyColumn  *key = &plan->key->columns[0];
	Oid			table = plan->account->table;

	switch (key->type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
			return list_make5_oid(INT2OID, INT4OID, INT8OID, TEXTOID, VARCHAROID);
		case UUIDOID:
			return list_make3_oid(UUIDOID, TEXTOID, VARCHAROID);
		case TEXTOID:
			return list_make2_oid(TEXTOID, VARCHAROID);
		default:
			return list_make2_oid(key->type,
								  getBaseType(get_atttype(table,
														  get_attnum(table, key->name))));
	}
}

/*
 * The table is not part of the plan, so it may be gone, whatever the snapshot of
 * the query says.
 */
static void
check_column(Check *check, Oid table, char *column)
{
	Relation	rel = try_relation_open(table, AccessShareLock);
	Finding    *finding;

	if (rel == NULL)
		return;
	if (sd_find_column(rel, column) != NULL &&
		!list_member_oid(check->plan->account_tables, table) &&
		!sd_is_audit_table(check->plan, table) &&
		!is_linked(check->followed, table, column))
	{
		finding = sd_add_finding(check, SD_WARNING, "unlinked_column",
								 sd_sql_columns(table, list_make1(column)),
								 psprintf("column \"%s\" of table \"%s\" looks like a reference to accounts, and has neither a foreign key nor a step",
										  column, sd_table_name(table)));
		finding->detail = "Rows that only it leads to an account survive it.";
		finding->hint = "If it is one, a step deletes the rows, sets the column to null, or says that they are kept: action => 'keep'.";
		finding->remedy = propose_step(check, rel, column);
	}
	relation_close(rel, AccessShareLock);
}

/*
 * The step for a column: what foreign keys do that are called like it.  NULL where
 * that cannot be told, or should not be without a person.
 */
static char *
propose_step(Check *check, Relation rel, const char *column)
{
	Oid			table = RelationGetRelid(rel);
	bool		set_null = !sd_is_named_after_accounts(check, column) &&
		!deletes_by(check->plan, column);

	if (!can_be_step(table) || is_of_several_kinds(rel, column) ||
		(set_null && sd_is_not_null(table, column)))
		return NULL;
	return psprintf("%s, %s, %s%s)",
					sd_own_call(check->policy, "add_deletion_step"),
					quote_literal_cstr(sd_qualified_name(table)),
					sd_name_array_literal(list_make1(unconstify(char *, column))),
					set_null ? ", action => 'set null'" : "");
}

/* Are rows deleted by a link to the accounts whose column is called so? */
static bool
deletes_by(DeletionPlan *plan, const char *column)
{
	ListCell   *lc;

	foreach(lc, plan->links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->step->action == SD_DELETE && link->key == plan->key &&
			strcmp(link->names[0], column) == 0)
			return true;
	}
	return false;
}

/* Does another column tell what the reference is to, as owner_type of owner_id? */
static bool
is_of_several_kinds(Relation rel, const char *column)
{
	size_t		length = strlen(column);

	if (length < 3 || pg_strcasecmp(column + length - 2, "id") != 0)
		return false;
	return sd_find_column(rel, psprintf("%.*stype", (int) length - 2, column)) != NULL ||
		sd_find_column(rel, psprintf("%.*sType", (int) length - 2, column)) != NULL;
}

/*
 * May a step delete from the table?  Not where a partition is a foreign table;
 * and nobody is to be told to delete what looks like a record.
 */
static bool
can_be_step(Oid table)
{
	ListCell   *lc;

	if (strstr(asc_tolower(get_rel_name(table), NAMEDATALEN), "audit") != NULL)
		return false;
	foreach(lc, find_all_inheritors(table, AccessShareLock, NULL))
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_FOREIGN_TABLE)
			return false;
	}
	return true;
}

/* Is a column called as references to accounts are, by the account table's name? */
bool
sd_is_named_after_accounts(Check *check, const char *column)
{
	ListCell   *lc;

	foreach(lc, table_names(check))
	{
		if (strcmp(lfirst(lc), column) == 0)
			return true;
	}
	return DatumGetBool(DirectFunctionCall2Coll(textregexeq, DEFAULT_COLLATION_OID,
												CStringGetTextDatum(column),
												CStringGetTextDatum(longer_names(check))));
}

/* Is a column of a table among those that lead anywhere in the plan? */
static bool
is_linked(DeletionPlan *plan, Oid table, const char *column)
{
	ListCell   *lc;

	foreach(lc, plan->links)
	{
		PlanLink   *link = lfirst(lc);

		for (int i = 0; link->step->table == table && i < link->ncolumns; i++)
		{
			if (strcmp(link->names[i], column) == 0)
				return true;
		}
	}
	return false;
}
