-- A dry run does it all, tells the same numbers, and leaves nothing changed.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
\set generate :srcdir '/test/generate.sql'
\set ECHO none
\i :generate
\set ECHO all
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
INSERT INTO invoices SELECT id FROM profiles WHERE deletion_scheduled_at <= now() ORDER BY id LIMIT 1;
CREATE FUNCTION everything() RETURNS TABLE (everything xml) LANGUAGE sql AS
$$ SELECT query_to_xml('SELECT * FROM ' || t || ' ORDER BY 1', true, true, '')
   FROM unnest('{profiles,check_ins,crisis_plan,clinical_notes,therapist_patients,user_consent,audit_log,
erasure.deletion_policy,erasure.deletion_step}'::text[]) WITH ORDINALITY AS u (t, n) ORDER BY n $$;
CREATE TABLE before AS SELECT * FROM everything();
SELECT length(string_agg(everything::text, '')) > 100000 AS something_to_compare FROM before;

CREATE TABLE run AS SELECT 1 AS n, process_scheduled_deletions(dry_run => true) AS report;
SELECT count(*) AS changed FROM (
    (SELECT everything::text FROM before EXCEPT ALL SELECT everything::text FROM everything())
    UNION ALL (SELECT everything::text FROM everything() EXCEPT ALL SELECT everything::text FROM before)) d;

INSERT INTO run SELECT 2, process_scheduled_deletions();
SELECT n, report -> 'dry_run' AS dry_run, report -> 'users_deleted' AS deleted, report -> 'users_failed' AS failed FROM run ORDER BY n;
SELECT count(DISTINCT report - '{run_id,dry_run,started_at,completed_at,duration_seconds}'::text[]) AS different_reports FROM run;
-- the first one had registered the policy, and that was undone, too
SELECT policy FROM erasure.deletion_policy;

-- an error leaves the caller's own subtransaction as it was
BEGIN;
SELECT add_account('kept', NULL);
SAVEPOINT s;
SELECT process_scheduled_deletions('no such policy', dry_run => true);  -- fails
ROLLBACK TO s;
SELECT count(*) FROM profiles WHERE id = account('kept');
DO $$
BEGIN
    PERFORM process_scheduled_deletions('no such policy', dry_run => true);
EXCEPTION WHEN undefined_object THEN
    RAISE NOTICE 'caught: %', SQLERRM;
END
$$;
SELECT count(*) FROM profiles WHERE id = account('kept');
COMMIT;
:clean_up
