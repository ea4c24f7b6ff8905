/*-------------------------------------------------------------------------
 *
 * call.c
 *	  One call of either form: the policies it names, each in its turn.
 *
 * process_scheduled_deletions() does all of it in the caller's transaction, and is
 * here; run_scheduled_deletions() is in procedure.c.  A dry run is the same in a
 * subtransaction that is rolled back.  Of several policies each has a
 * subtransaction of its own, so that one that cannot run leaves nothing behind
 * and does not stop the others.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/call.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/timestamp.h"

#include "run.h"

/* A run, and the policy that it follows */
typedef struct Turn
{
	Run		   *run;
	DeletionPolicy *policy;
} Turn;

static void call_in_one_transaction(Call *call);
static bool dry_body(void *arg);
static void call_body(Call *call);
static ErrorData *run_in_turn(Turn *turn);
static bool run_body(void *arg);

/*
 * Do what the fields under "Arguments" say, and fill in the results.  Expects a
 * connection to SPI, in whose memory context the results are; one that is not
 * atomic if the call commits.
 */
void
sd_call(Call *call)
{
	static bool running = false;

	sd_check_session(call->commits ? "run_scheduled_deletions()" :
					 "process_scheduled_deletions()");
	if (running)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("process_scheduled_deletions() cannot be called by a trigger of its own run")));

	running = true;
	PG_TRY();
	{
		if (call->commits)
			sd_call_procedure(call);
		else if (call->dry_run)
		{
			bool		done;
			ErrorData  *error = sd_in_subtransaction(dry_body, call, false,
													 &done);

			if (error != NULL)
				ReThrowError(error);
		}
		else
			call_in_one_transaction(call);
	}
	PG_CATCH();
	{
		running = false;
		sd_log_error(call);
		PG_RE_THROW();
	}
	PG_END_TRY();
	running = false;
}

/* The whole of it; no wait for a lock is longer than the setting says */
static void
call_in_one_transaction(Call *call)
{
	int			nestlevel = NewGUCNestLevel();

	/* after an error, the end of the (sub)transaction restores it */
	sd_set_lock_timeout(sd_lock_timeout);
	call_body(call);
	AtEOXact_GUC(true, nestlevel);
}

/* The same, in a subtransaction that is undone; always true */
static bool
dry_body(void *arg)
{
	call_in_one_transaction(arg);
	return true;
}

/* The call itself */
static void
call_body(Call *call)
{
	ErrorData  *first_error = NULL;
	int			nfailed = 0;
	List	   *policies;
	ListCell   *lc;

	policies = sd_load_policies(call->schema, call->policy_name, false, true);
	sd_begin_call(call);
	if (!call->dry_run)
		sd_tell_interrupted(call->schema);

	foreach(lc, policies)
	{
		Turn		turn = {.policy = lfirst(lc)};
		ErrorData  *error = NULL;

		turn.run = sd_add_run(call, turn.policy->name);
		if (list_length(policies) == 1)
			sd_run(turn.run, turn.policy);
		else
			error = run_in_turn(&turn);

		turn.run->completed_at = GetCurrentTimestamp();
		sd_log_end(turn.run);
		if (!call->dry_run)
			sd_write_run(call, turn.run);
		if (error != NULL)
		{
			nfailed++;
			if (first_error == NULL)
				first_error = error;
		}
	}

	if (nfailed == list_length(policies))
		ReThrowError(first_error);
	if (!call->dry_run)
		sd_prune_ledger(call->schema);
	call->completed_at = GetCurrentTimestamp();
}

/*
 * Run a policy that is one of several.  Returns the error if it could not, of
 * which run->fatal_failure tells; one that concerns the call is thrown on.
 */
static ErrorData *
run_in_turn(Turn *turn)
{
	Run		   *run = turn->run;
	Run			before = *run;
	bool		done;
	ErrorData  *error = sd_in_subtransaction(run_body, turn, true, &done);

	if (error == NULL)
		return NULL;
	*run = before;
	run->stop_reason = "failed";
	run->fatal_failure = sd_fatal_failure(error);
	if (run->fatal_failure->kind == SD_RUN_FAILURE)
		ReThrowError(error);
	sd_tell_fatal_failure(run);
	return error;
}

static bool
run_body(void *arg)
{
	Turn	   *turn = arg;

	sd_run(turn->run, turn->policy);
	return true;
}
