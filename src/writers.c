/*-------------------------------------------------------------------------
 *
 * writers.c
 *	  Who writes into this database without the checks of foreign keys, as far as
 *	  the catalog tells.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/writers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "scheduled_deletion.h"

/*
 * Does anybody write here whose session_replication_role is "replica", as the tools do
 * that replicate rows?  There is a role, or the database, that has it set; or there is
 * a replication origin that is not a subscription's.  (What a subscription writes to
 * is known by table; see prove.c.)  A session that sets it by itself cannot be known.
 * Expects a connection to SPI.
 */
bool
sd_has_unchecked_writers(void)
{
	return sd_query_catalog("SELECT FROM pg_db_role_setting s, unnest(s.setconfig) c"
							" WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))"
							" AND lower(c) = 'session_replication_role=replica'"
							" UNION ALL SELECT FROM pg_replication_origin"
							" WHERE roname !~ '^pg_[0-9]+(_[0-9]+_.*)?$' LIMIT 1",
							0, NULL, NULL) > 0;
}
