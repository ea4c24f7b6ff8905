-- An account that cannot be deleted stays whole and is told in words of ours; all
-- others go.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
-- a foreign key outside the plan, to the account and to a row of a step; each is
-- found by a query, before anything is deleted
CREATE TABLE invoices (id int PRIMARY KEY, user_id uuid REFERENCES profiles);
CREATE TABLE orders (id int, user_id uuid REFERENCES profiles ON DELETE RESTRICT);
CREATE TABLE attachments (note_id uuid REFERENCES clinical_notes, check_in_id uuid REFERENCES check_ins);
SELECT add_account('good 1'), add_account('good 2'), add_account('good 3'), add_account('living', NULL);
SELECT add_account('invoiced'), add_account('ordered'), add_account('attached'), add_account('twice attached');
INSERT INTO invoices VALUES (1, account('invoiced')), (2, account('living'));
INSERT INTO orders VALUES (1, account('ordered'));
INSERT INTO attachments (check_in_id) SELECT id FROM check_ins WHERE user_id = account('attached') LIMIT 1;
INSERT INTO clinical_notes (id, patient_id, therapist_id, note_text)
VALUES (account('note'), account('living'), account('twice attached'), 'shared');
INSERT INTO attachments (note_id) VALUES (account('note'));
-- also to another unique column than the key, of another type or collation
ALTER TABLE profiles ADD handle varchar(40) COLLATE "C" UNIQUE, ADD number int UNIQUE;
CREATE TABLE mentions (handle text COLLATE "POSIX" REFERENCES profiles (handle));
CREATE TABLE seats (number bigint REFERENCES profiles (number));
SELECT add_account('mentioned'), add_account('seated');
UPDATE profiles SET handle = '@m' WHERE id = account('mentioned');
UPDATE profiles SET number = 7 WHERE id = account('seated');
INSERT INTO mentions VALUES ('@m');
INSERT INTO seats VALUES (7);
INSERT INTO accounts_before SELECT id, email, role, created_at, deletion_scheduled_at FROM profiles;
CREATE TABLE run AS SELECT process_scheduled_deletions() AS report;
SELECT told.* FROM run, told(report);
SELECT errors.* FROM run, errors(report);
SELECT * FROM whole_accounts;
SELECT * FROM broken_promises;
-- when the reason is gone, so are they, the next time
DROP TABLE invoices, orders, attachments, mentions, seats;
ALTER TABLE profiles DROP handle, DROP number;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
DROP TABLE run;
TRUNCATE audit_log;

