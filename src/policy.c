/*-------------------------------------------------------------------------
 *
 * policy.c
 *	  The policies that a run follows: read from deletion_policy and
 *	  deletion_step, where the built-in one is registered by the first call that
 *	  finds none at all.
 *
 * Both tables are read and written as their owner; nobody else needs a
 * privilege on them.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/policy.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "scheduled_deletion.h"

/* The schema that scheduled_deletion was designed on */
#define BUILT_IN_POLICY	"built-in"
#define ACCOUNT_TABLE	"profiles"
#define KEY_COLUMN		"id"
#define DUE_COLUMN		"deletion_scheduled_at"
#define DONE_COLUMN		"deleted_at"

static const struct
{
	const char *table_name;
	int			ncolumns;
	const char *columns[2];
}			built_in_steps[] =

{
	{"check_ins", 1, {"user_id"}},
	{"crisis_plan", 1, {"user_id"}},
	{"clinical_notes", 2, {"patient_id", "therapist_id"}},
	{"therapist_patients", 2, {"patient_id", "therapist_id"}},
	{"user_consent", 1, {"user_id"}},
};

/* Types of the columns that are written, in the order of PolicyColumn */
static Oid	policy_types[] =
{
	TEXTOID, OIDOID, TEXTOID, NAMEARRAYOID, NAMEOID, INTERVALOID, NAMEOID,
	OIDOID, TEXTOID, JSONBOID, NAMEARRAYOID, TEXTOID, TEXTOID, INTERVALOID,
	BOOLOID, INT4OID, FLOAT8OID
};

/* and of StepColumn */
static Oid	step_types[] =
{
	TEXTOID, OIDOID, TEXTOID, NAMEARRAYOID, TEXTOID, TEXTOID, BOOLOID, OIDOID,
	TEXTOID, NAMEARRAYOID, JSONBOID
};

static List *read_policies(Oid schema, const char *name, bool all);
static DeletionPolicy *read_policy(Oid schema, HeapTuple tuple,
								   TupleDesc tupdesc);
static void read_steps(DeletionPolicy *policy);
static List *read_audit_tables(Oid schema);
static bool is_none_registered(Oid schema);
static StepAction step_action(const char *action);
static List *read_match(Jsonb *match);
static DeletionPolicy *make_built_in_policy(Oid schema);
static void register_policy(DeletionPolicy *policy);
static Oid	find_built_in_table(Oid account_table, const char *role,
								const char *name, const char *hint);
pg_noreturn static void throw_no_policy(Oid schema, const char *name);
static Datum get_value(HeapTuple tuple, TupleDesc tupdesc, const char *column,
					   bool *is_null);
static char *get_text(HeapTuple tuple, TupleDesc tupdesc, const char *column);
static Oid	get_oid(HeapTuple tuple, TupleDesc tupdesc, const char *column);
static Oid	get_table(HeapTuple tuple, TupleDesc tupdesc, const char *column,
					  Oid *number);
static bool get_bool(HeapTuple tuple, TupleDesc tupdesc, const char *column);
static List *get_names(HeapTuple tuple, TupleDesc tupdesc, const char *column);

/*
 * The policy of that name or, without a name, every one.  Those that are disabled
 * only count if "all" is set.  Throws an error if there is none.
 *
 * If none at all is registered, it is the built-in one, where its tables are in
 * the caller's search_path; it is registered by that if "may_register" is set.
 * Who only looks at a policy, or acts on single accounts with rights of its own,
 * must not decide which tables a job will follow.
 */
List *
sd_load_policies(Oid schema, const char *name, bool all, bool may_register)
{
	List	   *policies = sd_find_policies(schema, name, all, may_register);

	if (policies == NIL)
		throw_no_policy(schema, name);
	return policies;
}

