-- A person asks for the deletion and takes it back; each is on record, and until a
-- run has claimed the account it can be taken back.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
SELECT add_account(n, NULL) FROM unnest('{ann,bob,cid}'::text[]) n;
CREATE VIEW story AS
SELECT coalesce(split_part(p.email, '@', 1), 'gone') AS account, a.action, a.performed_by,
    (a.details ->> 'deletion_scheduled_at')::timestamptz - a.created_at BETWEEN '13 days 23 hours' AND '14 days' AS in_14_days,
    a.details - 'deletion_scheduled_at' AS details
FROM audit_log a LEFT JOIN profiles p ON p.id = a.user_id ORDER BY a.created_at;

-- asked for: due in 14 days; asked again: it stays as it is, unless it is earlier
SELECT schedule_account_deletion(account('ann')::text) - now();
SELECT split_part(email, '@', 1) AS account, deletion_scheduled_at = now() + '14 days' AS in_14_days FROM profiles ORDER BY 1;
BEGIN;
SELECT schedule_account_deletion(account('bob')::text, performed_by => account('ann')::text) = now() + '14 days' AS in_14_days;
SELECT schedule_account_deletion(account('bob')::text, '30 days') = now() + '14 days' AS in_14_days;
SELECT deletion_scheduled_at = now() + '14 days' AS in_14_days FROM profiles WHERE id = account('bob');
SELECT schedule_account_deletion(account('bob')::text, '1 day') = now() + '1 day' AS in_1_day;
COMMIT;
SELECT * FROM story;

-- taken back, which is false if it was not asked for
SELECT cancel_account_deletion(account('bob')::text, performed_by => account('bob')::text);
SELECT cancel_account_deletion(account('bob')::text);
SELECT cancel_account_deletion(account('cid')::text);
SELECT split_part(email, '@', 1) AS account, deletion_scheduled_at IS NULL AS stays FROM profiles ORDER BY 1;
SELECT * FROM story;

-- due already: it stays due, and can be taken back until a run has it
UPDATE profiles SET deletion_scheduled_at = '2020-01-01' WHERE id IN (account('ann'), account('cid'));
SET timezone = 'UTC';
SELECT schedule_account_deletion(account('ann')::text);
SELECT cancel_account_deletion(account('ann')::text, 'built-in');
SELECT * FROM told(process_scheduled_deletions('built-in')) WHERE key LIKE 'users%';
SELECT cancel_account_deletion(account('cid')::text);  -- fails
SELECT schedule_account_deletion(account('cid')::text);  -- fails
SELECT account, action, performed_by, details -> 'policy' AS policy FROM story;

-- at once, and then it is due
SELECT schedule_account_deletion(account('ann')::text, '0') <= now();
SELECT * FROM told(process_scheduled_deletions()) WHERE key LIKE 'users%';

-- finished by other means: neither
UPDATE profiles SET deleted_at = now() WHERE id = account('bob');
SELECT schedule_account_deletion(account('bob')::text);  -- fails
SELECT cancel_account_deletion(account('bob')::text);  -- fails
UPDATE profiles SET deleted_at = NULL;

-- never due, by a time that never comes, is not asked for
UPDATE profiles SET deletion_scheduled_at = 'infinity';
SELECT cancel_account_deletion(account('bob')::text);
SELECT schedule_account_deletion(account('bob')::text) - now();