-- a key without an action stops nobody if its rows go by another key that has one,
-- or by a step of the plan: no query asks, the server's own check tells
CREATE TABLE letters (sender uuid REFERENCES profiles ON DELETE CASCADE, receiver uuid REFERENCES profiles);
CREATE TABLE replies (user_id uuid REFERENCES profiles, check_in_id uuid REFERENCES check_ins ON DELETE CASCADE);
ALTER TABLE user_consent ADD witness uuid REFERENCES profiles;
SELECT add_account('writes to himself'), add_account('replies'), add_account('own witness'), add_account('is written to');
INSERT INTO letters VALUES (account('writes to himself'), account('writes to himself')), (account('living'), account('is written to'));
INSERT INTO replies SELECT user_id, id FROM check_ins WHERE user_id = account('replies');
UPDATE user_consent SET witness = user_id WHERE user_id = account('own witness');
CREATE TABLE run AS SELECT process_scheduled_deletions() AS report;
SELECT errors.* FROM run, errors(report);
SELECT account FROM whole_accounts;
DROP TABLE run, letters, replies;
-- nor if a trigger or a rule takes them away in time
CREATE TABLE reminders (user_id uuid REFERENCES profiles, check_in_id uuid REFERENCES check_ins DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN DELETE FROM reminders WHERE user_id = OLD.user_id OR check_in_id = OLD.id; RETURN NULL; END $$;
CREATE TRIGGER tidy AFTER DELETE ON check_ins FOR EACH ROW EXECUTE FUNCTION tidy();
SELECT add_account('reminded');
INSERT INTO reminders SELECT user_id, id FROM check_ins WHERE user_id = account('reminded');
SELECT process_scheduled_deletions() -> 'errors' AS errors;
DROP TRIGGER tidy ON check_ins;
CREATE RULE tidy AS ON DELETE TO crisis_plan DO ALSO DELETE FROM reminders WHERE user_id = OLD.user_id;
SELECT add_account('reminded by rule');
INSERT INTO reminders SELECT user_id FROM check_ins WHERE user_id = account('reminded by rule');
SELECT process_scheduled_deletions() -> 'errors' AS errors;
DROP RULE tidy ON crisis_plan;
DROP TABLE reminders;
ALTER TABLE user_consent DROP witness;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
TRUNCATE audit_log;

-- triggers: one raises an error with the e-mail in everything that it can set, at
-- a step, at the account, and at the end of the statement
CREATE FUNCTION object_to() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    email text := (SELECT email FROM profiles WHERE id = CASE TG_TABLE_NAME
        WHEN 'profiles' THEN (to_jsonb(OLD) ->> 'id')::uuid ELSE (to_jsonb(OLD) ->> 'user_id')::uuid END);
BEGIN
    IF coalesce(email, to_jsonb(OLD) ->> 'email') = TG_ARGV[0] || '@example.org' THEN
        RAISE EXCEPTION 'cannot delete %', TG_ARGV[0] || '@example.org' USING
            DETAIL = TG_ARGV[0] || '@example.org', HINT = TG_ARGV[0] || '@example.org', ERRCODE = TG_ARGV[1],
            SCHEMA = 'app', TABLE = TG_ARGV[0] || '@example.org', CONSTRAINT = TG_ARGV[0] || '@example.org',
            COLUMN = TG_ARGV[0] || '@example.org';
    END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER step BEFORE DELETE ON check_ins FOR EACH ROW EXECUTE FUNCTION object_to('at the step', 'P0001');
CREATE TRIGGER account BEFORE DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION object_to('at the account', '23514');
CREATE TRIGGER after AFTER DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION object_to('after it', '42501');
-- the audit table
ALTER TABLE audit_log ADD CONSTRAINT no_such_user CHECK (user_id <> md5('not audited')::uuid);
-- rows that are kept
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(OLD) ->> TG_ARGV[0] = md5(TG_ARGV[1]) ::uuid::text THEN RETURN NULL; END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER kept BEFORE DELETE ON user_consent FOR EACH ROW EXECUTE FUNCTION keep('user_id', 'keeps consent');
CREATE TRIGGER kept_account BEFORE DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION keep('id', 'keeps account');
-- a deferred constraint, which would only show at COMMIT
CREATE TABLE loans (id int, user_id uuid REFERENCES profiles DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION check_later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.email = 'deferred@example.org' THEN
        RAISE EXCEPTION 'too late for %', OLD.email USING ERRCODE = '23000';
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER later AFTER DELETE ON profiles DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_later();
SELECT count(add_account(name)) FROM unnest('{good 1,good 2,good 3,at the step,at the account,after it,not audited,
keeps consent,keeps account,deferred,lent}'::text[]) name;
INSERT INTO loans VALUES (1, account('lent'));
TRUNCATE accounts_before;
INSERT INTO accounts_before SELECT * FROM profiles;
CREATE TABLE run AS SELECT process_scheduled_deletions() AS report;
SELECT told.* FROM run, told(report);
SELECT errors.* FROM run, errors(report);
SELECT count(*) AS personal FROM run WHERE report::text LIKE '%@%';
SELECT * FROM whole_accounts;
SELECT * FROM broken_promises;
SELECT count(*) AS still_failing FROM errors(process_scheduled_deletions());
DROP TABLE run, loans;

-- a row that is kept and leads to nobody any more when the account is gone
DROP TRIGGER kept ON user_consent;
ALTER TABLE user_consent ALTER user_id DROP NOT NULL;
CREATE FUNCTION soft_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE user_consent SET user_id = NULL WHERE id = OLD.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER soft BEFORE DELETE ON user_consent FOR EACH ROW EXECUTE FUNCTION soft_delete();
SELECT add_account('softly');
SELECT errors.* FROM errors(process_scheduled_deletions()) WHERE account = 'softly';
DROP TRIGGER soft ON user_consent;
ALTER TABLE user_consent DROP CONSTRAINT user_consent_user_id_fkey,
    ADD CONSTRAINT user_consent_user_id_fkey FOREIGN KEY (user_id) REFERENCES profiles ON DELETE SET NULL;
CREATE TRIGGER kept BEFORE DELETE ON user_consent FOR EACH ROW EXECUTE FUNCTION keep('user_id', 'softly');
SELECT errors.* FROM errors(process_scheduled_deletions()) WHERE account = 'softly';
SELECT count(*) FROM user_consent WHERE user_id = account('softly');
DROP TRIGGER kept ON user_consent;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;

-- the mode of the caller's constraints is left as it was
CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE b (id int REFERENCES a DEFERRABLE INITIALLY DEFERRED);
BEGIN;
SELECT process_scheduled_deletions() -> 'users_failed' AS failed;
INSERT INTO b VALUES (1);
SELECT 'still deferred' AS constraints;
ROLLBACK;

-- what the caller did before is not blamed on accounts
BEGIN;
INSERT INTO b VALUES (1);
SELECT process_scheduled_deletions();  -- fails
ROLLBACK;

-- without anything that could be deferred nothing is proved, and nothing missed
DROP TABLE a, b;
DROP TRIGGER later ON profiles;
SELECT told.* FROM told(process_scheduled_deletions()) WHERE key <> 'total_records_deleted';

-- the report's list of errors has an end, and says so
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
SELECT count(add_account('account' || n)) FROM generate_series(1, 998) n;
INSERT INTO invoices SELECT account('account' || n) FROM generate_series(1, 998) n;
SELECT report -> 'users_failed' AS failed, jsonb_array_length(report -> 'errors') AS told,
    report -> 'errors_truncated' AS errors_truncated
FROM process_scheduled_deletions() AS report;
:clean_up
