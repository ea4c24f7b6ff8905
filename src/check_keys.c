/*-------------------------------------------------------------------------
 *
 * check_keys.c
 *	  What foreign keys do to a policy: which of them stop accounts, cannot take
 *	  their action, reach rows of other people, or leave some behind.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/check_keys.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "access/table.h"
#include "catalog/pg_constraint.h"
#include "commands/defrem.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "check.h"

static void check_blocking_key(Check *check, PlanLink *link);
static StepAction *propose_actions(Check *check, List *links, int *turns,
								   int *nturns);
static PlanLink *next_way(List *links, int *turns, bool *must);
static void propose_step(Check *check, PlanLink *link, Finding *finding);
static bool must_delete(Check *check, PlanLink *link);
static void add_audit_reference(Check *check, PlanLink *link);
static bool blocks(Check *check, PlanLink *link);
static bool is_accounts_own(PlanLink *link);
static bool can_be_null(PlanLink *link);
static void check_columns_to_set(Check *check, PlanLink *link);
static List *columns_to_set(PlanLink *link);
static bool has_default(Oid table, const char *column);
static bool can_drop_not_null(Oid table, const char *column);
static void check_key_type(Check *check, PlanLink *link);
static void check_step_target(Check *check, PlanLink *link);
static Oid	referenced_table(Oid table, List *names, Oid preferred);
static void check_shared_rows(Check *check, PlanStep *step);
static char *list_ways(List *links);
static List *ways_into_table(DeletionPlan *plan, Oid table);
static void check_references_of_accounts(Check *check);
static bool has_columns(List *links, PlanLink *link);

/*
 * Add what is to be said of the keys of a plan, from the accounts outwards: a step
 * can only be added when its rows lead to some that are deleted.
 */
void
sd_check_keys(Check *check)
{
	List	   *links = check->followed->links;
	int		   *turns = palloc0(sizeof(int) * list_length(check->followed->steps));
	int			nturns;
	ListCell   *lc;

	check->proposed = propose_actions(check, links, turns, &nturns);
	for (int turn = 0; turn <= nturns; turn++)
	{
		foreach(lc, links)
		{
			PlanLink   *link = lfirst(lc);

			if (turns[link->key->step->number] != (turn < nturns ? turn + 1 : 0))
				continue;
			check_blocking_key(check, link);
			check_columns_to_set(check, link);
			check_key_type(check, link);
			check_step_target(check, link);
		}
	}
	foreach(lc, check->plan->steps)
		check_shared_rows(check, lfirst(lc));
	check_references_of_accounts(check);
}

/*
 * A key that stops accounts, or would once those are followed by which it leads
 * to them.
 */
static void
check_blocking_key(Check *check, PlanLink *link)
{
	PlanStep   *step = link->step;
	PlanStep   *target = link->key->step;
	Finding    *finding;

	if (!blocks(check, link) || is_accounts_own(link))
		return;
	if (sd_is_audit_table(check->plan, step->table))
	{
		add_audit_reference(check, link);
		return;
	}

	finding = sd_add_finding(check, SD_ERROR, "blocking_key",
							 sd_sql_columns(step->table, sd_link_names(link)),
							 psprintf("foreign key \"%s\" of table \"%s\" stops accounts",
									  get_constraint_name(link->constraint),
									  step->table_name));
	finding->detail = psprintf("It leads to %s, and %s.",
							   target == check->followed->account ?
							   "accounts" :
							   psprintf("rows of \"%s\" that go with an account",
										target->table_name),
							   link->cascades ?
							   "would erase some that are not due" :
							   "does not let them go");
	if (list_member_oid(check->plan->account_tables, step->table))
	{
		finding->hint = "Set the column to null, or erase such accounts together.";
		if (can_be_null(link))
			finding->remedy = sd_step_remedy(check, link, "set null");
	}
	else
		propose_step(check, link, finding);
}

