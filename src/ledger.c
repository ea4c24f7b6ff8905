/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  What is written down of a deletion: one audit row for each account.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/ledger.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "scheduled_deletion.h"

/*
 * Write the audit rows of accounts whose rows have just been deleted, in the
 * same subtransaction; throws an error unless there is one for each of them.
 */
void
sd_write_audit_rows(Run *run, Account **accounts, int naccounts)
{
	DeletionPlan *plan = run->plan;
	Datum		values[4];
	Datum	   *details = palloc(sizeof(Datum) * naccounts);
	uint64		nwritten;

	for (int i = 0; i < naccounts; i++)
		details[i] = JsonbPGetDatum(sd_audit_details(run, accounts[i]));

	values[0] = PointerGetDatum(sd_key_array(plan, accounts, naccounts));
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[2] = PointerGetDatum(construct_array(details, naccounts, JSONBOID,
												-1, false, TYPALIGN_INT));
	values[3] = CStringGetTextDatum("hard_deleted");
	nwritten = sd_execute(&plan->audit, SPI_OK_INSERT, values, NULL, NULL);

	if (nwritten != naccounts)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("%d audit rows were to be written, but " UINT64_FORMAT " were",
						naccounts, nwritten)));
}
