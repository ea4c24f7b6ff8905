-- An error that is not an account's stops the run with one message, changes
-- nothing, and is not searched for.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
SELECT count(add_account('account' || n)) FROM generate_series(1, 100) n;
CREATE SEQUENCE attempts;

-- a broken audit trigger
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('app.attempts');
    RAISE 'no, %', NEW.user_id USING ERRCODE = TG_ARGV[0];
END
$$;
CREATE TRIGGER fail BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION fail('P0001');
SELECT process_scheduled_deletions();  -- fails
SELECT last_value < 100 AS not_searched_for FROM attempts;
-- also if only one account is due
SELECT process_scheduled_deletions(max_accounts => 1);  -- fails
DROP TRIGGER fail ON audit_log;

-- audit rows that are swallowed
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER swallow BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION swallow();
SELECT process_scheduled_deletions();  -- fails
DROP TRIGGER swallow ON audit_log;

-- what a migration left behind: a trigger that no longer finds its table
CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO app.no_such_table VALUES (OLD.user_id); RETURN NULL; END $$;
CREATE TRIGGER broken AFTER DELETE ON check_ins FOR EACH ROW EXECUTE FUNCTION broken();
SELECT process_scheduled_deletions();  -- fails
SELECT process_scheduled_deletions(max_accounts => 1);  -- fails
DROP TRIGGER broken ON check_ins;

-- the run itself: a statement that takes too long, a job that calls itself
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$;
CREATE TRIGGER wait AFTER DELETE ON check_ins FOR EACH ROW EXECUTE FUNCTION wait();
SET statement_timeout = 500;
SELECT process_scheduled_deletions();  -- fails
RESET statement_timeout;
DROP TRIGGER wait ON check_ins;
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM erasure.process_scheduled_deletions(); RETURN NULL; END $$;
CREATE TRIGGER again AFTER DELETE ON check_ins FOR EACH ROW EXECUTE FUNCTION again();
SELECT process_scheduled_deletions();  -- fails
DROP TRIGGER again ON check_ins;

-- a table that is published without a replica identity
ALTER TABLE check_ins REPLICA IDENTITY NOTHING;
SET client_min_messages = error;
CREATE PUBLICATION p FOR TABLE check_ins;
RESET client_min_messages;
SELECT process_scheduled_deletions();  -- fails
CALL run_scheduled_deletions();  -- fails
DROP PUBLICATION p;
-- where everything is published, the tables of the extension are no obstacle
BEGIN;
ALTER TABLE check_ins REPLICA IDENTITY DEFAULT;
SET LOCAL client_min_messages = error;
CREATE PUBLICATION p FOR ALL TABLES;
SET LOCAL client_min_messages = notice;
SELECT erasure.hold_account(id::text, 'case 1'), erasure.hold_account(id::text, 'case 1', now() + '1 day'), erasure.release_account(id::text) FROM profiles LIMIT 1;
INSERT INTO erasure.deletion_failure SELECT 'built-in', id::text, 1, now(), now(), now() - interval '1 hour', '23503', 'x', 'y', 'z' FROM profiles;
UPDATE erasure.deletion_failure SET attempts = 2, last_attempt_at = '2020-01-01';
SELECT outcome(process_scheduled_deletions());
ROLLBACK;

-- a rule instead of the deletion
CREATE RULE nothing AS ON DELETE TO crisis_plan DO INSTEAD NOTHING;
SELECT process_scheduled_deletions();  -- fails
DROP RULE nothing ON crisis_plan;

-- also if one account has an error of its own besides, which shows before the other
CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'own'; END $$;
CREATE TRIGGER own BEFORE DELETE ON profiles FOR EACH ROW WHEN (OLD.email = 'account7@example.org') EXECUTE FUNCTION own();
CREATE TRIGGER fail BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION fail('P0001');
SELECT process_scheduled_deletions();  -- fails
SELECT process_scheduled_deletions(dry_run => true);  -- fails
DROP TRIGGER own ON profiles;
DROP TRIGGER fail ON audit_log;

-- nothing was changed, and all goes well when it is mended
SELECT count(*), sum(check_ins) AS check_ins, sum(audit_rows) AS audit_rows FROM whole_accounts;
SELECT told.* FROM told(process_scheduled_deletions()) WHERE key <> 'total_records_deleted';

-- the same errors at one account of several are that account's, and those that only
-- sound like the run's, too
SELECT count(add_account(name)) FROM unnest('{good 1,good 2,good 3,bad}'::text[]) name;
CREATE FUNCTION fail_one() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.user_id = app.account('bad') THEN RAISE 'no' USING ERRCODE = '42P01'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fail_one AFTER DELETE ON check_ins FOR EACH ROW EXECUTE FUNCTION fail_one();
SELECT errors.* FROM errors(process_scheduled_deletions());
SELECT * FROM whole_accounts;
DROP TRIGGER fail_one ON check_ins;
CREATE FUNCTION raise_as_named() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.email = 'assertion@example.org' THEN
        ASSERT false, OLD.email;
    ELSIF OLD.email NOT LIKE 'good%' THEN
        RAISE '%', OLD.email USING ERRCODE = split_part(OLD.email, '@', 1);
    END IF;
    RETURN OLD;
