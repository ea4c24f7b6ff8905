/*-------------------------------------------------------------------------
 *
 * failing.c
 *	  Accounts that have failed before: deletion_failure remembers them, so that
 *	  they are tried last, and not before some time has passed.
 *
 * A transaction of a run reads them once, leaves them out of what it picks, and
 * tries those whose time has come when nothing else is due, in small batches:
 * however many they are, they keep no other account from being deleted, and
 * cost a batch of others nothing.  The time between two attempts doubles, up to
 * twelve hours, so that each nightly run tries them all.
 *
 * What became of an account is written in the transaction of the run, under the
 * lock of the account: two runs never write of the same one.  Nobody waits for what
 * is written, nor does the run.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/failing.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run.h"

/* the wait after the first failure, in microseconds, and the longest one */
#define FIRST_WAIT		(10 * USECS_PER_MINUTE)
#define LONGEST_WAIT	(12 * USECS_PER_HOUR)

/*
 * Accounts that are tried together; most of them will fail again.  Where
 * constraints can be deferred, each try checks all that the run has deferred
 * before.
 */
#define FAILING_BATCH		512
#define SMALL_FAILING_BATCH	64

/* accounts that have failed, of which nothing need be written yet */
#define FEW_NOTES		65536

/* how long writing may wait for a lock, in milliseconds */
#define LOCK_TIMEOUT	100

/* what they may take at least, in microseconds */
#define LEAST_TIME		(10 * USECS_PER_SEC)

/* What was read of deletion_failure, to be made accounts of */
typedef struct Remembered
{
	Run		   *run;
	SPITupleTable *rows;		/* account, next_attempt_at, attempts,
								 * last_attempt_at, is it an error of class XX */
	uint64		n;
} Remembered;

static void read_failing(Run *run, Remembered *remembered);
static bool make_accounts(void *arg);
static int	take_failing(Run *run, int *next, Account *accounts, int limit);
static bool was_tried(Run *run, Account *account);
static bool is_passed(Run *run, Account *account);
static void pass(Run *run, Account *account);
static void note(Run *run, List **notes, Account *account);
static bool write_body(void *arg);
static void forget(Run *run, List *accounts);
static void remember(Run *run, Account **accounts, int naccounts);
static TimestampTz next_attempt(Account *account);
static void delete_failures(Oid schema, const char *policy, Datum accounts,
							bool all);
static Datum text_array(char **texts, int n);

/*
 * Read the accounts of the policy that have failed before; those on hold do so
 * no more.  If they cannot be read as keys any more, since those have another
 * type now, they are forgotten.
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
	if (sd_concerns_the_call(error))
		ReThrowError(error);
	run->nfailing = run->next_failing = 0;
	run->notes.gone = NIL;
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
										psprintf("SELECT account, next_attempt_at, attempts, last_attempt_at,"
												 " sqlstate OPERATOR(pg_catalog.~~) 'XX%%'"
												 " FROM %s WHERE policy OPERATOR(pg_catalog.=) $1"
												 " ORDER BY 5, last_attempt_at, account COLLATE pg_catalog.\"C\"",
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
	int			nestlevel = sd_begin_portable_text();

	run->failing = palloc_extended(sizeof(Account *) * Max(remembered->n, 1),
								   MCXT_ALLOC_HUGE);
	run->failing_rows = sd_make_rows(step);
	run->nfailing = run->next_failing = 0;
	for (uint64 i = 0; i < remembered->n; i++)
	{
		HeapTuple	tuple = remembered->rows->vals[i];
		Account    *account = palloc0(sizeof(Account));
		bool		is_null;

		account->remembered = SPI_getvalue(tuple, tupdesc, 1);
		account->key = palloc0(sizeof(Datum) * step->nvalues);
		memcpy(account->key,
			   sd_key_from_text(run->plan->key, account->remembered),
			   sizeof(Datum) * nkeys);
		account->nulls = palloc(sizeof(bool) * step->nvalues);
		memset(account->nulls, true, sizeof(bool) * step->nvalues);
		memset(account->nulls, false, sizeof(bool) * nkeys);
		account->rows = palloc0(sizeof(int64) * list_length(run->plan->steps));
		account->next_attempt_at =
			DatumGetTimestampTz(SPI_getbinval(tuple, tupdesc, 2, &is_null));
		account->attempts =
			DatumGetInt32(SPI_getbinval(tuple, tupdesc, 3, &is_null));
		account->last_attempt_at =
			DatumGetTimestampTz(SPI_getbinval(tuple, tupdesc, 4, &is_null));
		account->is_internal =
			DatumGetBool(SPI_getbinval(tuple, tupdesc, 5, &is_null));
		if (sd_is_held(run, account))
			note(run, &run->notes.gone, account);
		else
			run->failing[run->nfailing++] = account;
		if (is_passed(run, account))
			run->next_failing = run->nfailing;
		sd_add_account(run->failing_rows, step, account);
	}
	AtEOXact_GUC(true, nestlevel);
	return true;
}

/* How many accounts that have failed before are due */
int64
sd_count_failing_due(Run *run)
{
	int64		ndue = 0;

	if (run->nfailing == 0)
		return 0;
	sd_find_due(run, run->failing, run->nfailing);
	for (int i = 0; i < run->nfailing; i++)
		ndue += run->failing[i]->found;
	return ndue;
}