/* The same, but NIL if there is none */
List *
sd_find_policies(Oid schema, const char *name, bool all, bool may_register)
{
	List	   *policies = read_policies(schema, name, all);
	List	   *audit_tables;
	ListCell   *lc;

	if (policies == NIL && is_none_registered(schema) &&
		(name == NULL || strcmp(name, BUILT_IN_POLICY) == 0))
	{
		DeletionPolicy *built_in = make_built_in_policy(schema);

		if (built_in != NULL && may_register)
		{
			register_policy(built_in);
			policies = read_policies(schema, name, all);
		}
		else if (built_in != NULL)
		{
			built_in->audit_tables = list_make1_oid(built_in->audit_table);
			return list_make1(built_in);
		}
	}
	audit_tables = read_audit_tables(schema);
	foreach(lc, policies)
	{
		DeletionPolicy *policy = lfirst(lc);

		if (!policy->enabled && !all)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("deletion policy \"%s\" is disabled", name),
					 errhint("Call %s.alter_deletion_policy(%s, enabled => true).",
							 quote_identifier(get_namespace_name(schema)),
							 quote_literal_cstr(name))));
		read_steps(policy);
		policy->audit_tables = audit_tables;
	}
	return policies;
}

/* Read policies without their steps, in the order of their names */
static List *
read_policies(Oid schema, const char *name, bool all)
{
	Oid			argtypes[] = {TEXTOID, BOOLOID};
	Datum		values[] = {0, BoolGetDatum(all)};
	char		nulls[] = {name == NULL ? 'n' : ' ', ' '};
	List	   *policies = NIL;
	uint64		n;

	if (name != NULL)
		values[0] = CStringGetTextDatum(name);

	/*
	 * SELECT ... FROM deletion_policy WHERE policy = $1, or, if that is null,
	 * WHERE enabled or $2
	 */
	n = sd_execute_as_owner(schema,
							psprintf("SELECT policy, account_table::pg_catalog.oid,"
									 " %s AS account_table_is_there,"
									 " account_table_name, key_columns, due_column,"
									 " grace, done_column,"
									 " audit_table::pg_catalog.oid,"
									 " %s AS audit_table_is_there, audit_table_name,"
									 " audit_columns, audit_details, blocking_keys,"
									 " time_zone, enabled, brake_accounts, brake_share"
									 " FROM %s t"
									 " WHERE policy OPERATOR(pg_catalog.=) $1"
									 " OR ($1 IS NULL AND (enabled OR $2))"
									 " ORDER BY policy",
									 sd_is_remembered(schema, "deletion_policy", "t", "account_table"),
									 sd_is_remembered(schema, "deletion_policy", "t", "audit_table"),
									 sd_own_table(schema, "deletion_policy")),
							SPI_OK_SELECT, 2, argtypes, values, nulls);
	for (uint64 i = 0; i < n; i++)
		policies = lappend(policies, read_policy(schema, SPI_tuptable->vals[i],
												 SPI_tuptable->tupdesc));
	return policies;
}

static DeletionPolicy *
read_policy(Oid schema, HeapTuple tuple, TupleDesc tupdesc)
{
	DeletionPolicy *policy = palloc0(sizeof(DeletionPolicy));
	Datum		value;
	bool		is_null;

	policy->schema = schema;
	policy->name = get_text(tuple, tupdesc, "policy");
	policy->account_table = get_table(tuple, tupdesc, "account_table",
									  &policy->account_number);
	policy->account_table_name = get_text(tuple, tupdesc, "account_table_name");
	policy->key_columns = get_names(tuple, tupdesc, "key_columns");
	policy->due_column = get_text(tuple, tupdesc, "due_column");
	value = get_value(tuple, tupdesc, "grace", &is_null);
	policy->grace = palloc(sizeof(Interval));
	*policy->grace = *DatumGetIntervalP(value);
	policy->done_column = get_text(tuple, tupdesc, "done_column");
	policy->audit_table = get_table(tuple, tupdesc, "audit_table",
									&policy->audit_number);
	policy->audit_table_name = get_text(tuple, tupdesc, "audit_table_name");
	value = get_value(tuple, tupdesc, "audit_columns", &is_null);
	policy->audit_columns = is_null ? NULL : DatumGetJsonbPCopy(value);
	policy->audit_details = get_names(tuple, tupdesc, "audit_details");
	policy->follow_blocking_keys =
		strcmp(get_text(tuple, tupdesc, "blocking_keys"), "delete") == 0;
	value = get_value(tuple, tupdesc, "time_zone", &is_null);
	policy->time_zone = DatumGetTextPCopy(value);
	policy->enabled = get_bool(tuple, tupdesc, "enabled");
	policy->brake_accounts =
		DatumGetInt32(get_value(tuple, tupdesc, "brake_accounts", &is_null));
	policy->brake_share =
		DatumGetFloat8(get_value(tuple, tupdesc, "brake_share", &is_null));
	return policy;
}

