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
SELECT last_value < 20 AS not_searched_for FROM attempts;
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

-- the run itself: a cancelled statement, a job that calls itself
CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE 'statement of % cancelled', OLD.user_id USING ERRCODE = '57014'; END $$;
CREATE TRIGGER cancel AFTER DELETE ON check_ins FOR EACH ROW EXECUTE FUNCTION cancel();
SELECT process_scheduled_deletions();  -- fails
DROP TRIGGER cancel ON check_ins;
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
DROP PUBLICATION p;

-- a rule instead of the deletion
CREATE RULE nothing AS ON DELETE TO crisis_plan DO INSTEAD NOTHING;
SELECT process_scheduled_deletions();  -- fails
DROP RULE nothing ON crisis_plan;

-- nothing was changed, and all goes well when it is mended
SELECT count(*), sum(check_ins) AS check_ins, sum(audit_rows) AS audit_rows FROM whole_accounts;
SELECT told.* FROM told(process_scheduled_deletions()) WHERE key <> 'total_records_deleted';

-- the same errors at one account of several are that account's
SELECT count(add_account(name)) FROM unnest('{good 1,good 2,good 3,bad}'::text[]) name;
CREATE FUNCTION fail_one() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.user_id = app.account('bad') THEN RAISE 'no' USING ERRCODE = '42P01'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fail_one AFTER DELETE ON check_ins FOR EACH ROW EXECUTE FUNCTION fail_one();
SELECT errors.* FROM errors(process_scheduled_deletions());
SELECT * FROM whole_accounts;
:clean_up
