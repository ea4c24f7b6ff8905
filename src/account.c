/*-------------------------------------------------------------------------
 *
 * account.c
 *	  One account, which a caller names by its key as text: found, and locked.
 *
 * Its row is locked before it is looked at (FOR NO KEY UPDATE, as an UPDATE of its
 * due column does).  A run that has claimed it is waited for, and then it is gone;
 * a run that comes later sees what was decided under the lock.
 *
 * All is done with the caller's rights, and what row-level security hides from
 * the caller is not there.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/account.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "account.h"

static void begin(Oid schema, Request *request, bool is_audited,
				  FoundAccount *account);
static bool look_up(FoundAccount *account, bool lock);
static bool is_hidden_from_caller(DeletionPlan *plan);
pg_noreturn static void throw_not_there(FoundAccount *account);

/*
 * Find the account that a request is about by its policy, and lock it.  Throws an
 * error if it is not there.
 */
void
sd_find_account(Oid schema, Request *request, FoundAccount *account)
{
	begin(schema, request, true, account);
	if (!look_up(account, true))
		throw_not_there(account);
}

/*
 * The same of an account that need not be there any more; is it?  What row-level
 * security hides from the caller is not there for any of these functions.
 */
bool
sd_find_former_account(Oid schema, Request *request, FoundAccount *account)
{
	begin(schema, request, true, account);
	if (look_up(account, true))
		return true;
	if (is_hidden_from_caller(account->plan))
		throw_not_there(account);
	return false;
}

/*
 * Refuse that accounts are tried again which row-level security hides from the caller:
 * that one, or, if it is NULL, all of them.  *policy, if it is NULL, becomes the only
 * one there is where that matters.
 */
void
sd_refuse_hidden_retry(Oid schema, char *key, char **policy)
{
	Request		request = {.account = key};
	FoundAccount account = {0};
	ListCell   *lc;

	foreach(lc, sd_find_policies(schema, *policy, true, false))
	{
		DeletionPolicy *candidate = lfirst(lc);

		if (!OidIsValid(candidate->account_table) ||
			get_rel_relkind(candidate->account_table) == '\0' ||
			check_enable_rls(candidate->account_table, InvalidOid, true) != RLS_ENABLED)
			continue;
		if (key == NULL)
			sd_throw_hidden(candidate->account_table,
							"Accounts that it hides would be tried again, too.",
							"Name an account, or call it");
		request.policy = *policy = pstrdup(sd_only_policy(schema, *policy)->name);
		begin(schema, &request, false, &account);
		if (!look_up(&account, false))
			throw_not_there(&account);
		return;
	}
}

/* Does row-level security decide which accounts the caller sees? */
static bool
is_hidden_from_caller(DeletionPlan *plan)
{
	return check_enable_rls(plan->account->table, InvalidOid, true) == RLS_ENABLED;
}

static void
throw_not_there(FoundAccount *account)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("account \"%s\" of deletion policy \"%s\" does not exist",
					sd_key_text(account->plan->key, account->key),
					account->plan->policy->name)));
}

/* Read what the request says, which writes an audit row if "is_audited" is set */
static void
begin(Oid schema, Request *request, bool is_audited, FoundAccount *account)
{
	DeletionPlan *plan = sd_begin_plan(sd_only_policy(schema, request->policy),
									   RowExclusiveLock);
	Relation	rel = table_open(plan->account->table, NoLock);

	if (is_audited)
	{
		sd_resolve_audit_table(plan);
		sd_prepare(&plan->audit);
	}
	account->plan = plan;
	account->hold_key = sd_hold_key(plan->account, rel, plan->key);
	account->key = palloc0(sizeof(Datum) * plan->account->nvalues);
	memcpy(account->key, sd_key_from_text(plan->key, request->account),
		   sizeof(Datum) * plan->key->ncolumns);
	if (request->performed_by != NULL)
	{
		account->performed_by = palloc(sizeof(Datum));
		*account->performed_by = sd_performed_by(plan, request->performed_by);
	}
	table_close(rel, NoLock);
}

/* Read its row; false if there is none */
static bool
look_up(FoundAccount *account, bool lock)
{
	DeletionPlan *plan = account->plan;
	int			nvalues = plan->account->nvalues;
	PlanStatement find = {0};
	HeapTuple	tuple;
	TupleDesc	tupdesc;
	bool		is_null;

	sd_write_find(plan, lock, &find);
	sd_prepare(&find);
	if (sd_execute(&find, SPI_OK_SELECT, account->key, NULL, NULL) == 0)
		return false;

	/* its key as it is there may be another one that is equal */
	tuple = SPI_tuptable->vals[0];
	tupdesc = SPI_tuptable->tupdesc;
	for (int i = 0; i < nvalues; i++)
		account->key[i] = SPI_getbinval(tuple, tupdesc, i + 1, &is_null);
	account->due = SPI_getbinval(tuple, tupdesc, nvalues + 1, &is_null);
	account->is_scheduled = !is_null && !sd_is_never_due(plan, account->due);
	account->is_done = DatumGetBool(SPI_getbinval(tuple, tupdesc, nvalues + 2,
												  &is_null));
	return true;
}

/*
 * The policy of that name or, without one, the only one that is registered, or
 * at least enabled.
 */
DeletionPolicy *
sd_only_policy(Oid schema, const char *name)
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
