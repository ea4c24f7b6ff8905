-- What every copy is made of.  A psql script for the empty database base: -v accounts,
-- regime.

\connect postgres
SELECT due_accounts AS due, failing_accounts AS failing, kind = 'blocked' AS blocked, kind IN ('late', 'known') AS late,
       kind = 'known' AS known, keys = 'no' AS no_keys, placed = 'accounts' AS in_order
FROM regime WHERE regime = :regime \gset
\connect base

-- The built-in policy is registered by the first call, whoever is due.
CREATE EXTENSION scheduled_deletion;
CREATE EXTENSION pg_prewarm;
\ir ../../schema.sql
SELECT process_scheduled_deletions() \g /dev/null
-- the rows refer to each other as they should, and need not be checked one by one
SET session_replication_role = replica;
\ir ../../generate.sql
RESET session_replication_role;

\if :in_order
-- The two tables that are not anyway; check_ins has no other order than that of its ids.
CREATE TEMPORARY TABLE moved AS
SELECT c.* FROM check_ins AS c JOIN profiles AS p ON p.id = c.user_id ORDER BY p.created_at, c.checkin_date;
TRUNCATE check_ins;
INSERT INTO check_ins TABLE moved;
DROP TABLE moved;
CREATE TEMPORARY TABLE moved AS
SELECT n.* FROM clinical_notes AS n JOIN profiles AS p ON p.id = n.patient_id ORDER BY p.created_at, n.session_date;
TRUNCATE clinical_notes;
INSERT INTO clinical_notes TABLE moved;
DROP TABLE moved;
\endif

-- Who is to be gone afterwards, and who is due and cannot
CREATE TABLE failing AS
SELECT id FROM profiles WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL
ORDER BY md5('fails ' || id) LIMIT :failing;
ALTER TABLE failing ADD PRIMARY KEY (id);
CREATE TABLE doomed AS
SELECT id FROM profiles WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL
EXCEPT TABLE failing;

\if :blocked
CREATE TABLE invoices (number integer PRIMARY KEY, user_id uuid NOT NULL REFERENCES profiles (id));
CREATE INDEX ON invoices (user_id);
INSERT INTO invoices SELECT row_number() OVER (ORDER BY id), id FROM failing;
\endif
\if :late
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM failing WHERE id = OLD.id) THEN
        RAISE EXCEPTION 'account % is still needed', OLD.id;
    END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER refuse BEFORE DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION refuse();
\endif
\if :known
INSERT INTO deletion_failure (policy, account, attempts, first_attempt_at, last_attempt_at, next_attempt_at,
                              sqlstate, table_name, message)
SELECT 'built-in', id, 1, now() - interval '1 day', now() - interval '1 day', now() - interval '23 hours',
       'P0001', 'profiles', 'an error raised by a trigger'
FROM failing;
\endif
\if :no_keys
DO $$
DECLARE
    foreign_key record;
BEGIN
    FOR foreign_key IN SELECT conrelid::regclass AS of, conname AS name FROM pg_constraint
                       WHERE confrelid = 'profiles'::regclass LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', foreign_key.of, foreign_key.name);
    END LOOP;
END
$$;
\endif

-- How many rows there are that have to go, and how many that have to stay
CREATE VIEW census AS
SELECT count(*) FILTER (WHERE goes) AS go, count(*) FILTER (WHERE NOT goes) AS stay
FROM (SELECT id IN (TABLE doomed) AS goes FROM profiles
      UNION ALL SELECT user_id IN (TABLE doomed) FROM check_ins
      UNION ALL SELECT user_id IN (TABLE doomed) FROM crisis_plan
      UNION ALL SELECT patient_id IN (TABLE doomed) OR therapist_id IN (TABLE doomed) FROM clinical_notes
      UNION ALL SELECT patient_id IN (TABLE doomed) OR therapist_id IN (TABLE doomed) FROM therapist_patients
      UNION ALL SELECT user_id IN (TABLE doomed) FROM user_consent) AS r;
CREATE TABLE census_before AS TABLE census;

-- Where the former lie, for those who need not look for them
CREATE TABLE address AS
SELECT of, array_agg(at ORDER BY at) AS at, array_agg(DISTINCT (at::text::point)[0]::bigint) AS pages
FROM (SELECT 'profiles' AS of, ctid AS at FROM profiles WHERE id IN (TABLE doomed)
      UNION ALL SELECT 'check_ins', ctid FROM check_ins WHERE user_id IN (TABLE doomed)
      UNION ALL SELECT 'crisis_plan', ctid FROM crisis_plan WHERE user_id IN (TABLE doomed)
      UNION ALL SELECT 'clinical_notes', ctid FROM clinical_notes
                WHERE patient_id IN (TABLE doomed) OR therapist_id IN (TABLE doomed)
      UNION ALL SELECT 'therapist_patients', ctid FROM therapist_patients
                WHERE patient_id IN (TABLE doomed) OR therapist_id IN (TABLE doomed)
      UNION ALL SELECT 'user_consent', ctid FROM user_consent WHERE user_id IN (TABLE doomed)) AS r
GROUP BY of;

VACUUM (ANALYZE);

SELECT sum(reltuples)::bigint AS rows, pg_database_size('base') AS bytes FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' \gset
\connect postgres
INSERT INTO data SELECT data, :rows, :bytes FROM regime WHERE regime = :regime;
