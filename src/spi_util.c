/*-------------------------------------------------------------------------
 *
 * spi_util.c
 *	  Statements and subtransactions: the only file that calls SPI to run
 *	  something, and the only one that begins or ends a subtransaction.
 *
 * All of it expects that SPI is connected.  A result code other than the one
 * expected is an internal error that shows the statement.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/spi_util.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

static int	execute(PlanStatement *statement, SPIExecuteOptions *options);
static uint64 execute_as_owner(Oid schema, const char *query, int expected,
							   int nargs, Oid *argtypes, Datum *values,
							   const char *nulls, bool read_only);
static Oid	owner_of_tables(Oid schema);

/*
 * Run body(arg) in a subtransaction, which is released if "keep" is set and
 * the body answers true, and rolled back otherwise.  *done is the body's
 * answer, false after an error.  Returns the error, copied into the current
 * memory context, or NULL.
 *
 * What the body allocates in the current memory context survives, whatever
 * becomes of the subtransaction.
 */
ErrorData *
sd_in_subtransaction(bool (*body) (void *), void *arg, bool keep, bool *done)
{
	MemoryContext caller_context = CurrentMemoryContext;
	ResourceOwner caller_owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;
	volatile bool result = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller_context);

	PG_TRY();
	{
		result = body(arg);

		if (result && keep)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller_context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		result = false;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(caller_context);
	CurrentResourceOwner = caller_owner;

	*done = result;
	return error;
}

/*
 * Wait for a lock no longer than so many milliseconds, if that is above 0, nor
 * than the caller lets us, until the subtransaction ends.
 */
void
sd_set_lock_timeout(int timeout)
{
	if (timeout == 0 || (LockTimeout > 0 && LockTimeout <= timeout))
		return;
	(void) set_config_option("lock_timeout", psprintf("%d", timeout),
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
}

/*
 * Parse a generated statement once for the run; the plan lives until SPI_finish.
 *
 * It is planned anew at each execution: the number of keys differs too much
 * between a first batch, a late one and a search for one plan to serve all.  Or
 * it is planned once, as for an unknown number of keys, which the planner takes
 * for ten.
 */
void
sd_prepare(PlanStatement *statement)
{
	int			nparams = list_length(statement->params);
	Oid		   *types = palloc(sizeof(Oid) * Max(nparams, 1));
	ListCell   *lc;

	foreach(lc, statement->params)
		types[foreach_current_index(lc)] = ((StatementParam *) lfirst(lc))->type;
	elog(DEBUG1, "scheduled_deletion: %s", statement->query.data);

	statement->plan = SPI_prepare_cursor(statement->query.data, nparams, types,
										 statement->for_few_keys ?
										 CURSOR_OPT_GENERIC_PLAN : CURSOR_OPT_CUSTOM_PLAN);
	if (statement->plan == NULL)
		elog(ERROR, "SPI_prepare_cursor failed: %s: %s",
			 SPI_result_code_string(SPI_result), statement->query.data);
	statement->source_text = ((CachedPlanSource *)
							  linitial(SPI_plan_get_plan_sources(statement->plan)))->query_string;
	pfree(types);
}

/*
 * Execute a prepared statement; rows go to "dest" if it is given, or else to
 * SPI_tuptable.  nulls as in SPI_execute_plan, NULL if no value is null.
 * Returns the number of rows processed; 0 if a rule has put something else in
 * the statement's place.
 */
uint64
sd_execute(PlanStatement *statement, int expected, Datum *values,
		   const char *nulls, DestReceiver *dest)
{
	MemoryContext caller_context = CurrentMemoryContext;
	SPIExecuteOptions options = {0};
	ParamListInfo params = makeParamList(list_length(statement->params));
	int			code;
	ListCell   *lc;

	/* every parameter is set: Citus serialises also those that are not used */
	foreach(lc, statement->params)
	{
		int			i = foreach_current_index(lc);

		params->params[i].value = values[i];
		params->params[i].isnull = nulls != NULL && nulls[i] == 'n';
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = ((StatementParam *) lfirst(lc))->type;
	}
	options.params = params;
	options.dest = dest;

	code = execute(statement, &options);
	if (code != expected && code != SPI_OK_REWRITTEN)
		elog(ERROR, "unexpected SPI result %s: %s",
			 SPI_result_code_string(code), statement->query.data);

	/* SPI leaves its own context to be the current one */
	MemoryContextSwitchTo(caller_context);
	pfree(params);
	return code == expected ? SPI_processed : 0;
}

/* Execute a statement that may be special; see hook.c */
static int
execute(PlanStatement *statement, SPIExecuteOptions *options)
{
	PlanStatement *outer = sd_expect(statement);
	volatile int code = 0;

	PG_TRY();
	{
		code = SPI_execute_plan_extended(statement->plan, options);
	}
	PG_FINALLY();
	{
		sd_expect_again(outer);
	}
	PG_END_TRY();
	if (statement->must_begin && !statement->was_begun && code != SPI_OK_REWRITTEN)
		elog(ERROR, "a statement began without its hook: %s", statement->query.data);
	return code;
}

/*
 * Execute a statement once, as the caller.  Returns the number of rows, which are
 * in SPI_tuptable.
 */
uint64
sd_query(const char *query, int expected, int nargs, Oid *argtypes,
		 Datum *values)
{
	MemoryContext caller_context = CurrentMemoryContext;
	int			code = SPI_execute_with_args(query, nargs, argtypes, values,
											 NULL, false, 0);

	MemoryContextSwitchTo(caller_context);
	if (code != expected)
		elog(ERROR, "unexpected SPI result %s: %s",
			 SPI_result_code_string(code), query);
	return SPI_processed;
}

/* The same of a query that counts; returns what it says */
int64
sd_count(const char *query, int nargs, Oid *argtypes, Datum *values)
{
	bool		is_null;

	(void) sd_query(query, SPI_OK_SELECT, nargs, argtypes, values);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
									   SPI_tuptable->tupdesc, 1, &is_null));
}