-- bad input changes nothing
\set VERBOSITY terse
SELECT schedule_account_deletion(NULL);  -- fails
SELECT schedule_account_deletion('bob');  -- fails
SELECT schedule_account_deletion(account('nobody')::text);  -- fails
SELECT schedule_account_deletion(account('bob')::text, NULL);  -- fails
SELECT schedule_account_deletion(account('bob')::text, '-1 day');  -- fails
SELECT schedule_account_deletion(account('bob')::text, '1000000 years');  -- fails
SELECT schedule_account_deletion(account('bob')::text, policy => 'nothing');  -- fails
SELECT cancel_account_deletion(NULL);  -- fails
SELECT cancel_account_deletion(account('nobody')::text);  -- fails
SELECT cancel_account_deletion(account('bob')::text, performed_by => 'bob@example.org');  -- fails
SELECT count(*) FROM audit_log;
CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER keeps BEFORE UPDATE ON profiles FOR EACH ROW EXECUTE FUNCTION keeps();
SELECT cancel_account_deletion(account('bob')::text);  -- fails
DROP TRIGGER keeps ON profiles;
CREATE FUNCTION resets() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.deletion_scheduled_at := now(); RETURN NEW; END';
CREATE TRIGGER resets BEFORE UPDATE ON profiles FOR EACH ROW EXECUTE FUNCTION resets();
SELECT cancel_account_deletion(account('bob')::text);  -- fails
SELECT schedule_account_deletion(account('bob')::text, '1 day');  -- fails
DROP TRIGGER resets ON profiles;
CREATE TRIGGER keeps BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION keeps();
SELECT cancel_account_deletion(account('bob')::text);  -- fails
DROP TRIGGER keeps ON audit_log;
CREATE RULE keeps AS ON INSERT TO audit_log DO INSTEAD NOTHING;
SELECT cancel_account_deletion(account('bob')::text);  -- fails
DROP RULE keeps ON audit_log;
CREATE RULE keeps AS ON UPDATE TO profiles DO INSTEAD NOTHING;
SELECT cancel_account_deletion(account('bob')::text);  -- fails
DROP RULE keeps ON profiles;
SELECT count(*) FROM audit_log;
\set VERBOSITY default

-- the grace of a policy is part of the grace that is asked for, in its time zone
CREATE TABLE users (id int PRIMARY KEY, at timestamptz, at_local timestamp, "on" date NOT NULL DEFAULT 'infinity');
CREATE TABLE users_log (user_id int, action text, details jsonb, by text, created_at timestamptz);
INSERT INTO users SELECT n FROM generate_series(1, 5) n;
SELECT add_deletion_policy('users', 'users', due_column => 'at', grace => '14 days', time_zone => 'Asia/Tokyo', audit_table => 'users_log', audit_columns => '{"performed_by": "by"}');
SELECT cancel_account_deletion('1');  -- fails
BEGIN;
SELECT schedule_account_deletion('1', policy => 'users', performed_by => 'support') = now() + '14 days' AS in_14_days;
SELECT at = now() AS now FROM users WHERE id = 1;
SELECT alter_deletion_policy('users', due_column => 'at_local', grace => '1 day');
SELECT schedule_account_deletion('2', policy => 'users') = now() + '14 days' AS in_14_days;
SELECT at_local = now() AT TIME ZONE 'Asia/Tokyo' + interval '13 days' AS in_13_days FROM users WHERE id = 2;
SELECT alter_deletion_policy('users', due_column => 'on', grace => '0');
SELECT schedule_account_deletion('3', policy => 'users') - now() BETWEEN '14 days' AND '15 days' AS next_midnight;
SELECT "on"::timestamp AT TIME ZONE 'Asia/Tokyo' >= now() + '14 days' AS not_before, "on" - (now() AT TIME ZONE 'Asia/Tokyo')::date AS days FROM users WHERE id = 3;
SELECT cancel_account_deletion('3', 'users', 'support'), cancel_account_deletion('4', 'users');
SELECT "on" FROM users WHERE id IN (3, 4);
SELECT user_id, action, by FROM users_log;
COMMIT;

-- never before the grace has passed, at the end of a month either
SELECT alter_deletion_policy('users', due_column => 'at', grace => '1 month');
CREATE FUNCTION due_after(days int, OUT asked timestamptz, OUT due timestamptz, OUT at timestamptz) LANGUAGE plpgsql AS $$ BEGIN
    PERFORM cancel_account_deletion('5', 'users');
    asked := (now() AT TIME ZONE 'Asia/Tokyo' + days * interval '1 day') AT TIME ZONE 'Asia/Tokyo';
    due := schedule_account_deletion('5', days * interval '1 day', 'users');
    at := u.at FROM users u WHERE id = 5; END $$;
