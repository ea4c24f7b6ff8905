/*-------------------------------------------------------------------------
 *
 * key.c
 *	  Keys: the columns of a table by which rows of others refer to its rows, and
 *	  how their values are compared.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/key.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "commands/defrem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "scheduled_deletion.h"

static PlanKey *find_equal_key(PlanStep *step, List *names, Oid opfamily,
							   Oid member, Oid cast);
static void add_primary_key(PlanStep *step);
static bool can_be_key(Relation rel, List *names);
static PlanKey *make_key(PlanStep *step, Relation rel, List *names, Oid index,
						 Oid member, Oid cast);
static void add_hash(PlanKey *key, KeyColumn *column);
static void operator_class(Form_pg_attribute attr, Oid index, Oid *opfamily,
						   Oid *opcintype);
static bool has_unique_index(Relation rel, PlanKey *key);
static Oid	primary_key_index(Relation rel);

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
	Oid			opfamily;
	Oid			opcintype;
	PlanKey    *key;

	if (step->keys == NIL)
		add_primary_key(step);

	operator_class(sd_find_column(rel, linitial(names)), index, &opfamily,
				   &opcintype);
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
 * Let the primary key be the first key of a step, so that each of its rows is
 * known when it is deleted.  Not where children that inherit may have the same
 * values.
 */
static void
add_primary_key(PlanStep *step)
{
	Relation	rel = table_open(step->table, NoLock);
	List	   *names = sd_primary_key_columns(rel);

	if (names != NIL && can_be_key(rel, names) &&
		(rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ||
		 find_inheritance_children(step->table, NoLock) == NIL))
		(void) make_key(step, rel, names, primary_key_index(rel),
						InvalidOid, InvalidOid);
	table_close(rel, NoLock);
}

/*
 * The key of an account table by which holds are placed: its primary key, which is
 * the same for every policy on it; or else another one.
 */
PlanKey *
sd_hold_key(PlanStep *step, Relation account_table, PlanKey *otherwise)
{
	List	   *names = sd_primary_key_columns(account_table);

	return names != NIL && can_be_key(account_table, names) ?
		sd_find_key(step, account_table, names, InvalidOid, InvalidOid,
					InvalidOid) : otherwise;
}

/*
 * Can those columns be a key: can they be sorted, and are there arrays of their
 * types, as there are not of arrays?
 */
static bool
can_be_key(Relation rel, List *names)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		Oid			type = getBaseType(sd_find_column(rel, lfirst(lc))->atttypid);

		if (!OidIsValid(get_array_type(type)) ||
			!OidIsValid(GetDefaultOpClass(type, BTREE_AM_OID)))
			return false;
	}
	return true;
}

/* The columns of a table's primary key, in its order; NIL if it has none */
List *
sd_primary_key_columns(Relation rel)
{
	List	   *names = NIL;
	Oid			index = primary_key_index(rel);

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

/* The index of a table's primary key, or InvalidOid */
static Oid
primary_key_index(Relation rel)
{
	/* finds it, if the relation cache does not know it, or no longer */
	list_free(RelationGetIndexList(rel));
	return rel->rd_pkindex;
}

/* Are values of a key the same, as it compares them? */
bool
sd_same_key(PlanKey *key, Datum *a, Datum *b)
{
	for (int i = 0; i < key->ncolumns; i++)
	{
		if (DatumGetInt32(FunctionCall2Coll(&key->compare[i],
											key->columns[i].collation,
											a[i], b[i])) != 0)
			return false;
	}
	return true;
}

/* The columns of a key: char * */
List *
sd_key_names(PlanKey *key)
{
	List	   *names = NIL;

	for (int i = 0; i < key->ncolumns; i++)
		names = lappend(names, key->columns[i].name);
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
	key->compare = palloc0(sizeof(FmgrInfo) * list_length(names));
	key->hash = palloc0(sizeof(FmgrInfo) * list_length(names));

	foreach(lc, names)
	{
		KeyColumn  *column = &key->columns[key->ncolumns];
		Form_pg_attribute attr = sd_find_column(rel, lfirst(lc));
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
				  &key->compare[key->ncolumns]);
		add_hash(key, column);
		key->ncolumns++;
	}

	key->tupdesc = sd_key_tupdesc(key);
	step->keys = lappend(step->keys, key);
	step->nvalues += key->ncolumns;
	return key;
}

/*
 * The hash function of the next column's type, if that agrees with how it is
 * compared
 */
static void
add_hash(PlanKey *key, KeyColumn *column)
{
	Oid			equals = get_opfamily_member(column->opfamily, column->opcintype,
											 column->opcintype, BTEqualStrategyNumber);
	Oid			function = lookup_type_cache(column->type, TYPECACHE_HASH_PROC)->hash_proc;
	RegProcedure left;
	RegProcedure right;

	if (key->hash != NULL && OidIsValid(function) && OidIsValid(equals) &&
		get_op_hash_functions(equals, &left, &right) && right == function)
		fmgr_info(function, &key->hash[key->ncolumns]);
	else
		key->hash = NULL;
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
			!sd_is_partial(index))
			found = true;
		index_close(index, AccessShareLock);
		if (found)
			break;
	}
	return found;
}
