-- The check tells what the job's role lacks, what is hidden from it, whose code it
-- would run, and whom the extension's schema lets in.
CREATE ROLE regress_sd_job;
CREATE ROLE regress_sd_app;
CREATE ROLE regress_sd_boss;
CREATE SCHEMA erasure;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
CREATE SCHEMA app;
SET search_path = app, erasure;
SET client_min_messages = warning;
CREATE TABLE users (id int PRIMARY KEY, boss int, deletion_scheduled_at timestamptz, deleted_at timestamptz);
CREATE INDEX ON users (deletion_scheduled_at);
CREATE SEQUENCE tick;
CREATE TABLE audit_log (id serial, user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
CREATE TABLE posts (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users ON DELETE CASCADE, title text);
CREATE INDEX ON posts (user_id);
CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users);
CREATE INDEX ON orders (user_id);
CREATE TABLE notes (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE SET NULL, note text);
CREATE INDEX ON notes (user_id);
SELECT add_deletion_policy('users', 'users', done_column => 'deleted_at');
SELECT add_deletion_step('users', 'orders', '{user_id}', action => 'set null');

-- for a superuser all is well; a role that may nothing lacks this
SELECT * FROM check_deletion_policy('users');
SELECT severity, code, object, message FROM check_deletion_policy('users', 'regress_sd_job');
SELECT remedy FROM check_deletion_policy('users', 'regress_sd_job') \gexec
SELECT * FROM check_deletion_policy('users', 'regress_sd_job');

-- the caller is the role unless it says another; it needs EXECUTE on the check alone
SET ROLE regress_sd_job;
SELECT * FROM check_deletion_policy('users');  -- fails
RESET ROLE;
GRANT EXECUTE ON FUNCTION check_deletion_policy TO regress_sd_job, regress_sd_app;
GRANT USAGE ON SCHEMA erasure TO regress_sd_app;
SET ROLE regress_sd_job;
SELECT * FROM check_deletion_policy('users');
SET ROLE regress_sd_app;
SELECT severity, code, object FROM check_deletion_policy('users');
SELECT * FROM check_deletion_policy('users', 'regress_sd_job');
RESET ROLE;

-- row-level security
ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
SELECT severity, code, object, message, detail, hint FROM check_deletion_policy('users', 'regress_sd_job');
SELECT remedy FROM check_deletion_policy('users', 'regress_sd_job') LIMIT 1 \gexec
SELECT * FROM check_deletion_policy('users', 'regress_sd_job');
ALTER ROLE regress_sd_job NOBYPASSRLS;
ALTER TABLE posts DISABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log DISABLE ROW LEVEL SECURITY;

-- code of others, where a run executes it
GRANT ALL ON SCHEMA app TO regress_sd_app, regress_sd_boss;
SET ROLE regress_sd_app;
CREATE FUNCTION app.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION app.length_of(text) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT length($1)';
CREATE FUNCTION app.next() RETURNS int LANGUAGE sql AS 'SELECT 1';
SET ROLE regress_sd_boss;
CREATE FUNCTION app.trusted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
RESET ROLE;
GRANT regress_sd_job TO regress_sd_boss;
CREATE TRIGGER a AFTER DELETE ON posts EXECUTE FUNCTION fires();
CREATE FUNCTION app.fires_as_owner() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NULL; END';
ALTER FUNCTION app.fires_as_owner OWNER TO regress_sd_app;
CREATE TRIGGER a1 AFTER DELETE ON posts EXECUTE FUNCTION fires_as_owner();
CREATE TRIGGER b AFTER INSERT OR UPDATE ON posts EXECUTE FUNCTION fires();
CREATE TRIGGER c AFTER DELETE ON users EXECUTE FUNCTION trusted();
CREATE TRIGGER d AFTER UPDATE ON notes EXECUTE FUNCTION fires();
CREATE TRIGGER e AFTER INSERT ON audit_log EXECUTE FUNCTION fires();
CREATE INDEX posts_title ON posts (app.length_of(title)) WHERE app.length_of(title) > 3;
ALTER TABLE posts ALTER id SET DEFAULT app.next(), ADD CHECK (app.length_of(title) > 0);
ALTER TABLE audit_log ALTER performed_by SET DEFAULT app.next();
ALTER TABLE notes ADD CONSTRAINT short CHECK (app.length_of(note) < 1000);
SELECT severity, code, object, message FROM check_deletion_policy('users', 'regress_sd_job');
SELECT DISTINCT detail, hint FROM check_deletion_policy('users', 'regress_sd_job');
SELECT severity, code, object FROM check_deletion_policy('users') LIMIT 1;
CREATE RULE also AS ON DELETE TO posts DO ALSO SELECT app.next();
CREATE TRIGGER f AFTER DELETE ON orders FOR EACH ROW WHEN (app.next() > 0) EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE TRIGGER g AFTER UPDATE ON orders FOR EACH ROW WHEN (app.next() > 0) EXECUTE FUNCTION suppress_redundant_updates_trigger();
-- as one that has the guard's name, and its function
CREATE TRIGGER guard_held_accounts AFTER DELETE ON posts FOR EACH ROW WHEN (app.next() > 0) EXECUTE FUNCTION refuse_held_account();
CREATE FUNCTION app.longer(text, int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT length($1) > $2';
ALTER FUNCTION app.longer OWNER TO regress_sd_app;
CREATE OPERATOR app.>>>> (FUNCTION = app.longer, LEFTARG = text, RIGHTARG = int);
ALTER TABLE audit_log ADD CHECK (action OPERATOR(app.>>>>) 3);
CREATE DOMAIN word AS text CHECK (app.length_of(VALUE) > 0);
ALTER TABLE audit_log ALTER action TYPE word;
SELECT message FROM check_deletion_policy('users', 'regress_sd_job') WHERE message !~ 'trigger [ade] |posts_title|short|performed_by';
GRANT regress_sd_job TO regress_sd_app;
SELECT * FROM check_deletion_policy('users', 'regress_sd_job');

-- nor does the check run such code with the rights of whoever checks
CREATE FUNCTION app.tells(int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'run as %', current_user; RETURN true; END $$;
CREATE INDEX ON posts (user_id) WHERE app.tells(1);
CREATE INDEX ON users (deleted_at) WHERE app.tells(1);
ALTER FUNCTION app.tells OWNER TO regress_sd_app;
SET client_min_messages = notice;
ALTER TABLE users ADD archived_at timestamptz;
SELECT code, object, detail FROM check_deletion_policy('users', 'regress_sd_app');
SET client_min_messages = warning;
ALTER TABLE users DROP archived_at;

-- default privileges where the extension is
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA erasure GRANT EXECUTE ON FUNCTIONS TO regress_sd_boss;
SELECT * FROM check_deletion_policy('users', 'regress_sd_job');
GRANT USAGE ON SCHEMA erasure TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA erasure GRANT SELECT ON TABLES TO regress_sd_app;
SELECT * FROM check_deletion_policy('users', 'regress_sd_job');

SET client_min_messages = warning;
DROP SCHEMA app CASCADE;
DROP EXTENSION scheduled_deletion;
DROP OWNED BY regress_sd_job, regress_sd_app, regress_sd_boss;
DROP SCHEMA erasure;
DROP ROLE regress_sd_job, regress_sd_app, regress_sd_boss;
