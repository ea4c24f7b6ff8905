/*-------------------------------------------------------------------------
 *
 * execute.c
 *	  Execute a plan for the accounts of an attempt, stage by stage, and prove
 *	  that what was to go is gone.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/execute.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "run.h"

/* so often rows are looked for that triggers write while others are deleted */
#define MAX_ROUNDS	8

static bool execute_stage(Attempt *attempt, PlanStage *stage, bool again);
static bool execute_late_rows(Attempt *attempt, PlanStage *stage);
static bool has_rows(Attempt *attempt, PlanStage *stage);
static bool find_rows(Attempt *attempt, PlanLink *link);
static bool leads_to(PlanStage *stage, PlanStage *later);
static bool execute_deletes(Attempt *attempt, PlanStage *stage);
static void execute_counts(Attempt *attempt, PlanStep *step, bool again);
static void counted_row(Attempt *attempt, TupleTableSlot *slot, void *arg);
static void expected_row(Attempt *attempt, TupleTableSlot *slot, void *arg);
static void deleted_row(Attempt *attempt, TupleTableSlot *slot, void *arg);
static void mark_deleted(Attempt *attempt, PlanStep *step,
						 TupleTableSlot *slot, int column);
static bool rows_of_step_are_gone(Attempt *attempt, PlanStep *step);
static void check_no_row_came(Attempt *attempt, PlanStep *step);
pg_noreturn static void throw_changed_rows(PlanStep *step);

/*
 * Execute the plan, stage by stage, counting the rows of each account.  False if
 * rows were kept, or must be: then their accounts are no longer pending.  And if
 * checks must not have been left out, which they are not the next time.
 */
bool
sd_execute_steps(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;
	bool		result = true;
	ListCell   *lc;

	for (int i = 0; i < attempt->naccounts; i++)
		memset(attempt->accounts[i]->rows, 0,
			   sizeof(int64) * list_length(plan->steps));

	foreach(lc, plan->stages)
	{
		PlanStage  *stage = lfirst(lc);

		if (attempt->is_careful && stage->deletes != NIL &&
			!execute_late_rows(attempt, stage))
			result = false;
		if (!execute_stage(attempt, stage, false))
			result = false;
	}
	if (attempt->is_careful && !execute_late_rows(attempt, NULL))
		result = false;
	return result;
}

/* What is done to the rows of a stage, or again to late ones; false as above */
static bool
execute_stage(Attempt *attempt, PlanStage *stage, bool again)
{
	if (stage->deletes != NIL)
		return execute_deletes(attempt, stage);
	execute_counts(attempt, linitial(stage->steps), again);
	return true;
}

/*
 * Before the rows of a stage are deleted: what has come under them since the stages
 * before it goes as it would have gone then.  Others can write nothing there any more
 * once the rows are locked, but triggers of the transaction can.  At the end, without a
 * stage, the same of rows that no foreign key keeps from coming.  False as above.
 */
static bool
execute_late_rows(Attempt *attempt, PlanStage *stage)
{
	List	   *stages = attempt->run->plan->stages;
	int			nstages = stage != NULL ? stage->number : list_length(stages);
	bool		result = true;

	for (int round = 0; round < MAX_ROUNDS; round++)
	{
		bool		found = sd_collect_late_rows(attempt);
		int64		before = attempt->ndeleted;

		for (int i = 0; i < nstages; i++)
		{
			PlanStage  *earlier = list_nth(stages, i);

			if (!list_member_ptr(earlier->steps, attempt->run->plan->account) &&
				(found || leads_to(earlier, stage)) && has_rows(attempt, earlier) &&
				!execute_stage(attempt, earlier, true))
				result = false;
		}
		if (!result || (!found && attempt->ndeleted == before))
			break;
	}
	return result;
}

/*
 * Has a stage any rows?  It is asked before it is executed again, for a DELETE of none
 * would fire statement triggers.
 */
static bool
has_rows(Attempt *attempt, PlanStage *stage)
{
	ListCell   *lc;

	foreach(lc, stage->steps)
	{
		ListCell   *cell;

		foreach(cell, ((PlanStep *) lfirst(lc))->links)
		{
			if (find_rows(attempt, lfirst(cell)))
				return true;
		}
	}
	return false;
}

/* Are there rows that a link leads to rows of the attempt?  Their accounts are "found". */
static bool
find_rows(Attempt *attempt, PlanLink *link)
{
	if (!sd_has_rows(attempt, link))
		return false;
	if (link->find.plan == NULL)
		sd_prepare(&link->find);
	sd_set_doing(attempt, "reading", link->step->table);
	return sd_for_each_row(attempt, &link->find, SPI_OK_SELECT, NULL,
						   sd_found_row, link) > 0;
}

