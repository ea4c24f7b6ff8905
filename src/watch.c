/*-------------------------------------------------------------------------
 *
 * watch.c
 *	  Accounts on hold of tables that a plan does not delete from: by which foreign
 *	  keys its rows belong to them, too.
 *
 * A note of a patient is a therapist's, too, who has a table and a policy of their own.
 * So a row that a plan deletes is asked not only where else it leads in the plan, but
 * also by keys that refer to the accounts of other tables, if some of those are on hold.
 * A key that would only be set to null, or its default, does not make the row theirs.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/watch.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_constraint.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "scheduled_deletion.h"

static void watch_table(DeletionPlan *plan, Oid table);
static void watch_key(DeletionPlan *plan, PlanStep *step, Relation rel,
					  PlanKey *key, ForeignKeyCacheInfo *fk);
static bool takes_rows_along(Oid constraint);

/*
 * Find the keys by which rows of a plan belong to accounts on hold of other tables.  Its
 * steps are there; what is found is not executed.
 */
void
sd_watch_other_accounts(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, sd_tables_with_holds(plan->policy->schema))
	{
		bool		is_deleted = list_member_oid(plan->account_tables, lfirst_oid(lc));
		ListCell   *cell;

		foreach(cell, plan->steps)
		{
			PlanStep   *step = lfirst(cell);

			is_deleted = is_deleted ||
				(step->action == SD_DELETE && step->table == lfirst_oid(lc));
		}
		if (!is_deleted)
			watch_table(plan, lfirst_oid(lc));
	}
}

/*
 * The tables of which accounts are on hold, each found by an index after the one
 * before, however many holds there are.  Those of tables that are lost stop the run
 * elsewhere.
 */
List *
sd_tables_with_holds(Oid schema)
{
	const char *holds = sd_own_table(schema, "deletion_hold");
	List	   *tables = NIL;
	uint64		n = sd_query_latest_as_owner(schema,
											 psprintf("WITH RECURSIVE t (number) AS ("
													  "(SELECT h.account_table::pg_catalog.oid FROM %s h"
													  " WHERE h.account_table IS NOT NULL"
													  " ORDER BY h.account_table::pg_catalog.oid LIMIT 1)"
													  " UNION ALL SELECT n.number FROM t CROSS JOIN LATERAL ("
													  "SELECT h.account_table::pg_catalog.oid FROM %s h"
													  " WHERE h.account_table::pg_catalog.oid OPERATOR(pg_catalog.>) t.number"
													  " ORDER BY h.account_table::pg_catalog.oid LIMIT 1) n (number))"
													  " SELECT number FROM t", holds, holds),
											 0, NULL, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		bool		is_null;

		tables = lappend_oid(tables,
							 DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
															SPI_tuptable->tupdesc,
															1, &is_null)));
	}
	return tables;
}

/* Watch the accounts of a table, by the key by which they are placed on hold */
static void
watch_table(DeletionPlan *plan, Oid table)
{
	Relation	rel = try_relation_open(table, AccessShareLock);
	PlanStep   *watched = palloc0(sizeof(PlanStep));
	PlanKey    *key;
	ListCell   *lc;

	if (rel == NULL)
		return;
	watched->action = SD_KEEP;
	watched->table = table;
	watched->table_name = sd_table_name(table);
	watched->is_watched = true;
	watched->number = list_length(plan->steps) + list_length(plan->watched);
	key = sd_hold_key(watched, rel, NULL);
	if (key != NULL)
	{
		plan->watched = lappend(plan->watched, watched);
		foreach(lc, plan->steps)
		{
			PlanStep   *step = lfirst(lc);
			Relation	step_rel;
			ListCell   *cell;

			if (step->action != SD_DELETE || step == plan->account)
				continue;
			step_rel = table_open(step->table, NoLock);
			foreach(cell, sd_foreign_keys(step_rel))
				watch_key(plan, step, step_rel, key, lfirst(cell));
			table_close(step_rel, NoLock);
		}
	}
	table_close(rel, NoLock);
}

/* Watch by a foreign key, if it refers to that key of the watched table */
static void
watch_key(DeletionPlan *plan, PlanStep *step, Relation rel, PlanKey *key,
		  ForeignKeyCacheInfo *fk)
{
	List	   *names = NIL;
	Oid			equals[INDEX_MAX_KEYS];
	PlanLink   *link;

	if (fk->confrelid != key->step->table || fk->nkeys != key->ncolumns ||
		!takes_rows_along(fk->conoid))
		return;
	for (int i = 0; i < key->ncolumns; i++)
	{
		for (int j = 0; j < fk->nkeys; j++)
		{
			if (strcmp(key->columns[i].name,
					   get_attname(fk->confrelid, fk->confkey[j], false)) != 0)
				continue;
			names = lappend(names, get_attname(fk->conrelid, fk->conkey[j], false));
			equals[i] = get_commutator(fk->conpfeqop[j]);
		}
	}
	if (list_length(names) != key->ncolumns)
		return;
	link = sd_make_link(plan, step, rel, names, key, fk->conoid, equals);
	plan->watch_links = lappend(plan->watch_links, link);
}

/* Does a foreign key not just set its columns to null, or their default? */
static bool
takes_rows_along(Oid constraint)
{
	HeapTuple	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	char		action;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for constraint %u", constraint);
	action = ((Form_pg_constraint) GETSTRUCT(tuple))->confdeltype;
	ReleaseSysCache(tuple);
	return action != FKCONSTR_ACTION_SETNULL && action != FKCONSTR_ACTION_SETDEFAULT;
}
