-- A policy is registered in one call for any table, validated then and again when it
-- runs; several run in turn, and a broken one stops no other.
CREATE SCHEMA erasure;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
CREATE SCHEMA app;
SET search_path = app, erasure;
CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE, tenant int, deletion_scheduled_at timestamptz, deleted_at timestamptz);
CREATE TABLE posts (id int, user_id int REFERENCES users);
CREATE TABLE guests (code text PRIMARY KEY, leaves timestamptz);
CREATE FUNCTION told(report jsonb) RETURNS TABLE (key text, value jsonb) LANGUAGE sql AS $$
    SELECT k, report -> k FROM unnest('{policy,users_processed,users_deleted,users_failed,stop_reason,total_records_deleted,policies_failed,fatal_error,sqlstate,hint}'::text[]) k
    WHERE report ? k $$;

-- the audit table comes first; the hint makes it
SELECT add_deletion_policy('users', 'users');  -- fails
CREATE TABLE app.audit_log (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id text, action text NOT NULL, details jsonb, performed_by text, created_at timestamptz NOT NULL DEFAULT now());
SELECT add_deletion_policy('users', 'users');
SELECT add_deletion_policy('users', 'users');  -- fails
SELECT add_deletion_policy('guests', 'guests', due_column => 'leaves', grace => '30 days', overdue_after => '3 days');
SELECT alter_deletion_policy('users', done_column => 'deleted_at', blocking_keys => 'delete', grace => '1 day', audit_details => '{tenant}');
SELECT policy, account_table, account_table_name, key_columns, due_column, grace, done_column, audit_table, audit_table_name, audit_columns, audit_details, blocking_keys, time_zone, overdue_after, enabled, brake_accounts, brake_share FROM deletion_policy ORDER BY policy;
SELECT alter_deletion_policy('users', done_column => '');
SELECT done_column, blocking_keys, grace FROM deletion_policy WHERE policy = 'users';
SELECT alter_deletion_policy('users', grace => '0');

-- what cannot be registered is not
\set VERBOSITY terse
SELECT add_deletion_policy(NULL, 'users');  -- fails
SELECT add_deletion_policy('', 'users');  -- fails
SELECT add_deletion_policy('u', NULL);  -- fails
SELECT add_deletion_policy('u', 1::regclass);  -- fails
SELECT add_deletion_policy('u', 'users', audit_table => 0::regclass);  -- fails
SELECT add_deletion_step('users', 1::regclass, '{a}');  -- fails
SELECT add_deletion_policy('u', 'users', key_columns => '{}');  -- fails
SELECT add_deletion_policy('u', 'users', key_columns => '{NULL}');  -- fails
SELECT add_deletion_policy('u', 'users', key_columns => '{tenant}');  -- fails
SELECT add_deletion_policy('u', 'users', key_columns => '{email}');  -- fails
SELECT add_deletion_policy('u', 'users', key_columns => '{nothing}');  -- fails
SELECT add_deletion_policy('u', 'users', due_column => 'nothing');  -- fails
SELECT add_deletion_policy('u', 'users', due_column => 'email');  -- fails
SELECT add_deletion_policy('u', 'users', done_column => 'nothing');  -- fails
ALTER TABLE users ADD gone boolean NOT NULL DEFAULT false;
SELECT add_deletion_policy('u', 'users', done_column => 'gone');  -- fails
ALTER TABLE users DROP gone, ADD gone timestamptz NOT NULL DEFAULT 'infinity';
SELECT add_deletion_policy('u', 'users', done_column => 'gone');  -- fails
ALTER TABLE users DROP gone;
SELECT add_deletion_policy('u', 'users', done_column => 'deletion_scheduled_at');  -- fails
SELECT add_deletion_policy('u', 'users', grace => '-1 day');  -- fails
SELECT add_deletion_policy('u', 'users', grace => '1001 years');  -- fails
-- ('infinity' is an interval since 17)
DO $$
BEGIN
    PERFORM add_deletion_policy('u', 'users', grace => 'infinity'::text::interval);
EXCEPTION WHEN invalid_datetime_format OR invalid_parameter_value THEN
    RAISE NOTICE 'refused';
