-- run_scheduled_deletions() commits after each batch, everything of an account in one
-- transaction still; it ends in an error if an account failed, after all others are
-- gone; and does nothing at all where it cannot commit.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
CREATE TABLE commits (transaction xid8, users bigint);
CREATE FUNCTION note_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO commits SELECT pg_current_xact_id(), count(*) FROM audit_rows;
    RETURN NULL;
END
$$;
CREATE TRIGGER note_commit AFTER INSERT ON audit_log REFERENCING NEW TABLE AS audit_rows EXECUTE FUNCTION note_commit();
SELECT count(add_account('account' || n, '2020-01-01'::timestamptz + n * interval '1 day')) FROM generate_series(1, 7) n;
INSERT INTO accounts_before SELECT * FROM profiles;

-- where it cannot commit
BEGIN;
CALL run_scheduled_deletions();  -- fails
ROLLBACK;
SELECT 1 AS one \; CALL run_scheduled_deletions();  -- fails
CREATE FUNCTION call_it() RETURNS void LANGUAGE plpgsql AS 'DECLARE r jsonb; BEGIN CALL erasure.run_scheduled_deletions(report => r); END';
SELECT call_it();  -- fails
DO $$
DECLARE
    report jsonb;
BEGIN
    CALL erasure.run_scheduled_deletions(report => report);  -- an exception block is a subtransaction
EXCEPTION WHEN invalid_transaction_termination OR active_sql_transaction THEN
    RAISE NOTICE '%: %', SQLSTATE, SQLERRM;
END
$$;
ALTER PROCEDURE erasure.run_scheduled_deletions SET lock_timeout = '1s';
CALL run_scheduled_deletions();  -- fails
ALTER PROCEDURE erasure.run_scheduled_deletions RESET lock_timeout;
SELECT count(*) FROM profiles;
SELECT count(*) FROM erasure.deletion_policy;

-- one transaction for each batch, earliest due first; the report is that of the function
CREATE FUNCTION called(report jsonb) RETURNS TABLE (key text, value jsonb) LANGUAGE sql AS
$$ SELECT * FROM told(report) UNION ALL SELECT k, report -> k FROM unnest('{policy,dry_run,errors}'::text[]) k $$;
CALL run_scheduled_deletions(batch_size => 2, max_accounts => 5) \gset
SELECT * FROM called(:'report');
SELECT users, count(*) FROM commits GROUP BY users ORDER BY users;
SELECT count(DISTINCT transaction) FROM commits;
SELECT account FROM whole_accounts;
TABLE broken_promises;

-- other callers that may commit may call it, and get the report
DO $$
DECLARE
    report jsonb;
BEGIN
    CALL erasure.run_scheduled_deletions(report => report);
    RAISE NOTICE '%', app.outcome(report);
    COMMIT;
END
$$;
TABLE broken_promises;

-- nothing is due: no error
CALL run_scheduled_deletions() \gset
SELECT outcome(:'report');

-- accounts that fail keep no other from being gone when the error is raised
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
SELECT add_account('a', '2020-01-01'), add_account('b', '2020-01-02'), add_account('c', '2020-01-03'), add_account('d', '2020-01-04');
INSERT INTO accounts_before SELECT * FROM profiles;
INSERT INTO invoices VALUES (account('a')), (account('c'));
SELECT setval('erasure.deletion_run_id', 41);
CALL run_scheduled_deletions(batch_size => 1);  -- fails
\echo :SQLSTATE
SELECT account FROM whole_accounts;
TABLE broken_promises;
SELECT account = account('a')::text AS is_a, attempts, sqlstate FROM erasure.deletion_failure ORDER BY 1;
-- those that wait are no failures of the next run
ALTER TABLE erasure.deletion_failure DISABLE TRIGGER do_not_wait;
UPDATE erasure.deletion_failure SET next_attempt_at = now() + interval '1 hour';
CALL run_scheduled_deletions() \gset
SELECT outcome(:'report');
ALTER TABLE erasure.deletion_failure ENABLE TRIGGER do_not_wait;
SELECT erasure.retry_account();
CALL run_scheduled_deletions(raise_on_failure => false) \gset
SELECT outcome(:'report');
SELECT * FROM errors(:'report');
-- one that nothing stops any more goes
DELETE FROM invoices WHERE user_id = account('a');
CALL run_scheduled_deletions(raise_on_failure => false) \gset
SELECT outcome(:'report');
SELECT account = account('c')::text AS is_c, attempts FROM erasure.deletion_failure;
TABLE broken_promises;

