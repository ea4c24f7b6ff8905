/*-------------------------------------------------------------------------
 *
 * register.c
 *	  What the operator decides: policies and their steps, validated when they
 *	  are given as they will be when they are followed.
 *
 * A policy is written first, then its plan is made, as a run would; what the
 * plan refuses, the error takes back.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/register.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "check.h"
#include "run.h"

/* the longest grace that a policy may have, in years */
#define MAX_GRACE	1000

static Oid	default_audit_table(Oid account_table, List *key_columns);
static Datum primary_key(Oid account_table);
static void check_policy_values(PolicyRow *row);
static void check_brake(PolicyRow *row);
static void check_not_null(PolicyRow *row, int column, const char *name);
static void check_names(PolicyRow *row, int column, const char *name);
static void check_interval(PolicyRow *row, int column, const char *name);
static void check_grace(PolicyRow *row);
static void check_match(PolicyRow *row);
static void validate(Oid schema, Datum policy, const char *what);
static void notice_unread_marks(DeletionPolicy *policy);

/* Write a policy whose name, account table and key may still be null */
void
sd_add_policy(Oid schema, PolicyRow *row)
{
	Oid			account_table;

	check_not_null(row, SD_POLICY, "policy");
	check_not_null(row, SD_ACCOUNT_TABLE, "account_table");
	check_policy_values(row);

	account_table = DatumGetObjectId(row->values[SD_ACCOUNT_TABLE]);
	if (row->nulls[SD_KEY_COLUMNS] == 'n')
		sd_set_column(row, SD_KEY_COLUMNS, primary_key(account_table));
	if (row->nulls[SD_AUDIT_TABLE_COLUMN] == 'n')
		sd_set_table(row, SD_AUDIT_TABLE_COLUMN,
					 default_audit_table(account_table,
										 sd_names_of_array(DatumGetArrayTypeP(row->values[SD_KEY_COLUMNS]))));

	if (!sd_insert_policy(schema, row))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("deletion policy \"%s\" exists already",
						TextDatumGetCString(row->values[SD_POLICY])),
				 errhint("Change it with alter_deletion_policy(), or choose another name.")));
	sd_move_holds(schema, NULL, account_table);
	validate(schema, row->values[SD_POLICY], "registered");
}

/* Change a policy; null columns keep their value */
void
sd_alter_policy(Oid schema, PolicyRow *row)
{
	DeletionPolicy *policy;

	check_not_null(row, SD_POLICY, "policy");
	check_policy_values(row);

	/* the policy must be there */
	policy = linitial(sd_load_policies(schema,
									   TextDatumGetCString(row->values[SD_POLICY]),
									   true, true));
	sd_update_policy(schema, row);
	if (row->nulls[SD_ACCOUNT_TABLE] != 'n')
		sd_move_holds(schema, policy,
					  DatumGetObjectId(row->values[SD_ACCOUNT_TABLE]));

	/* the accounts that have failed are others by now */
	if (row->nulls[SD_ACCOUNT_TABLE] != 'n' || row->nulls[SD_KEY_COLUMNS] != 'n')
		sd_forget_failing(schema, TextDatumGetCString(row->values[SD_POLICY]));
	validate(schema, row->values[SD_POLICY], "changed");
}

/* Write a step, whose policy and table may still be null */
void
sd_add_step(Oid schema, PolicyRow *row)
{
	char	   *action = "delete";

	check_not_null(row, SD_STEP_POLICY, "policy");
	check_not_null(row, SD_STEP_TABLE, "step_table");
	check_not_null(row, SD_STEP_COLUMNS, "columns");
	check_names(row, SD_STEP_COLUMNS, "columns");
	check_names(row, SD_STEP_VIA_COLUMNS, "via_columns");
	check_match(row);

	if (row->nulls[SD_STEP_ACTION] != 'n')
		action = TextDatumGetCString(row->values[SD_STEP_ACTION]);
	if (strcmp(action, "delete") != 0 && strcmp(action, "set null") != 0 &&
		strcmp(action, "keep") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized action: \"%s\"", action),
				 errhint("Use 'delete', 'set null' or 'keep'.")));
	if (strcmp(action, "keep") == 0 && row->nulls[SD_STEP_REASON] == 'n')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a step that keeps rows needs a reason"),
				 errhint("Say by what right they are kept; the reason goes into each audit row.")));
	if (strcmp(action, "delete") != 0 &&
		row->nulls[SD_STEP_AFTER_ACCOUNT] != 'n' &&
		DatumGetBool(row->values[SD_STEP_AFTER_ACCOUNT]))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("only a step that deletes rows can come after the account")));

	/* the policy must be there */
	(void) sd_load_policies(schema, TextDatumGetCString(row->values[SD_STEP_POLICY]),
							true, true);
	sd_insert_step(schema, row);
	validate(schema, row->values[SD_STEP_POLICY], "changed");
}

