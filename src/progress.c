/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  Tell how far a run is that commits: the person who called it by a NOTICE now and
 *	  then, others by the query that pg_stat_activity shows.
 *
 * View deletion_progress tells more, from what is in the ledger.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/progress.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/timestamp.h"

#include "run.h"

static void append_time_left(StringInfo message, Run *run, int64 now);

/*
 * Tell how far a run is, as of what is committed; the current memory context is
 * short-lived
 */
void
sd_tell_progress(Run *run)
{
	int64		now = sd_clock();
	StringInfoData message;

	initStringInfo(&message);
	appendStringInfo(&message, "deletion policy \"%s\": ", run->policy_name);
	if (run->due != SD_UNKNOWN)
		appendStringInfo(&message, INT64_FORMAT " of " INT64_FORMAT " accounts, " INT64_FORMAT " rows deleted",
						 sd_accounts_done(run), run->due, sd_count_records(run));
	if (run->waiting_for != NULL)
		appendStringInfo(&message, "; waiting for %s", run->waiting_for);
	else
		append_time_left(&message, run, now);

	if (debug_query_string != NULL)
		pgstat_report_activity(STATE_RUNNING,
							   psprintf("%s -- %s", debug_query_string, message.data));

	if (sd_progress_interval > 0 &&
		now - run->told >= sd_progress_interval * (int64) 1000)
	{
		run->told = now;
		ereport(NOTICE, (errmsg_internal("%s", message.data)));
	}
}

/* How long it will still take, if that can be told */
static void
append_time_left(StringInfo message, Run *run, int64 now)
{
	int64		ndone = sd_accounts_done(run);

	if (ndone > 0 && ndone <= run->due)
		appendStringInfo(message, "; about %.0f s left",
						 (double) (now - run->began) / USECS_PER_SEC *
						 (run->due - ndone) / ndone);
}
