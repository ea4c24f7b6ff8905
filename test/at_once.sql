-- Tests delete at once: accounts that have failed need not wait for their time, nor
-- does a run rest between batches, and however many of the few that there are are due,
-- no brake is pulled.  The extension is in the schema erasure.
SET scheduled_deletion.pause = 0;
CREATE FUNCTION pg_temp.do_not_wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.next_attempt_at := ''-infinity''; RETURN NEW; END';
CREATE TRIGGER do_not_wait BEFORE INSERT OR UPDATE ON erasure.deletion_failure FOR EACH ROW EXECUTE FUNCTION pg_temp.do_not_wait();
CREATE FUNCTION pg_temp.do_not_brake() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.brake_share := 1; RETURN NEW; END';
CREATE TRIGGER do_not_brake BEFORE INSERT ON erasure.deletion_policy FOR EACH ROW EXECUTE FUNCTION pg_temp.do_not_brake();
