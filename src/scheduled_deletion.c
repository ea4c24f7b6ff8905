/*-------------------------------------------------------------------------
 *
 * scheduled_deletion.c
 *	  Delete accounts and all their rows when their time has come.
 *
 * This file is the table of contents: the module and each function that SQL can
 * call.  What they do goes through the files in this order:
 *
 *	settings.c	what can be set
 *	register.c	what the operator decides: policies and steps
 *	schedule.c	the grace period: asked for, and taken back
 *	hold.c		a reason not to, placed and released
 *	guard.c		which binds everybody else, too
 *	account.c	the account that it is about
 *	check.c		what check_deletion_policy() finds:
 *	check_keys.c	foreign keys that block, or reach too far
 *	check_columns.c	columns that should be keys
 *	check_indexes.c	indexes that are missing
 *	check_triggers.c	what can keep a row
 *	check_code.c	whose code runs
 *	check_role.c	what the job's role may do
 *	check_holds.c	holds that protect nobody
 *	check_accounts.c	the accounts themselves
 *	finding.c		what is said alike
 *	describe.c	what deletion_plan() shows
 *	estimate.c	how many rows that are, by the planner's statistics
 *	status.c	how a policy stands
 *	call.c		one call: the policies that it names, each in its turn
 *	procedure.c	the same, with a transaction for each batch
 *	turn.c			what a policy's run has of the call
 *	ledger.c		what is remembered of it
 *	log.c		what the server's log is told
 *	run.c		pick due accounts, batch by batch, until none is left
 *	pace.c			how large the next batch is, and when it begins
 *	lag.c			not before others have replicated what went before
 *	progress.c		how far it is
 *	result.c		what was done so far
 *	brake.c		unless they are too many
 *	refusal.c	those on hold are left alone, and that is told
 *	failing.c	those that have failed before, tried last
 *	failing_read.c	what is read of them
 *	failing_write.c	what is written of them
 *	suspects.c	and of those whom a run was deleting when it ended
 *	search.c	delete a batch; find the accounts that fail
 *	batch.c		one attempt: lock, collect, blockers, steps, audit, prove
 *	execute.c		its steps, and the proof that all is gone
 *	share.c			what must stay, for it is shared with an account on hold
 *	strangers.c		to whom rows belong, too
 *	spare.c			whom it leaves alone
 *	collect.c		the rows that others refer to
 *	receive.c		whose the rows are that a statement returns
 *	rows.c			those that others refer to
 *	preflight.c	refuse what must not start
 *	plan.c		from a policy to tonight's plan:
 *	due.c			when an account is due
 *	audit.c			the audit table, and the rows written to it
 *	discover.c		whose rows go, whose stay, and whose stop an account
 *	definition.c	what the operator has decided of them
 *	blockers.c		what to know of keys that stop accounts
 *	step.c			one table of it
 *	order.c			in which order
 *	prove.c			which foreign-key checks would find nothing
 *	writers.c		unless somebody writes without them
 *	statement.c		the statements,
 *	statement_account.c	those on the account table
 *	statement_above.c	and what rows lead to that stay
 *	policy.c	read and write policies; register the built-in one
 *	held.c		the accounts that are on hold
 *	held_asked.c	those of some, where there are many
 *	watch.c		those of other tables, to whom rows belong, too
 *	link.c		how columns lead to a key
 *	index.c		whether an index finds them
 *	key.c		what a key is
 *	key_text.c	how people write one
 *	remember.c	whether a table is the one that was meant
 *	trigger.c	what its triggers are
 *	resolve.c	look tables and columns up in the catalog
 *	names.c		how they are written
 *	failure.c	tell an error without a word of the person
 *	report.c	answer
 *	spi_util.c	how statements and subtransactions are run
 *	hook.c		how they are planned and begun
 *	ahead.c		pages of their indexes that are asked for before
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/scheduled_deletion.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "account.h"
#include "check.h"
#include "run.h"

SD_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(process_scheduled_deletions);
PG_FUNCTION_INFO_V1(run_scheduled_deletions);
PG_FUNCTION_INFO_V1(add_deletion_policy);
PG_FUNCTION_INFO_V1(alter_deletion_policy);
PG_FUNCTION_INFO_V1(remove_deletion_policy);
PG_FUNCTION_INFO_V1(add_deletion_step);
PG_FUNCTION_INFO_V1(remove_deletion_step);
PG_FUNCTION_INFO_V1(deletion_plan);
PG_FUNCTION_INFO_V1(check_deletion_policy);
PG_FUNCTION_INFO_V1(deletion_policy_status);
PG_FUNCTION_INFO_V1(schedule_account_deletion);
PG_FUNCTION_INFO_V1(cancel_account_deletion);
PG_FUNCTION_INFO_V1(retry_account);
PG_FUNCTION_INFO_V1(hold_account);
PG_FUNCTION_INFO_V1(release_account);
PG_FUNCTION_INFO_V1(guard_held_accounts);

void		_PG_init(void);
static void refuse_atomic_call(FunctionCallInfo fcinfo);
static int64 get_time_argument(FunctionCallInfo fcinfo, int i,
							   const char *name);
static void check_not_null(FunctionCallInfo fcinfo, int i, const char *name);
static void check_positive(int64 value, const char *name);
static Request take_request(FunctionCallInfo fcinfo, int policy,
							int performed_by);
static char *get_text_argument(FunctionCallInfo fcinfo, int i);
static void take_arguments(FunctionCallInfo fcinfo, const int *columns,
						   PolicyRow *row);
static void notice_hanging_steps(FunctionCallInfo fcinfo);
static uint64 remove_from(FunctionCallInfo fcinfo, const char *table,
						  const char *condition);

/* To which column each argument of a function goes */
static const int policy_arguments[] = {
	SD_POLICY, SD_ACCOUNT_TABLE, SD_KEY_COLUMNS, SD_DUE_COLUMN, SD_GRACE,
	SD_DONE_COLUMN, SD_AUDIT_TABLE_COLUMN, SD_AUDIT_COLUMNS, SD_AUDIT_DETAILS,
	SD_BLOCKING_KEYS, SD_TIME_ZONE, SD_OVERDUE_AFTER, SD_ENABLED,
	SD_BRAKE_ACCOUNTS, SD_BRAKE_SHARE
};
static const int step_arguments[] = {
	SD_STEP_POLICY, SD_STEP_TABLE, SD_STEP_COLUMNS, SD_STEP_ACTION,
	SD_STEP_REASON, SD_STEP_AFTER_ACCOUNT, SD_STEP_VIA, SD_STEP_VIA_COLUMNS,
	SD_STEP_MATCH
};

