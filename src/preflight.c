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

#include "catalog/dependency.h"
#include "catalog/pg_namespace.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "scheduled_deletion.h"

/* What the caller lacks, and the statements that grant it */
typedef struct MissingPrivileges
{
	StringInfoData names;		/* SELECT, DELETE on table "x"; ... */
	StringInfoData grants;		/* GRANT SELECT, DELETE ON TABLE x TO y; ... */
} MissingPrivileges;

static void check_step_privileges(MissingPrivileges *missing,
								  DeletionPlan *plan, PlanStep *step);
static void check_update_privileges(MissingPrivileges *missing, PlanStep *step);
static void check_table_privileges(MissingPrivileges *missing, Oid table,
								   AclMode needed, const char *lockable);
static void check_sequence_privileges(MissingPrivileges *missing, Oid table);
static void check_schema_privilege(MissingPrivileges *missing, Oid table);
static void add_missing(MissingPrivileges *missing, const char *privileges,
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
	Oid			audit_table = plan->policy->audit_table;
	MissingPrivileges missing;
	ListCell   *lc;

	initStringInfo(&missing.names);
	initStringInfo(&missing.grants);

	foreach(lc, plan->steps)
		check_step_privileges(&missing, plan, lfirst(lc));
	check_schema_privilege(&missing, audit_table);
	check_table_privileges(&missing, audit_table, ACL_INSERT, NULL);
	check_sequence_privileges(&missing, audit_table);

	if (missing.names.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" lacks privileges to run deletion policy \"%s\"",
						GetUserNameFromId(GetUserId(), false),
						plan->policy->name),
				 errdetail("Missing: %s.", missing.names.data),
				 errhint("%s", missing.grants.data)));

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step->action != SD_BLOCK)
			check_row_security(step->table);
	}
	check_row_security(audit_table);
}

/*
 * Note what is missing for a step.  One that blocks needs nothing: what may not
 * be read shows when it is tried.
 */
static void
check_step_privileges(MissingPrivileges *missing, DeletionPlan *plan,
					  PlanStep *step)
{
	PlanLink   *link = step->links != NIL ? linitial(step->links) : NULL;

	if (step->action == SD_BLOCK)
		return;
	check_schema_privilege(missing, step->table);
	if (step == plan->account)
		check_table_privileges(missing, step->table, ACL_SELECT | ACL_DELETE,
							   plan->policy->due_column);
	else if (step->action == SD_DELETE)
		check_table_privileges(missing, step->table, ACL_SELECT | ACL_DELETE,
							   step->lock_rows ? link->names[0] : NULL);
	else
		check_table_privileges(missing, step->table, ACL_SELECT, NULL);

	if (step->action == SD_SET_NULL)
		check_update_privileges(missing, step);
}

/* The columns that the policy sets to null may be updated */
static void
check_update_privileges(MissingPrivileges *missing, PlanStep *step)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, step->links)
	{
		PlanLink   *link = lfirst(lc);

		for (int i = 0; i < link->ncolumns && !OidIsValid(link->constraint); i++)
		{
			if (pg_class_aclcheck(step->table, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
				pg_attribute_aclcheck(step->table,
									  get_attnum(step->table, link->names[i]),
									  GetUserId(), ACL_UPDATE) != ACLCHECK_OK)
				appendStringInfo(&buf, ", UPDATE (%s)",
								 quote_identifier(link->names[i]));
		}
	}
	if (buf.len > 0)
		add_missing(missing, buf.data + strlen(", "), "table",
					sd_table_name(step->table),
					sd_qualified_name(step->table));
}

/*
 * Note which of the needed privileges on a table are missing.  Rows of it are
 * to be locked if "lockable" is set, which asks for UPDATE on the table or on
 * any of its columns: on that one, if there is none yet.
 */
static void
check_table_privileges(MissingPrivileges *missing, Oid table, AclMode needed,
					   const char *lockable)
{
	static const struct
	{
		AclMode		mode;
		const char *name;
	}			privileges[] =
	{
		{ACL_SELECT, "SELECT"}, {ACL_INSERT, "INSERT"}, {ACL_DELETE, "DELETE"}
	};
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < lengthof(privileges); i++)
	{
		if ((needed & privileges[i].mode) != 0 &&
			pg_class_aclcheck(table, GetUserId(),
							  privileges[i].mode) != ACLCHECK_OK)
			appendStringInfo(&buf, ", %s", privileges[i].name);
	}
	if (lockable != NULL &&
		pg_class_aclcheck(table, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(table, GetUserId(), ACL_UPDATE,
								  ACLMASK_ANY) != ACLCHECK_OK)
		appendStringInfo(&buf, ", UPDATE (%s)", quote_identifier(lockable));

	if (buf.len > 0)
		add_missing(missing, buf.data + strlen(", "), "table",
					sd_table_name(table),
					sd_qualified_name(table));
}

/* What numbers the rows of a table by a default may be used; an identity always may */
static void
check_sequence_privileges(MissingPrivileges *missing, Oid table)
{
	ListCell   *lc;

	foreach(lc, getOwnedSequences(table))
	{
		Oid			sequence = lfirst_oid(lc);
		Oid			owner;
		int32		column;

		if (sequenceIsOwned(sequence, DEPENDENCY_AUTO, &owner, &column) &&
			pg_class_aclcheck(sequence, GetUserId(),
							  ACL_USAGE | ACL_UPDATE) != ACLCHECK_OK)
			add_missing(missing, "USAGE", "sequence", sd_table_name(sequence),
						sd_qualified_name(sequence));
	}
}

static void
check_schema_privilege(MissingPrivileges *missing, Oid table)
{
	Oid			schema = get_rel_namespace(table);
	char	   *name = get_namespace_name(schema);

	if (sd_namespace_aclcheck(schema, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
		add_missing(missing, "USAGE", "schema", name, quote_identifier(name));
}

/* Add privileges on an object, unless that was done before */
static void
add_missing(MissingPrivileges *missing, const char *privileges,
			const char *kind, const char *name, const char *quoted_name)
{
	const char *role = quote_identifier(GetUserNameFromId(GetUserId(), false));
	char	   *grant = psprintf("GRANT %s ON %s %s TO %s;", privileges,
								 asc_toupper(kind, strlen(kind)), quoted_name,
								 role);

	if (strstr(missing->grants.data, grant) != NULL)
		return;
	if (missing->names.len > 0)
	{
		appendStringInfoString(&missing->names, "; ");
		appendStringInfoChar(&missing->grants, ' ');
	}
	appendStringInfo(&missing->names, "%s on %s \"%s\"", privileges, kind, name);
	appendStringInfoString(&missing->grants, grant);
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
