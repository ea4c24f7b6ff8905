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

#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "scheduled_deletion.h"

/* Tables of a plan, and the one that is looked at */
typedef struct PublishedTable
{
	DeletionPlan *plan;
	Oid			table;
} PublishedTable;

pg_noreturn static void throw_missing(DeletionPlan *plan, const char *role,
									  List *missing);
static void refuse_unidentified_rows(DeletionPlan *plan);
static bool check_replica_identity(void *arg);
static void check_step_privileges(List **missing, Oid role, DeletionPlan *plan,
								  PlanStep *step);
static void check_update_privileges(List **missing, Oid role, PlanStep *step);
static void check_table_privileges(List **missing, Oid role, Oid table,
								   AclMode needed, const char *lockable);
static void check_sequence_privileges(List **missing, Oid role, Oid table);
static void check_schema_privilege(List **missing, Oid role, Oid table);

/* Does the setting let runs begin?  If it is misspelt, it does not. */
bool
sd_may_run(void)
{
	bool		is_enabled;

	return parse_bool(sd_enabled, &is_enabled) && is_enabled;
}

/* Refuse a session in which rows cannot be deleted, or not with their checks */
void
sd_check_session(const char *command)
{
	PreventCommandDuringRecovery(command);
	PreventCommandIfReadOnly(command);

	if (!sd_may_run())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("scheduled deletion is disabled by a setting"),
				 errdetail("The setting scheduled_deletion.enabled is \"%s\".",
						   sd_enabled),
				 errhint("See who has set it, and why, in pg_db_role_setting or the configuration file; or run SET scheduled_deletion.enabled = on for this session.")));
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
	const char *role = GetUserNameFromId(GetUserId(), false);
	List	   *missing = sd_missing_privileges(plan, GetUserId());
	List	   *hidden = sd_hidden_tables(plan, GetUserId());

	if (missing != NIL)
		throw_missing(plan, role, missing);

	/* a row that is hidden cannot be counted, only refused */
	if (hidden != NIL)
		sd_throw_hidden(linitial_oid(hidden),
						"Rows that it hides would survive their account.", "Run");

	refuse_unidentified_rows(plan);
}

/* Row-level security of a table applies to the caller, and what comes of that */
void
sd_throw_hidden(Oid table, const char *detail, const char *what_to_do)
{
	const char *role = GetUserNameFromId(GetUserId(), false);

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("row-level security of table \"%s\" applies to role \"%s\"",
					sd_table_name(table), role),
			 errdetail("%s", detail),
			 errhint("%s as a role that is exempt, or run ALTER ROLE %s BYPASSRLS as a superuser.",
					 what_to_do, quote_identifier(role))));
}

/* The server refuses to change published rows that subscribers could not tell */
static void
refuse_unidentified_rows(DeletionPlan *plan)
{
	PublishedTable published = {.plan = plan};
	bool		done;
	ErrorData  *error = sd_in_subtransaction(check_replica_identity, &published,
											 false, &done);
	const char *table;

	if (error == NULL)
		return;
	if (error->sqlerrcode != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
		ReThrowError(error);
	table = sd_qualified_name(published.table);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" is published, and has no replica identity by which rows could be deleted or updated",
					sd_table_name(published.table)),
			 errhint("Give it a primary key, or run ALTER TABLE %s REPLICA IDENTITY FULL.",
					 table)));
}

/* Throw the server's error of the first table that is not fit */
static bool
check_replica_identity(void *arg)
{
	PublishedTable *published = arg;
	ListCell   *lc;

	foreach(lc, published->plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		if (step->action == SD_KEEP || step->action == SD_BLOCK)
			continue;
		foreach(cell, find_all_inheritors(step->table, NoLock, NULL))
		{
			Relation	rel = table_open(lfirst_oid(cell), NoLock);

			published->table = RelationGetRelid(rel);
			if (rel->rd_rel->relkind == RELKIND_RELATION)
				CheckCmdReplicaIdentity(rel, step->action == SD_DELETE ?
										CMD_DELETE : CMD_UPDATE);
			table_close(rel, NoLock);
		}
	}
	return true;
}

