/*-------------------------------------------------------------------------
 *
 * brake.c
 *	  The brake: a run that would delete more accounts than its policy thinks
 *	  possible deletes none.
 *
 * What is due is counted only as far as it matters, and the accounts not at all
 * where they are many: there, the planner's estimate, which goes by the table's size
 * as it is now, tells as much as is needed.
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

/* so many accounts are counted; of more, the number is estimated */
#define COUNTED_ACCOUNTS	10000

static int64 most_by_share(Run *run, double *naccounts);
static int64 count_due(Run *run, int64 limit);
static int64 count(const char *query, int nargs, Oid *argtypes, Datum *values);

/*
 * Throw an error if more accounts are due, and not on hold, than the policy's brake
 * lets pass; the caller has all privileges that the plan needs.
 */
void
sd_brake(Run *run)
{
	DeletionPolicy *policy = run->policy;
	double		naccounts;
	int64		most = most_by_share(run, &naccounts);
	int64		ndue;
	bool		is_share = policy->brake_accounts == 0 ||
		most <= policy->brake_accounts;

	if (!is_share)
		most = policy->brake_accounts;
	if (most == PG_INT64_MAX || count_due(run, most + 1) <= most)
		return;
	ndue = count_due(run, PG_INT64_MAX) - sd_count_held_due(run);
	if (ndue <= most)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("deletion policy \"%s\" stopped by its brake: " INT64_FORMAT " of about %.0f accounts are due",
					policy->name, ndue, naccounts),
			 is_share ?
			 errdetail("A run may delete %g %% of the accounts (brake_share), or %d.",
					   policy->brake_share * 100, FEW_ACCOUNTS) :
			 errdetail("A run may delete %d accounts (brake_accounts).",
					   policy->brake_accounts),
			 errhint("%s, enabled => false); keeps them all until column \"%s\" is as it should be. If so many are to be deleted, go on for this once with release_brake => true.",
					 sd_own_call(policy, "alter_deletion_policy"),
					 policy->due_column)));
}

/* The most accounts that a run may delete by their share of all, whose number is set */
static int64
most_by_share(Run *run, double *naccounts)
{
	const char *table = sd_qualified_name(run->plan->account->table);

	*naccounts = count(psprintf("SELECT pg_catalog.count(*) FROM (SELECT FROM %s LIMIT %d) t",
								table, COUNTED_ACCOUNTS + 1), 0, NULL, NULL);
	if (*naccounts > COUNTED_ACCOUNTS)
		*naccounts = Max(*naccounts,
						 sd_planner_expects("Plan Rows",
											psprintf("SELECT FROM %s", table),
											0, NULL, NULL));
	return run->policy->brake_share >= 1 ? PG_INT64_MAX :
		Max(FEW_ACCOUNTS, (int64) (*naccounts * run->policy->brake_share));
}

/*
 * How many accounts are due, as far as that:
 *
 *	SELECT count(*) FROM (SELECT FROM <account table> t WHERE <due> LIMIT $2) t
 */
static int64
count_due(Run *run, int64 limit)
{
	Oid			argtypes[] = {run->plan->due_type, INT8OID};
	Datum		values[] = {run->cutoff, Int64GetDatum(limit)};

	return count(psprintf("SELECT pg_catalog.count(*) FROM (%s LIMIT $2) t",
						  run->plan->due.query.data),
				 lengthof(argtypes), argtypes, values);
}

static int64
count(const char *query, int nargs, Oid *argtypes, Datum *values)
{
	bool		is_null;

	(void) sd_query(query, SPI_OK_SELECT, nargs, argtypes, values);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
									   SPI_tuptable->tupdesc, 1, &is_null));
}
