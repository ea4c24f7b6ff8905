-- A typo in somebody's UPDATE does not empty the database in one night; and a run is
-- stopped by whoever may.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
DROP TRIGGER do_not_brake ON erasure.deletion_policy;
CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE INDEX ON users (deletion_scheduled_at);
SET client_min_messages = warning;
CREATE TABLE erased (user_id text, action text, details jsonb, created_at timestamptz);
SELECT add_deletion_policy('users', 'users', audit_table => 'erased', audit_columns => '{"performed_by": null}');
RESET client_min_messages;

-- a quarter of the accounts, if more than a hundred are due
INSERT INTO users SELECT n, CASE WHEN n <= 100 THEN '2020-01-01'::timestamptz END FROM generate_series(1, 120) n;
SELECT outcome(process_scheduled_deletions());
INSERT INTO users SELECT n, CASE WHEN n <= 1250 THEN '2020-01-01'::timestamptz END FROM generate_series(1001, 1980) n;
SELECT outcome(process_scheduled_deletions());
INSERT INTO users SELECT n, CASE WHEN n <= 2183 THEN '2020-01-01'::timestamptz END FROM generate_series(2001, 2183) n;
UPDATE users SET deletion_scheduled_at = '2020-01-01' WHERE id <= 1360;
SELECT count(*), count(deletion_scheduled_at) AS due FROM users;
SELECT process_scheduled_deletions();  -- fails
-- a limit is no consent, and a dry run is as the run would be
SELECT process_scheduled_deletions(max_accounts => 1);  -- fails
SELECT process_scheduled_deletions(dry_run => true);  -- fails
SELECT count(*) FROM erased;
SELECT outcome(process_scheduled_deletions(release_brake => true, dry_run => true));
SELECT outcome(process_scheduled_deletions(release_brake => true, max_accounts => 10));
SELECT process_scheduled_deletions(release_brake => NULL);  -- fails
SELECT process_scheduled_deletions();  -- fails
SELECT outcome(process_scheduled_deletions(release_brake => true));

-- however many accounts there are, and whatever statistics say of them
TRUNCATE users;
INSERT INTO users SELECT n FROM generate_series(1, 40000) n;
UPDATE users SET deletion_scheduled_at = now() - interval '1 day' WHERE id <= 5000;
SELECT outcome(process_scheduled_deletions(max_accounts => 1));
UPDATE users SET deletion_scheduled_at = now() - interval '1 day';
CREATE FUNCTION told() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN process_scheduled_deletions();
EXCEPTION WHEN program_limit_exceeded THEN
    RETURN SQLERRM;
END $$;
SELECT told();
ANALYZE users;
DELETE FROM users WHERE id > 20000;
UPDATE users SET deletion_scheduled_at = NULL WHERE id > 5001;
SELECT told();

-- a number of accounts; or no brake at all
SELECT alter_deletion_policy('users', brake_accounts => 50, brake_share => 1);
TRUNCATE users;
INSERT INTO users SELECT n, '2020-01-01' FROM generate_series(1, 51) n;
SELECT process_scheduled_deletions();  -- fails
DELETE FROM users WHERE id = 51;
SELECT outcome(process_scheduled_deletions());
SELECT alter_deletion_policy('users', brake_accounts => 0);
INSERT INTO users SELECT n, '2020-01-01' FROM generate_series(1, 200) n;
SELECT outcome(process_scheduled_deletions(max_accounts => 50));
SELECT alter_deletion_policy('users', brake_accounts => 120, brake_share => 0.5);
INSERT INTO users SELECT n FROM generate_series(1001, 1050) n;
SELECT process_scheduled_deletions();  -- fails
SELECT alter_deletion_policy('users', brake_accounts => -1);  -- fails
SELECT alter_deletion_policy('users', brake_share => 0);  -- fails
SELECT alter_deletion_policy('users', brake_share => 1.1);  -- fails
SELECT alter_deletion_policy('users', brake_share => 'NaN');  -- fails
SELECT brake_accounts, brake_share FROM erasure.deletion_policy;

-- accounts on hold do not count
SELECT alter_deletion_policy('users', brake_accounts => 40, brake_share => 1);
SELECT count(hold_account(id::text, 'case', policy => 'users')) FROM users WHERE deletion_scheduled_at IS NOT NULL AND id <= 170;
SELECT outcome(process_scheduled_deletions(dry_run => true));
SELECT count(release_account(id::text, policy => 'users')) FROM users WHERE deletion_scheduled_at IS NOT NULL AND id <= 170;
SELECT alter_deletion_policy('users', brake_accounts => 120, brake_share => 0.5);

