/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  From a policy to the statements that delete a batch of its accounts: the
 *	  only file that turns identifiers into SQL text.
 *
 * Tables are written with their schema, operators as OPERATOR(schema.name) and
 * types with theirs; values are parameters.  So the text means the same under
 * any search_path, and the caller's need not be replaced: triggers of the
 * user's tables see the one that they would see in any other DELETE.
 *
 * $1 is the array of the accounts' keys, $2 the moment at which accounts must
 * be due, where a statement has them.  Times are never now(): a distributed
 * table's worker has a clock of its own.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/plan.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

static void make_account_statements(DeletionPlan *plan, Relation rel);
static void make_step(DeletionPlan *plan, DeletionStep *definition,
					  PlanStep *step);
static void make_audit_statement(DeletionPlan *plan, Relation rel);
static bool can_keep_rows(Relation rel);
static void make_blockers(DeletionPlan *plan);
static List *blocking_keys(DeletionPlan *plan, Relation target);
static void find_reached_tables(DeletionPlan *plan);
static void follow_cascades(DeletionPlan *plan, Oid table, List *accounts);
static bool fires(Trigger *trigger);
static bool user_code_may_delete(DeletionPlan *plan);
static bool stops_surely(DeletionPlan *plan, Oid table, Oid target);
static bool may_read(Oid table);
static void make_blocker(DeletionPlan *plan, Oid constraint, Relation target,
						 PlanColumn *column);
static void make_column(DeletionPlan *plan, Relation rel,
						Form_pg_attribute attr, PlanColumn *column);
static void append_key_condition(StringInfo buf, PlanColumn *column);
static void append_operator(StringInfo buf, Oid operator);
static char *type_name(Oid type);
static const char *only(Relation rel);
static void add_statement(DeletionPlan *plan, PlanStatement *statement,
						  const char *query, int nargs,...);
static void add_key_statement(DeletionPlan *plan, PlanStatement *statement,
							  const char *query);

/*
 * Resolve a policy against the catalog, and write its statements.  Throws an
 * error for the first thing that is not there or not fit.
 */
DeletionPlan *
sd_make_plan(DeletionPolicy *policy)
{
	DeletionPlan *plan = palloc0(sizeof(DeletionPlan));
	Relation	account_table;
	Relation	audit_table;
	ListCell   *lc;

	plan->policy = policy;
	account_table = sd_open_table(policy, "account table",
								  policy->account_table,
								  policy->account_table_name);
	sd_resolve_key(plan, account_table);
	policy->key_type = plan->key_type;

	plan->steps = palloc0(sizeof(PlanStep) * (list_length(policy->steps) + 1));
	foreach(lc, policy->steps)
		make_step(plan, lfirst(lc), &plan->steps[plan->nsteps++]);
	make_account_statements(plan, account_table);
	table_close(account_table, NoLock);

	audit_table = sd_open_table(policy, "audit table", policy->audit_table,
								policy->audit_table_name);
	sd_check_audit_table(plan, audit_table);
	make_audit_statement(plan, audit_table);
	table_close(audit_table, NoLock);

	find_reached_tables(plan);
	if (!user_code_may_delete(plan))
		make_blockers(plan);
	return plan;
}

/* Parse the statements, for which the caller must have the privileges */
void
sd_prepare_plan(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->statements)
		sd_prepare(lfirst(lc));
}

/* The keys of accounts, as the array that is every statement's $1 */
ArrayType *
sd_key_array(DeletionPlan *plan, Account **accounts, int naccounts)
{
	Datum	   *keys = palloc(sizeof(Datum) * naccounts);
	ArrayType  *array;

	for (int i = 0; i < naccounts; i++)
		keys[i] = accounts[i]->key;
	array = construct_array(keys, naccounts, plan->key_type, plan->key_typlen,
							plan->key_typbyval, plan->key_typalign);
	pfree(keys);
	return array;
}

