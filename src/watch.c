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

/* A foreign key of a table, or of one of its partitions, from which a plan deletes */
typedef struct OtherKey
{
	PlanStep   *step;
	Oid			member;
	ForeignKeyCacheInfo *fk;
	Oid			target;			/* as a whole, if that is partitioned */
} OtherKey;

static List *other_keys(PlanStep *step, Oid member, List *deleted);
static void watch_key(DeletionPlan *plan, OtherKey *key);
static PlanStep *watched_table(DeletionPlan *plan, Oid table);
static bool takes_rows_along(Oid constraint);

/*
 * Find the keys by which rows of a plan belong to accounts on hold of other tables than
 * those it deletes from.  Its steps are there; what is found is not executed.  Throws an
 * error if it is not known whether accounts of such a table are on hold.
 */
void
sd_watch_other_accounts(DeletionPlan *plan, List *deleted)
{
	List	   *keys = NIL;		/* OtherKey * */
	List	   *targets = NIL;	/* Oid */
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		if (step->action != SD_DELETE || step == plan->account)
			continue;
		foreach(cell, step->members)
			keys = list_concat(keys, other_keys(step, lfirst_oid(cell), deleted));
	}
	foreach(lc, keys)
		targets = list_append_unique_oid(targets, ((OtherKey *) lfirst(lc))->target);
	sd_refuse_lost_holds(plan->policy->schema, targets);
	foreach(lc, keys)
	{
		OtherKey   *key = lfirst(lc);

		if (list_member_oid(plan->hold_tables, key->target))
			watch_key(plan, key);
	}
}

/* How many tables a plan is about: those of its steps, and those that are watched */
int
sd_count_tables(DeletionPlan *plan)
{
	return list_length(plan->steps) + list_length(plan->watched);
}

/*
 * The tables of which accounts are on hold, each found by an index after the one
 * before, however many holds there are.
 */
List *
sd_tables_with_holds(Oid schema)
{
	const char *holds = sd_own_table(schema, "deletion_hold");

	(void) sd_query_latest_as_owner(schema,
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
	return sd_oids_of_rows();
}

/*
 * The foreign keys of a table, or a partition, that do not lead to what is deleted:
 * OtherKey *
 */
static List *
other_keys(PlanStep *step, Oid member, List *deleted)
{
	Relation	rel = table_open(member, NoLock);
	List	   *fks = sd_foreign_keys(rel);
	List	   *keys = NIL;
	ListCell   *lc;

	table_close(rel, NoLock);
	foreach(lc, fks)
	{
		ForeignKeyCacheInfo *fk = lfirst(lc);
		OtherKey   *key;

		/* the key of the whole table speaks for those of its partitions */
		if (list_member_oid(deleted, sd_root_of(fk->confrelid)) ||
			sd_whole_key(fk->conoid) != fk->conoid || !takes_rows_along(fk->conoid))
			continue;
		key = palloc(sizeof(OtherKey));
		key->step = step;
		key->member = member;
		key->fk = fk;
		key->target = sd_root_of(fk->confrelid);
		keys = lappend(keys, key);
	}
	return keys;
}

/* Watch by a foreign key, which leads to accounts of which some are on hold */
static void
watch_key(DeletionPlan *plan, OtherKey *key)
{
	PlanStep   *step = key->step;
	ForeignKeyCacheInfo *fk = key->fk;
	PlanStep   *watched = watched_table(plan, key->target);
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
	if (key->member != step->table ||
		(rel->rd_rel->relkind == RELKIND_RELATION && list_length(step->members) > 1))
		link->member = key->member;
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
	watched->number = sd_count_tables(plan);
	plan->watched = lappend(plan->watched, watched);
	return watched;
}

/* Does a foreign key not just set its columns to null, or their default? */
static bool
takes_rows_along(Oid constraint)
{
	HeapTuple	tuple = sd_get_constraint(constraint);
	char		action = ((Form_pg_constraint) GETSTRUCT(tuple))->confdeltype;

	ReleaseSysCache(tuple);
	return action != FKCONSTR_ACTION_SETNULL && action != FKCONSTR_ACTION_SETDEFAULT;
}