/* Has an account that is picked failed before? */
bool
sd_has_failed_before(Run *run, Account *account)
{
	return run->nfailing > 0 &&
		sd_find_row(run->failing_rows, run->plan->self, account->key) != NULL;
}

/*
 * Accounts that have failed before and whose time has come, to be tried again;
 * returns how many: no more than fit into a batch.
 */
int
sd_copy_failing(Run *run, Account **accounts)
{
	int			next = 0;

	*accounts = palloc(sizeof(Account) * FAILING_BATCH);
	return take_failing(run, &next, *accounts, FAILING_BATCH);
}

/*
 * Was an account tried since the run began, by it or by another?  What is to
 * come was written when the clock was wrong.
 */
static bool
was_tried(Run *run, Account *account)
{
	return account->last_attempt_at >= run->started_at &&
		account->last_attempt_at <= GetCurrentTimestamp();
}

/* From that one on, which moves on; returns how many */
static int
take_failing(Run *run, int *next, Account *accounts, int limit)
{
	int			n = 0;

	for (; *next < run->nfailing && n < limit; (*next)++)
	{
		Account    *account = run->failing[*next];

		if (account->next_attempt_at <= run->started_at && !was_tried(run, account))
			accounts[n++] = *account;
	}
	return n;
}

/* Was an account passed, in their order, before this transaction began? */
static bool
is_passed(Run *run, Account *account)
{
	FailingPosition *passed = &run->passed;

	if (!passed->valid)
		return false;
	if (account->is_internal != passed->is_internal)
		return passed->is_internal;
	if (account->last_attempt_at != passed->last_attempt_at)
		return account->last_attempt_at < passed->last_attempt_at;
	return strcmp(account->remembered, passed->account) <= 0;
}

/* Let the next transaction go on after that account */
static void
pass(Run *run, Account *account)
{
	FailingPosition *passed = &run->passed;

	passed->valid = true;
	passed->is_internal = account->is_internal;
	passed->last_attempt_at = account->last_attempt_at;
	passed->account = MemoryContextStrdup(run->run_context, account->remembered);
}

/*
 * May accounts that have failed before be tried, and are there any whose time
 * has come? If that takes longer than all that went before, the others are left
 * to the next run, which begins with them.
 */
bool
sd_may_try_failing(Run *run)
{
	int			next = run->next_failing;
	Account		account;

	if (run->until == 0)
	{
		int64		now = sd_clock();

		run->until = now + Max(now - run->began, LEAST_TIME);
	}
	return sd_clock() < run->until && take_failing(run, &next, &account, 1) > 0;
}

/* Try a batch of them, no more than so many */
void
sd_try_failing(Run *run, int64 limit)
{
	Account    *accounts;
	int			n;

	if (!run->tries_failing)
	{
		run->tries_failing = true;
		run->searched = 0;
		run->failed_in_search = 0;
	}
	MemoryContextReset(run->batch_context);
	MemoryContextSwitchTo(run->batch_context);
	limit = Min(limit, run->can_defer ? SMALL_FAILING_BATCH : FAILING_BATCH);
	if (run->commits)
		limit = Min(limit, Min(run->batch_size, run->pace.size));
	accounts = palloc(sizeof(Account) * Max(limit, 1));
	n = take_failing(run, &run->next_failing, accounts, limit);
	if (n > 0)
	{
		pass(run, &accounts[n - 1]);
		(void) sd_delete_batch(run, accounts, n, false);
		sd_record_results(run, accounts, n);
	}
	MemoryContextSwitchTo(run->transaction_context);
}

