-- Ten thousand due accounts, a hundred of which fail in a way that shows only late:
-- little more than twice the work of a clean run, and few subtransactions.  The procedure
-- keeps what it has done beside failing accounts.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
-- sequences are not rolled back: they count what was done, undone or not
CREATE SEQUENCE rows_deleted;
CREATE SEQUENCE statements_executed;
CREATE FUNCTION count_row() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM nextval('app.rows_deleted'); RETURN NULL; END $$;
CREATE FUNCTION count_statement() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM nextval('app.statements_executed'); RETURN NULL; END $$;
CREATE FUNCTION poisoned() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF OLD.role = 'admin' THEN RAISE 'poisoned'; END IF; RETURN NULL; END $$;
CREATE FUNCTION fill(poison int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO profiles (id, email, role, deletion_scheduled_at)
    SELECT account('account' || n), n || '@example.org', CASE WHEN n % 10000 / 97 < poison AND n % 97 = 13 THEN 'admin' ELSE 'patient' END,
        '2020-01-01'::timestamptz + n * interval '1 minute'
    FROM generate_series(1, 10000) n;
    INSERT INTO check_ins (user_id) SELECT account('account' || n) FROM generate_series(1, 10000) n, generate_series(1, 3);
$$;
CREATE TABLE work (run text, deleted int, failed int, told int, subtransactions int, statements numeric, rows numeric);
-- a run in a transaction of its own, and what it cost; a subtransaction that is
-- kept has its mark on the audit rows it wrote
CREATE PROCEDURE run_and_count(run text) LANGUAGE plpgsql AS $$
DECLARE
    report jsonb;
BEGIN
    PERFORM setval('rows_deleted', 1), setval('statements_executed', 1);
    report := process_scheduled_deletions();
    INSERT INTO work SELECT run, (report ->> 'users_deleted')::int, (report ->> 'users_failed')::int,
        jsonb_array_length(report -> 'errors'),
        (SELECT count(DISTINCT xmin::text) FROM audit_log),
        currval('statements_executed'), currval('rows_deleted');
    COMMIT;
END
$$;
CREATE TRIGGER count_row AFTER DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION count_row();
CREATE TRIGGER count_row AFTER DELETE ON check_ins FOR EACH ROW EXECUTE FUNCTION count_row();
CREATE TRIGGER count_statement AFTER DELETE ON profiles EXECUTE FUNCTION count_statement();
CREATE TRIGGER count_statement AFTER DELETE ON check_ins EXECUTE FUNCTION count_statement();
-- fires after the others, when everything has been deleted
CREATE TRIGGER z_poisoned AFTER DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION poisoned();

SELECT fill(0);
CALL run_and_count('clean');
TRUNCATE audit_log;
SELECT fill(100);
ANALYZE profiles;
INSERT INTO accounts_before SELECT * FROM profiles;
CALL run_and_count('100 of 10000');
SELECT * FROM broken_promises;
SELECT count(*), count(*) FILTER (WHERE role = 'admin') AS poisoned FROM profiles;
SELECT count(*) FROM check_ins;
TRUNCATE profiles, check_ins, audit_log CASCADE;
SELECT fill(3);
CALL run_and_count('3 of 10000');
TRUNCATE profiles, check_ins, audit_log CASCADE;
SELECT fill(100);
SELECT setval('statements_executed', 1), setval('rows_deleted', 1) \g /dev/null
CALL run_scheduled_deletions(pause => '0', raise_on_failure => false) \g /dev/null
INSERT INTO work SELECT 'procedure, 100', users_deleted, users_failed, jsonb_array_length(report -> 'errors'),
    NULL,
    currval('statements_executed'), currval('rows_deleted')
FROM deletion_run ORDER BY run_id DESC LIMIT 1;

SELECT run, deleted, failed, told, subtransactions BETWEEN 1 AND 64 AS few_subtransactions FROM work;
-- against a clean run, and against deleting account by account from two tables
SELECT w.run, w.rows / c.rows <= CASE w.run WHEN 'procedure, 100' THEN 1.7 ELSE 2.5 END AS little_more_work,
    w.statements <= 0.2 * 2 * 10000 AS few_statements
FROM work w, work c WHERE c.run = 'clean';
:clean_up
