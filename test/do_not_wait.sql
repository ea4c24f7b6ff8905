-- Accounts that have failed are tried by the next run of a test, and need not wait
-- for their time.  The extension is in the schema erasure.
CREATE FUNCTION pg_temp.do_not_wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.next_attempt_at := ''-infinity''; RETURN NEW; END';
CREATE TRIGGER do_not_wait BEFORE INSERT OR UPDATE ON erasure.deletion_failure FOR EACH ROW EXECUTE FUNCTION pg_temp.do_not_wait();