SELECT count(*) FILTER (WHERE due >= asked) AS not_early, count(*) FILTER (WHERE due < asked + '4 days') AS not_late,
    count(*) FILTER (WHERE due = (at AT TIME ZONE 'Asia/Tokyo' + '1 month') AT TIME ZONE 'Asia/Tokyo') AS as_told
FROM generate_series(1, 400) n, due_after(n);

-- nor does a run take an account before then: on the last day of a short month, those
-- of the last days of a long one are due at their own times of day
CREATE TABLE people (id int PRIMARY KEY, due timestamptz, due_local timestamp);
CREATE TABLE people_log (LIKE users_log);
SELECT add_deletion_policy('people', 'people', due_column => 'due', brake_share => 1, audit_table => 'people_log', audit_columns => '{"performed_by": "by"}',
    grace => make_interval(months => 1, days => (now() AT TIME ZONE 'UTC')::date - date '2026-02-28'));
INSERT INTO people SELECT id, due AT TIME ZONE 'UTC', due FROM (VALUES (1, '2026-01-28 23:59:59.999999'::timestamp), (2, '2026-01-30 00:00'), (3, '2026-01-31 23:59:59.999999'), (4, '2026-02-01')) t (id, due);
SELECT id, schedule_account_deletion(id::text, '100 years', 'people') - date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS due_after FROM people ORDER BY id;
SELECT users_due FROM erasure.deletion_status WHERE policy = 'people';
BEGIN;
SELECT process_scheduled_deletions('people') -> 'users_deleted' AS deleted;
SELECT id FROM people ORDER BY id;
ROLLBACK;
SELECT alter_deletion_policy('people', due_column => 'due_local');
SELECT process_scheduled_deletions('people') -> 'users_deleted' AS deleted;
SELECT id FROM people ORDER BY id;
SELECT remove_deletion_policy('people');
DROP TABLE people, people_log;

-- at the precision of the column
ALTER TABLE users ALTER at TYPE timestamptz(0);
SELECT alter_deletion_policy('users', grace => '0', time_zone => 'UTC');
SELECT cancel_account_deletion('5', 'users');
SELECT schedule_account_deletion('5', '10 s', 'users') - now() BETWEEN '10 s' AND '11 s' AS not_early;
SELECT at = date_trunc('second', at) AS whole FROM users WHERE id = 5;
ALTER TABLE users ALTER at TYPE timestamptz;
UPDATE users SET at = '294276-12-31' WHERE id = 5;
SELECT alter_deletion_policy('users', grace => '1000000 hours');
SELECT schedule_account_deletion('5', '200 years', 'users') - now() = '200 years' OR schedule_account_deletion('5', '200 years', 'users') > now() + '199 years' AS in_200_years;
SELECT alter_deletion_policy('users', grace => '1000 years');
SELECT cancel_account_deletion('5', 'users');
SELECT schedule_account_deletion('5', '1 day', 'users') >= now() + '1 day' AS not_early;
SELECT alter_deletion_policy('users', grace => '200000 years');  -- fails

-- a clock that is put forward, or back, near the time: no run comes before an account
-- is due as the function says, and none is late by more than two hours
CREATE FUNCTION zone(at timestamptz, back bool) RETURNS text LANGUAGE sql AS $$
    SELECT format('AAA0BBB-1,%s/%s,%s/%s', extract(doy FROM a) - 1, a::time(0), extract(doy FROM b) - 1, b::time(0))
    FROM (SELECT CASE WHEN back THEN at - interval '60 days' ELSE at END AT TIME ZONE 'UTC' AS a,
        CASE WHEN back THEN at + interval '1 hour' ELSE at + interval '60 days' END AT TIME ZONE 'UTC' AS b) t $$;
