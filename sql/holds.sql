-- An account on hold is not deleted, nor are rows that others share with it: by no
-- policy, and with the guard by nobody else.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
CREATE VIEW trail AS
SELECT coalesce(split_part(p.email, '@', 1), 'gone') AS account, action, details ->> 'reason' AS reason,
    details ? 'held_until' AS ends, details ->> 'policy' AS policy, details ? 'run_id' AS by_run, performed_by
FROM audit_log a LEFT JOIN profiles p ON p.id = a.user_id WHERE action <> 'hard_deleted' ORDER BY 1, 2, 3;
SELECT count(add_account(n)) FROM unnest('{held,twice,briefly,free,patient,therapist}'::text[]) n;
INSERT INTO clinical_notes (patient_id, therapist_id, note_text) VALUES (account('patient'), account('held'), 'shared'),
    (account('patient'), account('therapist'), 'not held');
SELECT hold_account(account('held')::text, 'case 2026/17');  -- the built-in policy need not be registered

-- the account is left alone, and that is told; whoever shares a row fails, and says
-- why; all others go
SELECT hold_account(account('twice')::text, 'case 2026/18', performed_by => account('clerk')::text),
    hold_account(account('twice')::text, 'case 2026/19'),
    hold_account(account('briefly')::text, 'case 2026/20', until => 'infinity');
INSERT INTO accounts_before SELECT * FROM profiles;
SELECT outcome(process_scheduled_deletions(dry_run => true));
SELECT count(*) FROM erasure.deletion_hold WHERE refused_at IS NOT NULL;
CREATE TABLE run AS SELECT process_scheduled_deletions() AS report;
SELECT outcome(report) FROM run;
SELECT errors.* FROM run, errors(report);
SELECT * FROM whole_accounts;
SELECT * FROM trail;
SELECT DISTINCT held_by = session_user AS by_whom FROM erasure.deletion_hold;
SELECT * FROM broken_promises;
-- a refusal is told once for each hold
SELECT outcome(process_scheduled_deletions());
SELECT count(*) FROM trail WHERE action = 'deletion_refused';

-- one hold of two is released: the other counts
SELECT release_account(account('twice')::text, reason => 'case 2026/18');
SELECT release_account(account('twice')::text, reason => 'case 2026/18');
SELECT outcome(process_scheduled_deletions());
SELECT release_account(account('twice')::text);
-- a hold that expires ends by itself
UPDATE erasure.deletion_hold SET held_until = now() WHERE reason = 'case 2026/20';
SELECT outcome(process_scheduled_deletions());
SELECT account, action, reason FROM trail WHERE action IN ('account_released', 'deletion_refused') ORDER BY reason, action;
-- with the hold of whom he shares rows with, the wait of the one that failed is over
DROP TRIGGER do_not_wait ON erasure.deletion_failure;
SELECT outcome(process_scheduled_deletions());
SELECT outcome(process_scheduled_deletions());
SELECT release_account(account('held')::text);
SELECT outcome(process_scheduled_deletions());
SELECT account FROM whole_accounts;
SELECT * FROM broken_promises;
-- a hold that has expired is gone with the next run; and one can be released of an
-- account that is not there any more
SELECT count(*) FROM erasure.deletion_hold;
SELECT add_account('by hand');
SELECT hold_account(account('by hand')::text, 'case 2026/21');
DELETE FROM profiles WHERE id = account('by hand');
SELECT release_account(account('by hand')::text), release_account(account('nobody')::text);
SELECT count(*) FROM erasure.deletion_hold;

-- what cannot be held says so, and nothing is held
SELECT hold_account(account('nobody')::text, 'case');  -- fails
SELECT hold_account(NULL, 'case');  -- fails
SELECT hold_account(account('nobody')::text, NULL);  -- fails
SELECT add_account('one');
SELECT hold_account(account('one')::text, '');  -- fails
SELECT hold_account(account('one')::text, repeat('x', 201));  -- fails
SELECT hold_account(account('one')::text, 'case', until => now());  -- fails
SELECT hold_account('one', 'case');  -- fails
SELECT hold_account(account('one')::text, 'case', policy => 'nothing');  -- fails
SELECT count(*) FROM erasure.deletion_hold;