/* Is a policy still enabled, as of now, whatever snapshot the transaction has? */
bool
sd_is_enabled(Oid schema, const char *policy)
{
	Oid			argtypes[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(policy)};
	bool		result = sd_query_latest_as_owner(schema,
												  psprintf("SELECT FROM %s WHERE policy OPERATOR(pg_catalog.=) $1 AND enabled",
														   sd_own_table(schema, "deletion_policy")),
												  lengthof(argtypes), argtypes, values) > 0;

	SPI_freetuptable(SPI_tuptable);
	return result;
}

/* Read the steps of a policy, in execution order */
static void
read_steps(DeletionPolicy *policy)
{
	Oid			argtypes[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(policy->name)};
	Oid			schema = policy->schema;
	uint64		n;

	/* SELECT ... FROM deletion_step WHERE policy = $1 ORDER BY position */
	n = sd_execute_as_owner(schema,
							psprintf("SELECT step_table::pg_catalog.oid,"
									 " %s AS step_table_is_there, step_table_name,"
									 " columns, action, reason, after_account,"
									 " via::pg_catalog.oid, %s AS via_is_there,"
									 " via_name, via_columns, match"
									 " FROM %s t WHERE policy OPERATOR(pg_catalog.=) $1"
									 " ORDER BY \"position\"",
									 sd_is_remembered(schema, "deletion_step", "t", "step_table"),
									 sd_is_remembered(schema, "deletion_step", "t", "via"),
									 sd_own_table(schema, "deletion_step")),
							SPI_OK_SELECT, 1, argtypes, values, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	tupdesc = SPI_tuptable->tupdesc;
		DeletionStep *step = palloc0(sizeof(DeletionStep));
		Oid			number;
		Datum		match;
		bool		is_null;

		step->table = get_table(tuple, tupdesc, "step_table", &step->number);
		step->table_name = get_text(tuple, tupdesc, "step_table_name");
		step->columns = get_names(tuple, tupdesc, "columns");
		step->action = step_action(get_text(tuple, tupdesc, "action"));
		step->reason = get_text(tuple, tupdesc, "reason");
		step->after_account = get_bool(tuple, tupdesc, "after_account");
		step->via = get_table(tuple, tupdesc, "via", &number);
		step->via_name = get_text(tuple, tupdesc, "via_name");
		step->via_columns = get_names(tuple, tupdesc, "via_columns");
		match = get_value(tuple, tupdesc, "match", &is_null);
		if (!is_null)
		{
			step->match = DatumGetJsonbPCopy(match);
			step->matches = read_match(step->match);
		}
		policy->steps = lappend(policy->steps, step);
	}
}

/* The audit tables of all policies, as far as they are there */
static List *
read_audit_tables(Oid schema)
{
	(void) sd_execute_as_owner(schema,
							   psprintf("SELECT DISTINCT p.audit_table::pg_catalog.oid"
										" FROM %s p WHERE %s",
										sd_own_table(schema, "deletion_policy"),
										sd_is_remembered(schema, "deletion_policy", "p", "audit_table")),
							   SPI_OK_SELECT, 0, NULL, NULL, NULL);
	return sd_oids_of_rows();
}

static bool
is_none_registered(Oid schema)
{
	return sd_execute_as_owner(schema,
							   psprintf("SELECT FROM %s LIMIT 1",
										sd_own_table(schema, "deletion_policy")),
							   SPI_OK_SELECT, 0, NULL, NULL, NULL) == 0;
}