END $$;
SELECT add_deletion_policy('u', 'users', overdue_after => '-1 day');  -- fails
SELECT add_deletion_policy('u', 'users', time_zone => 'Middle/Earth');  -- fails
SELECT add_deletion_policy('u', 'users', blocking_keys => 'ignore');  -- fails
SELECT add_deletion_policy('u', 'users', audit_details => '{nothing}');  -- fails
SELECT add_deletion_policy('u', 'users', audit_details => '{NULL}');  -- fails
SELECT add_deletion_policy('u', 'posts', due_column => 'id');  -- fails
CREATE VIEW people AS SELECT * FROM users;
CREATE TEMPORARY TABLE visitors (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE UNLOGGED TABLE crowd (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
SELECT add_deletion_policy('u', 'people', key_columns => '{id}');  -- fails
SELECT add_deletion_policy('u', 'visitors', audit_table => 'audit_log');  -- fails
SELECT add_deletion_policy('crowd', 'crowd'), remove_deletion_policy('crowd');
DROP VIEW people;
CREATE TABLE regions (id int PRIMARY KEY, deletion_scheduled_at timestamptz) PARTITION BY LIST (id);
CREATE TABLE region_1 PARTITION OF regions FOR VALUES IN (1);
SELECT add_deletion_policy('u', 'region_1');  -- fails
CREATE TABLE heirs () INHERITS (crowd);
SELECT add_deletion_policy('u', 'crowd');  -- fails
SELECT alter_deletion_policy('nobody', grace => '1 day');  -- fails
SELECT alter_deletion_policy(NULL);  -- fails
SELECT alter_deletion_policy('users', due_column => 'nothing');  -- fails
SELECT policy FROM deletion_policy ORDER BY policy;

-- a key of several columns, in any order, with a unique index on just them
CREATE TABLE members (org int NOT NULL, person int NOT NULL, note text, deletion_scheduled_at timestamptz);
SELECT add_deletion_policy('members', 'members');  -- fails
SELECT add_deletion_policy('members', 'members', '{person,org}');  -- fails
CREATE UNIQUE INDEX ON members (org, person) WHERE note IS NULL;
SELECT add_deletion_policy('members', 'members', '{person,org}');  -- fails
CREATE UNIQUE INDEX ON members (org, person, note);
SELECT add_deletion_policy('members', 'members', '{person,org}');  -- fails
CREATE UNIQUE INDEX ON members (org, person);
SELECT add_deletion_policy('members', 'members', '{person,org}');
SELECT add_deletion_step('members', 'posts', '{id}');  -- fails
\set VERBOSITY default

-- all that are enabled, each in its turn, and the sums
INSERT INTO users VALUES (1, 'a', 1, '2020-01-01'), (2, 'b', 1, '2020-01-02'), (3, 'c', 1, NULL);
INSERT INTO posts VALUES (1, 1), (2, 1), (3, 3);
INSERT INTO guests VALUES ('g1', '2020-01-01'), ('g2', now() - interval '29 days');
INSERT INTO members VALUES (1, 1, NULL, '2020-01-01'), (1, 2, NULL, '2020-01-01'), (2, 1, NULL, NULL);
CREATE TABLE run AS SELECT process_scheduled_deletions() AS report;
SELECT told.* FROM run, told(report);
SELECT policies.key AS name, told.* FROM run, jsonb_each(report -> 'policies') AS policies, told(policies.value) WHERE told.key <> 'policy';
SELECT (SELECT count(DISTINCT details -> 'run_id') FROM audit_log) AS run_ids, jsonb_object_keys(report) AS keys FROM run;
SELECT user_id, details ->> 'policy' AS policy, details -> 'account' AS account FROM audit_log ORDER BY 2, 1;
-- one by name
INSERT INTO users VALUES (1, 'a', 1, '2020-01-01'), (2, 'b', 1, '2020-01-02');
INSERT INTO members VALUES (1, 1, NULL, '2020-01-01'), (1, 2, NULL, '2020-01-01');
SELECT told.* FROM told(process_scheduled_deletions('members')) WHERE key IN ('policy', 'users_deleted');
-- the limit is that of the call
INSERT INTO members VALUES (1, 1, NULL, '2020-01-01'), (1, 2, NULL, '2020-01-01');
SELECT told.* FROM told(process_scheduled_deletions(max_accounts => 3)) WHERE key IN ('users_deleted', 'stop_reason');
SELECT told.* FROM told(process_scheduled_deletions(max_accounts => 3)) WHERE key IN ('users_deleted', 'stop_reason');
-- rehearsed as well
INSERT INTO users VALUES (1, 'a', 1, '2020-01-01');
SELECT told.* FROM told(process_scheduled_deletions(dry_run => true)) WHERE key = 'users_deleted';
DELETE FROM users WHERE id = 1;
-- disabled
SELECT alter_deletion_policy('users', enabled => false);
SELECT process_scheduled_deletions('users');  -- fails
SELECT told.* FROM told(process_scheduled_deletions()) WHERE key = 'users_deleted';
SELECT count(*) FROM deletion_plan('users');
SELECT alter_deletion_policy('users', enabled => true);

-- one that is broken is there with its reason, and the others go on; named, it raises
BEGIN;
ALTER TABLE members RENAME person TO human;
INSERT INTO users VALUES (1, 'a', 1, '2020-01-01');
SELECT told.* FROM told(process_scheduled_deletions()) WHERE key IN ('users_deleted', 'total_records_deleted', 'policies_failed');
SELECT told.* FROM told(process_scheduled_deletions() #> '{policies,members}');
SELECT id FROM users;
SAVEPOINT s;
SELECT process_scheduled_deletions('members');  -- fails
ROLLBACK TO s;
-- nor is any other text told than ours
ALTER TABLE members RENAME human TO person;
INSERT INTO members VALUES (1, 1, NULL, '2020-01-01');
CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM no_such_table FROM "a@example.org"; RETURN NULL; END $$;
CREATE TRIGGER boom BEFORE DELETE ON members FOR EACH ROW EXECUTE FUNCTION boom();
SELECT told.* FROM told(process_scheduled_deletions() #> '{policies,members}');
ROLLBACK;
-- if none can run, it raises
BEGIN;
DROP TABLE audit_log;
SELECT process_scheduled_deletions();  -- fails
ROLLBACK;
-- a cancelled statement is not one policy's
BEGIN;
CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
CREATE TRIGGER doze BEFORE DELETE ON users FOR EACH STATEMENT EXECUTE FUNCTION doze();
INSERT INTO users VALUES (1, 'a', 1, '2020-01-01');
SET LOCAL statement_timeout = '200ms';
SELECT process_scheduled_deletions();  -- fails
ROLLBACK;

-- schemas change: what was renamed is followed, what is gone is named, with the call
-- that mends it
SELECT add_deletion_step('users', 'posts', '{user_id}');
BEGIN;
ALTER TABLE users RENAME TO people_now; ALTER TABLE posts SET SCHEMA public; ALTER TABLE audit_log RENAME TO trail;
INSERT INTO people_now VALUES (1, 'a', 1, '2020-01-01');
INSERT INTO public.posts VALUES (1, 1);
SELECT told.* FROM told(process_scheduled_deletions('users')) WHERE key = 'total_records_deleted';
ROLLBACK;
BEGIN; ALTER TABLE users RENAME id TO key; SELECT process_scheduled_deletions('users'); ROLLBACK;  -- fails
BEGIN; ALTER TABLE users DROP deletion_scheduled_at; SELECT process_scheduled_deletions('users'); ROLLBACK;  -- fails
BEGIN; ALTER TABLE users DROP tenant; SELECT process_scheduled_deletions('users'); ROLLBACK;  -- fails
BEGIN; ALTER TABLE posts RENAME user_id TO author; SELECT process_scheduled_deletions('users'); ROLLBACK;  -- fails
BEGIN; ALTER TABLE audit_log RENAME user_id TO "userId"; SELECT process_scheduled_deletions('users'); ROLLBACK;  -- fails
-- and these calls do mend it
BEGIN;
ALTER TABLE users RENAME id TO key; ALTER TABLE posts RENAME user_id TO author; ALTER TABLE audit_log RENAME user_id TO "userId";
SELECT remove_deletion_step('users', 'posts');
SELECT alter_deletion_policy('users', key_columns => '{key}', audit_columns => '{"user_id": "userId"}');
SELECT add_deletion_step('users', 'posts', '{author}');
SELECT told.* FROM told(process_scheduled_deletions('users')) WHERE key = 'users_deleted';
ROLLBACK;
BEGIN;
DROP TABLE posts;
SELECT step_table::oid AS dropped FROM deletion_step \gset
SELECT remove_deletion_step('users', :dropped);
SELECT told.* FROM told(process_scheduled_deletions('users')) WHERE key = 'users_deleted';
ROLLBACK;
-- one that is broken can be disabled, and removed
BEGIN;
ALTER TABLE users RENAME id TO key;
SELECT alter_deletion_policy('users', enabled => false);
SELECT remove_deletion_policy('users'), remove_deletion_policy('users'), remove_deletion_policy(NULL) IS NULL AS null;
SELECT count(*) FROM deletion_step;
ROLLBACK;

-- only who may write policies does, and needs no right on the tables of the extension
CREATE ROLE regress_sd_operator;
SET ROLE regress_sd_operator;
SELECT erasure.add_deletion_policy('x', 'app.users');  -- fails
RESET ROLE;
GRANT USAGE ON SCHEMA app, erasure TO regress_sd_operator;
SET ROLE regress_sd_operator;
SELECT add_deletion_policy('x', 'users');  -- fails
SELECT alter_deletion_policy('users', enabled => false);  -- fails
SELECT remove_deletion_policy('users');  -- fails
SELECT add_deletion_step('users', 'posts', '{user_id}');  -- fails
SELECT remove_deletion_step('users', 'posts');  -- fails
SELECT deletion_plan('users');  -- fails
RESET ROLE;
GRANT EXECUTE ON FUNCTION alter_deletion_policy, deletion_plan TO regress_sd_operator;
SET client_min_messages = warning;
ANALYZE users;
SET ROLE regress_sd_operator;
SELECT alter_deletion_policy('users', enabled => true);
SELECT step_table, estimated_rows FROM deletion_plan('users');
RESET ROLE;

DROP SCHEMA app CASCADE;
DROP EXTENSION scheduled_deletion;
DROP SCHEMA erasure;
DROP ROLE regress_sd_operator;
