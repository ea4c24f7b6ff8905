/*-------------------------------------------------------------------------
 *
 * turn.c
 *	  The turn of a policy in a call: what it has of the call's arguments, and that it
 *	  could not run.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/turn.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "run.h"

static int64 remaining_accounts(Call *call);

/* Add the run of a policy to a call, in the current memory context */
Run *
sd_add_run(Call *call, const char *policy)
{
	Run		   *run = palloc0(sizeof(Run));

	run->schema = call->schema;
	run->policy_name = pstrdup(policy);
	run->run_id = call->run_id;
	run->started_at = call->started_at;
	run->began = call->began;
	run->is_limited = call->max_accounts > 0;
	run->max_accounts = remaining_accounts(call);
	run->dry_run = call->dry_run;
	run->release_brake = call->release_brake;
	run->commits = call->commits;
	run->batch_size = call->batch_size;
	run->max_runtime = call->max_runtime;
	run->due = run->ahead = SD_UNKNOWN;
	run->pace.size = call->commits ? SD_FIRST_COMMITTED_BATCH_SIZE :
		SD_FIRST_BATCH_SIZE;
	run->pace.target = sd_batch_duration * (int64) 1000;
	run->told = call->began;
	call->runs = lappend(call->runs, run);
	sd_log_start(run);
	return run;
}

/* How many accounts of the call's limit are left to the next policy */
static int64
remaining_accounts(Call *call)
{
	int64		remaining = call->max_accounts;
	ListCell   *lc;

	foreach(lc, call->runs)
		remaining -= ((Run *) lfirst(lc))->results.deleted;
	return remaining;
}

/* Tell that a policy could not run, where the others go on */
void
sd_tell_fatal_failure(Run *run)
{
	Failure    *failure = run->fatal_failure;

	ereport(WARNING,
			(errcode(failure->sqlstate),
			 errmsg("deletion policy \"%s\" cannot run: %s",
					run->policy_name, failure->message),
			 failure->hint != NULL ? errhint("%s", failure->hint) : 0));
}