static StepAction
step_action(const char *action)
{
	if (strcmp(action, "set null") == 0)
		return SD_SET_NULL;
	return strcmp(action, "keep") == 0 ? SD_KEEP : SD_DELETE;
}

/* The columns of an object, and what each has to be: a string as it is */
static List *
read_match(Jsonb *match)
{
	JsonbIterator *it = JsonbIteratorInit(&match->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	StepMatch  *column = NULL;
	List	   *result = NIL;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			column = palloc0(sizeof(StepMatch));
			column->column = pnstrdup(value.val.string.val,
									  value.val.string.len);
			result = lappend(result, column);
		}
		else if (token == WJB_VALUE && value.type == jbvString)
			column->value = pnstrdup(value.val.string.val,
									 value.val.string.len);
		else if (token == WJB_VALUE && value.type == jbvNumeric)
			column->value = DatumGetCString(DirectFunctionCall1(numeric_out,
																NumericGetDatum(value.val.numeric)));
		else if (token == WJB_VALUE && value.type == jbvBool)
			column->value = pstrdup(value.val.boolean ? "true" : "false");
	}
	return result;
}

/*
 * The built-in policy, if its account table is in the caller's search_path, or
 * NULL.  Its other tables must be there, too.
 */
static DeletionPolicy *
make_built_in_policy(Oid schema)
{
	DeletionPolicy *policy = palloc0(sizeof(DeletionPolicy));

	policy->account_table = sd_find_table(ACCOUNT_TABLE);
	if (!OidIsValid(policy->account_table))
		return NULL;

	policy->schema = schema;
	policy->name = BUILT_IN_POLICY;
	policy->account_number = policy->account_table;
	policy->account_table_name = sd_qualified_name(policy->account_table);
	policy->key_columns = list_make1(KEY_COLUMN);
	policy->due_column = DUE_COLUMN;
	policy->grace = palloc0(sizeof(Interval));
	policy->done_column = DONE_COLUMN;
	policy->time_zone = cstring_to_text("UTC");
	policy->enabled = true;
	for (int i = 0; i < lengthof(built_in_steps); i++)
	{
		DeletionStep *step = palloc0(sizeof(DeletionStep));

		step->table = find_built_in_table(policy->account_table, "step table",
										  built_in_steps[i].table_name,
										  "Create it.");
		step->number = step->table;
		step->table_name = sd_qualified_name(step->table);
		step->action = SD_DELETE;
		for (int j = 0; j < built_in_steps[i].ncolumns; j++)
			step->columns = lappend(step->columns,
									pstrdup(built_in_steps[i].columns[j]));
		policy->steps = lappend(policy->steps, step);
	}
	policy->audit_table = find_built_in_table(policy->account_table,
											  "audit table", SD_AUDIT_TABLE,
											  sd_create_audit_table(policy->account_table,
																	policy->key_columns));
	policy->audit_number = policy->audit_table;
	policy->audit_table_name = sd_qualified_name(policy->audit_table);
	return policy;
}

/*
 * Register the built-in policy: what it does not say is the default.  Another
 * session may register it at the same time: then this one waits, and finds it
 * there.
 */
static void
register_policy(DeletionPolicy *policy)
{
	PolicyRow	row = SD_NULL_ROW;
	ListCell   *lc;

	sd_set_column(&row, SD_POLICY, CStringGetTextDatum(policy->name));
	sd_set_table(&row, SD_ACCOUNT_TABLE, policy->account_table);
	sd_set_column(&row, SD_KEY_COLUMNS, sd_name_array(policy->key_columns));
	sd_set_column(&row, SD_DUE_COLUMN,
				  DirectFunctionCall1(namein, CStringGetDatum(policy->due_column)));
	sd_set_column(&row, SD_DONE_COLUMN,
				  DirectFunctionCall1(namein, CStringGetDatum(policy->done_column)));
	sd_set_table(&row, SD_AUDIT_TABLE_COLUMN, policy->audit_table);
	if (!sd_insert_policy(policy->schema, &row))
		return;

	foreach(lc, policy->steps)
	{
		DeletionStep *step = lfirst(lc);
		PolicyRow	step_row = SD_NULL_ROW;

		sd_set_column(&step_row, SD_STEP_POLICY,
					  CStringGetTextDatum(policy->name));
		sd_set_table(&step_row, SD_STEP_TABLE, step->table);
		sd_set_column(&step_row, SD_STEP_COLUMNS, sd_name_array(step->columns));
		sd_insert_step(policy->schema, &step_row);
	}
	sd_note_tables(policy->schema, policy->name);
}

