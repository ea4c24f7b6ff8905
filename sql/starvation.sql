-- No account, whatever its error, keeps others from being erased; and an error that
-- is nobody's makes nobody wait once it is mended.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
DROP TRIGGER do_not_wait ON erasure.deletion_failure;
CREATE TABLE erased (user_id text, action text, details jsonb, created_at timestamptz);
CREATE FUNCTION register(users regclass, key_columns name[] DEFAULT NULL) RETURNS text LANGUAGE sql SET client_min_messages = warning AS $$
    SELECT erasure.add_deletion_policy('users', users, key_columns, audit_table => 'erased', audit_columns => '{"performed_by": null}') $$;
CREATE FUNCTION misbehave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.bad IS NOT NULL THEN EXECUTE OLD.bad; END IF;
    RETURN OLD;
END $$;

-- a key that is longer than an index takes, or an account that is held by it
CREATE TABLE users (id bytea PRIMARY KEY, deletion_scheduled_at timestamptz DEFAULT '2020-01-01', bad text);
CREATE TRIGGER misbehave BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION misbehave();
SELECT register('users');
INSERT INTO users SELECT string_agg(sha256(n::text::bytea), ''), '2020-01-01', 'SELECT 1/0' FROM generate_series(1, 50) n;
INSERT INTO users SELECT sha256(n::text::bytea) FROM generate_series(1, 3) n;
SELECT outcome(process_scheduled_deletions('users'));
SELECT length(account), sqlstate FROM erasure.deletion_failure;
SELECT hold_account(id::text, 'case', policy => 'users') FROM users;
SELECT process_scheduled_deletions('users') -> 'users_held' AS held;
DELETE FROM erasure.deletion_hold;
SELECT remove_deletion_policy('users');
DROP TABLE users;

-- two accounts that can only go together, beside one that fails
CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz DEFAULT '2020-01-01', bad text);
CREATE TRIGGER misbehave BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION misbehave();
CREATE TABLE letters (sender int REFERENCES users ON DELETE CASCADE, receiver int REFERENCES users);
SELECT register('users');
INSERT INTO users (id, bad) VALUES (1, NULL), (2, 'SELECT 1/0'), (3, NULL);
INSERT INTO letters VALUES (1, 3), (3, 1);
SELECT outcome(process_scheduled_deletions('users'));
SELECT account, sqlstate, constraint_name FROM erasure.deletion_failure ORDER BY account;
DROP TABLE letters;
TRUNCATE users;
DELETE FROM erasure.deletion_failure;

-- those that fail with what sounds like everybody's error stand first and last, and
-- the call asks for few: next time, or the time after that, some other is tried
INSERT INTO users SELECT n, '2020-01-01', 'DELETE FROM no_such_table' FROM generate_series(1, 70) n;
INSERT INTO users SELECT n, '2020-01-02' FROM generate_series(101, 300) n;
INSERT INTO users SELECT n, '2020-01-03', 'DELETE FROM no_such_table' FROM generate_series(1001, 1070) n;
SELECT outcome(process_scheduled_deletions('users', max_accounts => 10));
SELECT outcome(process_scheduled_deletions('users', max_accounts => 180));
SELECT outcome(process_scheduled_deletions('users'));
-- also if nobody else is due but one that has failed before
UPDATE users SET deletion_scheduled_at = NULL WHERE id > 12;
DELETE FROM erasure.deletion_failure WHERE account::int > 12;
UPDATE users SET bad = NULL WHERE id = 1;
SELECT retry_account() > 0 AS waited;
INSERT INTO users VALUES (2000, '2019-01-01', 'DELETE FROM no_such_table');
SELECT outcome(process_scheduled_deletions('users', max_accounts => 5));
-- and they need not wait: the next run tries them all, and when it is mended, all go
SELECT outcome(process_scheduled_deletions('users'));
UPDATE users SET bad = NULL;
SELECT outcome(process_scheduled_deletions('users'));
SELECT count(*) FROM erasure.deletion_failure;

-- few can be deleted, and stand before all others that are due
INSERT INTO users SELECT n, '2020-01-01' FROM generate_series(1, 2) n;
INSERT INTO users SELECT n, '2020-01-02', 'DELETE FROM no_such_table' FROM generate_series(2001, 2400) n;
SELECT outcome(process_scheduled_deletions('users'));
TRUNCATE users;
DELETE FROM erasure.deletion_failure;

-- an error that sounds like the server's is an account's, if others can be deleted
CREATE FUNCTION sort_much() RETURNS void LANGUAGE plpgsql SET temp_file_limit = '64kB' SET work_mem = '64kB' AS $$
BEGIN PERFORM count(*) FROM (SELECT FROM generate_series(1, 100000) n ORDER BY n % 7) s; END $$;
INSERT INTO users (id, bad) VALUES (1, NULL), (2, $$SELECT lo_import('/no/such/file')$$), (3, 'SELECT app.sort_much()'),
    (4, 'SET LOCAL transaction_read_only = on'), (5, NULL);
SELECT outcome(process_scheduled_deletions('users'));
SELECT account, sqlstate, message FROM erasure.deletion_failure ORDER BY account;
-- and ends the run if nobody can
TRUNCATE users;
DELETE FROM erasure.deletion_failure;
INSERT INTO users SELECT n, '2020-01-01', 'SELECT app.sort_much()' FROM generate_series(10, 30) n;
SELECT process_scheduled_deletions('users');  -- fails
SELECT count(*) FROM erasure.deletion_failure;
TRUNCATE users;

