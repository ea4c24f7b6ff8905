-- A table is followed when it is renamed or moved to another schema, but a number that is
-- another table's by now, as after a restore, is never taken for the one that was meant
\set VERBOSITY default
SET client_min_messages = warning;
CREATE SCHEMA remembered;
CREATE SCHEMA elsewhere;
SET search_path = remembered, public;
CREATE EXTENSION scheduled_deletion SCHEMA remembered;
CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE TABLE audit_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
CREATE TABLE posts (id int PRIMARY KEY, user_id int);
CREATE TABLE likes (post_id int);
CREATE TABLE orders (id int PRIMARY KEY, user_id int, post_id int);
CREATE FUNCTION fill() RETURNS void LANGUAGE sql AS $$
    TRUNCATE users, posts, likes, orders, audit_log;
    INSERT INTO users SELECT i, CASE WHEN i < 3 THEN timestamptz '2020-01-01' END FROM generate_series(1, 4) i;
    INSERT INTO posts SELECT i, i FROM generate_series(1, 4) i;
    INSERT INTO likes SELECT i FROM generate_series(1, 4) i;
    INSERT INTO orders SELECT i, i, i FROM generate_series(1, 4) i;
$$;
CREATE FUNCTION left_over() RETURNS TABLE (users bigint, posts bigint, likes bigint, orders bigint) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE (SELECT 'SELECT ' || string_agg(coalesce('(SELECT count(*) FROM ' || to_regclass(name) || ')', 'NULL::bigint'), ', ' ORDER BY n)
        FROM unnest('{users,posts,likes,orders}'::text[]) WITH ORDINALITY t (name, n));
END $$;
-- what is remembered, and whether the type is that of the table
CREATE VIEW remembered_now AS
    SELECT 'account' AS what, account_table AS number, account_table_name AS name, account_table_type = (SELECT reltype FROM pg_class WHERE oid = account_table) AS has_type FROM deletion_policy
    UNION ALL SELECT 'audit', audit_table, audit_table_name, audit_table_type = (SELECT reltype FROM pg_class WHERE oid = audit_table) FROM deletion_policy
    UNION ALL SELECT 'step', step_table, step_table_name, step_table_type = (SELECT reltype FROM pg_class WHERE oid = step_table) FROM deletion_step
    UNION ALL SELECT 'via', via, via_name, via_type = (SELECT reltype FROM pg_class WHERE oid = via) FROM deletion_step WHERE via_name IS NOT NULL
    UNION ALL SELECT 'hold', account_table, account_table_name, account_table_type = (SELECT reltype FROM pg_class WHERE oid = account_table) FROM deletion_hold
    ORDER BY 1, 3;
SELECT fill();
SELECT add_deletion_policy('users', 'users');
SELECT add_deletion_step('users', 'posts', '{user_id}'), add_deletion_step('users', 'likes', '{post_id}', via => 'posts');
SELECT hold_account('2', 'case 1');
SELECT * FROM remembered_now;

-- all are followed under other names, which a run remembers, and not a dry one
BEGIN;
ALTER TABLE users RENAME TO "The People";
ALTER TABLE posts SET SCHEMA elsewhere;
ALTER TABLE audit_log RENAME TO trail;
SELECT code, object FROM check_deletion_policy('users') WHERE severity = 'error';
SELECT process_scheduled_deletions(dry_run => true) -> 'total_records_deleted' AS deleted;
SELECT * FROM remembered_now;
SELECT report -> 'total_records_deleted' AS deleted, report -> 'users_held' AS held FROM process_scheduled_deletions() report;
SELECT * FROM remembered_now;
-- once they are known under that name, a table that has the old one is nothing to them
CREATE TABLE users (id int);
SELECT process_scheduled_deletions() -> 'users_held' AS held;
ROLLBACK;

-- nothing is written where nothing differs
SELECT ctid AS policy_at FROM deletion_policy \gset
BEGIN;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT ctid = :'policy_at' AS is_as_it_was FROM deletion_policy;
ROLLBACK;

-- what an older version has registered, or a dump brings, is known by its name alone
BEGIN;
UPDATE deletion_policy SET account_table_type = NULL, audit_table_type = 1;
UPDATE deletion_step SET step_table_type = NULL, via_type = NULL;
UPDATE deletion_hold SET account_table_type = NULL;
SELECT report -> 'total_records_deleted' AS deleted, report -> 'users_held' AS held FROM process_scheduled_deletions() report;
SELECT * FROM remembered_now;
ROLLBACK;

