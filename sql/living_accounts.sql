-- No foreign key erases an account that is not due: one that leads back into the
-- account table stops the account it starts from, unless all go together.
CREATE SCHEMA erasure;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
\getenv srcdir PG_ABS_SRCDIR
\set at_once :srcdir '/test/at_once.sql'
\set ECHO none
\i :at_once
\set ECHO all
CREATE SCHEMA app;
SET search_path = app, erasure;
SET client_min_messages = warning;
CREATE TABLE audit_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
SELECT add_deletion_policy('users', 'users');
-- what became of the accounts: deleted, or why not
CREATE FUNCTION run() RETURNS TABLE (account int, result text) LANGUAGE plpgsql AS $$
DECLARE
    report jsonb := process_scheduled_deletions();
BEGIN
    RETURN QUERY
    SELECT user_id, 'deleted' FROM audit_log WHERE details -> 'run_id' = report -> 'run_id'
    UNION ALL
    SELECT (e ->> 'user_id')::int, e ->> 'error' FROM jsonb_array_elements(report -> 'errors') e
    ORDER BY 1;
END
$$;

-- a self-reference, whatever its action
ALTER TABLE users ADD invited_by int REFERENCES users ON DELETE CASCADE;
SELECT "position", step_table, columns, action, via FROM deletion_plan('users');
INSERT INTO users VALUES (1, '2020-01-01', NULL), (2, NULL, 1), (3, '2020-01-01', NULL), (4, '2020-01-02', 3),
    (5, '2020-01-01', 5), (6, '2020-01-01', NULL), (7, '2020-01-01', 6), (8, NULL, 7);
SELECT * FROM run();
SELECT array_agg(id ORDER BY id) AS users FROM users;
ALTER TABLE users DROP invited_by, ADD invited_by int REFERENCES users;
INSERT INTO users VALUES (3, '2020-01-01', NULL), (4, '2020-01-02', 3), (5, '2020-01-01', 5);
UPDATE users SET invited_by = 7 WHERE id = 8;
UPDATE users SET invited_by = 6 WHERE id = 7;
SELECT * FROM run();
-- unless a step sets the column to null
BEGIN;
SELECT add_deletion_step('users', 'users', '{invited_by}', action => 'set null');
SELECT * FROM run();
SELECT * FROM users ORDER BY id;
ROLLBACK;
ALTER TABLE users DROP invited_by, ADD invited_by int REFERENCES users ON DELETE SET NULL;
UPDATE users SET invited_by = 7 WHERE id = 8;
UPDATE users SET invited_by = 6 WHERE id = 7;
SELECT * FROM run();
SELECT user_id, details -> 'set_null_records' AS set_null FROM audit_log WHERE user_id IN (6, 7) ORDER BY 1;
SELECT * FROM users ORDER BY id;
ALTER TABLE users DROP invited_by;
TRUNCATE users;

-- accounts that can only go together do, whatever fails beside them
CREATE TABLE badges (user_id int NOT NULL REFERENCES users ON DELETE SET NULL);
INSERT INTO users VALUES (1, '2020-01-01'), (2, '2020-01-01'), (3, '2020-01-01'), (4, '2020-01-01'), (5, '2020-01-01'), (6, NULL);
ALTER TABLE users ADD partner int REFERENCES users;
UPDATE users SET partner = 5 - id WHERE id IN (1, 4);
UPDATE users SET partner = 5 WHERE id = 6;
INSERT INTO badges VALUES (2);
SELECT * FROM run();
SELECT array_agg(id ORDER BY id) AS users FROM users;
SELECT * FROM run();
DROP TABLE badges;
ALTER TABLE users DROP partner;
TRUNCATE users;

