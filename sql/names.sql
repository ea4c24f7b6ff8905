-- Generated statements mean the same whatever stands in front of the search_path,
-- and triggers see the caller's.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
-- a schema that has an answer of its own for everything
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.always(uuid, uuid) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION hostile.always(timestamptz, timestamptz) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION hostile.always(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR hostile.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = hostile.always);
CREATE OPERATOR hostile.> (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = hostile.always);
CREATE OPERATOR hostile.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.always);
CREATE OPERATOR hostile.>= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.always);
CREATE OPERATOR hostile.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.always);
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.always);
CREATE FUNCTION hostile.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN RAISE 'hostile unnest'; END $$;
CREATE DOMAIN hostile.uuid AS text;
CREATE DOMAIN hostile.oid AS text;
CREATE DOMAIN hostile.text AS int;
CREATE DOMAIN hostile.regclass AS text;
CREATE TABLE hostile.deletion_policy (policy int);
CREATE TABLE hostile.deletion_step (policy int);
CREATE TABLE hostile.pg_trigger (tgdeferrable int);
CREATE SEQUENCE hostile.deletion_run_id;
SELECT add_account('due'), add_account('living', NULL), add_account('later', now() + interval '1 day');
INSERT INTO clinical_notes (patient_id, therapist_id, note_text) VALUES (account('living'), account('later'), 'stays');
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
INSERT INTO invoices VALUES (account('living'));
BEGIN;
SET LOCAL search_path = hostile, pg_catalog, app, erasure;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT pg_catalog.count(*) FROM app.profiles;
SELECT pg_catalog.count(*) FROM app.clinical_notes;
ROLLBACK;
-- and with the policy registered before
SELECT process_scheduled_deletions(dry_run => false) -> 'users_deleted' AS deleted;
SELECT add_account('due'), add_account('due too');
BEGIN;
SET LOCAL search_path = hostile, pg_catalog, app, erasure;
SET LOCAL scheduled_deletion.batch_size = 1;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
ROLLBACK;
SELECT * FROM whole_accounts;

