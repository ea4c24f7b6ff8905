-- What row-level security hides from a role is not there for it: it can neither be
-- scheduled nor cancelled, held nor released, nor tried again, and no answer tells
-- whether it is on hold, or has failed.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
CREATE TABLE trail (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);
CREATE TABLE users (id int PRIMARY KEY, tenant text, due timestamptz);
CREATE TABLE bills (user_id int REFERENCES users);
INSERT INTO users VALUES (1, 't1', NULL), (2, 't2', '2020-01-01'), (3, 't2', '2020-01-01'), (4, 't1', '2020-01-01');
INSERT INTO bills VALUES (3), (4);
SET client_min_messages = warning;
SELECT add_deletion_policy('users', 'users', due_column => 'due', audit_table => 'trail');
RESET client_min_messages;
SELECT hold_account('2', 'court order 7'), hold_account('1', 'claim');
SELECT process_scheduled_deletions() -> 'users_failed' AS failed;

CREATE ROLE regress_sd_t1;
GRANT USAGE ON SCHEMA app, erasure TO regress_sd_t1;
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON users TO regress_sd_t1 USING (tenant = 't1');
GRANT SELECT, UPDATE (due) ON users TO regress_sd_t1;
GRANT INSERT ON trail TO regress_sd_t1;
GRANT EXECUTE ON FUNCTION hold_account, release_account, schedule_account_deletion, cancel_account_deletion, retry_account TO regress_sd_t1;
SET ROLE regress_sd_t1;
-- as if it were not there
SELECT hold_account('2', 'x');  -- fails
SELECT release_account('2');  -- fails
SELECT release_account('9');  -- fails
SELECT release_account('2', reason => 'court order 7');  -- fails
SELECT schedule_account_deletion('2');  -- fails
SELECT cancel_account_deletion('2');  -- fails
SELECT retry_account('3');  -- fails
SELECT retry_account('9', 'users');  -- fails
SELECT retry_account();  -- fails
-- its own
SELECT retry_account('4'), release_account('1'), release_account('1'), hold_account('1', 'claim');
RESET ROLE;
SELECT account, reason FROM deletion_hold ORDER BY account;

-- who may see all of them still needs to be able to change the row
CREATE ROLE regress_sd_reader BYPASSRLS;
GRANT USAGE ON SCHEMA app, erasure TO regress_sd_reader;
GRANT SELECT ON users TO regress_sd_reader;
GRANT INSERT ON trail TO regress_sd_reader;
GRANT EXECUTE ON FUNCTION hold_account, release_account, schedule_account_deletion, cancel_account_deletion TO regress_sd_reader;
SET ROLE regress_sd_reader;
SELECT hold_account('2', 'x');  -- fails
SELECT release_account('2');  -- fails
SELECT release_account('9');  -- fails
RESET ROLE;
-- with rights to all, a hold on who is gone can be released
DELETE FROM users WHERE id = 1;
SELECT release_account('1'), release_account('9');

\set QUIET on
SET client_min_messages = warning;
DROP SCHEMA app, erasure CASCADE;
DROP ROLE regress_sd_t1, regress_sd_reader;
