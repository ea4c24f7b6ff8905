-- deletion_status: is all well? one row for each policy, and what is wrong in it.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
CREATE VIEW status AS
SELECT policy, users_due AS due, oldest_due AS oldest, overdue, users_held AS held, users_failing AS failing, blocked_by,
    last_run IS NOT NULL AS run, last_result AS result, last_success IS NOT NULL AS success, running, scheduled
FROM erasure.deletion_status;
SET timezone = 'UTC';
TABLE status;
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
-- before any run, that of the built-in policy, also if nothing ever runs
SELECT add_account('long ago', '2020-01-01');
TABLE status;
SET scheduled_deletion.enabled = off;
SELECT due, overdue, blocked_by FROM status;
RESET scheduled_deletion.enabled;
DELETE FROM profiles;
SELECT erasure.add_deletion_policy('people', 'profiles', done_column => 'deleted_at', grace => '1 day', overdue_after => '2 days');
-- nothing is due
SELECT add_account('later', now());
TABLE status;
-- somebody is, but not for long
SELECT add_account('due', now() - interval '2 days');
SELECT due, oldest BETWEEN now() - interval '1 day 1 hour' AND now() - interval '23 hours' AS oldest, overdue FROM status;
SELECT oldest_due_age >= '1 day' AND oldest_due_age < '1 day 1 hour' AS age FROM erasure.deletion_status;
SELECT erasure.alter_deletion_policy('people', overdue_after => '1 hour');
SELECT due, overdue FROM status;
-- who is on hold is not overdue
SELECT add_account('held', '2020-01-01'), add_account('held too', '2020-01-02'), add_account('old', '2020-01-03');
SELECT erasure.hold_account(account('held')::text, 'case 1'), erasure.hold_account(account('held too')::text, 'case 1'), erasure.hold_account(account('later')::text, 'case 1');
SELECT due, oldest, overdue, held FROM status;
-- a run
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
TABLE status;
-- who fails is overdue, and since when
SELECT add_account('failing', '2020-01-04');
INSERT INTO invoices VALUES (account('failing'));
SELECT process_scheduled_deletions() -> 'users_failed' AS failed;
TABLE status;
SELECT failing_since BETWEEN now() - interval '1 hour' AND clock_timestamp() AS since FROM erasure.deletion_status;
-- most of them fail for the same
SELECT add_account('another', '2020-01-05'), add_account('one more', '2020-01-05');
CREATE TABLE books (user_id uuid REFERENCES profiles);
INSERT INTO books VALUES (account('another')), (account('one more'));
SELECT process_scheduled_deletions() -> 'users_failed' AS failed;
SELECT failing, blocked_by FROM status;
-- what stops all of them
SELECT erasure.alter_deletion_policy('people', brake_accounts => 2);
SELECT count(add_account('many' || n)) FROM generate_series(1, 3) n;
SELECT due, blocked_by FROM status;
SELECT erasure.alter_deletion_policy('people', brake_accounts => 0);
ALTER TABLE audit_log RENAME TO log;
ALTER TABLE log DROP COLUMN details;
SELECT due, oldest, overdue, held, blocked_by FROM status;
SELECT erasure.alter_deletion_policy('people', enabled => false);
SELECT due, overdue, blocked_by FROM status;
SELECT erasure.alter_deletion_policy('people', enabled => true);  -- fails
ALTER TABLE profiles RENAME COLUMN deletion_scheduled_at TO due;
SELECT due, oldest, overdue, held, blocked_by FROM status;
UPDATE erasure.deletion_policy SET enabled = true;
SELECT due, oldest, overdue, held, blocked_by FROM status;
ALTER TABLE profiles RENAME COLUMN due TO deletion_scheduled_at;
ALTER TABLE log ADD COLUMN details jsonb;
SELECT due, blocked_by FROM status;

-- when the next run is to be expected: by the rhythm of the last ones
INSERT INTO erasure.deletion_run (run_id, policy, form, started_by, arguments, pid, started_at, updated_at, completed_at, users_deleted,
    users_failed, users_skipped, users_held, users_waiting, records_deleted, stop_reason)
SELECT -n, 'people', 'procedure', 'nobody', '{}', 0, t, t, t + interval '1 min', 0, 0, 0, 0, 0, 0, 'drained'
FROM (VALUES (4, '2998-12-31 02:00'::timestamptz), (3, '2999-01-01 02:00'), (2, '2999-01-02 02:00'), (5, '2999-01-02 14:00'), (1, '2999-01-03 02:00'), (0, '2999-01-04 02:00')) r (n, t);
SELECT last_run, last_success, next_run FROM erasure.deletion_status;

-- one policy's dates do not hide the status of the others
CREATE TABLE members (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE TABLE members_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
SELECT erasure.add_deletion_policy('members', 'members', audit_table => 'members_log');
INSERT INTO members VALUES (1, '-infinity');
SELECT policy, users_due, oldest_due, oldest_due_age, overdue FROM erasure.deletion_status WHERE policy = 'members';
UPDATE members SET deletion_scheduled_at = now();
SELECT erasure.alter_deletion_policy('members', overdue_after => '300000 years');
SELECT policy, users_due, overdue FROM erasure.deletion_status ORDER BY 1;
SELECT erasure.remove_deletion_policy('members');

-- who looks needs no more than what is looked at
CREATE ROLE regress_sd_watcher;
GRANT USAGE ON SCHEMA app, erasure TO regress_sd_watcher;
SET ROLE regress_sd_watcher;
SELECT due FROM app.status;  -- fails
TABLE erasure.deletion_status;  -- fails
RESET ROLE;
GRANT SELECT ON erasure.deletion_status TO regress_sd_watcher;
SET ROLE regress_sd_watcher;
TABLE erasure.deletion_status;  -- fails
RESET ROLE;
GRANT EXECUTE ON FUNCTION erasure.deletion_policy_status TO regress_sd_watcher;
SET ROLE regress_sd_watcher;
TABLE erasure.deletion_status;  -- fails
RESET ROLE;
GRANT SELECT ON profiles TO regress_sd_watcher;
SET ROLE regress_sd_watcher;
SELECT policy, users_due, users_held, users_failing FROM erasure.deletion_status;
RESET ROLE;
-- row-level security would hide some of it
ALTER TABLE profiles ENABLE ROW LEVEL SECURITY;
SET ROLE regress_sd_watcher;
SELECT policy, users_due, users_held, users_failing FROM erasure.deletion_status;  -- fails
RESET ROLE;
ALTER TABLE profiles DISABLE ROW LEVEL SECURITY;
-- it keeps no lock
BEGIN;
SELECT due FROM status;
SELECT relation::regclass FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN ('profiles'::regclass, 'check_ins'::regclass);
COMMIT;
-- nor is a table named cron.job believed to be pg_cron's
CREATE SCHEMA cron CREATE TABLE job (jobid int, active boolean, database name, command text);
CREATE FUNCTION cron.trap(boolean) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
INSERT INTO cron.job VALUES (1, true, current_database(), 'SELECT process_scheduled_deletions()');
SELECT scheduled FROM status;
DROP SCHEMA cron CASCADE;
REVOKE ALL ON SCHEMA app, erasure FROM regress_sd_watcher;
:clean_up
DROP ROLE regress_sd_watcher;
