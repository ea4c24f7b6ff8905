/*-------------------------------------------------------------------------
 *
 * procedure.c
 *	  run_scheduled_deletions(): each batch has a transaction of its own.
 *
 * What a transaction does is in a subtransaction, so that whatever error ends
 * it, a cancel included, can be written into the ledger and committed.  Then
 * the run is as it was before that transaction, and tries it again, goes on
 * with the next policy, or throws the error, as whom it concerns says.
 *
 * Between two transactions nothing is locked but the number of the run, by which
 * others see that it is at work.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/procedure.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run.h"

/* so often a transaction that met a lock timeout or a deadlock is tried in a row */
#define MAX_TRIES		10

/* the pause before the second try, in microseconds; it doubles each time */
#define FIRST_PAUSE		(100 * 1000)

/* how long to wait for replication before it is looked at again */
#define LAG_PAUSE		(500 * 1000)

/* in a pause, so often it is looked whether the policy is still enabled ... */
#define PIECE_OF_PAUSE	(5 * USECS_PER_SEC)

/* ... and while it waits, how far others are is written so often into the ledger */
#define WAIT_TOLD		(10 * USECS_PER_SEC)

/* What a transaction is about */
typedef struct Turn
{
	Call	   *call;
	Run		   *run;
	int64		pause;			/* before it */
	int64		began;			/* after that, by sd_clock() */
	int64		written;		/* when the ledger was last told that it waits;
								 * 0: not since it began to */
	bool		is_committing;	/* it has done what it is about */
	bool		is_first;		/* it only looks whether the run can start */
	MemoryContext context;
} Turn;

static void run_policies(Call *call, List *policies);
static void commit_quietly(Call *call);
static ErrorData *run_policy(Call *call, Run *run);
static void go_on(Turn *turn, Run *before);
static ErrorData *in_transaction(Turn *turn);
static bool transaction_body(void *arg);
static bool is_resting(Turn *turn);
static void pause_untimed(int64 time);
static void do_batch(Turn *turn);
static void write_run(Turn *turn);
static ErrorData *commit(Call *call);
static void write_failed_run(Turn *turn);
static bool write_body(void *arg);
pg_noreturn static void throw_end(Call *call, Run *run);

/* The call of the procedure, as sd_call() has it */
void
sd_call_procedure(Call *call)
{
	List	   *policies;

	sd_check_lag_limit(&call->max_lag);
	sd_set_lock_timeout(sd_lock_timeout);	/* until the transaction ends */
	policies = sd_load_policies(call->schema, call->policy_name, false, true);
	sd_begin_call(call);
	sd_lock_run(call);
	PG_TRY();
	{
		run_policies(call, policies);
	}
	PG_FINALLY();
	{
		sd_unlock_run(call);
	}
	PG_END_TRY();
	call->completed_at = GetCurrentTimestamp();
}

/*
 * Run each policy, though others could not; the only one, or none at all, must
 * be able
 */
static void
run_policies(Call *call, List *policies)
{
	int			nfailed = 0;
	ListCell   *lc;

	/* what was registered */
	SPI_commit();
	sd_set_lock_timeout(sd_lock_timeout);
	sd_tell_interrupted(call->schema);
	commit_quietly(call);

	foreach(lc, policies)
	{
		Run		   *run = sd_add_run(call, ((DeletionPolicy *) lfirst(lc))->name);
		ErrorData  *error = run_policy(call, run);

		if (error == NULL)
			continue;
		nfailed++;
		if (run->fatal_failure->kind == SD_RUN_FAILURE ||
			list_length(policies) == 1)
			throw_end(call, run);
		sd_tell_fatal_failure(run);
	}
	if (nfailed == list_length(policies))
		throw_end(call, linitial(call->runs));

	sd_set_lock_timeout(sd_lock_timeout);
	sd_prune_ledger(call->schema);
	commit_quietly(call);
}

/* Commit what need not be done now if others are at it */
static void
commit_quietly(Call *call)
{
	ErrorData  *error = commit(call);

	if (error != NULL && !sd_may_try_again(error))
		ReThrowError(error);
}