/* A key as its type's output function writes it */
char *
sd_key_text(DeletionPlan *plan, Datum key)
{
	return OutputFunctionCall(&plan->key_output, key);
}

/*
 * The statements on the account table, its DELETE being the last step.
 *
 *	pick:		SELECT t.<key>, t.<due> FROM <account table> t
 *				WHERE t.<due> <= $2 [AND t.<done> IS NULL]
 *				AND ($3 IS NULL OR (t.<due> >= $3
 *					AND (t.<due> > $3 OR t.<key> > $4)))
 *				ORDER BY t.<due>, t.<key> LIMIT $1
 *	pick_latest: SELECT t.<key>, t.<due> FROM <account table> t
 *				WHERE t.<due> <= $2 [AND t.<done> IS NULL]
 *				ORDER BY t.<due> DESC LIMIT $1
 *	lock:		SELECT t.<key>, t.<due> FROM <account table> t
 *				WHERE <condition> FOR UPDATE SKIP LOCKED
 *	still_due:	SELECT t.<key> FROM <account table> t WHERE <condition>
 *	delete:		DELETE FROM <account table> t WHERE <condition>
 *				RETURNING t.<key>
 *
 * where the condition is t.<key> = ANY ($1) AND t.<due> <= $2
 * [AND t.<done> IS NULL].
 */
static void
make_account_statements(DeletionPlan *plan, Relation rel)
{
	const char *role = "account table";
	DeletionPolicy *policy = plan->policy;
	PlanStep   *step = &plan->steps[plan->nsteps++];
	PlanColumn *column = palloc0(sizeof(PlanColumn));
	const char *table = sd_qualified_name(RelationGetRelid(rel));
	const char *key;
	const char *due = quote_identifier(policy->due_column);
	const char *is_due;
	StringInfoData condition;
	StringInfoData pick;

	step->table = RelationGetRelid(rel);
	step->table_name = sd_table_name(step->table);
	step->ncolumns = 1;
	step->columns = column;
	make_column(plan, rel, sd_column(rel, role, policy->key_column), column);
	key = column->value;

	sd_require_type(rel, role, sd_column(rel, role, policy->due_column),
					TIMESTAMPTZOID);
	is_due = psprintf("t.%s OPERATOR(pg_catalog.<=) $2", due);
	if (policy->done_column != NULL)
	{
		(void) sd_column(rel, role, policy->done_column);
		is_due = psprintf("%s AND t.%s IS NULL", is_due,
						  quote_identifier(policy->done_column));
	}

	initStringInfo(&condition);
	append_key_condition(&condition, column);
	appendStringInfo(&condition, " AND %s", is_due);

	/* $3 is a constant to the planner, so that no OR remains of its test */
	initStringInfo(&pick);
	appendStringInfo(&pick,
					 "SELECT %s, t.%s FROM %s t WHERE %s"
					 " AND ($3 IS NULL OR (t.%s OPERATOR(pg_catalog.>=) $3"
					 " AND (t.%s OPERATOR(pg_catalog.>) $3 OR %s",
					 key, due, table, is_due, due, due, key);
	append_operator(&pick,
					get_opfamily_member(plan->key_opfamily,
										plan->key_opcintype,
										plan->key_opcintype,
										BTGreaterStrategyNumber));
	appendStringInfo(&pick, "$4))) ORDER BY t.%s, %s LIMIT $1", due, key);
	add_statement(plan, &plan->pick, pick.data, 4, INT8OID, TIMESTAMPTZOID,
				  TIMESTAMPTZOID, plan->key_type);
	add_statement(plan, &plan->pick_latest,
				  psprintf("SELECT %s, t.%s FROM %s t WHERE %s"
						   " ORDER BY t.%s DESC LIMIT $1",
						   key, due, table, is_due, due),
				  2, INT8OID, TIMESTAMPTZOID);

	add_key_statement(plan, &plan->lock,
					  psprintf("SELECT %s, t.%s FROM %s t WHERE %s FOR UPDATE SKIP LOCKED",
							   key, due, table, condition.data));
	add_key_statement(plan, &plan->still_due,
					  psprintf("SELECT %s FROM %s t WHERE %s",
							   key, table, condition.data));
	add_key_statement(plan, &column->delete,
					  psprintf("DELETE FROM %s t WHERE %s RETURNING %s",
							   table, condition.data, key));
}

