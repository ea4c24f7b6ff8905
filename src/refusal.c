/*-------------------------------------------------------------------------
 *
 * refusal.c
 *	  Refusals: accounts that a run has left alone because of a hold, counted, and told
 *	  by an audit row the first time.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/refusal.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/datum.h"
#include "utils/memutils.h"

#include "run.h"

static bool write_body(void *arg);

/*
 * Count an account that was left alone, and note it if no run has met its hold
 * before; what is needed for the audit row is copied.
 */
void
sd_record_held(Run *run, Account *account)
{
	PlanKey    *key = run->plan->key;
	MemoryContext caller_context;
	Refusal    *refusal;

	run->results.held++;
	if (account->hold->is_refused)
		return;
	caller_context = MemoryContextSwitchTo(run->transaction_context);
	refusal = palloc(sizeof(Refusal));
	refusal->hold = sd_copy_hold(account->hold);
	refusal->key = palloc(sizeof(Datum) * key->ncolumns);
	for (int i = 0; i < key->ncolumns; i++)
		refusal->key[i] = datumCopy(account->key[i], key->columns[i].typbyval,
									key->columns[i].typlen);
	refusal->details = sd_refusal_details(run, account);
	run->refusals = lappend(run->refusals, refusal);
	MemoryContextSwitchTo(caller_context);
}

/*
 * Write an audit row for each of them, and delete the holds that have expired
 * if the run ends, at the end of the transaction: until then, nobody who places
 * or releases a hold has to wait for it.  What was deleted must not be undone
 * if they cannot be written.
 */
void
sd_write_refusals(Run *run)
{
	ErrorData  *error;
	Failure    *failure;
	bool		done;

	if (run->refusals == NIL && run->stop_reason == NULL)
		return;
	error = sd_in_subtransaction(write_body, run, true, &done);
	if (error == NULL)
		return;
	failure = sd_failure_from_error(error, "writing audit rows (deletion_refused) to",
									run->policy->audit_table);
	if (failure->kind == SD_RUN_FAILURE)
		ReThrowError(error);
	if (failure->kind != SD_MOMENT_FAILURE)
		ereport(WARNING,
				(errcode(failure->sqlstate),
				 errmsg("that accounts are on hold cannot be audited: %s",
						failure->message)));
}

static bool
write_body(void *arg)
{
	Run		   *run = arg;
	ErrorData  *error;
	ListCell   *lc;

	foreach(lc, run->refusals)
	{
		Refusal    *refusal = lfirst(lc);

		if (sd_note_refusal(run->policy->schema, run->plan->account->table,
							refusal->hold))
			sd_write_audit_row(run->plan, refusal->key, "deletion_refused",
							   refusal->details, NULL);
	}
	if (run->stop_reason != NULL)
		sd_delete_expired_holds(run->policy->schema, run->plan->account->table);
	if (run->refusals == NIL || !run->audit_can_defer)
		return true;

	/* at COMMIT it would undo the run */
	error = sd_deferred_error(run);
	if (error != NULL)
		ReThrowError(error);
	return true;
}
