-- What cannot start says what is wrong, where, and what to do, and changes nothing.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
-- tables come and go here: nothing may depend on them
DROP VIEW whole_accounts, broken_promises;
-- the hint of a missing table
CREATE FUNCTION hint() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    PERFORM process_scheduled_deletions();
    RETURN NULL;
EXCEPTION WHEN undefined_table THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN hint;
END
$$;
SELECT add_account('due');

-- arguments
SELECT process_scheduled_deletions(max_accounts => 0);  -- fails
SELECT process_scheduled_deletions(max_accounts => -1);  -- fails
SELECT process_scheduled_deletions(dry_run => NULL);  -- fails
SELECT process_scheduled_deletions('no such policy');  -- fails
SELECT process_scheduled_deletions('');  -- fails

-- the session
SET session_replication_role = replica;
SELECT process_scheduled_deletions();  -- fails
SET session_replication_role = local;
SELECT process_scheduled_deletions();  -- fails
RESET session_replication_role;
BEGIN READ ONLY;
SELECT process_scheduled_deletions();  -- fails
ROLLBACK;

-- tables of the built-in policy that are not there when it is to be registered
BEGIN;
ALTER TABLE profiles RENAME TO users;
SELECT process_scheduled_deletions();  -- fails
ROLLBACK;
BEGIN;
DROP TABLE crisis_plan;
SELECT process_scheduled_deletions();  -- fails
ROLLBACK;
BEGIN;
DROP TABLE audit_log;
SELECT process_scheduled_deletions();  -- fails
ROLLBACK;
-- the hint is the whole statement
BEGIN;
DROP TABLE audit_log;
SELECT hint() \gexec
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT count(*) FROM audit_log WHERE id IS NOT NULL AND created_at IS NOT NULL;
ROLLBACK;

-- columns that are not there, or not fit
BEGIN; ALTER TABLE profiles DROP COLUMN deletion_scheduled_at; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE profiles RENAME COLUMN deleted_at TO erased_at; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE profiles RENAME COLUMN id TO user_id; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE profiles ALTER deletion_scheduled_at TYPE text; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; SET LOCAL client_min_messages = warning; ALTER TABLE profiles DROP CONSTRAINT profiles_pkey CASCADE; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; SET LOCAL client_min_messages = warning; ALTER TABLE profiles DROP CONSTRAINT profiles_pkey CASCADE; ALTER TABLE profiles ADD PRIMARY KEY (id) DEFERRABLE; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; SET LOCAL client_min_messages = warning; ALTER TABLE profiles DROP CONSTRAINT profiles_pkey CASCADE; CREATE UNIQUE INDEX ON profiles (id) WHERE role <> 'admin'; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; CREATE TABLE more_profiles () INHERITS (profiles); SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; CREATE TABLE more_profiles () INHERITS (profiles); DROP TABLE more_profiles; SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted; ROLLBACK;
BEGIN; ALTER TABLE check_ins RENAME COLUMN user_id TO person; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE check_ins DROP CONSTRAINT check_ins_user_id_fkey, ALTER user_id TYPE bytea USING ''; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; DROP TABLE crisis_plan; CREATE VIEW crisis_plan AS SELECT account('x') AS user_id; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE audit_log DROP COLUMN details; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE audit_log ALTER details TYPE text; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE audit_log ALTER user_id TYPE int USING NULL; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE audit_log ALTER performed_by SET NOT NULL; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE audit_log SET UNLOGGED; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; DROP TABLE audit_log;
CREATE TABLE audit_log (user_id uuid, action text, details jsonb, performed_by uuid, created_at timestamptz) PARTITION BY HASH (user_id);
CREATE UNLOGGED TABLE audit_log_1 PARTITION OF audit_log FOR VALUES WITH (MODULUS 1, REMAINDER 0); SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE audit_log ADD tenant int NOT NULL; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; ALTER TABLE audit_log ADD FOREIGN KEY (user_id) REFERENCES profiles; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails


-- nothing was registered by any of these
SELECT count(*) AS policies FROM erasure.deletion_policy;

-- once it is registered, a rename is followed; what was dropped is named, with the
-- statement that mends it
SELECT process_scheduled_deletions(dry_run => false) -> 'users_deleted' AS deleted;
SELECT add_account('due again');
BEGIN;
ALTER TABLE profiles RENAME TO users;
ALTER TABLE check_ins RENAME TO visits;
CREATE SCHEMA attic;
ALTER TABLE user_consent SET SCHEMA attic;
SELECT process_scheduled_deletions() -> 'total_records_deleted' AS deleted;
ROLLBACK;
\set VERBOSITY terse
BEGIN; DROP TABLE crisis_plan; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
\set VERBOSITY default
BEGIN; DROP TABLE audit_log; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN; SET LOCAL client_min_messages = warning; DROP TABLE profiles CASCADE; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
BEGIN;
DROP TABLE audit_log;
SET LOCAL client_min_messages = warning;
SELECT regexp_replace(hint(), '^[^:]*: ', '') \gexec
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
ROLLBACK;
SELECT email FROM profiles;
:clean_up