-- many that have failed before are passed by, batch by batch, and tried once each
SELECT count(add_account('bad ' || n, '2020-01-01')) FROM generate_series(1, 30) n;
INSERT INTO invoices SELECT account('bad ' || n) FROM generate_series(1, 30) n;
CALL run_scheduled_deletions(batch_size => 4, raise_on_failure => false) \gset
SELECT outcome(:'report');
SELECT count(add_account('good ' || n, '2020-01-02')) FROM generate_series(1, 5) n;
CALL run_scheduled_deletions(batch_size => 4, raise_on_failure => false) \gset
SELECT outcome(:'report');
SELECT attempts, count(*) FROM erasure.deletion_failure GROUP BY 1 ORDER BY 1;
DELETE FROM invoices;
CALL run_scheduled_deletions(batch_size => 4) \gset
SELECT outcome(:'report');
SELECT count(*) FROM erasure.deletion_failure;
TABLE broken_promises;

-- accounts that have failed before come in batches of that size, too
DELETE FROM commits;
SELECT count(add_account('failing ' || n)) FROM generate_series(1, 20) n;
INSERT INTO invoices SELECT id FROM profiles;
CALL run_scheduled_deletions(batch_size => 2, raise_on_failure => false) \gset
SELECT outcome(:'report');
DELETE FROM invoices;
CALL run_scheduled_deletions(batch_size => 2) \gset
SELECT outcome(:'report');
SELECT max(users) <= 2 AS as_asked FROM (SELECT sum(users) FROM commits GROUP BY transaction) t (users);

-- the clock was wrong when an account failed: whoever asks for it to be retried gets it
SELECT add_account('early');
INSERT INTO invoices VALUES (account('early'));
CALL run_scheduled_deletions(raise_on_failure => false) \gset
SELECT outcome(:'report');
ALTER TABLE erasure.deletion_failure DISABLE TRIGGER USER;
UPDATE erasure.deletion_failure SET last_attempt_at = now() + interval '10 years', next_attempt_at = now() + interval '10 years';
DELETE FROM invoices;
CALL run_scheduled_deletions() \gset
SELECT outcome(:'report');
SELECT erasure.retry_account();
CALL run_scheduled_deletions() \gset
SELECT outcome(:'report');
ALTER TABLE erasure.deletion_failure ENABLE TRIGGER USER;
DELETE FROM erasure.deletion_failure;

-- what ends a run leaves what was committed before: a schema that is not fit any more ...
SELECT count(add_account('person' || n, '2020-01-01'::timestamptz + n * interval '1 day')) FROM generate_series(1, 6) n;
INSERT INTO accounts_before SELECT * FROM profiles;
CREATE FUNCTION break_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM app.profiles WHERE id = app.account('person3')) THEN
        RETURN NULL;
    END IF;
    UPDATE erasure.deletion_policy SET audit_columns = '{"user_id": "no_such_column"}';
    RETURN NULL;
END
$$;
CREATE TRIGGER break_audit AFTER INSERT ON audit_log EXECUTE FUNCTION break_audit();
CALL run_scheduled_deletions(batch_size => 1);  -- fails
SELECT account FROM whole_accounts;
DROP TRIGGER break_audit ON audit_log;
SELECT erasure.alter_deletion_policy('built-in', audit_columns => '{}');
-- ... the operator ...
CREATE FUNCTION disable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE erasure.deletion_policy SET enabled = false;
    RETURN NULL;
