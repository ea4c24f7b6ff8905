/*-------------------------------------------------------------------------
 *
 * failing.c
 *	  Accounts that have failed before: deletion_failure remembers them, so that
 *	  they are tried last, and not before some time has passed.
 *
 * A run reads them once, leaves them out of what it picks, and tries those whose
 * time has come when nothing else is due, in small batches: however many they
 * are, they keep no other account from being deleted, and cost a batch of others
 * nothing.  The time between two attempts doubles, up to twelve hours, so that
 * each nightly run tries them all.
 *
 * What became of an account is written in the transaction of the run, under the
 * lock of the account: two runs never write of the same one.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/failing.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run.h"

/* the wait after the first failure, in microseconds, and the longest one */
#define FIRST_WAIT		(10 * USECS_PER_MINUTE)
#define LONGEST_WAIT	(12 * USECS_PER_HOUR)

/* accounts that are tried together; most of them will fail again */
#define FAILING_BATCH	512

/* What was read of deletion_failure, to be made accounts of */
typedef struct Remembered
{
	Run		   *run;
	SPITupleTable *rows;		/* account, next_attempt_at, attempts */
	uint64		n;
} Remembered;

/* What is to be written there */
typedef struct Notes
{
	Run		   *run;
	Account   **failed;
	int			nfailed;
	Account   **gone;			/* or on hold, or not due any more */
	int			ngone;
} Notes;

static void read_failing(Run *run, Remembered *remembered);
static bool make_accounts(void *arg);
static void count_waiting(Run *run);
static void write_down(Notes *notes);
static bool write_body(void *arg);
static void forget(Run *run, Account **accounts, int naccounts);
static void remember(Run *run, Account **accounts, int naccounts);
static TimestampTz next_attempt(int attempts);
static void delete_failures(Oid schema, const char *policy, Datum accounts,
							bool all);
static Datum text_array(char **texts, int n);

/*
 * Read the accounts of the policy that have failed before.  If they cannot be read
 * as keys any more, since those have another type now, they are forgotten.
 */
void
sd_load_failing(Run *run)
{
	Remembered	remembered;
	bool		done;
	ErrorData  *error;

	read_failing(run, &remembered);
	error = sd_in_subtransaction(make_accounts, &remembered, true, &done);
	SPI_freetuptable(remembered.rows);
	if (error == NULL)
		return;
	if (sd_fatal_failure(error)->kind == SD_RUN_FAILURE)
		ReThrowError(error);
	run->nfailing = 0;
	sd_forget_failing(run->policy->schema, run->policy->name);
}

static void
read_failing(Run *run, Remembered *remembered)
{
	Oid			argtypes[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(run->policy->name)};
	Oid			schema = run->policy->schema;

	/* internal errors last: each ends a run */
	remembered->run = run;
	remembered->n = sd_execute_as_owner(schema,
										psprintf("SELECT account, next_attempt_at, attempts FROM %s"
												 " WHERE policy OPERATOR(pg_catalog.=) $1"
												 " ORDER BY (sqlstate OPERATOR(pg_catalog.~~) 'XX%%'),"
												 " last_attempt_at, account",
												 sd_own_table(schema, "deletion_failure")),
										SPI_OK_SELECT, 1, argtypes, values, NULL);
	remembered->rows = SPI_tuptable;
}

static bool
make_accounts(void *arg)
{
	Remembered *remembered = arg;
	TupleDesc	tupdesc = remembered->rows->tupdesc;
	Run		   *run = remembered->run;
	PlanStep   *step = run->plan->account;
	int			nkeys = run->plan->key->ncolumns;

	run->failing = palloc_extended(sizeof(Account *) * Max(remembered->n, 1),
								   MCXT_ALLOC_HUGE);
	run->failing_rows = sd_make_rows(step);
	for (uint64 i = 0; i < remembered->n; i++)
	{
		HeapTuple	tuple = remembered->rows->vals[i];
		Account    *account = palloc0(sizeof(Account));
		bool		is_null;

		account->key = palloc0(sizeof(Datum) * step->nvalues);
		memcpy(account->key,
			   sd_key_from_text(run->plan->key, SPI_getvalue(tuple, tupdesc, 1)),
			   sizeof(Datum) * nkeys);
		account->nulls = palloc(sizeof(bool) * step->nvalues);
		memset(account->nulls, true, sizeof(bool) * step->nvalues);
		memset(account->nulls, false, sizeof(bool) * nkeys);
		account->rows = palloc0(sizeof(int64) * list_length(run->plan->steps));
		account->next_attempt_at =
			DatumGetTimestampTz(SPI_getbinval(tuple, tupdesc, 2, &is_null));
		account->attempts =
			DatumGetInt32(SPI_getbinval(tuple, tupdesc, 3, &is_null));
		run->failing[run->nfailing++] = account;
		sd_add_account(run->failing_rows, step, account);
	}
	return true;
}

