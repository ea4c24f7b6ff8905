-- What triggers of a run write under rows that are about to go is judged and counted like
-- all others, or fails its account: the server's own action takes none.  Nor is anything
-- of that lost if code of users calls the extension, or executes its statements.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
CREATE TABLE trail (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);
CREATE FUNCTION run(policy text) RETURNS TABLE (deleted text, skipped text, failed text, records jsonb, set_null jsonb, error text) LANGUAGE sql AS $$
    SELECT r ->> 'users_deleted', r ->> 'users_skipped', r ->> 'users_failed', r -> 'total_records_deleted', r -> 'set_null_records', r -> 'errors' -> 0 ->> 'error'
    FROM process_scheduled_deletions(policy) r $$;
CREATE TABLE orgs (id int PRIMARY KEY, due timestamptz);
CREATE TABLE teams (id int PRIMARY KEY, org_id int REFERENCES orgs ON DELETE CASCADE);
CREATE TABLE members (id int PRIMARY KEY, team_id int REFERENCES teams ON DELETE CASCADE, due timestamptz);
CREATE TABLE files (id int PRIMARY KEY, team_id int REFERENCES teams ON DELETE CASCADE);
CREATE TABLE links (id int PRIMARY KEY, team_id int REFERENCES teams ON DELETE SET NULL, org_id int REFERENCES orgs ON DELETE SET NULL);
INSERT INTO orgs VALUES (1, '2020-01-01'), (2, NULL);
INSERT INTO teams VALUES (10, 1), (20, 2);
INSERT INTO members VALUES (100, 10), (200, 20), (300, 20);
INSERT INTO files VALUES (1, 10);
INSERT INTO links VALUES (1, 10, NULL), (2, 10, NULL), (3, NULL, 1);
SET client_min_messages = warning;
SELECT add_deletion_policy('orgs', 'orgs', due_column => 'due', audit_table => 'trail'), add_deletion_policy('members', 'members', due_column => 'due', audit_table => 'trail');
RESET client_min_messages;
SELECT hold_account('200', 'case 1', policy => 'members');

-- a member is written when a file goes: counted, and so is what was set to null before
BEGIN;
CREATE FUNCTION add_member() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO members VALUES (500 + OLD.id, OLD.team_id); RETURN NULL; END $$;
CREATE TRIGGER add_member AFTER DELETE ON files FOR EACH ROW EXECUTE FUNCTION add_member();
SELECT * FROM run('orgs');
SELECT id FROM members ORDER BY id;
ROLLBACK;
-- or a living one is moved there, who is on hold, or not
BEGIN;
CREATE FUNCTION move_member() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE members SET team_id = OLD.team_id WHERE id = 200; RETURN NULL; END $$;
CREATE TRIGGER move_member AFTER DELETE ON files FOR EACH ROW EXECUTE FUNCTION move_member();
SELECT * FROM run('orgs');
SELECT id FROM members ORDER BY id;
ROLLBACK;
-- when the team itself goes, it is too late
BEGIN;
CREATE FUNCTION move_member() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE members SET team_id = OLD.id WHERE id = 200; RETURN OLD; END $$;
CREATE TRIGGER move_member BEFORE DELETE ON teams FOR EACH ROW EXECUTE FUNCTION move_member();
SELECT * FROM run('orgs');
SELECT id FROM members ORDER BY id;
ROLLBACK;
-- or the account
BEGIN;
CREATE FUNCTION move_team() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE teams SET org_id = OLD.id WHERE id = 20; RETURN OLD; END $$;
CREATE TRIGGER move_team BEFORE DELETE ON orgs FOR EACH ROW EXECUTE FUNCTION move_team();
SELECT * FROM run('orgs');
SELECT id FROM members ORDER BY id;
ROLLBACK;
-- one that never ends
BEGIN;
CREATE FUNCTION add_member() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO members VALUES (1 + OLD.id, OLD.team_id); RETURN NULL; END $$;
CREATE TRIGGER add_member AFTER DELETE ON members FOR EACH ROW EXECUTE FUNCTION add_member();
SELECT * FROM run('orgs');
ROLLBACK;
-- a rule that calls the extension before the rows go
BEGIN;
CREATE TABLE called (by int);
CREATE FUNCTION call(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    PERFORM release_account('999', policy => 'members');
    UPDATE members SET team_id = $1 WHERE id = 200;
    RETURN $1;
END $$;
CREATE RULE call AS ON DELETE TO teams DO ALSO INSERT INTO called SELECT call(OLD.id);
SELECT * FROM run('orgs');
SELECT id FROM members ORDER BY id;
ROLLBACK;

-- what a trigger of the audit table writes comes after all that was to go, and fails nobody
BEGIN;
CREATE TABLE people (id int PRIMARY KEY, due timestamptz);
CREATE TABLE events (person_id int, what text);
INSERT INTO people VALUES (1, '2020-01-01'), (2, '2020-01-01');
INSERT INTO events VALUES (1, 'login'), (2, 'login');
SET LOCAL client_min_messages = warning;
SELECT add_deletion_policy('people', 'people', due_column => 'due', audit_table => 'trail');
SELECT add_deletion_step('people', 'events', '{person_id}');
RESET client_min_messages;
CREATE FUNCTION add_event() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO events VALUES (NEW.user_id::int, NEW.action); RETURN NULL; END $$;
CREATE TRIGGER add_event AFTER INSERT ON trail FOR EACH ROW EXECUTE FUNCTION add_event();
SELECT * FROM run('people');
SELECT * FROM events ORDER BY person_id;
ROLLBACK;
-- code of users that runs while our statement is planned, and executes the same
CREATE TABLE users (id int, due timestamptz, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE users_1 PARTITION OF users FOR VALUES FROM (1) TO (100);
CREATE TABLE users_2 PARTITION OF users FOR VALUES FROM (100) TO (200);
CREATE TABLE notes (user_id int REFERENCES users ON DELETE CASCADE);
INSERT INTO users VALUES (1, '2020-01-01'), (101, '2020-01-01'), (150, '2130-01-01');
INSERT INTO notes SELECT id FROM users;
SET client_min_messages = warning;
SELECT add_deletion_policy('users', 'users', due_column => 'due', audit_table => 'trail', brake_share => 1);
RESET client_min_messages;
CREATE FUNCTION delete_another(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'DELETE FROM app.users t WHERE t.id OPERATOR(pg_catalog.=) ANY ($1::integer[]) AND t.due OPERATOR(pg_catalog.<=) $2 RETURNING t.id'
    USING ARRAY[150], 'infinity'::timestamptz;
    RETURN true;
END $$;
ALTER TABLE users_2 ADD CHECK (delete_another(1)) NOT VALID;
SELECT * FROM run('users');
SELECT user_id FROM notes WHERE user_id NOT IN (SELECT id FROM users);

\set QUIET on
SET client_min_messages = warning;
DROP SCHEMA app, erasure CASCADE;
