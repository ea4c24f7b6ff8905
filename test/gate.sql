-- Let the sixth account that is due keep a run waiting while somebody holds advisory
-- lock 1: of two accounts a batch, two batches are complete then, and the third has
-- deleted all rows but those of profiles.  A psql script.
CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN OLD; END';
SELECT format(
    'CREATE TRIGGER wait_at_gate BEFORE DELETE ON profiles FOR EACH ROW WHEN (OLD.id = %L)
        EXECUTE FUNCTION wait_at_gate()', id)
FROM profiles
WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL
ORDER BY deletion_scheduled_at OFFSET 5 LIMIT 1 \gexec
