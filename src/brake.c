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
#include "utils/builtins.h"

#include "run.h"

/* so many due accounts are never too large a share */
#define FEW_ACCOUNTS	100

/*
 * A run counts again when it has passed one in so many of the accounts that are due
 * after the cursor: at each batch of a run that needs fewer batches.
 */
#define RECOUNT_SHARE	200

static int64 few_accounts(DeletionPolicy *policy);
static void brake(Run *run, int64 ncounted);
static int64 count_accounts(Run *run, double limit);
static int64 count_due(Run *run, bool after_cursor, int64 limit);

/*
 * Throw an error if more accounts are due than the policy's brake lets pass.
 * Those on hold do not count, nor those that have failed before: they would add
 * up.  The caller has all privileges that the plan needs.
 */
void
sd_brake(Run *run)
{
	int64		few = few_accounts(run->policy);
	int64		ncounted;

	if (few == PG_INT64_MAX)
		return;
	ncounted = sd_count_due(run, few + 1);
	if (ncounted > few)
	{
		ncounted = sd_count_due(run, PG_INT64_MAX);
		brake(run, ncounted);
	}
	run->ahead = ncounted;
	run->since_counted = 0;
}

/*
 * The same in the middle of a run: others may have let more accounts be due since.
 * If more are due after the cursor than were, all are counted again, as at the
 * beginning of a run, and with them what this one has deleted.
 *
 * It reads an entry of an index for each account that is still due.  So that this
 * costs little for each that is deleted, it is not done at each of very many batches.
 */
void
sd_brake_again(Run *run)
{
	if (run->release_brake || few_accounts(run->policy) == PG_INT64_MAX)
		return;
	if (run->ahead != SD_UNKNOWN)
	{
		if (run->since_counted == 0 || run->since_counted < run->ahead / RECOUNT_SHARE)
			return;
		run->since_counted = 0;
		if (count_due(run, true, run->ahead + 1) <= run->ahead)
			return;
	}
	brake(run, count_due(run, false, PG_INT64_MAX));
	run->ahead = count_due(run, true, PG_INT64_MAX);
	run->since_counted = 0;
}

/* So many due accounts pass whatever share of all they are, or any number */
static int64
few_accounts(DeletionPolicy *policy)
{
	int64		few = policy->brake_share < 1 ? FEW_ACCOUNTS : PG_INT64_MAX;

	return policy->brake_accounts > 0 ? Min(few, policy->brake_accounts) : few;
}

/* Throw that error if so many that are due, all that were counted, are too many */
static void
brake(Run *run, int64 ncounted)
{
	DeletionPolicy *policy = run->policy;
	int64		ndeleted = run->results.deleted;
	int64		ndue = ncounted - sd_count_held_due(run) - sd_count_failing_due(run);
	int64		nrun = ndeleted + ndue;
	int64		nall;
	bool		is_number = policy->brake_accounts > 0 && nrun > policy->brake_accounts;

	if (!is_number && (policy->brake_share >= 1 || nrun <= FEW_ACCOUNTS))
		return;
	nall = ndeleted + count_accounts(run, nrun / policy->brake_share + 1);
	if (!is_number && nall * policy->brake_share >= nrun)
		return;

	nall = count_accounts(run, (double) PG_INT64_MAX);
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 ndeleted == 0 ?
			 errmsg("deletion policy \"%s\" stopped by its brake: " INT64_FORMAT " of " INT64_FORMAT " accounts are due",
					policy->name, ndue, nall) :
			 errmsg("deletion policy \"%s\" stopped by its brake: " INT64_FORMAT " of " INT64_FORMAT " accounts are due, after " INT64_FORMAT " were deleted",
					policy->name, ndue, nall, ndeleted),
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
 * counted them.
 */
int64
sd_count_due(Run *run, int64 limit)
{
	return run->due != SD_UNKNOWN ? run->due : count_due(run, false, limit);
}

/*
 * The same as of now; of those after the cursor, if there is one, or with the same
 * time as that:
 *
 *	SELECT count(*) FROM (SELECT FROM <account table> t WHERE <due>
 *		[AND t.<due> >= <cursor>] LIMIT $n) t
 */
static int64
count_due(Run *run, bool after_cursor, int64 limit)
{
	DeletionPlan *plan = run->plan;
	int			nparams = list_length(plan->due.params);
	char	   *query = plan->due.query.data;
	Oid		   *argtypes;
	Datum	   *values = sd_bind_due(plan, &run->bounds, &plan->due, &argtypes);

	argtypes[nparams] = INT8OID;
	values[nparams++] = Int64GetDatum(limit);
	query = psprintf("SELECT pg_catalog.count(*) FROM (%s%s LIMIT $%d) t", query,
					 after_cursor && run->cursor.valid ?
					 psprintf(" AND t.%s OPERATOR(pg_catalog.>=) $%d",
							  quote_identifier(plan->policy->due_column),
							  nparams + 1) : "",
					 nparams);
	if (after_cursor && run->cursor.valid)
	{
		argtypes[nparams] = plan->due_type;
		values[nparams++] = run->cursor.due;
	}
	return sd_count(query, nparams, argtypes, values);
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
