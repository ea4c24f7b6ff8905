-- An account is due when the time in its due column and the grace have passed, in
-- the policy's time zone, whatever that of the session.
CREATE SCHEMA erasure;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
CREATE SCHEMA app;
SET search_path = app, erasure;
SET client_min_messages = warning;
CREATE TABLE audit_log (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);
CREATE DOMAIN moment AS timestamptz;
CREATE TABLE users (id text PRIMARY KEY, zoned timestamptz, local timestamp, day date, odd moment);
CREATE FUNCTION deleted(due name, grace interval, zone text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    ids text[];
BEGIN
    PERFORM remove_deletion_policy('users');
    PERFORM add_deletion_policy('users', 'users', due_column => due, grace => grace, time_zone => zone);
    PERFORM process_scheduled_deletions(release_brake => true);
    SELECT array_agg(user_id ORDER BY user_id) INTO ids FROM audit_log;
    DELETE FROM audit_log;
    RETURN ids;
END
$$;
-- a session far away from the policy
SET timezone = 'Pacific/Kiritimati';

-- no grace
INSERT INTO users (id, zoned) VALUES ('now', clock_timestamp()), ('long ago', '-infinity'), ('never', 'infinity'),
    ('soon', now() + interval '1 hour'), ('null', NULL);
SELECT deleted('zoned', '0', 'UTC');
SELECT id FROM users ORDER BY id;
TRUNCATE users;
INSERT INTO users (id, odd) VALUES ('now', clock_timestamp()), ('soon', now() + interval '1 hour');
SELECT deleted('odd', '0', 'UTC');
TRUNCATE users;

-- days, hours
INSERT INTO users (id, zoned) SELECT h || ' hours', now() - h * interval '1 hour' FROM generate_series(334, 338) h;
SELECT deleted('zoned', '336 hours', 'UTC');
INSERT INTO users (id, zoned) VALUES ('13 days', now() - interval '13 days 12 hours'), ('15 days', now() - interval '14 days 12 hours');
SELECT deleted('zoned', '14 days', 'America/New_York');
TRUNCATE users;

-- a time without a zone is one of the policy's
INSERT INTO users (id, local) SELECT h || ' hours', (now() AT TIME ZONE 'America/New_York') + h * interval '1 hour' FROM generate_series(-2, 2) h WHERE h <> 0;
SELECT deleted('local', '0', 'America/New_York');
SELECT deleted('local', '0', 'Asia/Tokyo');
TRUNCATE users;
-- and a date the midnight with which it begins there
INSERT INTO users (id, day) SELECT to_char(d, 'SG9'), (now() AT TIME ZONE 'America/New_York')::date + d FROM generate_series(-2, 2) d;
SELECT deleted('day', '0', 'America/New_York');
INSERT INTO users (id, day) SELECT to_char(d, 'SG99'), (now() AT TIME ZONE 'America/New_York')::date + d FROM generate_series(-15, -13) d;
SELECT deleted('day', '14 days', 'America/New_York');
TRUNCATE users;

-- months: never before due + grace has passed, and then at once
INSERT INTO users (id, day) SELECT d::text, '2024-01-01'::date + d FROM generate_series(0, 800) d;
CREATE TABLE expected AS SELECT id FROM users WHERE day + interval '1 year 1 month 3 days' <= now() AT TIME ZONE 'UTC';
SELECT cardinality(deleted('day', '1 year 1 month 3 days', 'UTC')) = (SELECT count(*) FROM expected) AS as_many;
SELECT count(*) FROM users JOIN expected USING (id);
TRUNCATE users, expected;
-- (the last days of January are due on the same day as its 28th)
SELECT '1 month ' || (now() AT TIME ZONE 'UTC')::date - (make_date(extract(year FROM now())::int - 1, 3, 1) - 1) || ' days' AS grace \gset
INSERT INTO users (id, day) SELECT d, make_date(extract(year FROM now())::int - 1, 1, d) FROM generate_series(20, 31) d;
INSERT INTO expected SELECT id FROM users WHERE day + :'grace'::interval <= now() AT TIME ZONE 'UTC';
SELECT count(*) FROM expected;
SELECT cardinality(deleted('day', :'grace', 'UTC')) = (SELECT count(*) FROM expected) AS as_many;
TRUNCATE users, expected;
INSERT INTO users (id, zoned) SELECT h::text, now() - interval '2 months' + h * interval '1 hour' FROM generate_series(-200, 200) h WHERE h <> 0;
INSERT INTO expected SELECT id FROM users WHERE ((zoned AT TIME ZONE 'UTC') + interval '2 months') AT TIME ZONE 'UTC' <= now();
SELECT cardinality(deleted('zoned', '2 months', 'UTC')) = (SELECT count(*) FROM expected) AS as_many;
SELECT count(*) FROM users JOIN expected USING (id);
TRUNCATE users;

-- a value at the end of time, or its beginning, stops nobody
TRUNCATE users, expected;
INSERT INTO users (id, zoned, local, day, odd) VALUES ('first', '4714-11-24 00:00+00 BC', '4714-11-24 BC', '4714-11-24 BC', '4714-11-24 00:00+00 BC'),
    ('last', '294276-12-31 23:59+00', '294276-12-31 23:59', '5874897-12-31', '294276-12-31 23:59+00'), ('due', '2020-01-01', '2020-01-01', '2020-01-01', '2020-01-01'),
    ('always', '-infinity', '-infinity', '-infinity', '-infinity'), ('never', 'infinity', 'infinity', 'infinity', 'infinity');
CREATE FUNCTION tried(due name, grace interval, zone text, OUT ids text[], OUT status text) LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMPORARY TABLE before AS TABLE users;
    ids := deleted(due, grace, zone);
    TRUNCATE users;
    INSERT INTO users TABLE before;
    DROP TABLE before;
    SELECT users_due || ' due since ' || oldest_due || coalesce(', ' || blocked_by, '') INTO status FROM deletion_status;
END
$$;
SELECT due, grace, zone, tried.* FROM unnest('{zoned,local,day,odd}'::name[]) due, unnest('{0,1 hour,1 day,1 month}'::interval[]) grace,
    unnest('{America/New_York,Asia/Tokyo}'::text[]) zone, tried(due, grace, zone) WHERE grace <> '1 month' OR zone = 'America/New_York';
SELECT schedule_account_deletion('last', '1 day') - now() AS last, schedule_account_deletion('first', '1 day') AS first;

-- the audit row tells the column as it is
TRUNCATE users;
INSERT INTO users VALUES ('a', '2020-01-01 00:00:00+01', '2020-01-01 00:00:00', '2020-01-01');
CREATE FUNCTION told(due name) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM remove_deletion_policy('users');
    PERFORM add_deletion_policy('users', 'users', due_column => due, time_zone => 'Asia/Tokyo');
    PERFORM process_scheduled_deletions(release_brake => true);
    INSERT INTO users VALUES ('a', '2020-01-01 00:00:00+01', '2020-01-01 00:00:00', '2020-01-01');
    RETURN (SELECT details -> 'deletion_scheduled_at' FROM audit_log ORDER BY created_at DESC LIMIT 1);
END
$$;
SELECT told('zoned'), told('local'), told('day');

-- one moment for the whole run: who becomes due while it is at work is not, in any of its batches
TRUNCATE users, audit_log;
CREATE FUNCTION hurry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE users SET zoned = clock_timestamp() WHERE id = 'late';
    RETURN NULL;
END
$$;
CREATE TRIGGER hurry AFTER INSERT ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION hurry();
INSERT INTO users (id, zoned) VALUES ('early 1', '2020-01-01'), ('early 2', '2020-01-02'), ('late', NULL);
SET scheduled_deletion.batch_size = 1;
SELECT deleted('zoned', '0', 'UTC');
SELECT id FROM users;
RESET scheduled_deletion.batch_size;

-- an index on the due column serves each of them
TRUNCATE users;
INSERT INTO users SELECT n, '2030-01-01', '2030-01-01', '2030-01-01' FROM generate_series(1, 20000) n;
CREATE INDEX ON users (zoned); CREATE INDEX ON users (local); CREATE INDEX ON users (day);
ANALYZE users;
SELECT pg_stat_force_next_flush();
SELECT pg_stat_get_numscans('users'::regclass) AS scans \gset
SELECT deleted('zoned', '1 day', 'UTC'), deleted('local', '1 month', 'Asia/Tokyo'), deleted('day', '0', 'Asia/Tokyo');
SELECT pg_stat_force_next_flush();
SELECT pg_stat_get_numscans('users'::regclass) - :scans AS sequential_scans;

DROP SCHEMA app CASCADE;
DROP EXTENSION scheduled_deletion;
DROP SCHEMA erasure;