END
$$;
CREATE TRIGGER disable AFTER INSERT ON audit_log EXECUTE FUNCTION disable();
CALL run_scheduled_deletions(batch_size => 2) \gset
SELECT outcome(:'report');
SELECT account FROM whole_accounts;
CALL run_scheduled_deletions();  -- fails
DROP TRIGGER disable ON audit_log;
SELECT erasure.alter_deletion_policy('built-in', enabled => true);
-- ... or time, however long a batch takes
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$;
CREATE TRIGGER take_time AFTER INSERT ON audit_log EXECUTE FUNCTION take_time();
SELECT add_account('one more');
CALL run_scheduled_deletions(batch_size => 1, max_runtime => '150 ms') \gset
SELECT :'report'::jsonb -> 'stop_reason' AS stop_reason, (:'report'::jsonb ->> 'users_deleted')::int < 2 AS not_all;
CALL run_scheduled_deletions() \gset
SELECT :'report'::jsonb -> 'stop_reason' AS stop_reason, count(*) AS "left" FROM profiles;
DROP TRIGGER take_time ON audit_log;
TABLE broken_promises;

-- ... or an error that shows only at COMMIT: that batch is not counted
CREATE SEQUENCE fired;
CREATE FUNCTION fail_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('app.fired') = 4 THEN    -- each batch fires it twice: on trial, and at COMMIT
        RAISE 'not this time';
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER fail_at_commit AFTER INSERT ON audit_log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail_at_commit();
SELECT count(add_account('late ' || n, '2020-01-01'::timestamptz + n * interval '1 day')) FROM generate_series(1, 4) n;
CALL run_scheduled_deletions(batch_size => 1);  -- fails
SELECT users_deleted, records_deleted, stop_reason, sqlstate FROM erasure.deletion_run ORDER BY run_id DESC LIMIT 1;
SELECT account FROM whole_accounts WHERE account LIKE 'late%';
SELECT count(*) FROM erasure.deletion_progress;
DROP TRIGGER fail_at_commit ON audit_log;
CALL run_scheduled_deletions() \gset
SELECT outcome(:'report');

-- nothing of a batch is kept in memory, whether it pauses or not
CREATE TABLE memory (batch serial, contexts bigint, bytes numeric);
CREATE FUNCTION measure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO memory (contexts, bytes) SELECT count(*), sum(used_bytes) FROM pg_backend_memory_contexts;
    RETURN NULL;
END
$$;
CREATE TRIGGER measure AFTER INSERT ON audit_log EXECUTE FUNCTION measure();
SELECT count(add_account('m' || n, '2020-01-01')) FROM generate_series(1, 60) n;
CALL run_scheduled_deletions(batch_size => 1, pause => '1 microsecond') \gset
SELECT count(*) AS batches, max(contexts) FILTER (WHERE batch > 10) - min(contexts) FILTER (WHERE batch > 10) < 10 AS contexts_are_flat,
    max(bytes) FILTER (WHERE batch > 10) - min(bytes) FILTER (WHERE batch > 10) < 100000 AS bytes_are_flat
FROM memory;
DROP TRIGGER measure ON audit_log;

