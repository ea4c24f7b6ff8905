/*-------------------------------------------------------------------------
 *
 * result.c
 *	  What a run has done so far: accounts, errors, and rows by table.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/result.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "run.h"

static void record_error(Run *run, Account *account);
static TableRows *find_table(List *tables, TableRows *like);

/* How many accounts a run is through with */
int64
sd_accounts_done(Run *run)
{
	return run->results.deleted + run->results.failed + run->results.skipped +
		run->results.held;
}

/* How many rows it has deleted */
int64
sd_count_records(Run *run)
{
	int64		nrows = 0;
	ListCell   *lc;

	foreach(lc, run->results.tables)
	{
		TableRows  *table = lfirst(lc);

		if (table->action == SD_DELETE)
			nrows += table->rows;
	}
	return nrows;
}

/*
 * Add what became of the accounts of a batch to the results of the run, and note
 * which of them have failed.
 */
void
sd_record_results(Run *run, Account *accounts, int naccounts)
{
	for (int i = 0; i < naccounts; i++)
	{
		switch (accounts[i].state)
		{
			case SD_DELETED:
				run->results.deleted++;
				break;
			case SD_FAILED:
				run->results.failed++;
				record_error(run, &accounts[i]);
				sd_log_failure(run, accounts[i].failure);
				break;
			case SD_SKIPPED:
				run->results.skipped++;
				break;
			case SD_HELD:
				sd_record_held(run, &accounts[i]);
				break;
			case SD_GONE:
				break;
			case SD_PENDING:
				elog(ERROR, "an account of the batch was not tried");
		}
	}
	sd_record_failing(run, accounts, naccounts);
}

/* Keep why an account failed for the report, as long as there is room */
static void
record_error(Run *run, Account *account)
{
	MemoryContext caller_context;
	RunError   *error;

	if (run->results.nerrors == SD_MAX_ERRORS)
		return;
	caller_context = MemoryContextSwitchTo(run->run_context);
	error = palloc(sizeof(RunError));
	error->account = sd_key_text(run->plan->key, account->key);
	error->failure = sd_copy_failure(account->failure);
	run->errors = lappend(list_truncate(run->errors, run->results.nerrors), error);
	run->results.nerrors++;
	MemoryContextSwitchTo(caller_context);
}

/* What a plan does to rows, by step: TableRows *, in the current memory context */
List *
sd_tables_of_plan(DeletionPlan *plan)
{
	List	   *tables = NIL;
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		TableRows  *table = palloc0(sizeof(TableRows));

		table->table_name = step->table_name;
		table->action = step->action;
		if (step->definition != NULL)
			table->reason = step->definition->reason;
		tables = lappend(tables, table);
	}
	return tables;
}

/* Add the rows of the transaction to those of the run, also where there are none */
void
sd_add_tables(Run *run)
{
	MemoryContext caller_context = MemoryContextSwitchTo(run->run_context);

	run->results.tables = sd_sum_tables(run->results.tables, run->tables, run->rows);
	MemoryContextSwitchTo(caller_context);
}

/*
 * The sum of two lists of TableRows, in the current memory context.  Numbers
 * that are not in the second list itself are given in its order.
 */
List *
sd_sum_tables(List *tables, List *others, int64 *rows)
{
	List	   *sums = NIL;
	ListCell   *lc;

	foreach(lc, tables)
	{
		TableRows  *sum = palloc(sizeof(TableRows));

		*sum = *(TableRows *) lfirst(lc);
		sums = lappend(sums, sum);
	}
	foreach(lc, others)
	{
		TableRows  *other = lfirst(lc);
		TableRows  *sum = find_table(sums, other);

		if (sum == NULL)
		{
			sum = palloc(sizeof(TableRows));
			*sum = *other;
			sum->table_name = pstrdup(other->table_name);
			if (other->reason != NULL)
				sum->reason = pstrdup(other->reason);
			sum->rows = 0;
			sums = lappend(sums, sum);
		}
		sum->rows += rows != NULL ? rows[foreach_current_index(lc)] : other->rows;
	}
	return sums;
}

/*
 * That which has the same done to rows of a table of that name, or NULL: one
 * that was made anew since counts together with the one that is gone.
 */
static TableRows *
find_table(List *tables, TableRows *like)
{
	ListCell   *lc;

	foreach(lc, tables)
	{
		TableRows  *table = lfirst(lc);

		if (strcmp(table->table_name, like->table_name) == 0 &&
			table->action == like->action)
			return table;
	}
	return NULL;
}
