/*-------------------------------------------------------------------------
 *
 * call.c
 *	  One call of process_scheduled_deletions(): the policies it names, each in
 *	  its turn.
 *
 * All of it happens in the caller's transaction.  A dry run is the same in a
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

#include "commands/sequence.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run.h"

static bool call_body(void *arg);
static Run *make_run(Call *call, DeletionPolicy *policy);
static ErrorData *run_in_turn(Run *run);
static bool run_body(void *arg);
static int64 remaining_accounts(Call *call);

/*
 * Do what the fields under "Arguments" say, and fill in the results.  Expects a
 * connection to SPI, in whose memory context the results are.
 */
void
sd_call(Call *call)
{
	static bool running = false;

	sd_check_session();
	if (running)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("process_scheduled_deletions() cannot be called by a trigger of its own run")));

	running = true;
	PG_TRY();
	{
		if (call->dry_run)
		{
			bool		done;
			ErrorData  *error = sd_in_subtransaction(call_body, call, false,
													 &done);

			if (error != NULL)
				ReThrowError(error);
		}
		else
			(void) call_body(call);
	}
	PG_FINALLY();
	{
		running = false;
	}
	PG_END_TRY();
}

/* The call itself; always true */
static bool
call_body(void *arg)
{
	Call	   *call = arg;
	ErrorData  *first_error = NULL;
	int			nfailed = 0;
	List	   *policies;
	ListCell   *lc;

	call->started_at = GetCurrentTimestamp();
	policies = sd_load_policies(call->schema, call->policy_name, false, true);
	call->run_id = nextval_internal(get_relname_relid("deletion_run_id",
													  call->schema), false);

	foreach(lc, policies)
	{
		Run		   *run = make_run(call, lfirst(lc));
		ErrorData  *error = NULL;

		call->runs = lappend(call->runs, run);
		if (list_length(policies) == 1)
			sd_run(run);
		else
			error = run_in_turn(run);

		run->completed_at = GetCurrentTimestamp();
		if (error != NULL)
		{
			nfailed++;
			if (first_error == NULL)
				first_error = error;
		}
	}

	if (nfailed == list_length(policies))
		ReThrowError(first_error);
	call->completed_at = GetCurrentTimestamp();
	return true;
}

static Run *
make_run(Call *call, DeletionPolicy *policy)
{
	Run		   *run = palloc0(sizeof(Run));

	run->policy = policy;
	run->run_id = call->run_id;
	run->started_at = call->started_at;
	run->is_limited = call->max_accounts > 0;
	run->max_accounts = remaining_accounts(call);
	run->dry_run = call->dry_run;
	run->release_brake = call->release_brake;
	return run;
}

/*
 * Run a policy that is one of several.  Returns the error if it could not, of
 * which run->fatal_failure tells; one that concerns the call is thrown on.
 */
static ErrorData *
run_in_turn(Run *run)
{
	bool		done;
	ErrorData  *error = sd_in_subtransaction(run_body, run, true, &done);

	if (error == NULL)
		return NULL;
	run->fatal_failure = sd_fatal_failure(error);
	if (run->fatal_failure->kind == SD_RUN_FAILURE)
		ReThrowError(error);
	ereport(WARNING,
			(errcode(run->fatal_failure->sqlstate),
			 errmsg("deletion policy \"%s\" cannot run: %s",
					run->policy->name, run->fatal_failure->message),
			 run->fatal_failure->hint != NULL ?
			 errhint("%s", run->fatal_failure->hint) : 0));
	return error;
}

static bool
run_body(void *arg)
{
	sd_run(arg);
	return true;
}

/* How many accounts of the call's limit are left to the next policy */
static int64
remaining_accounts(Call *call)
{
	int64		remaining = call->max_accounts;
	ListCell   *lc;

	foreach(lc, call->runs)
	{
		Run		   *run = lfirst(lc);

		if (run->fatal_failure == NULL)
			remaining -= run->deleted;
	}
	return remaining;
}
