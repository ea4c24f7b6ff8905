-- What most regress files begin with: the built-in schema, empty, and some
-- functions to fill it and to look at it.  The extension is installed in a
-- schema of its own, which is not in the search_path of the application.

SET client_min_messages = warning;
CREATE SCHEMA erasure;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
CREATE SCHEMA app;
SET search_path = app, erasure;
\getenv srcdir PG_ABS_SRCDIR
\set schema :srcdir '/test/schema.sql'
\i :schema
\set at_once :srcdir '/test/at_once.sql'
\i :at_once

-- The key of the account of that name.
CREATE FUNCTION account(name text) RETURNS uuid
IMMUTABLE LANGUAGE sql AS 'SELECT md5(name)::uuid';

-- An account with rows in every table but those shared with a therapist.
CREATE FUNCTION add_account(name text, due timestamptz DEFAULT '2020-01-01')
RETURNS text LANGUAGE sql AS $$
    INSERT INTO profiles (id, email, deletion_scheduled_at)
    VALUES (account(name), name || '@example.org', due);
    INSERT INTO check_ins (user_id) SELECT account(name) FROM generate_series(1, 3);
    INSERT INTO crisis_plan (user_id) VALUES (account(name));
    INSERT INTO user_consent (user_id, consent_type, version, granted)
    VALUES (account(name), 'terms', 1, true), (account(name), 'privacy', 1, true);
    SELECT name;
$$;

-- What a report says that is the same each time; who failed, by name.
CREATE FUNCTION told(report jsonb) RETURNS TABLE (key text, value jsonb)
LANGUAGE sql AS $$
    SELECT k, report -> k
    FROM unnest('{users_processed,users_deleted,users_failed,users_skipped,stop_reason,total_records_deleted}'::text[]) k
$$;
-- The same in one line, as far as it is not nothing; and those that were left alone.
CREATE FUNCTION outcome(report jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(k || ' ' || (report ->> k), ', ')
    FROM unnest('{users_processed,users_deleted,users_failed,users_skipped,users_held,users_waiting,stop_reason}'::text[]) k
    WHERE report ->> k <> '0'
$$;
CREATE FUNCTION errors(report jsonb)
RETURNS TABLE (account text, sqlstate text, table_name text, constraint_name text, error text)
LANGUAGE sql AS $$
    SELECT split_part(p.email, '@', 1), e.sqlstate, e.table_name, e.constraint_name, e.error
    FROM jsonb_to_recordset(report -> 'errors')
        AS e (user_id uuid, sqlstate text, table_name text, constraint_name text, error text)
    LEFT JOIN profiles p ON p.id = e.user_id
    ORDER BY 1
$$;

-- Whose rows are left, and how many of each.
CREATE VIEW whole_accounts AS
SELECT split_part(p.email, '@', 1) AS account,
    (SELECT count(*) FROM check_ins WHERE user_id = p.id) AS check_ins,
    (SELECT count(*) FROM crisis_plan WHERE user_id = p.id) AS plans,
    (SELECT count(*) FROM clinical_notes WHERE p.id IN (patient_id, therapist_id)) AS notes,
    (SELECT count(*) FROM therapist_patients WHERE p.id IN (patient_id, therapist_id)) AS links,
    (SELECT count(*) FROM user_consent WHERE user_id = p.id) AS consents,
    (SELECT count(*) FROM audit_log WHERE user_id = p.id) AS audit_rows
FROM profiles p
ORDER BY 1;

-- Rows that prove a broken promise; none, if all is well.  Accounts that were
-- there before a test are in accounts_before.
CREATE TABLE accounts_before (LIKE profiles);
CREATE VIEW broken_promises AS
SELECT 'orphan in ' || child.name AS promise, child.id
FROM (SELECT 'check_ins', user_id FROM check_ins
    UNION ALL SELECT 'crisis_plan', user_id FROM crisis_plan
    UNION ALL SELECT 'clinical_notes', patient_id FROM clinical_notes
    UNION ALL SELECT 'clinical_notes', therapist_id FROM clinical_notes
    UNION ALL SELECT 'therapist_patients', patient_id FROM therapist_patients
    UNION ALL SELECT 'therapist_patients', therapist_id FROM therapist_patients
    UNION ALL SELECT 'user_consent', user_id FROM user_consent) AS child (name, id)
WHERE NOT EXISTS (SELECT FROM profiles WHERE id = child.id)
UNION ALL
SELECT 'audit rows of a deleted account: ' || count(a.user_id), b.id
FROM accounts_before b LEFT JOIN audit_log a ON a.user_id = b.id AND a.action = 'hard_deleted'
WHERE NOT EXISTS (SELECT FROM profiles WHERE id = b.id)
GROUP BY b.id HAVING count(a.user_id) <> 1
UNION ALL
SELECT 'audit row of an account that is there', a.user_id
FROM audit_log a JOIN profiles p ON p.id = a.user_id WHERE a.action = 'hard_deleted'
UNION ALL
SELECT 'deleted though not due', b.id
FROM accounts_before b
WHERE NOT EXISTS (SELECT FROM profiles WHERE id = b.id)
    AND (b.deletion_scheduled_at <= clock_timestamp() AND b.deleted_at IS NULL) IS NOT TRUE;

-- Drop it all again.
\set clean_up 'RESET ROLE; SET client_min_messages = warning; DROP SCHEMA app CASCADE; DROP EXTENSION IF EXISTS scheduled_deletion; DROP SCHEMA erasure CASCADE;'
SET client_min_messages = notice;