/*
 * What steps should do to the rows of links that block, by number: SD_KEEP of
 * those that block nobody any more then.
 *
 * Rows that another way deletes belong there, and are not to be deleted because
 * somebody has edited or approved them, too: such a column, if it can be null, is
 * set to null.  Where no other way deletes the rows, the first one does.
 *
 * A table whose rows are deleted then gets its turn, by number of the step, from 1
 * on, which is that of the accounts; none is 0.
 */
static StepAction *
propose_actions(Check *check, List *links, int *turns, int *nturns)
{
	StepAction *proposed = palloc(sizeof(StepAction) * check->followed->nlinks);
	bool	   *must = palloc(sizeof(bool) * check->followed->nlinks);
	ListCell   *lc;

	foreach(lc, links)
	{
		PlanLink   *link = lfirst(lc);

		proposed[link->number] = SD_KEEP;
		must[link->number] = !blocks(check, link) || must_delete(check, link);
	}
	*nturns = 0;
	turns[check->followed->account->number] = ++*nturns;
	for (;;)
	{
		PlanLink   *link = next_way(links, turns, must);

		if (link == NULL)
			link = next_way(links, turns, NULL);
		if (link == NULL)
			break;
		turns[link->step->number] = ++*nturns;
		proposed[link->number] = SD_DELETE;
	}

	foreach(lc, links)
	{
		PlanLink   *link = lfirst(lc);

		if (turns[link->key->step->number] > 0 &&
			proposed[link->number] == SD_KEEP)
			proposed[link->number] = must[link->number] ?
				SD_DELETE : SD_SET_NULL;
	}
	return proposed;
}

/*
 * The first link into a table that has no turn yet, of those that must delete, if
 * they are given, or NULL.
 */
static PlanLink *
next_way(List *links, int *turns, bool *must)
{
	ListCell   *lc;

	foreach(lc, links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->step->action == SD_DELETE && turns[link->step->number] == 0 &&
			turns[link->key->step->number] > 0 &&
			(must == NULL || must[link->number]))
			return link;
	}
	return NULL;
}

/* The step that would mend a key */
static void
propose_step(Check *check, PlanLink *link, Finding *finding)
{
	List	   *ways = ways_into_table(check->followed, link->step->table);

	if (list_length(ways) > 1)
		finding->detail = psprintf("%s Its rows can belong to several accounts, by %s.",
								   finding->detail, list_ways(ways));
	switch (check->proposed[link->number])
	{
		case SD_SET_NULL:
			finding->hint = "The rows stay, without what they refer to. Without the action, the step deletes them.";
			finding->remedy = sd_step_remedy(check, link, "set null");
			break;
		case SD_DELETE:
			finding->hint = can_be_null(link) ?
				"This deletes the rows. With action => 'set null' they stay without the person; blocking_keys => 'delete' follows all such keys." :
				"This deletes the rows; blocking_keys => 'delete' follows all such keys.";
			finding->remedy = sd_step_remedy(check, link, NULL);
			break;
		default:
			finding->hint = psprintf("Only if rows of \"%s\" are deleted, which the other remedies leave to stay.",
									 link->key->step->table_name);
	}
}

/* Cannot a row stay without what it refers to, or is it called an account's? */
static bool
must_delete(Check *check, PlanLink *link)
{
	return !can_be_null(link) ||
		(link->key->step == check->followed->account &&
		 sd_is_named_after_accounts(check, link->names[0]));
}

/* An audit row would stop its account, or go with it; told once */
static void
add_audit_reference(Check *check, PlanLink *link)
{
	const char *constraint = get_constraint_name(link->constraint);
	char	   *remedy = sd_drop_constraint(sd_qualified_name(link->step->table),
											constraint);
	Finding    *finding;

	if (sd_has_remedy(check->findings, remedy))
		return;
	finding = sd_add_finding(check, SD_ERROR, "audit_reference",
							 sd_sql_name(link->step->table),
							 psprintf("foreign key \"%s\" of audit table \"%s\" leads to rows that go with an account",
									  constraint, link->step->table_name));
	finding->detail = "What an audit row speaks of may be gone.";
	finding->remedy = remedy;
}

