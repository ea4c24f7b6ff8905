-- An account that fails is remembered, without a word of the person, tried again after
-- a time that grows, last of all, and forgotten when it is gone or not due any more.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
DROP TRIGGER do_not_wait ON erasure.deletion_failure;
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
CREATE FUNCTION object_to() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF OLD.email LIKE 'objects%' THEN RAISE EXCEPTION 'not %', OLD.email USING DETAIL = OLD.email, CONSTRAINT = OLD.email, ERRCODE = '23514'; END IF;
    IF OLD.email LIKE 'breaks%' THEN PERFORM amvalidate(0); END IF;
    RETURN OLD; END $$;
CREATE TRIGGER object_to BEFORE DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION object_to();
CREATE VIEW failing AS
SELECT split_part(p.email, '@', 1) AS account, f.policy, f.attempts, f.sqlstate, f.table_name, f.constraint_name, f.message,
    round(extract(epoch FROM f.next_attempt_at - f.last_attempt_at) / 60) AS minutes
FROM erasure.deletion_failure f LEFT JOIN profiles p ON p.id = f.account::uuid ORDER BY 1;
SELECT count(add_account(n)) FROM unnest('{good,invoiced,objects,leaves,changes}'::text[]) n;
INSERT INTO invoices SELECT account(n) FROM unnest('{invoiced,leaves,changes}'::text[]) n;

-- a dry run remembers nothing; a run does, and leaves them alone for a while
SELECT outcome(process_scheduled_deletions(dry_run => true));
SELECT count(*) FROM failing;
SELECT outcome(process_scheduled_deletions());
SELECT account, policy, attempts, sqlstate, table_name, constraint_name, message, minutes BETWEEN 7 AND 10 AS in_ten_minutes FROM failing;
SELECT count(*) AS personal FROM erasure.deletion_failure f WHERE f::text LIKE '%@%';
SELECT add_account('new');
SELECT outcome(process_scheduled_deletions());
SELECT outcome(process_scheduled_deletions());

-- who has changed their mind, or is gone, does not wait, and is forgotten
UPDATE profiles SET deletion_scheduled_at = NULL WHERE id = account('changes');
DELETE FROM invoices WHERE user_id = account('leaves');
DELETE FROM profiles WHERE id = account('leaves');
SELECT outcome(process_scheduled_deletions());
SELECT account, attempts FROM failing;

-- the wait is ended at once by hand, and grows up to twelve hours
SELECT retry_account(account('objects')::text);
SELECT retry_account(account('objects')::text);
SELECT outcome(process_scheduled_deletions());
SELECT account, attempts, minutes BETWEEN 15 AND 20 AS in_twenty_minutes FROM failing;
DO $$ BEGIN FOR i IN 1 .. 9 LOOP PERFORM retry_account(), process_scheduled_deletions(); END LOOP; END $$;
SELECT account, attempts, minutes BETWEEN 540 AND 720 AS in_twelve_hours FROM failing;
SELECT bool_or(next_attempt_at - last_attempt_at < '11:59') AS a_little_less FROM erasure.deletion_failure;
SELECT first_attempt_at < last_attempt_at AS since FROM erasure.deletion_failure;

-- so that the next night tries it; and when the reason is gone, so is the account
UPDATE erasure.deletion_failure SET next_attempt_at = now();
DELETE FROM invoices;
SELECT outcome(process_scheduled_deletions());
SELECT account, attempts FROM failing;
SELECT retry_account(policy => 'built-in');
SELECT retry_account(policy => 'nothing');  -- fails
SELECT retry_account('nobody');

-- they come last, keep nobody waiting, and do not count against a limit
SELECT count(add_account('objects ' || n, '2010-01-01')) FROM generate_series(1, 20) n;
SELECT add_account('good again', '2019-01-01');
SELECT outcome(process_scheduled_deletions());
SELECT count(add_account(n, '2019-01-01')) FROM unnest('{first,second,third}'::text[]) n;
SELECT retry_account();
SELECT outcome(process_scheduled_deletions(max_accounts => 2));
SELECT outcome(process_scheduled_deletions(max_accounts => 2));
ALTER TABLE profiles DISABLE TRIGGER object_to;
SELECT retry_account();
SELECT outcome(process_scheduled_deletions(max_accounts => 5));
SELECT outcome(process_scheduled_deletions());
SELECT count(*) FROM failing;
ALTER TABLE profiles ENABLE TRIGGER object_to;

-- an internal error is that account's, too: it keeps nobody from being deleted
SET scheduled_deletion.batch_size = 2;
SELECT add_account('one', '2015-01-01'), add_account('breaks', '2015-01-02'), add_account('two', '2015-01-03'), add_account('three', '2015-01-04'), add_account('breaks, too', '2015-01-05');
SELECT outcome(process_scheduled_deletions());
SELECT account, sqlstate, message FROM failing;
SELECT outcome(process_scheduled_deletions());
SELECT retry_account();
SELECT add_account('four'), add_account('objects');
SELECT outcome(process_scheduled_deletions());
SELECT account, attempts, sqlstate FROM failing;
SELECT retry_account();
SELECT outcome(process_scheduled_deletions());
SELECT retry_account();
SELECT outcome(process_scheduled_deletions());
SELECT account, attempts, sqlstate FROM failing;
SELECT * FROM broken_promises;
RESET scheduled_deletion.batch_size;

-- of many that are remembered, those that are due are counted; those that are not any
-- more are forgotten when their time comes, and keep nobody from being deleted
SELECT add_account('five'), add_account('objects again');
SELECT outcome(process_scheduled_deletions());
INSERT INTO erasure.deletion_failure (policy, account, attempts, first_attempt_at, last_attempt_at, next_attempt_at, sqlstate, message)
SELECT 'built-in', gen_random_uuid(), 1, now(), now() - interval '1 hour', now() + interval '1 hour', 'P0001', 'x' FROM generate_series(1, 600);
SELECT add_account('six');
SELECT outcome(process_scheduled_deletions());
SELECT add_account('seven');
CALL run_scheduled_deletions() \gset
SELECT outcome(:'report');
SELECT count(*) FROM erasure.deletion_failure;
UPDATE erasure.deletion_failure SET next_attempt_at = '2020-01-01' WHERE message = 'x';
SELECT outcome(process_scheduled_deletions());
SELECT count(*) FROM erasure.deletion_failure;

-- of another key they are others; and with the policy they go
SELECT alter_deletion_policy('built-in', grace => '1 day');
SELECT count(*) FROM failing;
SELECT alter_deletion_policy('built-in', key_columns => '{id}');
SELECT count(*) FROM failing;
SELECT outcome(process_scheduled_deletions());
UPDATE erasure.deletion_failure SET account = 'not a key: ' || account;
SELECT outcome(process_scheduled_deletions());
SELECT account FROM failing;
SELECT remove_deletion_policy('built-in');
SELECT count(*) FROM erasure.deletion_failure;
:clean_up