/*
 * A step: for each of its columns
 *
 *	delete:		DELETE FROM <table> t WHERE t.<column> = ANY ($1)
 *				RETURNING t.<column>
 *	left:		SELECT t.<column> FROM <table> t WHERE t.<column> = ANY ($1)
 */
static void
make_step(DeletionPlan *plan, DeletionStep *definition, PlanStep *step)
{
	Relation	rel = sd_open_table(plan->policy, "step table",
									definition->table, definition->table_name);
	const char *table = sd_qualified_name(RelationGetRelid(rel));
	ListCell   *lc;

	step->table = definition->table;
	step->table_name = sd_table_name(step->table);
	step->can_keep_rows = can_keep_rows(rel);
	step->columns = palloc0(sizeof(PlanColumn) *
							list_length(definition->columns));

	foreach(lc, definition->columns)
	{
		PlanColumn *column = &step->columns[step->ncolumns++];
		StringInfoData condition;

		make_column(plan, rel, sd_column(rel, "step table", lfirst(lc)),
					column);
		initStringInfo(&condition);
		append_key_condition(&condition, column);
		add_key_statement(plan, &column->delete,
						  psprintf("DELETE FROM %s t WHERE %s RETURNING %s",
								   table, condition.data, column->value));
		if (step->can_keep_rows)
			add_key_statement(plan, &column->left,
							  psprintf("SELECT %s FROM %s t WHERE %s",
									   column->value, table, condition.data));
	}
	table_close(rel, NoLock);
}

/*
 * The audit rows, one for each key of $1 and its details in $3:
 *
 *	INSERT INTO <audit table>
 *		(user_id, action, details, performed_by, created_at)
 *	SELECT u.k, $4, u.d, NULL, $2
 *	FROM ROWS FROM (unnest($1), unnest($3)) u (k, d)
 */
static void
make_audit_statement(DeletionPlan *plan, Relation rel)
{
	add_statement(plan, &plan->audit,
				  psprintf("INSERT INTO %s"
						   " (user_id, action, details, performed_by, created_at)"
						   " SELECT u.k, $4, u.d, NULL, $2"
						   " FROM ROWS FROM (pg_catalog.unnest($1),"
						   " pg_catalog.unnest($3)) u (k, d)",
						   sd_qualified_name(RelationGetRelid(rel))),
				  4, plan->key_array_type, TIMESTAMPTZOID, JSONBARRAYOID,
				  TEXTOID);
}

/* May a DELETE leave rows of the table, its partitions or children? */
static bool
can_keep_rows(Relation rel)
{
	List	   *tables = find_all_inheritors(RelationGetRelid(rel),
											 AccessShareLock, NULL);
	bool		result = rel->rd_rules != NULL;
	ListCell   *lc;

	foreach(lc, tables)
	{
		Relation	member = table_open(lfirst_oid(lc), NoLock);

		if (member->trigdesc != NULL && member->trigdesc->trig_delete_before_row)
			result = true;
		table_close(member, NoLock);
	}
	list_free(tables);
	return result;
}

/*
 * Find the foreign keys outside the plan that would stop a DELETE of the plan:
 * those to a table of the plan, without an action of their own.  Expects that no
 * user's code may delete the referencing rows in time.
 */
