/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  The grace period: an account's deletion is asked for, and taken back, each
 *	  with an audit row in the same transaction.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/schedule.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/datum.h"
#include "utils/timestamp.h"

#include "account.h"

static void find_account(Oid schema, Request *request, FoundAccount *account,
						 PlanStatement *set_due);
static void set_due(FoundAccount *account, PlanStatement *statement, Datum due,
					bool is_null);

/*
 * Let an account be due once the grace has passed from now on; the answer is
 * when it is.  If it is due earlier anyhow, that stays.
 */
TimestampTz
sd_schedule(Oid schema, Request *request, Interval *grace)
{
	FoundAccount account = {0};
	PlanStatement statement = {0};
	TimestampTz moment;
	Datum		due;

	find_account(schema, request, &account, &statement);
	moment = sd_moment_after(account.plan,
							 GetCurrentTransactionStartTimestamp(), grace);
	if (TIMESTAMP_NOT_FINITE(moment))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("grace must be finite")));
	due = sd_due_value(account.plan, moment);
	if (account.is_scheduled &&
		sd_due_at(account.plan, account.due) <= sd_due_at(account.plan, due))
		return sd_due_at(account.plan, account.due);

	set_due(&account, &statement, due, false);
	sd_write_audit_row(account.plan, account.key, "delete_requested",
					   sd_request_details(account.plan, due),
					   account.performed_by);
	return sd_due_at(account.plan, due);
}

/* Let an account never be due; false if it would not have been */
bool
sd_cancel(Oid schema, Request *request)
{
	FoundAccount account = {0};
	PlanStatement statement = {0};
	bool		refuses_null;

	find_account(schema, request, &account, &statement);
	if (!account.is_scheduled)
		return false;

	refuses_null = sd_is_not_null(account.plan->account->table,
								  account.plan->policy->due_column);
	set_due(&account, &statement, sd_never_due(account.plan), !refuses_null);
	sd_write_audit_row(account.plan, account.key, "delete_cancelled",
					   sd_request_details(account.plan, account.due),
					   account.performed_by);
	return true;
}

/*
 * Find the account and lock it, and prepare what is to be done.  Throws an error
 * if it is not there, or finished.
 */
static void
find_account(Oid schema, Request *request, FoundAccount *account,
			 PlanStatement *set_due)
{
	DeletionPlan *plan;

	sd_find_account(schema, request, account);
	plan = account->plan;
	if (account->is_done)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("account \"%s\" of deletion policy \"%s\" is done",
						sd_key_text(plan->key, account->key),
						plan->policy->name),
				 errdetail("Its done column \"%s\" is not null, so no run takes it.",
						   plan->policy->done_column),
				 errhint("Set that column to null if the account is to be erased after all.")));
	sd_write_set_due(plan, set_due);
	sd_prepare(set_due);
}

/* Set the due column of the account; throws an error if it is not so then */
static void
set_due(FoundAccount *account, PlanStatement *statement, Datum due,
		bool is_null)
{
	int			nkeys = account->plan->key->ncolumns;
	Datum	   *values = palloc(sizeof(Datum) * (nkeys + 1));
	char	   *nulls = palloc(nkeys + 1);
	bool		is_set = false;

	memcpy(values, account->key, sizeof(Datum) * nkeys);
	memset(nulls, ' ', nkeys);
	values[nkeys] = due;
	nulls[nkeys] = is_null ? 'n' : ' ';
	if (sd_execute(statement, SPI_OK_UPDATE_RETURNING, values, nulls,
				   NULL) == 1)
	{
		bool		result_is_null;
		Datum		result = SPI_getbinval(SPI_tuptable->vals[0],
										   SPI_tuptable->tupdesc, 1,
										   &result_is_null);

		is_set = result_is_null == is_null &&
			(is_null || datumIsEqual(result, due, account->plan->due_typbyval,
									 account->plan->due_typlen));
	}
	if (!is_set)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("due column \"%s\" of account table \"%s\" was kept, or changed, by a trigger or rule",
						account->plan->policy->due_column,
						account->plan->account->table_name),
				 errhint("Let it take the value that it is given.")));
}