/*
 * A table of the built-in schema, which is where the account table is: whoever
 * may create tables elsewhere in the search_path must not have one taken for it.
 * If it is not there, throws with that hint.
 */
static Oid
find_built_in_table(Oid account_table, const char *role, const char *name,
					const char *hint)
{
	Oid			schema = get_rel_namespace(account_table);
	Oid			table = get_relname_relid(name, schema);

	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("%s \"%s\" of deletion policy \"%s\" does not exist",
						role, name, BUILT_IN_POLICY),
				 errdetail("The built-in policy looks for all its tables in schema \"%s\", where \"%s\" is; the README lists them.",
						   get_namespace_name(schema), ACCOUNT_TABLE),
				 errhint("%s", hint)));
	return table;
}

static void
throw_no_policy(Oid schema, const char *name)
{
	const char *schema_name = get_namespace_name(schema);

	if (name != NULL &&
		(strcmp(name, BUILT_IN_POLICY) != 0 || !is_none_registered(schema)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("deletion policy \"%s\" does not exist", name),
				 errhint("Table deletion_policy in schema \"%s\" lists the policies.",
						 schema_name)));
	if (!is_none_registered(schema))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no deletion policy is enabled"),
				 errhint("Call %s.alter_deletion_policy(..., enabled => true).",
						 quote_identifier(schema_name))));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no deletion policy is registered"),
			 errdetail("The built-in policy needs table \"%s\", which is in no schema of the search_path.",
					   ACCOUNT_TABLE),
			 errhint("Register one, as in SELECT %s.add_deletion_policy('users', 'users', due_column => 'deleted_at', grace => '14 days');",
					 quote_identifier(schema_name))));
}

/* Give a row that is to be written a column */
void
sd_set_column(PolicyRow *row, int column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = ' ';
}