-- an account whose deletion was not asked for can be held, and asked for while it is
UPDATE profiles SET deletion_scheduled_at = NULL;
SELECT hold_account(account('one')::text, 'case');
SELECT schedule_account_deletion(account('one')::text, '0') IS NOT NULL AS scheduled;
SELECT outcome(process_scheduled_deletions());
-- and one that fails can: it fails no more
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
SELECT add_account('failing');
INSERT INTO invoices VALUES (account('failing'));
SELECT outcome(process_scheduled_deletions());
SELECT hold_account(account('failing')::text, 'case');
SELECT retry_account();
SELECT outcome(process_scheduled_deletions());
SELECT count(*) FROM erasure.deletion_failure;
DROP TABLE invoices;

-- rows are shared by way of other rows, too: an order of somebody with the invoice of
-- one on hold; and by a column whose key would only stop them; not by one that is set
-- to null
CREATE TABLE users (id int PRIMARY KEY, number numeric NOT NULL UNIQUE, deletion_scheduled_at timestamptz DEFAULT '2020-01-01');
CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
CREATE TABLE items (order_id int REFERENCES orders ON DELETE CASCADE, seller_id int REFERENCES users ON DELETE CASCADE);
CREATE TABLE gifts (giver_id int REFERENCES users ON DELETE CASCADE, order_id int REFERENCES orders);
CREATE TABLE reviews (user_id int REFERENCES users ON DELETE CASCADE, editor_id int REFERENCES users ON DELETE SET NULL);
CREATE TABLE posts (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE, parent int REFERENCES posts ON DELETE CASCADE);
SET client_min_messages = warning;
CREATE TABLE erased (user_id text, action text, details jsonb, created_at timestamptz);
SELECT add_deletion_policy('users', 'users', audit_columns => '{"performed_by": null}', audit_table => 'erased');
SELECT add_deletion_policy('by number', 'users', key_columns => '{number}', audit_columns => '{"performed_by": null}', audit_table => 'erased', enabled => false);
RESET client_min_messages;
CREATE FUNCTION ids(report jsonb) RETURNS TABLE (users_deleted text, users_held text, failed text, error text) LANGUAGE sql AS $$
    SELECT report ->> 'users_deleted', report ->> 'users_held', e ->> 'user_id', e ->> 'error'
    FROM (SELECT) one LEFT JOIN jsonb_array_elements(report -> 'errors') e ON true $$;
INSERT INTO users SELECT n, n * 1.5 FROM generate_series(1, 8) n;
INSERT INTO orders VALUES (10, 1), (20, 2);
INSERT INTO items VALUES (20, 1), (10, 3);
INSERT INTO gifts VALUES (4, 10);
INSERT INTO reviews VALUES (5, 1);
INSERT INTO posts VALUES (1, 6, NULL), (2, 7, 1), (3, 1, 2), (4, 8, NULL);
SELECT hold_account('1', 'case 1', policy => 'users');
SELECT * FROM ids(process_scheduled_deletions('users')) ORDER BY failed;
SELECT (SELECT array_agg(id ORDER BY id) FROM users) AS users, (SELECT array_agg(id ORDER BY id) FROM posts) AS posts;
SELECT release_account('1', policy => 'users');
SELECT * FROM ids(process_scheduled_deletions('users')) ORDER BY failed;