/*
 * Leave out of picked accounts those that have failed before; returns how many
 * remain, at the beginning of the array.
 */
int
sd_leave_out_failing(Run *run, Account *accounts, int naccounts)
{
	int			n = 0;

	if (run->nfailing == 0)
		return naccounts;
	for (int i = 0; i < naccounts; i++)
	{
		if (sd_find_row(run->failing_rows, run->plan->key,
						run->plan->self->compare, accounts[i].key) == NULL)
			accounts[n++] = accounts[i];
	}
	return n;
}

/*
 * Try the accounts that have failed before and whose time has come, and count
 * those that wait.
 */
void
sd_try_failing(Run *run)
{
	int			next = 0;

	run->tries_failing = true;
	run->searched = 0;
	run->failed_in_search = 0;
	while (next < run->nfailing && run->stop_reason == NULL)
	{
		Account    *accounts;
		int64		limit = sd_within_limit(run, FAILING_BATCH);
		int			n = 0;

		if (limit == 0)
			break;
		MemoryContextReset(run->batch_context);
		MemoryContextSwitchTo(run->batch_context);
		accounts = palloc(sizeof(Account) * limit);
		for (; next < run->nfailing && n < limit; next++)
		{
			if (run->failing[next]->next_attempt_at <= run->started_at)
				accounts[n++] = *run->failing[next];
		}
		if (n > 0)
		{
			(void) sd_delete_batch(run, accounts, n, false);
			sd_record_results(run, accounts, n);
		}
		MemoryContextSwitchTo(run->run_context);
	}
	count_waiting(run);
}

/* Count the accounts that wait, and forget those that are not due any more */
static void
count_waiting(Run *run)
{
	Account   **waiting = palloc(sizeof(Account *) * Max(run->nfailing, 1));
	int			nwaiting = 0;
	Notes		notes = {.run = run};

	for (int i = 0; i < run->nfailing; i++)
	{
		if (run->failing[i]->next_attempt_at > run->started_at)
			waiting[nwaiting++] = run->failing[i];
	}
	if (nwaiting == 0)
		return;
	sd_find_due(run, waiting, nwaiting);
	notes.gone = palloc(sizeof(Account *) * nwaiting);
	for (int i = 0; i < nwaiting; i++)
	{
		if (waiting[i]->found)
			run->waiting++;
		else
			notes.gone[notes.ngone++] = waiting[i];
	}
	write_down(&notes);
}

/*
 * Write down what became of the accounts of a batch: who failed is remembered, as
 * far as nobody else has locked the account by now; who was deleted, is on hold,
 * or not due any more, is forgotten.
 */
void
sd_record_failing(Run *run, Account *accounts, int naccounts)
{
	Notes		notes = {.run = run};

	notes.failed = palloc(sizeof(Account *) * naccounts);
	notes.gone = palloc(sizeof(Account *) * naccounts);
	for (int i = 0; i < naccounts; i++)
	{
		if (accounts[i].state == SD_FAILED)
			notes.failed[notes.nfailed++] = &accounts[i];
		else if (accounts[i].attempts > 0 &&
				 accounts[i].state != SD_SKIPPED)
			notes.gone[notes.ngone++] = &accounts[i];
	}
	write_down(&notes);
}

/*
 * Write it, but where the snapshot is an old one, and somebody else has written
 * of the same accounts since: what they say is as good.
 */
static void
write_down(Notes *notes)
{
	ErrorData  *error;
	bool		done;

	if (notes->nfailed == 0 && notes->ngone == 0)
		return;
	if (!IsolationUsesXactSnapshot())
	{
		(void) write_body(notes);
		return;
	}
	error = sd_in_subtransaction(write_body, notes, true, &done);
	if (error != NULL &&
		sd_failure_from_error(error, "", InvalidOid)->kind != SD_MOMENT_FAILURE)
		ReThrowError(error);
}