/*
 * Count the accounts that wait, in a run that has ended, and note which are not
 * due any more.  Those that were to be tried, and have not been for want of
 * time, wait for the next run; but not where it was ended otherwise.
 */
void
sd_count_waiting(Run *run)
{
	bool		is_drained = strcmp(run->stop_reason, "drained") == 0;
	Account   **waiting = palloc(sizeof(Account *) * Max(run->nfailing, 1));
	int			nwaiting = 0;

	for (int i = 0; i < run->nfailing; i++)
	{
		Account    *account = run->failing[i];

		if (!was_tried(run, account) &&
			(account->next_attempt_at > run->started_at ||
			 (is_drained && i >= run->next_failing)))
			waiting[nwaiting++] = account;
	}
	if (nwaiting == 0)
		return;
	sd_find_due(run, waiting, nwaiting);
	for (int i = 0; i < nwaiting; i++)
	{
		if (waiting[i]->found)
			run->results.waiting++;
		else
			note(run, &run->notes.gone, waiting[i]);
	}
}

/*
 * Note what became of the accounts of a batch: who failed is to be remembered;
 * who was deleted, is on hold, or not due any more, forgotten.
 */
void
sd_record_failing(Run *run, Account *accounts, int naccounts)
{
	for (int i = 0; i < naccounts; i++)
	{
		if (accounts[i].state == SD_FAILED)
			note(run, &run->notes.failed, &accounts[i]);
		else if (accounts[i].attempts > 0 && accounts[i].state != SD_SKIPPED)
			note(run, &run->notes.gone, &accounts[i]);
	}
	if (list_length(run->notes.failed) >= Max(FEW_NOTES, run->results.failed / 2))
		sd_write_failing(run);
}

/* Copy what is to be written of an account; many failures in a row are the same */
static void
note(Run *run, List **notes, Account *account)
{
	PlanKey    *key = run->plan->key;
	int			nvalues = run->plan->account->nvalues;
	MemoryContext caller_context = MemoryContextSwitchTo(run->transaction_context);
	Account    *last = *notes != NIL ? llast(*notes) : NULL;
	Account    *copy = palloc0(sizeof(Account));

	copy->key = palloc0(sizeof(Datum) * nvalues);
	copy->nulls = palloc(sizeof(bool) * nvalues);
	memset(copy->nulls, true, sizeof(bool) * nvalues);
	for (int i = 0; i < key->ncolumns; i++)
	{
		copy->key[i] = datumCopy(account->key[i], key->columns[i].typbyval,
								 key->columns[i].typlen);
		copy->nulls[i] = false;
	}
	copy->attempts = account->attempts;
	copy->remembered = account->remembered;
	if (account->failure != NULL)
		copy->failure = last != NULL &&
			sd_same_failure(last->failure, account->failure) ?
			last->failure : sd_copy_failure(account->failure);
	*notes = lappend(*notes, copy);
	MemoryContextSwitchTo(caller_context);
}

/*
 * Write down what was noted: who failed, as far as nobody else has locked the
 * account by now.  All at once, for each time leaves a subtransaction behind.
 *
 * Nothing is written where that has to wait for somebody else, who has changed the
 * rows: then it is as if the accounts had not been tried.
 */
void
sd_write_failing(Run *run)
{
	ErrorData  *error;
	bool		done;

	if (run->notes.failed == NIL && run->notes.gone == NIL)
		return;
	error = sd_in_subtransaction(write_body, run, true, &done);

	/* a foreign key: the policy has been removed since */
	if (error != NULL && error->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION &&
		sd_failure_from_error(error, "", InvalidOid)->kind != SD_MOMENT_FAILURE)
		ReThrowError(error);
	list_free_deep(run->notes.failed);
	list_free_deep(run->notes.gone);
	run->notes.failed = run->notes.gone = NIL;
}

static bool
write_body(void *arg)
{
	Run		   *run = arg;
	int			nfailed = list_length(run->notes.failed);
	Account   **failed = palloc(sizeof(Account *) * Max(nfailed, 1));
	int			n = 0;
	ListCell   *lc;

	sd_set_lock_timeout(LOCK_TIMEOUT);
	foreach(lc, run->notes.failed)
		failed[foreach_current_index(lc)] = lfirst(lc);
	if (nfailed > 0)
		sd_lock_again(run, failed, nfailed);
	for (int i = 0; i < nfailed; i++)
	{
		if (failed[i]->found)
			failed[n++] = failed[i];
	}
	remember(run, failed, n);
	forget(run, run->notes.gone);
	return true;
}

