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
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "scheduled_deletion.h"

static Oid	function_owner(Oid function);

/*
 * Code that is not called by a trigger: in the indexes of all these tables,
 * which the planner evaluates; and in defaults and constraints of those of which
 * rows are written.
 */
void
sd_check_attached_code(Check *check, List *tables, List *written)
{
	static const char *const query =
		"SELECT c.relid, a.classid, a.objid, d.refobjid"
		" FROM unnest($1) AS c (relid),"
		" LATERAL (SELECT 'pg_class'::regclass AS classid, indexrelid AS objid"
		"   FROM pg_index WHERE indrelid = relid"
		"  UNION ALL SELECT tableoid, oid FROM pg_statistic_ext WHERE stxrelid = relid"
		"  UNION ALL SELECT tableoid, oid FROM pg_attrdef"
		"   WHERE adrelid = relid AND relid = ANY ($2)"
		"  UNION ALL SELECT tableoid, oid FROM pg_constraint"
		"   WHERE conrelid = relid AND contype = 'c' AND relid = ANY ($2)) AS a"
		" JOIN pg_depend d ON d.classid = a.classid AND d.objid = a.objid"
		"  AND d.refclassid = 'pg_proc'::regclass"
		" GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4";
	Oid			argtypes[] = {OIDARRAYOID, OIDARRAYOID};
	Datum		values[] = {sd_oid_array(tables), sd_oid_array(written)};
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
		sd_check_code(check, oids[0], oids[3], &address);
	}
}

/* A function that something on a table calls */
void
sd_check_code(Check *check, Oid table, Oid function, const ObjectAddress *of)
{
	Oid			owner = function_owner(function);
	Finding    *finding;

	if (is_member_of_role(owner, check->role))
		return;
	finding = sd_add_finding(check, SD_WARNING, "foreign_code",
							 sd_sql_name(table),
							 psprintf("%s calls function %s of role \"%s\" with the rights of role \"%s\"",
									  getObjectDescription(of, false),
									  format_procedure(function),
									  GetUserNameFromId(owner, false),
									  GetUserNameFromId(check->role, false)));
	finding->detail = "Whoever owns the function decides what it does.";
	finding->hint = "Give the job a role that owns nothing and has only the privileges that it needs, or a function's owner whom you trust as much.";
}

static Oid
function_owner(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}