-- in a thread of replies, all whose rows lead to one on hold fail at once, and before
-- anything is deleted
TRUNCATE users CASCADE;
DELETE FROM erasure.deletion_failure;
INSERT INTO users SELECT n, n FROM generate_series(1, 40) n;
INSERT INTO posts SELECT n, n, nullif(n - 1, 0) FROM generate_series(1, 20) n;
CREATE SEQUENCE deletes;
CREATE FUNCTION count_delete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('app.deletes'); RETURN NULL; END $$;
CREATE TRIGGER count_delete AFTER DELETE ON posts EXECUTE FUNCTION count_delete();
SELECT hold_account('20', 'case', policy => 'users');
SELECT report ->> 'users_deleted' AS deleted, report ->> 'users_failed' AS failed, report ->> 'users_held' AS held
FROM process_scheduled_deletions('users') report;
SELECT last_value < 10 AS few_deletes FROM deletes;
SELECT count(*) FROM posts;
-- also if other accounts were dropped from the batch since the rows were read
TRUNCATE users CASCADE;
DELETE FROM erasure.deletion_failure;
DELETE FROM erasure.deletion_hold;
CREATE TABLE invoices (user_id int REFERENCES users);
DROP TRIGGER count_delete ON posts;
INSERT INTO users SELECT n, n FROM generate_series(1, 60) n;
INSERT INTO posts SELECT n, n FROM generate_series(1, 60) n;
INSERT INTO posts SELECT 200 + n, n, n FROM generate_series(1, 59) n;
INSERT INTO posts VALUES (100, 60, 20);
INSERT INTO invoices SELECT n FROM generate_series(2, 14, 2) n;
SELECT hold_account('60', 'case', policy => 'users');
SELECT report ->> 'users_deleted' AS deleted, report ->> 'users_failed' AS failed, report ->> 'users_held' AS held
FROM process_scheduled_deletions('users') report;
SELECT string_agg(account, ',' ORDER BY account::int), table_name FROM erasure.deletion_failure GROUP BY table_name ORDER BY table_name;
DROP TABLE invoices;
-- and each on hold is counted once, however often a batch is tried
TRUNCATE users CASCADE;
DELETE FROM erasure.deletion_failure;
DELETE FROM erasure.deletion_hold;
INSERT INTO users SELECT n, n FROM generate_series(1, 3000) n;
SELECT count(hold_account(n::text, 'case', policy => 'users')) FROM generate_series(601, 700) n;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER fail BEFORE DELETE ON users FOR EACH ROW WHEN (OLD.id = 1500) EXECUTE FUNCTION fail();
SELECT report ->> 'users_deleted' AS deleted, report ->> 'users_failed' AS failed, report ->> 'users_held' AS held
FROM process_scheduled_deletions('users') report;
DROP TRIGGER fail ON users;
-- what the audit table does not want to know of holds undoes no run, at once or later
CREATE TABLE actions (action text PRIMARY KEY);
INSERT INTO actions VALUES ('hard_deleted'), ('account_held');
DELETE FROM erased;
ALTER TABLE erased ADD CONSTRAINT known FOREIGN KEY (action) REFERENCES actions DEFERRABLE INITIALLY DEFERRED;
UPDATE erasure.deletion_hold SET refused_at = NULL;
INSERT INTO users VALUES (1, 1);
SELECT report ->> 'users_deleted' AS deleted, report ->> 'users_held' AS held FROM process_scheduled_deletions('users') report;
ALTER TABLE erased DROP CONSTRAINT known;
DROP TABLE actions;
DELETE FROM erasure.deletion_hold;
DELETE FROM erasure.deletion_failure;

