/*-------------------------------------------------------------------------
 *
 * prove.c
 *	  Prove that foreign-key checks of the server would find nothing, so that a run
 *	  can leave them out; see hook.c.
 *
 * When the accounts' rows are deleted, the server asks for each row, and each
 * foreign key that refers to it, whether anything does so still.  The steps have
 * just deleted all of that; so the question visits the dead rows once more, in
 * the order of the accounts, which is what costs most of a run.
 *
 * A check is left out if no row can have come between its step and it:
 *
 * - The accounts are locked FOR UPDATE before each step takes its snapshot, and
 *	 the transaction is READ COMMITTED: whoever inserts a row that refers to one,
 *	 or lets one do so, has committed before, and the step sees it, or waits until
 *	 the account is gone and fails.  That asks for the key's own checks on the side
 *	 of those rows, and that nothing writes there without them.
 * - Until then, the transaction itself runs nobody's code, and no action of a
 *	 foreign key that could let a row refer to an account: see is_plain_plan().
 * - The step deletes just the rows that the check would look for, or more: see
 *	 is_covered().
 *
 * All of it is read from the catalog after ROW EXCLUSIVE has been taken on the
 * tables, which keeps others from changing triggers, rules and keys until the
 * transaction ends.  But not from attaching a partition that has some, nor the
 * run's own transaction: it runs code of users once the accounts of a batch are
 * gone.  So all is proved again after the accounts were deleted.
 *
 * It is only for the statement that deletes the accounts: rows of a step are not
 * locked, so others can still come to refer to those.
 *
 * What a function does is believed as its owner declares it: that one does not
 * write anything that is not volatile.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/prove.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_subscription_rel.h"
#include "catalog/pg_trigger.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "scheduled_deletion.h"

static List *prove(DeletionPlan *plan, bool is_plain);
static bool any_can_fail(DeletionPlan *plan);
static bool is_plain_plan(DeletionPlan *plan);
static bool is_plain_step(DeletionPlan *plan, PlanStep *step);
static bool is_set_plainly(PlanLink *link);
static bool is_plain_table(DeletionPlan *plan, Oid table, bool is_updated);
static bool runs_code(Relation member, Trigger *trigger, bool is_updated);
static bool has_volatile_check(Relation rel);
static List *prove_checks(DeletionPlan *plan, Relation member);
static bool is_covered(DeletionPlan *plan, HeapTuple tuple);
static bool runs_code_with_account(DeletionPlan *plan);
static bool deletes_rows_of(PlanLink *link, HeapTuple tuple);
static bool is_same_comparison(PlanLink *link, int column, Oid table,
							   AttrNumber referencing, AttrNumber referenced,
							   Oid equals);
static bool is_always_checked(Oid table, Oid constraint);
static bool is_written_unchecked(Oid table, Oid constraint);
static bool is_subscribed(Oid table);

/*
 * Find out whether accounts can fail, and find the checks that can be left out
 * when they are deleted: the constraints of their triggers, on each partition.
 * The steps of the plan are there, in order.
 */
void
sd_prove_checks(DeletionPlan *plan)
{
	bool		is_plain = is_plain_plan(plan);

	plan->runs_code = !is_plain;
	plan->can_fail = !is_plain || any_can_fail(plan);
	plan->proved_checks = prove(plan, is_plain);
}

/*
 * Was it right to leave out the checks of a statement that was executed, as the
 * catalog is now?  If not, none is left out from here on.
 */
bool
sd_were_checks_proved(DeletionPlan *plan, PlanStatement *statement)
{
	if (list_difference_oid(statement->proved_checks,
							prove(plan, is_plain_plan(plan))) == NIL)
		return true;
	statement->proved_checks = NIL;
	statement->is_elided = false;
	return false;
}

/* The checks that can be left out as the catalog is now; none unless "is_plain" */
static List *
prove(DeletionPlan *plan, bool is_plain)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (!sd_elide_fk_checks || IsolationUsesXactSnapshot() || !is_plain ||
		sd_has_unchecked_writers())
		return NIL;
	foreach(lc, plan->account_tables)
	{
		Relation	member = table_open(lfirst_oid(lc), NoLock);

		result = list_concat(result, prove_checks(plan, member));
		table_close(member, NoLock);
	}
	return result;
}

/*
 * Is there a key whose action can fail, or of which no query tells whom it
 * stops?
 */
static bool
any_can_fail(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->step->action == SD_BLOCK ? !link->is_asked :
			link->step->action != SD_DELETE && link->step->action != SD_KEEP)
			return true;
	}
	return false;
}

/*
 * Does the plan run nobody's code before the accounts are gone, and take no
 * action of a foreign key that could let a row refer to an account?
 */
static bool
is_plain_plan(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->stages)
	{
		PlanStage  *stage = lfirst(lc);

		if (list_length(stage->steps) > 1 &&
			list_member_ptr(stage->steps, plan->account))
			return false;
	}
	foreach(lc, plan->steps)
	{
		if (!is_plain_step(plan, lfirst(lc)))
			return false;
	}
	return true;
}

