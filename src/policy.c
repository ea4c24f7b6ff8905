/*-------------------------------------------------------------------------
 *
 * policy.c
 *	  Which policy a run follows: read from deletion_policy and deletion_step,
 *	  where the built-in one is registered by the first call that needs it.
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

#include "scheduled_deletion.h"

/* The schema that scheduled_deletion was designed on */
#define BUILT_IN_POLICY	"built-in"
#define ACCOUNT_TABLE	"profiles"
#define KEY_COLUMN		"id"
#define AUDIT_TABLE		"audit_log"

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

#define HOW_TO_ENABLE \
	"Set its column \"enabled\" in table deletion_policy to true."

static DeletionPolicy *read_policy(Oid schema, const char *name, bool *none);
static void read_steps(DeletionPolicy *policy);
static bool register_built_in_policy(Oid schema);
static Oid	find_built_in_table(Oid account_table, const char *role,
								const char *name, const char *hint);
static char *missing_audit_table_hint(Oid account_table);
pg_noreturn static void throw_no_policy(void);
static char *own_table(Oid schema, const char *name);
static char *column_text(int row, int column);
static Oid	column_oid(int row, int column);

/*
 * The policy of that name, or, without a name, the one that is enabled.  Throws
 * an error if there is none, or more than one.
 */
DeletionPolicy *
sd_load_policy(Oid schema, const char *name)
{
	bool		none;
	DeletionPolicy *policy = read_policy(schema, name, &none);

	if (policy == NULL && none &&
		(name == NULL || strcmp(name, BUILT_IN_POLICY) == 0))
	{
		if (!register_built_in_policy(schema))
			throw_no_policy();
		policy = read_policy(schema, BUILT_IN_POLICY, &none);
	}
	if (policy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 name != NULL ?
				 errmsg("deletion policy \"%s\" does not exist", name) :
				 errmsg("no deletion policy is enabled"),
				 name != NULL ?
				 errhint("Table deletion_policy in schema \"%s\" lists the policies.",
						 get_namespace_name(schema)) :
				 errhint("%s", HOW_TO_ENABLE)));

	read_steps(policy);
	return policy;
}

/*
 * Read one policy without its steps; NULL if there is no such policy.  *none
 * tells whether that is so because not a single one is registered.
 */
static DeletionPolicy *
read_policy(Oid schema, const char *name, bool *none)
{
	DeletionPolicy *policy;
	uint64		npolicies;
	Oid			argtypes[] = {TEXTOID};
	Datum		values[1];
	char		nulls[] = {name == NULL ? 'n' : ' '};
	bool		is_null;

	if (name != NULL)
		values[0] = CStringGetTextDatum(name);

	/*
	 * SELECT ... FROM deletion_policy WHERE policy = $1, or, if that is null,
	 * WHERE enabled
	 */
	npolicies = sd_execute_as_owner(schema,
									psprintf("SELECT policy, account_table::pg_catalog.oid,"
											 " account_table_name, key_columns[1], due_column, done_column,"
											 " audit_table::pg_catalog.oid, audit_table_name, enabled"
											 " FROM %s"
											 " WHERE policy OPERATOR(pg_catalog.=) $1"
											 " OR ($1 IS NULL AND enabled)",
											 own_table(schema, "deletion_policy")),
									SPI_OK_SELECT, 1, argtypes, values, nulls);

	if (npolicies == 0)
	{
		*none = sd_execute_as_owner(schema,
									psprintf("SELECT FROM %s",
											 own_table(schema, "deletion_policy")),
									SPI_OK_SELECT, 0, NULL, NULL, NULL) == 0;
		return NULL;
	}
	*none = false;

	if (npolicies > 1)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
				 errmsg("more than one deletion policy is enabled"),
				 errhint("Name one, as in process_scheduled_deletions('%s').",
						 column_text(0, 1))));
	if (!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
									SPI_tuptable->tupdesc, 9, &is_null)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("deletion policy \"%s\" is disabled", name),
				 errhint("%s", HOW_TO_ENABLE)));

	policy = palloc0(sizeof(DeletionPolicy));
	policy->schema = schema;
	policy->name = column_text(0, 1);
	policy->account_table = column_oid(0, 2);
	policy->account_table_name = column_text(0, 3);
	policy->key_column = column_text(0, 4);
	policy->due_column = column_text(0, 5);
	policy->done_column = column_text(0, 6);
	policy->audit_table = column_oid(0, 7);
	policy->audit_table_name = column_text(0, 8);
	return policy;
}

/* Read the steps of a policy, in execution order */
static void
read_steps(DeletionPolicy *policy)
{
	Oid			argtypes[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(policy->name)};

	/* SELECT ... FROM deletion_step WHERE policy = $1 ORDER BY position */
	sd_execute_as_owner(policy->schema,
						psprintf("SELECT step_table::pg_catalog.oid, step_table_name, columns"
								 " FROM %s WHERE policy OPERATOR(pg_catalog.=) $1"
								 " ORDER BY \"position\"",
								 own_table(policy->schema, "deletion_step")),
						SPI_OK_SELECT, 1, argtypes, values, NULL);

	for (uint64 i = 0; i < SPI_tuptable->numvals; i++)
	{
		DeletionStep *step = palloc0(sizeof(DeletionStep));
		bool		is_null;
		Datum		columns = SPI_getbinval(SPI_tuptable->vals[i],
											SPI_tuptable->tupdesc, 3, &is_null);
		Datum	   *names;
		int			nnames;

		step->table = column_oid(i, 1);
		step->table_name = column_text(i, 2);
		deconstruct_array(DatumGetArrayTypeP(columns), NAMEOID, NAMEDATALEN,
						  false, TYPALIGN_CHAR, &names, NULL, &nnames);
		for (int j = 0; j < nnames; j++)
			step->columns = lappend(step->columns,
									pstrdup(NameStr(*DatumGetName(names[j]))));
		policy->steps = lappend(policy->steps, step);
	}
}

