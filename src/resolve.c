/*-------------------------------------------------------------------------
 *
 * resolve.c
 *	  From names and OIDs to the tables, keys and operators of tonight's
 *	  catalog, with an error for each thing that is not there or not fit.
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

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/relation.h"
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
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

pg_noreturn static void throw_dropped_table(DeletionPolicy *policy,
											const char *role, Oid table,
											const char *table_name);
static bool has_unique_index(Relation rel, PlanKey *key);
static PlanKey *find_equal_key(PlanStep *step, List *names, Oid opfamily,
							   Oid member, Oid cast);
static void add_primary_key(PlanStep *step);
static bool have_array_types(Relation rel, List *names);
static PlanKey *make_key(PlanStep *step, Relation rel, List *names, Oid index,
						 Oid member, Oid cast);
static void operator_class(Form_pg_attribute attr, Oid index, Oid *opfamily,
						   Oid *opcintype);
static Oid *foreign_key_equals(Relation rel, List *names, PlanKey *key);
static bool match_columns(KeyColumn *key, Form_pg_attribute attr, Oid equals,
						  PlanLink *link, int column);
static char *comparable_value(KeyColumn *key, Form_pg_attribute attr,
							  Oid left, Oid right);
static Oid	lossless_cast(Oid key_type, Oid type);

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
 *
 * What is erased must be there for every session and go with the transaction:
 * so neither a temporary table nor a foreign one.
 */
Relation
sd_open_table(DeletionPolicy *policy, const char *role, Oid table,
			  const char *table_name, LOCKMODE lockmode)
{
	Relation	rel = try_relation_open(table, lockmode);
	ListCell   *lc;

	if (rel == NULL)
		throw_dropped_table(policy, role, table, table_name);

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
 * The column of that name, which belongs to the relcache entry.  "argument" is
 * that of the function by which the policy, or its step, was given the name.
 */
Form_pg_attribute
sd_column(DeletionPolicy *policy, Relation rel, const char *role,
		  const char *column, const char *argument)
{
	TupleDesc	tupdesc = RelationGetDescr(rel);
	const char *schema = quote_identifier(get_namespace_name(policy->schema));
	const char *name = quote_literal_cstr(policy->name);
	char	   *table_name = sd_table_name(RelationGetRelid(rel));

	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(tupdesc, i);

		if (!attr->attisdropped && namestrcmp(&attr->attname, column) == 0)
			return attr;
	}

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of %s \"%s\" of deletion policy \"%s\" does not exist",
					column, role, table_name, policy->name),
			 strcmp(role, "step table") == 0 ?
			 errhint("If it was renamed: SELECT %s.remove_deletion_step(%s, %s); then add the step again with the new name in %s.",
					 schema, name, quote_literal_cstr(table_name), argument) :
			 errhint("If it was renamed: SELECT %s.alter_deletion_policy(%s, %s => %s);",
					 schema, name, argument,
					 strcmp(argument, "key_columns") == 0 ||
					 strcmp(argument, "audit_details") == 0 ? "'{...}'" : "'...'")));
	pg_unreachable();
}

/*
 * The key of the accounts, as the policy names its columns.  Each must be
 * NOT NULL, and all together name one row for good.
 */