-- a hold counts for every policy on the table, by whatever key it is placed, or ends
DELETE FROM users;
INSERT INTO users VALUES (11, 1.50), (12, 2.50);
SELECT hold_account('1.5', 'case 2', policy => 'by number');
SELECT key_columns, account FROM erasure.deletion_hold WHERE reason = 'case 2';
UPDATE users SET number = number * 2;
SELECT * FROM ids(process_scheduled_deletions('users'));
SELECT alter_deletion_policy('by number', enabled => true);
SELECT * FROM ids(process_scheduled_deletions('by number'));
SELECT release_account('1.5', policy => 'by number'), release_account('3', policy => 'by number');
-- without a primary key, it is that of the policy, and counts however it is written
ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE;
ALTER TABLE users ADD UNIQUE (id);
SELECT hold_account('3.0000', 'case 2', policy => 'by number');
SELECT key_columns, account FROM erasure.deletion_hold WHERE reason = 'case 2';
SELECT * FROM ids(process_scheduled_deletions('users'));
-- a policy that is removed leaves its holds, and a table that is made anew keeps them
SELECT remove_deletion_policy('by number');
ALTER TABLE users RENAME TO old_users;
CREATE TABLE users (LIKE old_users INCLUDING ALL);
INSERT INTO users TABLE old_users;
DROP TABLE old_users;
SELECT alter_deletion_policy('users', account_table => 'users');
SELECT * FROM ids(process_scheduled_deletions('users'));
-- also if it is still there then, or the policy is registered anew
ALTER TABLE users RENAME TO old_users;
CREATE TABLE users (LIKE old_users INCLUDING ALL);
INSERT INTO users TABLE old_users;
SELECT alter_deletion_policy('users', account_table => 'users');
DROP TABLE old_users;
SELECT * FROM ids(process_scheduled_deletions('users'));
SELECT remove_deletion_policy('users');
ALTER TABLE users RENAME TO old_users;
CREATE TABLE users (LIKE old_users INCLUDING ALL);
INSERT INTO users TABLE old_users;
DROP TABLE old_users;
SET client_min_messages = warning;
SELECT add_deletion_policy('users', 'users', key_columns => '{id}', audit_columns => '{"performed_by": null}', audit_table => 'erased');
RESET client_min_messages;
SELECT * FROM ids(process_scheduled_deletions('users'));
-- nor does a run forget a hold that it cannot read, since it was placed by a key of
-- which it did not know when it began
SET client_min_messages = warning;
SELECT add_deletion_policy('by number', 'users', key_columns => '{number}', audit_columns => '{"performed_by": null}', audit_table => 'erased', enabled => false);
RESET client_min_messages;
DELETE FROM erasure.deletion_hold;
TRUNCATE users;
INSERT INTO users VALUES (1, 10, '2020-01-01'), (2, 20, '2020-01-02'), (3, 30, '2020-01-03');
CREATE FUNCTION place() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM hold_account('30', 'case 2', policy => 'by number'); RETURN OLD; END $$;
CREATE TRIGGER place BEFORE DELETE ON users FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION place();
SET scheduled_deletion.batch_size = 1;
SELECT * FROM ids(process_scheduled_deletions('users')) ORDER BY failed;
RESET scheduled_deletion.batch_size;
SELECT id FROM users;
DROP TRIGGER place ON users;
SELECT * FROM ids(process_scheduled_deletions('users')) ORDER BY failed;
SELECT remove_deletion_policy('by number');
-- one that cannot be read any more stops the run, and no account is blamed
ALTER TABLE users RENAME number TO no;
SELECT process_scheduled_deletions('users');  -- fails
SELECT code, message FROM check_deletion_policy('users') WHERE severity = 'error';
ALTER TABLE users RENAME no TO number;
ALTER TABLE users ALTER number TYPE date USING '2020-01-01';
SELECT process_scheduled_deletions('users');  -- fails
SELECT count(*) FROM erasure.deletion_failure WHERE policy = 'users';
DELETE FROM erasure.deletion_hold WHERE reason = 'case 2';
SELECT * FROM ids(process_scheduled_deletions('users'));

-- the check tells of holds that protect nobody, or only from the job
INSERT INTO users VALUES (21, '2026-01-01'), (22, '2026-01-02');
SELECT hold_account(id::text, 'case', policy => 'users') FROM users;
SELECT severity, code, message, remedy FROM check_deletion_policy('users') WHERE code LIKE '%hold';
SELECT guard_held_accounts('users');
ALTER TABLE users DISABLE TRIGGER USER;
UPDATE users SET id = 23 WHERE id = 22;
SELECT severity, code, message, remedy FROM check_deletion_policy('users') WHERE code LIKE '%hold';
SELECT guard_held_accounts('users');
SELECT severity, code, message, remedy FROM check_deletion_policy('users') WHERE code LIKE '%hold';
SELECT count(release_account(id, policy => 'users')) FROM unnest('{21,22}'::text[]) id;