static bool
write_body(void *arg)
{
	Notes	   *notes = arg;
	int			n = 0;

	if (notes->nfailed > 0)
		sd_lock_again(notes->run, notes->failed, notes->nfailed);
	for (int i = 0; i < notes->nfailed; i++)
	{
		if (notes->failed[i]->found)
			notes->failed[n++] = notes->failed[i];
	}
	remember(notes->run, notes->failed, n);
	forget(notes->run, notes->gone, notes->ngone);
	return true;
}

/* Delete what deletion_failure says of accounts */
static void
forget(Run *run, Account **accounts, int naccounts)
{
	char	  **keys = palloc(sizeof(char *) * Max(naccounts, 1));

	if (naccounts == 0)
		return;
	for (int i = 0; i < naccounts; i++)
		keys[i] = sd_key_text(run->plan->key, accounts[i]->key);
	delete_failures(run->policy->schema, run->policy->name,
					text_array(keys, naccounts), false);
}

/* Write that accounts have failed, and when they are to be tried again */
static void
remember(Run *run, Account **accounts, int naccounts)
{
	Oid			schema = run->policy->schema;
	Oid			argtypes[] = {TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID,
		INT4ARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[lengthof(argtypes)];
	char	  **texts[5];
	Datum	   *attempts = palloc(sizeof(Datum) * Max(naccounts, 1));
	Datum	   *next_attempts = palloc(sizeof(Datum) * Max(naccounts, 1));

	if (naccounts == 0)
		return;
	for (int i = 0; i < lengthof(texts); i++)
		texts[i] = palloc(sizeof(char *) * naccounts);
	for (int i = 0; i < naccounts; i++)
	{
		Failure    *failure = accounts[i]->failure;

		attempts[i] = Int32GetDatum(accounts[i]->attempts + 1);
		next_attempts[i] = TimestampTzGetDatum(next_attempt(accounts[i]->attempts));
		texts[0][i] = sd_key_text(run->plan->key, accounts[i]->key);
		texts[1][i] = pstrdup(unpack_sql_state(failure->sqlstate));
		texts[2][i] = failure->table_name;
		texts[3][i] = failure->constraint_name;
		texts[4][i] = failure->message;
	}

	values[0] = CStringGetTextDatum(run->policy->name);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[2] = text_array(texts[0], naccounts);
	values[3] = PointerGetDatum(construct_array(attempts, naccounts, INT4OID,
												sizeof(int32), true,
												TYPALIGN_INT));
	values[4] = PointerGetDatum(construct_array(next_attempts, naccounts,
												TIMESTAMPTZOID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	for (int i = 1; i < lengthof(texts); i++)
		values[4 + i] = text_array(texts[i], naccounts);

	/*
	 * INSERT INTO deletion_failure (...) SELECT ... FROM unnest(...) ON
	 * CONFLICT (policy, account) DO UPDATE SET all but first_attempt_at
	 */
	(void) sd_execute_as_owner(schema,
							   psprintf("INSERT INTO %s (policy, account, attempts,"
										" first_attempt_at, last_attempt_at, next_attempt_at,"
										" sqlstate, table_name, constraint_name, message)"
										" SELECT $1, u.a, u.n, $2, $2, u.t, u.s, u.r, u.c, u.m"
										" FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4),"
										" pg_catalog.unnest($5), pg_catalog.unnest($6),"
										" pg_catalog.unnest($7), pg_catalog.unnest($8),"
										" pg_catalog.unnest($9)) u (a, n, t, s, r, c, m)"
										" ON CONFLICT (policy, account) DO UPDATE SET"
										" attempts = excluded.attempts,"
										" last_attempt_at = excluded.last_attempt_at,"
										" next_attempt_at = excluded.next_attempt_at,"
										" sqlstate = excluded.sqlstate,"
										" table_name = excluded.table_name,"
										" constraint_name = excluded.constraint_name,"
										" message = excluded.message",
										sd_own_table(schema, "deletion_failure")),
							   SPI_OK_INSERT, lengthof(argtypes), argtypes,
							   values, NULL);
}

/*
 * When an account is to be tried again that failed so many times before: the
 * wait doubles, and is up to a quarter shorter, so that accounts which failed
 * together are not all tried together.
 */
static TimestampTz
next_attempt(int attempts)
{
	int64		wait = FIRST_WAIT;

	while (attempts-- > 0 && wait < LONGEST_WAIT)
		wait *= 2;
	wait = Min(wait, LONGEST_WAIT);
	wait -= (int64) (wait / 4 * pg_prng_double(&pg_global_prng_state));
	return GetCurrentTimestamp() + wait;
}

/* Forget all accounts of a policy that have failed */
void
sd_forget_failing(Oid schema, const char *policy)
{
	delete_failures(schema, policy, (Datum) 0, true);
}

/* Delete the rows of these accounts, an array of keys as text, or all of the policy */
static void
delete_failures(Oid schema, const char *policy, Datum accounts, bool all)
{
	Oid			argtypes[] = {TEXTOID, TEXTARRAYOID};
	Datum		values[] = {CStringGetTextDatum(policy), accounts};
	char		nulls[] = {' ', all ? 'n' : ' '};

	(void) sd_execute_as_owner(schema,
							   psprintf("DELETE FROM %s WHERE policy OPERATOR(pg_catalog.=) $1"
										" AND ($2 IS NULL OR account OPERATOR(pg_catalog.=) ANY ($2))",
										sd_own_table(schema, "deletion_failure")),
							   SPI_OK_DELETE, lengthof(argtypes), argtypes,
							   values, nulls);
}

/*
 * Let accounts be tried by the next run: that one, or all, of that policy, or of
 * all.  Returns how many have waited.
 */
uint64
sd_retry(Oid schema, const char *account, const char *policy)
{
	Oid			argtypes[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[3] = {0};
	char		nulls[] = {policy == NULL ? 'n' : ' ', account == NULL ? 'n' : ' ', ' '};

	if (policy != NULL)
	{
		(void) sd_load_policies(schema, policy, true, false);
		values[0] = CStringGetTextDatum(policy);
	}
	if (account != NULL)
		values[1] = CStringGetTextDatum(account);
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	return sd_execute_as_owner(schema,
							   psprintf("UPDATE %s SET next_attempt_at = $3"
										" WHERE ($1 IS NULL OR policy OPERATOR(pg_catalog.=) $1)"
										" AND ($2 IS NULL OR account OPERATOR(pg_catalog.=) $2)"
										" AND next_attempt_at OPERATOR(pg_catalog.>) $3",
										sd_own_table(schema, "deletion_failure")),
							   SPI_OK_UPDATE, lengthof(argtypes), argtypes,
							   values, nulls);
}

/*
 * The same of those that failed because of a hold, by every policy on an account
 * table.
 */
void
sd_retry_held(Oid schema, Oid account_table)
{
	Oid			argtypes[] = {OIDOID, TIMESTAMPTZOID, TEXTOID};
	Datum		values[] = {ObjectIdGetDatum(account_table),
		TimestampTzGetDatum(GetCurrentTimestamp()),
	CStringGetTextDatum(unpack_sql_state(ERRCODE_RESTRICT_VIOLATION))};

	(void) sd_execute_as_owner(schema,
							   psprintf("UPDATE %s f SET next_attempt_at = $2 FROM %s p"
										" WHERE f.policy OPERATOR(pg_catalog.=) p.policy"
										" AND p.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $1"
										" AND f.sqlstate OPERATOR(pg_catalog.=) $3"
										" AND f.next_attempt_at OPERATOR(pg_catalog.>) $2",
										sd_own_table(schema, "deletion_failure"),
										sd_own_table(schema, "deletion_policy")),
							   SPI_OK_UPDATE, lengthof(argtypes), argtypes,
							   values, NULL);
}

/* Texts, of which some may be NULL, as a parameter */
static Datum
text_array(char **texts, int n)
{
	Datum	   *values = palloc(sizeof(Datum) * n);
	bool	   *nulls = palloc(sizeof(bool) * n);
	int			lower_bound = 1;

	for (int i = 0; i < n; i++)
	{
		nulls[i] = texts[i] == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
	}
	return PointerGetDatum(construct_md_array(values, nulls, 1, &n, &lower_bound,
											  TEXTOID, -1, false, TYPALIGN_INT));
}