/* Run a policy; returns the error if it could not be run, or not to its end */
static ErrorData *
run_policy(Call *call, Run *run)
{
	Turn		turn = {.call = call,.run = run,.is_first = true};
	int			ntries = 0;

	sd_begin_run(run);
	turn.context = AllocSetContextCreate(CurrentMemoryContext,
										 "scheduled_deletion transaction",
										 ALLOCSET_DEFAULT_SIZES);
	while (run->stop_reason == NULL)
	{
		Run			before = *run;
		ErrorData  *error = in_transaction(&turn);
		List	   *suspects = run->suspects;

		if (error == NULL)
		{
			go_on(&turn, &before);
			if (turn.pause == 0 || run->waiting_for == NULL)
				ntries = 0;
			continue;
		}

		/* what was known of the last failure, and of a wait, may be gone */
		*run = before;
		run->last_failure = NULL;
		run->equal_failures = 0;
		run->waiting_for = NULL;
		run->fatal_failure = sd_fatal_failure(error);
		if (!sd_may_try_again(error) || ++ntries == MAX_TRIES)
		{
			run->stop_reason = error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
				run->fatal_failure->kind == SD_RUN_FAILURE ? "cancelled" : "failed";
			run->completed_at = GetCurrentTimestamp();
			run->suspects = suspects;
			sd_log_end(run);
			write_failed_run(&turn);
			return error;
		}
		run->waiting_for = psprintf("a lock (%s)", run->fatal_failure->message);
		write_failed_run(&turn);
		turn.pause = FIRST_PAUSE << (ntries - 1);
	}
	sd_log_end(run);
	return NULL;
}

/* What was done is committed: tell it, free what was before, and find the pace */
static void
go_on(Turn *turn, Run *before)
{
	Run		   *run = turn->run;
	int64		ndone = sd_accounts_done(run) - sd_accounts_done(before);
	MemoryContext caller_context = MemoryContextSwitchTo(turn->context);

	sd_tell_progress(run);
	MemoryContextSwitchTo(caller_context);
	if (turn->pause > 0)
		return;

	if (ndone > 0)
		sd_adapt_pace(run, ndone, sd_clock() - turn->began,
					  run->moment_failures == before->moment_failures);
	if (before->cursor.context != run->cursor.context)
		MemoryContextDelete(before->cursor.context);
	if (before->results.tables != run->results.tables)
		list_free_deep(before->results.tables);

	turn->pause = turn->is_first ? 0 :
		run->waiting_for != NULL ? LAG_PAUSE : turn->call->pause;
	turn->is_first = false;
}

/*
 * Do what is next, and commit it; returns the error if nothing was done, which
 * lives as long as the turn's context.
 */
static ErrorData *
in_transaction(Turn *turn)
{
	MemoryContext caller_context;
	ErrorData  *error;
	bool		done;

	MemoryContextReset(turn->context);
	caller_context = MemoryContextSwitchTo(turn->context);
	turn->run->suspects = NIL;
	turn->is_committing = false;
	error = sd_in_subtransaction(transaction_body, turn, true, &done);
	if (error == NULL)
	{
		turn->is_committing = true;
		error = commit(turn->call);
	}
	MemoryContextSwitchTo(caller_context);
	return error;
}

/*
 * What is next, but for the commit; always true.  All that is asked by SPI is
 * forgotten at the end.
 */
static bool
transaction_body(void *arg)
{
	Turn	   *turn = arg;
	Run		   *run = turn->run;
	const char *lagging = NULL;

	if (is_resting(turn))
		return true;
	turn->began = sd_clock();
	sd_set_lock_timeout(sd_lock_timeout);

	SPI_connect();
	if (!turn->is_first && run->stop_reason == NULL && !sd_is_over(run))
		lagging = sd_lagging(&turn->call->max_lag);
	run->fatal_failure = NULL;
	run->waiting_for = lagging != NULL ?
		MemoryContextStrdup(turn->context, lagging) : NULL;
	if (run->stop_reason == NULL && lagging == NULL)
		do_batch(turn);
	if (run->stop_reason != NULL)
		run->completed_at = GetCurrentTimestamp();
	write_run(turn);
	if (run->stop_reason != NULL || lagging == NULL)
		sd_announce_batch(run);
	SPI_finish();
	return true;
}

/*
 * Pause, for a piece of the time that is left; true if some more is left then.  No
 * longer than the run may take, nor once somebody has disabled the policy.
 */
static bool
is_resting(Turn *turn)
{
	Run		   *run = turn->run;
	int64		piece = Min(turn->pause, PIECE_OF_PAUSE);

	if (run->max_runtime > 0)
		piece = Min(piece, run->began + run->max_runtime - sd_clock());
	pause_untimed(piece);
	turn->pause = piece < PIECE_OF_PAUSE ? 0 : turn->pause - piece;

	SPI_connect();
	if (!sd_is_enabled(run->schema, run->policy_name))
	{
		run->stop_reason = "disabled";
		turn->pause = 0;
	}
	SPI_finish();
	return turn->pause > 0;
}

/*
 * Pause in a transaction that does nothing: of the time that servers since 17 let one
 * take, a pause takes none.
 */