void
_PG_init(void)
{
	sd_define_settings();
	sd_install_hooks();
}

/*
 * process_scheduled_deletions(policy text, max_accounts integer,
 *							   dry_run boolean, release_brake boolean)
 * RETURNS jsonb
 *
 * Delete the accounts that are due of one policy, or of all that are enabled, in
 * the caller's transaction.
 */
Datum
process_scheduled_deletions(PG_FUNCTION_ARGS)
{
	MemoryContext caller_context = CurrentMemoryContext;
	Call		call = {0};
	Jsonb	   *report;

	if (!PG_ARGISNULL(1))
		check_positive(PG_GETARG_INT32(1), "max_accounts");
	check_not_null(fcinfo, 2, "dry_run");
	check_not_null(fcinfo, 3, "release_brake");

	call.schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	call.policy_name = get_text_argument(fcinfo, 0);
	call.max_accounts = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	call.dry_run = PG_GETARG_BOOL(2);
	call.release_brake = PG_GETARG_BOOL(3);
	call.batch_size = sd_batch_size;

	SPI_connect();
	sd_call(&call);
	MemoryContextSwitchTo(caller_context);
	report = sd_report(&call);
	SPI_finish();

	PG_RETURN_JSONB_P(report);
}

/*
 * run_scheduled_deletions(policy text, batch_size integer, max_accounts bigint,
 *						   max_runtime interval, pause interval,
 *						   raise_on_failure boolean, release_brake boolean,
 *						   max_lag interval, max_lag_bytes bigint,
 *						   INOUT report jsonb)
 *
 * The same, in a transaction for each batch.
 */
