/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  The grace period: an account's deletion is asked for, and taken back, each
 *	  with an audit row in the same transaction.
 *
 * The account's row is locked before it is looked at (FOR NO KEY UPDATE, as the
 * UPDATE of its due column does).  A run that has claimed it is waited for, and
 * then it is gone; a run that comes later sees what was decided here.
 *
 * All is done with the caller's rights, and what row-level security hides from
 * the caller is not there.
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
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "scheduled_deletion.h"

/* An account, locked, and what its due column says */
typedef struct FoundAccount
{
	DeletionPlan *plan;
	Datum	   *key;
	bool		is_scheduled;	/* some day it will be due */
	Datum		due;			/* if it is */
	Datum	   *performed_by;	/* NULL: the system */
	PlanStatement set_due;
} FoundAccount;

static void find_account(Oid schema, Request *request, FoundAccount *account);
static DeletionPolicy *only_policy(Oid schema, const char *name);
static void set_due(FoundAccount *account, Datum due, bool is_null);

/*
 * Let an account be due once the grace has passed from now on; the answer is
 * when it is.  If it is due earlier anyhow, that stays.
 */
TimestampTz
sd_schedule(Oid schema, Request *request, Interval *grace)
{
	FoundAccount account = {0};
	TimestampTz moment;
	Datum		due;

	find_account(schema, request, &account);
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

	set_due(&account, due, false);
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
	bool		refuses_null;

	find_account(schema, request, &account);
	if (!account.is_scheduled)
		return false;

	refuses_null = sd_is_not_null(account.plan->account->table,
								  account.plan->policy->due_column);
	set_due(&account, sd_never_due(account.plan), !refuses_null);
	sd_write_audit_row(account.plan, account.key, "delete_cancelled",
					   sd_request_details(account.plan, account.due),
					   account.performed_by);
	return true;
}

/*
 * Find the account and lock it, and prepare the statements.  Throws an error if
 * it is not there, or finished.
 */
static void
find_account(Oid schema, Request *request, FoundAccount *account)
{
	DeletionPlan *plan = sd_begin_plan(only_policy(schema, request->policy),
									   RowExclusiveLock);
	PlanStatement find = {0};
	bool		is_done;
	bool		is_null;

	sd_resolve_audit_table(plan);
	sd_write_schedule_statements(plan, &find, &account->set_due);
	sd_prepare(&find);
	sd_prepare(&account->set_due);
	sd_prepare(&plan->audit);
	account->plan = plan;
	account->key = sd_key_from_text(plan, request->account);
	if (request->performed_by != NULL)
	{
		account->performed_by = palloc(sizeof(Datum));
		*account->performed_by = sd_performed_by(plan, request->performed_by);
	}

	if (sd_execute(&find, SPI_OK_SELECT, account->key, NULL, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("account \"%s\" of deletion policy \"%s\" does not exist",
						sd_key_text(plan, account->key), plan->policy->name)));
	account->due = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
								 1, &is_null);
	account->is_scheduled = !is_null && !sd_is_never_due(plan, account->due);
	is_done = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
										 SPI_tuptable->tupdesc, 2, &is_null));
	if (is_done)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("account \"%s\" of deletion policy \"%s\" is done",
						sd_key_text(plan, account->key), plan->policy->name),
				 errdetail("Its done column \"%s\" is not null, so no run takes it.",
						   plan->policy->done_column),
				 errhint("Set that column to null if the account is to be erased after all.")));
}

/*
 * The policy of that name or, without one, the only one that is registered, or
 * at least enabled.
 */
static DeletionPolicy *
only_policy(Oid schema, const char *name)
{
	List	   *policies = sd_load_policies(schema, name, true, false);
	DeletionPolicy *only = linitial(policies);
	int			nenabled = 0;
	ListCell   *lc;

	if (list_length(policies) == 1)
		return only;
	foreach(lc, policies)
	{
		if (((DeletionPolicy *) lfirst(lc))->enabled)
		{
			only = lfirst(lc);
			nenabled++;
		}
	}
	if (nenabled != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("policy must be given, since several are registered"),
				 errhint("As in policy => %s.", quote_literal_cstr(only->name))));
	return only;
}

/* Set the due column of the account; throws an error if it is not so then */
static void
set_due(FoundAccount *account, Datum due, bool is_null)
{
	int			nkeys = account->plan->key->ncolumns;
	Datum	   *values = palloc(sizeof(Datum) * (nkeys + 1));
	char	   *nulls = palloc(nkeys + 1);
	bool		is_set = false;

	memcpy(values, account->key, sizeof(Datum) * nkeys);
	memset(nulls, ' ', nkeys);
	values[nkeys] = due;
	nulls[nkeys] = is_null ? 'n' : ' ';
	if (sd_execute(&account->set_due, SPI_OK_UPDATE_RETURNING, values, nulls,
				   NULL) == 1)
	{
		bool		result_is_null;
		Datum		result = SPI_getbinval(SPI_tuptable->vals[0],
										   SPI_tuptable->tupdesc, 1,
										   &result_is_null);

		is_set = result_is_null == is_null && (is_null || result == due);
	}
	if (!is_set)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("due column \"%s\" of account table \"%s\" was kept, or changed, by a trigger or rule",
						account->plan->policy->due_column,
						account->plan->account->table_name),
				 errhint("Let it take the value that it is given.")));
}
