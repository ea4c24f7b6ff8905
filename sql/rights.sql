-- Nobody gains rights: what a role may not do itself, it cannot do by the extension,
-- neither with its tables, nor with what its tables are written as, nor by a trigger.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
CREATE ROLE regress_sd_job;
CREATE ROLE regress_sd_app;
CREATE ROLE regress_sd_low;
-- what the README grants, and the right to look
GRANT USAGE ON SCHEMA app, erasure TO regress_sd_job, regress_sd_app, regress_sd_low;
GRANT SELECT, DELETE ON profiles, check_ins, crisis_plan, clinical_notes, therapist_patients, user_consent TO regress_sd_job;
GRANT UPDATE (deletion_scheduled_at) ON profiles TO regress_sd_job;
GRANT INSERT ON audit_log TO regress_sd_job;
GRANT EXECUTE ON FUNCTION process_scheduled_deletions, deletion_plan, check_deletion_policy TO regress_sd_job;
GRANT SELECT ON deletion_policy, deletion_step, deletion_failure, deletion_run_id TO regress_sd_job;
GRANT SELECT, UPDATE (deletion_scheduled_at) ON profiles TO regress_sd_app;
GRANT INSERT ON audit_log TO regress_sd_app;
GRANT EXECUTE ON FUNCTION schedule_account_deletion, cancel_account_deletion TO regress_sd_app;
-- what a role is told that tries a statement
CREATE FUNCTION told(who regrole, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text := 'allowed';
    detail text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %s', who);
    BEGIN
        EXECUTE statement;
        RAISE SQLSTATE 'DONE0';
    EXCEPTION WHEN SQLSTATE 'DONE0' THEN
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    END;
    RESET ROLE;
    RETURN concat_ws(' / ', message, nullif(detail, ''));
END
$$;
SELECT add_account('one'), add_account('two'), add_account('living', NULL);
SELECT account('one') AS one, account('living') AS living \gset

-- with them the job runs, rehearses, plans and checks, and sees what there is
SET ROLE regress_sd_job;
SELECT process_scheduled_deletions(dry_run => true) -> 'users_deleted' AS deleted;
SELECT process_scheduled_deletions(max_accounts => 1) -> 'users_deleted' AS deleted;
SELECT count(*) FROM deletion_plan();
SELECT severity, code, object FROM check_deletion_policy();
SELECT (SELECT count(*) FROM deletion_policy) AS policies, (SELECT count(*) FROM deletion_step) AS steps,
    (SELECT count(*) FROM deletion_failure) AS failures, (SELECT last_value > 0 FROM deletion_run_id) AS runs;
RESET ROLE;

-- and so for a person's request
BEGIN;
SET LOCAL ROLE regress_sd_app;
SELECT schedule_account_deletion(:'living') IS NOT NULL AS scheduled;
SELECT cancel_account_deletion(:'living');
ROLLBACK;

-- each grant is needed: without it the error names it
CREATE FUNCTION told_without(who regrole, statement text) RETURNS TABLE (without text, error text) LANGUAGE plpgsql AS $$
DECLARE
    needed record;
BEGIN
    FOR needed IN
        SELECT object, privilege_type || coalesce(' (' || col || ')', '') AS privilege
        FROM (SELECT 'TABLE ' || c.oid::regclass, NULL, a.* FROM pg_class c, aclexplode(relacl) a WHERE relnamespace = 'app'::regnamespace
            UNION ALL SELECT 'TABLE ' || attrelid::regclass, quote_ident(attname), a.* FROM pg_attribute, aclexplode(attacl) a
            UNION ALL SELECT 'FUNCTION ' || p.oid::regprocedure, NULL, a.* FROM pg_proc p, aclexplode(proacl) a
                WHERE pronamespace = 'erasure'::regnamespace AND strpos(statement, proname) > 0
            UNION ALL SELECT 'SCHEMA ' || n.oid::regnamespace, NULL, a.* FROM pg_namespace n, aclexplode(nspacl) a
            ) g (object, col)
        WHERE grantee = who ORDER BY object COLLATE "C", privilege
    LOOP
        without := needed.privilege || ' ON ' || needed.object;
        EXECUTE format('REVOKE %s ON %s FROM %s', needed.privilege, needed.object, who);
        error := told(who, statement);
        EXECUTE format('GRANT %s ON %s TO %s', needed.privilege, needed.object, who);
        RETURN NEXT;
    END LOOP;
END
$$;
\pset format unaligned
SELECT * FROM told_without('regress_sd_job', 'SELECT erasure.process_scheduled_deletions()');
SELECT * FROM told_without('regress_sd_app', format('SELECT erasure.schedule_account_deletion(%L)', :'living'));
SELECT DISTINCT error FROM told_without('regress_sd_job', 'SELECT 1 FROM erasure.check_deletion_policy()') WHERE without ~ 'TABLE|app';
\pset format aligned

-- the tables are closed, and so is every way around
CREATE SCHEMA low AUTHORIZATION regress_sd_low;
GRANT USAGE, CREATE ON SCHEMA low TO regress_sd_job, regress_sd_low;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_sd_job', current_database()); END $$;
SET ROLE regress_sd_job;
CREATE VIEW low.policy AS SELECT * FROM erasure.deletion_policy;
CREATE VIEW low.failure WITH (security_invoker) AS SELECT * FROM erasure.deletion_failure;
CREATE TABLE low.log (what text);
CREATE RULE also AS ON INSERT TO low.log DO ALSO DELETE FROM erasure.deletion_policy;
CREATE FUNCTION low.writes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM erasure.deletion_step; RETURN NULL; END $$;
CREATE TABLE low.fired (what text);
CREATE TRIGGER writes AFTER INSERT ON low.fired EXECUTE FUNCTION low.writes();
CREATE FUNCTION low.definer() RETURNS void SECURITY DEFINER LANGUAGE sql AS 'UPDATE erasure.deletion_policy SET enabled = false';
CREATE FUNCTION low.hook() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION low.always(text) RETURNS regclass IMMUTABLE LANGUAGE sql AS $$ SELECT 'app.profiles'::regclass $$;
RESET ROLE;
\pset format unaligned
SELECT statement, told('regress_sd_job', statement) FROM (VALUES
    ('INSERT INTO erasure.deletion_policy SELECT ''x'', account_table FROM erasure.deletion_policy'),
    ('UPDATE erasure.deletion_policy SET enabled = false'),
    ('DELETE FROM erasure.deletion_policy'),
    ('TRUNCATE erasure.deletion_policy CASCADE'),
    ('SELECT FROM erasure.deletion_policy FOR UPDATE'),
    ('LOCK TABLE erasure.deletion_policy IN SHARE MODE'),
    ('MERGE INTO erasure.deletion_policy USING (SELECT) s ON true WHEN MATCHED THEN DELETE'),
    ('INSERT INTO erasure.deletion_step SELECT * FROM erasure.deletion_step'),
    ('UPDATE erasure.deletion_step SET columns = ''{therapist_id}'''),
    ('DELETE FROM erasure.deletion_step'),
    ('TRUNCATE erasure.deletion_step'),
    ('INSERT INTO erasure.deletion_failure VALUES (''built-in'', ''a'', 1, now(), now(), ''infinity'', ''00000'', NULL, NULL, '''')'),
    ('UPDATE erasure.deletion_failure SET next_attempt_at = now()'),
    ('DELETE FROM erasure.deletion_failure'),
    ('TRUNCATE erasure.deletion_failure'),
    ('SELECT nextval(''erasure.deletion_run_id'')'),
    ('SELECT setval(''erasure.deletion_run_id'', 1)'),
    ('ALTER SEQUENCE erasure.deletion_run_id RESTART'),
    ('UPDATE low.policy SET enabled = false'),
    ('DELETE FROM low.failure'),
    ('INSERT INTO low.log VALUES (''x'')'),
    ('INSERT INTO low.fired VALUES (''x'')'),
    ('SELECT low.definer()'),
    ('SELECT erasure.add_deletion_policy(''x'', ''app.profiles'')'),
    ('SELECT erasure.alter_deletion_policy(''built-in'', enabled => false)'),
    ('SELECT erasure.remove_deletion_policy(''built-in'')'),
    ('SELECT erasure.add_deletion_step(''built-in'', ''app.audit_log'', ''{user_id}'')'),
    ('SELECT erasure.remove_deletion_step(''built-in'', ''app.check_ins'')'),
    ('SELECT erasure.retry_account()'),
    ('SELECT erasure.schedule_account_deletion(''x'')'),
    ('SELECT erasure.cancel_account_deletion(''x'')')) AS s (statement);

-- nor can anybody attach what would be run when they are written as their owner
SELECT statement, told('regress_sd_job', statement) FROM (VALUES
    ('CREATE TRIGGER t BEFORE INSERT ON erasure.deletion_policy EXECUTE FUNCTION low.writes()'),
    ('CREATE RULE r AS ON INSERT TO erasure.deletion_failure DO ALSO INSERT INTO low.log VALUES (1)'),
    ('CREATE POLICY p ON erasure.deletion_policy USING (low.always(policy) IS NOT NULL)'),
    ('CREATE INDEX ON erasure.deletion_policy (low.always(policy))'),
    ('CREATE STATISTICS low.s ON (low.always(policy)), enabled FROM erasure.deletion_policy'),
    ('ALTER TABLE erasure.deletion_failure ALTER message SET DEFAULT low.always('''')'),
    ('ALTER TABLE erasure.deletion_failure ADD CHECK (low.always(message) IS NOT NULL)'),
    ('ALTER TABLE erasure.deletion_policy ADD n int GENERATED ALWAYS AS (1) STORED'),
    ('ALTER TABLE erasure.deletion_policy DISABLE TRIGGER ALL'),
    ('ALTER TABLE erasure.deletion_policy SET SCHEMA low'),
    ('CREATE TABLE low.child () INHERITS (erasure.deletion_policy)'),
    ('CREATE TABLE low.child (LIKE erasure.deletion_policy); ALTER TABLE low.child INHERIT erasure.deletion_policy'),
    ('CREATE TABLE low.referring (policy text REFERENCES erasure.deletion_policy ON DELETE CASCADE)'),
    ('CREATE PUBLICATION p FOR TABLE erasure.deletion_failure'),
    ('CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION low.hook()'),
    ('CREATE CAST (text AS regclass) WITH FUNCTION low.always(text) AS IMPLICIT'),
    ('CREATE OPERATOR CLASS low.ops DEFAULT FOR TYPE text USING btree AS OPERATOR 1 <'),
    ('CREATE TABLE erasure.x ()'),
    ('CREATE FUNCTION erasure.unnest(text[]) RETURNS text LANGUAGE sql AS ''SELECT 1'''),
    ('CREATE OR REPLACE FUNCTION erasure.retry_account(account text DEFAULT NULL, policy text DEFAULT NULL) RETURNS bigint LANGUAGE sql AS ''SELECT 1'''),
    ('ALTER FUNCTION erasure.process_scheduled_deletions SECURITY DEFINER'),
    ('ALTER FUNCTION erasure.process_scheduled_deletions SET search_path = low'),
    ('ALTER EXTENSION scheduled_deletion ADD TABLE low.log'),
    ('ALTER EXTENSION scheduled_deletion SET SCHEMA low'),
    ('DROP EXTENSION scheduled_deletion')) AS s (statement);
\pset format aligned

-- the only switch of user is around one statement on the extension's tables: there
-- nobody can take on another role, and afterwards the caller is who it was, also
-- after an error
CREATE FUNCTION tells() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '% of % is by the owner: %', lower(TG_OP), TG_RELNAME,
        current_user = (SELECT relowner::regrole::text FROM pg_class WHERE oid = TG_RELID);
    IF TG_NARGS > 0 THEN
        EXECUTE TG_ARGV[0];
    END IF;
    RETURN NULL;
END
$$;
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
INSERT INTO invoices SELECT id FROM profiles WHERE deletion_scheduled_at IS NOT NULL;
CREATE TRIGGER tells AFTER INSERT OR UPDATE OR DELETE ON erasure.deletion_failure EXECUTE FUNCTION tells();
BEGIN;
SET LOCAL ROLE regress_sd_job;
SELECT process_scheduled_deletions() -> 'users_failed' AS failed;
SELECT current_user;
ROLLBACK;
DROP TRIGGER tells ON erasure.deletion_failure;
CREATE TRIGGER tells AFTER INSERT ON erasure.deletion_failure EXECUTE FUNCTION tells('SET ROLE regress_sd_low');
\set SHOW_CONTEXT never
BEGIN;
SET LOCAL ROLE regress_sd_job;
SAVEPOINT s;
SELECT process_scheduled_deletions() -> 'users_failed' AS failed;  -- fails
ROLLBACK TO s;
SELECT current_user;
DO $$
BEGIN
    PERFORM erasure.process_scheduled_deletions();
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE '% is told: %', current_user, SQLERRM;
END
$$;
SELECT current_user;
DELETE FROM erasure.deletion_policy;  -- fails
ROLLBACK;
DROP TRIGGER tells ON erasure.deletion_failure;
DROP TABLE invoices;

-- triggers of the tables cannot do there what their function's role may not
CREATE FUNCTION does() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE TG_ARGV[0];
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE '% is told: %', current_user, SQLERRM;
    RETURN NULL;
END
$$;
CREATE FUNCTION does_as_low() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE TG_ARGV[0];
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE '% is told: %', current_user, SQLERRM;
    RETURN NULL;
END
$$;
ALTER FUNCTION does_as_low OWNER TO regress_sd_low;
CREATE FUNCTION run_with(function_name text, statement text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    deleted bigint;
BEGIN
    EXECUTE format('CREATE TRIGGER does AFTER DELETE ON crisis_plan FOR EACH ROW EXECUTE FUNCTION %I(%L)', function_name, statement);
    SET LOCAL ROLE regress_sd_job;
    BEGIN
        deleted := (process_scheduled_deletions() ->> 'users_deleted')::bigint;
        RAISE SQLSTATE 'DONE0';
    EXCEPTION WHEN SQLSTATE 'DONE0' THEN
    END;
    IF current_user <> 'regress_sd_job' THEN
        RAISE WARNING 'the caller has become %', current_user;
    END IF;
    RESET ROLE;
    DROP TRIGGER does ON crisis_plan;
    RETURN deleted;
END
$$;
SELECT f, statement, run_with(f, statement) AS deleted FROM (VALUES
    ('SELECT erasure.retry_account()'),
    ('SELECT erasure.alter_deletion_policy(''built-in'', enabled => false)'),
    ('DELETE FROM erasure.deletion_failure'),
    ('INSERT INTO erasure.deletion_step SELECT * FROM erasure.deletion_step'),
    ('SELECT nextval(''erasure.deletion_run_id'')'),
    ('SELECT erasure.process_scheduled_deletions()'),
    ('SET session_replication_role = replica')) AS s (statement), (VALUES ('does'), ('does_as_low')) AS t (f);
-- a role is not changed from within a function that has its owner's
SELECT run_with('does_as_low', 'SET ROLE regress_sd_job') AS deleted;
-- and not unseen from within one that has the caller's
SELECT run_with('does', 'SET SESSION AUTHORIZATION regress_sd_low');  -- fails
SELECT session_user = current_user AS is_who_it_was;
-- other settings of a trigger do not change what is deleted
SELECT run_with('does', 'SELECT set_config(name, value, false) FROM (VALUES (''search_path'', ''''), (''row_security'', ''off''),
    (''standard_conforming_strings'', ''off''), (''datestyle'', ''German''), (''quote_all_identifiers'', ''on'')) AS s (name, value)
    WHERE name <> ''standard_conforming_strings'' OR current_setting(''server_version_num'')::int < 190000') AS deleted;

-- a key type of somebody whose code nobody trusts: what is called of it is called by
-- the job, never by the owner of the extension, and a cast is not asked at all
SET ROLE regress_sd_low;
CREATE FUNCTION low.shown(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'check of % is called by %', $1, current_user; RETURN true; END $$;
CREATE TYPE low.color AS ENUM ('red', E'{"\\''},$$', 'NULL');
CREATE FUNCTION low.to_text(low.color) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'cast is called by %', current_user; RETURN 'red'; END $$;
CREATE CAST (low.color AS text) WITH FUNCTION low.to_text(low.color) AS ASSIGNMENT;
CREATE DOMAIN low.word AS text CHECK (low.shown(VALUE));
RESET ROLE;
CREATE TABLE users (id low.color PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE TABLE posts (user_id low.color REFERENCES users ON DELETE CASCADE);
CREATE TABLE blocks (user_id low.color REFERENCES users);
CREATE TABLE users_log (user_id low.word, action text, details jsonb, performed_by text, created_at timestamptz);
GRANT UPDATE ON users TO regress_sd_job;
GRANT SELECT, DELETE ON users, posts TO regress_sd_job;
GRANT INSERT ON users_log TO regress_sd_job;
INSERT INTO users SELECT unnest(enum_range(NULL::low.color)), '2020-01-01';
SET client_min_messages = warning;
INSERT INTO posts SELECT id FROM users;
INSERT INTO blocks VALUES ('NULL');
SELECT add_deletion_policy('colors', 'users', audit_table => 'users_log');
SET client_min_messages = notice;
BEGIN;
SET LOCAL ROLE regress_sd_job;
SELECT r -> 'users_deleted' AS deleted, r #> '{errors,0,user_id}' AS failed FROM process_scheduled_deletions('colors') r;
SELECT account, attempts FROM deletion_failure;
RESET ROLE;
SELECT user_id FROM users_log ORDER BY user_id COLLATE "C";
DROP TRIGGER do_not_wait ON erasure.deletion_failure;
UPDATE deletion_failure SET next_attempt_at = 'infinity';
SELECT retry_account('{}', 'colors'), retry_account('NULL', 'colors');
ROLLBACK;
SELECT remove_deletion_policy('colors');

-- row-level security as an application has it: who looks after it sees the audit rows,
-- everybody writes them; a role that is not exempt is refused before any work
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY admins_look ON audit_log FOR SELECT USING (pg_has_role('pg_read_all_data', 'member'));
CREATE POLICY all_write ON audit_log FOR INSERT WITH CHECK (true);
CREATE FUNCTION works() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'work is done'; RETURN NULL; END $$;
CREATE TRIGGER works AFTER DELETE ON check_ins EXECUTE FUNCTION works();
BEGIN; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails
ALTER ROLE regress_sd_job BYPASSRLS;
BEGIN; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted; SELECT FROM audit_log; ROLLBACK;  -- fails at last
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;
BEGIN; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted; ROLLBACK;
ALTER ROLE regress_sd_job NOBYPASSRLS;
-- the owner of the tables is not exempt from what is forced, on any of them
CREATE FUNCTION give(who regrole) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t regclass;
BEGIN
    FOREACH t IN ARRAY '{profiles,check_ins,crisis_plan,clinical_notes,therapist_patients,user_consent,audit_log}'::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %s', t, who);
    END LOOP;
END
$$;
BEGIN;
SELECT give('regress_sd_job');
SET LOCAL ROLE regress_sd_job;
SAVEPOINT s;
SELECT process_scheduled_deletions();  -- fails
ROLLBACK TO s;
ALTER TABLE audit_log NO FORCE ROW LEVEL SECURITY;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
ROLLBACK;
BEGIN;
ALTER TABLE audit_log DISABLE ROW LEVEL SECURITY;
SELECT give('regress_sd_job');
ALTER TABLE therapist_patients ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON therapist_patients USING (true);
SET LOCAL ROLE regress_sd_job;
SELECT process_scheduled_deletions();  -- fails
ROLLBACK;
-- what row_security says does not exempt anybody
BEGIN; SET LOCAL row_security = off; SET LOCAL ROLE regress_sd_job; SELECT process_scheduled_deletions(); ROLLBACK;  -- fails

SELECT * FROM whole_accounts;
SET client_min_messages = warning;
DROP OWNED BY regress_sd_job, regress_sd_app, regress_sd_low CASCADE;
:clean_up
DROP ROLE regress_sd_job, regress_sd_app, regress_sd_low;
