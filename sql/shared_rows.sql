-- What an account shares with one on hold stays, and so does the account: also where
-- several rows have the same keys, where more accounts are on hold than are read at
-- once, and where the hold is placed by a trigger of the run itself.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
CREATE TABLE trail (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);
CREATE FUNCTION run(policy text) RETURNS TABLE (deleted text, held text, failed text, error text) LANGUAGE sql AS $$
    SELECT r ->> 'users_deleted', r ->> 'users_held', r ->> 'users_failed', r -> 'errors' -> 0 ->> 'error'
    FROM process_scheduled_deletions(policy) r $$;

-- two keys that several accounts have in common
CREATE TABLE users (id int PRIMARY KEY, team int, grp int, due timestamptz);
CREATE TABLE notes (id int PRIMARY KEY, team int);
CREATE TABLE papers (id int PRIMARY KEY, grp int);
INSERT INTO users VALUES (1, 1, 1, '2020-01-01'), (2, 2, 2, '2020-01-01'), (3, 1, 2, NULL);
INSERT INTO papers VALUES (1, 2);
SET client_min_messages = warning;
SELECT add_deletion_policy('users', 'users', due_column => 'due', audit_table => 'trail');
SELECT add_deletion_step('users', 'notes', '{team}', via => 'users', via_columns => '{team}');
SELECT add_deletion_step('users', 'papers', '{grp}', via => 'users', via_columns => '{grp}');
RESET client_min_messages;
SELECT hold_account('3', 'x');
SELECT * FROM run('users');
SELECT * FROM papers;
-- one of two that have the other key in common with somebody else fails nobody else
INSERT INTO users VALUES (4, 1, 9, NULL), (5, 8, 9, '2020-01-01');
INSERT INTO papers VALUES (2, 9);
SELECT * FROM run('users');
SELECT * FROM papers;
-- the same from as many accounts as data made at random have
TRUNCATE users, notes, papers;
SELECT setseed(0.5);
INSERT INTO users SELECT i, (random() * 30)::int, (random() * 30)::int, CASE WHEN i % 2 = 0 THEN timestamptz '2020-01-01' END FROM generate_series(1, 300) i;
INSERT INTO notes SELECT i, i FROM generate_series(0, 30) i;
INSERT INTO papers SELECT i, i FROM generate_series(0, 30) i;
DELETE FROM deletion_failure;
DELETE FROM deletion_hold;
SELECT count(hold_account(id::text, 'x')) FROM users WHERE id % 101 = 1;
SELECT users_deleted > 0 AS any_deleted FROM jsonb_to_record(process_scheduled_deletions('users')) AS r (users_deleted int);
SELECT count(*) FROM users h JOIN deletion_hold ON account = h.id::text
WHERE NOT EXISTS (SELECT FROM notes WHERE team = h.team) OR NOT EXISTS (SELECT FROM papers WHERE grp = h.grp);
SELECT remove_deletion_policy('users');
DROP TABLE users, notes, papers;
DELETE FROM deletion_hold;

