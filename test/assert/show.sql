-- What plan, check and a run say of a database, and what it leaves: all that does not tell
-- the time.  The run is one of the procedure, unless somebody is on hold.

\pset null NULL
\pset format unaligned
SET debug_discard_caches = :discard;
SET scheduled_deletion.progress_interval = 0;
SELECT * FROM deletion_plan();
SELECT * FROM check_deletion_policy();
SELECT EXISTS (SELECT FROM deletion_hold) AS held \gset
\if :held
    SELECT process_scheduled_deletions() \g /dev/null
\else
    CALL run_scheduled_deletions(pause => '0 s') \g /dev/null
\endif
SET debug_discard_caches = 0;

SELECT jsonb_pretty(report - '{started_at,completed_at,duration_seconds}'::text[]) FROM deletion_run;
SELECT account, sqlstate, constraint_name, attempts FROM deletion_failure;
SELECT format('SELECT action, details FROM %s ORDER BY 1, details::text', audit_table) FROM deletion_policy \gexec
SELECT format('SELECT %L AS "table", count(*), sum(hashtextextended(t::text, 0)) FROM ONLY %1$s t', c.oid::regclass)
FROM pg_class c, deletion_policy p
WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)' AND c.oid <> audit_table
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND deptype = 'e')
ORDER BY c.oid::regclass::text \gexec
