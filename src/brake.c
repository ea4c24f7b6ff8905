/*-------------------------------------------------------------------------
 *
 * brake.c
 *	  The brake: a run that would delete more accounts than its policy thinks
 *	  possible deletes none.
 *
 * Most nights, few accounts are due, and that is all that is counted.  Of all
 * accounts, so many are counted as show that those that are due are not too
 * many; never is their number estimated, for that errs where nobody has looked
 * for long.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/brake.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "run.h"

/* so many due accounts are never too large a share */
#define FEW_ACCOUNTS	100

static int64 count_accounts(Run *run, double limit);

/*
 * Throw an error if more accounts are due than the policy's brake lets pass.
 * Those on hold do not count, nor those that have failed before: they would add
 * up.  The caller has all privileges that the plan needs.
 */
void
sd_brake(Run *run)
{
	DeletionPolicy *policy = run->policy;
	int64		few = policy->brake_share < 1 ? FEW_ACCOUNTS : PG_INT64_MAX;
	int64		ndue;
	int64		nall;
	bool		is_number;

	if (policy->brake_accounts > 0)
		few = Min(few, policy->brake_accounts);
	if (few == PG_INT64_MAX || sd_count_due(run, few + 1) <= few)
		return;
	ndue = sd_count_due(run, PG_INT64_MAX) - sd_count_held_due(run) -
		sd_count_failing_due(run);
	is_number = policy->brake_accounts > 0 && ndue > policy->brake_accounts;
	if (!is_number &&
		(policy->brake_share >= 1 || ndue <= FEW_ACCOUNTS ||
		 count_accounts(run, ndue / policy->brake_share + 1) * policy->brake_share >= ndue))
		return;

	nall = count_accounts(run, (double) PG_INT64_MAX);
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("deletion policy \"%s\" stopped by its brake: " INT64_FORMAT " of " INT64_FORMAT " accounts are due",
					policy->name, ndue, nall),
			 is_number ?
			 errdetail("A run may delete %d accounts (brake_accounts).",
					   policy->brake_accounts) :
			 errdetail("A run may delete %g %% of the accounts (brake_share), or %d.",
					   policy->brake_share * 100, FEW_ACCOUNTS),
			 errhint("%s, enabled => false); keeps them all until column \"%s\" is as it should be. If so many are to be deleted, go on for this once with release_brake => true.",
					 sd_own_call(policy, "alter_deletion_policy"),
					 policy->due_column)));
}

/* How many accounts there are, as far as that */
static int64
count_accounts(Run *run, double limit)
{
	Oid			argtypes[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(limit >= (double) PG_INT64_MAX ?
										  PG_INT64_MAX : (int64) limit)};

	return sd_count(psprintf("SELECT pg_catalog.count(*) FROM (SELECT FROM %s LIMIT $1) t",
							 sd_qualified_name(run->plan->account->table)),
					lengthof(argtypes), argtypes, values);
}

/*
 * How many accounts are due, as far as that; all of them, if the run has
 * counted them:
 *
 *	SELECT count(*) FROM (SELECT FROM <account table> t WHERE <due> LIMIT $n) t
 */
int64
sd_count_due(Run *run, int64 limit)
{
	PlanStatement *due = &run->plan->due;
	int			nparams = list_length(due->params);
	Oid		   *argtypes;
	Datum	   *values = sd_bind_due(run->plan, &run->bounds, due, &argtypes);

	if (run->due != SD_UNKNOWN)
		return run->due;
	argtypes[nparams] = INT8OID;
	values[nparams] = Int64GetDatum(limit);
	return sd_count(psprintf("SELECT pg_catalog.count(*) FROM (%s LIMIT $%d) t",
							 due->query.data, nparams + 1),
					nparams + 1, argtypes, values);
}

/* How many accounts on hold are due */
int64
sd_count_held_due(Run *run)
{
	RowSet	   *held = sd_held_accounts(run);
	int			n = held != NULL ? sd_count_rows(held) : 0;
	Account   **accounts = palloc(sizeof(Account *) * Max(n, 1));
	int64		ndue = 0;

	if (n == 0)
		return 0;
	for (int i = 0; i < n; i++)
	{
		Row		   *row = sd_get_row(held, i);

		accounts[i] = palloc0(sizeof(Account));
		accounts[i]->key = row->values;
		accounts[i]->nulls = row->nulls;
	}
	sd_find_due(run, accounts, n);
	for (int i = 0; i < n; i++)
		ndue += accounts[i]->found;
	return ndue;
}