/*
 * The same of a step.  What keys of the accounts do to their rows, the server
 * does when the accounts are gone; but if they lead from rows that go before
 * them, it does so before.
 */
static bool
is_plain_step(DeletionPlan *plan, PlanStep *step)
{
	bool		is_account = list_member_oid(plan->account_tables, step->table);
	bool		is_updated = step->action != SD_DELETE;
	bool		comes_before = step->action == SD_DELETE ||
		(step->action == SD_SET_NULL && step->definition != NULL);
	ListCell   *lc;

	foreach(lc, step->links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->key->step == plan->account)
			continue;
		if (step->action == SD_BLOCK ? link->cascades : is_account)
			return false;
		comes_before = comes_before || step->action != SD_BLOCK;
	}
	if (!comes_before)
		return true;
	foreach(lc, step->links)
	{
		if (is_updated && !is_set_plainly(lfirst(lc)))
			return false;
	}
	return is_plain_table(plan, step->table, is_updated);
}

/*
 * Have the columns of a link no domains whose constraints call functions of
 * users?
 */
static bool
is_set_plainly(PlanLink *link)
{
	for (int i = 0; i < link->ncolumns; i++)
	{
		Oid			table = link->step->table;

		if (sd_domain_has_constraints(get_atttype(table, get_attnum(table, link->names[i]))))
			return false;
	}
	return true;
}

/*
 * Have a table, its partitions and children no triggers or rules of users for
 * what is done to them, nor keys whose actions write what nobody said?  And
 * does it hide no rows from the caller?
 */
static bool
is_plain_table(DeletionPlan *plan, Oid table, bool is_updated)
{
	ListCell   *lc;

	if (check_enable_rls(table, InvalidOid, true) == RLS_ENABLED)
		return false;
	foreach(lc, find_all_inheritors(table, plan->lockmode, NULL))
	{
		Relation	member = table_open(lfirst_oid(lc), NoLock);
		bool		is_plain = member->rd_rules == NULL &&
			!(is_updated && has_volatile_check(member));
		ListCell   *cell;

		foreach(cell, sd_triggers(member))
		{
			Trigger    *trigger = lfirst(cell);

			is_plain = is_plain &&
				(!sd_fires(trigger) ||
				 sd_is_guard(plan->policy->schema, trigger) ||
				 !runs_code(member, trigger, is_updated));
		}
		table_close(member, NoLock);
		if (!is_plain)
			return false;
	}
	return true;
}

/*
 * Does a trigger run code of users, or write what the plan does not know, when
 * rows are deleted, or updated?  What is updated may move to another partition.
 * One that a user has created can have a condition, whatever function it calls.
 */
static bool
runs_code(Relation member, Trigger *trigger, bool is_updated)
{
	if (!trigger->tgisinternal)
		return is_updated ?
			TRIGGER_FOR_UPDATE(trigger->tgtype) ||
			(member->rd_rel->relispartition && !TRIGGER_FOR_TRUNCATE(trigger->tgtype)) :
			TRIGGER_FOR_DELETE(trigger->tgtype);
	switch (trigger->tgfoid)
	{
		case F_RI_FKEY_SETDEFAULT_DEL:
			return true;
		case F_RI_FKEY_CASCADE_DEL:
		case F_RI_FKEY_SETNULL_DEL:
			return !sd_is_known_by_whole_key(trigger);
		case F_RI_FKEY_CASCADE_UPD:
		case F_RI_FKEY_SETNULL_UPD:
		case F_RI_FKEY_SETDEFAULT_UPD:
			return is_updated;
		default:
			return false;
	}
}

/* Has a table a check constraint that calls a function which may do anything? */
static bool
has_volatile_check(Relation rel)
{
	TupleConstr *constr = rel->rd_att->constr;

	for (int i = 0; constr != NULL && i < constr->num_check; i++)
	{
		if (contain_volatile_functions(stringToNode(constr->check[i].ccbin)))
			return true;
	}
	return false;
}

/*
 * The constraints of triggers of an account table, or a partition, that can be
 * left out
 */
static List *
prove_checks(DeletionPlan *plan, Relation member)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, sd_triggers(member))
	{
		Trigger    *trigger = lfirst(lc);

		if (sd_checks_deletion(trigger))
		{
			HeapTuple	key = sd_get_constraint(sd_whole_key(trigger->tgconstraint));

			if (is_covered(plan, key))
				result = lappend_oid(result, trigger->tgconstraint);
			ReleaseSysCache(key);
		}
	}
	return result;
}

/*
 * Do steps delete all rows that refer to accounts by a foreign key, and does
 * nobody write such rows unchecked?  A key to a single partition has values
 * that those of another partition may equal.
 */
