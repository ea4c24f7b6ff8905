-- What demo.sh shows.  A psql script, for an empty database.

\set accounts 300
\set due 30
\ir schema.sql
\ir generate.sql

-- A table that the policy knows nothing of, and that holds on to its account.
CREATE TABLE invoices (
    id      integer PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES profiles (id),
    amount  numeric(10, 2) NOT NULL
);
INSERT INTO invoices
SELECT 1, id, 49.90 FROM profiles
WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL
ORDER BY deletion_scheduled_at OFFSET 2 LIMIT 1;

CREATE VIEW row_counts AS
SELECT (SELECT count(*) FROM profiles)           AS profiles,
       (SELECT count(*) FROM check_ins)          AS check_ins,
       (SELECT count(*) FROM crisis_plan)        AS crisis_plan,
       (SELECT count(*) FROM clinical_notes)     AS clinical_notes,
       (SELECT count(*) FROM therapist_patients) AS therapist_patients,
       (SELECT count(*) FROM user_consent)       AS user_consent,
       (SELECT count(*) FROM audit_log)          AS audit_log;

CREATE EXTENSION scheduled_deletion;

\pset footer off
\pset pager off
\set ECHO queries

\echo
\echo '=== 1. What is due ==='
\echo 'These people asked for their account to be deleted, and the days they had to change'
\echo 'their mind are over. One of them has an invoice, which is not to be deleted with it.'
\echo

SELECT count(*) AS due_accounts, min(deletion_scheduled_at)::timestamptz(0) AS oldest
FROM profiles WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL;

SELECT id, role, deletion_scheduled_at::timestamptz(0)
FROM profiles WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL
ORDER BY deletion_scheduled_at LIMIT 3;

SELECT * FROM row_counts;

\echo
\echo '=== 2. A dry run ==='
\echo 'It says what the job would do, and leaves everything as it is.'
\echo

\pset format unaligned
\pset tuples_only on
SELECT jsonb_pretty(process_scheduled_deletions(dry_run => true));
\pset tuples_only off
\pset format aligned
\echo

SELECT * FROM row_counts;

\echo
\echo '=== 3. The job ==='
\echo 'One call deletes every due account with all its rows, and answers with what it did.'
\echo

SELECT jsonb_pretty(process_scheduled_deletions()) AS report \gset
\echo :report
\echo

SELECT * FROM row_counts;

\echo
\echo '=== 4. Who is still there ==='
\echo 'Those who changed their mind, and those whose days are not over.'
\echo

SELECT count(*) AS changed_their_mind, count(profiles.id) AS still_there
FROM audit_log LEFT JOIN profiles ON profiles.id = user_id WHERE action = 'delete_cancelled';

SELECT count(*) AS not_yet_due FROM profiles WHERE deletion_scheduled_at > now();

\echo
\echo '=== 5. What is remembered ==='
\echo 'One row in audit_log for each deleted account: which rows went with it, and no word of theirs.'
\echo

\x on
SELECT user_id, action, performed_by, created_at, jsonb_pretty(details) AS details
FROM audit_log WHERE action = 'hard_deleted' ORDER BY user_id LIMIT 1;

\echo
\echo '=== 6. The account that could not be deleted ==='
\echo 'The report says why. Nothing of its own is gone, and the others did not have to wait for it.'
\echo

-- not echoed: psql would show the whole report in the place of :'report'
\set ECHO none
SELECT e.*, (SELECT count(*) FROM check_ins WHERE check_ins.user_id = e.user_id) AS check_ins_left
FROM jsonb_to_recordset(:'report'::jsonb -> 'errors')
    AS e (user_id uuid, error text, sqlstate text, table_name text, constraint_name text);
\set ECHO queries
\x off

\echo
\echo '=== 7. Every night at two ==='
\echo 'pg_cron makes the call from now on.'
\echo

CREATE EXTENSION pg_cron;
SELECT cron.schedule('hard-delete-scheduled-accounts', '0 2 * * *', 'SELECT process_scheduled_deletions()');
SELECT jobid, schedule, command, active FROM cron.job;