PlanKey *
sd_account_key(DeletionPlan *plan, Relation account_table)
{
	DeletionPolicy *policy = plan->policy;
	const char *name = sd_table_name(RelationGetRelid(account_table));
	bool		is_not_null = true;
	PlanKey    *key;
	ListCell   *lc;

	if (account_table->rd_rel->relispartition)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("account table \"%s\" is a partition", name),
				 errdetail("Foreign keys refer to the partitioned table, where its keys need not be unique."),
				 errhint("Use the partitioned table.")));
	if (account_table->rd_rel->relkind == RELKIND_RELATION &&
		find_inheritance_children(RelationGetRelid(account_table),
								  NoLock) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("account table \"%s\" has inheritance children", name),
				 errdetail("Nothing keeps their keys from being the same as those of other accounts."),
				 errhint("Use a partitioned table instead.")));

	foreach(lc, policy->key_columns)
	{
		Form_pg_attribute attr = sd_column(policy, account_table,
										   "account table", lfirst(lc),
										   "key_columns");
		Oid			type = getBaseType(attr->atttypid);

		if (!OidIsValid(GetDefaultOpClass(type, BTREE_AM_OID)) ||
			type_is_rowtype(type))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("key column \"%s\" of account table \"%s\" has type %s, which cannot be a key",
							NameStr(attr->attname), name,
							format_type_be(attr->atttypid)),
					 errhint("Use a type that can be sorted and is not composite.")));
		is_not_null = is_not_null && attr->attnotnull;
	}

	key = make_key(plan->account, account_table, policy->key_columns,
				   InvalidOid, InvalidOid, InvalidOid);
	if (!is_not_null || !has_unique_index(account_table, key))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg_plural("key column %s of account table \"%s\" does not name one row",
							   "key columns %s of account table \"%s\" do not name one row",
							   key->ncolumns,
							   sd_name_list(policy->key_columns), name),
				 errhint("Use the primary key, or columns that are NOT NULL and together have a unique constraint that is not deferrable.")));
	return key;
}

/*
 * The key of a step that consists of those columns of "rel", which is the
 * step's table or one of its partitions; made if there is none yet.  It is
 * compared as "index" does it, if that is valid, or as the types' default is.
 * With a "member" only the rows of that partition have it; with a "cast" its
 * only column's values are cast to that type.
 */
PlanKey *
sd_find_key(PlanStep *step, Relation rel, List *names, Oid index, Oid member,
			Oid cast)
{
	Form_pg_attribute first = NULL;
	TupleDesc	tupdesc = RelationGetDescr(rel);
	Oid			opfamily;
	Oid			opcintype;
	PlanKey    *key;

	if (step->keys == NIL)
		add_primary_key(step);

	for (int i = 0; i < tupdesc->natts; i++)
	{
		if (namestrcmp(&TupleDescAttr(tupdesc, i)->attname,
					   linitial(names)) == 0)
			first = TupleDescAttr(tupdesc, i);
	}
	operator_class(first, index, &opfamily, &opcintype);
	key = find_equal_key(step, names, opfamily, member, cast);
	if (key == NULL)
		key = make_key(step, rel, names, index, member, cast);
	return key;
}

/* The key of a step that has all of these properties, or NULL */
static PlanKey *
find_equal_key(PlanStep *step, List *names, Oid opfamily, Oid member, Oid cast)
{
	ListCell   *lc;

	foreach(lc, step->keys)
	{
		PlanKey    *key = lfirst(lc);
		bool		is_equal = key->member == member &&
			key->ncolumns == list_length(names) &&
			(OidIsValid(cast) ? key->columns[0].type == cast :
			 key->columns[0].opfamily == opfamily);

		for (int i = 0; is_equal && i < key->ncolumns; i++)
			is_equal = strcmp(key->columns[i].name, list_nth(names, i)) == 0;
		if (is_equal)
			return key;
	}
	return NULL;
}

/*
 * Let the primary key be the first key of a step: that tells its rows apart.
 * Not where children that inherit may have the same values.
 */
static void
add_primary_key(PlanStep *step)
{
	Relation	rel = table_open(step->table, NoLock);
	List	   *names = sd_primary_key_columns(rel);

	if (names != NIL && have_array_types(rel, names) &&
		(rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ||
		 find_inheritance_children(step->table, NoLock) == NIL))
		(void) make_key(step, rel, names, rel->rd_pkindex,
						InvalidOid, InvalidOid);
	table_close(rel, NoLock);
}

/* Are there arrays of all those columns' types, as there are not of arrays? */
static bool
have_array_types(Relation rel, List *names)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		Oid			type = get_atttype(RelationGetRelid(rel),
									   get_attnum(RelationGetRelid(rel),
												  lfirst(lc)));

		if (!OidIsValid(get_array_type(getBaseType(type))))
			return false;
	}
	return true;
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

