/*-------------------------------------------------------------------------
 *
 * lag.c
 *	  Whether standbys and logical slots lag behind more than they may.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/lag.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "run.h"

/* Refuse a limit if the caller could not see that it is exceeded */
void
sd_check_lag_limit(LagLimit *limit)
{
	if ((limit->time > 0 || limit->bytes > 0) &&
		!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not see how far standbys lag behind",
						GetUserNameFromId(GetUserId(), false)),
				 errdetail("max_lag and max_lag_bytes need the privileges of role \"pg_read_all_stats\"."),
				 errhint("GRANT pg_read_all_stats TO %s;",
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

/*
 * Who lags behind more than that, in the current memory context; NULL if nobody
 * does. A slot tells no time, and one that nobody reads lags for ever.
 */
const char *
sd_lagging(LagLimit *limit)
{
	Oid			argtypes[] = {FLOAT8OID, INT8OID};
	Datum		values[] = {Float8GetDatum(limit->time / 1e6), Int64GetDatum(limit->bytes)};
	char	   *who;

	if (limit->time == 0 && limit->bytes == 0)
		return NULL;

	/* what streams from a slot is the same twice */
	if (sd_query_catalog("SELECT who || ' is ' || coalesce(round(seconds::numeric, 1) || ' s and ', '') || bytes || ' bytes behind'"
						 " FROM (SELECT 'standby \"' || application_name || '\"',"
						 " extract(epoch FROM replay_lag), pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)"
						 " FROM pg_stat_replication"
						 " UNION ALL SELECT 'slot \"' || slot_name || '\"', NULL,"
						 " pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)"
						 " FROM pg_replication_slots WHERE slot_type = 'logical') l (who, seconds, bytes)"
						 " WHERE ($1 > 0 AND seconds > $1) OR ($2 > 0 AND bytes > $2)"
						 " ORDER BY bytes DESC LIMIT 1",
						 lengthof(argtypes), argtypes, values) == 0)
		return NULL;
	who = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	return who != NULL ? who : "replication";
}
