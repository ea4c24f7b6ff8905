/* src/scheduled_deletion--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION scheduled_deletion" to load this file. \quit

-- All objects are in the schema that the installing user chose; the C code finds
-- them there by that schema's OID, never by search_path.
--
-- Tables of the user are regclass, which follows a rename and is dumped as a
-- name; beside each stands its name at registration, which only serves to tell
-- which table is gone when it was dropped.  Columns are names: one that is
-- renamed is an error until the policy is told.
--
-- Nobody but the owner may do anything here until it is granted, whatever
-- default privileges say; the C code reads and writes the tables as their owner.

--
-- deletion_policy: what is deleted, and when.  Decided by the operator, so
-- dumped with the database.
--
CREATE TABLE @extschema@.deletion_policy (
    policy text PRIMARY KEY CHECK (policy <> ''),
    account_table regclass NOT NULL,
    account_table_name text NOT NULL,
    key_columns name[] NOT NULL CHECK (array_length(key_columns, 1) = 1),
    due_column name NOT NULL,
    done_column name,
    audit_table regclass NOT NULL,
    audit_table_name text NOT NULL,
    enabled boolean NOT NULL DEFAULT true
);

COMMENT ON TABLE @extschema@.deletion_policy IS
'one row for each deletion policy: its account table, when an account is due, and where audit rows go';
COMMENT ON COLUMN @extschema@.deletion_policy.policy IS
'name of the policy';
COMMENT ON COLUMN @extschema@.deletion_policy.account_table IS
'table with one row for each account';
COMMENT ON COLUMN @extschema@.deletion_policy.account_table_name IS
'its name when it was registered';
COMMENT ON COLUMN @extschema@.deletion_policy.key_columns IS
'column that names an account: NOT NULL, with a unique index';
COMMENT ON COLUMN @extschema@.deletion_policy.due_column IS
'timestamptz column: an account is due when this time has passed; null means never';
COMMENT ON COLUMN @extschema@.deletion_policy.done_column IS
'column that is not null for an account which is to be left alone; null if there is none';
COMMENT ON COLUMN @extschema@.deletion_policy.audit_table IS
'table that gets one row for each deleted account';
COMMENT ON COLUMN @extschema@.deletion_policy.audit_table_name IS
'its name when it was registered';
COMMENT ON COLUMN @extschema@.deletion_policy.enabled IS
'false: a run refuses to follow the policy';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_policy', '');

--
-- deletion_step: whose rows go with an account, and in which order.
--
CREATE TABLE @extschema@.deletion_step (
    policy text NOT NULL REFERENCES @extschema@.deletion_policy
        ON UPDATE CASCADE ON DELETE CASCADE,
    position integer NOT NULL CHECK (position > 0),
    step_table regclass NOT NULL,
    step_table_name text NOT NULL,
    columns name[] NOT NULL CHECK (array_length(columns, 1) > 0),
    PRIMARY KEY (policy, position),
    UNIQUE (policy, step_table)
);

COMMENT ON TABLE @extschema@.deletion_step IS
'the tables whose rows are deleted before the account itself, in order of position';
COMMENT ON COLUMN @extschema@.deletion_step.policy IS
'policy that the step belongs to';
COMMENT ON COLUMN @extschema@.deletion_step.position IS
'steps are executed in ascending order of position';
COMMENT ON COLUMN @extschema@.deletion_step.step_table IS
'table to delete from';
COMMENT ON COLUMN @extschema@.deletion_step.step_table_name IS
'its name when it was registered';
COMMENT ON COLUMN @extschema@.deletion_step.columns IS
'columns that hold the key of an account; a row goes with the account that the first one names, or the next';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_step', '');

--
-- deletion_run_id: numbers the runs.  Dumped, so that a restored database goes
-- on with numbers that its audit rows do not have yet.
--
CREATE SEQUENCE @extschema@.deletion_run_id;

COMMENT ON SEQUENCE @extschema@.deletion_run_id IS
'run_id of the last run, dry runs and failed ones included';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_run_id', '');

--
-- process_scheduled_deletions()
--
CREATE FUNCTION @extschema@.process_scheduled_deletions(
    policy text DEFAULT NULL,
    max_accounts integer DEFAULT NULL,
    dry_run boolean DEFAULT false
)
RETURNS jsonb
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.process_scheduled_deletions(text, integer, boolean) IS
'deletes the accounts that are due, with all their rows and one audit row each, in the caller''s transaction
policy: which policy to follow; null: the one that is enabled
max_accounts: how many accounts to delete at most, earliest due first, not counting those that fail; null: all that are due
dry_run: do it all, report, and undo it
returns a report: counts, and for each account that could not be deleted why
raises an error, and changes nothing, if the run cannot start or if its trouble is not a single account''s';

-- It deletes people: who may call it is the administrator's to decide, and what
-- ALTER DEFAULT PRIVILEGES has decided for other functions does not count.
DO $$
DECLARE
    object text;
    grantee text;
BEGIN
    FOR object, grantee IN
        SELECT 'FUNCTION ' || p.oid::pg_catalog.regprocedure, acl.grantee::pg_catalog.regrole
        FROM pg_catalog.pg_proc p, pg_catalog.aclexplode(
            coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) acl
        WHERE p.oid = '@extschema@.process_scheduled_deletions'::pg_catalog.regproc
            AND acl.grantee <> p.proowner
        UNION ALL
        SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || c.oid::pg_catalog.regclass,
            acl.grantee::pg_catalog.regrole
        FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) acl
        WHERE c.oid IN ('@extschema@.deletion_policy'::pg_catalog.regclass,
            '@extschema@.deletion_step'::pg_catalog.regclass,
            '@extschema@.deletion_run_id'::pg_catalog.regclass)
            AND acl.grantee <> c.relowner
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %s', object,
            CASE grantee WHEN '-' THEN 'PUBLIC' ELSE grantee END);
    END LOOP;
END
$$;