/* The columns of a table's primary key, in its order; NIL if it has none */
List *
sd_primary_key_columns(Relation rel)
{
	List	   *names = NIL;
	Oid			index;

	(void) RelationGetIndexList(rel);	/* which finds it */
	index = rel->rd_pkindex;
	if (OidIsValid(index))
	{
		Relation	index_rel = index_open(index, AccessShareLock);

		for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index_rel); i++)
			names = lappend(names, get_attname(RelationGetRelid(rel),
											   index_rel->rd_index->indkey.values[i],
											   false));
		index_close(index_rel, NoLock);
	}
	return names;
}

/* Add a key to a step */
static PlanKey *
make_key(PlanStep *step, Relation rel, List *names, Oid index, Oid member,
		 Oid cast)
{
	PlanKey    *key = palloc0(sizeof(PlanKey));
	ListCell   *lc;

	if (list_length(names) > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("columns that lead to table \"%s\" are more than %d",
						sd_table_name(RelationGetRelid(rel)), INDEX_MAX_KEYS)));

	key->step = step;
	key->member = member;
	key->number = list_length(step->keys);
	key->first_value = step->nvalues;
	key->columns = palloc0(sizeof(KeyColumn) * list_length(names));

	foreach(lc, names)
	{
		KeyColumn  *column = &key->columns[key->ncolumns++];
		AttrNumber	attnum = get_attnum(RelationGetRelid(rel), lfirst(lc));
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
		Oid			base_type = getBaseType(attr->atttypid);

		operator_class(attr, index, &column->opfamily, &column->opcintype);
		column->name = pstrdup(NameStr(attr->attname));
		column->value = psprintf("t.%s", quote_identifier(column->name));
		column->collation = attr->attcollation;
		if (OidIsValid(cast))
		{
			Oid			opclass = GetDefaultOpClass(cast, BTREE_AM_OID);

			column->type = column->opcintype = cast;
			column->opfamily = get_opclass_family(opclass);
			column->collation = get_typcollation(cast);
		}
		else
			column->type = IsPolymorphicType(column->opcintype) ?
				base_type : column->opcintype;
		if (column->type != attr->atttypid)
			column->value = psprintf("%s::%s", column->value,
									 sd_type_name(column->type));
		if (OidIsValid(member))
			column->value = psprintf("CASE WHEN %s THEN %s END",
									 sd_member_condition(member),
									 column->value);

		column->array_type = get_array_type(column->type);
		if (!OidIsValid(column->array_type))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of table \"%s\" has type %s, which has no array type",
							column->name, sd_table_name(RelationGetRelid(rel)),
							format_type_be(column->type)),
					 errhint("Use a key of another type.")));
		get_typlenbyvalalign(column->type, &column->typlen,
							 &column->typbyval, &column->typalign);
		fmgr_info(get_opfamily_proc(column->opfamily, column->opcintype,
									column->opcintype, BTORDER_PROC),
				  &column->compare);
	}

	step->keys = lappend(step->keys, key);
	step->nvalues += key->ncolumns;
	return key;
}

/* How an index compares a column, or without an index its type's default */
static void
operator_class(Form_pg_attribute attr, Oid index, Oid *opfamily,
			   Oid *opcintype)
{
	Oid			opclass;

	if (OidIsValid(index))
	{
		Relation	rel = index_open(index, AccessShareLock);
		int			column = 0;

		while (rel->rd_index->indkey.values[column] != attr->attnum)
			column++;
		*opfamily = rel->rd_opfamily[column];
		*opcintype = rel->rd_opcintype[column];
		index_close(rel, NoLock);
		return;
	}

	opclass = GetDefaultOpClass(getBaseType(attr->atttypid), BTREE_AM_OID);
	if (!OidIsValid(opclass))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" has type %s, which cannot be sorted",
						NameStr(attr->attname), sd_table_name(attr->attrelid),
						format_type_be(attr->atttypid)),
				 errhint("Use a key of another type.")));
	*opfamily = get_opclass_family(opclass);
	*opcintype = get_opclass_input_type(opclass);
}