/* Does a link of the followed plan stop accounts, or what leads to them? */
static bool
blocks(Check *check, PlanLink *link)
{
	if (link->step->action == SD_BLOCK)
		return true;
	return link->step->action == SD_DELETE && OidIsValid(link->constraint) &&
		!link->cascades && !check->policy->follow_blocking_keys;
}

/*
 * Is it how an account refers to what goes after it, and no other account can
 * refer to the same?
 */
static bool
is_accounts_own(PlanLink *link)
{
	PlanStep   *target = link->key->step;

	return target->definition != NULL && target->definition->after_account &&
		sd_is_unique(link->step->table, sd_link_names(link));
}

/* Can a step set the columns to null? */
static bool
can_be_null(PlanLink *link)
{
	Relation	rel = table_open(link->step->table, NoLock);
	bool		result = true;

	for (int i = 0; i < link->ncolumns; i++)
	{
		if (sd_is_not_null(link->step->table, link->names[i]) ||
			sd_find_column(rel, link->names[i])->attgenerated != '\0')
			result = false;
	}
	table_close(rel, NoLock);
	return result;
}

/*
 * A key whose action sets a column to null, or to a default, that does not take
 * it
 */
static void
check_columns_to_set(Check *check, PlanLink *link)
{
	StepAction	action = link->step->action;
	ListCell   *lc;

	if (!OidIsValid(link->constraint) ||
		(action != SD_SET_NULL && action != SD_SET_DEFAULT))
		return;

	foreach(lc, columns_to_set(link))
	{
		char	   *column = lfirst(lc);
		Oid			table = link->step->table;
		Finding    *finding;

		if (!sd_is_not_null(table, column) ||
			(action == SD_SET_DEFAULT && has_default(table, column)))
			continue;
		finding = sd_add_finding(check, SD_ERROR, "unsettable_column",
								 sd_sql_columns(table, list_make1(column)),
								 psprintf("column \"%s\" of table \"%s\" is NOT NULL, and foreign key \"%s\" sets it to %s",
										  column, link->step->table_name,
										  get_constraint_name(link->constraint),
										  action == SD_SET_NULL ? "null" :
										  "a default that it does not have"));
		finding->detail = "An account with rows there fails.";
		finding->hint = "Let the column be null, or delete the rows with add_deletion_step().";
		if (can_drop_not_null(table, column))
			finding->remedy = psprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL",
									   sd_qualified_name(table),
									   quote_identifier(column));
	}
}

/* The columns that a foreign key's action sets: those that it names, or all */
static List *
columns_to_set(PlanLink *link)
{
	HeapTuple	tuple = sd_get_constraint(link->constraint);
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	AttrNumber	columns[INDEX_MAX_KEYS];
	AttrNumber	referenced[INDEX_MAX_KEYS];
	AttrNumber	set_columns[INDEX_MAX_KEYS];
	Oid			equals[INDEX_MAX_KEYS];
	int			ncolumns;
	int			nset;
	List	   *names = NIL;

	DeconstructFkConstraintRow(tuple, &ncolumns, columns, referenced, equals,
							   NULL, NULL, &nset, set_columns);
	for (int i = 0; i < (nset > 0 ? nset : ncolumns); i++)
		names = lappend(names, get_attname(form->conrelid,
										   nset > 0 ? set_columns[i] : columns[i],
										   false));
	ReleaseSysCache(tuple);
	return names;
}

/* Has a column a default, so that it is not null that is set? */
static bool
has_default(Oid table, const char *column)
{
	Relation	rel = table_open(table, NoLock);
	Form_pg_attribute attr = sd_find_column(rel, column);
	bool		result = attr->atthasdef || get_typdefault(attr->atttypid) != NULL;

	table_close(rel, NoLock);
	return result;
}

/* Not of a primary key, and not where a domain says it */
static bool
can_drop_not_null(Oid table, const char *column)
{
	Relation	rel = table_open(table, NoLock);
	bool		result = sd_find_column(rel, column)->attnotnull;
	ListCell   *lc;

	foreach(lc, sd_primary_key_columns(rel))
	{
		if (strcmp(lfirst(lc), column) == 0)
			result = false;
	}
	table_close(rel, NoLock);
	return result;
}