static bool
is_covered(DeletionPlan *plan, HeapTuple tuple)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	ListCell   *lc;

	if (form->confrelid != plan->account->table || sd_is_period_key(form) ||
		(form->condeferrable && runs_code_with_account(plan)))
		return false;
	foreach(lc, plan->links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->key->step == plan->account &&
			link->step->position < plan->account->position &&
			deletes_rows_of(link, tuple))
			return is_always_checked(form->conrelid, form->oid);
	}
	return false;
}

/*
 * Does an action of a foreign key run code of users when the accounts go?  That
 * can write a row that refers to one, if the key is deferred, and the key's own
 * action takes it away.
 */
static bool
runs_code_with_account(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->key->step == plan->account && OidIsValid(link->constraint) &&
			link->step->action != SD_DELETE && link->step->action != SD_BLOCK &&
			!is_plain_table(plan, link->step->table, true))
			return true;
	}
	return false;
}

/*
 * Does a link lead to all accounts, and delete all rows that a foreign key
 * leads there, if not more, by the key's own columns and comparisons?
 */
static bool
deletes_rows_of(PlanLink *link, HeapTuple tuple)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	int			nkeys;
	AttrNumber	conkey[INDEX_MAX_KEYS];
	AttrNumber	confkey[INDEX_MAX_KEYS];
	Oid			equals[INDEX_MAX_KEYS];

	if (link->step->action != SD_DELETE || OidIsValid(link->key->member) ||
		(link->definition != NULL && link->definition->matches != NIL) ||
		(OidIsValid(link->member) ? link->member != form->conrelid :
		 link->step->table != sd_root_of(form->conrelid)))
		return false;
	DeconstructFkConstraintRow(tuple, &nkeys, conkey, confkey, equals,
							   NULL, NULL, NULL, NULL);
	if (nkeys != link->ncolumns)
		return false;
	for (int i = 0; i < nkeys; i++)
	{
		if (!is_same_comparison(link, i, form->conrelid, conkey[i], confkey[i],
								get_commutator(equals[i])))
			return false;
	}
	return true;
}

/*
 * Does a link compare a column with the account's as a foreign key does?  The
 * column's value must be its own: no statement may compute it from others.
 */
static bool
is_same_comparison(PlanLink *link, int column, Oid table,
				   AttrNumber referencing, AttrNumber referenced, Oid equals)
{
	Oid			account_table = link->key->step->table;
	KeyColumn  *key = &link->key->columns[column];
	Oid			type;
	Oid			collation;
	Oid			key_type;
	Oid			key_collation;
	int32		typmod;

	get_atttypetypmodcoll(table, referencing, &type, &typmod, &collation);
	get_atttypetypmodcoll(account_table, referenced, &key_type, &typmod,
						  &key_collation);
	return strcmp(link->names[column], get_attname(table, referencing, false)) == 0 &&
		strcmp(key->name, get_attname(account_table, referenced, false)) == 0 &&
		link->equals[column] == equals &&
		IsBinaryCoercible(type, link->types[column]) &&
		IsBinaryCoercible(key_type, key->type) &&
		(collation == key_collation ||
		 (OidIsValid(collation) && OidIsValid(key_collation) &&
		  get_collation_isdeterministic(collation) &&
		  get_collation_isdeterministic(key_collation))) &&
		get_attgenerated(table, referencing) == '\0';
}

/*
 * Is a foreign key checked whenever a row of that table, or of a partition, is
 * written?  Not if its triggers there are disabled, nor by what replicates
 * rows.
 */
static bool
is_always_checked(Oid table, Oid constraint)
{
	List	   *members = get_rel_relkind(table) == RELKIND_PARTITIONED_TABLE ?
		find_all_inheritors(table, NoLock, NULL) : list_make1_oid(table);
	ListCell   *lc;

	foreach(lc, members)
	{
		if (is_written_unchecked(lfirst_oid(lc), constraint))
			return false;
	}
	return true;
}

/* The same of one table: is there a way to write into it that the key does not see? */
static bool
is_written_unchecked(Oid table, Oid constraint)
{
	Relation	rel = table_open(table, NoLock);
	bool		result = is_subscribed(table) ||
		(rel->rd_rel->relkind == RELKIND_RELATION &&
		 !(sd_has_trigger(rel, constraint, F_RI_FKEY_CHECK_INS) &&
		   sd_has_trigger(rel, constraint, F_RI_FKEY_CHECK_UPD)));

	table_close(rel, NoLock);
	return result;
}

/* Does a subscription write to a table? */
static bool
is_subscribed(Oid table)
{
	Relation	catalog = table_open(SubscriptionRelRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool		result;

	ScanKeyInit(&key, Anum_pg_subscription_rel_srrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(table));
	scan = systable_beginscan(catalog, SubscriptionRelSrrelidSrsubidIndexId, true,
							  NULL, 1, &key);
	result = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return result;
}