static void
throw_missing(DeletionPlan *plan, const char *role, List *missing)
{
	StringInfoData names;
	StringInfoData grants;
	ListCell   *lc;

	initStringInfo(&names);
	initStringInfo(&grants);
	foreach(lc, missing)
	{
		MissingPrivilege *privilege = lfirst(lc);

		appendStringInfo(&names, "%s%s on %s", names.len > 0 ? "; " : "",
						 privilege->privileges, privilege->what);
		appendStringInfo(&grants, "%s%s;", grants.len > 0 ? " " : "",
						 privilege->grant);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" lacks privileges to run deletion policy \"%s\"",
					role, plan->policy->name),
			 errdetail("Missing: %s.", names.data),
			 errhint("%s", grants.data)));
}

/*
 * What a role lacks to run a plan: MissingPrivilege *, in the plan's order.  A
 * plan that is only checked may have no audit table.
 */
List *
sd_missing_privileges(DeletionPlan *plan, Oid role)
{
	Oid			audit_table = plan->policy->audit_table;
	List	   *missing = NIL;
	ListCell   *lc;

	foreach(lc, plan->steps)
		check_step_privileges(&missing, role, plan, lfirst(lc));
	foreach(lc, plan->watch_links)
	{
		PlanStep   *watched = ((PlanLink *) lfirst(lc))->key->step;

		/* by which other keys accounts are on hold is read there */
		if (list_length(watched->keys) > 1)
			check_step_privileges(&missing, role, plan, watched);
	}
	if (OidIsValid(audit_table))
	{
		check_schema_privilege(&missing, role, audit_table);
		check_table_privileges(&missing, role, audit_table, ACL_INSERT, NULL);
		check_sequence_privileges(&missing, role, audit_table);
	}
	return missing;
}

/* The tables of a plan of which row-level security may hide rows from a role */
List *
sd_hidden_tables(DeletionPlan *plan, Oid role)
{
	List	   *tables = NIL;
	List	   *hidden = NIL;
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);

		if (step->action != SD_BLOCK)
			tables = list_append_unique_oid(tables, step->table);
	}
	if (OidIsValid(plan->policy->audit_table))
		tables = list_append_unique_oid(tables, plan->policy->audit_table);
	foreach(lc, tables)
	{
		if (check_enable_rls(lfirst_oid(lc), role, true) == RLS_ENABLED)
			hidden = lappend_oid(hidden, lfirst_oid(lc));
	}
	return hidden;
}

/*
 * Note that privileges on an object are missing: "kind" is what it is, "name" what
 * people call it.  All of one object are one entry.
 */
void
sd_add_missing(List **missing, Oid role, const char *privileges,
			   const char *kind, const char *name, const char *quoted_name,
			   const char *object)
{
	char	   *what = psprintf("%s \"%s\"", kind, name);
	MissingPrivilege *entry = NULL;
	ListCell   *lc;

	foreach(lc, *missing)
	{
		if (strcmp(((MissingPrivilege *) lfirst(lc))->what, what) == 0)
			entry = lfirst(lc);
	}
	if (entry == NULL)
	{
		entry = palloc0(sizeof(MissingPrivilege));
		entry->what = what;
		entry->object = pstrdup(object);
		entry->privileges = pstrdup(privileges);
		*missing = lappend(*missing, entry);
	}
	else if (strstr(entry->privileges, privileges) == NULL)
		entry->privileges = strncmp(privileges, entry->privileges,
									strlen(entry->privileges)) == 0 ?
			pstrdup(privileges) :
			psprintf("%s, %s", entry->privileges, privileges);
	entry->grant = psprintf("GRANT %s ON %s %s TO %s", entry->privileges,
							asc_toupper(kind, strlen(kind)), quoted_name,
							quote_identifier(GetUserNameFromId(role, false)));
}