-- nor does a policy on another table delete an account on hold, or what is its
CREATE TABLE orgs (id int PRIMARY KEY, deletion_scheduled_at timestamptz DEFAULT '2020-01-01');
CREATE TABLE people (code text COLLATE "C" PRIMARY KEY, org int REFERENCES orgs ON DELETE CASCADE, deletion_scheduled_at timestamptz);
CREATE TABLE messages (sender text REFERENCES people ON DELETE CASCADE, receiver text REFERENCES people ON DELETE CASCADE);
SET client_min_messages = warning;
SELECT add_deletion_policy('orgs', 'orgs', audit_columns => '{"performed_by": null}', audit_table => 'erased');
SELECT add_deletion_policy('people', 'people', audit_columns => '{"performed_by": null}', audit_table => 'erased');
RESET client_min_messages;
INSERT INTO orgs VALUES (1), (2), (3), (4);
INSERT INTO people VALUES ('a', 1), ('b', 2), ('c', 3), ('d', NULL), ('e', 4);
INSERT INTO messages VALUES ('b', 'd'), ('c', 'e');
SELECT hold_account('a', 'case 7', policy => 'people'), hold_account('d', 'case 8', policy => 'people'), guard_held_accounts('people');
SELECT * FROM ids(process_scheduled_deletions('orgs')) ORDER BY failed;
SELECT (SELECT array_agg(id ORDER BY id) FROM orgs) AS orgs, (SELECT array_agg(code ORDER BY code) FROM people) AS people, (SELECT count(*) FROM messages) AS messages;
SELECT release_account(code, policy => 'people') FROM people WHERE code IN ('a', 'd');
SELECT * FROM ids(process_scheduled_deletions('orgs')) ORDER BY failed;
SELECT remove_deletion_policy('orgs'), remove_deletion_policy('people');
DROP TABLE orgs, people, messages;

-- columns that several accounts have in common lead to rows of all of them: a login that
-- two people use
CREATE TABLE logins (id int PRIMARY KEY);
CREATE TABLE people (id int PRIMARY KEY, login int REFERENCES logins ON DELETE SET NULL, deletion_scheduled_at timestamptz DEFAULT '2020-01-01');
SET client_min_messages = warning;
SELECT add_deletion_policy('people', 'people', audit_columns => '{"performed_by": null}', audit_table => 'erased');
SELECT add_deletion_step('people', 'logins', '{id}', after_account => true);
RESET client_min_messages;
INSERT INTO logins VALUES (1), (2);
INSERT INTO people VALUES (1, 1), (2, 1), (3, 2);
SELECT hold_account('1', 'case 9', policy => 'people');
SELECT * FROM ids(process_scheduled_deletions('people')) ORDER BY failed;
SELECT * FROM people ORDER BY id;
SELECT release_account('1', policy => 'people');
SELECT * FROM ids(process_scheduled_deletions('people')) ORDER BY failed;
SELECT remove_deletion_policy('people');
DROP TABLE people, logins;

-- keys of several columns, and whose text depends on settings
CREATE TABLE members (day date, name text, deletion_scheduled_at timestamptz DEFAULT '2020-01-01', PRIMARY KEY (day, name));
SET client_min_messages = warning;
SELECT add_deletion_policy('members', 'members', audit_columns => '{"performed_by": null}', audit_table => 'erased');
RESET client_min_messages;
INSERT INTO members VALUES ('2020-02-01', 'a'), ('2020-01-02', 'a'), ('2020-02-01', 'it''s, "b"');
SET datestyle = 'SQL, DMY';
SELECT hold_account('(01/02/2020,a)', 'case 3', policy => 'members');
SELECT hold_account('(01/02/2020,"it''s, ""b""")', 'case 3', policy => 'members');
SET datestyle = 'SQL, MDY';
SELECT * FROM ids(process_scheduled_deletions('members'));
RESET datestyle;
SELECT account FROM erasure.deletion_hold;
SELECT release_account('(2020-02-01,a)', policy => 'members', reason => 'case 3');

