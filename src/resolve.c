/*-------------------------------------------------------------------------
 *
 * resolve.c
 *	  From names and OIDs to the tables and columns of tonight's catalog, with
 *	  an error for each thing that is not there or not fit.
 *
 * Tables are opened with a lock that the caller chooses: a run with ROW
 * EXCLUSIVE, what a DELETE takes, kept until the transaction ends, so that what
 * was found here stays true.  In the messages, "role" is what a table is to the
 * policy: "account table", "step table" or "audit table".
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/resolve.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

pg_noreturn static void throw_dropped_table(DeletionPolicy *policy,
											const char *role, Oid number,
											const char *table_name);
pg_noreturn static void throw_other_table(DeletionPolicy *policy,
										  const char *role, Oid number,
										  const char *table_name,
										  const char *mend);

/*
 * The table of that name in the caller's search_path, or InvalidOid.  Never a
 * temporary one: whoever may create those could put it before the real one.
 */
Oid
sd_find_table(const char *name)
{
	List	   *search_path = fetch_search_path(false);
	Oid			table = InvalidOid;
	ListCell   *lc;

	foreach(lc, search_path)
	{
		Oid			schema = lfirst_oid(lc);

		if (isAnyTempNamespace(schema))
			continue;
		table = get_relname_relid(name, schema);
		if (OidIsValid(table))
			break;
	}
	list_free(search_path);
	return table;
}

/*
 * Open a table of the policy, and lock it with all its partitions and
 * inheritance children.  table_name is what it was called when that was noted
 * last.  The caller closes it, keeping the lock.  If it is lost, "table" is invalid
 * and "number" what is written in its place.
 *
 * What is erased must be there for every session and go with the transaction:
 * so neither a temporary table nor a foreign one.
 */
Relation
sd_open_table(DeletionPolicy *policy, const char *role, Oid table,
			  Oid number, const char *table_name, LOCKMODE lockmode)
{
	Relation	rel = try_relation_open(table, lockmode);
	ListCell   *lc;

	if (rel == NULL)
		throw_dropped_table(policy, role, number, table_name);

	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s \"%s\" of deletion policy \"%s\" is not a table",
						role, sd_table_name(table), policy->name),
				 errhint("Only ordinary and partitioned tables can be part of a deletion policy.")));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s \"%s\" of deletion policy \"%s\" is a temporary table",
						role, sd_table_name(table), policy->name),
				 errhint("Use a table that other sessions see, too.")));

	foreach(lc, find_all_inheritors(table, lockmode, NULL))
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_FOREIGN_TABLE)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("partition \"%s\" of %s \"%s\" of deletion policy \"%s\" is a foreign table",
							sd_table_name(lfirst_oid(lc)), role,
							sd_table_name(table), policy->name),
					 errdetail("What is deleted there may stay when the rest is rolled back, or the other way round."),
					 errhint("Detach that partition, or leave the table out of the policy.")));
	}
	return rel;
}

/*
 * The column of that name, or NULL.  It is there until the caller closes the table:
 * the relation cache keeps a descriptor that was in use, even if it makes another.
 */
Form_pg_attribute
sd_find_column(Relation rel, const char *name)
{
	TupleDesc	tupdesc = RelationGetDescr(rel);

	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(tupdesc, i);

		if (!attr->attisdropped && namestrcmp(&attr->attname, name) == 0)
			return attr;
	}
	return NULL;
}

/*
 * The column of that name, or an error.  "argument" is that of the function by
 * which the policy, or its step, was given the name.
 */
Form_pg_attribute
sd_column(DeletionPolicy *policy, Relation rel, const char *role,
		  const char *column, const char *argument)
{
	Form_pg_attribute attr = sd_find_column(rel, column);
	const char *schema = quote_identifier(get_namespace_name(policy->schema));
	const char *name = quote_literal_cstr(policy->name);
	char	   *table_name = sd_table_name(RelationGetRelid(rel));

	if (attr != NULL)
		return attr;

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of %s \"%s\" of deletion policy \"%s\" does not exist",
					column, role, table_name, policy->name),
			 strcmp(role, "step table") == 0 ?
			 errhint("Name a column that is there as %s. If it was renamed since, SELECT %s.remove_deletion_step(%s, %s); takes out all steps of that table, to be added again.",
					 argument, schema, name,
					 quote_literal_cstr(sd_qualified_name(RelationGetRelid(rel)))) :
			 errhint("Name a column that is there as %s. If it was renamed since: SELECT %s.alter_deletion_policy(%s, %s => %s); with all that has changed in one call.",
					 argument, schema, name, argument,
					 strcmp(argument, "key_columns") == 0 ||
					 strcmp(argument, "audit_details") == 0 ? "'{...}'" : "'...'")));
	pg_unreachable();
}

/*
 * The foreign keys of an open table: ForeignKeyCacheInfo *.  A copy, since the
 * relation cache frees its own list at any time.
 */