static void
pause_untimed(int64 time)
{
	int			nestlevel = NewGUCNestLevel();

	/* after an error, the end of the subtransaction restores it */
	if (GetConfigOption("transaction_timeout", true, false) != NULL)
		(void) set_config_option("transaction_timeout", "0", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	sd_pause(time);
	AtEOXact_GUC(true, nestlevel);
}

/* A batch or, in the first transaction, what comes before */
static void
do_batch(Turn *turn)
{
	Run		   *run = turn->run;
	List	   *policies;

	policies = sd_load_policies(turn->call->schema, run->policy_name, true, false);
	sd_begin_transaction(run, linitial(policies));
	if (turn->is_first)
	{
		sd_suspect_interrupted(run);
		run->due = sd_count_due(run, PG_INT64_MAX);
		if (!run->release_brake)
			sd_brake(run);
		sd_note_tables(run->schema, run->policy_name);
	}
	else
		sd_next_batch(run);
	sd_end_transaction(run);
}

/* Write the ledger, but not each time that it has to wait once more */
static void
write_run(Turn *turn)
{
	if (turn->run->waiting_for != NULL && turn->written != 0 &&
		turn->began - turn->written < WAIT_TOLD)
		return;
	sd_write_run(turn->call, turn->run);
	turn->written = turn->run->waiting_for != NULL ? turn->began : 0;
}

/*
 * Commit, and begin the next transaction, also if that fails; returns the error,
 * copied into the current memory context.
 */
static ErrorData *
commit(Call *call)
{
	MemoryContext caller_context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		SPI_commit();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller_context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();

	/* the end of a transaction that failed has released it */
	if (error != NULL)
		sd_lock_run(call);
	return error;
}

/*
 * Write into the ledger that a run has to wait, or came to its end before its time,
 * as far as nobody else has locked the row.
 */
static void
write_failed_run(Turn *turn)
{
	bool		done;
	ErrorData  *error = sd_in_subtransaction(write_body, turn, true, &done);

	if (error == NULL)
		error = commit(turn->call);
	if (error != NULL && !sd_may_try_again(error))
		ReThrowError(error);
	sd_tell_progress(turn->run);
}

static bool
write_body(void *arg)
{
	Turn	   *turn = arg;

	sd_set_lock_timeout(sd_lock_timeout);
	SPI_connect();
	sd_write_run(turn->call, turn->run);

	/* which accounts a commit was of is left to the next run to find out */
	if (turn->run->stop_reason != NULL && !turn->is_committing)
	{
		sd_write_suspects(turn->run);
		sd_announce_batch(turn->run);
	}
	SPI_finish();
	return true;
}

/* Throw the error for which a run came to its end */
static void
throw_end(Call *call, Run *run)
{
	Failure    *failure = run->fatal_failure;
	const char *hint = failure->hint;
	const char *suspects = "";
	int64		ndeleted = 0;
	ListCell   *lc;

	foreach(lc, call->runs)
		ndeleted += ((Run *) lfirst(lc))->results.deleted;
	if (hint == NULL && failure->kind == SD_RUN_FAILURE &&
		failure->sqlstate == ERRCODE_QUERY_CANCELED)
		hint = "If statement_timeout ended it, raise that, or bound the run with max_runtime.";
	else if (hint == NULL && failure->kind == SD_MOMENT_FAILURE &&
			 failure->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE)
		hint = "Another session has locked a table of the policy for long: pg_locks shows which; while a run waits, so does pg_blocking_pids().";
	if (run->suspects != NIL)
		suspects = psprintf("%sTable deletion_failure has the accounts that were being deleted, which are tried last from now on.",
							hint != NULL ? " " : "");
	ereport(ERROR,
			(errcode(failure->sqlstate),
			 errmsg("%s", failure->message),
			 errdetail_plural("%lld account was deleted and committed before.",
							  "%lld accounts were deleted and committed before.",
							  ndeleted, (long long) ndeleted),
			 hint != NULL || *suspects != '\0' ?
			 errhint("%s%s", hint != NULL ? hint : "", suspects) : 0));
}

/*
 * Throw an error if any account, or policy, failed in a call that has come to its
 * end: it is what every scheduler notices.
 */
void
sd_raise_failures(Call *call)
{
	int64		nfailed = 0;
	int64		ndeleted = 0;
	int			npolicies = 0;
	ListCell   *lc;

	foreach(lc, call->runs)
	{
		Run		   *run = lfirst(lc);

		nfailed += run->results.failed;
		ndeleted += run->results.deleted;
		npolicies += run->fatal_failure != NULL;
	}
	if (nfailed == 0 && npolicies == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 npolicies == 0 ?
			 errmsg(INT64_FORMAT " of " INT64_FORMAT " accounts could not be deleted",
					nfailed, nfailed + ndeleted) :
			 errmsg("%d of %d deletion policies could not be run to the end, and " INT64_FORMAT " of " INT64_FORMAT " accounts could not be deleted",
					npolicies, list_length(call->runs), nfailed, nfailed + ndeleted),
			 errdetail("The others are deleted, and that is committed."),
			 errhint("SELECT * FROM %s WHERE run_id = " INT64_FORMAT "; tells the run, and table deletion_failure each account.",
					 sd_own_table(call->schema, "deletion_run"), call->run_id)));
}