/* Refuse what a policy cannot be given, whatever its tables are */
static void
check_policy_values(PolicyRow *row)
{
	if (row->nulls[SD_POLICY] != 'n' &&
		VARSIZE_ANY_EXHDR(DatumGetPointer(row->values[SD_POLICY])) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("policy must not be empty")));
	check_names(row, SD_KEY_COLUMNS, "key_columns");
	if (row->nulls[SD_AUDIT_DETAILS] != 'n' &&
		array_contains_nulls(DatumGetArrayTypeP(row->values[SD_AUDIT_DETAILS])))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("audit_details must not contain nulls")));

	check_grace(row);
	check_interval(row, SD_OVERDUE_AFTER, "overdue_after");
	check_brake(row);
	if (row->nulls[SD_TIME_ZONE] != 'n')
		(void) DirectFunctionCall2(timestamptz_zone, row->values[SD_TIME_ZONE],
								   TimestampTzGetDatum(GetCurrentTimestamp()));
	if (row->nulls[SD_BLOCKING_KEYS] != 'n')
	{
		char	   *blocking_keys = TextDatumGetCString(row->values[SD_BLOCKING_KEYS]);

		if (strcmp(blocking_keys, "fail") != 0 &&
			strcmp(blocking_keys, "delete") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unrecognized value of blocking_keys: \"%s\"",
							blocking_keys),
					 errhint("Use 'fail' or 'delete'.")));
	}
}

static void
check_brake(PolicyRow *row)
{
	if (row->nulls[SD_BRAKE_ACCOUNTS] != 'n' &&
		DatumGetInt32(row->values[SD_BRAKE_ACCOUNTS]) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("brake_accounts must not be negative"),
				 errhint("Zero is no limit.")));
	if (row->nulls[SD_BRAKE_SHARE] != 'n' &&
		!(DatumGetFloat8(row->values[SD_BRAKE_SHARE]) > 0 &&
		  DatumGetFloat8(row->values[SD_BRAKE_SHARE]) <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("brake_share must be greater than 0, and at most 1"),
				 errhint("It is a part of all accounts, as 0.25 for a quarter; 1 is no limit.")));
}

static void
check_not_null(PolicyRow *row, int column, const char *name)
{
	if (row->nulls[column] == 'n')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

/* A list of names has one, and they are not null */
static void
check_names(PolicyRow *row, int column, const char *name)
{
	ArrayType  *array;

	if (row->nulls[column] == 'n')
		return;
	array = DatumGetArrayTypeP(row->values[column]);
	if (ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) == 0 ||
		array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must name at least one column, and no null", name)));
}

static void
check_interval(PolicyRow *row, int column, const char *name)
{
	if (row->nulls[column] != 'n')
		sd_check_not_negative(row->values[column], name);
}

/* A grace that a run can go back: dates begin some 6700 years ago */
static void
check_grace(PolicyRow *row)
{
	Interval   *grace = DatumGetIntervalP(row->values[SD_GRACE]);

	check_interval(row, SD_GRACE, "grace");
	if (row->nulls[SD_GRACE] != 'n' &&
		grace->time / (double) USECS_PER_DAY + grace->day +
		grace->month * DAYS_PER_YEAR / MONTHS_PER_YEAR > MAX_GRACE * DAYS_PER_YEAR)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("grace must not be longer than %d years", MAX_GRACE)));
}