static void
make_blockers(DeletionPlan *plan)
{
	for (int i = 0; i < plan->nsteps; i++)
	{
		PlanStep   *step = &plan->steps[i];
		List	   *members = find_all_inheritors(step->table, AccessShareLock,
												  NULL);
		ListCell   *lc;

		foreach(lc, members)
		{
			Relation	target = table_open(lfirst_oid(lc), NoLock);
			ListCell   *key;

			foreach(key, blocking_keys(plan, target))
			{
				for (int j = 0; j < step->ncolumns; j++)
					make_blocker(plan, lfirst_oid(key), target,
								 &step->columns[j]);
			}
			table_close(target, NoLock);
		}
		list_free(members);
	}
}

/*
 * The constraints whose triggers raise an error when a referenced row of the
 * table is deleted, as far as a query can tell whom they stop.  Read from the
 * triggers: what is disabled or not enforced has none that fires.
 */
static List *
blocking_keys(DeletionPlan *plan, Relation target)
{
	TriggerDesc *trigdesc = target->trigdesc;
	List	   *result = NIL;

	for (int i = 0; trigdesc != NULL && i < trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = &trigdesc->triggers[i];

		if ((trigger->tgfoid == F_RI_FKEY_NOACTION_DEL ||
			 trigger->tgfoid == F_RI_FKEY_RESTRICT_DEL) &&
			fires(trigger) &&
			stops_surely(plan, trigger->tgconstrrelid,
						 RelationGetRelid(target)))
			result = lappend_oid(result, trigger->tgconstraint);
	}
	return result;
}

/*
 * Find the tables of which rows may go with an account: those of the plan, and
 * from them outwards over ON DELETE CASCADE, with all partitions and children.
 * Notes a key by which that leads back to the accounts.
 */
static void
find_reached_tables(DeletionPlan *plan)
{
	List	   *accounts = find_all_inheritors(plan->policy->account_table,
											   AccessShareLock, NULL);

	for (int i = 0; i < plan->nsteps; i++)
		plan->reached = list_concat_unique_oid(plan->reached,
											   find_all_inheritors(plan->steps[i].table,
																   AccessShareLock,
																   NULL));

	/* the list grows while it is gone through */
	for (int i = 0; i < list_length(plan->reached); i++)
		follow_cascades(plan, list_nth_oid(plan->reached, i), accounts);
}

/* Add the tables of which rows go with those of the table */
static void
follow_cascades(DeletionPlan *plan, Oid table, List *accounts)
{
	Relation	rel = table_open(table, AccessShareLock);

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = &rel->trigdesc->triggers[i];

		if (trigger->tgfoid != F_RI_FKEY_CASCADE_DEL || !fires(trigger))
			continue;
		if (list_member_oid(accounts, trigger->tgconstrrelid))
			plan->cascade_back = trigger->tgconstraint;
		plan->reached = list_concat_unique_oid(plan->reached,
											   find_all_inheritors(trigger->tgconstrrelid,
																   AccessShareLock,
																   NULL));
	}
	table_close(rel, NoLock);
}

/* Does a trigger fire where session_replication_role is "origin"? */
static bool
fires(Trigger *trigger)
{
	return trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN ||
		trigger->tgenabled == TRIGGER_FIRES_ALWAYS;
}

/*
 * Could users' triggers or rules delete rows of any table while the accounts'
 * rows are deleted?
 */
static bool
user_code_may_delete(DeletionPlan *plan)
{
	bool		result = false;
	ListCell   *lc;

	foreach(lc, plan->reached)
	{
		Relation	rel = table_open(lfirst_oid(lc), AccessShareLock);

		if (rel->rd_rules != NULL)
			result = true;
		for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
		{
			Trigger    *trigger = &rel->trigdesc->triggers[i];

			if (!trigger->tgisinternal && fires(trigger) &&
				TRIGGER_FOR_DELETE(trigger->tgtype))
				result = true;
		}
		table_close(rel, NoLock);
	}
	return result;
}