-- the guard: nobody else deletes an account on hold either, nor gives it another key
DELETE FROM profiles;
DELETE FROM erasure.deletion_hold;
SELECT count(add_account(n)) FROM unnest('{held,free}'::text[]) n;
SELECT hold_account(account('held')::text, 'case 4', policy => 'built-in');
SELECT guard_held_accounts('built-in'), guard_held_accounts('built-in');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'profiles'::regclass AND NOT tgisinternal ORDER BY 1;
DELETE FROM profiles WHERE id = account('held');  -- fails
DELETE FROM profiles;  -- fails
INSERT INTO profiles (id, email) VALUES (account('bare'), 'bare');
SELECT hold_account(account('bare')::text, 'case 5', policy => 'built-in');
UPDATE profiles SET id = gen_random_uuid() WHERE id = account('bare');  -- fails
CREATE FUNCTION renumber() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := gen_random_uuid(); RETURN NEW; END $$;
CREATE TRIGGER renumber BEFORE UPDATE ON profiles FOR EACH ROW WHEN (OLD.email = 'bare') EXECUTE FUNCTION renumber();
UPDATE profiles SET role = 'admin' WHERE id = account('bare');  -- fails
DROP TRIGGER renumber ON profiles;
UPDATE profiles SET id = id, deleted_at = NULL;
TRUNCATE profiles CASCADE;  -- fails
DELETE FROM profiles WHERE id = account('free') RETURNING email;
SELECT add_account('free');
SELECT outcome(process_scheduled_deletions('built-in'));
-- as anything but what it is, its function does nothing
BEGIN;
CREATE TRIGGER statement AFTER DELETE ON profiles EXECUTE FUNCTION refuse_held_account();
DELETE FROM profiles WHERE email = 'nobody';  -- fails
ROLLBACK;
BEGIN;
CREATE TRIGGER before_row BEFORE DELETE ON check_ins FOR EACH ROW EXECUTE FUNCTION refuse_held_account();
SELECT code, object FROM check_deletion_policy('built-in') WHERE code = 'row_keeping_trigger';
DELETE FROM check_ins;  -- fails
ROLLBACK;
-- nor does what only has its name guard anybody
BEGIN;
DROP TRIGGER guard_held_accounts ON profiles;
CREATE TRIGGER guard_held_accounts AFTER DELETE ON profiles FOR EACH ROW WHEN (OLD.email IS NULL) EXECUTE FUNCTION refuse_held_account();
SELECT code FROM check_deletion_policy('built-in') WHERE code LIKE '%hold';
SELECT guard_held_accounts('built-in');
DELETE FROM profiles WHERE id = account('held');  -- fails
ROLLBACK;
-- it costs no account its blocker query, and no check a warning
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
CREATE ROLE regress_sd_holder;
SELECT count(*) FROM check_deletion_policy('built-in', 'regress_sd_holder') WHERE message LIKE '%guard%';
DROP ROLE regress_sd_holder;
DROP TABLE invoices;
SELECT release_account(id::text, policy => 'built-in') FROM profiles;
DELETE FROM profiles;
DROP TRIGGER guard_held_accounts_truncate ON profiles;
SELECT guard_held_accounts('built-in'), guard_held_accounts('built-in');
SELECT guard_held_accounts('built-in', false), guard_held_accounts('built-in', false);
-- it guards partitions, and goes with the extension
CREATE TABLE people (id int PRIMARY KEY, deletion_scheduled_at timestamptz) PARTITION BY LIST (id);
CREATE TABLE people_1 PARTITION OF people FOR VALUES IN (1, 3);
SET client_min_messages = warning;
SELECT add_deletion_policy('people', 'people', audit_columns => '{"performed_by": null}', audit_table => 'erased');
RESET client_min_messages;
SELECT guard_held_accounts('people');
CREATE TABLE people_2 PARTITION OF people FOR VALUES IN (2);
INSERT INTO people VALUES (1), (2);
SELECT hold_account('1', 'case', policy => 'people'), hold_account('2', 'case', policy => 'people');
DELETE FROM people_1;  -- fails
DELETE FROM people_2;  -- fails
UPDATE people SET id = 3 WHERE id = 1;  -- fails
TRUNCATE people_1;  -- fails
-- without a lock on the whole: who alters that has one, and waits for the partition
INSERT INTO people VALUES (3);
BEGIN;
DELETE FROM people_1 WHERE id = 3;
SELECT count(*) FROM pg_locks WHERE relation = 'people'::regclass AND pid = pg_backend_pid();
ROLLBACK;
SELECT code FROM check_deletion_policy('people') WHERE code LIKE '%hold';
SELECT guard_held_accounts('people'), guard_held_accounts('people');
TRUNCATE people_2;  -- fails
SET client_min_messages = warning;
DROP EXTENSION scheduled_deletion;
RESET client_min_messages;
DELETE FROM people;
:clean_up
