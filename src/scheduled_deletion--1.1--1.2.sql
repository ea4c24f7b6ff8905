/* src/scheduled_deletion--1.1--1.2.sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION scheduled_deletion UPDATE TO '1.2'" to load this file. \quit

COMMENT ON COLUMN @extschema@.deletion_run.stop_reason IS
'why it ended: drained (nothing more was due), max_accounts, max_runtime, disabled, cancelled, interrupted (its session died), or failed: see message; before 1.2 also internal_error';

--
-- deletion_failure: also accounts that a run was deleting when it ended
--
ALTER TABLE @extschema@.deletion_failure
    ADD COLUMN uncertain boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT deletion_failure_attempts_check,
    ADD CONSTRAINT deletion_failure_attempts_check
        CHECK (attempts OPERATOR(pg_catalog.>) 0 OR attempts OPERATOR(pg_catalog.=) 0 AND uncertain);

COMMENT ON TABLE @extschema@.deletion_failure IS
'one row for each account that failed when it was last tried, or may have; it goes when the account does, or is not due any more; nothing in it is of the person but the key';
COMMENT ON COLUMN @extschema@.deletion_failure.attempts IS
'how many runs have tried it in a row, and failed; 0: none for certain, see uncertain';
COMMENT ON COLUMN @extschema@.deletion_failure.uncertain IS
'whether it need not be the account''s fault: a run ended while it, or others with it, were being deleted, or it met a lock; such accounts are tried after all others, few at once';

-- In this order, those whose time has come are tried again
CREATE INDEX deletion_failure_next_attempt ON @extschema@.deletion_failure
    (policy, uncertain, next_attempt_at, pg_catalog.hashtextextended(account, 0));

-- and by this, those go that nobody has tried for long
CREATE INDEX deletion_failure_last_attempt_at ON @extschema@.deletion_failure (last_attempt_at);

--
-- deletion_run: what an interrupted run was at
--
ALTER TABLE @extschema@.deletion_run ADD COLUMN next_batch jsonb;
CREATE INDEX deletion_run_next_batch ON @extschema@.deletion_run (policy) WHERE next_batch IS NOT NULL;

COMMENT ON COLUMN @extschema@.deletion_run.next_batch IS
'where the batch under way began, and how many accounts it may have, of a run that has not come to its end; if that was interrupted, until the next run has read it';

--
-- deletion_status: who failed for certain
--
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
    WHERE policy OPERATOR(pg_catalog.=) s.policy AND attempts OPERATOR(pg_catalog.>) 0
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
