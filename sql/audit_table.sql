-- The audit table and its columns can have any names; one that cannot take the rows
-- is refused with what is missing and the argument to give.
CREATE SCHEMA erasure;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
CREATE SCHEMA app;
SET search_path = app, erasure;
CREATE TABLE users (id int PRIMARY KEY, email text, plan jsonb, born date, deletion_scheduled_at timestamptz);
CREATE SCHEMA trail;
CREATE TABLE trail."Audit" (id serial, "userId" int NOT NULL, "Action" varchar(20), "Details" jsonb, "createdAt" timestamptz, note text DEFAULT 'x');
CREATE PROCEDURE due() LANGUAGE sql AS $$ INSERT INTO users VALUES (1, 'a@b', '{"name": "gold"}', NULL, '2020-01-01'), (2, 'c@d', '[1, null]', '1970-01-01', '2020-01-01') $$;

-- as the hint says
SELECT add_deletion_policy('users', 'users', audit_table => 'trail."Audit"');  -- fails
SELECT add_deletion_policy('users', 'users', audit_table => 'trail."Audit"',
    audit_columns => '{"user_id": "userId", "action": "Action", "details": "Details", "performed_by": null, "created_at": "createdAt"}');
CALL due();
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT "userId", "Action", "Details" -> 'deleted_records' AS records, "createdAt" <= clock_timestamp() AS at FROM trail."Audit" ORDER BY "userId";

-- what cannot be guessed is left to be filled in
CREATE TABLE events (who int, what text, payload jsonb);
SELECT alter_deletion_policy('users', audit_table => 'events', audit_columns => '{}');  -- fails
SELECT alter_deletion_policy('users', audit_table => 'events', audit_columns => '{"user_id": "who", "action": "what", "details": "payload", "performed_by": null, "created_at": null}');
CALL due();
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT who, what FROM events ORDER BY who;

-- what is no name for a column of it
\set VERBOSITY terse
SELECT alter_deletion_policy('users', audit_columns => '{"user": "who"}');  -- fails
SELECT alter_deletion_policy('users', audit_columns => '{"user_id": 1}');  -- fails
SELECT alter_deletion_policy('users', audit_columns => '["who"]');  -- fails
SELECT alter_deletion_policy('users', audit_columns => '"who"');  -- fails
SELECT alter_deletion_policy('users', audit_columns => '{"user_id": null, "action": "what", "details": "payload", "performed_by": null, "created_at": null}');  -- fails
SELECT alter_deletion_policy('users', audit_columns => '{"user_id": "what", "action": "who", "details": "payload", "performed_by": null, "created_at": null}');  -- fails
SELECT alter_deletion_policy('users', audit_table => 'users');  -- fails
CREATE VIEW history AS SELECT * FROM events;
SELECT alter_deletion_policy('users', audit_table => 'history');  -- fails
CREATE TEMPORARY TABLE gone (LIKE events);
SELECT alter_deletion_policy('users', audit_table => 'gone');  -- fails
\set VERBOSITY default

-- a key of another type than the column's goes in as text, one of several columns too
CREATE TABLE audit_log (user_id varchar, action text, details jsonb, performed_by text, created_at timestamptz);
SELECT alter_deletion_policy('users', audit_table => 'audit_log', audit_columns => '{}');
CALL due();
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
CREATE TABLE members (org text, person int, deletion_scheduled_at timestamptz, PRIMARY KEY (org, person));
SELECT add_deletion_policy('members', 'members');
CREATE TYPE pair AS (org text, person int);
INSERT INTO members VALUES ('a, b', 1, '2020-01-01'), ('"', 2, '2020-01-01');
SELECT process_scheduled_deletions('members') -> 'users_deleted' AS deleted;
SELECT user_id, user_id LIKE '(%' AND (user_id::pair).org IN ('a, b', '"') AS as_a_row FROM audit_log ORDER BY user_id COLLATE "C";

-- columns of the account are kept if the policy says so, as they were under the lock
SELECT alter_deletion_policy('users', audit_details => '{plan,born}');
CALL due();
SELECT process_scheduled_deletions('users') -> 'users_deleted' AS deleted;
SELECT details -> 'account' AS account FROM audit_log WHERE details ? 'account' ORDER BY user_id;
SELECT alter_deletion_policy('users', audit_details => '{}');
CALL due();
SELECT process_scheduled_deletions('users') -> 'users_deleted' AS deleted;
SELECT count(*) FROM audit_log WHERE details ? 'account';

SET client_min_messages = warning;
DROP SCHEMA app, trail CASCADE;
DROP EXTENSION scheduled_deletion;
DROP SCHEMA erasure;