-- the audit table's own error is nobody's, whenever it shows
CREATE FUNCTION not_now() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the audit is broken'; END $$;
CREATE CONSTRAINT TRIGGER not_now AFTER INSERT ON erased DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION not_now();
INSERT INTO users SELECT n FROM generate_series(1, 50) n;
SELECT process_scheduled_deletions('users');  -- fails
DROP TRIGGER not_now ON erased;
SELECT outcome(process_scheduled_deletions('users'));
-- but what an account has deferred is its own
CREATE CONSTRAINT TRIGGER not_now AFTER INSERT ON erased DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (false) EXECUTE FUNCTION not_now();
CREATE CONSTRAINT TRIGGER later AFTER DELETE ON users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION not_now();
INSERT INTO users SELECT n FROM generate_series(1, 3) n;
SELECT outcome(process_scheduled_deletions('users'));
SELECT account, message, next_attempt_at > last_attempt_at + interval '5 minutes' AS waits FROM erasure.deletion_failure;
DROP TRIGGER not_now ON erased;
DROP TRIGGER later ON users;
TRUNCATE users;
DELETE FROM erasure.deletion_failure;
-- after some batches
CREATE SEQUENCE number MAXVALUE 600;
ALTER TABLE erased ADD number int DEFAULT nextval('number');
INSERT INTO users SELECT n FROM generate_series(1, 700) n;
SELECT process_scheduled_deletions('users');  -- fails
SELECT count(*) FROM erasure.deletion_failure;
ALTER TABLE erased DROP number;
-- and for those that have failed before
UPDATE users SET bad = 'SELECT 1/0' WHERE id < 4;
SELECT outcome(process_scheduled_deletions('users'));
UPDATE users SET bad = NULL;
CREATE TRIGGER not_now BEFORE INSERT ON erased FOR EACH ROW EXECUTE FUNCTION not_now();
SELECT retry_account();
SELECT process_scheduled_deletions('users');  -- fails
SELECT max(attempts) FROM erasure.deletion_failure;
DROP TRIGGER not_now ON erased;
SELECT outcome(process_scheduled_deletions('users'));

-- what a migration has broken only for those who have such rows makes them wait for
-- nothing but the mending
CREATE TABLE posts (user_id int REFERENCES users ON DELETE CASCADE);
CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM no_such_table; RETURN OLD; END $$;
CREATE TRIGGER broken BEFORE DELETE ON posts FOR EACH ROW EXECUTE FUNCTION broken();
INSERT INTO users SELECT n FROM generate_series(1, 10) n;
INSERT INTO posts SELECT n FROM generate_series(2, 10) n;
SELECT outcome(process_scheduled_deletions('users'));
DROP TRIGGER broken ON posts;
SELECT outcome(process_scheduled_deletions('users'));
-- a table without a replica identity is refused before
CREATE TABLE files (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
ALTER TABLE files REPLICA IDENTITY NOTHING;
SET client_min_messages = error;
CREATE PUBLICATION regress_sd_p FOR TABLE files;
RESET client_min_messages;
INSERT INTO users VALUES (1);
SELECT process_scheduled_deletions('users');  -- fails
DROP PUBLICATION regress_sd_p;
SELECT outcome(process_scheduled_deletions('users'));
DROP TABLE posts, files;

-- an internal error of everybody's ends the run, and nobody is charged with it
INSERT INTO users SELECT n, '2020-01-01', 'SELECT amvalidate(0)' FROM generate_series(1, 100) n;
SELECT process_scheduled_deletions('users');  -- fails
SELECT count(*) FROM erasure.deletion_failure;
SELECT remove_deletion_policy('users');
DROP TABLE users;

-- accounts are remembered however the session writes its dates, and forgotten as they
-- were written
CREATE TABLE users (day date, number int, deletion_scheduled_at timestamptz DEFAULT '2020-01-01', bad text, PRIMARY KEY (day, number));
CREATE TRIGGER misbehave BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION misbehave();
SELECT register('users');
INSERT INTO users VALUES ('2020-02-03', 1, '2020-01-01', 'SELECT 1/0');
SET datestyle = 'SQL, DMY';
SELECT outcome(process_scheduled_deletions('users'));
SET datestyle = 'SQL, MDY';
SELECT account FROM erasure.deletion_failure;
INSERT INTO users VALUES ('2020-03-02', 1);
SELECT outcome(process_scheduled_deletions('users'));
RESET datestyle;
SELECT day FROM users;
UPDATE erasure.deletion_failure SET account = '("2020-02-03",  1)';
UPDATE users SET bad = NULL;
SELECT retry_account();
SELECT outcome(process_scheduled_deletions('users'));
SELECT count(*) FROM erasure.deletion_failure;

-- those that wait cost no pick of its own for each account that a call asks for
INSERT INTO users SELECT '2020-01-01', n, '2020-01-01', 'SELECT 1/0' FROM generate_series(1, 200) n;
INSERT INTO users SELECT '2020-01-02', n FROM generate_series(1, 3) n;
SELECT outcome(process_scheduled_deletions('users'));
INSERT INTO users SELECT '2020-01-03', n FROM generate_series(1, 3) n;
SELECT outcome(process_scheduled_deletions('users', max_accounts => 2));
SELECT outcome(process_scheduled_deletions('users', max_accounts => 2));
:clean_up
