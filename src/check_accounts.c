/*-------------------------------------------------------------------------
 *
 * check_accounts.c
 *	  What the account table itself tells: a key that may say who somebody is,
 *	  marks that the policy does not read, accounts that are done and have rows.
 *
 * The rows are only asked where the caller may read them, and the planner expects
 * an answer soon.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/check_accounts.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "check.h"

/* questions are asked until the planner expects all to cost that: some seconds */
#define MAX_COST		250000.0

/* how many of the accounts that are done are looked at */
#define MAX_DONE		1000

/* unknown, of a count */
#define UNKNOWN_COUNT	(-1)

static void check_key(Check *check);
static void check_marks(Check *check);
static int64 count_marked(Check *check, const char *column, bool is_flag);
static void check_leftovers(Check *check);
static int64 count_leftovers(Check *check, PlanLink *link);
static int64 ask_count(Check *check, const char *query, int nargs, Oid *argtypes,
					   Datum *values);

/* Columns that say in many applications that an account is to go, or gone */
static const char *const marks[] = {
	"deleted_at", "deletedAt", "is_deleted", "isDeleted", "deleted",
	"deleted_on", "deleted_date", "discarded_at", "removed_at", "erased_at",
	"anonymized_at", "archived_at", "deactivated_at"
};

/* Add what is to be said of the accounts */
void
sd_check_accounts(Check *check)
{
	check_key(check);
	check_marks(check);
	check_leftovers(check);
}

/* The key stays in audit rows and reports */
static void
check_key(Check *check)
{
	for (int i = 0; i < check->plan->key->ncolumns; i++)
	{
		KeyColumn  *key = &check->plan->key->columns[i];
		char		category;
		bool		is_preferred;
		Finding    *finding;

		get_type_category_preferred(key->type, &category, &is_preferred);
		if (category != TYPCATEGORY_STRING)
			continue;
		finding = sd_add_finding(check, SD_INFO, "text_key",
								 sd_sql_columns(check->plan->account->table,
												list_make1(key->name)),
								 psprintf("key column \"%s\" of account table \"%s\" has type %s",
										  key->name,
										  check->plan->account->table_name,
										  format_type_be(key->type)));
		finding->detail = "A key stays in audit rows and reports; a text may be a name or an address.";
		finding->hint = "If it is, use another key, such as a number without a meaning.";
	}
}

/*
 * The mark of an account table that the policy does not read, from the given
 * place in the list on, or NULL; the place of the next one is left in *i.
 */
char *
sd_next_unread_mark(DeletionPolicy *policy, int *i)
{
	while (*i < lengthof(marks))
	{
		const char *mark = marks[(*i)++];

		if (get_attnum(policy->account_table, mark) != InvalidAttrNumber &&
			strcmp(mark, policy->due_column) != 0 &&
			(policy->done_column == NULL ||
			 strcmp(mark, policy->done_column) != 0))
			return pstrdup(mark);
	}
	return NULL;
}

/* Whoever has such a mark set may be meant to stay, or to go */
static void
check_marks(Check *check)
{
	char	   *mark;
	int			i = 0;

	while ((mark = sd_next_unread_mark(check->policy, &i)) != NULL)
	{
		Oid			table = check->plan->account->table;
		Oid			type = getBaseType(get_atttype(table, get_attnum(table, mark)));
		bool		is_time = type == TIMESTAMPTZOID ||
			type == TIMESTAMPOID || type == DATEOID;
		int64		count = UNKNOWN_COUNT;
		Finding    *finding;

		if (is_time || type == BOOLOID)
			count = count_marked(check, mark, type == BOOLOID);
		finding = sd_add_finding(check, SD_WARNING, "unread_mark",
								 sd_sql_columns(table, list_make1(mark)),
								 psprintf("column \"%s\" of account table \"%s\" looks like a mark of deletion, and is neither due column nor done column",
										  mark, check->plan->account->table_name));
		finding->detail = count == UNKNOWN_COUNT ?
			"How many of the accounts that are due have it set was not counted." :
			psprintf("Accounts that are due and have it set: " INT64_FORMAT ".",
					 count);

		/* without a remedy: it may let accounts stay for ever */
		finding->hint = psprintf("If accounts that have it set are to be left alone: %s, done_column => %s), of a column that tells a time.",
								 sd_own_call(check->policy, "alter_deletion_policy"),
								 quote_literal_cstr(mark));
	}
}

