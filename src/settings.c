/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings scheduled_deletion.*.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/settings.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"

#include "scheduled_deletion.h"

int			sd_batch_size = SD_DEFAULT_BATCH_SIZE;
char	   *sd_enabled = "on";
int			sd_batch_duration = 50;
int			sd_pause_between = 150;
bool		sd_elide_fk_checks = true;
int			sd_lock_timeout = 1000;
int			sd_progress_interval = 10 * 1000;
int			sd_retention = 90 * 24 * 60;

/* Define them, once for each session */
void
sd_define_settings(void)
{
	DefineCustomIntVariable("scheduled_deletion.batch_size",
							"Sets how many accounts one set of statements deletes at most.",
							"A run in one transaction may go beyond it after eight batches of that size, to keep its subtransactions few.",
							&sd_batch_size,
							SD_DEFAULT_BATCH_SIZE,
							SD_MIN_BATCH_SIZE,
							SD_MAX_BATCH_SIZE,
							PGC_USERSET,
							0,
							NULL, NULL, NULL);
	/* a boolean that somebody misspells would be on */
	DefineCustomStringVariable("scheduled_deletion.enabled",
							   "Lets process_scheduled_deletions() delete accounts.",
							   "If it is not \"on\", that raises an error: for a database or a role that must not, as a copy of the one in production.",
							   &sd_enabled,
							   "on",
							   PGC_USERSET,
							   0,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("scheduled_deletion.batch_duration",
							"Sets how long a batch of run_scheduled_deletions() is to take.",
							"Its number of accounts is chosen by that.",
							&sd_batch_duration,
							50,
							1,
							INT_MAX,
							PGC_USERSET,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("scheduled_deletion.elide_fk_checks",
							 "Leaves out foreign-key checks of accounts that are proved to find nothing.",
							 "deletion_plan() says whether there are any.",
							 &sd_elide_fk_checks,
							 true,
							 PGC_USERSET,
							 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("scheduled_deletion.lock_timeout",
							"Sets how long a run waits for a lock at most.",
							"Accounts whose rows are locked for longer are put off. 0 is as long as lock_timeout says.",
							&sd_lock_timeout,
							1000,
							0,
							INT_MAX,
							PGC_USERSET,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("scheduled_deletion.pause",
							"Sets how long run_scheduled_deletions() rests between two batches.",
							NULL,
							&sd_pause_between,
							150,
							0,
							INT_MAX,
							PGC_USERSET,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("scheduled_deletion.progress_interval",
							"Sets how often run_scheduled_deletions() tells its caller how far it is, by a NOTICE.",
							"0 is never.",
							&sd_progress_interval,
							10 * 1000,
							0,
							INT_MAX,
							PGC_USERSET,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("scheduled_deletion.retention",
							"Sets how long deletion_run and deletion_failure remember what is over.",
							"0 keeps it for ever.",
							&sd_retention,
							90 * 24 * 60,
							0,
							INT_MAX,
							PGC_SUSET,
							GUC_UNIT_MIN,
							NULL, NULL, NULL);
	MarkGUCPrefixReserved("scheduled_deletion");
}
