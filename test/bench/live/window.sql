-- What a regime does beside the clients, and when it was at it.  A psql script for
-- the database live: -v regime, round, and either call or pause, in seconds.

SELECT clock_timestamp() AS started, pg_current_wal_insert_lsn() AS lsn \gset
\if :{?call}
:call \gset
\else
-- without a query, whose snapshot would keep dead rows from being pruned
\setenv pause :pause
\! sleep "$pause"
\endif
SELECT clock_timestamp() AS ended, pg_current_wal_insert_lsn() - :'lsn' AS wal \gset

SELECT count(*) AS due_left FROM profiles
WHERE deletion_scheduled_at <= :'started' AND deleted_at IS NULL \gset

\connect postgres
INSERT INTO run (regime, round, started, ended, wal, due_left)
VALUES (:'regime', :round, :'started', :'ended', :wal, :due_left);
