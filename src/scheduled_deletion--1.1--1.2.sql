/* src/scheduled_deletion--1.1--1.2.sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION scheduled_deletion UPDATE TO '1.2'" to load this file. \quit

COMMENT ON COLUMN @extschema@.deletion_run.stop_reason IS
'why it ended: drained (nothing more was due), max_accounts, max_runtime, disabled, cancelled, interrupted (its session died), or failed: see message; before 1.2 also internal_error';

-- In this order, those whose time has come are tried again
CREATE INDEX deletion_failure_next_attempt ON @extschema@.deletion_failure
    (policy, next_attempt_at, pg_catalog.hashtextextended(account, 0));

-- and by this, those go that nobody has tried for long
CREATE INDEX deletion_failure_last_attempt_at ON @extschema@.deletion_failure (last_attempt_at);