/*
 * Are the columns of a key the whole of a unique index that is valid, immediate
 * and full, and that tells their values apart as we do?
 */
static bool
has_unique_index(Relation rel, PlanKey *key)
{
	bool		found = false;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		int			nmatched = 0;

		for (int i = 0; i < form->indnkeyatts; i++)
		{
			for (int j = 0; j < key->ncolumns; j++)
			{
				if (form->indkey.values[i] == get_attnum(RelationGetRelid(rel),
														 key->columns[j].name) &&
					index->rd_opfamily[i] == key->columns[j].opfamily &&
					index->rd_indcollation[i] == key->columns[j].collation)
					nmatched++;
			}
		}
		if (form->indisunique && form->indisvalid && form->indimmediate &&
			form->indnkeyatts == key->ncolumns && nmatched == key->ncolumns &&
			RelationGetIndexPredicate(index) == NIL)
			found = true;
		index_close(index, AccessShareLock);
		if (found)
			break;
	}
	return found;
}

/*
 * Let columns of a step's table lead to a key: by the operators of a foreign key
 * (column = referenced column), those given or those of one that is there, or
 * else by those of the key's operator families.  Where these have none for the two types, the key is
 * cast to the column's type if no two keys can become the same by that.
 */
PlanLink *
sd_make_link(DeletionPlan *plan, PlanStep *step, Relation rel, List *names,
			 PlanKey *key, Oid constraint, Oid *fk_equals)
{
	PlanLink   *link = palloc0(sizeof(PlanLink));
	int			n = list_length(names);
	ListCell   *lc;

	if (fk_equals == NULL)
		fk_equals = foreign_key_equals(rel, names, key);

	link->step = step;
	link->number = plan->nlinks++;
	link->key = key;
	link->constraint = constraint;
	link->names = palloc(sizeof(char *) * n);
	link->values = palloc(sizeof(char *) * n);
	link->types = palloc(sizeof(Oid) * n);
	link->equals = palloc(sizeof(Oid) * n);
	link->compare = palloc0(sizeof(FmgrInfo) * n);

	foreach(lc, names)
	{
		int			i = foreach_current_index(lc);
		Form_pg_attribute attr = sd_column(plan->policy, rel, "step table",
										   lfirst(lc), "columns");
		Oid			cast;

		if (match_columns(&link->key->columns[i], attr,
						  fk_equals != NULL ? fk_equals[i] : InvalidOid,
						  link, i))
			continue;
		cast = lossless_cast(key->columns[i].type, getBaseType(attr->atttypid));
		if (n == 1 && OidIsValid(cast))
		{
			Relation	target = table_open(key->step->table, NoLock);

			link->key = sd_find_key(key->step, target,
									list_make1(key->columns[0].name),
									InvalidOid, key->member, cast);
			table_close(target, NoLock);
			if (match_columns(&link->key->columns[0], attr, InvalidOid, link, 0))
				continue;
		}
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of step table \"%s\" has type %s, which cannot be compared with keys of type %s",
						NameStr(attr->attname),
						sd_table_name(RelationGetRelid(rel)),
						format_type_be(attr->atttypid),
						format_type_be(key->columns[i].type)),
				 errhint("Give the column the type of column \"%s\" of table \"%s\".",
						 key->columns[i].name,
						 sd_table_name(key->step->table))));
	}
	link->ncolumns = n;
	return link;
}

/*
 * The operators of a foreign key that leads from those columns to a key, or NULL
 * if there is none.
 */
static Oid *
foreign_key_equals(Relation rel, List *names, PlanKey *key)
{
	ListCell   *lc;

	foreach(lc, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fk = lfirst_node(ForeignKeyCacheInfo, lc);
		Oid		   *equals = palloc0(sizeof(Oid) * key->ncolumns);
		int			nmatched = 0;

		if (fk->confrelid != key->step->table || fk->nkeys != key->ncolumns)
			continue;
		for (int i = 0; i < fk->nkeys; i++)
		{
			for (int j = 0; j < key->ncolumns; j++)
			{
				if (fk->conkey[i] != get_attnum(RelationGetRelid(rel),
												list_nth(names, j)) ||
					fk->confkey[i] != get_attnum(fk->confrelid,
												 key->columns[j].name))
					continue;
				equals[j] = get_commutator(fk->conpfeqop[i]);
				nmatched++;
			}
		}
		if (nmatched == key->ncolumns)
			return equals;
	}
	return NULL;
}