Datum
run_scheduled_deletions(PG_FUNCTION_ARGS)
{
	MemoryContext caller_context = CurrentMemoryContext;
	Call		call = {.commits = true,.batch_size = sd_batch_size};
	TupleDesc	tupdesc;
	Datum		report;
	bool		is_null = false;

	refuse_atomic_call(fcinfo);
	if (!PG_ARGISNULL(1))
	{
		check_positive(PG_GETARG_INT32(1), "batch_size");
		call.batch_size = Min(PG_GETARG_INT32(1), SD_MAX_BATCH_SIZE);
	}
	if (!PG_ARGISNULL(2))
	{
		check_positive(PG_GETARG_INT64(2), "max_accounts");
		call.max_accounts = PG_GETARG_INT64(2);
	}
	check_not_null(fcinfo, 5, "raise_on_failure");
	check_not_null(fcinfo, 6, "release_brake");

	call.schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	call.policy_name = get_text_argument(fcinfo, 0);
	call.max_runtime = get_time_argument(fcinfo, 3, "max_runtime");
	if (!PG_ARGISNULL(3))
		check_positive(call.max_runtime, "max_runtime");
	call.pause = PG_ARGISNULL(4) ? sd_pause_between * (int64) 1000 :
		get_time_argument(fcinfo, 4, "pause");
	call.release_brake = PG_GETARG_BOOL(6);
	call.max_lag.time = get_time_argument(fcinfo, 7, "max_lag");
	if (!PG_ARGISNULL(8))
	{
		check_positive(PG_GETARG_INT64(8), "max_lag_bytes");
		call.max_lag.bytes = PG_GETARG_INT64(8);
	}
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	sd_call(&call);
	if (PG_GETARG_BOOL(5))
		sd_raise_failures(&call);
	MemoryContextSwitchTo(caller_context);
	report = JsonbPGetDatum(sd_report(&call));
	SPI_finish();

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, &report, &is_null)));
}

/* Refuse a CALL that must not commit, before anything is done */
static void
refuse_atomic_call(FunctionCallInfo fcinfo)
{
	if (fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
		!((CallContext *) fcinfo->context)->atomic && !IsSubTransaction())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("run_scheduled_deletions() cannot run inside a transaction block"),
			 errdetail("It commits after each batch."),
			 errhint("Send CALL as a statement of its own: not after BEGIN, not in one string with other statements, not from a function, and without a SET clause of the procedure. To do all in one transaction, use process_scheduled_deletions().")));
}

/*
 * add_deletion_policy(policy text, account_table regclass, ...) RETURNS text
 *
 * Register a policy; its name is the answer.
 */
