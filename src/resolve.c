/*-------------------------------------------------------------------------
 *
 * resolve.c
 *	  From names and OIDs to the tables, columns and operators of tonight's
 *	  catalog, with an error for each thing that is not there or not fit.
 *
 * Tables are opened with ROW EXCLUSIVE, what a DELETE takes; the lock is kept
 * until the transaction ends, so that what was found here stays true.  In the
 * messages, "role" is what a table is to the policy: "account table", "step
 * table" or "audit table".
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/resolve.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "parser/parse_coerce.h"
#include "parser/parse_oper.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "scheduled_deletion.h"

pg_noreturn static void throw_dropped_table(DeletionPolicy *policy,
											const char *role,
											const char *table_name);
static void check_audit_columns(DeletionPlan *plan, Relation audit_table);
static void check_audit_rows_stay(DeletionPlan *plan, Relation audit_table);
static bool has_unique_index(Relation rel, Form_pg_attribute column,
							 Oid opfamily);

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
 * inheritance children.  table_name is what it was called when it was
 * registered.  The caller closes it, keeping the lock.
 */
Relation
sd_open_table(DeletionPolicy *policy, const char *role, Oid table,
			  const char *table_name)
{
	Relation	rel = try_table_open(table, RowExclusiveLock);

	if (rel == NULL)
		throw_dropped_table(policy, role, table_name);

	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s \"%s\" of deletion policy \"%s\" is not a table",
						role, sd_table_name(table), policy->name),
				 errhint("Only ordinary and partitioned tables can be part of a deletion policy.")));

	list_free(find_all_inheritors(table, RowExclusiveLock, NULL));
	return rel;
}

/* The column of that name, which belongs to the relcache entry */
Form_pg_attribute
sd_column(Relation rel, const char *role, const char *column)
{
	TupleDesc	tupdesc = RelationGetDescr(rel);

	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(tupdesc, i);

		if (!attr->attisdropped && namestrcmp(&attr->attname, column) == 0)
			return attr;
	}

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of %s \"%s\" does not exist",
					column, role, sd_table_name(RelationGetRelid(rel))),
			 errhint("Add the column, or give it back its name.")));
	pg_unreachable();
}

/* Refuse a column that is not of exactly that type, or a domain over it */
void
sd_require_type(Relation rel, const char *role, Form_pg_attribute column,
				Oid type)
{
	if (getBaseType(column->atttypid) != type)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of %s \"%s\" has type %s, not %s",
						NameStr(column->attname), role,
						sd_table_name(RelationGetRelid(rel)),
						format_type_be(column->atttypid),
						format_type_be(type)),
				 errhint("Change the column's type to %s.",
						 format_type_be(type))));
}

/*
 * Fill in what the plan has to know of the key: its type, which must have a
 * btree default operator class, and that it names one row for good.
 */
void
sd_resolve_key(DeletionPlan *plan, Relation account_table)
{
	const char *name = sd_table_name(RelationGetRelid(account_table));
	Form_pg_attribute key = sd_column(account_table, "account table",
									  plan->policy->key_column);
	Oid			type = getBaseType(key->atttypid);
	Oid			opclass = GetDefaultOpClass(type, BTREE_AM_OID);
	Oid			output;
	bool		is_varlena;

	if (!OidIsValid(opclass) || type_is_rowtype(type))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("key column \"%s\" of account table \"%s\" has type %s, which cannot be a key",
						NameStr(key->attname), name,
						format_type_be(key->atttypid)),
				 errhint("Use a type that can be sorted and is not composite.")));
	if (account_table->rd_rel->relkind == RELKIND_RELATION &&
		find_inheritance_children(RelationGetRelid(account_table),
								  NoLock) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("account table \"%s\" has inheritance children", name),
				 errdetail("Nothing keeps their keys from being the same as those of other accounts."),
				 errhint("Use a partitioned table instead.")));
	if (!key->attnotnull ||
		!has_unique_index(account_table, key, get_opclass_family(opclass)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("key column \"%s\" of account table \"%s\" does not name one row",
						NameStr(key->attname), name),
				 errhint("Make it the primary key, or NOT NULL with a unique constraint that is not deferrable.")));

	plan->key_attnum = key->attnum;
	plan->key_opfamily = get_opclass_family(opclass);
	plan->key_opcintype = get_opclass_input_type(opclass);
	plan->key_type = IsPolymorphicType(plan->key_opcintype) ?
		type : plan->key_opcintype;
	plan->key_array_type = get_array_type(plan->key_type);
	if (!OidIsValid(plan->key_array_type))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("key column \"%s\" of account table \"%s\" has type %s, which has no array type",
						NameStr(key->attname), name,
						format_type_be(plan->key_type))));
	get_typlenbyvalalign(plan->key_type, &plan->key_typlen,
						 &plan->key_typbyval, &plan->key_typalign);
	plan->key_collation = key->attcollation;
	getTypeOutputInfo(plan->key_type, &output, &is_varlena);
	fmgr_info(output, &plan->key_output);
	plan->key_compare = sd_match_key(plan, account_table, key).compare;
}

