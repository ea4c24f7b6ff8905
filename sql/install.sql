-- The extension installs for nobody but its owner, says what each object is for,
-- and leaves nothing behind.
CREATE ROLE regress_sd_somebody;
CREATE SCHEMA erasure;
-- default privileges do not let anybody in
ALTER DEFAULT PRIVILEGES IN SCHEMA erasure GRANT ALL ON TABLES TO regress_sd_somebody;
ALTER DEFAULT PRIVILEGES IN SCHEMA erasure GRANT ALL ON SEQUENCES TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA erasure GRANT ALL ON FUNCTIONS TO regress_sd_somebody;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;

-- every object, with its comment
CREATE TEMPORARY VIEW object AS
SELECT d.classid, d.objid, i.type, i.identity
FROM pg_depend d, pg_identify_object(d.classid, d.objid, 0) i
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'scheduled_deletion')
    AND i.type IN ('table', 'function', 'procedure', 'view', 'sequence');
\pset format unaligned
SELECT type, identity, obj_description(objid, classid::regclass::name) IS NOT NULL AS has_comment
FROM object ORDER BY identity;
SELECT identity, attname FROM object JOIN pg_attribute ON attrelid = objid
WHERE type IN ('table', 'view') AND attnum > 0 AND col_description(objid, attnum) IS NULL;
\pset format aligned

-- who may do what
SELECT identity, grantee::regrole, privilege_type FROM object
JOIN (SELECT oid, relowner AS owner, relacl AS acl FROM pg_class
    UNION ALL SELECT oid, proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc) a ON oid = objid,
    aclexplode(acl)
WHERE grantee <> owner;

-- nobody gains a right by them that the server does not give to all, whatever the role
-- is called, with GRANT OPTION or not, by those of all schemas or of this one
BEGIN;
CREATE ROLE "regress_sd ""an'on""; $$ --";
CREATE ROLE "REGRESS_SD_PUBLIC";
DROP EXTENSION scheduled_deletion;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO "regress_sd ""an'on""; $$ --", PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO "REGRESS_SD_PUBLIC" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO "regress_sd ""an'on""; $$ --" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES IN SCHEMA erasure GRANT ALL ON TABLES TO "REGRESS_SD_PUBLIC" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES IN SCHEMA erasure GRANT ALL ON FUNCTIONS TO "REGRESS_SD_PUBLIC", PUBLIC;
CREATE TABLE erasure.open ();
SELECT count(DISTINCT grantee) AS let_in FROM pg_class, aclexplode(relacl) WHERE oid = 'erasure.open'::regclass AND grantee <> relowner;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
CREATE TEMPORARY VIEW grants AS
SELECT c.oid::regclass::text AS object, a.* FROM pg_class c, aclexplode(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))) a
WHERE relnamespace = 'erasure'::regnamespace AND relkind IN ('r', 'v', 'S') AND relname <> 'open'
UNION ALL SELECT p.oid::regprocedure::text, a.* FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
WHERE pronamespace = 'erasure'::regnamespace
UNION ALL SELECT c.oid::regclass::text, a.* FROM pg_attribute t JOIN pg_class c ON c.oid = attrelid, aclexplode(attacl) a
WHERE relnamespace = 'erasure'::regnamespace AND relname <> 'open';
SELECT count(DISTINCT object) AS objects, count(DISTINCT grantee) AS grantees FROM grants;
SELECT grantee::regrole = current_user::regrole AS is_owner FROM grants GROUP BY 1;
ROLLBACK;

-- what pg_dump keeps
SELECT unnest(extconfig)::regclass AS dumped FROM pg_extension WHERE extname = 'scheduled_deletion' ORDER BY 1;

-- every function has its caller's rights and settings, and none is thought to be harmless
SELECT prosecdef, proconfig, provolatile, proparallel, prokind, proleakproof, lanname, count(*)
FROM pg_proc JOIN pg_language l ON l.oid = prolang WHERE pronamespace = 'erasure'::regnamespace GROUP BY 1, 2, 3, 4, 5, 6, 7;
SELECT proname FROM pg_proc WHERE pronamespace = 'erasure'::regnamespace AND proisstrict ORDER BY 1;

-- the tables are ordinary ones of one owner, and nothing is attached to them but their keys
-- and a constant
SELECT relname, relkind, relpersistence, relrowsecurity, relhasrules, relhassubclass, reloptions,
    relowner = (SELECT extowner FROM pg_extension WHERE extname = 'scheduled_deletion') AS is_owner
FROM pg_class WHERE relnamespace = 'erasure'::regnamespace AND relkind NOT IN ('i', 't') ORDER BY 1;
SELECT tgrelid::regclass AS table_name, tgname FROM pg_trigger WHERE tgrelid IN (SELECT objid FROM object) AND NOT tgisinternal;
SELECT adrelid::regclass AS table_name, pg_get_expr(adbin, adrelid) AS default FROM pg_attrdef WHERE adrelid IN (SELECT objid FROM object);

-- only a superuser installs it, and owns it then: its tables are written as their owner
SELECT DISTINCT superuser, trusted, relocatable, schema FROM pg_available_extension_versions WHERE name = 'scheduled_deletion';
BEGIN;
DROP EXTENSION scheduled_deletion;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_sd_somebody', current_database()); END $$;
GRANT ALL ON SCHEMA erasure TO regress_sd_somebody;
SET LOCAL ROLE regress_sd_somebody;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;  -- fails
ROLLBACK;