/* Do rows of a stage refer to rows of a later one or, without one, freely to any? */
static bool
leads_to(PlanStage *stage, PlanStage *later)
{
	ListCell   *lc;

	foreach(lc, stage->steps)
	{
		ListCell   *cell;

		foreach(cell, ((PlanStep *) lfirst(lc))->links)
		{
			PlanLink   *link = lfirst(cell);

			if (later != NULL ? list_member_ptr(later->steps, link->key->step) :
				link->is_free)
				return true;
		}
	}
	return false;
}

/*
 * Delete the rows of a stage.  A row that two links lead to goes with the first,
 * and is counted for its account only.
 *
 * Where a trigger or rule could keep a row, those to be deleted are counted
 * before: afterwards it may lead to nobody any more.  (The rows of a circle are
 * known: they were collected.)  False if any was kept, or if checks must not have been
 * left out, which they are not when all is tried again.
 */
static bool
execute_deletes(Attempt *attempt, PlanStage *stage)
{
	PlanStep   *step = llast(stage->steps);
	bool		is_kept = false;
	ListCell   *lc;

	for (int i = 0; i < attempt->naccounts; i++)
		attempt->accounts[i]->kept = 0;
	foreach(lc, stage->deletes)
	{
		PlanDelete *delete = lfirst(lc);
		PlanLink   *link = linitial(((DeletePart *) linitial(delete->parts))->links);

		if (!stage->is_circle)
		{
			if (!sd_has_rows(attempt, link))
				continue;
			sd_set_doing(attempt, "reading", step->table);
			if (step->can_keep_rows)
				sd_for_each_row(attempt, &link->find, SPI_OK_SELECT, NULL,
								expected_row, link);
		}
		sd_set_doing(attempt, "deleting from", step->table);
		sd_for_each_row(attempt, &delete->statement,
						list_length(delete->parts) > 1 ?
						SPI_OK_SELECT : SPI_OK_DELETE_RETURNING,
						NULL, deleted_row, delete);
		if (delete->statement.is_elided &&
			!sd_were_checks_proved(attempt->run->plan, &delete->statement))
			return false;
		attempt->is_elided |= delete->statement.is_elided;
	}
	for (int i = 0; i < attempt->naccounts; i++)
		is_kept = is_kept || attempt->accounts[i]->kept > 0;
	if (stage->is_circle || !is_kept)
		return true;

	/* those of another account by now are not kept, but were changed */
	if (!rows_of_step_are_gone(attempt, step))
		return false;
	sd_set_doing(attempt, "deleting from", step->table);
	throw_changed_rows(step);
}

/*
 * Count the rows of a step that stay; set them to null if the server does not
 * do that by itself.  When that is done again for late rows, only these are left: those
 * that the server sets to null, or that are kept, were counted.
 */
static void
execute_counts(Attempt *attempt, PlanStep *step, bool again)
{
	ListCell   *lc;

	foreach(lc, step->links)
	{
		PlanLink   *link = lfirst(lc);
		uint64		nrows;

		if (!sd_has_rows(attempt, link) ||
			(again && (step->action != SD_SET_NULL || OidIsValid(link->constraint))))
			continue;
		sd_set_doing(attempt, "reading", step->table);
		nrows = sd_for_each_row(attempt, &link->find, SPI_OK_SELECT, NULL,
								counted_row, link);
		if (nrows == 0 || step->action != SD_SET_NULL ||
			OidIsValid(link->constraint))
			continue;
		sd_set_doing(attempt, "updating", step->table);
		if (sd_execute(&link->set_null, SPI_OK_UPDATE,
					   sd_bind(attempt->run, attempt, &link->set_null, NULL, NULL),
					   NULL, NULL) != nrows)
			throw_changed_rows(step);
	}
}

/* A row of a step that leads to an account by a link */
static void
counted_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	PlanLink   *link = arg;

	sd_must_be_there(sd_row_of_link(attempt, link, slot, 1))->rows[link->step->number]++;
}

/* A row is to be deleted for the account to which a link leads */
static void
expected_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	sd_must_be_there(sd_row_of_link(attempt, arg, slot, 1))->account->kept++;
}