/*
 * How a column is compared with the key: as its foreign key to the account
 * table does it, or else by the key's btree operator family.
 */
KeyMatch
sd_match_key(DeletionPlan *plan, Relation rel, Form_pg_attribute column)
{
	Oid			type = getBaseType(column->atttypid);
	KeyMatch	match = {0};
	Oid			left = InvalidOid;
	Oid			right = InvalidOid;
	Oid			compare = InvalidOid;
	ListCell   *lc;

	foreach(lc, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fk = lfirst_node(ForeignKeyCacheInfo, lc);

		if (fk->confrelid == plan->policy->account_table &&
			fk->nkeys == 1 && fk->conkey[0] == column->attnum &&
			fk->confkey[0] == plan->key_attnum)
			match.equals = get_commutator(fk->conpfeqop[0]);
	}

	if (!OidIsValid(match.equals))
	{
		Oid			opclass = GetDefaultOpClass(type, BTREE_AM_OID);

		if (OidIsValid(opclass))
		{
			match.equals = get_opfamily_member(plan->key_opfamily,
											   get_opclass_input_type(opclass),
											   plan->key_opcintype,
											   BTEqualStrategyNumber);
		}
	}

	if (OidIsValid(match.equals))
	{
		op_input_types(match.equals, &left, &right);
		compare = get_opfamily_proc(plan->key_opfamily, left, right,
									BTORDER_PROC);
	}
	if (!OidIsValid(compare) ||
		(!IsPolymorphicType(right) &&
		 !IsBinaryCoercible(plan->key_type, right)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of step table \"%s\" has type %s, which cannot be compared with keys of type %s",
						NameStr(column->attname),
						sd_table_name(RelationGetRelid(rel)),
						format_type_be(column->atttypid),
						format_type_be(plan->key_type)),
				 errhint("Give the column the type of the account table's key.")));

	fmgr_info(compare, &match.compare);
	return match;
}

/*
 * Refuse an audit table that cannot take a row for each deleted account, or
 * that would lose it again.
 */
void
sd_check_audit_table(DeletionPlan *plan, Relation audit_table)
{
	check_audit_columns(plan, audit_table);
	check_audit_rows_stay(plan, audit_table);
}

/* The columns that are filled take what they are given, and others fill themselves */
static void
check_audit_columns(DeletionPlan *plan, Relation audit_table)
{
	const char *role = "audit table";
	const char *name = sd_table_name(RelationGetRelid(audit_table));
	TupleDesc	tupdesc = RelationGetDescr(audit_table);
	Form_pg_attribute user_id = sd_column(audit_table, role, "user_id");
	Form_pg_attribute action = sd_column(audit_table, role, "action");
	Form_pg_attribute details = sd_column(audit_table, role, "details");
	Form_pg_attribute performed_by = sd_column(audit_table, role,
											   "performed_by");
	Form_pg_attribute created_at = sd_column(audit_table, role, "created_at");

	if (!IsBinaryCoercible(getBaseType(user_id->atttypid), plan->key_type))
		sd_require_type(audit_table, role, user_id, plan->key_type);
	if (getBaseType(action->atttypid) != VARCHAROID)
		sd_require_type(audit_table, role, action, TEXTOID);
	sd_require_type(audit_table, role, details, JSONBOID);
	sd_require_type(audit_table, role, created_at, TIMESTAMPTZOID);

	if (performed_by->attnotnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("column \"performed_by\" of audit table \"%s\" is NOT NULL",
						name),
				 errdetail("A scheduled deletion is performed by nobody, and written as null."),
				 errhint("Run ALTER TABLE %s ALTER COLUMN performed_by DROP NOT NULL.",
						 sd_qualified_name(RelationGetRelid(audit_table)))));

	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(tupdesc, i);

		if (attr->attnotnull && !attr->attisdropped && !attr->atthasdef &&
			attr->attidentity == '\0' &&
			get_typdefault(attr->atttypid) == NULL &&
			attr != user_id && attr != action &&
			attr != details && attr != created_at)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("column \"%s\" of audit table \"%s\" is NOT NULL and has no default",
							NameStr(attr->attname), name),
					 errhint("Give it a default, or drop NOT NULL.")));
	}
}