/* Refuse an argument that is an interval below zero, or infinite */
void
sd_check_not_negative(Datum interval, const char *name)
{
	Interval	zero = {0};

	if (DatumGetBool(DirectFunctionCall2(interval_lt, interval,
										 IntervalPGetDatum(&zero))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name)));
	if (sd_is_infinite(DatumGetIntervalP(interval)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be finite", name)));
}

/* What rows have to match is given as values, one for each column */
static void
check_match(PolicyRow *row)
{
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;
	bool		is_flat;
	Jsonb	   *match;

	if (row->nulls[SD_STEP_MATCH] == 'n')
		return;
	match = DatumGetJsonbP(row->values[SD_STEP_MATCH]);
	is_flat = JB_ROOT_IS_OBJECT(match) && JB_ROOT_COUNT(match) > 0;
	it = JsonbIteratorInit(&match->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_VALUE &&
			(value.type == jbvNull || value.type == jbvBinary))
			is_flat = false;
	}
	if (!is_flat)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("match must be an object that gives values to columns"),
				 errhint("As in match => '{\"item_type\": \"User\"}'.")));
}

/* The primary key of the account table, which a policy that names no key has */
static Datum
primary_key(Oid account_table)
{
	Relation	rel = try_relation_open(account_table, AccessShareLock);
	List	   *names = NIL;

	if (rel != NULL)
	{
		names = sd_primary_key_columns(rel);
		relation_close(rel, NoLock);
	}
	if (names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("account table \"%s\" has no primary key",
						sd_table_name(account_table)),
				 errhint("Name the columns of a unique constraint as key_columns.")));
	return sd_name_array(names);
}

/* The table audit_log beside the account table, or else in the search_path */
static Oid
default_audit_table(Oid account_table, List *key_columns)
{
	Oid			schema = get_rel_namespace(account_table);
	Oid			table = get_relname_relid(SD_AUDIT_TABLE, schema);

	if (!OidIsValid(table))
		table = sd_find_table(SD_AUDIT_TABLE);
	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("audit table \"%s\" does not exist",
						quote_qualified_identifier(get_namespace_name(schema),
												   SD_AUDIT_TABLE)),
				 errdetail("Without a record of it nothing is deleted."),
				 errhint("Name another table as audit_table, or run %s",
						 sd_create_audit_table(account_table, key_columns))));
	return table;
}

/*
 * Make the plan of a policy as it is now, and tell what it comes to.  One that
 * is disabled may be broken.
 */
static void
validate(Oid schema, Datum policy_name, const char *what)
{
	DeletionPolicy *policy = linitial(sd_load_policies(schema,
													   TextDatumGetCString(policy_name),
													   true, false));
	DeletionPlan *plan;
	int			ndeleted = 0;
	List	   *findings;
	ListCell   *lc;

	/* what made accounts fail may be mended by that */
	(void) sd_retry(schema, NULL, policy->name);
	sd_note_tables(schema, policy->name);
	if (!policy->enabled)
	{
		ereport(NOTICE,
				(errmsg("deletion policy \"%s\" is %s, and disabled",
						policy->name, what)));
		return;
	}

	plan = sd_make_plan(policy, AccessShareLock);
	foreach(lc, plan->steps)
	{
		if (((PlanStep *) lfirst(lc))->action == SD_DELETE)
			ndeleted++;
	}
	findings = sd_check_policy(policy, GetUserId());
	ereport(NOTICE,
			(errmsg("deletion policy \"%s\" is %s", policy->name, what),
			 errdetail("Tables that it deletes from: %d. Errors found: %d. Warnings: %d.",
					   ndeleted, sd_count_findings(findings, SD_ERROR),
					   sd_count_findings(findings, SD_WARNING)),
			 errhint("SELECT * FROM %s.check_deletion_policy(%s) shows what was found.",
					 quote_identifier(get_namespace_name(schema)),
					 quote_literal_cstr(policy->name))));
	if (strcmp(what, "registered") == 0)
		notice_unread_marks(policy);
}

/*
 * Tell of a column that looks as if it says that an account is finished, or
 * asked for, which the policy does not read.
 */
static void
notice_unread_marks(DeletionPolicy *policy)
{
	char	   *mark;
	int			i = 0;

	while ((mark = sd_next_unread_mark(policy, &i)) != NULL)
		ereport(NOTICE,
				(errmsg("column \"%s\" of account table \"%s\" is neither due column nor done column of deletion policy \"%s\"",
						mark, sd_table_name(policy->account_table),
						policy->name),
				 errhint("If accounts that have it set are to be left alone, make it the done column.")));
}
