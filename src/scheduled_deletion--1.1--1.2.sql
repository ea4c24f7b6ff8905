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
    ALTER COLUMN account_table DROP NOT NULL;

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
    held_at, held_until, refused_at, remembered_account_table_type)
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
