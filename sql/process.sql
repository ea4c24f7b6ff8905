-- Due accounts go with all their rows, and nothing else does; the report and the
-- audit rows say what was there.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
\set generate :srcdir '/test/generate.sql'
\set due 12
\set ECHO none
\i :generate
\set ECHO all
INSERT INTO accounts_before SELECT * FROM profiles;
SELECT count(*) FILTER (WHERE role = 'therapist') > 1 AS therapists, count(*) AS due
FROM profiles WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL;

-- what has to be counted: each row once, for the first column that leads to it
CREATE TABLE due AS
SELECT id FROM profiles WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL;
CREATE TABLE counted AS
SELECT name, id, count(*)::int AS n FROM (
    SELECT 'check_ins' AS name, user_id AS id FROM check_ins
    UNION ALL SELECT 'crisis_plan', user_id FROM crisis_plan
    UNION ALL SELECT 'clinical_notes', CASE WHEN patient_id IN (SELECT id FROM due) THEN patient_id ELSE therapist_id END
        FROM clinical_notes
    UNION ALL SELECT 'therapist_patients', CASE WHEN patient_id IN (SELECT id FROM due) THEN patient_id ELSE therapist_id END
        FROM therapist_patients
    UNION ALL SELECT 'user_consent', user_id FROM user_consent
    UNION ALL SELECT 'profiles', id FROM profiles) AS r
WHERE id IN (SELECT id FROM due) GROUP BY name, id;
CREATE TABLE left_over AS
SELECT (SELECT count(*) FROM check_ins WHERE user_id NOT IN (TABLE due)) AS check_ins,
    (SELECT count(*) FROM clinical_notes WHERE patient_id NOT IN (TABLE due) AND therapist_id NOT IN (TABLE due)) AS notes,
    (SELECT count(*) FROM therapist_patients WHERE patient_id NOT IN (TABLE due) AND therapist_id NOT IN (TABLE due)) AS links,
    (SELECT count(*) FROM profiles WHERE id NOT IN (TABLE due)) AS profiles;

-- rows that both columns lead to, and rows that two due accounts share, are there
SELECT count(*) FILTER (WHERE patient_id = therapist_id) > 0 AS both_columns,
    count(*) FILTER (WHERE patient_id <> therapist_id) > 0 AS two_accounts
FROM clinical_notes WHERE patient_id IN (TABLE due) AND therapist_id IN (TABLE due);

CREATE TABLE run AS SELECT process_scheduled_deletions() AS report;

SELECT key FROM run, jsonb_object_keys(report) AS key ORDER BY key;
SELECT told.* FROM run, told(report) WHERE key <> 'total_records_deleted';
SELECT report ->> 'policy' AS policy, report ->> 'dry_run' AS dry_run, report -> 'errors' AS errors,
    report -> 'errors_truncated' AS errors_truncated,
    (report ->> 'started_at')::timestamptz <= (report ->> 'completed_at')::timestamptz AS times,
    report ->> 'started_at' LIKE '%+00:00' AS in_utc,
    (report ->> 'duration_seconds')::numeric >= 0 AS duration
FROM run;

-- totals equal what was there; no row says otherwise
SELECT name, c.n, (report #>> ARRAY['total_records_deleted', name])::int AS reported
FROM (SELECT name, sum(n) AS n FROM counted GROUP BY name) AS c, run
WHERE c.n IS DISTINCT FROM (report #>> ARRAY['total_records_deleted', name])::int;
-- and so do the details of each audit row
SELECT count(*) AS audit_rows FROM audit_log WHERE action = 'hard_deleted';
SELECT c.*, a.details
FROM counted c FULL JOIN (
    SELECT user_id, key, value::int, details FROM audit_log, jsonb_each_text(details -> 'deleted_records')
    WHERE action = 'hard_deleted') a ON a.user_id = c.id AND a.key = c.name
WHERE c.n IS DISTINCT FROM a.value;
SELECT DISTINCT action, performed_by, a.details ->> 'policy' AS policy,
    a.details -> 'run_id' = report -> 'run_id' AS same_run,
    (a.details ->> 'deletion_scheduled_at')::timestamptz = b.deletion_scheduled_at AS due,
    a.created_at BETWEEN (report ->> 'started_at')::timestamptz AND (report ->> 'completed_at')::timestamptz AS created,
    (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(details) k) AS keys
FROM audit_log a JOIN accounts_before b ON b.id = a.user_id, run WHERE action = 'hard_deleted';

-- nothing of the person stays
SELECT count(*) FROM run WHERE report::text LIKE '%@%';
SELECT count(*) FROM audit_log WHERE details::text LIKE '%@%';

-- nothing else went
SELECT check_ins = (SELECT count(*) FROM check_ins) AND notes = (SELECT count(*) FROM clinical_notes)
    AND links = (SELECT count(*) FROM therapist_patients) AND profiles = (SELECT count(*) FROM profiles) AS the_rest_is_there
FROM left_over;
SELECT count(*) FILTER (WHERE deletion_scheduled_at IS NULL) AS not_asked,
    count(*) FILTER (WHERE deletion_scheduled_at > now()) AS pending,
    count(*) FILTER (WHERE deleted_at IS NOT NULL) AS done
FROM profiles;
SELECT * FROM broken_promises;

-- nothing due: a report of zeros, no error
SELECT * FROM told(process_scheduled_deletions());

-- one moment for the whole run, and that is the clock's, not the transaction's
BEGIN;
SELECT pg_sleep(0.01);
SELECT add_account('just now', clock_timestamp());
SELECT add_account('in a moment', clock_timestamp() + interval '1 hour');
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
ROLLBACK;

-- a row that the first column leads to is counted for that account
TRUNCATE profiles CASCADE;
SELECT add_account('patient'), add_account('therapist'), add_account('living', NULL);
INSERT INTO clinical_notes (patient_id, therapist_id, note_text)
VALUES (account('patient'), account('therapist'), 'both due'), (account('living'), account('therapist'), 'of the living'),
    (account('therapist'), account('therapist'), 'own');
SELECT process_scheduled_deletions() #> '{total_records_deleted,clinical_notes}' AS notes;
SELECT details #> '{deleted_records,clinical_notes}' AS notes FROM audit_log
WHERE user_id IN (account('patient'), account('therapist')) ORDER BY 1;
SELECT * FROM whole_accounts;
:clean_up
