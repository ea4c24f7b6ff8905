/*-------------------------------------------------------------------------
 *
 * link.c
 *	  How columns of a table lead to a key: by which operators, and by which
 *	  comparison a value is given to its row.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/link.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "access/table.h"
#include "commands/defrem.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "scheduled_deletion.h"

static Oid *foreign_key_equals(Relation rel, List *names, PlanKey *key);
static bool match_columns(KeyColumn *key, Form_pg_attribute attr, Oid equals,
						  PlanLink *link, int column);
static void add_hash(PlanLink *link, int column);
static char *comparable_value(KeyColumn *key, Form_pg_attribute attr,
							  Oid left, Oid right);
static Oid	lossless_cast(Oid key_type, Oid type);

/*
 * Let columns of a step's table lead to a key: by the operators of a foreign
 * key (column = referenced column), those given or those of one that is there,
 * or else by those of the key's operator families.  Where these have none for
 * the two types, the key is cast to the column's type if no two keys can become
 * the same by that.
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
	link->hash = palloc0(sizeof(FmgrInfo) * n);

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

/* Add a link to its step, and to the plan, in the order in which they are found */
void
sd_add_link(DeletionPlan *plan, PlanLink *link)
{
	link->step->links = lappend(link->step->links, link);
	plan->links = lappend(plan->links, link);
}

/* The columns of a link: char * */
List *
sd_link_names(PlanLink *link)
{
	List	   *names = NIL;

	for (int i = 0; i < link->ncolumns; i++)
		names = lappend(names, link->names[i]);
	return names;
}

/*
 * The operators of a foreign key that leads from those columns to a key, or NULL
 * if there is none.
 */
static Oid *
foreign_key_equals(Relation rel, List *names, PlanKey *key)
{
	ListCell   *lc;

	foreach(lc, sd_foreign_keys(rel))
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
	add_hash(link, column);
	return true;
}

/* The hash function of a column, if equal values of the key have the same hash */
static void
add_hash(PlanLink *link, int column)
{
	RegProcedure left;
	RegProcedure right;

	if (link->hash != NULL && link->key->hash != NULL &&
		get_op_hash_functions(link->equals[column], &left, &right) &&
		right == link->key->hash[column].fn_oid)
		fmgr_info(left, &link->hash[column]);
	else
		link->hash = NULL;
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