/*
 * The same of a query of the system catalogs, in which nothing need be written
 * with its schema: the search_path is pg_catalog as long as it runs.
 */
uint64
sd_query_catalog(const char *query, int nargs, Oid *argtypes, Datum *values)
{
	int			nestlevel = NewGUCNestLevel();
	uint64		nrows;

	/* after an error, the end of the (sub)transaction restores it */
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	nrows = sd_query(query, SPI_OK_SELECT, nargs, argtypes, values);
	AtEOXact_GUC(true, nestlevel);
	return nrows;
}

/*
 * Execute a statement on the extension's own tables as their owner, so that
 * nobody else needs a privilege on them.  Nothing in the statement may call
 * what a user has written.  Returns the number of rows processed; rows are in
 * SPI_tuptable.
 */
uint64
sd_execute_as_owner(Oid schema, const char *query, int expected, int nargs,
					Oid *argtypes, Datum *values, const char *nulls)
{
	return execute_as_owner(schema, query, expected, nargs, argtypes, values,
							nulls, false);
}

/*
 * The same of the rows that satisfy a condition, which are deleted, but for
 * those that somebody else has locked: nobody is waited for.
 */
void
sd_delete_unlocked_as_owner(Oid schema, const char *name, const char *condition,
							int nargs, Oid *argtypes, Datum *values,
							const char *nulls)
{
	const char *table = sd_own_table(schema, name);

	(void) sd_execute_as_owner(schema,
							   psprintf("DELETE FROM %s WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
										"SELECT ctid FROM %s WHERE %s FOR UPDATE SKIP LOCKED))",
										table, table, condition),
							   SPI_OK_DELETE, nargs, argtypes, values, nulls);
}

/*
 * The same of a SELECT, which sees what has been committed by now, also where the
 * transaction has an older snapshot.
 */
uint64
sd_query_latest_as_owner(Oid schema, const char *query, int nargs,
						 Oid *argtypes, Datum *values)
{
	uint64		nrows;

	PushActiveSnapshot(GetLatestSnapshot());
	nrows = execute_as_owner(schema, query, SPI_OK_SELECT, nargs, argtypes,
							 values, NULL, true);
	PopActiveSnapshot();
	return nrows;
}

/* With the active snapshot if "read_only", else with one of its own */
static uint64
execute_as_owner(Oid schema, const char *query, int expected, int nargs,
				 Oid *argtypes, Datum *values, const char *nulls,
				 bool read_only)
{
	MemoryContext caller_context = CurrentMemoryContext;
	Oid			caller;
	int			caller_security;
	int			code;

	/* after an error, the end of the (sub)transaction restores the user */
	GetUserIdAndSecContext(&caller, &caller_security);
	SetUserIdAndSecContext(owner_of_tables(schema),
						   caller_security | SECURITY_LOCAL_USERID_CHANGE);
	code = SPI_execute_with_args(query, nargs, argtypes, values, nulls,
								 read_only, 0);
	SetUserIdAndSecContext(caller, caller_security);
	MemoryContextSwitchTo(caller_context);

	if (code != expected)
		elog(ERROR, "unexpected SPI result %s: %s",
			 SPI_result_code_string(code), query);
	return SPI_processed;
}

/* The owner of the extension's tables */
static Oid
owner_of_tables(Oid schema)
{
	Oid			table = get_relname_relid("deletion_policy", schema);
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"deletion_policy\" of extension \"scheduled_deletion\" does not exist"),
				 errhint("Run ALTER EXTENSION scheduled_deletion UPDATE, or create the extension anew.")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The first column of the last query's rows, which are freed: oids */
List *
sd_oids_of_rows(void)
{
	SPITupleTable *rows = SPI_tuptable;
	List	   *oids = NIL;

	for (uint64 i = 0; i < rows->numvals; i++)
	{
		bool		is_null;

		oids = lappend_oid(oids, DatumGetObjectId(SPI_getbinval(rows->vals[i],
																rows->tupdesc, 1,
																&is_null)));
	}
	SPI_freetuptable(rows);
	return oids;
}

/* Oids as a parameter of a query */
Datum
sd_oid_array(List *oids)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(list_length(oids), 1));
	ListCell   *lc;

	foreach(lc, oids)
		values[foreach_current_index(lc)] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(construct_array(values, list_length(oids), OIDOID,
										   sizeof(Oid), true, TYPALIGN_INT));
}