/* A row that was deleted goes with the account to which its first link leads */
static void
deleted_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	PlanDelete *delete = arg;
	DeletePart *part = linitial(delete->parts);
	Row		   *row = NULL;
	int			column;
	bool		is_null;
	ListCell   *lc;

	if (list_length(delete->parts) > 1)
		part = list_nth(delete->parts,
						DatumGetInt32(slot_getattr(slot, 1, &is_null)));

	column = part->first_column;
	foreach(lc, part->links)
	{
		PlanLink   *link = lfirst(lc);

		if (row == NULL)
			row = sd_row_of_link(attempt, link, slot, column);
		column += link->ncolumns;
	}
	sd_must_be_there(row)->rows[part->step->number]++;
	attempt->ndeleted++;
	if (part->step->can_keep_rows)
		row->account->kept--;

	if (part->step != attempt->run->plan->account)
		sd_note_strangers(attempt, part, row, slot, part->first_column);
	foreach(lc, part->others)
		column += ((PlanLink *) lfirst(lc))->ncolumns;

	if (part->step != attempt->run->plan->account &&
		attempt->sets[part->step->number] != NULL)
		mark_deleted(attempt, part->step, slot, column);
}

/*
 * A row of a step was deleted that others may have referred to: it must be one
 * that was collected, or else nothing is known of those.
 */
static void
mark_deleted(Attempt *attempt, PlanStep *step, TupleTableSlot *slot, int column)
{
	Row		   *row = sd_make_row(step, NULL);

	sd_fill_row(step, row, slot, column);
	if (!sd_mark_deleted(attempt->sets[step->number], row))
		throw_changed_rows(step);
}

/* Was every account deleted that was claimed?  If not, those are FAILED. */
bool
sd_accounts_are_gone(Attempt *attempt)
{
	DeletionPlan *plan = attempt->run->plan;

	for (int i = 0; i < attempt->naccounts; i++)
	{
		Account    *account = attempt->accounts[i];

		account->found = account->rows[plan->account->number] != 1;
	}
	return !sd_fail_found(attempt, InvalidOid, plan->policy->account_table);
}

/*
 * Where a trigger or a rule could have kept a row of a step, is none left?  If
 * there is, its accounts are FAILED.
 */
bool
sd_rows_are_gone(Attempt *attempt)
{
	bool		result = true;
	ListCell   *lc;

	foreach(lc, attempt->run->plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step->can_keep_rows && !rows_of_step_are_gone(attempt, step))
			result = false;
	}
	return result;
}

/* The same of one step */
static bool
rows_of_step_are_gone(Attempt *attempt, PlanStep *step)
{
	bool		result = true;
	ListCell   *lc;

	foreach(lc, step->links)
	{
		if (find_rows(attempt, lfirst(lc)) &&
			sd_fail_found(attempt, InvalidOid, step->table))
			result = false;
	}
	return result;
}

/*
 * Rows that no foreign key keeps from coming, or from being given to another account
 * while a DELETE waits for them, must not be there.  Throws an error if there are any.
 * What triggers of the audit table write comes after that.
 */
void
sd_check_no_row_came(Attempt *attempt)
{
	ListCell   *lc;

	foreach(lc, attempt->run->plan->steps)
		check_no_row_came(attempt, lfirst(lc));
}

/* The same of a step: no rows may lead freely to rows of the attempt */
static void
check_no_row_came(Attempt *attempt, PlanStep *step)
{
	ListCell   *lc;

	/* rows that may have been kept are looked for besides */
	if ((step->action != SD_DELETE && step->action != SD_SET_NULL) ||
		step->can_keep_rows)
		return;
	foreach(lc, step->links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->is_free && find_rows(attempt, link))
			throw_changed_rows(step);
	}
}

/*
 * Were all rows deleted whose children were?  One that was given to somebody
 * else in the meantime was not.
 */
void
sd_check_collected_are_gone(Attempt *attempt)
{
	ListCell   *lc;

	foreach(lc, attempt->run->plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		RowSet	   *set = attempt->sets[step->number];

		if (set == NULL || step == attempt->run->plan->account)
			continue;
		sd_set_doing(attempt, "deleting from", step->table);
		if (!sd_all_deleted(set))
			throw_changed_rows(step);
	}
}

/* The rows of a step are not those any more that were read before */
static void
throw_changed_rows(PlanStep *step)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("rows of table \"%s\" were changed meanwhile",
					step->table_name)));
}

/*
 * Fail the accounts that the last query found, because a foreign key stops them
 * or, without one, because rows of the table were kept.  False if it found none.
 */
bool
sd_fail_found(Attempt *attempt, Oid constraint, Oid table)
{
	MemoryContext caller_context;
	Failure    *failure = NULL;

	caller_context = MemoryContextSwitchTo(attempt->run->batch_context);
	for (int i = 0; i < attempt->naccounts; i++)
	{
		Account    *account = attempt->accounts[i];

		if (!account->found)
			continue;
		if (failure == NULL)
			failure = OidIsValid(constraint) ?
				sd_blocked_failure(constraint, table) :
				sd_kept_rows_failure(table);
		account->state = SD_FAILED;
		account->failure = failure;
		account->is_blocked = OidIsValid(constraint);
	}
	MemoryContextSwitchTo(caller_context);
	return failure != NULL;
}