/*
 * Fill in how one column of a link is compared with its column of the key.
 * False if there is no way.
 */
static bool
match_columns(KeyColumn *key, Form_pg_attribute attr, Oid equals,
			  PlanLink *link, int column)
{
	Oid			opclass = GetDefaultOpClass(getBaseType(attr->atttypid),
											BTREE_AM_OID);
	Oid			left;
	Oid			right;
	Oid			compare;

	if (!OidIsValid(equals) && OidIsValid(opclass))
		equals = get_opfamily_member(key->opfamily,
									 get_opclass_input_type(opclass),
									 key->opcintype, BTEqualStrategyNumber);
	if (!OidIsValid(equals))
		return false;
	op_input_types(equals, &left, &right);
	compare = get_opfamily_proc(key->opfamily, left, right, BTORDER_PROC);
	if (!OidIsValid(compare) ||
		(!IsPolymorphicType(right) && !IsBinaryCoercible(key->type, right)))
		return false;

	if (IsPolymorphicType(left))
		left = getBaseType(attr->atttypid);
	link->names[column] = pstrdup(NameStr(attr->attname));
	link->values[column] = comparable_value(key, attr, left, right);
	link->types[column] = left;
	link->equals[column] = equals;
	fmgr_info(compare, &link->compare[column]);
	return true;
}

/*
 * A column's value, cast to what the operator takes, so that it is compared, and
 * returned, as one; but not where only the name of the type differs, which costs
 * no index.  Where it makes a difference, it is compared in the collation of the
 * key.
 */
static char *
comparable_value(KeyColumn *key, Form_pg_attribute attr, Oid left, Oid right)
{
	char	   *value = psprintf("t.%s",
								 quote_identifier(NameStr(attr->attname)));

	if (attr->atttypid != left)
		value = psprintf("%s::%s", value, sd_type_name(left));
	if (OidIsValid(key->collation) && OidIsValid(attr->attcollation) &&
		attr->attcollation != key->collation &&
		(left == NAMEOID || right == NAMEOID ||
		 !get_collation_isdeterministic(attr->attcollation) ||
		 !get_collation_isdeterministic(key->collation)))
		value = psprintf("(%s COLLATE %s)", value,
						 generate_collation_name(key->collation));
	return value;
}

/*
 * The type to which keys can be cast so that they can be found in a column of
 * "type", and no two keys become the same; InvalidOid if there is none.
 */
static Oid
lossless_cast(Oid key_type, Oid type)
{
	bool		is_integer = key_type == INT2OID || key_type == INT4OID ||
		key_type == INT8OID;

	if (type == VARCHAROID)
		type = TEXTOID;
	if ((type == TEXTOID && (is_integer || key_type == UUIDOID)) ||
		(type == NUMERICOID && is_integer))
		return type;
	return InvalidOid;
}

/*
 * Tell that a table is gone, and how to point the policy to one that was
 * created in its place: an OID is never given to another table by guess.
 */
static void
throw_dropped_table(DeletionPolicy *policy, const char *role, Oid table,
					const char *table_name)
{
	const char *schema = quote_identifier(get_namespace_name(policy->schema));
	const char *name = quote_literal_cstr(policy->name);
	const char *literal = quote_literal_cstr(table_name);
	char	   *mend;

	if (strcmp(role, "step table") == 0)
		mend = psprintf("SELECT %s.remove_deletion_step(%s, %u);",
						schema, name, table);
	else
		mend = psprintf("SELECT %s.alter_deletion_policy(%s, %s => %s);",
						schema, name,
						strcmp(role, "audit table") == 0 ?
						"audit_table" : "account_table", literal);

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