/*
 * A key that does not compare as the key of the accounts, or of another table,
 * does by itself.
 */
static void
check_key_type(Check *check, PlanLink *link)
{
	Relation	rel;
	Relation	target;

	if (!OidIsValid(link->constraint))
		return;
	rel = table_open(link->step->table, NoLock);
	target = table_open(link->key->step->table, NoLock);
	for (int i = 0; i < link->ncolumns; i++)
	{
		KeyColumn  *key = &link->key->columns[i];
		Form_pg_attribute column = sd_find_column(rel, link->names[i]);
		Form_pg_attribute referenced = sd_find_column(target, key->name);
		Oid			type = getBaseType(column->atttypid);
		Oid			key_type = getBaseType(referenced->atttypid);
		Oid			opclass = GetDefaultOpClass(key_type, BTREE_AM_OID);
		bool		is_other_type = !IsBinaryCoercible(type, key_type);
		Finding    *finding;

		if (!is_other_type && OidIsValid(opclass) &&
			get_opclass_family(opclass) == key->opfamily)
			continue;
		finding = sd_add_finding(check, SD_INFO, "mismatched_key",
								 sd_sql_columns(link->step->table,
												list_make1(link->names[i])),
								 is_other_type ?
								 psprintf("column \"%s\" of table \"%s\" has type %s, and refers to column \"%s\" of table \"%s\", which has type %s",
										  link->names[i], link->step->table_name,
										  format_type_be(column->atttypid),
										  key->name, link->key->step->table_name,
										  format_type_be(referenced->atttypid)) :
								 psprintf("foreign key \"%s\" of table \"%s\" compares otherwise than type %s does by itself",
										  get_constraint_name(link->constraint),
										  link->step->table_name,
										  format_type_be(referenced->atttypid)));
		finding->detail = "A run compares as the foreign key does.";
		finding->hint = is_other_type ? "Give both columns the same type." : NULL;
	}
	table_close(target, NoLock);
	table_close(rel, NoLock);
}

/*
 * A step of the policy whose columns refer to another table than the one to whose
 * key it compares them: rows of nobody in particular would be found.  But not
 * where that key refers to the same table.
 */
static void
check_step_target(Check *check, PlanLink *link)
{
	List	   *names = sd_link_names(link);
	Oid			target = link->key->step->table;
	Oid			referenced;
	Finding    *finding;

	if (link->definition == NULL || link->definition->after_account ||
		link->definition->match != NULL)
		return;
	referenced = referenced_table(link->step->table, names, target);
	if (!OidIsValid(referenced) || referenced == target ||
		referenced_table(target, sd_key_names(link->key), target) == referenced)
		return;

	finding = sd_add_finding(check, SD_ERROR, "misdirected_step",
							 sd_sql_columns(link->step->table, names),
							 psprintf("the step on table \"%s\" compares %s with keys of \"%s\", but a foreign key refers to \"%s\"",
									  link->step->table_name, sd_name_list(names),
									  link->key->step->table_name,
									  sd_table_name(referenced)));
	finding->detail = "Rows would be deleted, or kept, that only happen to have the same value.";
	finding->hint = psprintf("Remove the step and add it with via => %s.",
							 quote_literal_cstr(sd_qualified_name(referenced)));
}

/*
 * The table to which a foreign key of those columns refers, "preferred" if there
 * are several, or InvalidOid.
 */
static Oid
referenced_table(Oid table, List *names, Oid preferred)
{
	Relation	rel = table_open(table, NoLock);
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, sd_foreign_keys(rel))
	{
		ForeignKeyCacheInfo *fk = lfirst_node(ForeignKeyCacheInfo, lc);
		bool		is_same = fk->nkeys == list_length(names);
		ListCell   *cell;

		foreach(cell, is_same ? names : NIL)
			is_same = is_same &&
			fk->conkey[foreach_current_index(cell)] == get_attnum(table, lfirst(cell));
		if (is_same && result != preferred)
			result = fk->confrelid;
	}
	table_close(rel, NoLock);
	return result;
}

