/*-------------------------------------------------------------------------
 *
 * failure.c
 *	  What an error means: whom it concerns, and how to tell it without a word
 *	  of the person whose rows raised it.
 *
 * The text, detail, hint and context of an error may quote values, and so may
 * the names that a user's RAISE puts into it.  So a Failure is built from the
 * SQLSTATE, its condition name, and names of tables and constraints that the
 * catalog confirms.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/failure.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

/* SQLSTATEs and condition names, made from the server's errcodes.txt */
static const struct
{
	const char *sqlstate;
	const char *name;
}			conditions[] =

{
#include "conditions.inc"
};

/*
 * Source files of the server that raise an error of which its SQLSTATE says that
 * another try may succeed, or that this session was cancelled
 */
static const char *const own_files[] = {
	"postgres.c",				/* a cancel, a timeout */
	"deadlock.c",
	"predicate.c",				/* a conflict at SERIALIZABLE */
	"heapam.c", "heapam_handler.c", "nodeLockRows.c",	/* rows */
	"nodeModifyTable.c", "trigger.c", "execMain.c", "execReplication.c",
	"ri_triggers.c",
	"namespace.c", "lockcmds.c" /* tables */
};

static bool is_raised(ErrorData *edata);
static bool is_own(ErrorData *edata);
static FailureKind failure_kind(ErrorData *edata);
pg_noreturn static void throw_run_failure(const Failure *failure);
static const char *condition_name(int sqlstate);
static void set_message(Failure *failure, const char *doing);

/*
 * The failure that an error means, which was raised while doing that ("deleting
 * from") to a table, or just that if there is no table.  Allocated in the
 * current memory context, which the caller chooses by how long it is to live.
 */
Failure *
sd_failure_from_error(ErrorData *edata, const char *doing, Oid table)
{
	Failure    *failure = palloc0(sizeof(Failure));
	Oid			error_table = InvalidOid;

	/* one SQLSTATE in all versions, and not that of rows of accounts on hold */
	failure->sqlstate = sd_tells_late_row(edata) ? ERRCODE_FOREIGN_KEY_VIOLATION :
		edata->sqlerrcode;
	failure->kind = failure_kind(edata);

	/* a name counts only if it is that of a table, and a constraint of it */
	if (edata->schema_name != NULL && edata->table_name != NULL)
	{
		Oid			schema = get_namespace_oid(edata->schema_name, true);

		if (OidIsValid(schema))
			error_table = get_relname_relid(edata->table_name, schema);
	}
	if (OidIsValid(error_table) && edata->constraint_name != NULL &&
		OidIsValid(get_relation_constraint_oid(error_table,
											   edata->constraint_name, true)))
		failure->constraint_name = pstrdup(edata->constraint_name);

	if (OidIsValid(error_table))
		failure->table_name = sd_table_name(error_table);
	else if (OidIsValid(table))
		failure->table_name = sd_table_name(table);

	if (OidIsValid(table))
		doing = psprintf("%s table \"%s\"", doing, sd_table_name(table));
	set_message(failure, doing);
	return failure;
}

/*
 * Why a policy could not run.  An error of our own is told as it is, with its
 * hint; of others, as of an account's.
 */
Failure *
sd_fatal_failure(ErrorData *edata)
{
	Failure    *failure = sd_failure_from_error(edata, "running the policy",
												InvalidOid);

	if (edata->domain != NULL && strcmp(edata->domain, TEXTDOMAIN) == 0)
	{
		failure->message = pstrdup(edata->message);
		if (edata->hint != NULL)
			failure->hint = pstrdup(edata->hint);
	}
	return failure;
}

/*
 * Is an error not the policy's, but a cancel, or that something was not to be
 * had?
 */
bool
sd_concerns_the_call(ErrorData *edata)
{
	FailureKind kind = failure_kind(edata);

	return kind == SD_RUN_FAILURE || kind == SD_MOMENT_FAILURE ||
		kind == SD_SERVER_FAILURE;
}

/* Is it an error that another transaction need not meet? */
bool
sd_may_try_again(ErrorData *edata)
{
	return (edata->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE && is_own(edata)) ||
		failure_kind(edata) == SD_MOMENT_FAILURE;
}

/*
 * Does an error tell that a row has come under one that was to be deleted, by a key
 * that would have taken it along?  See hook.c.  Else a key with ON DELETE CASCADE
 * refuses only rows that are inserted, or updated.
 */
