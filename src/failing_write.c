/*-------------------------------------------------------------------------
 *
 * failing_write.c
 *	  What deletion_failure says of accounts that have failed: written, forgotten,
 *	  and let be tried again.
 *
 * What became of an account is written in the transaction of the run, under the
 * lock of the account: two runs never write of the same one.  Nobody waits for what
 * is written, nor does the run.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/failing_write.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run.h"

/* the wait after the first failure, in microseconds, and the longest one */
#define FIRST_WAIT		(10 * USECS_PER_MINUTE)
#define LONGEST_WAIT	(12 * USECS_PER_HOUR)

/* accounts that have failed, of which nothing need be written yet */
#define FEW_NOTES		65536

/* how long writing may wait for a lock, in milliseconds */
#define LOCK_TIMEOUT	100

static void note(Run *run, List **notes, Account *account);
static bool write_body(void *arg);
static void forget(Run *run, List *accounts);
static void remember(Run *run, Account **accounts, int naccounts);
static TimestampTz next_attempt(Account *account);
static void delete_failures(Oid schema, const char *policy, Datum accounts,
							bool all);

/*
 * Note what became of the accounts of a batch: who failed is to be remembered;
 * who was deleted, is on hold, or not due any more, forgotten.
 */
void
sd_record_failing(Run *run, Account *accounts, int naccounts)
{
	for (int i = 0; i < naccounts; i++)
	{
		if (accounts[i].state == SD_FAILED ||
			(accounts[i].state == SD_SKIPPED && accounts[i].failure != NULL &&
			 run->uncertain != 0))
			note(run, &run->notes.failed, &accounts[i]);
		else if (accounts[i].remembered != NULL && accounts[i].state != SD_SKIPPED)
			sd_note_gone(run, &accounts[i]);
	}
	if (list_length(run->notes.failed) >= Max(FEW_NOTES, run->results.failed / 2))
		sd_write_failing(run);
}

/* Note that a remembered account is on hold, gone, or not due any more */
void
sd_note_gone(Run *run, Account *account)
{
	note(run, &run->notes.gone, account);
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
	copy->uncertain = account->state == SD_SKIPPED;
	if (account->remembered != NULL)
		copy->remembered = pstrdup(account->remembered);
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
	sd_forget_accounts(run->policy->schema, run->policy->name, keys,
					   list_length(accounts));
}

/* Write that accounts have failed, and when they are to be tried again */
static void
remember(Run *run, Account **accounts, int naccounts)
{
	Oid			schema = run->policy->schema;
	Oid			argtypes[] = {TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID,
		INT4ARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, OIDOID, NAMEARRAYOID, BOOLARRAYOID};
	Datum		values[lengthof(argtypes)];
	char	  **texts[5];
	Datum	   *attempts = palloc(sizeof(Datum) * Max(naccounts, 1));
	Datum	   *uncertain = palloc(sizeof(Datum) * Max(naccounts, 1));
	bool		has_column = run->uncertain != 0;
	Datum	   *next_attempts = palloc(sizeof(Datum) * Max(naccounts, 1));

	if (naccounts == 0)
		return;
	for (int i = 0; i < lengthof(texts); i++)
		texts[i] = palloc(sizeof(char *) * naccounts);
	for (int i = 0; i < naccounts; i++)
	{
		Failure    *failure = accounts[i]->failure;

		/* a lock that was not to be had once is no failure yet */
		attempts[i] = Int32GetDatum(accounts[i]->attempts +
									(accounts[i]->uncertain && accounts[i]->remembered == NULL ? 0 : 1));
		uncertain[i] = BoolGetDatum(accounts[i]->uncertain);
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
	values[2] = sd_text_array(texts[0], naccounts);
	values[3] = PointerGetDatum(construct_array(attempts, naccounts, INT4OID,
												sizeof(int32), true,
												TYPALIGN_INT));
	values[4] = PointerGetDatum(construct_array(next_attempts, naccounts,
												TIMESTAMPTZOID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	for (int i = 1; i < lengthof(texts); i++)
		values[4 + i] = sd_text_array(texts[i], naccounts);
	values[9] = ObjectIdGetDatum(run->policy->account_table);
	values[10] = sd_name_array(run->policy->key_columns);
	values[11] = PointerGetDatum(construct_array(uncertain, naccounts, BOOLOID,
												 sizeof(bool), true, TYPALIGN_CHAR));

	/*
	 * INSERT INTO deletion_failure (...) SELECT ... FROM unnest(...) ON
	 * CONFLICT (policy, <hash of account>) DO UPDATE SET all but
	 * first_attempt_at; nothing if the policy is about other accounts by now
	 */
	(void) sd_execute_as_owner(schema,
							   psprintf("INSERT INTO %s (policy, account, attempts,"
										" first_attempt_at, last_attempt_at, next_attempt_at,"
										" sqlstate, table_name, constraint_name, message%s)"
										" SELECT $1, u.a, u.n, $2, $2, u.t, u.s, u.r, u.c, u.m%s"
										" FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4),"
										" pg_catalog.unnest($5), pg_catalog.unnest($6),"
										" pg_catalog.unnest($7), pg_catalog.unnest($8),"
										" pg_catalog.unnest($9), pg_catalog.unnest($12)) u (a, n, t, s, r, c, m, o)"
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
										" message = excluded.message%s",
										sd_own_table(schema, "deletion_failure"),
										has_column ? ", uncertain" : "",
										has_column ? ", u.o" : "",
										sd_own_table(schema, "deletion_policy"),
										has_column ? ", uncertain = excluded.uncertain" : ""),
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
		failure->kind == SD_MOMENT_FAILURE || failure->while_auditing)
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

/* The same of these accounts, which are called so there */
void
sd_forget_accounts(Oid schema, const char *policy, char **keys, int nkeys)
{
	delete_failures(schema, policy, sd_text_array(keys, nkeys), false);
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

	/* by the index, however many keys there are */
	sd_delete_unlocked_as_owner(schema, "deletion_failure", all ?
								"policy OPERATOR(pg_catalog.=) $1" :
								"policy OPERATOR(pg_catalog.=) $1"
								" AND pg_catalog.hashtextextended(account, 0) OPERATOR(pg_catalog.=) ANY"
								" (ARRAY(SELECT pg_catalog.hashtextextended(k, 0) FROM pg_catalog.unnest($2) k))"
								" AND account OPERATOR(pg_catalog.=) ANY ($2)",
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
Datum
sd_text_array(char **texts, int n)
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