-- also if it was written with all quotes
BEGIN;
UPDATE deletion_policy SET account_table_type = NULL, account_table_name = '"remembered"."users"';
SELECT report -> 'total_records_deleted' AS deleted, report -> 'users_held' AS held FROM process_scheduled_deletions() report;
ROLLBACK;

--
-- The OID is another table's
--
CREATE FUNCTION finding() RETURNS TABLE (code text, object text, message text, hint text, remedy text) LANGUAGE sql AS $$
    SELECT code, object, message, regexp_replace(hint, '\d+\);', 'OID);'), regexp_replace(remedy, '\d+\)', 'OID)')
    FROM check_deletion_policy('users') WHERE severity = 'error'
$$;
CREATE FUNCTION run() RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
    RETURN process_scheduled_deletions('users') -> 'total_records_deleted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE, SQLERRM, regexp_replace(hint, '\d+\);', 'OID);'));
END $$;
\pset format unaligned
\pset tuples_only on

-- of a step: and the remedy does away with that step alone
BEGIN;
SELECT add_deletion_step('users', 'orders', '{user_id}');
UPDATE deletion_step SET step_table = 'orders', step_table_name = 'remembered.old_sessions' WHERE position = 1;
UPDATE deletion_step SET via = NULL, via_name = NULL, columns = '{post_id}' WHERE position = 2;
SELECT run();
SELECT * FROM finding();
SELECT * FROM left_over();
SELECT blocked_by FROM deletion_status;
SET LOCAL client_min_messages = notice;
SELECT remedy FROM check_deletion_policy('users') WHERE severity = 'error' \gset
:remedy;
SET LOCAL client_min_messages = warning;
SELECT step_table, step_table_name FROM deletion_step ORDER BY position;
SELECT run();
SELECT * FROM left_over();
ROLLBACK;

-- of a table that steps hang on
BEGIN;
UPDATE deletion_step SET via = 'orders' WHERE via_name IS NOT NULL;
SELECT run();
SELECT * FROM finding();
-- it is not taken for the account table
UPDATE deletion_step SET via = 0 WHERE via_name IS NOT NULL;
SELECT run();
SELECT * FROM finding();
SELECT * FROM left_over();
ROLLBACK;

-- of the account table
BEGIN;
ALTER TABLE orders ADD deletion_scheduled_at timestamptz DEFAULT '2020-01-01';
UPDATE deletion_policy SET account_table = 'orders';
SELECT run();
SELECT * FROM finding();
SELECT * FROM left_over();
SELECT policy, users_due, blocked_by FROM deletion_status;
SELECT * FROM deletion_plan();  -- fails
ROLLBACK;
BEGIN;
UPDATE deletion_policy SET account_table = 'orders';
SELECT schedule_account_deletion('4');  -- fails
ROLLBACK;
BEGIN;
UPDATE deletion_policy SET account_table = 'orders';
SELECT alter_deletion_policy('users', account_table => 'users');
SELECT run();
SELECT * FROM remembered_now;
ROLLBACK;

-- of the audit table
BEGIN;
CREATE TABLE trail (LIKE audit_log);
UPDATE deletion_policy SET audit_table = 'trail';
SELECT run();
SELECT * FROM finding();
SELECT count(*) FROM trail;
-- it is no audit table, from which nothing could be deleted
SELECT alter_deletion_policy('users', audit_table => 'audit_log');
SELECT run();
ROLLBACK;

-- of something that is no table
BEGIN;
UPDATE deletion_policy SET account_table = 'users_pkey';
SELECT run();
ROLLBACK;

-- a table that an older version has followed under another name has to be confirmed
BEGIN;
ALTER TABLE users RENAME TO people;
ALTER TABLE posts RENAME TO articles;
UPDATE deletion_policy SET account_table_type = NULL;
UPDATE deletion_hold SET account_table_type = NULL;
SELECT run();
SELECT alter_deletion_policy('users', account_table => 'people');
SELECT run();
SELECT * FROM remembered_now;
ROLLBACK;

