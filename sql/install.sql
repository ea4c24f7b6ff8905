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

-- what pg_dump keeps
SELECT unnest(extconfig)::regclass AS dumped FROM pg_extension WHERE extname = 'scheduled_deletion' ORDER BY 1;

-- the constraints of the tables
\set VERBOSITY terse
CREATE TEMPORARY TABLE policy AS SELECT * FROM erasure.deletion_policy;
INSERT INTO policy VALUES ('p', 'pg_class', '', '{a}', 'b', '0', NULL, 'pg_class', '', NULL, '{}', 'fail', 'UTC', '1 day', true);
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