/* Give it a table, which must be there, and its name, which is the next column */
void
sd_set_table(PolicyRow *row, int column, Oid table)
{
	if (get_rel_name(table) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", table)));
	sd_set_column(row, column, ObjectIdGetDatum(table));
	sd_set_column(row, column + 1,
				  CStringGetTextDatum(sd_qualified_name(table)));
}

/* Write a policy, null being the default; false if there is one of that name */
bool
sd_insert_policy(Oid schema, PolicyRow *row)
{
	return sd_execute_as_owner(schema,
							   psprintf("INSERT INTO %s (policy,"
										" account_table, account_table_name, key_columns,"
										" due_column, grace, done_column,"
										" audit_table, audit_table_name, audit_columns, audit_details,"
										" blocking_keys, time_zone, overdue_after, enabled,"
										" brake_accounts, brake_share)"
										" VALUES ($1, $2, $3, $4,"
										" coalesce($5, 'deletion_scheduled_at'), coalesce($6, '0'), $7,"
										" $8, $9, $10, coalesce($11, '{}'),"
										" coalesce($12, 'fail'), coalesce($13, 'UTC'),"
										" coalesce($14, '1 day'), coalesce($15, true),"
										" coalesce($16, 0), coalesce($17, 0.25))"
										" ON CONFLICT DO NOTHING",
										sd_own_table(schema, "deletion_policy")),
							   SPI_OK_INSERT, lengthof(policy_types),
							   policy_types, row->values, row->nulls) > 0;
}

/*
 * Change a policy, null being what it was, and no name that it has no done
 * column.
 */
void
sd_update_policy(Oid schema, PolicyRow *row)
{
	(void) sd_execute_as_owner(schema,
							   psprintf("UPDATE %s SET"
										" account_table = coalesce($2, account_table),"
										" account_table_name = coalesce($3, account_table_name),"
										" key_columns = coalesce($4, key_columns),"
										" due_column = coalesce($5, due_column),"
										" grace = coalesce($6, grace),"
										" done_column = CASE WHEN $7 OPERATOR(pg_catalog.=) ''::pg_catalog.name"
										" THEN NULL ELSE coalesce($7, done_column) END,"
										" audit_table = coalesce($8, audit_table),"
										" audit_table_name = coalesce($9, audit_table_name),"
										" audit_columns = coalesce($10, audit_columns),"
										" audit_details = coalesce($11, audit_details),"
										" blocking_keys = coalesce($12, blocking_keys),"
										" time_zone = coalesce($13, time_zone),"
										" overdue_after = coalesce($14, overdue_after),"
										" enabled = coalesce($15, enabled),"
										" brake_accounts = coalesce($16, brake_accounts),"
										" brake_share = coalesce($17, brake_share)"
										" WHERE policy OPERATOR(pg_catalog.=) $1",
										sd_own_table(schema, "deletion_policy")),
							   SPI_OK_UPDATE, lengthof(policy_types),
							   policy_types, row->values, row->nulls);
}

/* Write a step, as the last one of its policy; null is the default */
void
sd_insert_step(Oid schema, PolicyRow *row)
{
	/* two sessions must not take the same position */
	(void) sd_execute_as_owner(schema,
							   psprintf("SELECT FROM %s WHERE policy OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE",
										sd_own_table(schema, "deletion_policy")),
							   SPI_OK_SELECT, 1, step_types, row->values, NULL);
	(void) sd_execute_as_owner(schema,
							   psprintf("INSERT INTO %s (policy,"
										" step_table, step_table_name, columns, action, reason,"
										" after_account, via, via_name, via_columns, match, \"position\")"
										" SELECT $1, $2, $3, $4, coalesce($5, 'delete'), $6,"
										" coalesce($7, false), $8, $9, $10, $11,"
										" coalesce(pg_catalog.max(\"position\"), 0) OPERATOR(pg_catalog.+) 1"
										" FROM %s WHERE policy OPERATOR(pg_catalog.=) $1",
										sd_own_table(schema, "deletion_step"),
										sd_own_table(schema, "deletion_step")),
							   SPI_OK_INSERT, lengthof(step_types), step_types,
							   row->values, row->nulls);
}

static Datum
get_value(HeapTuple tuple, TupleDesc tupdesc, const char *column, bool *is_null)
{
	return SPI_getbinval(tuple, tupdesc, SPI_fnumber(tupdesc, column), is_null);
}

/* A column as text in memory of its own, NULL if it is null */
static char *
get_text(HeapTuple tuple, TupleDesc tupdesc, const char *column)
{
	return SPI_getvalue(tuple, tupdesc, SPI_fnumber(tupdesc, column));
}

/* InvalidOid if it is null */
static Oid
get_oid(HeapTuple tuple, TupleDesc tupdesc, const char *column)
{
	bool		is_null;
	Datum		value = get_value(tuple, tupdesc, column, &is_null);

	return is_null ? InvalidOid : DatumGetObjectId(value);
}

/* A table, invalid if it is lost; *number is what is written, perhaps another's */
static Oid
get_table(HeapTuple tuple, TupleDesc tupdesc, const char *column, Oid *number)
{
	*number = get_oid(tuple, tupdesc, column);
	return get_bool(tuple, tupdesc, psprintf("%s_is_there", column)) ?
		*number : InvalidOid;
}

static bool
get_bool(HeapTuple tuple, TupleDesc tupdesc, const char *column)
{
	bool		is_null;

	return DatumGetBool(get_value(tuple, tupdesc, column, &is_null));
}

/* NIL if it is null */
static List *
get_names(HeapTuple tuple, TupleDesc tupdesc, const char *column)
{
	bool		is_null;
	Datum		value = get_value(tuple, tupdesc, column, &is_null);

	return is_null ? NIL : sd_names_of_array(DatumGetArrayTypeP(value));
}