bool
sd_tells_late_row(ErrorData *edata)
{
	Oid			schema;
	Oid			constraint = InvalidOid;
	HeapTuple	tuple;
	bool		result = false;

	if ((edata->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION &&
		 edata->sqlerrcode != ERRCODE_RESTRICT_VIOLATION) ||
		edata->funcname == NULL || strcmp(edata->funcname, "ri_ReportViolation") != 0 ||
		edata->message_id == NULL ||
		strncmp(edata->message_id, "update or delete", strlen("update or delete")) != 0 ||
		edata->schema_name == NULL || edata->table_name == NULL ||
		edata->constraint_name == NULL)
		return false;
	schema = get_namespace_oid(edata->schema_name, true);
	if (OidIsValid(schema))
	{
		Oid			table = get_relname_relid(edata->table_name, schema);

		if (OidIsValid(table))
			constraint = get_relation_constraint_oid(table, edata->constraint_name,
													 true);
	}
	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_constraint) GETSTRUCT(tuple))->confdeltype == FKCONSTR_ACTION_CASCADE;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* Is it an error of ours that rows were changed while their account was deleted? */
bool
sd_tells_changed_rows(ErrorData *edata)
{
	return edata->sqlerrcode == ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION &&
		edata->domain != NULL && strcmp(edata->domain, TEXTDOMAIN) == 0;
}

/* The failure of an account that a foreign key of "table" stops */
Failure *
sd_blocked_failure(Oid constraint, Oid table)
{
	Failure    *failure = palloc0(sizeof(Failure));

	failure->kind = SD_ACCOUNT_FAILURE;
	failure->sqlstate = ERRCODE_FOREIGN_KEY_VIOLATION;
	failure->table_name = sd_table_name(table);
	failure->constraint_name = get_constraint_name(constraint);
	set_message(failure, NULL);
	return failure;
}

/* The failure of an account of which a trigger or rule kept a row in "table" */
Failure *
sd_kept_rows_failure(Oid table)
{
	Failure    *failure = palloc0(sizeof(Failure));

	failure->kind = SD_ACCOUNT_FAILURE;
	failure->sqlstate = ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION;
	failure->table_name = sd_table_name(table);
	failure->message = psprintf("rows of table \"%s\" were kept by a trigger or rule",
								failure->table_name);
	return failure;
}

/* The failure of an account that shares rows of "table" with one on hold */
Failure *
sd_held_rows_failure(Oid table, const char *reason)
{
	Failure    *failure = palloc0(sizeof(Failure));

	failure->kind = SD_ACCOUNT_FAILURE;
	failure->sqlstate = ERRCODE_RESTRICT_VIOLATION;
	failure->table_name = sd_table_name(table);
	failure->message = psprintf("rows of table \"%s\" belong to an account on hold: %s",
								failure->table_name, reason);
	return failure;
}

/* Nobody's failure: the plan is not about all that is there by now */
Failure *
sd_outdated_failure(void)
{
	Failure    *failure = palloc0(sizeof(Failure));

	failure->kind = SD_MOMENT_FAILURE;
	failure->sqlstate = ERRCODE_OBJECT_IN_USE;
	failure->message = pstrdup("partitions, or tables with accounts on hold, have changed meanwhile");
	return failure;
}

/* A copy in the current memory context */
Failure *
sd_copy_failure(const Failure *failure)
{
	Failure    *copy = palloc(sizeof(Failure));

	*copy = *failure;
	copy->message = pstrdup(failure->message);
	if (failure->hint != NULL)
		copy->hint = pstrdup(failure->hint);
	if (failure->table_name != NULL)
		copy->table_name = pstrdup(failure->table_name);
	if (failure->constraint_name != NULL)
		copy->constraint_name = pstrdup(failure->constraint_name);
	return copy;
}

/* Is it the same trouble, as far as can be told? */
bool
sd_same_failure(const Failure *a, const Failure *b)
{
	return a->sqlstate == b->sqlstate &&
		a->while_auditing == b->while_auditing &&
		strcmp(a->message, b->message) == 0;
}

/*
 * End the run with a failure that is not an account's.  The error says by the
 * function that raised it whether it is the run's.
 */
void
sd_throw_failure(const Failure *failure)
{
	if (failure->kind == SD_RUN_FAILURE)
		throw_run_failure(failure);
	ereport(ERROR,
			(errcode(failure->sqlstate),
			 errmsg("deletion run stopped: %s", failure->message),
			 errdetail("None of the accounts that were tried can be deleted; nothing was changed."),
			 errhint("The error's own text may quote personal data and is not repeated here; to see it, %s by hand, as the job's role, in a transaction that is rolled back.",
					 failure->while_auditing ? "insert such a row" :
					 "delete the rows of one such account")));
}

