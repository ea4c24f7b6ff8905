-- The built-in policy is data: registered by the first call that needs it, with the
-- tables of the caller's search_path.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
-- a search_path without the application's schema
SET search_path = erasure;
SELECT process_scheduled_deletions();  -- fails
SELECT process_scheduled_deletions('built-in');  -- fails
SET search_path = app, erasure;
SELECT count(*) FROM deletion_policy;
-- all its tables are where profiles is: whoever may create tables in another schema
-- of the search_path does not get triggers called with the rights of the job
BEGIN;
ALTER TABLE user_consent RENAME TO consent;
CREATE SCHEMA other;
CREATE TABLE other.user_consent (user_id uuid);
SET LOCAL search_path = app, other, erasure;
SELECT process_scheduled_deletions();  -- fails
ROLLBACK;
-- registered by the first call, also by name
BEGIN;
SELECT process_scheduled_deletions('built-in') ->> 'policy' AS policy;
SELECT policy, account_table, account_table_name, key_columns, due_column, grace, done_column, audit_table, audit_table_name, audit_columns, audit_details, blocking_keys, time_zone, overdue_after, enabled, brake_accounts, brake_share FROM deletion_policy;
SELECT policy, position, step_table, step_table_name, columns, action, reason, after_account, via, via_name, via_columns, match FROM deletion_step ORDER BY position;
ROLLBACK;
SELECT process_scheduled_deletions() ->> 'policy' AS policy;
SELECT policy, account_table, key_columns, due_column, done_column, audit_table, enabled FROM deletion_policy;

-- from then on the search_path does not matter, and the rows do
SELECT add_account('elsewhere');
SET search_path = pg_catalog;
SELECT erasure.process_scheduled_deletions() -> 'total_records_deleted' AS deleted;
SET search_path = app, erasure;
SELECT add_account('consenting');
DELETE FROM deletion_step WHERE step_table = 'user_consent'::regclass;
SELECT process_scheduled_deletions() -> 'total_records_deleted' AS deleted;  -- the key's CASCADE takes the consents
SELECT count(*) FROM user_consent;

-- another application's tables of the same names, and temporary ones, are not taken
-- for those of the policy
SELECT add_account('mine'), add_account('mine too');
CREATE TEMPORARY TABLE profiles (id uuid PRIMARY KEY, deletion_scheduled_at timestamptz, deleted_at timestamptz);
INSERT INTO pg_temp.profiles VALUES (md5('temporary')::uuid, '2020-01-01');
SET search_path = pg_temp, app, erasure;
SELECT process_scheduled_deletions(max_accounts => 1) -> 'users_deleted' AS deleted;
DELETE FROM deletion_policy;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT count(*) FROM pg_temp.profiles;
SET search_path = pg_temp, erasure;
DELETE FROM deletion_policy;
SELECT process_scheduled_deletions();  -- fails
DROP TABLE pg_temp.profiles;
SET search_path = app, erasure;
:clean_up