/*
 * Can a query tell whom a key of that table to the target stops?  Not if rows of
 * it may go before the key is checked, with those of the plan or by the action
 * of another key; nor if the caller may not read both tables, or row-level
 * security shows only a part of the first.  Then the server's own check tells,
 * when it is tried.
 */
static bool
stops_surely(DeletionPlan *plan, Oid table, Oid target)
{
	Relation	rel;
	bool		result = true;
	ListCell   *lc;

	if (list_member_oid(plan->reached, table) ||
		!may_read(table) || !may_read(target) ||
		check_enable_rls(table, InvalidOid, true) == RLS_ENABLED)
		return false;

	rel = table_open(table, AccessShareLock);
	foreach(lc, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fk = lfirst_node(ForeignKeyCacheInfo, lc);
		HeapTuple	tuple = SearchSysCache1(CONSTROID,
											ObjectIdGetDatum(fk->conoid));
		char		action;

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for constraint %u", fk->conoid);
		action = ((Form_pg_constraint) GETSTRUCT(tuple))->confdeltype;
		ReleaseSysCache(tuple);
		if (action != FKCONSTR_ACTION_NOACTION &&
			action != FKCONSTR_ACTION_RESTRICT)
			result = false;
	}
	table_close(rel, NoLock);
	return result;
}