/*
 * Note what is missing for a step.  One that blocks needs nothing: what may not
 * be read shows when it is tried.
 */
static void
check_step_privileges(List **missing, Oid role, DeletionPlan *plan,
					  PlanStep *step)
{
	PlanLink   *link = step->links != NIL ? linitial(step->links) : NULL;

	if (step->action == SD_BLOCK)
		return;
	check_schema_privilege(missing, role, step->table);
	if (step == plan->account)
		check_table_privileges(missing, role, step->table, ACL_SELECT | ACL_DELETE,
							   plan->policy->due_column);
	else if (step->action == SD_DELETE)
		check_table_privileges(missing, role, step->table, ACL_SELECT | ACL_DELETE,
							   step->lock_rows ? link->names[0] : NULL);
	else
		check_table_privileges(missing, role, step->table, ACL_SELECT, NULL);

	if (step->action == SD_SET_NULL)
		check_update_privileges(missing, role, step);
}

/* The columns that the policy sets to null may be updated */
static void
check_update_privileges(List **missing, Oid role, PlanStep *step)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, step->links)
	{
		PlanLink   *link = lfirst(lc);

		for (int i = 0; i < link->ncolumns && !OidIsValid(link->constraint); i++)
		{
			if (pg_class_aclcheck(step->table, role, ACL_UPDATE) != ACLCHECK_OK &&
				pg_attribute_aclcheck(step->table,
									  get_attnum(step->table, link->names[i]),
									  role, ACL_UPDATE) != ACLCHECK_OK)
				appendStringInfo(&buf, ", UPDATE (%s)",
								 quote_identifier(link->names[i]));
		}
	}
	if (buf.len > 0)
		sd_add_missing(missing, role, buf.data + strlen(", "), "table",
					   sd_table_name(step->table),
					   sd_qualified_name(step->table),
					   sd_sql_name(step->table));
}

/*
 * Note which of the needed privileges on a table are missing.  Rows of it are
 * to be locked if "lockable" is set, which asks for UPDATE on the table or on
 * any of its columns: on that one, if there is none yet.
 */
static void
check_table_privileges(List **missing, Oid role, Oid table, AclMode needed,
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
			pg_class_aclcheck(table, role,
							  privileges[i].mode) != ACLCHECK_OK)
			appendStringInfo(&buf, ", %s", privileges[i].name);
	}
	if (lockable != NULL &&
		pg_class_aclcheck(table, role, ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(table, role, ACL_UPDATE,
								  ACLMASK_ANY) != ACLCHECK_OK)
		appendStringInfo(&buf, ", UPDATE (%s)", quote_identifier(lockable));

	if (buf.len > 0)
		sd_add_missing(missing, role, buf.data + strlen(", "), "table",
					   sd_table_name(table), sd_qualified_name(table),
					   sd_sql_name(table));
}

/*
 * What numbers the rows of a table by a default may be used; an identity always
 * may
 */
static void
check_sequence_privileges(List **missing, Oid role, Oid table)
{
	ListCell   *lc;

	foreach(lc, getOwnedSequences(table))
	{
		Oid			sequence = lfirst_oid(lc);
		Oid			owner;
		int32		column;

		if (sequenceIsOwned(sequence, DEPENDENCY_AUTO, &owner, &column) &&
			pg_class_aclcheck(sequence, role,
							  ACL_USAGE | ACL_UPDATE) != ACLCHECK_OK)
			sd_add_missing(missing, role, "USAGE", "sequence", sd_table_name(sequence),
						   sd_qualified_name(sequence), sd_sql_name(sequence));
	}
}

static void
check_schema_privilege(List **missing, Oid role, Oid table)
{
	Oid			schema = get_rel_namespace(table);
	char	   *name = get_namespace_name(schema);

	if (sd_namespace_aclcheck(schema, role, ACL_USAGE) != ACLCHECK_OK)
		sd_add_missing(missing, role, "USAGE", "schema", name, quote_identifier(name),
					   quote_identifier(name));
}
