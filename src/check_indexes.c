/*-------------------------------------------------------------------------
 *
 * check_indexes.c
 *	  Indexes that a run lives on: on the due column, and on each set of columns
 *	  by which rows lead to an account.  Without one each batch reads the whole
 *	  table, and so does the server for each account to check a foreign key.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/check_indexes.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "check.h"

static void check_due_column(Check *check);
static void check_link(Check *check, PlanLink *link);
static void check_table(Check *check, Oid table, WantedIndex *wanted,
						const char *code, const char *format);
static void add_missing_index(Check *check, Oid table, WantedIndex *wanted,
							  const char *code, const char *format);
static char *create_index(Oid table, WantedIndex *wanted);
static bool is_known(Check *check, const char *code, const char *object);

/* Add the indexes that are missing, also for what blocks as yet */
void
sd_check_indexes(Check *check)
{
	ListCell   *lc;

	check_due_column(check);
	foreach(lc, check->followed->steps)
	{
		ListCell   *cell;

		foreach(cell, ((PlanStep *) lfirst(lc))->links)
			check_link(check, lfirst(cell));
	}
}

static void
check_due_column(Check *check)
{
	DeletionPolicy *policy = check->policy;
	WantedIndex wanted = {0};

	wanted.names = list_make1(policy->due_column);
	if (policy->done_column != NULL)
		wanted.nulls = list_make1(policy->done_column);
	check_table(check, policy->account_table, &wanted, "unindexed_due_column",
				"due column %s of account table \"%s\" has no index that serves");
}

static void
check_link(Check *check, PlanLink *link)
{
	WantedIndex *wanted = sd_index_of_link(link);

	check_table(check,
				OidIsValid(link->member) ? link->member : link->step->table,
				wanted, "unindexed_reference",
				list_length(wanted->names) == 1 ?
				"column %s of table \"%s\", by which rows lead to an account, has no index that serves" :
				"columns %s of table \"%s\", by which rows lead to an account, have no index that serves");
}

/*
 * "format" tells it of columns and a table.
 *
 * Of a partitioned table, each partition that has no index is told, and then the
 * whole: an index on that takes those of its partitions, which were made without
 * locking anybody out, for its own.
 */
static void
check_table(Check *check, Oid table, WantedIndex *wanted, const char *code,
			const char *format)
{
	bool		is_missing = false;
	ListCell   *lc;

	foreach(lc, find_all_inheritors(table, NoLock, NULL))
	{
		Oid			member = lfirst_oid(lc);

		if (get_rel_relkind(member) == RELKIND_PARTITIONED_TABLE ||
			sd_has_index(member, wanted))
			continue;
		is_missing = true;
		add_missing_index(check, member, wanted, code, format);
	}
	if (is_missing && get_rel_relkind(table) == RELKIND_PARTITIONED_TABLE)
		add_missing_index(check, table, wanted, code, format);
}

static void
add_missing_index(Check *check, Oid table, WantedIndex *wanted,
				  const char *code, const char *format)
{
	char	   *object = sd_sql_columns(table, wanted->names);
	Finding    *finding;

	if (is_known(check, code, object))
		return;
	finding = sd_add_finding(check, SD_WARNING, code, object,
							 psprintf(format, sd_name_list(wanted->names),
									  sd_table_name(table)));
	finding->detail = psprintf("Each batch reads the whole table, which has %s.",
							   sd_about_rows(table));
	if (wanted->is_converted)
		finding->hint = "An index would not serve, since the values are compared as another type: give the column the type of what it refers to.";
	else
		finding->remedy = create_index(table, wanted);
}

/* The statement that makes the index, without locking anybody out if that can be */
static char *
create_index(Oid table, WantedIndex *wanted)
{
	StringInfoData buf;
	List	   *names = list_concat_copy(wanted->names, wanted->matched);
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "CREATE INDEX%s ON %s (",
					 get_rel_relkind(table) == RELKIND_PARTITIONED_TABLE ?
					 "" : " CONCURRENTLY",
					 sd_qualified_name(table));
	foreach(lc, names)
		appendStringInfo(&buf, "%s%s", foreach_current_index(lc) > 0 ? ", " : "",
						 quote_identifier(lfirst(lc)));
	appendStringInfoChar(&buf, ')');

	/* due columns are null for all but a few accounts */
	if (wanted->operators == NULL &&
		!sd_is_not_null(table, linitial(wanted->names)))
		appendStringInfo(&buf, " WHERE %s IS NOT NULL",
						 quote_identifier(linitial(wanted->names)));
	return buf.data;
}

/* Two links may lead by the same columns */
static bool
is_known(Check *check, const char *code, const char *object)
{
	ListCell   *lc;

	foreach(lc, check->findings)
	{
		Finding    *finding = lfirst(lc);

		if (strcmp(finding->code, code) == 0 &&
			strcmp(finding->object, object) == 0)
			return true;
	}
	return false;
}
