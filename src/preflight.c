/*-------------------------------------------------------------------------
 *
 * preflight.c
 *	  What refuses a run before it has changed anything.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/preflight.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_namespace.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "scheduled_deletion.h"

/* What the caller lacks, as the statements that grant it */
typedef struct MissingPrivileges
{
	StringInfoData names;		/* "DELETE on table "x", ..." */
	StringInfoData grants;		/* "GRANT DELETE ON x TO y; ..." */
} MissingPrivileges;

static void check_table_privilege(MissingPrivileges *missing, Oid table,
								  AclMode mode, const char *privilege);
static void check_schema_privilege(MissingPrivileges *missing, Oid table);
static void add_missing(MissingPrivileges *missing, const char *privilege,
						const char *kind, const char *name,
						const char *quoted_name);
static void check_row_security(Oid table);

/* Refuse a session in which rows cannot be deleted, or not with their checks */
void
sd_check_session(void)
{
	PreventCommandDuringRecovery("process_scheduled_deletions()");
	PreventCommandIfReadOnly("process_scheduled_deletions()");

	if (SessionReplicationRole != SESSION_REPLICATION_ROLE_ORIGIN)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot delete accounts while session_replication_role is not \"origin\""),
				 errdetail("Foreign keys would not be checked, and their actions not taken."),
				 errhint("Run RESET session_replication_role.")));
}

/*
 * Refuse a caller who may not do, or not see, everything that the plan needs.
 * All missing privileges are named at once.
 */
void
sd_check_tables(DeletionPlan *plan)
{
	Oid			account_table = plan->policy->account_table;
	Oid			audit_table = plan->policy->audit_table;
	MissingPrivileges missing;

	initStringInfo(&missing.names);
	initStringInfo(&missing.grants);

	for (int i = 0; i < plan->nsteps; i++)
	{
		Oid			table = plan->steps[i].table;

		check_schema_privilege(&missing, table);
		check_table_privilege(&missing, table, ACL_SELECT, "SELECT");
		check_table_privilege(&missing, table, ACL_DELETE, "DELETE");
	}

	/* FOR UPDATE asks for UPDATE on the table or any one of its columns */
	if (pg_attribute_aclcheck_all(account_table, GetUserId(), ACL_UPDATE,
								  ACLMASK_ANY) != ACLCHECK_OK)
		check_table_privilege(&missing, account_table, ACL_UPDATE,
							  psprintf("UPDATE (%s)", quote_identifier(plan->policy->due_column)));
	check_schema_privilege(&missing, audit_table);
	check_table_privilege(&missing, audit_table, ACL_INSERT, "INSERT");

	if (missing.names.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" lacks privileges to run deletion policy \"%s\"",
						GetUserNameFromId(GetUserId(), false),
						plan->policy->name),
				 errdetail("Missing: %s.", missing.names.data),
				 errhint("%s", missing.grants.data)));

	for (int i = 0; i < plan->nsteps; i++)
		check_row_security(plan->steps[i].table);
	check_row_security(audit_table);
}

static void
check_table_privilege(MissingPrivileges *missing, Oid table, AclMode mode,
					  const char *privilege)
{
	char	   *schema = get_namespace_name(get_rel_namespace(table));

	if (pg_class_aclcheck(table, GetUserId(), mode) != ACLCHECK_OK)
		add_missing(missing, privilege, "TABLE", sd_table_name(table),
					quote_qualified_identifier(schema, get_rel_name(table)));
}

static void
check_schema_privilege(MissingPrivileges *missing, Oid table)
{
	Oid			schema = get_rel_namespace(table);
	char	   *name = get_namespace_name(schema);

	if (sd_namespace_aclcheck(schema, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
		add_missing(missing, "USAGE", "SCHEMA", name, quote_identifier(name));
}

/* Add a privilege, unless it was found to be missing before */
static void
add_missing(MissingPrivileges *missing, const char *privilege,
			const char *kind, const char *name, const char *quoted_name)
{
	const char *role = quote_identifier(GetUserNameFromId(GetUserId(), false));
	char	   *grant = psprintf("GRANT %s ON %s %s TO %s;", privilege, kind,
								 quoted_name, role);
	const char *separator = missing->names.len > 0 ? ", " : "";

	if (strstr(missing->grants.data, grant) != NULL)
		return;
	appendStringInfo(&missing->names, "%s%s on %s \"%s\"", separator, privilege,
					 strcmp(kind, "TABLE") == 0 ? "table" : "schema", name);
	appendStringInfo(&missing->grants, "%s%s",
					 missing->grants.len > 0 ? " " : "", grant);
}

/* A row that is hidden cannot be counted, only refused */
static void
check_row_security(Oid table)
{
	const char *role = GetUserNameFromId(GetUserId(), false);

	if (check_enable_rls(table, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row-level security of table \"%s\" applies to role \"%s\"",
						sd_table_name(table), role),
				 errdetail("Rows that it hides would survive their account."),
				 errhint("Run as a role that is exempt, or run ALTER ROLE %s BYPASSRLS as a superuser.",
						 quote_identifier(role))));
}