List *
sd_foreign_keys(Relation rel)
{
	return copyObject(RelationGetFKeyList(rel));
}

/* The catalog's row of a constraint, to be released by the caller */
HeapTuple
sd_get_constraint(Oid constraint)
{
	HeapTuple	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for constraint %u", constraint);
	return tuple;
}

/* Does a column, or a domain that it has, refuse nulls? */
bool
sd_is_not_null(Oid table, const char *column)
{
	HeapTuple	tuple = SearchSysCacheAttName(table, column);
	bool		result;
	Oid			type;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for column \"%s\" of relation %u",
			 column, table);
	result = ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
	type = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid;
	ReleaseSysCache(tuple);

	while (!result && get_typtype(type) == TYPTYPE_DOMAIN)
	{
		tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for type %u", type);
		result = ((Form_pg_type) GETSTRUCT(tuple))->typnotnull;
		type = ((Form_pg_type) GETSTRUCT(tuple))->typbasetype;
		ReleaseSysCache(tuple);
	}
	return result;
}

/*
 * Tell that a table is gone, and how to point the policy to one that was
 * created in its place: an OID is never given to another table by guess, nor is
 * another table that has it by now taken for the one that was meant.
 */
static void
throw_dropped_table(DeletionPolicy *policy, const char *role, Oid number,
					const char *table_name)
{
	const char *schema = quote_identifier(get_namespace_name(policy->schema));
	const char *name = quote_literal_cstr(policy->name);
	const char *literal = quote_literal_cstr(table_name);
	char	   *mend;

	if (strcmp(role, "step table") == 0)
		mend = psprintf("SELECT %s.remove_deletion_step(%s, %u);",
						schema, name, number);
	else
		mend = psprintf("SELECT %s.alter_deletion_policy(%s, %s => %s);",
						schema, name,
						strcmp(role, "audit table") == 0 ?
						"audit_table" : "account_table", literal);

	if (get_rel_name(number) != NULL)
		throw_other_table(policy, role, number, table_name, mend);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("%s \"%s\" of deletion policy \"%s\" does not exist any more",
					role, table_name, policy->name),
			 strcmp(role, "step table") == 0 ?
			 errhint("Take the step out of the policy: %s", mend) :
			 strcmp(role, "audit table") == 0 ?
			 errhint("Create it anew and point the policy to it: %s %s",
					 sd_create_audit_table(policy->account_table,
										   policy->key_columns),
					 mend) :
			 errhint("Create it anew and point the policy to it: %s", mend)));
}

/*
 * The same where another table has the number now: perhaps it is the one that was
 * meant, renamed before its type was remembered.
 */
static void
throw_other_table(DeletionPolicy *policy, const char *role, Oid number,
				  const char *table_name, const char *mend)
{
	bool		is_step = strcmp(role, "step table") == 0;

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("%s \"%s\" of deletion policy \"%s\" does not exist any more, and its OID is that of \"%s\" now",
					role, table_name, policy->name, sd_table_name(number)),
			 is_step ?
			 errhint("Take the step out of the policy: %s If that is the same table under another name, add the step again.",
					 mend) :
			 errhint("If that is the same table under another name: %s, %s => %s); or else create it anew and point the policy to it: %s",
					 sd_own_call(policy, "alter_deletion_policy"),
					 strcmp(role, "audit table") == 0 ? "audit_table" : "account_table",
					 quote_literal_cstr(sd_qualified_name(number)), mend)));
}

/*
 * The statement that makes an audit table beside the account table, for accounts
 * with that key.
 */
char *
sd_create_audit_table(Oid account_table, List *key_columns)
{
	char	   *schema = get_namespace_name(get_rel_namespace(account_table));
	Oid			key_type = InvalidOid;
	const char *type;

	if (list_length(key_columns) == 1)
		key_type = get_atttype(account_table,
							   get_attnum(account_table,
										  linitial(key_columns)));
	type = OidIsValid(key_type) ? format_type_be(key_type) : "text";
	return psprintf("CREATE TABLE %s (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id %s, action text NOT NULL, details jsonb, performed_by %s, created_at timestamptz NOT NULL DEFAULT now());",
					quote_qualified_identifier(schema, SD_AUDIT_TABLE),
					type, type);
}

/* May the caller read all rows of a table? */
bool
sd_may_read(Oid table)
{
	return sd_namespace_aclcheck(get_rel_namespace(table), GetUserId(),
								 ACL_USAGE) == ACLCHECK_OK &&
		pg_class_aclcheck(table, GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
		check_enable_rls(table, InvalidOid, true) != RLS_ENABLED;
}

/* May the caller lock rows of a table?  That asks for UPDATE on any column. */
bool
sd_may_lock(Oid table)
{
	return pg_class_aclcheck(table, GetUserId(), ACL_UPDATE) == ACLCHECK_OK ||
		pg_attribute_aclcheck_all(table, GetUserId(), ACL_UPDATE,
								  ACLMASK_ANY) == ACLCHECK_OK;
}