static void
throw_run_failure(const Failure *failure)
{
	ereport(ERROR,
			(errcode(failure->sqlstate),
			 errmsg("deletion run stopped: %s", failure->message),
			 errdetail("Nothing was changed."),
			 failure->sqlstate == ERRCODE_QUERY_CANCELED ?
			 errhint("If statement_timeout ended it, raise that, or bound the run with max_accounts, or max_runtime of run_scheduled_deletions().") :
			 0));
}

/*
 * Was the error raised by a statement of a PL/pgSQL function, which may give it
 * any SQLSTATE?  Then that says nothing of the server or the schema.
 */
static bool
is_raised(ErrorData *edata)
{
	return edata->funcname != NULL &&
		(strcmp(edata->funcname, "exec_stmt_raise") == 0 ||
		 strcmp(edata->funcname, "exec_stmt_assert") == 0);
}

/*
 * Did this session meet itself what the SQLSTATE says, a cancel or a lock that was
 * not to be had?  A foreign-data wrapper, dblink and the like pass on what another
 * session met, with its SQLSTATE.
 */
static bool
is_own(ErrorData *edata)
{
	if (edata->filename == NULL || edata->funcname == NULL)
		return false;
	if (edata->domain != NULL && strcmp(edata->domain, TEXTDOMAIN) == 0)
		return strcmp(edata->funcname, "throw_run_failure") == 0;
	if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		return strcmp(edata->funcname, "ProcessInterrupts") == 0;
	for (int i = 0; i < lengthof(own_files); i++)
	{
		if (strcmp(edata->filename, own_files[i]) == 0)
			return true;
	}
	return false;
}

/*
 * Whom an error concerns.  Of those that may be everybody's, search.c asks
 * whether they are.
 */
static FailureKind
failure_kind(ErrorData *edata)
{
	if (is_raised(edata))
		return SD_ACCOUNT_FAILURE;

	switch (edata->sqlerrcode)
	{
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
			if (!is_own(edata))
				return SD_SERVER_FAILURE;
			return IsolationIsSerializable() ?
				SD_RUN_FAILURE : SD_MOMENT_FAILURE;
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		case ERRCODE_LOCK_NOT_AVAILABLE:
			return is_own(edata) ? SD_MOMENT_FAILURE : SD_SERVER_FAILURE;
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_OBJECT_IN_USE:
			return SD_SCHEMA_FAILURE;
	}

	switch (ERRCODE_TO_CATEGORY(edata->sqlerrcode))
	{
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):	/* operator intervention */
			return is_own(edata) ? SD_RUN_FAILURE : SD_SERVER_FAILURE;
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):	/* insufficient
														 * resources */
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):	/* system error */
		case MAKE_SQLSTATE('2', '5', '0', '0', '0'):	/* transaction state */
			return SD_SERVER_FAILURE;
		case MAKE_SQLSTATE('X', 'X', '0', '0', '0'):	/* internal error */
			return SD_INTERNAL_FAILURE;
		case MAKE_SQLSTATE('0', 'A', '0', '0', '0'):	/* not supported */
		case MAKE_SQLSTATE('0', '8', '0', '0', '0'):	/* connection */
		case MAKE_SQLSTATE('3', 'F', '0', '0', '0'):	/* schema name */
		case MAKE_SQLSTATE('4', '2', '0', '0', '0'):	/* access rule */
			return SD_SCHEMA_FAILURE;
	}
	return SD_ACCOUNT_FAILURE;
}

/* The name of a condition, or that of its class, or NULL */
static const char *
condition_name(int sqlstate)
{
	const char *code = unpack_sql_state(sqlstate);
	const char *class_name = NULL;

	for (int i = 0; i < lengthof(conditions); i++)
	{
		if (strcmp(conditions[i].sqlstate, code) == 0)
			return conditions[i].name;
		if (strncmp(conditions[i].sqlstate, code, 2) == 0 &&
			strcmp(conditions[i].sqlstate + 2, "000") == 0)
			class_name = conditions[i].name;
	}
	return class_name;
}

/* Put together the words for a failure whose other fields are set */
static void
set_message(Failure *failure, const char *doing)
{
	const char *name = condition_name(failure->sqlstate);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, name != NULL ? name : "error");
	if (failure->constraint_name != NULL)
		appendStringInfo(&buf, " of constraint \"%s\" on table \"%s\"",
						 failure->constraint_name, failure->table_name);
	if (doing != NULL)
		appendStringInfo(&buf, " while %s", doing);
	failure->message = buf.data;
}
