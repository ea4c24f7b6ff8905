-- The check tells what can keep a row, late or for good, and what the account and
-- audit tables are not fit for; and goes on after what a run would stop at.
CREATE SCHEMA erasure;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
CREATE SCHEMA app;
SET search_path = app, erasure;
SET client_min_messages = warning;
CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE INDEX ON users (deletion_scheduled_at);
CREATE TABLE audit_log (id int GENERATED ALWAYS AS IDENTITY, user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
CREATE TABLE posts (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users ON DELETE CASCADE);
CREATE INDEX ON posts (user_id);
CREATE TABLE marks (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE SET NULL);
CREATE INDEX ON marks (user_id);
SELECT add_deletion_policy('users', 'users');
SELECT * FROM check_deletion_policy('users');

-- triggers before a row, unless they surely let it go
CREATE FUNCTION lets() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id > 0 THEN RETURN OLD; END IF; return old ; END';
CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id > 0 THEN RETURN NULL; END IF; RETURN OLD; END';
CREATE FUNCTION forgets() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION loses() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN OLD := NULL; RETURN OLD; END';
CREATE FUNCTION tells() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF TG_OP = ''DELETE'' THEN RETURN OLD; END IF; RETURN NEW; END';
CREATE FUNCTION either() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN COALESCE(NEW, OLD); END';
CREATE TRIGGER a BEFORE DELETE ON posts FOR EACH ROW EXECUTE FUNCTION lets();
CREATE TRIGGER a2 BEFORE INSERT OR UPDATE OR DELETE ON posts FOR EACH ROW EXECUTE FUNCTION tells();
CREATE TRIGGER a3 BEFORE INSERT OR UPDATE OR DELETE ON posts FOR EACH ROW EXECUTE FUNCTION either();
CREATE TRIGGER b AFTER DELETE ON posts FOR EACH ROW EXECUTE FUNCTION keeps();
CREATE TRIGGER c BEFORE DELETE ON posts EXECUTE FUNCTION keeps();
CREATE TRIGGER d BEFORE UPDATE OR INSERT ON posts FOR EACH ROW EXECUTE FUNCTION keeps();
CREATE TRIGGER e BEFORE UPDATE ON marks FOR EACH ROW EXECUTE FUNCTION forgets();
CREATE TRIGGER f BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION forgets();
SELECT * FROM check_deletion_policy('users');
CREATE TRIGGER g BEFORE DELETE ON posts FOR EACH ROW EXECUTE FUNCTION keeps();
CREATE TRIGGER h BEFORE INSERT OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION forgets();
CREATE TRIGGER i BEFORE DELETE ON posts FOR EACH ROW EXECUTE FUNCTION loses();
CREATE TRIGGER j BEFORE DELETE ON posts FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE TRIGGER k BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION keeps();
SELECT severity, code, object, message FROM check_deletion_policy('users');
SELECT detail, hint FROM check_deletion_policy('users') WHERE object = 'users';
ALTER TABLE posts DISABLE TRIGGER USER;
ALTER TABLE users ENABLE REPLICA TRIGGER h;
DROP TRIGGER k ON audit_log;
SELECT * FROM check_deletion_policy('users');

-- rules that do something else
CREATE RULE a AS ON DELETE TO posts DO ALSO NOTHING;
CREATE RULE b AS ON UPDATE TO posts DO INSTEAD NOTHING;
SELECT * FROM check_deletion_policy('users');
CREATE RULE c AS ON DELETE TO posts WHERE old.id > 5 DO INSTEAD NOTHING;
CREATE RULE d AS ON UPDATE TO marks DO INSTEAD NOTHING;
CREATE RULE e AS ON INSERT TO audit_log DO INSTEAD NOTHING;
SELECT severity, code, object, message, detail FROM check_deletion_policy('users');
ALTER TABLE posts DISABLE RULE c;
DROP RULE d ON marks;
DROP RULE e ON audit_log;
SELECT * FROM check_deletion_policy('users');

-- what is checked at COMMIT, and once before
CREATE CONSTRAINT TRIGGER late AFTER DELETE ON posts DEFERRABLE FOR EACH ROW EXECUTE FUNCTION lets();
SELECT severity, code, object, message, detail, hint FROM check_deletion_policy('users');
DROP TRIGGER late ON posts;

-- a published table without replica identity
CREATE TABLE tags (user_id int REFERENCES users ON DELETE CASCADE, tag text);
CREATE INDEX ON tags (user_id);
CREATE TABLE events (user_id int NOT NULL REFERENCES users ON DELETE SET NULL, no int NOT NULL) PARTITION BY LIST (no);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
ALTER TABLE events ALTER user_id DROP NOT NULL;
CREATE UNIQUE INDEX ON events (no);
CREATE INDEX ON events (user_id);
SET client_min_messages = error;
CREATE PUBLICATION adds FOR TABLE tags WITH (publish = 'insert');
SELECT * FROM check_deletion_policy('users');
CREATE PUBLICATION everything FOR TABLE tags, events, posts;
SET client_min_messages = warning;
SELECT severity, code, object, message, detail, remedy FROM check_deletion_policy('users');
SELECT remedy FROM check_deletion_policy('users') \gexec
SELECT * FROM check_deletion_policy('users');
ALTER TABLE posts REPLICA IDENTITY NOTHING;
SELECT code, object, remedy FROM check_deletion_policy('users');
DROP PUBLICATION adds, everything;
DROP TABLE tags, events;

-- marks that the policy does not read, with the accounts that are due
ALTER TABLE users ADD deleted_at timestamptz, ADD is_deleted bool, ADD "deletedAt" date NOT NULL DEFAULT 'infinity';
INSERT INTO users VALUES (1, '2020-01-01', now(), true), (2, '2020-01-01', NULL, true), (3, NULL, now(), true), (4, '2020-01-01', now(), false);
SELECT severity, code, object, message, detail, hint, remedy FROM check_deletion_policy('users');
UPDATE users SET deletion_scheduled_at = NULL WHERE deleted_at IS NOT NULL;
SELECT alter_deletion_policy('users', done_column => 'deleted_at');
UPDATE users SET deletion_scheduled_at = '2020-01-01' WHERE deleted_at IS NOT NULL AND id <> 3;
SELECT code, object, detail FROM check_deletion_policy('users');

-- a done column that is there is not taken away, and a number is not a time
ALTER TABLE users ADD archived_at timestamptz, ADD deleted smallint DEFAULT 0;
SELECT code, object, detail, remedy FROM check_deletion_policy('users') WHERE object IN ('users(archived_at)', 'users(deleted)');
ALTER TABLE users DROP archived_at, DROP deleted;

-- accounts that are done, and have rows
ALTER TABLE users DROP is_deleted, DROP "deletedAt";
SELECT * FROM check_deletion_policy('users');
INSERT INTO posts VALUES (11, 1), (12, 1), (13, 2), (14, 4);
INSERT INTO marks VALUES (11, 1);
SELECT severity, code, object, message, detail, hint, remedy FROM check_deletion_policy('users');
DELETE FROM posts; DELETE FROM marks; DELETE FROM users;

-- what a run would stop at does not stop the check
ALTER TABLE marks ADD FOREIGN KEY (id) REFERENCES users;
ALTER TABLE audit_log DROP COLUMN details;
SELECT severity, code, object, message, hint FROM check_deletion_policy('users');
-- and it locks a table that is not fit before it reads its triggers
BEGIN;
SELECT count(*) > 0 AS found FROM check_deletion_policy('users');
SELECT mode FROM pg_locks WHERE relation = 'audit_log'::regclass AND pid = pg_backend_pid();
ROLLBACK;
ALTER TABLE marks DROP CONSTRAINT marks_id_fkey;
ALTER TABLE audit_log ADD details jsonb, ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
CREATE INDEX ON audit_log (user_id);
SELECT severity, code, object, message, remedy FROM check_deletion_policy('users');
SELECT remedy FROM check_deletion_policy('users') \gexec
ALTER TABLE audit_log ADD of int REFERENCES posts ON DELETE CASCADE, ADD FOREIGN KEY (performed_by) REFERENCES users ON DELETE CASCADE;
CREATE INDEX ON audit_log (of); CREATE INDEX ON audit_log (performed_by);
SELECT severity, code, object, message, remedy FROM check_deletion_policy('users');
SELECT remedy FROM check_deletion_policy('users') \gexec
SELECT * FROM check_deletion_policy('users');
ALTER TABLE audit_log DROP of;
ALTER TABLE audit_log ALTER action TYPE varchar(12);
SELECT severity, code, object, message FROM check_deletion_policy('users');
ALTER TABLE audit_log ALTER action TYPE text, ALTER user_id SET NOT NULL, ALTER user_id ADD GENERATED ALWAYS AS IDENTITY, ALTER id DROP IDENTITY, ALTER id DROP NOT NULL;
SELECT severity, code, object, message FROM check_deletion_policy('users');
ALTER TABLE audit_log ALTER user_id DROP IDENTITY;
ALTER TABLE audit_log RENAME TO log;
SELECT alter_deletion_policy('users', audit_table => 'posts', enabled => false);
SELECT severity, code, object, message FROM check_deletion_policy('users');
SELECT alter_deletion_policy('users', audit_table => 'posts_pkey', enabled => false);
SELECT severity, code, object, message FROM check_deletion_policy('users');
SELECT alter_deletion_policy('users', audit_table => 'log', enabled => true);
ALTER TABLE log RENAME TO audit_log;
SELECT * FROM check_deletion_policy('users');
SELECT add_deletion_step('users', 'marks', '{id}');
ALTER TABLE marks RENAME id TO no;
SELECT severity, code, object, message, hint FROM check_deletion_policy('users');
SELECT remove_deletion_step('users', 'marks');
SELECT add_deletion_step('users', 'posts', '{id}', action => 'keep', reason => 'law');  -- fails
ALTER TABLE users RENAME id TO no;
SELECT severity, code, object, message, hint FROM check_deletion_policy('users');
DROP TABLE audit_log;
SELECT severity, code, object, message FROM check_deletion_policy('users');
ALTER TABLE users RENAME no TO id;
SELECT severity, code, object, message FROM check_deletion_policy('users');
DROP TABLE users CASCADE;
SELECT severity, code, object, message, hint FROM check_deletion_policy('users');
SELECT alter_deletion_policy('users', enabled => false);
SELECT code FROM check_deletion_policy('users');
SELECT code FROM check_deletion_policy();  -- fails

-- the built-in policy is checked, too, and not registered by that
SELECT remove_deletion_policy('users');
DROP SCHEMA app CASCADE;
CREATE SCHEMA app;
\getenv srcdir PG_ABS_SRCDIR
\set schema :srcdir '/test/schema.sql'
\set ECHO none
\i :schema
\set ECHO all
START TRANSACTION READ ONLY;
SELECT policy, code, object FROM check_deletion_policy();
SELECT policy, count(*) FROM deletion_plan() GROUP BY 1;
COMMIT;
SELECT count(*) FROM deletion_policy;
INSERT INTO profiles (id, email) VALUES ('00000000-0000-0000-0000-000000000001', 'a');
SELECT schedule_account_deletion('00000000-0000-0000-0000-000000000001') > now() AS scheduled;
SELECT count(*) FROM deletion_policy;
SET lock_timeout = 1;
DROP TABLE profiles CASCADE;
SELECT code FROM check_deletion_policy('built-in');  -- fails

SET client_min_messages = warning;
DROP SCHEMA app CASCADE;
DROP EXTENSION scheduled_deletion;
DROP SCHEMA erasure;
