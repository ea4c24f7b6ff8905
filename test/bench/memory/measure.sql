-- How much memory the session has had at most that did what a contender does.  A psql
-- script for the database memory: -v contender, due.

\set file test/bench/speed/contenders/ :contender .sql
\o /dev/null
\i :file
\o
SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s*(\d+) kB')::integer / 1000 AS megabytes \gset
SELECT (SELECT count(*) FROM profiles) = 0
    AND (SELECT count(*) FROM audit_log WHERE action = 'hard_deleted') = :due AS done \gset
\if :done
\else
    DO $$BEGIN RAISE 'the accounts are not all deleted, each with its audit row'; END$$;
\endif

\connect postgres
INSERT INTO memory VALUES (:'contender', :due, :megabytes);
