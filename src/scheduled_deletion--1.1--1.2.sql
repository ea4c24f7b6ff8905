/* src/scheduled_deletion--1.1--1.2.sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION scheduled_deletion UPDATE TO '1.2'" to load this file. \quit

--
-- Which table is meant.  Tables of the user are regclass, which is an OID and follows a
-- rename.  Beside each stand its name, and the OID of its row type, which it keeps when it
-- is renamed or moved to another schema.  Where OIDs were used again, or restored from a
-- dump of an older version, another table can have the OID: it has neither that type nor
-- that name, and is never taken for the one that was meant, which is lost.  Runs, and calls
-- that register something, write the name and the type as they are then: so the name is
-- not only that of the registration any more, as the first script says.
--
-- A dump has the name instead of each OID, and - (of a hold: null) if the table is lost.
--
ALTER TABLE @extschema@.deletion_policy
    ADD COLUMN account_table_type oid,
    ADD COLUMN audit_table_type oid;
ALTER TABLE @extschema@.deletion_step
    ADD COLUMN step_table_type oid,
    ADD COLUMN via_type oid;

-- accounts of several lost tables may be on hold, alike but for the table
ALTER TABLE @extschema@.deletion_hold
    ADD COLUMN account_table_type oid,
    ADD COLUMN key_types text,
    ALTER COLUMN account_table DROP NOT NULL;

-- where all holds on a table are by the same key, and its types of now, it is asked who is
-- on hold, and not all are read
CREATE INDEX deletion_hold_keys ON @extschema@.deletion_hold
    (account_table, key_columns, key_types);

-- the hash first: it is asked of many accounts at once, and arrays take long to compare
DROP INDEX @extschema@.deletion_hold_account;
CREATE UNIQUE INDEX deletion_hold_account ON @extschema@.deletion_hold
    (pg_catalog.hashtextextended(account, 0), account_table, key_columns, reason);

COMMENT ON COLUMN @extschema@.deletion_hold.key_types IS
'types of these columns when the hold was placed; null: not known, so that each run reads all holds on the table';

-- of a text that these types would write alike today, it does not matter when it was written
UPDATE @extschema@.deletion_hold h SET key_types = pg_catalog.format_type(a.atttypid, -1)
FROM pg_catalog.pg_attribute a
WHERE a.attrelid OPERATOR(pg_catalog.=) h.account_table::pg_catalog.oid
    AND pg_catalog.cardinality(h.key_columns) OPERATOR(pg_catalog.=) 1
    AND a.attname OPERATOR(pg_catalog.=) h.key_columns[1] AND NOT a.attisdropped
    AND (a.atttypid OPERATOR(pg_catalog.=) 'text'::pg_catalog.regtype::pg_catalog.oid
        OR a.atttypid::pg_catalog.regtype::pg_catalog.text OPERATOR(pg_catalog.=) ANY ('{smallint,integer,bigint}'::pg_catalog.text[])
            AND h.account OPERATOR(pg_catalog.~) '^(0|-?[1-9][0-9]*)$'
        OR a.atttypid OPERATOR(pg_catalog.=) 'uuid'::pg_catalog.regtype::pg_catalog.oid
            AND h.account OPERATOR(pg_catalog.~) '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$');

-- finds the tables that holds are on, however many holds there are
CREATE INDEX deletion_hold_table ON @extschema@.deletion_hold
    (account_table_name, (coalesce(account_table::pg_catalog.oid, 0::pg_catalog.oid)));

COMMENT ON COLUMN @extschema@.deletion_policy.account_table IS
'table with one row for each account; -: it was dropped before a restore';
COMMENT ON COLUMN @extschema@.deletion_policy.account_table_name IS
'its name when it was registered, or a run followed the policy last';
COMMENT ON COLUMN @extschema@.deletion_policy.account_table_type IS
'OID of its row type, by which it is known under another name; null: not known, and only the table of that name is meant';
COMMENT ON COLUMN @extschema@.deletion_policy.audit_table IS
'table that gets one row for each deleted account; -: it was dropped before a restore';
COMMENT ON COLUMN @extschema@.deletion_policy.audit_table_name IS
'its name when it was registered, or a run followed the policy last';
COMMENT ON COLUMN @extschema@.deletion_policy.audit_table_type IS
'OID of its row type, as account_table_type';
COMMENT ON COLUMN @extschema@.deletion_step.step_table IS
'table that the step is about; -: it was dropped before a restore';
COMMENT ON COLUMN @extschema@.deletion_step.step_table_name IS
'its name when it was registered, or a run followed the policy last';
COMMENT ON COLUMN @extschema@.deletion_step.step_table_type IS
'OID of its row type, as account_table_type of deletion_policy';
COMMENT ON COLUMN @extschema@.deletion_step.via_name IS
'its name when it was registered, or a run followed the policy last';
COMMENT ON COLUMN @extschema@.deletion_step.via_type IS
'OID of its row type, as account_table_type of deletion_policy';
COMMENT ON COLUMN @extschema@.deletion_hold.account_table IS
'table with one row for each account; null: it was dropped before a restore';
COMMENT ON COLUMN @extschema@.deletion_hold.account_table_name IS
'its name when the hold was placed, or a run followed a policy on it last';
COMMENT ON COLUMN @extschema@.deletion_hold.account_table_type IS
'OID of its row type, as account_table_type of deletion_policy';

-- of a table that was renamed in an older version nobody can tell whether it is the same
UPDATE @extschema@.deletion_policy t SET account_table_type = c.reltype
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.=) t.account_table::pg_catalog.oid
    AND pg_catalog.replace(pg_catalog.concat(n.nspname, '.', c.relname), '"', '')
        OPERATOR(pg_catalog.=) pg_catalog.replace(t.account_table_name, '"', '');
UPDATE @extschema@.deletion_policy t SET audit_table_type = c.reltype
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.=) t.audit_table::pg_catalog.oid
    AND pg_catalog.replace(pg_catalog.concat(n.nspname, '.', c.relname), '"', '')
        OPERATOR(pg_catalog.=) pg_catalog.replace(t.audit_table_name, '"', '');
UPDATE @extschema@.deletion_step t SET step_table_type = c.reltype
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.=) t.step_table::pg_catalog.oid
    AND pg_catalog.replace(pg_catalog.concat(n.nspname, '.', c.relname), '"', '')
        OPERATOR(pg_catalog.=) pg_catalog.replace(t.step_table_name, '"', '');
UPDATE @extschema@.deletion_step t SET via_type = c.reltype
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.=) t.via::pg_catalog.oid
    AND pg_catalog.replace(pg_catalog.concat(n.nspname, '.', c.relname), '"', '')
        OPERATOR(pg_catalog.=) pg_catalog.replace(t.via_name, '"', '');
UPDATE @extschema@.deletion_hold t SET account_table_type = c.reltype
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.=) t.account_table::pg_catalog.oid
    AND pg_catalog.replace(pg_catalog.concat(n.nspname, '.', c.relname), '"', '')
        OPERATOR(pg_catalog.=) pg_catalog.replace(t.account_table_name, '"', '');

DO $$
DECLARE
    what text;
    remembered text;
    present text;
BEGIN
    FOR what, remembered, present IN
        SELECT t.what, t.name, t.number FROM (
            SELECT pg_catalog.format('account table of deletion policy "%s"', policy),
                account_table_name, account_table, account_table_type FROM @extschema@.deletion_policy
            UNION ALL SELECT pg_catalog.format('audit table of deletion policy "%s"', policy),
                audit_table_name, audit_table, audit_table_type FROM @extschema@.deletion_policy
            UNION ALL SELECT pg_catalog.format('step table of deletion policy "%s"', policy),
                step_table_name, step_table, step_table_type FROM @extschema@.deletion_step
            UNION ALL SELECT pg_catalog.format('table in via of deletion policy "%s"', policy),
                via_name, via, via_type FROM @extschema@.deletion_step
            UNION SELECT 'table with accounts on hold',
                account_table_name, account_table, account_table_type FROM @extschema@.deletion_hold
        ) t (what, name, number, type)
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.number::pg_catalog.oid
        WHERE t.type IS NULL
    LOOP
        RAISE WARNING '% was registered as %, and its OID is that of % now', what, remembered, present
            USING DETAIL = 'Whether that is the same table under another name, or another table, is not known.',
                HINT = 'Until it is told, runs refuse it, and say how.';
    END LOOP;
END
$$;

--
-- What is dumped of them.  pg_dump writes the columns of the table between SELECT and FROM,
-- and this after it: so their names are given to what is to be dumped in their place.
--
SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_policy', $$
d (policy, remembered_account_table, remembered_account_table_name, key_columns, due_column, grace,
    done_column, remembered_audit_table, remembered_audit_table_name, audit_columns,
    audit_details, blocking_keys, time_zone, overdue_after, enabled, brake_accounts,
    brake_share, remembered_account_table_type, remembered_audit_table_type)
LEFT JOIN LATERAL (
    SELECT c.oid::pg_catalog.regclass AS number, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.oid OPERATOR(pg_catalog.=) d.remembered_account_table::pg_catalog.oid
        AND (c.reltype OPERATOR(pg_catalog.=) d.remembered_account_table_type
            OR pg_catalog.replace(pg_catalog.concat(n.nspname, '.', c.relname), '"', '')
                OPERATOR(pg_catalog.=) pg_catalog.replace(d.remembered_account_table_name, '"', ''))
) a ON true
LEFT JOIN LATERAL (
    SELECT c.oid::pg_catalog.regclass AS number, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.oid OPERATOR(pg_catalog.=) d.remembered_audit_table::pg_catalog.oid
        AND (c.reltype OPERATOR(pg_catalog.=) d.remembered_audit_table_type
            OR pg_catalog.replace(pg_catalog.concat(n.nspname, '.', c.relname), '"', '')
                OPERATOR(pg_catalog.=) pg_catalog.replace(d.remembered_audit_table_name, '"', ''))
) b ON true
CROSS JOIN LATERAL (
    SELECT coalesce(a.number, 0::pg_catalog.oid::pg_catalog.regclass) AS account_table,
        coalesce(a.name, d.remembered_account_table_name) AS account_table_name,
        NULL::pg_catalog.oid AS account_table_type,
        coalesce(b.number, 0::pg_catalog.oid::pg_catalog.regclass) AS audit_table,
        coalesce(b.name, d.remembered_audit_table_name) AS audit_table_name,
        NULL::pg_catalog.oid AS audit_table_type
) dumped
$$);

SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_step', $$
d (policy, "position", remembered_step_table, remembered_step_table_name, columns, action, reason,
    after_account, remembered_via, remembered_via_name, via_columns, match,
    remembered_step_table_type, remembered_via_type)
LEFT JOIN LATERAL (
    SELECT c.oid::pg_catalog.regclass AS number, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.oid OPERATOR(pg_catalog.=) d.remembered_step_table::pg_catalog.oid
        AND (c.reltype OPERATOR(pg_catalog.=) d.remembered_step_table_type
            OR pg_catalog.replace(pg_catalog.concat(n.nspname, '.', c.relname), '"', '')
                OPERATOR(pg_catalog.=) pg_catalog.replace(d.remembered_step_table_name, '"', ''))
) a ON true
LEFT JOIN LATERAL (
    SELECT c.oid::pg_catalog.regclass AS number, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.oid OPERATOR(pg_catalog.=) d.remembered_via::pg_catalog.oid
        AND (c.reltype OPERATOR(pg_catalog.=) d.remembered_via_type
            OR pg_catalog.replace(pg_catalog.concat(n.nspname, '.', c.relname), '"', '')
                OPERATOR(pg_catalog.=) pg_catalog.replace(d.remembered_via_name, '"', ''))
) b ON true
CROSS JOIN LATERAL (
    SELECT coalesce(a.number, 0::pg_catalog.oid::pg_catalog.regclass) AS step_table,
        coalesce(a.name, d.remembered_step_table_name) AS step_table_name,
        NULL::pg_catalog.oid AS step_table_type,
        CASE WHEN d.remembered_via_name IS NOT NULL THEN coalesce(b.number, 0::pg_catalog.oid::pg_catalog.regclass) END AS via,
        coalesce(b.name, d.remembered_via_name) AS via_name,
        NULL::pg_catalog.oid AS via_type
) dumped
$$);

SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_hold', $$
d (remembered_account_table, remembered_account_table_name, key_columns, account, reason, held_by,
    held_at, held_until, refused_at, remembered_account_table_type, key_types)
LEFT JOIN LATERAL (
    SELECT c.oid::pg_catalog.regclass AS number, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.oid OPERATOR(pg_catalog.=) d.remembered_account_table::pg_catalog.oid
        AND (c.reltype OPERATOR(pg_catalog.=) d.remembered_account_table_type
            OR pg_catalog.replace(pg_catalog.concat(n.nspname, '.', c.relname), '"', '')
                OPERATOR(pg_catalog.=) pg_catalog.replace(d.remembered_account_table_name, '"', ''))
) a ON true
CROSS JOIN LATERAL (
    SELECT a.number AS account_table,
        coalesce(a.name, d.remembered_account_table_name) AS account_table_name,
        NULL::pg_catalog.oid AS account_table_type
) dumped
$$);

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
