/*-------------------------------------------------------------------------
 *
 * scheduled_deletion.c
 *	  Delete accounts and all their rows when their time has come.
 *
 * This file is the table of contents: the module, its settings and each function
 * that SQL can call.  A call of process_scheduled_deletions() goes through the
 * files in this order:
 *
 *	run.c		pick due accounts, batch by batch, until none is left
 *	policy.c	read the policy; the first call registers the built-in one
 *	resolve.c	look its tables, columns and operators up in the catalog
 *	plan.c		write the statements
 *	preflight.c	refuse what must not start
 *	search.c	delete a batch; find the accounts that fail
 *	batch.c		one attempt: lock, blockers, steps, account, audit, prove
 *	ledger.c	write the audit rows
 *	failure.c	tell an error without a word of the person
 *	report.c	answer
 *	spi_util.c	how statements and subtransactions are run
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/scheduled_deletion.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "scheduled_deletion.h"

SD_MODULE_MAGIC;

int			sd_batch_size = SD_DEFAULT_BATCH_SIZE;

PG_FUNCTION_INFO_V1(process_scheduled_deletions);

void		_PG_init(void);

void
_PG_init(void)
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
	MarkGUCPrefixReserved("scheduled_deletion");
}

/*
 * process_scheduled_deletions(policy text, max_accounts integer,
 *							   dry_run boolean) RETURNS jsonb
 *
 * Delete the accounts of a policy that are due, in the caller's transaction.
 */
Datum
process_scheduled_deletions(PG_FUNCTION_ARGS)
{
	MemoryContext caller_context = CurrentMemoryContext;
	Run			run = {0};
	Jsonb	   *report;

	if (!PG_ARGISNULL(1) && PG_GETARG_INT32(1) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_accounts must be greater than zero"),
				 errhint("Leave it out, or give null, for no limit.")));
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("dry_run must not be null")));

	run.schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	run.policy_name = PG_ARGISNULL(0) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(0));
	run.max_accounts = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	run.dry_run = PG_GETARG_BOOL(2);

	SPI_connect();
	sd_run(&run);
	MemoryContextSwitchTo(caller_context);
	report = sd_report(&run);
	SPI_finish();

	PG_RETURN_JSONB_P(report);
}