-- the script calls nothing that somebody has put into the schema before: neither the
-- installing superuser nor a constraint, which is checked with the owner's rights
BEGIN;
DROP EXTENSION scheduled_deletion;
GRANT ALL ON SCHEMA erasure TO regress_sd_somebody;
SET LOCAL ROLE regress_sd_somebody;
SET LOCAL search_path = erasure;
CREATE FUNCTION trap(text, regclass) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'trap called by %', current_user; RETURN $1 OPERATOR(pg_catalog.||) $2::pg_catalog.text; END $$;
CREATE FUNCTION trap(text, regprocedure) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'trap called by %', current_user; RETURN $1 OPERATOR(pg_catalog.||) $2::pg_catalog.text; END $$;
CREATE OPERATOR || (LEFTARG = text, RIGHTARG = regclass, FUNCTION = trap);
CREATE OPERATOR || (LEFTARG = text, RIGHTARG = regprocedure, FUNCTION = trap);
CREATE FUNCTION trap(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'trap called by %', current_user; RETURN $1 OPERATOR(pg_catalog.=) $2::pg_catalog.oid; END $$;
CREATE OPERATOR = (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = trap);
CREATE FUNCTION cardinality(name[]) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'trap called by %', current_user; RETURN 1; END $$;
RESET ROLE;
RESET search_path;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
SELECT conname, pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
WHERE c.connamespace = 'erasure'::regnamespace AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass);
ROLLBACK;

-- the same of operators for all pairs of types: none is taken in
BEGIN;
DROP EXTENSION scheduled_deletion;
DO $$
DECLARE
    types text[] := '{int2,int4,int8,float8,numeric,text,name,oid,regclass,regprocedure,"\"char\"",interval,timestamptz,boolean,jsonb}';
    a text;
    b text;
    o text;
BEGIN
    FOREACH a IN ARRAY types LOOP
        FOREACH b IN ARRAY types LOOP
            EXECUTE format('CREATE FUNCTION erasure.decoy(%s, %s) RETURNS boolean LANGUAGE plpgsql AS ''BEGIN RAISE ''''decoy called by %%'''', current_user; END''', a, b);
            FOREACH o IN ARRAY '{=,<>,<,<=,>,>=,+,-,*,/,||,&,~~}'::text[] LOOP
                EXECUTE format('CREATE OPERATOR erasure.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = erasure.decoy)', o, a, b);
            END LOOP;
        END LOOP;
    END LOOP;
END
$$;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS taken_in, o.oid::regoperator AS decoy
FROM pg_depend d JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND d.refobjid = o.oid
WHERE o.oprnamespace = 'erasure'::regnamespace AND d.classid <> 'pg_operator'::regclass
ORDER BY 1, 2::text;
ROLLBACK;

-- the constraints of the tables
\set VERBOSITY terse
CREATE TEMPORARY TABLE policy AS SELECT * FROM erasure.deletion_policy;
INSERT INTO policy VALUES ('p', 'pg_class', '', '{a}', 'b', '0', NULL, 'pg_class', '', NULL, '{}', 'fail', 'UTC', '1 day', true, 0, 1);
UPDATE policy SET policy = ''; INSERT INTO erasure.deletion_policy TABLE policy;  -- fails
UPDATE policy SET policy = 'p', key_columns = '{}'; INSERT INTO erasure.deletion_policy TABLE policy;  -- fails
UPDATE policy SET key_columns = '{a}', grace = '-1 day'; INSERT INTO erasure.deletion_policy TABLE policy;  -- fails
UPDATE policy SET grace = '0', blocking_keys = 'x'; INSERT INTO erasure.deletion_policy TABLE policy;  -- fails
UPDATE policy SET blocking_keys = 'fail'; INSERT INTO erasure.deletion_policy TABLE policy;
INSERT INTO erasure.deletion_policy TABLE policy;  -- fails
INSERT INTO erasure.deletion_step VALUES ('q', 1, 'pg_class', '', '{a}', 'delete', NULL, false);  -- fails
INSERT INTO erasure.deletion_step VALUES ('p', 0, 'pg_class', '', '{a}', 'delete', NULL, false);  -- fails
INSERT INTO erasure.deletion_step VALUES ('p', 1, 'pg_class', '', '{}', 'delete', NULL, false);  -- fails
INSERT INTO erasure.deletion_step VALUES ('p', 1, 'pg_class', '', '{a}', 'forget', NULL, false);  -- fails
INSERT INTO erasure.deletion_step VALUES ('p', 1, 'pg_class', '', '{a}', 'keep', NULL, false);  -- fails
INSERT INTO erasure.deletion_step VALUES ('p', 1, 'pg_class', '', '{a}', 'set null', NULL, true);  -- fails
DROP TABLE policy;
\set VERBOSITY default

DROP EXTENSION scheduled_deletion;
SELECT count(*) FROM pg_class WHERE relnamespace = 'erasure'::regnamespace;
DROP SCHEMA erasure;
DROP ROLE regress_sd_somebody;
-- the settings are there once the library is loaded, and no others
SHOW scheduled_deletion.batch_size;
SET scheduled_deletion.no_such_setting = 1;  -- fails
-- whoever runs a job, or has a trigger fire in it, must not say how long is remembered
SELECT name, context FROM pg_settings WHERE name LIKE 'scheduled_deletion.%' AND context <> 'user';
