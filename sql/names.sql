-- Generated statements mean the same whatever stands in front of the search_path,
-- and triggers see the caller's.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
-- a schema that has an answer of its own for everything
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.always(uuid, uuid) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION hostile.always(timestamptz, timestamptz) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION hostile.always(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR hostile.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = hostile.always);
CREATE OPERATOR hostile.> (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = hostile.always);
CREATE OPERATOR hostile.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.always);
CREATE OPERATOR hostile.>= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.always);
CREATE OPERATOR hostile.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.always);
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.always);
CREATE FUNCTION hostile.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN RAISE 'hostile unnest'; END $$;
CREATE DOMAIN hostile.uuid AS text;
CREATE DOMAIN hostile.oid AS text;
CREATE DOMAIN hostile.text AS int;
CREATE DOMAIN hostile.regclass AS text;
CREATE TABLE hostile.deletion_policy (policy int);
CREATE TABLE hostile.deletion_step (policy int);
CREATE TABLE hostile.pg_trigger (tgdeferrable int);
CREATE SEQUENCE hostile.deletion_run_id;
SELECT add_account('due'), add_account('living', NULL), add_account('later', now() + interval '1 day');
INSERT INTO clinical_notes (patient_id, therapist_id, note_text) VALUES (account('living'), account('later'), 'stays');
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
INSERT INTO invoices VALUES (account('living'));
BEGIN;
SET LOCAL search_path = hostile, pg_catalog, app, erasure;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT pg_catalog.count(*) FROM app.profiles;
SELECT pg_catalog.count(*) FROM app.clinical_notes;
ROLLBACK;
-- and with the policy registered before
SELECT process_scheduled_deletions(dry_run => false) -> 'users_deleted' AS deleted;
SELECT add_account('due'), add_account('due too');
BEGIN;
SET LOCAL search_path = hostile, pg_catalog, app, erasure;
SET LOCAL scheduled_deletion.batch_size = 1;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
ROLLBACK;
SELECT * FROM whole_accounts;

-- a trigger finds its tables as in any other DELETE
CREATE TABLE farewell (user_id uuid);
CREATE FUNCTION say_farewell() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO farewell VALUES (OLD.id); RETURN NULL; END $$;
CREATE TRIGGER say_farewell AFTER DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION say_farewell();
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT count(*) FROM farewell;
DROP TRIGGER say_farewell ON profiles;

-- names that have to be quoted, and a table that is not visible
ALTER TABLE check_ins RENAME TO "Check ""ins"" of a person";
ALTER TABLE profiles RENAME COLUMN deletion_scheduled_at TO "Due; DROP TABLE profiles";
CREATE SCHEMA "Other Schema";
ALTER TABLE crisis_plan SET SCHEMA "Other Schema";
UPDATE deletion_policy SET due_column = 'Due; DROP TABLE profiles';
INSERT INTO profiles (id, email, "Due; DROP TABLE profiles") VALUES (account('quoted'), 'quoted@example.org', '2020-01-01');
INSERT INTO "Check ""ins"" of a person" (user_id) VALUES (account('quoted'));
SELECT jsonb_pretty(process_scheduled_deletions() -> 'total_records_deleted') AS deleted;
SET client_min_messages = warning;
DROP SCHEMA hostile CASCADE;
DROP SCHEMA "Other Schema" CASCADE;
:clean_up
