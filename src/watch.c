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
 * Only tables to which such keys lead are opened: whatever becomes of others, and of the
 * holds on their accounts, concerns no run of this plan.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/watch.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

static void watch_keys(DeletionPlan *plan, PlanStep *step, Oid member,
					   List *deleted);
static void watch_key(DeletionPlan *plan, PlanStep *step, Oid member,
					  ForeignKeyCacheInfo *fk);
static PlanStep *watched_table(DeletionPlan *plan, Oid table);
static bool takes_rows_along(Oid constraint);

/*
 * Find the keys by which rows of a plan belong to accounts on hold of other tables.  Its
 * steps are there; what is found is not executed.  Throws an error if it is not known
 * whether accounts of such a table are on hold.
 */
void
sd_watch_other_accounts(DeletionPlan *plan)
{
	List	   *deleted = NIL;	/* Oid */
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step->action == SD_DELETE)
			deleted = lappend_oid(deleted, step->table);
	}
	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		if (step->action != SD_DELETE || step == plan->account)
			continue;
		foreach(cell, step->members)
			watch_keys(plan, step, lfirst_oid(cell), deleted);
	}
}

/*
 * The tables of which accounts are on hold, each found by an index after the one
 * before, however many holds there are.
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

/*
 * Watch by the foreign keys of a table, or a partition, that do not lead to what is
 * deleted, but to accounts of which some are on hold
 */
static void
watch_keys(DeletionPlan *plan, PlanStep *step, Oid member, List *deleted)
{
	Relation	rel = table_open(member, NoLock);
	List	   *keys = sd_foreign_keys(rel);
	ListCell   *lc;

	table_close(rel, NoLock);
	foreach(lc, keys)
	{
		ForeignKeyCacheInfo *fk = lfirst(lc);
		Oid			table = sd_root_of(fk->confrelid);

		/* the key of the whole table speaks for those of its partitions */
		if (list_member_oid(deleted, table) ||
			sd_whole_key(fk->conoid) != fk->conoid || !takes_rows_along(fk->conoid))
			continue;
		sd_refuse_lost_holds(plan->policy->schema, list_make1_oid(table));
		if (list_member_oid(plan->hold_tables, table))
			watch_key(plan, step, member, fk);
	}
}

/* Watch by a foreign key */
static void
watch_key(DeletionPlan *plan, PlanStep *step, Oid member, ForeignKeyCacheInfo *fk)
{
	PlanStep   *watched = watched_table(plan, sd_root_of(fk->confrelid));
	Relation	target = table_open(watched->table, NoLock);
	Relation	rel = table_open(step->table, NoLock);
	List	   *names = NIL;
	List	   *referenced = NIL;
	Oid			equals[INDEX_MAX_KEYS];
	PlanLink   *link;

	for (int i = 0; i < fk->nkeys; i++)
	{
		names = lappend(names, get_attname(fk->conrelid, fk->conkey[i], false));
		referenced = lappend(referenced, get_attname(fk->confrelid, fk->confkey[i], false));
		equals[i] = get_commutator(fk->conpfeqop[i]);
	}
	link = sd_make_link(plan, step, rel, names,
						sd_find_key(watched, target, referenced, InvalidOid,
									InvalidOid, InvalidOid),
						fk->conoid, equals);
	if (member != step->table ||
		(rel->rd_rel->relkind == RELKIND_RELATION && list_length(step->members) > 1))
		link->member = member;
	plan->watch_links = lappend(plan->watch_links, link);
	table_close(rel, NoLock);
	table_close(target, NoLock);
}

/* The table as one that is watched; added, and locked as a SELECT does, if it is not */
static PlanStep *
watched_table(DeletionPlan *plan, Oid table)
{
	PlanStep   *watched;
	ListCell   *lc;

	foreach(lc, plan->watched)
	{
		watched = lfirst(lc);
		if (watched->table == table)
			return watched;
	}
	table_close(table_open(table, AccessShareLock), NoLock);
	watched = palloc0(sizeof(PlanStep));
	watched->action = SD_KEEP;
	watched->table = table;
	watched->table_name = sd_table_name(table);
	watched->is_watched = true;
	watched->number = list_length(plan->steps) + list_length(plan->watched);
	plan->watched = lappend(plan->watched, watched);
	return watched;
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