-- what was dropped before a restore has no number at all; it is told as before
BEGIN;
UPDATE deletion_policy SET account_table = 0, account_table_name = 'remembered.members';
SELECT run();
SELECT * FROM finding();
SELECT policy, users_due, blocked_by FROM deletion_status;
ROLLBACK;
BEGIN;
UPDATE deletion_step SET step_table = 0, step_table_name = 'remembered.' || chr(96 + position);
SELECT run();
SELECT * FROM finding();
SELECT remove_deletion_step('users', 0);
SELECT run();
ROLLBACK;

--
-- Of holds
--
-- the real table is not there: nobody of another one is on hold, nor released, for it
BEGIN;
UPDATE deletion_hold SET account_table_name = 'remembered.members', account_table_type = 1;
SELECT run();
SELECT * FROM finding();
SELECT policy, users_due, blocked_by FROM deletion_status;
SELECT * FROM left_over();
SAVEPOINT s;
SELECT release_account('2');  -- fails
ROLLBACK TO s;
SELECT hold_account('2', 'case 1');  -- fails
ROLLBACK TO s;
UPDATE remembered.deletion_hold SET account_table = NULL WHERE account_table_name = 'remembered.members';
SELECT run();
SELECT account_table_name, reason FROM deletion_hold;
-- until it is there again
CREATE TABLE members (LIKE users INCLUDING ALL);
INSERT INTO members VALUES (2, '2020-01-01'), (3, '2020-01-01');
SELECT add_deletion_policy('members', 'members');
SELECT process_scheduled_deletions('members') -> 'users_held' AS held;
SELECT * FROM members;
SELECT * FROM remembered_now WHERE what = 'hold';
ROLLBACK;
-- the table that has the number was meant, under another name
BEGIN;
UPDATE deletion_hold SET account_table_name = 'remembered.members', account_table_type = NULL;
UPDATE remembered.deletion_hold SET account_table_name = 'remembered.users' WHERE account_table_name = 'remembered.members';
SELECT run();
SELECT * FROM left_over();
ROLLBACK;
-- the real table has another number, and is a step of another policy
BEGIN;
CREATE TABLE teams (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE TABLE members (id int PRIMARY KEY, team int REFERENCES teams ON DELETE CASCADE);
INSERT INTO teams VALUES (1, '2020-01-01'), (2, '2020-01-01');
INSERT INTO members VALUES (1, 1), (2, 2);
SELECT add_deletion_policy('teams', 'teams');
UPDATE deletion_hold SET account_table = 'orders', account_table_name = 'remembered.members', account_table_type = NULL;
SAVEPOINT s;
SELECT process_scheduled_deletions('teams');  -- fails
ROLLBACK TO s;
UPDATE deletion_hold SET account_table = NULL;
SELECT process_scheduled_deletions('teams');  -- fails
ROLLBACK TO s;
UPDATE remembered.deletion_hold SET account_table = 'remembered.members' WHERE account_table_name = 'remembered.members';
SELECT report -> 'users_deleted' AS deleted, report -> 'users_held' AS held FROM process_scheduled_deletions('teams') report;
SELECT * FROM members;
ROLLBACK;
-- one that has ended says nothing any more
BEGIN;
UPDATE deletion_hold SET account_table_name = 'remembered.members', account_table_type = 1, held_until = now() - interval '1 day';
SELECT run();
ROLLBACK;
-- holds move with the policy, under whatever number they are
BEGIN;
CREATE TABLE members (LIKE users INCLUDING ALL);
INSERT INTO members SELECT * FROM users;
UPDATE deletion_policy SET account_table = 'orders';
UPDATE deletion_hold SET account_table = 'orders';
SELECT alter_deletion_policy('users', account_table => 'members');
SELECT run();
SELECT * FROM members ORDER BY 1;
SELECT * FROM remembered_now;
ROLLBACK;
-- only those of the policy
BEGIN;
INSERT INTO deletion_hold (account_table, account_table_name, key_columns, account, reason, held_by, held_at)
    SELECT NULL, 'remembered.' || t, '{id}', '2', 'case 1', 'nobody', now() FROM unnest('{a,b}'::text[]) t;
UPDATE deletion_policy SET account_table = 0;
UPDATE deletion_hold SET account_table = NULL;
SELECT alter_deletion_policy('users', account_table => 'users');
SELECT * FROM remembered_now WHERE what = 'hold';
SELECT run();
ROLLBACK;

\pset format aligned
\pset tuples_only off
DROP SCHEMA remembered, elsewhere CASCADE;
