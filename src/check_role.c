/*-------------------------------------------------------------------------
 *
 * check_role.c
 *	  What the job's role lacks, and which rows are hidden from it; and whether
 *	  the extension stands open to others.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/check_role.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "check.h"

static void check_privileges(Check *check);
static void check_function_privileges(Check *check, List **missing);
static bool may_call_either_form(Check *check);
static void check_row_security(Check *check);

/* Add what is to be said of the role that runs the job */
void
sd_check_role(Check *check)
{
	check_privileges(check);
	check_row_security(check);
}

static void
check_privileges(Check *check)
{
	List	   *missing = sd_missing_privileges(check->plan, check->role);
	ListCell   *lc;

	check_function_privileges(check, &missing);
	foreach(lc, missing)
	{
		MissingPrivilege *privilege = lfirst(lc);
		Finding    *finding;

		finding = sd_add_finding(check, SD_ERROR, "missing_privilege",
								 privilege->object,
								 psprintf("role \"%s\" lacks %s on %s",
										  GetUserNameFromId(check->role, false),
										  privilege->privileges,
										  privilege->what));
		finding->remedy = privilege->grant;
	}
}

/* The job calls one form or the other, which is nobody's until it is granted */
static void
check_function_privileges(Check *check, List **missing)
{
	const char *schema = get_namespace_name(check->policy->schema);
	Oid			argtypes[] = {TEXTOID, INT4OID, BOOLOID, BOOLOID};
	Oid			function = LookupFuncName(list_make2(makeString(pstrdup(schema)),
													 makeString("process_scheduled_deletions")),
										  lengthof(argtypes), argtypes, false);

	if (sd_namespace_aclcheck(check->policy->schema, check->role, ACL_USAGE) != ACLCHECK_OK)
		sd_add_missing(missing, check->role, "USAGE", "schema", schema,
					   quote_identifier(schema), quote_identifier(schema));
	if (!may_call_either_form(check))
		sd_add_missing(missing, check->role, "EXECUTE", "function",
					   get_func_name(function),
					   format_procedure_qualified(function),
					   format_procedure(function));
}

static bool
may_call_either_form(Check *check)
{
	Oid			argtypes[] = {OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(check->policy->schema),
	ObjectIdGetDatum(check->role)};

	return sd_query_catalog("SELECT FROM pg_proc WHERE pronamespace = $1"
							" AND proname IN ('process_scheduled_deletions', 'run_scheduled_deletions')"
							" AND has_function_privilege($2, oid, 'EXECUTE')",
							lengthof(argtypes), argtypes, values) > 0;
}

static void
check_row_security(Check *check)
{
	const char *role = GetUserNameFromId(check->role, false);
	List	   *hidden = sd_hidden_tables(check->plan, check->role);
	StringInfoData tables;
	Finding    *finding;
	ListCell   *lc;

	if (hidden == NIL)
		return;
	initStringInfo(&tables);
	foreach(lc, hidden)
		appendStringInfo(&tables, "%s%s", tables.len > 0 ? ", " : "",
						 sd_sql_name(lfirst_oid(lc)));

	/* one remedy for all of them */
	finding = sd_add_finding(check, SD_ERROR, "row_security",
							 sd_sql_name(linitial_oid(hidden)),
							 psprintf(list_length(hidden) == 1 ?
									  "row-level security of a table applies to role \"%s\"" :
									  "row-level security of several tables applies to role \"%s\"",
									  role));
	finding->detail = psprintf("A run refuses to start, since rows that it hides would survive their account: %s.",
							   tables.data);
	finding->hint = "Run the job as a role that is exempt; a superuser can make it so.";
	finding->remedy = psprintf("ALTER ROLE %s BYPASSRLS", quote_identifier(role));
}

/*
 * Whom default privileges would let in where the extension is: Finding *, of the
 * extension as a whole.  When it was installed, what they had granted was
 * revoked; a later version's objects are made by ALTER EXTENSION, too.
 */
List *
sd_check_exposure(Oid schema)
{
	/* roles that may use the schema and get something in it by default */
	static const char *const query =
		"SELECT string_agg(DISTINCT name, ', ' ORDER BY name)"
		" FROM pg_default_acl d, aclexplode(d.defaclacl) a"
		" LEFT JOIN pg_roles r ON r.oid = a.grantee,"
		" LATERAL (SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END) AS n (name)"
		" WHERE d.defaclnamespace = $1 AND d.defaclobjtype IN ('r', 'S', 'f')"
		" AND a.grantee <> d.defaclrole AND name IS NOT NULL"
		" AND has_schema_privilege(a.grantee, $1, 'USAGE')";
	Oid			argtypes[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(schema)};
	Check		check = {0};
	DeletionPolicy nobody = {0};
	char	   *roles;
	Finding    *finding;

	(void) sd_query_catalog(query, lengthof(argtypes), argtypes, values);
	roles = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (roles == NULL)
		return NIL;

	check.policy = &nobody;
	finding = sd_add_finding(&check, SD_WARNING, "exposed_schema",
							 pstrdup(quote_identifier(get_namespace_name(schema))),
							 psprintf("default privileges in schema \"%s\", where the extension is, let others in",
									  get_namespace_name(schema)));
	finding->detail = psprintf("What is made there is granted to: %s.", roles);
	finding->hint = "Create the extension in a schema of its own: CREATE SCHEMA erasure; CREATE EXTENSION scheduled_deletion SCHEMA erasure. pg_dump keeps its policies.";
	return check.findings;
}