/*
 * Register the built-in policy if its account table is in the caller's
 * search_path; false if it is not.  Its other tables must be there, too.
 *
 * Another session may register it at the same time: then this one waits, and
 * finds the policy there.
 */
static bool
register_built_in_policy(Oid schema)
{
	Oid			account_table = sd_find_table(ACCOUNT_TABLE);
	Oid			audit_table;
	Oid			policy_types[] = {TEXTOID, OIDOID, TEXTOID, OIDOID, TEXTOID};
	Oid			step_types[] = {TEXTOID, OIDOID, TEXTOID, INT4OID, NAMEARRAYOID};
	Datum		values[5];
	Oid			tables[lengthof(built_in_steps)];

	if (!OidIsValid(account_table))
		return false;

	for (int i = 0; i < lengthof(built_in_steps); i++)
		tables[i] = find_built_in_table(account_table, "step table",
										built_in_steps[i].table_name, NULL);
	audit_table = find_built_in_table(account_table, "audit table",
									  AUDIT_TABLE,
									  missing_audit_table_hint(account_table));

	/*
	 * INSERT INTO deletion_policy (...) VALUES ($1, ...) ON CONFLICT DO
	 * NOTHING
	 */
	values[0] = CStringGetTextDatum(BUILT_IN_POLICY);
	values[1] = ObjectIdGetDatum(account_table);
	values[2] = CStringGetTextDatum(sd_qualified_name(account_table));
	values[3] = ObjectIdGetDatum(audit_table);
	values[4] = CStringGetTextDatum(sd_qualified_name(audit_table));
	if (sd_execute_as_owner(schema,
							psprintf("INSERT INTO %s (policy,"
									 " account_table, account_table_name, key_columns,"
									 " due_column, done_column,"
									 " audit_table, audit_table_name)"
									 " VALUES ($1, $2, $3, '{id}',"
									 " 'deletion_scheduled_at', 'deleted_at', $4, $5)"
									 " ON CONFLICT DO NOTHING",
									 own_table(schema, "deletion_policy")),
							SPI_OK_INSERT, lengthof(policy_types), policy_types, values, NULL) == 0)
		return true;

	/* INSERT INTO deletion_step (...) VALUES ($1, $2, $3, $4, $5) */
	for (int i = 0; i < lengthof(built_in_steps); i++)
	{
		Datum		columns[2];

		for (int j = 0; j < built_in_steps[i].ncolumns; j++)
			columns[j] = DirectFunctionCall1(namein,
											 CStringGetDatum(built_in_steps[i].columns[j]));

		values[1] = ObjectIdGetDatum(tables[i]);
		values[2] = CStringGetTextDatum(sd_qualified_name(tables[i]));
		values[3] = Int32GetDatum(i + 1);
		values[4] = PointerGetDatum(construct_array(columns,
													built_in_steps[i].ncolumns,
													NAMEOID, NAMEDATALEN,
													false, TYPALIGN_CHAR));
		sd_execute_as_owner(schema,
							psprintf("INSERT INTO %s (policy, step_table,"
									 " step_table_name, \"position\", columns)"
									 " VALUES ($1, $2, $3, $4, $5)",
									 own_table(schema, "deletion_step")),
							SPI_OK_INSERT, lengthof(step_types), step_types, values, NULL);
	}
	return true;
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
				 errhint("%s", hint != NULL ? hint : "Create it.")));
	return table;
}

/* The statement that makes the built-in audit table beside the account table */
static char *
missing_audit_table_hint(Oid account_table)
{
	AttrNumber	key = get_attnum(account_table, KEY_COLUMN);
	Oid			key_type = get_atttype(account_table, key);
	char	   *schema = get_namespace_name(get_rel_namespace(account_table));

	return sd_create_audit_table(quote_qualified_identifier(schema, AUDIT_TABLE),
								 OidIsValid(key_type) ? key_type : UUIDOID);
}

static void
throw_no_policy(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no deletion policy is registered"),
			 errdetail("The built-in policy needs table \"%s\", which is in no schema of the search_path.",
					   ACCOUNT_TABLE),
			 errhint("Put the application's schema into the search_path of the first call.")));
}

/* The qualified and quoted name of one of the extension's tables */
static char *
own_table(Oid schema, const char *name)
{
	return quote_qualified_identifier(get_namespace_name(schema), name);
}

/* A column of SPI_tuptable as text in memory of its own, NULL if it is null */
static char *
column_text(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

static Oid
column_oid(int row, int column)
{
	bool		is_null;

	return DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[row],
										  SPI_tuptable->tupdesc, column,
										  &is_null));
}