-- nor do those that have failed before: they would add up, and stop all others
ALTER TABLE users ADD bad boolean;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER fail BEFORE DELETE ON users FOR EACH ROW WHEN (OLD.bad) EXECUTE FUNCTION fail();
UPDATE users SET bad = true WHERE deletion_scheduled_at IS NOT NULL AND id <= 160;
UPDATE users SET deletion_scheduled_at = NULL WHERE bad IS NULL;
SELECT alter_deletion_policy('users', brake_accounts => 110, brake_share => 1);
SELECT outcome(process_scheduled_deletions());
UPDATE users SET deletion_scheduled_at = '2020-01-01' WHERE bad IS NULL;
SELECT outcome(process_scheduled_deletions(dry_run => true));
ALTER TABLE users DISABLE TRIGGER fail;
DELETE FROM erasure.deletion_failure;
SELECT alter_deletion_policy('users', brake_accounts => 120, brake_share => 0.5);

-- of several policies it stops one
SELECT add_account('one');
SET client_min_messages = warning;
SELECT add_deletion_policy('profiles', 'profiles', done_column => 'deleted_at');
RESET client_min_messages;
SELECT report -> 'users_deleted' AS deleted, report #> '{policies,users,fatal_error}' AS fatal_error FROM process_scheduled_deletions() report;
SELECT remove_deletion_policy('profiles');

-- the setting stops every run of a session, a role or a database
SET scheduled_deletion.enabled = off;
SELECT process_scheduled_deletions(release_brake => true);  -- fails
-- also if it is misspelt
SET scheduled_deletion.enabled = disabled;
SELECT process_scheduled_deletions(release_brake => true);  -- fails
RESET scheduled_deletion.enabled;

-- the policy's own switch stops a run between two batches; what is done stays
SELECT alter_deletion_policy('users', brake_accounts => 0, brake_share => 1);
CREATE FUNCTION flip() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM alter_deletion_policy('users', enabled => false); RETURN OLD; END $$;
CREATE TRIGGER flip BEFORE DELETE ON users FOR EACH ROW WHEN (OLD.id = 103) EXECUTE FUNCTION flip();
SET scheduled_deletion.batch_size = 10;
SET client_min_messages = warning;
SELECT outcome(process_scheduled_deletions('users'));
SELECT process_scheduled_deletions('users');  -- fails
RESET client_min_messages;
SELECT alter_deletion_policy('users', enabled => true);
DROP TRIGGER flip ON users;
SELECT outcome(process_scheduled_deletions('users'));

-- and the brake a run that is at work: whoever forgets the WHERE then has it stopped
-- within a batch, and what it has done before is told
TRUNCATE users;
CREATE FUNCTION forget_where() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM users) = 4970 THEN
        UPDATE users SET deletion_scheduled_at = '2021-01-01' WHERE id <= TG_ARGV[0]::int;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_where AFTER INSERT ON erased FOR EACH STATEMENT EXECUTE FUNCTION forget_where('5000');
CREATE FUNCTION fill() RETURNS void LANGUAGE sql AS $$
    DELETE FROM users;
    INSERT INTO users SELECT n, CASE WHEN n <= 200 THEN '2020-01-01'::timestamptz END FROM generate_series(1, 5000) n;
$$;
CREATE VIEW last_run AS
SELECT users_due, users_deleted, stop_reason, sqlstate, (SELECT count(*) FROM users) AS left FROM erasure.deletion_run ORDER BY run_id DESC LIMIT 1;
SET scheduled_deletion.pause = 0;
SET scheduled_deletion.batch_duration = '1d';
SELECT alter_deletion_policy('users', brake_share => 0.25);
SELECT fill();
CALL run_scheduled_deletions('users', batch_size => 10);  -- fails
SELECT * FROM last_run;
CALL run_scheduled_deletions('users', batch_size => 10);  -- fails
-- as soon as the number is above that of the policy
DROP TRIGGER forget_where ON erased;
CREATE TRIGGER forget_where AFTER INSERT ON erased FOR EACH STATEMENT EXECUTE FUNCTION forget_where('251');
SELECT alter_deletion_policy('users', brake_share => 1, brake_accounts => 250);
SELECT fill();
CALL run_scheduled_deletions('users', batch_size => 10);  -- fails
SELECT * FROM last_run;
DROP TRIGGER forget_where ON erased;
CREATE TRIGGER forget_where AFTER INSERT ON erased FOR EACH STATEMENT EXECUTE FUNCTION forget_where('5000');
-- in one transaction nothing is done at all
SELECT alter_deletion_policy('users', brake_share => 0.25, brake_accounts => 0);
SELECT fill();
SELECT process_scheduled_deletions('users');  -- fails
SELECT count(*), count(deletion_scheduled_at) AS due FROM users;
-- unless so many are to be deleted, or they are not too many
SELECT outcome(process_scheduled_deletions('users', release_brake => true));
DROP TRIGGER forget_where ON erased;
CREATE TRIGGER forget_where AFTER INSERT ON erased FOR EACH STATEMENT EXECUTE FUNCTION forget_where('1000');
SELECT fill();
SELECT outcome(process_scheduled_deletions('users'));
SELECT fill();
SELECT alter_deletion_policy('users', brake_share => 0.1);
SELECT process_scheduled_deletions('users');  -- fails
RESET scheduled_deletion.pause;
RESET scheduled_deletion.batch_duration;
:clean_up