-- through another table: the team of an owner who leaves
CREATE TABLE teams (id int PRIMARY KEY, owner_id int REFERENCES users ON DELETE CASCADE);
ALTER TABLE users ADD team_id int REFERENCES teams ON DELETE CASCADE;
SELECT "position", step_table, columns, action, via FROM deletion_plan('users');
INSERT INTO users VALUES (1, '2020-01-01'), (2, NULL), (3, '2020-01-01'), (4, '2020-01-01');
INSERT INTO teams VALUES (1, 1), (3, 3), (9, NULL);
UPDATE users SET team_id = 1 WHERE id IN (1, 2);
UPDATE users SET team_id = 3 WHERE id IN (3, 4);
SELECT * FROM run();
SELECT array_agg(id ORDER BY id) AS users FROM users;
SELECT array_agg(id ORDER BY id) AS teams FROM teams;
-- the same without actions, followed
ALTER TABLE users DROP CONSTRAINT users_team_id_fkey, ADD FOREIGN KEY (team_id) REFERENCES teams;
ALTER TABLE teams DROP CONSTRAINT teams_owner_id_fkey, ADD FOREIGN KEY (owner_id) REFERENCES users;
SELECT alter_deletion_policy('users', blocking_keys => 'delete');
SELECT * FROM run();
UPDATE users SET team_id = 9 WHERE id = 2;
SELECT * FROM run();
SELECT array_agg(id ORDER BY id) AS users FROM users;
SELECT array_agg(id ORDER BY id) AS teams FROM teams;
-- what is on the way is locked, so that nobody joins meanwhile; that needs a right
CREATE ROLE regress_sd_job;
GRANT USAGE ON SCHEMA app, erasure TO regress_sd_job;
GRANT SELECT, DELETE, UPDATE ON users TO regress_sd_job;
GRANT SELECT, DELETE ON teams TO regress_sd_job;
GRANT INSERT ON audit_log TO regress_sd_job;
GRANT EXECUTE ON FUNCTION process_scheduled_deletions TO regress_sd_job;
SET ROLE regress_sd_job;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
RESET ROLE;
ALTER TABLE users DROP CONSTRAINT users_team_id_fkey, ADD FOREIGN KEY (team_id) REFERENCES teams ON DELETE CASCADE;
SET ROLE regress_sd_job;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;  -- fails
RESET ROLE;
GRANT UPDATE (owner_id) ON teams TO regress_sd_job;
SET ROLE regress_sd_job;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
RESET ROLE;

-- through a partition, and by a partition of the account table
CREATE TABLE logs (id int, user_id int REFERENCES users ON DELETE CASCADE) PARTITION BY LIST (id);
CREATE TABLE logs_1 PARTITION OF logs (PRIMARY KEY (id)) FOR VALUES IN (1, 2);
ALTER TABLE users ADD last_log int REFERENCES logs_1 ON DELETE CASCADE;
TRUNCATE users CASCADE;
INSERT INTO users VALUES (1, '2020-01-01'), (2, NULL);
INSERT INTO logs VALUES (1, 1), (2, 2);
UPDATE users SET last_log = 1 WHERE id = 2;
SELECT * FROM run();
UPDATE users SET last_log = id;
SELECT * FROM run();
SELECT id, last_log FROM users;
SELECT * FROM logs;

-- through the key of one partition to rows to which accounts refer as to the whole
ALTER TABLE users DROP last_log;
DROP TABLE logs;
CREATE TABLE logs (id int PRIMARY KEY, user_id int) PARTITION BY RANGE (id);
CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (1) TO (10);
CREATE TABLE logs_2 PARTITION OF logs DEFAULT;
ALTER TABLE logs_1 ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE users ADD last_log int REFERENCES logs ON DELETE CASCADE;
SELECT "position", step_table, columns, action, via FROM deletion_plan('users');
TRUNCATE users CASCADE;
INSERT INTO users VALUES (1, '2020-01-01'), (2, NULL), (3, '2020-01-01');
INSERT INTO logs VALUES (1, 1), (2, 2), (3, 3), (11, 3);
UPDATE users SET last_log = 1 WHERE id = 2;
SELECT * FROM run();
SELECT id, last_log FROM users ORDER BY id;
SELECT * FROM logs ORDER BY id;
ALTER TABLE users DROP last_log;
DROP TABLE logs;
TRUNCATE users CASCADE;

-- the audit table is never followed, and never emptied
CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
ALTER TABLE audit_log ADD order_id int REFERENCES orders;
INSERT INTO users VALUES (3, '2020-01-01'), (4, '2020-01-01');
INSERT INTO orders VALUES (3, 3), (4, 4);
INSERT INTO audit_log (user_id, action, order_id) VALUES (3, 'ordered', 3);
SELECT * FROM run();
ALTER TABLE audit_log DROP CONSTRAINT audit_log_order_id_fkey, ADD FOREIGN KEY (order_id) REFERENCES orders ON DELETE CASCADE;
SELECT process_scheduled_deletions();  -- fails
ALTER TABLE audit_log DROP CONSTRAINT audit_log_order_id_fkey, ADD FOREIGN KEY (order_id) REFERENCES orders ON DELETE SET NULL;
SELECT * FROM run();
SELECT user_id, action, order_id FROM audit_log WHERE action = 'ordered';

DROP SCHEMA app CASCADE;
DROP EXTENSION scheduled_deletion;
DROP SCHEMA erasure;
DROP ROLE regress_sd_job;