Datum
add_deletion_policy(PG_FUNCTION_ARGS)
{
	PolicyRow	row = SD_NULL_ROW;

	SPI_connect();
	take_arguments(fcinfo, policy_arguments, &row);
	sd_add_policy(get_func_namespace(fcinfo->flinfo->fn_oid), &row);
	SPI_finish();
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

/*
 * alter_deletion_policy(policy text, account_table regclass, ...) RETURNS text
 *
 * Change a policy where the arguments are not null; its name is the answer.
 */
Datum
alter_deletion_policy(PG_FUNCTION_ARGS)
{
	PolicyRow	row = SD_NULL_ROW;

	SPI_connect();
	take_arguments(fcinfo, policy_arguments, &row);
	sd_alter_policy(get_func_namespace(fcinfo->flinfo->fn_oid), &row);
	SPI_finish();
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

/*
 * remove_deletion_policy(policy text) RETURNS boolean
 *
 * Remove a policy and its steps; false if there is none.
 */
Datum
remove_deletion_policy(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(remove_from(fcinfo, "deletion_policy",
							   "policy OPERATOR(pg_catalog.=) $1") > 0);
}

/*
 * add_deletion_step(policy text, step_table regclass, columns name[], ...)
 * RETURNS text
 *
 * Add a step at the end of a policy; the policy's name is the answer.
 */
Datum
add_deletion_step(PG_FUNCTION_ARGS)
{
	PolicyRow	row = SD_NULL_ROW;

	SPI_connect();
	take_arguments(fcinfo, step_arguments, &row);
	sd_add_step(get_func_namespace(fcinfo->flinfo->fn_oid), &row);
	SPI_finish();
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

/*
 * remove_deletion_step(policy text, step_table regclass) RETURNS boolean
 *
 * Remove all steps of a policy on a table; false if there is none.  If there are
 * some on a lost table that has the same number, only these.
 */
Datum
remove_deletion_step(PG_FUNCTION_ARGS)
{
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	uint64		nsteps = remove_from(fcinfo, "deletion_step",
									 psprintf("policy OPERATOR(pg_catalog.=) $1"
											  " AND step_table::pg_catalog.oid OPERATOR(pg_catalog.=) $2"
											  " AND (NOT %s OR NOT EXISTS (SELECT FROM %s l"
											  " WHERE l.policy OPERATOR(pg_catalog.=) $1"
											  " AND l.step_table::pg_catalog.oid OPERATOR(pg_catalog.=) $2"
											  " AND NOT %s))",
											  sd_is_remembered(schema, "deletion_step", "t", "step_table"),
											  sd_own_table(schema, "deletion_step"),
											  sd_is_remembered(schema, "deletion_step", "l", "step_table")));

	if (nsteps > 1)
		ereport(NOTICE,
				(errmsg("the policy had " UINT64_FORMAT " steps on that table",
						nsteps)));
	if (nsteps > 0)
		notice_hanging_steps(fcinfo);
	PG_RETURN_BOOL(nsteps > 0);
}

/*
 * Tell of steps on the table of which only those on a lost one have been removed,
 * and of steps that hung on it.
 */
static void
notice_hanging_steps(FunctionCallInfo fcinfo)
{
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	Oid			argtypes[] = {TEXTOID, OIDOID};
	Datum		values[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	uint64		nsteps;

	SPI_connect();
	nsteps = sd_execute_as_owner(schema,
								 psprintf("SELECT FROM %s WHERE policy OPERATOR(pg_catalog.=) $1"
										  " AND step_table::pg_catalog.oid OPERATOR(pg_catalog.=) $2",
										  sd_own_table(schema, "deletion_step")),
								 SPI_OK_SELECT, lengthof(argtypes), argtypes,
								 values, NULL);
	if (nsteps > 0)
		ereport(NOTICE,
				(errmsg("only steps on a lost table were removed, and steps on the one that has its OID now are left: " UINT64_FORMAT,
						nsteps),
				 errhint("To remove these, too, call remove_deletion_step() once more.")));
	nsteps = sd_execute_as_owner(schema,
								 psprintf("SELECT FROM %s WHERE policy OPERATOR(pg_catalog.=) $1"
										  " AND via::pg_catalog.oid OPERATOR(pg_catalog.=) $2",
										  sd_own_table(schema, "deletion_step")),
								 SPI_OK_SELECT, lengthof(argtypes), argtypes,
								 values, NULL);
	SPI_finish();
	if (nsteps > 0)
		ereport(NOTICE,
				(errmsg("steps of the policy that lead to that table: " UINT64_FORMAT,
						nsteps),
				 errhint("If nothing is deleted from it any more, they must be removed, too: see check_deletion_policy().")));
}

/*
 * deletion_plan(policy text) RETURNS TABLE (...)
 *
 * Show the plan that a run would follow now, of one policy or of all.
 */
Datum
deletion_plan(PG_FUNCTION_ARGS)
{
	List	   *policies;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	policies = sd_load_policies(get_func_namespace(fcinfo->flinfo->fn_oid),
								get_text_argument(fcinfo, 0), true, false);
	foreach(lc, policies)
		sd_describe_plan(sd_make_plan(lfirst(lc), AccessShareLock),
						 (ReturnSetInfo *) fcinfo->resultinfo);
	SPI_finish();
	return (Datum) 0;
}

/*
 * check_deletion_policy(policy text, job_role regrole) RETURNS TABLE (...)
 *
 * Say what is wrong, or worth to be known, of one policy or of all that are
 * enabled, if that role runs the job; null stands for the caller.
 */
Datum
check_deletion_policy(PG_FUNCTION_ARGS)
{
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	Oid			role = PG_ARGISNULL(1) ? GetUserId() : PG_GETARG_OID(1);
	char	   *name = get_text_argument(fcinfo, 0);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *earlier = NIL;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	foreach(lc, sd_load_policies(schema, name, name != NULL, false))
	{
		List	   *findings = sd_check_policy(lfirst(lc), role);

		sd_put_findings(findings, earlier, result);
		earlier = list_concat(earlier, findings);
	}
	sd_put_findings(sd_check_exposure(schema), NIL, result);
	SPI_finish();
	return (Datum) 0;
}

/*
 * deletion_policy_status() RETURNS TABLE (...)
 *
 * How each policy stands now, the built-in one also before it is registered.
 */
Datum
deletion_policy_status(PG_FUNCTION_ARGS)
{
	List	   *policies;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	policies = sd_find_policies(get_func_namespace(fcinfo->flinfo->fn_oid),
								NULL, true, false);
	foreach(lc, policies)
		sd_put_status(lfirst(lc), (ReturnSetInfo *) fcinfo->resultinfo);
	SPI_finish();
	return (Datum) 0;
}

/*
 * schedule_account_deletion(account text, grace interval, policy text,
 *							 performed_by text) RETURNS timestamptz
 *
 * Let an account be due once the grace has passed; the answer is when it is.
 */
Datum
schedule_account_deletion(PG_FUNCTION_ARGS)
{
	Request		request = take_request(fcinfo, 2, 3);
	TimestampTz result;

	check_not_null(fcinfo, 1, "grace");
	sd_check_not_negative(PG_GETARG_DATUM(1), "grace");

	SPI_connect();
	result = sd_schedule(get_func_namespace(fcinfo->flinfo->fn_oid), &request,
						 PG_GETARG_INTERVAL_P(1));
	SPI_finish();
	PG_RETURN_TIMESTAMPTZ(result);
}

/*
 * cancel_account_deletion(account text, policy text, performed_by text)
 * RETURNS boolean
 *
 * Let an account not be due any more; false if its deletion was not asked for.
 */
Datum
cancel_account_deletion(PG_FUNCTION_ARGS)
{
	Request		request = take_request(fcinfo, 1, 2);
	bool		result;

	SPI_connect();
	result = sd_cancel(get_func_namespace(fcinfo->flinfo->fn_oid), &request);
	SPI_finish();
	PG_RETURN_BOOL(result);
}

/*
 * retry_account(account text, policy text) RETURNS bigint
 *
 * Let accounts that have failed be tried by the next run; how many have waited.
 */
Datum
retry_account(PG_FUNCTION_ARGS)
{
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	char	   *account = get_text_argument(fcinfo, 0);
	char	   *policy = get_text_argument(fcinfo, 1);
	uint64		naccounts;

	SPI_connect();
	sd_refuse_hidden_retry(schema, account, &policy);
	naccounts = sd_retry(schema, account, policy);
	SPI_finish();
	PG_RETURN_INT64(naccounts);
}

/*
 * hold_account(account text, reason text, until timestamptz, policy text,
 *				performed_by text) RETURNS void
 *
 * Keep an account, and its rows, from being deleted, for good or until then.
 */
Datum
hold_account(PG_FUNCTION_ARGS)
{
	Request		request = take_request(fcinfo, 3, 4);
	TimestampTz until = PG_ARGISNULL(2) ? 0 : PG_GETARG_TIMESTAMPTZ(2);

	check_not_null(fcinfo, 1, "reason");

	SPI_connect();
	sd_hold(get_func_namespace(fcinfo->flinfo->fn_oid), &request,
			get_text_argument(fcinfo, 1), PG_ARGISNULL(2) ? NULL : &until);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * release_account(account text, policy text, reason text, performed_by text)
 * RETURNS boolean
 *
 * End the hold with that reason, or all on the account; false if there is none.
 */
Datum
release_account(PG_FUNCTION_ARGS)
{
	Request		request = take_request(fcinfo, 1, 3);
	bool		result;

	SPI_connect();
	result = sd_release(get_func_namespace(fcinfo->flinfo->fn_oid), &request,
						get_text_argument(fcinfo, 2));
	SPI_finish();
	PG_RETURN_BOOL(result);
}

/*
 * guard_held_accounts(policy text, enabled boolean) RETURNS boolean
 *
 * Let nobody at all delete accounts on hold, or no longer; false if that is so
 * already.
 */
Datum
guard_held_accounts(PG_FUNCTION_ARGS)
{
	bool		result;

	check_not_null(fcinfo, 1, "enabled");
	SPI_connect();
	result = sd_set_guard(get_func_namespace(fcinfo->flinfo->fn_oid),
						  get_text_argument(fcinfo, 0), PG_GETARG_BOOL(1));
	SPI_finish();
	PG_RETURN_BOOL(result);
}

/* Take the account, which must be there, and those arguments for a request */
static Request
take_request(FunctionCallInfo fcinfo, int policy, int performed_by)
{
	Request		request;

	check_not_null(fcinfo, 0, "account");
	request.account = get_text_argument(fcinfo, 0);
	request.policy = get_text_argument(fcinfo, policy);
	request.performed_by = get_text_argument(fcinfo, performed_by);
	return request;
}

static void
check_not_null(FunctionCallInfo fcinfo, int i, const char *name)
{
	if (PG_ARGISNULL(i))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

static void
check_positive(int64 value, const char *name)
{
	if (value < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be greater than zero", name),
				 errhint("Leave it out, or give null, for the default.")));
}

/*
 * An argument of type interval in microseconds, 0 if it is null: of 24 hours a day
 * and 30 days a month, and no longer than a thousand years.
 */
static int64
get_time_argument(FunctionCallInfo fcinfo, int i, const char *name)
{
	Interval   *interval;
	double		time;

	if (PG_ARGISNULL(i))
		return 0;
	sd_check_not_negative(PG_GETARG_DATUM(i), name);
	interval = PG_GETARG_INTERVAL_P(i);
	time = interval->time + USECS_PER_DAY *
		(interval->day + (double) DAYS_PER_MONTH * interval->month);
	return (int64) Min(time, 1000.0 * 365 * USECS_PER_DAY);
}

/* An argument of type text, or NULL */
static char *
get_text_argument(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
}

/*
 * Take a function's arguments for a row that is to be written.  Of a table, its
 * name comes with it.
 */
static void
take_arguments(FunctionCallInfo fcinfo, const int *columns, PolicyRow *row)
{
	for (int i = 0; i < PG_NARGS(); i++)
	{
		if (PG_ARGISNULL(i))
			continue;
		if (get_fn_expr_argtype(fcinfo->flinfo, i) == REGCLASSOID)
			sd_set_table(row, columns[i], PG_GETARG_OID(i));
		else
			sd_set_column(row, columns[i], PG_GETARG_DATUM(i));
	}
}

/*
 * Delete the rows of one of the extension's tables to which the arguments lead,
 * a policy and perhaps a table; returns how many there were.
 */
static uint64
remove_from(FunctionCallInfo fcinfo, const char *table, const char *condition)
{
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	Oid			argtypes[] = {TEXTOID, OIDOID};
	Datum		values[2];
	uint64		nrows;

	for (int i = 0; i < PG_NARGS(); i++)
		values[i] = PG_GETARG_DATUM(i);
	SPI_connect();
	nrows = sd_execute_as_owner(schema,
								psprintf("DELETE FROM %s t WHERE %s",
										 sd_own_table(schema, table), condition),
								SPI_OK_DELETE, PG_NARGS(), argtypes, values,
								NULL);
	SPI_finish();
	return nrows;
}
