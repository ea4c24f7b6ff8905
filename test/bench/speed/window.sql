-- What a contender does, and when it was at it.  A psql script for the database speed:
-- -v regime, contender, round, memory, and which session of how many this is.  That some
-- fail is theirs; check.sql asks what was done.

\set file test/bench/speed/contenders/ :contender .sql
\set ON_ERROR_STOP off
SELECT clock_timestamp() AS started, pg_current_wal_insert_lsn() AS lsn \gset
\o /dev/null
\i :file
\o
SELECT clock_timestamp() AS ended, pg_current_wal_insert_lsn() AS ended_lsn \gset

\set ON_ERROR_STOP on
\connect postgres
INSERT INTO session (regime, contender, round, started, ended, lsn, ended_lsn)
VALUES (:regime, :'contender', :round, :'started', :'ended', :'lsn', :'ended_lsn');
