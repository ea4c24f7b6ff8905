/*-------------------------------------------------------------------------
 *
 * check_code.c
 *	  Code on the tables of a plan that runs with the rights of the job's role,
 *	  and that a role which has not got those itself can put something else into.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/check_code.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "check.h"

static void check_function(Check *check, Oid table, Oid function,
						   ObjectAddress *of);
static bool is_run_by_any_query(const ObjectAddress *of);
static Oid	function_owner(Oid function);

/*
 * Triggers and rules that a run fires; what is in the indexes of all these
 * tables, which the planner evaluates; and in defaults, constraints and domains
 * of those of which rows are written.
 */
void
sd_check_code(Check *check, List *tables, List *written)
{
	/* of an operator, its function is called */
	static const char *const query =
		"WITH c AS (SELECT relid, relid = ANY ($2) AS is_written, n"
		"   FROM unnest($1) WITH ORDINALITY AS t (relid, n))"
		" SELECT relid, a.classid, a.objid, coalesce(o.oprcode::oid, d.refobjid)"
		" FROM (SELECT relid, t.tableoid AS classid, t.oid AS objid"
		"   FROM c JOIN pg_trigger t ON t.tgrelid = relid AND t.oid = ANY ($3)"
		"  UNION ALL SELECT relid, r.tableoid, r.oid"
		"   FROM c JOIN pg_rewrite r ON r.ev_class = relid AND r.oid = ANY ($3)"
		"  UNION ALL SELECT relid, 'pg_class'::regclass, indexrelid"
		"   FROM c JOIN pg_index ON indrelid = relid"
		"  UNION ALL SELECT relid, s.tableoid, s.oid"
		"   FROM c JOIN pg_statistic_ext s ON stxrelid = relid"
		"  UNION ALL SELECT relid, f.tableoid, f.oid"
		"   FROM c JOIN pg_attrdef f ON f.adrelid = relid AND is_written"
		"  UNION ALL SELECT relid, k.tableoid, k.oid"
		"   FROM c JOIN pg_constraint k ON k.conrelid = relid AND k.contype = 'c' AND is_written"
		"  UNION ALL SELECT relid, k.tableoid, k.oid"
		"   FROM c JOIN pg_attribute ON attrelid = relid AND attnum > 0 AND is_written"
		"   JOIN pg_constraint k ON k.contypid = atttypid) AS a"
		" JOIN c USING (relid)"
		" JOIN pg_depend d ON d.classid = a.classid AND d.objid = a.objid"
		" LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid"
		" WHERE d.refclassid = 'pg_proc'::regclass OR o.oid IS NOT NULL"
		" GROUP BY n, 1, 2, 3, 4 ORDER BY n, 2, 3, 4";
	Oid			argtypes[] = {OIDARRAYOID, OIDARRAYOID, OIDARRAYOID};
	Datum		values[] = {sd_oid_array(tables), sd_oid_array(written),
	sd_oid_array(check->fired)};
	uint64		n = sd_query_catalog(query, lengthof(argtypes), argtypes, values);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		Oid			oids[4];
		ObjectAddress address = {0};
		bool		is_null;

		for (int j = 0; j < lengthof(oids); j++)
			oids[j] = DatumGetObjectId(SPI_getbinval(rows->vals[i], rows->tupdesc,
													 j + 1, &is_null));
		ObjectAddressSet(address, oids[1], oids[2]);
		check_function(check, oids[0], oids[3], &address);
	}
}

/*
 * A function that something on a table calls.  Both may have been dropped since
 * the snapshot of the query.
 */
static void
check_function(Check *check, Oid table, Oid function, ObjectAddress *of)
{
	Oid			owner = function_owner(function);
	char	   *description = getObjectDescription(of, true);
	Finding    *finding;

	if (!OidIsValid(owner) || description == NULL)
		return;
	if (is_run_by_any_query(of) && !is_member_of_role(owner, GetUserId()))
		check->unsafe_tables = list_append_unique_oid(check->unsafe_tables,
													  table);
	if (is_member_of_role(owner, check->role))
		return;

	finding = sd_add_finding(check, SD_WARNING, "foreign_code",
							 sd_sql_name(table),
							 psprintf("%s calls function %s of role \"%s\" with the rights of role \"%s\"",
									  description, format_procedure(function),
									  GetUserNameFromId(owner, false),
									  GetUserNameFromId(check->role, false)));
	finding->detail = "Whoever owns the function decides what it does.";
	finding->hint = "Give the job a role that owns nothing and has only the privileges that it needs, or the function an owner whom you trust as much.";
}

/* Does the planner evaluate it, whatever is asked of the table? */
static bool
is_run_by_any_query(const ObjectAddress *of)
{
	return of->classId == RelationRelationId ||
		of->classId == StatisticExtRelationId;
}

/* InvalidOid if the function is gone, or runs with its owner's rights anyhow */
static Oid
function_owner(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		if (!((Form_pg_proc) GETSTRUCT(tuple))->prosecdef)
			owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}
