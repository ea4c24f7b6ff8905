/* src/scheduled_deletion--1.0--1.1.sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION scheduled_deletion UPDATE TO '1.1'" to load this file. \quit

---
-- deletion_status
--
-- Since when a run is at work, which an alert asks for
---
CREATE OR REPLACE VIEW @extschema@.deletion_status AS
SELECT s.policy, coalesce(p.enabled, true) AS enabled, s.users_due, s.oldest_due,
    pg_catalog.date_trunc('second', age.age) AS oldest_due_age,
    CASE WHEN s.users_due IS NULL THEN NULL
        WHEN s.oldest_due IS NULL THEN false
        WHEN age.age IS NULL THEN true
        ELSE age.age OPERATOR(pg_catalog.>) coalesce(p.overdue_after, '1 day')
    END AS overdue,
    s.users_held, f.users_failing, f.failing_since,
    coalesce(CASE WHEN NOT p.enabled THEN 'policy is disabled' END, s.blocked_by, f.most) AS blocked_by,
    run.last_run, run.last_result, run.last_success, g.running, run.next_run, s.scheduled,
    g.running_since
FROM @extschema@.deletion_policy_status() s
LEFT JOIN @extschema@.deletion_policy p ON p.policy OPERATOR(pg_catalog.=) s.policy
CROSS JOIN LATERAL (
    SELECT CASE WHEN pg_catalog.isfinite(s.oldest_due) THEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) s.oldest_due END AS age
) age
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS users_failing, pg_catalog.min(first_attempt_at) AS failing_since,
        pg_catalog.mode() WITHIN GROUP (ORDER BY message) AS most
    FROM @extschema@.deletion_failure
    WHERE policy OPERATOR(pg_catalog.=) s.policy
) f
CROSS JOIN LATERAL (
    SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN coalesce(pg_catalog.bool_or(running), false) END AS running,
        pg_catalog.min(started_at) FILTER (WHERE running) AS running_since
    FROM @extschema@.deletion_progress
    WHERE policy OPERATOR(pg_catalog.=) s.policy
) g
CROSS JOIN LATERAL (
    SELECT pg_catalog.max(started_at) AS last_run,
        (SELECT pg_catalog.concat_ws(': ', stop_reason, message) FROM @extschema@.deletion_run
            WHERE policy OPERATOR(pg_catalog.=) s.policy AND completed_at IS NOT NULL
            ORDER BY started_at DESC LIMIT 1) AS last_result,
        (SELECT pg_catalog.max(completed_at) FROM @extschema@.deletion_run
            WHERE policy OPERATOR(pg_catalog.=) s.policy AND stop_reason OPERATOR(pg_catalog.=) 'drained' AND users_skipped OPERATOR(pg_catalog.=) 0::bigint) AS last_success,
        pg_catalog.max(started_at) OPERATOR(pg_catalog.+) (pg_catalog.percentile_disc(0.5) WITHIN GROUP (ORDER BY gap)) AS next_run
    FROM (
        SELECT started_at, started_at OPERATOR(pg_catalog.-) pg_catalog.lag(started_at) OVER (ORDER BY started_at) AS gap
        FROM (
            SELECT started_at FROM @extschema@.deletion_run
            WHERE policy OPERATOR(pg_catalog.=) s.policy
            ORDER BY started_at DESC LIMIT 8
        ) last_runs
    ) gaps
) run;

COMMENT ON COLUMN @extschema@.deletion_status.running_since IS
'when the procedure that is at work on it began; null: none is, or a standby cannot know';