-- nor does any function of the extension call what looks like the server's own: there
-- are operators, functions, types, catalogs and tables of the same names in front
CREATE SCHEMA look_alike;
GRANT USAGE ON SCHEMA look_alike TO PUBLIC;
CREATE FUNCTION look_alike.note(what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS
$$ BEGIN
    RAISE WARNING '% called by %', what,
        CASE current_user WHEN session_user THEN 'its owner' ELSE current_user END;
END $$;
DO $$
DECLARE
    item record;
BEGIN
    -- of these names, for any two types but pseudo-types
    FOR item IN
        SELECT o.oid, oprname, oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS result
        FROM pg_operator o JOIN pg_type tl ON tl.oid = oprleft JOIN pg_type tr ON tr.oid = oprright
        WHERE oprname IN ('=', '<>', '<', '<=', '>', '>=', '||', '~~', '~', '!~', '+', '-', '->', '->>', '@>')
            AND oprnamespace = 'pg_catalog'::regnamespace AND tl.typtype = 'b' AND tr.typtype = 'b'
        UNION ALL SELECT 1, '||', 'text', 'regclass', 'text'
        UNION ALL SELECT 2, '||', 'text', 'regprocedure', 'text'
        UNION ALL SELECT 3, '=', 'oid', 'regclass', 'boolean'
        UNION ALL SELECT 4, '=', 'regclass', 'oid', 'boolean'
    LOOP
        EXECUTE format('CREATE FUNCTION look_alike.op_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L',
            item.oid, item.l, item.r, item.result, format('BEGIN PERFORM look_alike.note(%L); RETURN NULL; END', 'operator ' || item.oprname));
        EXECUTE format('CREATE OPERATOR look_alike.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = look_alike.op_%s)',
            item.oprname, item.l, item.r, item.oid);
    END LOOP;
    -- functions that fit better than the server's where those take any type
    FOR item IN
        SELECT f AS name, t || suffix AS args, CASE f WHEN 'unnest' THEN 'SETOF ' || t ELSE result END AS result
        FROM unnest('{uuid,text,name,oid,integer,bigint,jsonb,timestamptz}'::text[]) t,
            (VALUES ('unnest', '[]', NULL), ('cardinality', '[]', 'integer'), ('array_agg', '', 'text[]'), ('count', '', 'bigint'),
                ('max', '', 'integer'), ('to_jsonb', '', 'jsonb'), ('jsonb_typeof', '', 'text')) f (f, suffix, result)
        UNION ALL VALUES ('now', '', 'timestamptz'), ('count', '', 'bigint'), ('gen_random_uuid', '', 'uuid')
    LOOP
        EXECUTE format('CREATE FUNCTION look_alike.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L',
            item.name, item.args, item.result, format('BEGIN PERFORM look_alike.note(%L); RETURN%s; END',
                'function ' || item.name, CASE item.name WHEN 'unnest' THEN '' ELSE ' NULL' END));
    END LOOP;
    FOR item IN SELECT unnest('{uuid,oid,text,name,jsonb,regclass,regtype,regrole,int4,int8,bool,interval,timestamptz}'::text[]) AS name LOOP
        EXECUTE format('CREATE DOMAIN look_alike.%I AS pg_catalog.int2', item.name);
    END LOOP;
    -- the catalogs and the extension's tables, empty
    FOR item IN SELECT relname FROM pg_class WHERE relkind = 'r' AND (relnamespace = 'erasure'::regnamespace
        OR relnamespace = 'pg_catalog'::regnamespace AND relname ~ '^pg_(class|proc|type|namespace|trigger|rewrite|index|constraint|attr|depend|operator|inherits|default_acl|statistic_ext|authid)')
    LOOP
        EXECUTE format('CREATE TABLE look_alike.%I (policy int2)', item.relname);
    END LOOP;
    CREATE VIEW look_alike.pg_roles AS SELECT look_alike.note('view pg_roles')::text AS rolname;
END
$$;
CREATE TABLE look_alike.profiles (LIKE app.profiles);
INSERT INTO look_alike.profiles SELECT * FROM app.profiles;
CREATE TABLE look_alike.check_ins (LIKE app.check_ins);
CREATE TABLE look_alike.audit_log (LIKE app.audit_log);
CREATE SEQUENCE look_alike.deletion_run_id;
SELECT account('due') AS due, account('later') AS later \gset
INSERT INTO invoices VALUES (account('due'));
SET client_min_messages = warning;
BEGIN;
DROP TRIGGER do_not_wait ON erasure.deletion_failure;
SET LOCAL search_path = look_alike, pg_catalog, app, erasure;
-- one that is called tells so
SELECT pg_catalog.now() <= pg_catalog.now() AS answer, cardinality('{}'::pg_catalog.name[]);
SELECT pg_catalog.jsonb_object_field(process_scheduled_deletions(dry_run => true), 'users_deleted') AS deleted;
SELECT pg_catalog.jsonb_object_field(process_scheduled_deletions(), 'users_failed') AS failed;
SELECT retry_account(:'due'), retry_account();
SELECT alter_deletion_policy('built-in', overdue_after => '2 days', time_zone => 'Europe/Vienna');
SELECT add_deletion_policy('second', 'app.profiles', grace => '1 day', done_column => 'deleted_at', audit_table => 'app.audit_log', audit_details => '{role}');
SELECT add_deletion_step('second', 'app.invoices', '{user_id}', action => 'set null');
SELECT add_deletion_step('second', 'app.clinical_notes', '{therapist_id}', match => '{"note_text": "stays"}');
SELECT pg_catalog.count(*) FROM deletion_plan('second');
SELECT EXISTS (SELECT FROM check_deletion_policy('second')) AS found;
SELECT schedule_account_deletion(:'later', '0', 'built-in', performed_by => :'due') IS NOT NULL AS scheduled;
SELECT cancel_account_deletion(:'later', 'built-in');
SELECT pg_catalog.jsonb_object_field(process_scheduled_deletions('built-in'), 'users_failed') AS failed;
SELECT pg_catalog.jsonb_object_field(process_scheduled_deletions('second'), 'users_deleted') AS deleted;
SELECT remove_deletion_step('second', 'app.invoices');
SELECT remove_deletion_policy('second');
SELECT pg_catalog.count(*) FROM look_alike.profiles;
ROLLBACK;
DROP SCHEMA look_alike CASCADE;
SET client_min_messages = notice;

-- nor are temporary tables taken for the server's or the extension's, which are there
-- before the session has called anything
\c -
SET search_path = app, erasure;
SET client_min_messages = warning;
CREATE TEMPORARY TABLE deletion_policy (LIKE erasure.deletion_policy);
CREATE TEMPORARY TABLE deletion_step (LIKE erasure.deletion_step);
CREATE TEMPORARY TABLE deletion_failure (LIKE erasure.deletion_failure);
CREATE TEMPORARY SEQUENCE deletion_run_id START 1000;
CREATE TEMPORARY TABLE pg_class (relname name);
CREATE TEMPORARY TABLE pg_trigger (tgname name);
CREATE TEMPORARY TABLE profiles (LIKE app.profiles);
CREATE TEMPORARY TABLE check_ins (LIKE app.check_ins);
CREATE TEMPORARY TABLE audit_log (LIKE app.audit_log);
INSERT INTO profiles SELECT * FROM app.profiles;
BEGIN;
DELETE FROM erasure.deletion_policy;
SELECT r -> 'users_deleted' AS deleted, r -> 'users_failed' AS failed, (r ->> 'run_id')::int < 1000 AS run_id FROM process_scheduled_deletions() r;
SELECT count(*) FROM profiles;
SELECT count(*) FROM app.profiles;
SELECT policy, account_table FROM erasure.deletion_policy;
SELECT DISTINCT policy FROM deletion_plan();
SELECT EXISTS (SELECT FROM check_deletion_policy()) AS found;
SELECT retry_account();
SELECT count(*) FROM pg_temp.deletion_failure;
ROLLBACK;
DISCARD TEMP;
DELETE FROM invoices WHERE user_id = account('due');
SET client_min_messages = notice;

-- a trigger finds its tables as in any other DELETE
CREATE TABLE farewell (user_id uuid);
CREATE FUNCTION say_farewell() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO farewell VALUES (OLD.id); RETURN NULL; END $$;
CREATE TRIGGER say_farewell AFTER DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION say_farewell();
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT count(*) FROM farewell;
DROP TRIGGER say_farewell ON profiles;

-- names that have to be quoted, and a table that is not visible
ALTER TABLE check_ins RENAME TO "Check ""ins"" of a person";
ALTER TABLE profiles RENAME COLUMN deletion_scheduled_at TO "Due; DROP TABLE profiles";
CREATE SCHEMA "Other Schema";
ALTER TABLE crisis_plan SET SCHEMA "Other Schema";
UPDATE deletion_policy SET due_column = 'Due; DROP TABLE profiles';
INSERT INTO profiles (id, email, "Due; DROP TABLE profiles") VALUES (account('quoted'), 'quoted@example.org', '2020-01-01');
INSERT INTO "Check ""ins"" of a person" (user_id) VALUES (account('quoted'));
SELECT jsonb_pretty(process_scheduled_deletions() -> 'total_records_deleted') AS deleted;
SET client_min_messages = warning;
DROP SCHEMA hostile CASCADE;
DROP SCHEMA "Other Schema" CASCADE;
:clean_up