/* Delete what deletion_failure says of accounts */
static void
forget(Run *run, List *accounts)
{
	char	  **keys = palloc(sizeof(char *) * Max(list_length(accounts), 1));
	ListCell   *lc;

	if (accounts == NIL)
		return;
	foreach(lc, accounts)
		keys[foreach_current_index(lc)] = ((Account *) lfirst(lc))->remembered;
	delete_failures(run->policy->schema, run->policy->name,
					text_array(keys, list_length(accounts)), false);
}

/* Write that accounts have failed, and when they are to be tried again */
static void
remember(Run *run, Account **accounts, int naccounts)
{
	Oid			schema = run->policy->schema;
	Oid			argtypes[] = {TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID,
		INT4ARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, OIDOID, NAMEARRAYOID};
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
		next_attempts[i] = TimestampTzGetDatum(next_attempt(accounts[i]));
		texts[0][i] = accounts[i]->remembered != NULL ? accounts[i]->remembered :
			sd_key_text(run->plan->key, accounts[i]->key);
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
	values[9] = ObjectIdGetDatum(run->policy->account_table);
	values[10] = sd_name_array(run->policy->key_columns);

	/*
	 * INSERT INTO deletion_failure (...) SELECT ... FROM unnest(...) ON
	 * CONFLICT (policy, <hash of account>) DO UPDATE SET all but
	 * first_attempt_at; nothing if the policy is about other accounts by now
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
										" WHERE EXISTS (SELECT FROM %s p WHERE p.policy OPERATOR(pg_catalog.=) $1"
										" AND p.account_table::pg_catalog.oid OPERATOR(pg_catalog.=) $10"
										" AND p.key_columns OPERATOR(pg_catalog.=) $11)"
										" ON CONFLICT (policy, pg_catalog.hashtextextended(account, 0))"
										" DO UPDATE SET"
										" attempts = excluded.attempts,"
										" last_attempt_at = excluded.last_attempt_at,"
										" next_attempt_at = excluded.next_attempt_at,"
										" sqlstate = excluded.sqlstate,"
										" table_name = excluded.table_name,"
										" constraint_name = excluded.constraint_name,"
										" message = excluded.message",
										sd_own_table(schema, "deletion_failure"),
										sd_own_table(schema, "deletion_policy")),
							   SPI_OK_INSERT, lengthof(argtypes), argtypes,
							   values, NULL);
}

/*
 * When an account is to be tried again that has just failed: the wait doubles, and
 * is up to a quarter shorter, so that accounts which failed together are not all
 * tried together.  There is none where the error may not be the account's: when it
 * is mended, the next run is to delete all.
 */
static TimestampTz
next_attempt(Account *account)
{
	Failure    *failure = account->failure;
	int64		wait = FIRST_WAIT;

	if (failure->kind == SD_SCHEMA_FAILURE || failure->kind == SD_SERVER_FAILURE ||
		failure->while_auditing)
		return GetCurrentTimestamp();
	for (int i = 0; i < account->attempts && wait < LONGEST_WAIT; i++)
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

/*
 * Delete the rows of these accounts, an array of keys as text, or all of the
 * policy, but for those that somebody else has locked.
 */
static void
delete_failures(Oid schema, const char *policy, Datum accounts, bool all)
{
	Oid			argtypes[] = {TEXTOID, TEXTARRAYOID};
	Datum		values[] = {CStringGetTextDatum(policy), accounts};
	char		nulls[] = {' ', all ? 'n' : ' '};

	sd_delete_unlocked_as_owner(schema, "deletion_failure",
								"policy OPERATOR(pg_catalog.=) $1"
								" AND ($2 IS NULL OR account OPERATOR(pg_catalog.=) ANY ($2))",
								lengthof(argtypes), argtypes, values, nulls);
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
 * The same of those that failed because of a hold: by every policy, for one on
 * another table may delete accounts, too.
 */
void
sd_retry_held(Oid schema)
{
	Oid			argtypes[] = {TIMESTAMPTZOID, TEXTOID};
	Datum		values[] = {TimestampTzGetDatum(GetCurrentTimestamp()),
	CStringGetTextDatum(unpack_sql_state(ERRCODE_RESTRICT_VIOLATION))};

	(void) sd_execute_as_owner(schema,
							   psprintf("UPDATE %s SET next_attempt_at = $1"
										" WHERE sqlstate OPERATOR(pg_catalog.=) $2"
										" AND next_attempt_at OPERATOR(pg_catalog.>) $1",
										sd_own_table(schema, "deletion_failure")),
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