-- more accounts on hold than are read at once: rows of rows, by keys of other types
CREATE TABLE users (id bigint PRIMARY KEY, due timestamptz);
CREATE TABLE posts (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
CREATE TABLE comments (id int PRIMARY KEY, post_id smallint REFERENCES posts ON DELETE CASCADE, user_id bigint REFERENCES users ON DELETE CASCADE);
INSERT INTO users SELECT i, CASE WHEN i <= 6 THEN timestamptz '2020-01-01' END FROM generate_series(1, 700) i;
INSERT INTO posts SELECT i, i FROM generate_series(1, 20) i;
-- 1 writes to 11, on hold; 12, on hold, to 2; 3 to 4; 5 is on hold
INSERT INTO comments VALUES (1, 11, 1), (2, 2, 12), (3, 4, 3);
SET client_min_messages = warning;
SELECT add_deletion_policy('users', 'users', due_column => 'due', audit_table => 'trail');
RESET client_min_messages;
SELECT count(hold_account(i::text, 'x')) FROM generate_series(100, 600) i;
SELECT hold_account('11', 'y'), hold_account('12', 'z'), hold_account('5', 'w');
BEGIN;
SELECT * FROM run('users');
SELECT account, message FROM deletion_failure ORDER BY account;
SELECT array_agg(id ORDER BY id) FROM users WHERE id < 13;
ROLLBACK;
CALL run_scheduled_deletions('users', batch_size => 2, pause => '0', raise_on_failure => false) \g /dev/null
SELECT array_agg(id ORDER BY id) FROM users WHERE id < 13;
SELECT users_held, users_due FROM deletion_status;
-- those that have expired do not count; those placed by another type do
UPDATE deletion_hold SET held_until = '2020-01-01' WHERE account = '11';
SELECT retry_account() \g /dev/null
SELECT * FROM run('users');
ALTER TABLE users ALTER id TYPE numeric;
SELECT * FROM run('users');
SELECT array_agg(id ORDER BY id) FROM users WHERE id < 13;
SELECT remove_deletion_policy('users');
DROP TABLE users, posts, comments;
DELETE FROM deletion_hold;

-- a row that belongs to an account of another table, too, of which the plan knows nothing
CREATE TABLE patients (id int PRIMARY KEY, due timestamptz);
CREATE TABLE therapists (id int PRIMARY KEY, due timestamptz);
CREATE TABLE notes (id int PRIMARY KEY, patient_id int REFERENCES patients ON DELETE CASCADE, therapist_id int REFERENCES therapists ON DELETE CASCADE,
    read_by int REFERENCES therapists ON DELETE SET NULL);
INSERT INTO patients VALUES (1, '2020-01-01'), (2, '2020-01-01'), (3, '2020-01-01');
INSERT INTO therapists VALUES (5, NULL), (6, NULL);
INSERT INTO notes VALUES (1, 1, 5, 6), (2, 2, 6, 5), (3, 3, NULL, NULL);
SET client_min_messages = warning;
SELECT add_deletion_policy('patients', 'patients', due_column => 'due', audit_table => 'trail'), add_deletion_policy('therapists', 'therapists', due_column => 'due', audit_table => 'trail');
RESET client_min_messages;
SELECT hold_account('5', 'lawsuit', policy => 'therapists');
SELECT * FROM run('patients');
SELECT id, patient_id FROM notes;
SELECT position, step_table, action FROM deletion_plan('patients');
SELECT users_due, users_held, blocked_by FROM deletion_status WHERE policy = 'patients';
-- also one of many
INSERT INTO therapists SELECT i FROM generate_series(100, 400) i;
SELECT count(hold_account(id::text, 'x', policy => 'therapists')) FROM therapists WHERE id >= 100;
SELECT retry_account() \g /dev/null
SELECT * FROM run('patients');
SELECT release_account('5', policy => 'therapists');
SELECT * FROM run('patients');
SELECT remove_deletion_policy('patients'), remove_deletion_policy('therapists');
DROP TABLE patients, therapists, notes;
DELETE FROM deletion_hold;

-- by keys of partitions, to partitions, without a primary key, to another key, of other types
CREATE ROLE regress_sd_job;
CREATE TABLE patients (id int PRIMARY KEY, due timestamptz);
CREATE TABLE therapists (id bigint UNIQUE NOT NULL, code text UNIQUE NOT NULL, due timestamptz);
CREATE TABLE staff (id int PRIMARY KEY, due timestamptz) PARTITION BY HASH (id);
CREATE TABLE staff_1 PARTITION OF staff FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE notes (id int, patient_id int REFERENCES patients ON DELETE CASCADE, therapist_id int, code text, staff_id int) PARTITION BY RANGE (id);
CREATE TABLE notes_1 PARTITION OF notes FOR VALUES FROM (0) TO (100);
INSERT INTO patients SELECT i, '2020-01-01' FROM generate_series(1, 4) i;
INSERT INTO therapists VALUES (5, 'five'), (6, 'six');
INSERT INTO staff VALUES (7);
INSERT INTO notes VALUES (1, 1, 5, NULL, NULL), (2, 2, NULL, 'five', NULL), (3, 3, NULL, NULL, 7), (4, 4, 6, 'six', NULL);
SET client_min_messages = warning;
SELECT add_deletion_policy('patients', 'patients', due_column => 'due', audit_table => 'trail'), add_deletion_policy('therapists', 'therapists', due_column => 'due', audit_table => 'trail', key_columns => '{id}'),
    add_deletion_policy('staff', 'staff', due_column => 'due', audit_table => 'trail');
RESET client_min_messages;
GRANT USAGE ON SCHEMA app, erasure TO regress_sd_job;
GRANT SELECT, DELETE, UPDATE (due) ON patients TO regress_sd_job;
GRANT SELECT, DELETE ON notes TO regress_sd_job;
GRANT INSERT ON trail TO regress_sd_job;
GRANT EXECUTE ON FUNCTION process_scheduled_deletions TO regress_sd_job;
SELECT hold_account('5', 'a', policy => 'therapists'), hold_account('7', 'b', policy => 'staff');
BEGIN;
ALTER TABLE notes_1 ADD FOREIGN KEY (therapist_id) REFERENCES therapists (id) ON DELETE CASCADE, ADD FOREIGN KEY (staff_id) REFERENCES staff_1;
SET LOCAL ROLE regress_sd_job;
SELECT * FROM run('patients');
RESET ROLE;
SELECT account, message FROM deletion_failure ORDER BY account;
ROLLBACK;
-- to another key: the accounts have to be read
BEGIN;
ALTER TABLE notes ADD FOREIGN KEY (code) REFERENCES therapists (code);
SAVEPOINT s;
SET LOCAL ROLE regress_sd_job;
SELECT * FROM run('patients');  -- fails
ROLLBACK TO s;
GRANT SELECT ON therapists TO regress_sd_job;
SET LOCAL ROLE regress_sd_job;
SELECT * FROM run('patients');
ROLLBACK;
-- to a table that has the name of a lost one: nobody knows who of it is on hold
BEGIN;
DROP TABLE staff;
CREATE TABLE staff (id int PRIMARY KEY);
INSERT INTO staff VALUES (7);
ALTER TABLE notes ADD FOREIGN KEY (staff_id) REFERENCES staff ON DELETE CASCADE;
SELECT * FROM run('patients');  -- fails
ROLLBACK;
-- tables that nothing leads to do not matter, whatever their holds are
DROP TABLE staff;
CREATE TABLE staff (id uuid PRIMARY KEY);
SELECT * FROM run('patients');
SELECT remove_deletion_policy('patients'), remove_deletion_policy('therapists'), remove_deletion_policy('staff');
DROP TABLE patients, therapists, staff, notes;
DELETE FROM deletion_hold;
DROP OWNED BY regress_sd_job;
DROP ROLE regress_sd_job;

-- the first hold of all is placed by a trigger of the run, on somebody else
CREATE TABLE orgs (id int PRIMARY KEY, due timestamptz);
CREATE TABLE members (id int PRIMARY KEY, org_id int NOT NULL REFERENCES orgs ON DELETE CASCADE, due timestamptz);
CREATE TABLE files (id int PRIMARY KEY, org_id int NOT NULL REFERENCES orgs ON DELETE CASCADE);
INSERT INTO orgs VALUES (1, '2020-01-01'), (2, NULL), (3, '2020-01-02');
INSERT INTO members VALUES (100, 1), (200, 2);
INSERT INTO files VALUES (1, 1);
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM hold_account('200', 'file ' || OLD.id, policy => 'members'); RETURN OLD; END $$;
CREATE TRIGGER hold AFTER DELETE ON files FOR EACH ROW EXECUTE FUNCTION hold();
SET client_min_messages = warning;
SELECT add_deletion_policy('orgs', 'orgs', due_column => 'due', audit_table => 'trail'), add_deletion_policy('members', 'members', due_column => 'due', audit_table => 'trail');
RESET client_min_messages;
SELECT * FROM run('orgs');
SELECT account, reason FROM deletion_hold;

\set QUIET on
SET client_min_messages = warning;
DROP SCHEMA app, erasure CASCADE;