static int64
count_marked(Check *check, const char *column, bool is_flag)
{
	PlanStatement marked = {0};
	DueBounds	bounds;
	Oid		   *argtypes;
	Datum	   *values;

	if (!sd_may_ask(check, check->plan->account->table))
		return UNKNOWN_COUNT;
	sd_write_marked(check->plan, column, is_flag, &marked);
	sd_find_due_bounds(check->plan, GetCurrentTimestamp(), &bounds);
	values = sd_bind_due(check->plan, &bounds, &marked, &argtypes);
	return ask_count(check, marked.query.data, list_length(marked.params),
					 argtypes, values);
}

/*
 * Somebody has begun to delete accounts and not ended: they are marked as done,
 * so that no run takes them, and have rows.
 */
static void
check_leftovers(Check *check)
{
	StringInfoData tables;
	Finding    *finding;
	ListCell   *lc;

	if (check->policy->done_column == NULL)
		return;
	initStringInfo(&tables);
	foreach(lc, check->plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		foreach(cell, step->action == SD_DELETE ? step->links : NIL)
		{
			int64		count = count_leftovers(check, lfirst(cell));

			if (count > 0)
				appendStringInfo(&tables, "%s%s " INT64_FORMAT,
								 tables.len > 0 ? ", " : "",
								 sd_sql_columns(step->table,
												sd_link_names(lfirst(cell))),
								 count);
		}
	}
	if (tables.len == 0)
		return;

	finding = sd_add_finding(check, SD_WARNING, "leftover_rows",
							 sd_sql_name(check->plan->account->table),
							 psprintf("accounts with done column \"%s\" set still have rows",
									  check->policy->done_column));
	finding->detail = psprintf("Of the first %d accounts that are done, so many have rows in: %s.",
							   MAX_DONE, tables.data);
	finding->hint = "No run takes these accounts. Where they are to be erased, set the done column to null; one whose due time has passed goes with the next run then.";
}

/* How many of the accounts that are done have rows by a link to them */
static int64
count_leftovers(Check *check, PlanLink *link)
{
	StringInfoData query;

	if (link->key->step != check->plan->account ||
		OidIsValid(link->member) || OidIsValid(link->key->member) ||
		(link->definition != NULL && link->definition->match != NULL) ||
		!sd_may_ask(check, link->step->table) ||
		!sd_may_ask(check, check->plan->account->table))
		return UNKNOWN_COUNT;
	initStringInfo(&query);
	sd_write_leftovers(check->plan, link, MAX_DONE, &query);
	return ask_count(check, query.data, 0, NULL, NULL);
}

/* May the caller read all rows of a table, and run no code of others by that? */
bool
sd_may_ask(Check *check, Oid table)
{
	ListCell   *lc;

	if (!sd_may_read(table))
		return false;
	foreach(lc, find_all_inheritors(table, NoLock, NULL))
	{
		if (list_member_oid(check->unsafe_tables, lfirst_oid(lc)))
			return false;
	}
	return true;
}

/* The answer to a query that counts, if it can be had cheaply */
static int64
ask_count(Check *check, const char *query, int nargs, Oid *argtypes,
		  Datum *values)
{
	double		cost = sd_planner_expects("Total Cost", query, nargs,
										  argtypes, values);

	if (check->cost + cost > MAX_COST)
		return UNKNOWN_COUNT;
	check->cost += cost;
	return sd_count(query, nargs, argtypes, values);
}