END $$;
DELETE FROM profiles WHERE id = account('bad');
CREATE TRIGGER raise_as_named BEFORE DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION raise_as_named();
SELECT count(add_account(name)) FROM unnest('{good 1,good 2,assertion,57014,57P01,53100,53200,58030,25006,25P02,P0004,XX000,40001,40P01,55P03,42501,0A000}'::text[]) name;
SELECT errors.* FROM errors(process_scheduled_deletions());
DROP TRIGGER raise_as_named ON profiles;

-- a trigger that changes the role, or whether keys are checked: what was proved
-- under it would be worthless
DELETE FROM profiles;
SELECT add_account('one');
CREATE ROLE regress_sd_other;
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE TG_ARGV[0]; RETURN NULL; END $$;
CREATE TRIGGER change AFTER DELETE ON crisis_plan EXECUTE FUNCTION change('SET LOCAL session_replication_role = replica');
SELECT errors.* FROM errors(process_scheduled_deletions());
SHOW session_replication_role;
DROP TRIGGER change ON crisis_plan;
GRANT ALL ON SCHEMA app TO regress_sd_other;
GRANT ALL ON ALL TABLES IN SCHEMA app TO regress_sd_other;
CREATE TRIGGER change AFTER DELETE ON crisis_plan EXECUTE FUNCTION change('SET LOCAL ROLE regress_sd_other');
DO $$
BEGIN
    PERFORM process_scheduled_deletions();
EXCEPTION WHEN object_not_in_prerequisite_state OR insufficient_privilege THEN
    RAISE NOTICE 'refused';  -- since 18, the server is first to do so
END
$$;
SELECT current_user <> 'regress_sd_other' AS same_role;
DROP TRIGGER change ON crisis_plan;
SELECT * FROM whole_accounts;

-- failing accounts at the head of the queue, however many, keep nobody waiting
CREATE FUNCTION fail_bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'bad'; END $$;
CREATE TRIGGER fail_bad BEFORE DELETE ON profiles FOR EACH ROW WHEN (OLD.role = 'admin') EXECUTE FUNCTION fail_bad();
DELETE FROM profiles WHERE role <> 'admin';
SELECT count(add_account('bad ' || n, '2020-01-01')) FROM generate_series(1, 16) n;
UPDATE profiles SET role = 'admin';
SELECT add_account('good', '2019-01-01');
SELECT told.* FROM told(process_scheduled_deletions()) WHERE key <> 'total_records_deleted';
SELECT count(add_account('bad ' || n, '2020-01-01')) FROM generate_series(17, 600) n;
UPDATE profiles SET role = 'admin';
SELECT count(add_account('good ' || n, '2021-01-01')) FROM generate_series(1, 100) n;
SELECT told.* FROM told(process_scheduled_deletions(max_accounts => 10)) WHERE key <> 'total_records_deleted';
SELECT told.* FROM told(process_scheduled_deletions()) WHERE key <> 'total_records_deleted';
-- nor do they beside others that a key stops
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
UPDATE profiles SET role = 'patient' WHERE id <> account('bad 1');
INSERT INTO invoices SELECT id FROM profiles WHERE id <> account('bad 1');
SELECT add_account('good', '2020-01-01');
SELECT told.* FROM told(process_scheduled_deletions()) WHERE key <> 'total_records_deleted';
-- nor if theirs sounds like everybody's, wherever they stand: one account that can
-- be deleted is proof that it is not
CREATE FUNCTION no_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.role = 'admin' THEN DELETE FROM app.no_such_tenant; END IF;
    RETURN NULL;
END $$;
DROP TABLE invoices;
DROP TRIGGER fail_bad ON profiles;
DELETE FROM profiles;
CREATE TRIGGER no_tenant AFTER DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION no_tenant();
SELECT count(add_account('bad ' || n, '2020-01-01')) FROM generate_series(1, 520) n;
UPDATE profiles SET role = 'admin';
SELECT count(add_account('good ' || n, '2021-01-01')) FROM generate_series(1, 50) n;
SELECT told.* FROM told(process_scheduled_deletions()) WHERE key <> 'total_records_deleted';
SELECT count(add_account('good ' || n, '2019-01-01')) FROM generate_series(51, 562) n;
SELECT told.* FROM told(process_scheduled_deletions()) WHERE key <> 'total_records_deleted';
ALTER TABLE profiles DISABLE TRIGGER no_tenant;
DELETE FROM profiles WHERE id <> account('bad 1');
ALTER TABLE profiles ENABLE TRIGGER no_tenant;
SELECT add_account('good', '2021-01-01');
SELECT told.* FROM told(process_scheduled_deletions(max_accounts => 1)) WHERE key <> 'total_records_deleted';
DROP TRIGGER no_tenant ON profiles;
-- but a thousand in a row, and nobody who can be deleted, end the run
DELETE FROM profiles;
CREATE TRIGGER fail_bad BEFORE DELETE ON profiles FOR EACH ROW WHEN (OLD.role = 'admin') EXECUTE FUNCTION fail_bad();
SELECT count(add_account('bad ' || n, '2020-01-01')) FROM generate_series(1, 1100) n;
DELETE FROM erasure.deletion_failure;
UPDATE profiles SET role = 'admin';
SELECT process_scheduled_deletions();  -- fails
SELECT add_account('good', '2021-01-01');
SELECT told.* FROM told(process_scheduled_deletions()) WHERE key <> 'total_records_deleted';
:clean_up
DROP ROLE regress_sd_other;