CREATE TABLE clocks (id int PRIMARY KEY, due timestamptz, due_local timestamp, due_at timestamptz);
CREATE TABLE clocks_log (LIKE users_log);
SELECT add_deletion_policy('clocks', 'clocks', due_column => 'due', audit_table => 'clocks_log', audit_columns => '{"performed_by": "by"}');
CREATE FUNCTION run_near(minutes int, back bool, grace interval, due_column name, OUT early bigint, OUT late bigint) LANGUAGE plpgsql AS $$
DECLARE started timestamptz := clock_timestamp(); BEGIN
    PERFORM set_config('client_min_messages', 'warning', true);
    PERFORM alter_deletion_policy('clocks', grace => grace, due_column => due_column, time_zone => zone(started + minutes * interval '1 minute', back));
    DELETE FROM clocks;
    INSERT INTO clocks SELECT k, started - grace + k * interval '1 minute', (started - grace + k * interval '1 minute') AT TIME ZONE 'UTC' FROM generate_series(-300, 300, 7) k;
    UPDATE clocks SET due_at = schedule_account_deletion(id::text, '100 years', 'clocks');
    CREATE TEMPORARY TABLE before AS TABLE clocks;
    PERFORM process_scheduled_deletions('clocks');
    SELECT count(*) FILTER (WHERE due_at > clock_timestamp() AND NOT EXISTS (SELECT FROM clocks WHERE id = b.id)),
        count(*) FILTER (WHERE due_at < started - interval '2 hours' AND EXISTS (SELECT FROM clocks WHERE id = b.id))
    INTO early, late FROM before b;
    DROP TABLE before; END $$;
SELECT grace, due_column, back, sum(early) AS early, sum(late) AS late
FROM unnest('{0,1 day}'::interval[]) grace, unnest('{due,due_local}'::name[]) due_column, unnest('{f,t}'::bool[]) back,
    generate_series(-190, 190, 95) minutes, run_near(minutes, back, grace, due_column)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

-- a key of several columns, of a policy that is disabled
CREATE TABLE members (org int, name text, deletion_scheduled_at timestamptz, PRIMARY KEY (org, name));
INSERT INTO members VALUES (1, 'a, "b"'), (1, 'b');
CREATE TABLE members_log (user_id text, action text, details jsonb, created_at timestamptz);
SELECT add_deletion_policy('members', 'members', audit_table => 'members_log', audit_columns => '{"performed_by": null}', enabled => false);
SELECT schedule_account_deletion(row(org, name)::text, '1 day', 'members') - now() FROM members;
SELECT schedule_account_deletion('(1,)', policy => 'members');  -- fails
SELECT schedule_account_deletion('(1,b,c)', policy => 'members');  -- fails
SELECT cancel_account_deletion('(1,b)', 'members', 'me');  -- fails
SELECT cancel_account_deletion('(1,b)', 'members');
SELECT user_id, action FROM members_log;

-- a role of the application needs these rights, and sees its own row
CREATE ROLE regress_sd_app;
GRANT USAGE ON SCHEMA app, erasure TO regress_sd_app;
GRANT EXECUTE ON FUNCTION schedule_account_deletion, cancel_account_deletion TO regress_sd_app;
GRANT SELECT, UPDATE (deletion_scheduled_at) ON profiles TO regress_sd_app;
SELECT cancel_account_deletion(account('bob')::text, 'built-in');
SET ROLE regress_sd_app;
SELECT schedule_account_deletion(account('bob')::text, policy => 'built-in');  -- fails
RESET ROLE;
GRANT INSERT ON audit_log TO regress_sd_app;
SET ROLE regress_sd_app;
SELECT schedule_account_deletion(account('bob')::text, policy => 'built-in') - now();
RESET ROLE;
ALTER TABLE profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON profiles USING (email = current_setting('app.email'));
SET ROLE regress_sd_app;
SET app.email = 'ann@example.org';
SELECT cancel_account_deletion(account('bob')::text, 'built-in');  -- fails
SET app.email = 'bob@example.org';
SELECT cancel_account_deletion(account('bob')::text, 'built-in');
RESET ROLE;
DROP OWNED BY regress_sd_app;
DROP ROLE regress_sd_app;

:clean_up
