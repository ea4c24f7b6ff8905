-- What plan, check and runs say of a database, and what they leave of it: all that does
-- not tell the time.

\pset null NULL
\pset format unaligned
SET debug_discard_caches = :discard;
SET scheduled_deletion.progress_interval = 0;
SELECT * FROM deletion_plan();
SELECT * FROM check_deletion_policy();
BEGIN;
SELECT jsonb_pretty(process_scheduled_deletions() - '{started_at,completed_at,duration_seconds}'::text[]);
ROLLBACK;
SELECT release_account(account) FROM deletion_hold;
CALL run_scheduled_deletions(pause => '0 s') \gset
SET debug_discard_caches = 0;

SELECT jsonb_pretty(report - '{started_at,completed_at,duration_seconds}'::text[]) FROM deletion_run;
SELECT account, sqlstate, constraint_name, attempts FROM deletion_failure;
SELECT format('SELECT action, details FROM %s ORDER BY 1, details::text', audit_table) FROM deletion_policy \gexec
SELECT format('SELECT %L AS "table", count(*), sum(hashtextextended(t::text, 0)) FROM ONLY %1$s t', c.oid::regclass)
FROM pg_class c, deletion_policy p
WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)' AND c.oid <> audit_table
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND deptype = 'e')
ORDER BY c.oid::regclass::text \gexec
