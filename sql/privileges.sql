-- A role with the grants that the README lists can run the job, and with one less
-- cannot; nobody else can do anything.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_sd_job, regress_sd_other, regress_sd_bare;
RESET client_min_messages;
CREATE ROLE regress_sd_job;
CREATE ROLE regress_sd_other;
GRANT USAGE ON SCHEMA app, erasure TO regress_sd_other;
SELECT add_account('one'), add_account('two');

-- nothing is granted to anybody
SET ROLE regress_sd_other;
SELECT erasure.process_scheduled_deletions();  -- fails
SELECT * FROM erasure.deletion_policy;  -- fails
INSERT INTO erasure.deletion_step VALUES ('x', 1, 'profiles', 'x', '{x}');  -- fails
SELECT nextval('erasure.deletion_run_id');  -- fails
RESET ROLE;

-- the function alone: everything that is missing is named at once
GRANT USAGE ON SCHEMA erasure TO regress_sd_job;
GRANT EXECUTE ON FUNCTION erasure.process_scheduled_deletions TO regress_sd_job;
SET ROLE regress_sd_job;
SELECT erasure.process_scheduled_deletions();  -- fails
RESET ROLE;
GRANT USAGE ON SCHEMA app TO regress_sd_job;
SET ROLE regress_sd_job;
SELECT process_scheduled_deletions();  -- fails
RESET ROLE;

-- the grants of the README
GRANT SELECT, DELETE ON profiles, check_ins, crisis_plan, clinical_notes, therapist_patients, user_consent TO regress_sd_job;
GRANT UPDATE (deletion_scheduled_at) ON profiles TO regress_sd_job;
GRANT INSERT ON audit_log TO regress_sd_job;
BEGIN;
SET LOCAL ROLE regress_sd_job;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
ROLLBACK;

-- each of them is needed
BEGIN; REVOKE DELETE ON crisis_plan FROM regress_sd_job; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; REVOKE SELECT ON user_consent FROM regress_sd_job; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; REVOKE UPDATE (deletion_scheduled_at) ON profiles FROM regress_sd_job; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; REVOKE INSERT ON audit_log FROM regress_sd_job; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; REVOKE USAGE ON SCHEMA app FROM regress_sd_job; SET LOCAL ROLE regress_sd_job; SELECT erasure.process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE audit_log ADD n serial; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE audit_log ADD n int GENERATED ALWAYS AS IDENTITY; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions() -> 'users_failed' AS failed; ROLLBACK;
BEGIN; REVOKE EXECUTE ON FUNCTION process_scheduled_deletions FROM regress_sd_job; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails

-- the schema's is named, too, also when the tables are known already; and the hint
-- grants all that is missing
CREATE ROLE regress_sd_bare;
GRANT USAGE ON SCHEMA erasure TO regress_sd_bare;
GRANT EXECUTE ON FUNCTION process_scheduled_deletions TO regress_sd_bare;
BEGIN;
SELECT process_scheduled_deletions(max_accounts => 1) -> 'users_deleted' AS deleted;
SET LOCAL ROLE regress_sd_bare;
SAVEPOINT s;
SELECT erasure.process_scheduled_deletions();  -- fails
ROLLBACK TO s;
RESET ROLE;
DO $$
DECLARE
    hint text;
BEGIN
    SET LOCAL ROLE regress_sd_bare;
    BEGIN
        PERFORM erasure.process_scheduled_deletions();
    EXCEPTION WHEN insufficient_privilege THEN
        GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    END;
    RESET ROLE;
    EXECUTE hint;
END
$$;
SET LOCAL ROLE regress_sd_bare;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
ROLLBACK;
DROP OWNED BY regress_sd_bare;
DROP ROLE regress_sd_bare;

-- a blocking key of a table that the role may not read, in a schema that it may not
-- use, or to a partition that it may not read stops its account all the same
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
INSERT INTO invoices VALUES (account('one'));
BEGIN;
SET LOCAL ROLE regress_sd_job;
SELECT errors.* FROM process_scheduled_deletions() r, LATERAL (SELECT e ->> 'error' FROM jsonb_array_elements(r -> 'errors') e) AS errors;
ROLLBACK;
DROP TABLE invoices;
BEGIN;
CREATE SCHEMA billing;
CREATE TABLE billing.invoices (user_id uuid REFERENCES profiles);
INSERT INTO billing.invoices VALUES (account('one'));
GRANT SELECT ON billing.invoices TO regress_sd_job;
SET LOCAL ROLE regress_sd_job;
SELECT e ->> 'error' AS error FROM process_scheduled_deletions() r, jsonb_array_elements(r -> 'errors') e;
ROLLBACK;
BEGIN;
SET LOCAL client_min_messages = warning;
DROP TABLE check_ins CASCADE;
CREATE TABLE check_ins (id int, user_id uuid REFERENCES profiles) PARTITION BY LIST (id);
CREATE TABLE check_ins_1 PARTITION OF check_ins (PRIMARY KEY (id)) FOR VALUES IN (1);
CREATE TABLE attachments (check_in_id int REFERENCES check_ins_1);
INSERT INTO check_ins VALUES (1, account('one'));
INSERT INTO attachments VALUES (1);
GRANT SELECT, DELETE ON check_ins TO regress_sd_job;
GRANT SELECT ON attachments TO regress_sd_job;
SET LOCAL ROLE regress_sd_job;
SELECT e ->> 'error' AS error FROM process_scheduled_deletions() r, jsonb_array_elements(r -> 'errors') e;
ROLLBACK;

-- triggers run with the job's rights, not with the extension's
CREATE FUNCTION who() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE NOTICE 'trigger runs as %', current_user; RETURN NULL; END $$;
CREATE TRIGGER who AFTER DELETE ON profiles EXECUTE FUNCTION who();
CREATE TRIGGER who AFTER INSERT ON audit_log EXECUTE FUNCTION who();
BEGIN;
SET LOCAL ROLE regress_sd_job;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT current_user;
ROLLBACK;
DROP TRIGGER who ON profiles;
DROP TRIGGER who ON audit_log;

-- row-level security that applies to the role hides rows: refused on every table
ALTER TABLE user_consent ENABLE ROW LEVEL SECURITY;
BEGIN; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
ALTER TABLE user_consent DISABLE ROW LEVEL SECURITY;
ALTER TABLE profiles ENABLE ROW LEVEL SECURITY;
BEGIN; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE profiles DISABLE ROW LEVEL SECURITY;
BEGIN; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
-- the owner too, if it is forced; not one that is exempt
ALTER TABLE profiles ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER ROLE regress_sd_job BYPASSRLS;
BEGIN; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted; ROLLBACK;
ALTER ROLE regress_sd_job NOBYPASSRLS;
ALTER TABLE profiles OWNER TO regress_sd_job;
BEGIN; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails

SELECT * FROM whole_accounts;
:clean_up
DROP ROLE regress_sd_job, regress_sd_other;