-- of several policies, one that cannot run does not stop the others, which are committed
CREATE TABLE members (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE TABLE guests (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE TABLE log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
SELECT erasure.add_deletion_policy('members', 'members', audit_table => 'log'), erasure.add_deletion_policy('guests', 'guests', audit_table => 'log');
INSERT INTO members SELECT n, '2020-01-01' FROM generate_series(1, 3) n;
INSERT INTO guests SELECT n, '2020-01-01' FROM generate_series(1, 3) n;
ALTER TABLE guests RENAME COLUMN deletion_scheduled_at TO due;
CALL run_scheduled_deletions();  -- fails
SELECT (SELECT count(*) FROM members) AS members, (SELECT count(*) FROM guests) AS guests;
-- if none can, the first one's error is the call's
ALTER TABLE members RENAME COLUMN deletion_scheduled_at TO due;
SELECT erasure.alter_deletion_policy('built-in', enabled => false);
CALL run_scheduled_deletions();  -- fails
SELECT erasure.alter_deletion_policy('built-in', enabled => true);
ALTER TABLE members RENAME COLUMN due TO deletion_scheduled_at;
INSERT INTO members SELECT n, '2020-01-01' FROM generate_series(1, 3) n;
CALL run_scheduled_deletions(raise_on_failure => false) \gset
SELECT outcome(:'report'), :'report'::jsonb -> 'policies_failed' AS policies_failed, :'report'::jsonb #> '{policies,guests,fatal_error}' AS error;
-- the limit is the call's
ALTER TABLE guests RENAME COLUMN due TO deletion_scheduled_at;
INSERT INTO members SELECT n, '2020-01-01' FROM generate_series(1, 3) n;
CALL run_scheduled_deletions(max_accounts => 4) \gset
SELECT policy.key, outcome(value) FROM jsonb_each(:'report'::jsonb -> 'policies') policy ORDER BY 1;
-- the DETAIL counts all that was committed before, by every policy
SELECT count(add_account('before ' || n)) FROM generate_series(1, 3) n;
DELETE FROM members;
INSERT INTO members VALUES (1, '2020-01-01');
CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN OLD; END $$;
CREATE TRIGGER cancel BEFORE DELETE ON members FOR EACH ROW EXECUTE FUNCTION cancel();
CALL run_scheduled_deletions();  -- fails
SELECT policy, users_deleted FROM erasure.deletion_run ORDER BY run_id DESC, policy LIMIT 2;
DROP TRIGGER cancel ON members;

-- accounts that refer to each other go together, though batches begin small
CREATE TABLE people (id int PRIMARY KEY, referred_by int REFERENCES people, deletion_scheduled_at timestamptz);
CREATE TABLE people_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
SELECT erasure.add_deletion_policy('people', 'people', audit_table => 'people_log');
INSERT INTO people SELECT n, CASE WHEN n % 40 <> 1 THEN n - 1 END, '2020-01-01' FROM generate_series(1, 200) n;
CALL run_scheduled_deletions('people') \gset
SELECT outcome(:'report');
SELECT erasure.remove_deletion_policy('people');

-- the only one, and none at all, must be able to
ALTER TABLE guests RENAME COLUMN deletion_scheduled_at TO due;
CALL run_scheduled_deletions('guests', raise_on_failure => false);  -- fails
DELETE FROM erasure.deletion_policy WHERE policy <> 'guests';
CALL run_scheduled_deletions(raise_on_failure => false);  -- fails
DROP TABLE guests;
SELECT erasure.remove_deletion_policy('guests');
CALL run_scheduled_deletions('no such policy');  -- fails

-- arguments
CALL run_scheduled_deletions(batch_size => 0);  -- fails
CALL run_scheduled_deletions(max_accounts => 0);  -- fails
CALL run_scheduled_deletions(max_runtime => '0');  -- fails
CALL run_scheduled_deletions(max_runtime => '-1 day');  -- fails
CALL run_scheduled_deletions(pause => '-1 second');  -- fails
CALL run_scheduled_deletions(max_lag => '-1 second');  -- fails
CALL run_scheduled_deletions(max_lag_bytes => -1);  -- fails
CALL run_scheduled_deletions(raise_on_failure => NULL);  -- fails
CALL run_scheduled_deletions(release_brake => NULL);  -- fails
SET scheduled_deletion.enabled = off;
CALL run_scheduled_deletions();  -- fails
RESET scheduled_deletion.enabled;

-- the brake
SELECT count(add_account('user' || n)) FROM generate_series(1, 8) n;
SELECT erasure.add_deletion_policy('profiles', 'profiles', done_column => 'deleted_at', brake_accounts => 5);
CALL run_scheduled_deletions(batch_size => 2);  -- fails
SELECT count(*) FROM profiles;
CALL run_scheduled_deletions(batch_size => 2, release_brake => true) \gset
SELECT outcome(:'report');
TABLE broken_promises;
:clean_up