/*
 * Rows that are deleted, and lead to accounts by other columns, too.  Where those
 * are set to null it has been decided whose the rows are.
 */
static void
check_shared_rows(Check *check, PlanStep *step)
{
	List	   *ways = ways_into_table(check->plan, step->table);
	Finding    *finding;

	if (step->action != SD_DELETE || step == check->plan->account ||
		list_length(ways) < 2)
		return;

	finding = sd_add_finding(check, SD_WARNING, "shared_rows",
							 sd_sql_name(step->table),
							 psprintf("rows of table \"%s\" can belong to two accounts, and go with the first that is erased",
									  step->table_name));
	finding->detail = psprintf("They lead to accounts by %s.", list_ways(ways));
	finding->hint = "Where a row is to stay for the other account, add a step with the action 'set null' for the columns that are to let it go.";
}

/* The columns of links, and where they lead */
static char *
list_ways(List *links)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, links)
	{
		PlanLink   *link = lfirst(lc);

		appendStringInfo(&buf, "%s%s (to \"%s\")", buf.len > 0 ? ", " : "",
						 sd_name_list(sd_link_names(link)),
						 link->key->step->table_name);
	}
	return buf.data;
}

/*
 * The links of a table in a plan by which rows are deleted, or stop an account;
 * one for each set of columns.
 */
static List *
ways_into_table(DeletionPlan *plan, Oid table)
{
	List	   *ways = NIL;
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		if (step->table != table ||
			(step->action != SD_DELETE && step->action != SD_BLOCK))
			continue;
		foreach(cell, step->links)
		{
			if (!has_columns(ways, lfirst(cell)))
				ways = lappend(ways, lfirst(cell));
		}
	}
	return ways;
}

/*
 * What each account refers to as the only one, such as its login, stays when it
 * is erased, and nothing leads there afterwards.
 */
static void
check_references_of_accounts(Check *check)
{
	Oid			table = check->plan->account->table;
	Relation	rel = table_open(table, NoLock);
	ListCell   *lc;

	foreach(lc, sd_foreign_keys(rel))
	{
		ForeignKeyCacheInfo *fk = lfirst_node(ForeignKeyCacheInfo, lc);
		List	   *names = NIL;
		List	   *referenced = NIL;
		Finding    *finding;

		for (int i = 0; i < fk->nkeys; i++)
		{
			names = lappend(names, get_attname(table, fk->conkey[i], false));
			referenced = lappend(referenced,
								 get_attname(fk->confrelid, fk->confkey[i], false));
		}
		if (fk->confrelid == table || !sd_is_unique(table, names) ||
			ways_into_table(check->plan, fk->confrelid) != NIL)
			continue;

		finding = sd_add_finding(check, SD_WARNING, "remaining_reference",
								 sd_sql_columns(fk->confrelid, referenced),
								 psprintf("the row of table \"%s\" to which an account refers as the only one stays",
										  sd_table_name(fk->confrelid)));
		finding->detail = psprintf("Foreign key \"%s\" leads to it, from %s.",
								   get_constraint_name(fk->conoid),
								   sd_name_list(names));
		finding->hint = "If it is the person's, such as a login, delete it after the account.";
		finding->remedy = psprintf("%s, %s, %s, after_account => true)",
								   sd_own_call(check->policy, "add_deletion_step"),
								   quote_literal_cstr(sd_qualified_name(fk->confrelid)),
								   sd_name_array_literal(referenced));
	}
	table_close(rel, NoLock);
}

/* Has one of the links the columns of another? */
static bool
has_columns(List *links, PlanLink *link)
{
	ListCell   *lc;

	foreach(lc, links)
	{
		if (sd_same_names(sd_link_names(lfirst(lc)), sd_link_names(link)))
			return true;
	}
	return false;
}
