/*-------------------------------------------------------------------------
 *
 * hold.c
 *	  Holds: reasons for which an account must not be deleted, placed and
 *	  released, each with an audit row in the same transaction.
 *
 * Whoever places a hold has the account locked: so he is seen by a run that claims
 * it later, and comes too late for one that has claimed it.  A hold counts for
 * every policy on the account table, so it is by the primary key of that table,
 * where there is one.
 *
 * The table is read and written as its owner; accounts and audit rows with the
 * caller's rights.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/hold.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "account.h"
#include "run.h"

/* characters of a reason: it refers to a case, and does not tell it */
#define MAX_REASON	200

/* Is that hold about that account? */
typedef struct Question
{
	Hold	   *hold;
	FoundAccount *account;
	PlanKey    *key;
} Question;

static void check_reason(const char *reason);
static bool is_about(Hold *hold, FoundAccount *account, bool is_there);
static bool is_equal_key(void *arg);

/*
 * Place a hold on an account, until that time if it is given; or let the one that
 * has the same reason end then.
 */
void
sd_hold(Oid schema, Request *request, const char *reason, TimestampTz *until)
{
	FoundAccount account = {0};
	Oid			argtypes[] = {OIDOID, TEXTOID, NAMEARRAYOID, TEXTOID, TEXTOID,
	TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, OIDOID, TEXTOID};
	Datum		values[lengthof(argtypes)] = {0};
	char		nulls[] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
	bool		has_type = sd_has_types(schema, "deletion_hold", "account_table");

	check_reason(reason);
	if (until != NULL && *until <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("until must be in the future"),
				 errhint("To end a hold, call release_account().")));
	sd_find_account(schema, request, &account);
	sd_refuse_lost_holds(schema, list_make1_oid(account.plan->account->table));

	values[0] = ObjectIdGetDatum(account.plan->account->table);
	values[1] = CStringGetTextDatum(sd_qualified_name(account.plan->account->table));
	values[2] = sd_name_array(sd_key_names(account.hold_key));
	values[3] = CStringGetTextDatum(sd_key_text(account.hold_key,
												&account.key[account.hold_key->first_value]));
	values[4] = CStringGetTextDatum(reason);
	values[5] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[6] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (until != NULL)
		values[7] = TimestampTzGetDatum(*until);
	else
		nulls[7] = 'n';
	values[8] = ObjectIdGetDatum(get_rel_type_id(account.plan->account->table));
	values[9] = CStringGetTextDatum(sd_key_types(account.hold_key));
	if (sd_execute_as_owner(schema,
							psprintf("INSERT INTO %s AS h (account_table, account_table_name,"
									 " key_columns, account, reason, held_by, held_at, held_until%s)"
									 " VALUES ($1, $2, $3, $4, $5, $6, $7, $8%s)"
									 " ON CONFLICT (account_table, key_columns, pg_catalog.hashtextextended(account, 0), reason)"
									 " DO UPDATE SET held_by = excluded.held_by, held_at = excluded.held_at,"
									 " held_until = excluded.held_until, refused_at = NULL%s"
									 " WHERE h.account OPERATOR(pg_catalog.=) excluded.account",
									 sd_own_table(schema, "deletion_hold"),
									 has_type ? ", account_table_type, key_types" : "",
									 has_type ? ", $9, $10" : "",
									 has_type ? ", key_types = excluded.key_types" : ""),
							SPI_OK_INSERT, lengthof(argtypes), argtypes,
							values, nulls) == 0)
		elog(ERROR, "two accounts have the same hash");
	sd_write_audit_row(account.plan, account.key, "account_held",
					   sd_hold_details(account.plan, reason, until),
					   account.performed_by);
}

/*
 * Release the holds on an account with that reason, or all of them if it is NULL;
 * false if there is none.  The account need not be there any more, but the caller needs
 * the same rights to its row as to place a hold.  Accounts that failed because of a hold
 * need not wait any longer.
 */
bool
sd_release(Oid schema, Request *request, const char *reason)
{
	FoundAccount account = {0};
	bool		is_there = sd_find_former_account(schema, request, &account);
	Oid			account_table;
	int			nreleased = 0;
	ListCell   *lc;

	account_table = account.plan->account->table;
	sd_refuse_lost_holds(schema, list_make1_oid(account_table));
	foreach(lc, sd_load_holds(schema, account_table, false))
	{
		Hold	   *hold = lfirst(lc);

		if ((reason != NULL && strcmp(reason, hold->reason) != 0) ||
			!is_about(hold, &account, is_there) ||
			!sd_delete_hold(schema, account_table, hold))
			continue;
		nreleased++;
		sd_write_audit_row(account.plan, account.key, "account_released",
						   sd_hold_details(account.plan, hold->reason, NULL),
						   account.performed_by);
	}
	if (nreleased > 0)
		sd_retry_held(schema);
	return nreleased > 0;
}

static void
check_reason(const char *reason)
{
	int			length = pg_mbstrlen(reason);

	if (length == 0 || length > MAX_REASON)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason must have between 1 and %d characters",
						MAX_REASON),
				 errhint("Refer to a case, as in 'case 2026/17', and name no person.")));
}

/*
 * Is a hold about that account, as far as is known?  One that cannot be read as a
 * key any more is not, nor is one by other columns than those that it is named by,
 * if it is not there.
 */
static bool
is_about(Hold *hold, FoundAccount *account, bool is_there)
{
	PlanKey    *key = is_there &&
		sd_same_names(sd_key_names(account->hold_key), hold->key_columns) ?
		account->hold_key : account->plan->key;
	Question	question = {hold, account, key};
	bool		is_equal;

	return sd_same_names(sd_key_names(key), hold->key_columns) &&
		sd_in_subtransaction(is_equal_key, &question, true, &is_equal) == NULL &&
		is_equal;
}

static bool
is_equal_key(void *arg)
{
	Question   *question = arg;
	PlanKey    *key = question->key;
	int			nestlevel = sd_begin_portable_text();
	Datum	   *values = sd_held_key(key, question->hold);

	AtEOXact_GUC(true, nestlevel);
	return sd_same_key(key, values,
					   &question->account->key[key->first_value]);
}