/* May the caller read all of a table? */
static bool
may_read(Oid table)
{
	return sd_namespace_aclcheck(get_rel_namespace(table), GetUserId(),
								 ACL_USAGE) == ACLCHECK_OK &&
		pg_class_aclcheck(table, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

/*
 * One blocking key, for one column of the step whose table it references:
 *
 *	find:		SELECT t.<column> FROM [ONLY] <target> t
 *				WHERE t.<column> = ANY ($1) AND EXISTS (
 *					SELECT FROM [ONLY] <referencing table> f
 *					WHERE t.<referenced> = f.<referencing> [AND ...])
 *
 * ONLY as the key itself means it: a key to a plain table says nothing of its
 * inheritance children, one to a partitioned table speaks of all partitions.
 */
static void
make_blocker(DeletionPlan *plan, Oid constraint, Relation target,
			 PlanColumn *column)
{
	PlanBlocker *blocker;
	HeapTuple	tuple = SearchSysCache1(CONSTROID,
										ObjectIdGetDatum(constraint));
	Form_pg_constraint form;
	Oid			table;
	int			nkeys;
	AttrNumber	conkey[INDEX_MAX_KEYS];
	AttrNumber	confkey[INDEX_MAX_KEYS];
	Oid			equals[INDEX_MAX_KEYS];
	bool		is_root;
	Relation	referencing;
	StringInfoData buf;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for constraint %u", constraint);
	form = (Form_pg_constraint) GETSTRUCT(tuple);
	table = form->conrelid;
	is_root = !OidIsValid(form->conparentid);
	DeconstructFkConstraintRow(tuple, &nkeys, conkey, confkey, equals,
							   NULL, NULL, NULL, NULL);
	ReleaseSysCache(tuple);

	/* the key of the whole partitioned table speaks for those of its partitions */
	if (!is_root)
		return;

	referencing = table_open(table, AccessShareLock);
	initStringInfo(&buf);
	appendStringInfo(&buf, "SELECT %s FROM %s%s t WHERE ",
					 column->value, only(target), sd_qualified_name(RelationGetRelid(target)));
	append_key_condition(&buf, column);
	appendStringInfo(&buf, " AND EXISTS (SELECT FROM %s%s f WHERE ",
					 only(referencing), sd_qualified_name(RelationGetRelid(referencing)));
	for (int i = 0; i < nkeys; i++)
	{
		Form_pg_attribute referenced = TupleDescAttr(RelationGetDescr(target),
													 confkey[i] - 1);
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(referencing),
											   conkey[i] - 1);

		char	   *left = psprintf("t.%s", quote_identifier(NameStr(referenced->attname)));
		char	   *right = psprintf("f.%s", quote_identifier(NameStr(attr->attname)));

		/* of two collations, the referenced column's is that of the key */
		if (attr->attcollation != referenced->attcollation)
			right = psprintf("(%s COLLATE %s)", right,
							 generate_collation_name(referenced->attcollation));
		if (i > 0)
			appendStringInfoString(&buf, " AND ");
		generate_operator_clause(&buf, left, referenced->atttypid, equals[i],
								 right, attr->atttypid);
	}
	appendStringInfoChar(&buf, ')');
	table_close(referencing, NoLock);

	blocker = palloc0(sizeof(PlanBlocker));
	blocker->constraint = constraint;
	blocker->table = table;
	blocker->column = column;
	add_key_statement(plan, &blocker->find, buf.data);
	plan->blockers = lappend(plan->blockers, blocker);
}

/*
 * Fill in what a statement needs to know of a column that holds keys.  Its value
 * is cast to what the operator takes, so that it is compared, and returned, as
 * one; but not where only the name of the type differs, which costs no index.
 * Where it makes a difference, it is compared in the collation of the key.
 */
static void
make_column(DeletionPlan *plan, Relation rel, Form_pg_attribute attr,
			PlanColumn *column)
{
	Oid			left;
	Oid			right;

	column->name = pstrdup(NameStr(attr->attname));
	column->match = sd_match_key(plan, rel, attr);
	op_input_types(column->match.equals, &left, &right);
	if (IsPolymorphicType(left))
		left = getBaseType(attr->atttypid);

	column->value = psprintf("t.%s", quote_identifier(column->name));
	if (attr->atttypid != left)
		column->value = psprintf("%s::%s", column->value, type_name(left));
	if (OidIsValid(plan->key_collation) && OidIsValid(attr->attcollation) &&
		attr->attcollation != plan->key_collation &&
		(left == NAMEOID || right == NAMEOID ||
		 !get_collation_isdeterministic(attr->attcollation) ||
		 !get_collation_isdeterministic(plan->key_collation)))
		column->value = psprintf("(%s COLLATE %s)", column->value,
								 generate_collation_name(plan->key_collation));
}

/* <value> = ANY ($1), by the operator that was found for the two types */
static void
append_key_condition(StringInfo buf, PlanColumn *column)
{
	Oid			left;
	Oid			right;

	op_input_types(column->match.equals, &left, &right);
	appendStringInfoString(buf, column->value);
	append_operator(buf, column->match.equals);
	appendStringInfoString(buf, "ANY ($1");
	if (!IsPolymorphicType(right))
		appendStringInfo(buf, "::%s",
						 type_name(get_array_type(right)));
	appendStringInfoChar(buf, ')');
}

/* An operator with its schema, and a space on either side */
static void
append_operator(StringInfo buf, Oid operator)
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

/* A type with its schema, as it is without a length: "character" is one long */
static char *
type_name(Oid type)
{
	return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN |
								FORMAT_TYPE_FORCE_QUALIFY);
}

/* What a foreign key's table is preceded by in its queries */
static const char *
only(Relation rel)
{
	return rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ? "" : "ONLY ";
}

/* Add a statement to the plan; its parameters' types follow */
static void
add_statement(DeletionPlan *plan, PlanStatement *statement, const char *query,
			  int nargs,...)
{
	va_list		argtypes;

	Assert(nargs <= lengthof(statement->argtypes));
	statement->query = query;
	statement->nargs = nargs;
	va_start(argtypes, nargs);
	for (int i = 0; i < nargs; i++)
		statement->argtypes[i] = va_arg(argtypes, Oid);
	va_end(argtypes);
	plan->statements = lappend(plan->statements, statement);
}

/* Add a statement whose parameters are the keys and the moment */
static void
add_key_statement(DeletionPlan *plan, PlanStatement *statement,
				  const char *query)
{
	add_statement(plan, statement, query, 2, plan->key_array_type,
				  TIMESTAMPTZOID);
}