/* Neither a crash nor the deletion of its account takes an audit row away */
static void
check_audit_rows_stay(DeletionPlan *plan, Relation audit_table)
{
	const char *name = sd_table_name(RelationGetRelid(audit_table));
	AttrNumber	user_id = get_attnum(RelationGetRelid(audit_table), "user_id");
	ListCell   *lc;

	foreach(lc, find_all_inheritors(RelationGetRelid(audit_table), NoLock,
									NULL))
	{
		if (get_rel_persistence(lfirst_oid(lc)) != RELPERSISTENCE_PERMANENT)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("audit table \"%s\" is not permanent",
							sd_table_name(lfirst_oid(lc))),
					 errdetail("A crash would empty it, and leave the accounts deleted."),
					 errhint("Run ALTER TABLE %s SET LOGGED.",
							 sd_qualified_name(lfirst_oid(lc)))));
	}

	foreach(lc, RelationGetFKeyList(audit_table))
	{
		ForeignKeyCacheInfo *fk = lfirst_node(ForeignKeyCacheInfo, lc);

		for (int i = 0; i < fk->nkeys; i++)
		{
			if (fk->confrelid == plan->policy->account_table &&
				fk->conkey[i] == user_id)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_FOREIGN_KEY),
						 errmsg("column \"user_id\" of audit table \"%s\" references the account table",
								name),
						 errdetail("An audit row could not outlive its account."),
						 errhint("Drop constraint \"%s\".",
								 get_constraint_name(fk->conoid))));
		}
	}
}

/*
 * The statement that makes an audit table for accounts with keys of that type.
 * "name" is the table's, qualified and quoted.
 */
char *
sd_create_audit_table(const char *name, Oid key_type)
{
	const char *type = format_type_be(key_type);

	return psprintf("CREATE TABLE %s (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id %s, action text NOT NULL, details jsonb, performed_by %s, created_at timestamptz NOT NULL DEFAULT now());",
					name, type, type);
}

/*
 * Tell that a table is gone, and how to point the policy to one that was
 * created in its place: an OID is never given to another table by guess.
 */
static void
throw_dropped_table(DeletionPolicy *policy, const char *role,
					const char *table_name)
{
	const char *schema = quote_identifier(get_namespace_name(policy->schema));
	const char *table = quote_literal_cstr(table_name);
	const char *name = quote_literal_cstr(policy->name);
	char	   *mend;

	if (strcmp(role, "step table") == 0)
		mend = psprintf("UPDATE %s.deletion_step SET step_table = %s WHERE policy = %s AND step_table_name = %s;",
						schema, table, name, table);
	else if (strcmp(role, "audit table") == 0)
		mend = psprintf("%s UPDATE %s.deletion_policy SET audit_table = %s WHERE policy = %s;",
						sd_create_audit_table(table_name, policy->key_type),
						schema, table, name);
	else
		mend = psprintf("UPDATE %s.deletion_policy SET account_table = %s WHERE policy = %s;",
						schema, table, name);

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("%s \"%s\" of deletion policy \"%s\" does not exist any more",
					role, table_name, policy->name),
			 errhint("Create it anew and point the policy to it, as the extension's owner: %s",
					 mend)));
}

/*
 * Is a column the whole of a unique index that is valid, immediate and full, and
 * that tells its values apart as we do?
 */
static bool
has_unique_index(Relation rel, Form_pg_attribute column, Oid opfamily)
{
	List	   *indexes = RelationGetIndexList(rel);
	bool		found = false;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (form->indisunique && form->indisvalid && form->indimmediate &&
			form->indnkeyatts == 1 &&
			form->indkey.values[0] == column->attnum &&
			index->rd_opfamily[0] == opfamily &&
			index->rd_indcollation[0] == column->attcollation &&
			RelationGetIndexPredicate(index) == NIL)
			found = true;
		index_close(index, AccessShareLock);
		if (found)
			break;
	}
	list_free(indexes);
	return found;
}
