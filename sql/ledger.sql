-- The ledger: a row for each policy of each run that was not dry, of either form, as it
-- went and as it ended; what is old goes by itself, audit rows never; nothing in it is
-- of a person but the key.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
CREATE VIEW ledger AS
SELECT run_id - min(run_id) OVER () + 1 AS run, policy, form, arguments, users_due AS due, users_deleted AS deleted, users_failed AS failed,
    users_held AS held, users_waiting AS waiting, records_deleted AS records, stop_reason, sqlstate
FROM erasure.deletion_run ORDER BY run_id, policy;
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
SELECT add_account('a', '2020-01-01'), add_account('b', '2020-01-02'), add_account('c', '2020-01-03'), add_account('d', '2020-01-04');
INSERT INTO invoices VALUES (account('c'));
SELECT process_scheduled_deletions(max_accounts => 1) -> 'users_deleted' AS deleted;
CALL run_scheduled_deletions(max_accounts => 1, max_runtime => '1 hour', batch_size => 5, pause => '1 ms', release_brake => true) \gset
SELECT erasure.hold_account(account('d')::text, 'case 1');
CALL run_scheduled_deletions();  -- fails
-- not a dry run, nor one that was undone
SELECT process_scheduled_deletions(dry_run => true) -> 'users_failed' AS failed;
BEGIN;
SELECT process_scheduled_deletions() -> 'users_failed' AS failed;
ROLLBACK;
TABLE ledger;
SELECT bool_and(started_by = session_user AND pid = pg_backend_pid() AND started_at <= completed_at AND updated_at = completed_at) AS true_of_all,
    bool_and((report ->> 'run_id')::bigint = run_id AND (report ->> 'users_deleted')::bigint = users_deleted AND report ->> 'stop_reason' = stop_reason) AS report_says_so,
    bool_and(EXISTS (SELECT FROM audit_log WHERE (details ->> 'run_id')::bigint = run_id)) AS audit_rows_have_it
FROM erasure.deletion_run;
SELECT count(*) FROM erasure.deletion_progress;
SELECT count(*) AS personal FROM erasure.deletion_run r WHERE r::text LIKE '%example.org%';

-- one row for each of several policies, also for one that cannot run
CREATE TABLE members (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE TABLE log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
SELECT erasure.add_deletion_policy('members', 'members', audit_table => 'log');
INSERT INTO members VALUES (1, '2020-01-01');
DELETE FROM erasure.deletion_run;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
INSERT INTO members VALUES (1, '2020-01-01');
ALTER TABLE audit_log RENAME COLUMN action TO what;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
CALL run_scheduled_deletions();  -- fails
CALL run_scheduled_deletions('built-in');  -- fails
ALTER TABLE audit_log RENAME COLUMN what TO action;
TABLE ledger;
SELECT DISTINCT message, report ->> 'fatal_error' = message AS in_report FROM erasure.deletion_run WHERE stop_reason = 'failed';
SELECT erasure.remove_deletion_policy('members');

-- a run whose session is not there any more is told to be interrupted, by either form; not
-- one that is at work, nor one that has come to its end
CREATE FUNCTION lose_run(id bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO erasure.deletion_run (run_id, policy, form, started_by, arguments, pid, started_at, updated_at, users_due, users_deleted,
        users_failed, users_skipped, users_held, users_waiting, records_deleted)
    VALUES (id, 'built-in', 'procedure', 'nobody', '{}', 0, now() - interval '20 minutes', now() - interval '10 minutes', 100, 20, 0, 0, 0, 0, 500)
$$;
DELETE FROM erasure.deletion_run;
SELECT lose_run(-1);
SELECT running, users_due, users_done, records_deleted, round(users_per_second::numeric, 3) AS users_per_second, estimated_end FROM erasure.deletion_progress;
SELECT process_scheduled_deletions() -> 'users_failed' AS failed;
SELECT stop_reason, completed_at = updated_at AS as_of_then, users_deleted FROM erasure.deletion_run WHERE run_id = -1;
SELECT count(*) FROM erasure.deletion_progress;
SELECT lose_run(-2);
CALL run_scheduled_deletions(raise_on_failure => false) \gset
SELECT stop_reason FROM erasure.deletion_run WHERE run_id = -2;
SELECT stop_reason, count(*) FROM erasure.deletion_run GROUP BY 1 ORDER BY 1;
-- as seen by the run itself
CREATE TABLE seen (running boolean, users_due bigint, users_done bigint, has_rate boolean, has_end boolean);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO seen SELECT running, users_due, users_done, users_per_second > 0, estimated_end > updated_at FROM erasure.deletion_progress; RETURN NULL; END $$;
CREATE TRIGGER see AFTER INSERT ON audit_log EXECUTE FUNCTION see();
SELECT count(add_account('account' || n)) FROM generate_series(1, 4) n;
CALL run_scheduled_deletions(batch_size => 2, raise_on_failure => false) \gset
SELECT * FROM seen;
DROP TRIGGER see ON audit_log;
-- what is older than it is to be kept goes; audit rows stay
DELETE FROM erasure.deletion_run;
CREATE FUNCTION grow_old(old interval) RETURNS void LANGUAGE sql AS $$
    UPDATE erasure.deletion_run SET started_at = started_at - old, updated_at = updated_at - old, completed_at = completed_at - old;
    UPDATE erasure.deletion_failure SET first_attempt_at = first_attempt_at - old, last_attempt_at = last_attempt_at - old, next_attempt_at = now() + '1 day';
    UPDATE audit_log SET created_at = created_at - old;
$$;
ALTER TABLE erasure.deletion_failure DISABLE TRIGGER do_not_wait;
SELECT count(*) AS audit_rows FROM audit_log \gset
SELECT process_scheduled_deletions() -> 'users_failed' AS failed;
SELECT grow_old('89 days');
SELECT process_scheduled_deletions() -> 'users_waiting' AS waiting;
SELECT (SELECT count(*) FROM erasure.deletion_run) AS runs, (SELECT count(*) FROM erasure.deletion_failure) AS failures;
SELECT grow_old('2 days');
SELECT process_scheduled_deletions() -> 'users_waiting' AS waiting;
SELECT (SELECT count(*) FROM erasure.deletion_run) AS runs, (SELECT count(*) FROM erasure.deletion_failure) AS failures;
SHOW scheduled_deletion.retention;
SET scheduled_deletion.retention = '1h';
SELECT grow_old('2 hours');
CALL run_scheduled_deletions(raise_on_failure => false) \gset
SELECT count(*) AS runs FROM erasure.deletion_run;
SET scheduled_deletion.retention = 0;
SELECT grow_old('1000 years');
CALL run_scheduled_deletions(raise_on_failure => false) \gset
SELECT count(*) AS runs FROM erasure.deletion_run;
RESET scheduled_deletion.retention;
SELECT count(*) - :audit_rows AS audit_rows_gone FROM audit_log;
:clean_up
