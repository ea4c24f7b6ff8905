/*-------------------------------------------------------------------------
 *
 * log.c
 *	  What the server's log is told of a run: a line when it begins, one when it
 *	  ends, and one for each account that fails.
 *
 * No run can delete from the log, and others read it than may read accounts: so
 * not even an account's key is in it.  Nor does it know of transactions: what a
 * function told of failures stays there though its caller rolls back.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/log.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "run.h"

static void log_line(Run *run, const char *line);

void
sd_log_start(Run *run)
{
	log_line(run, psprintf("begins (%s)", run->commits ? "procedure" : "function"));
}

/* Tell of an account that failed, which deletion_failure knows */
void
sd_log_failure(Run *run, Failure *failure)
{
	StringInfoData line;

	initStringInfo(&line);
	appendStringInfo(&line, "could not delete an account: SQLSTATE %s",
					 unpack_sql_state(failure->sqlstate));
	if (failure->constraint_name != NULL)
		appendStringInfo(&line, ", constraint \"%s\"", failure->constraint_name);
	if (failure->table_name != NULL)
		appendStringInfo(&line, ", table \"%s\"", failure->table_name);
	log_line(run, line.data);
}

/* Tell how a run ended, whose stop_reason and completed_at are set */
void
sd_log_end(Run *run)
{
	RunResults *results = &run->results;
	StringInfoData line;

	initStringInfo(&line);
	appendStringInfo(&line, "ends (%s", run->stop_reason);
	if (run->fatal_failure != NULL)
		appendStringInfo(&line, ", SQLSTATE %s",
						 unpack_sql_state(run->fatal_failure->sqlstate));
	appendStringInfo(&line, ") after %.3f s: accounts deleted " INT64_FORMAT
					 ", failed " INT64_FORMAT ", skipped " INT64_FORMAT
					 ", held " INT64_FORMAT ", waiting " INT64_FORMAT
					 "; rows deleted " INT64_FORMAT,
					 (run->completed_at - run->started_at) / (double) USECS_PER_SEC,
					 results->deleted, results->failed, results->skipped,
					 results->held, results->waiting, sd_count_records(run));
	log_line(run, line.data);
}

/*
 * Tell that the last run of a call came to no end, for an error that is about to be
 * thrown.  Expects to be called where it was caught.
 */
void
sd_log_error(Call *call)
{
	Run		   *run = call->runs == NIL ? NULL : llast(call->runs);

	if (run != NULL && run->completed_at == 0)
		log_line(run, psprintf("ends (failed, SQLSTATE %s)",
							   unpack_sql_state(geterrcode())));
}

/* Dry runs leave none.  No name in it, which anybody may have chosen, begins a new line. */
static void
log_line(Run *run, const char *line)
{
	char	   *told;

	if (run->dry_run)
		return;
	told = psprintf("scheduled deletion: run " INT64_FORMAT " of policy \"%s\" %s",
					run->run_id, run->policy_name, line);
	for (char *c = told; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 0x7f)
			*c = '?';
	}
	ereport(LOG_SERVER_ONLY,
			(errmsg_internal("%s", told), errhidestmt(true), errhidecontext(true)));
}
