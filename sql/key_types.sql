-- Keys of any type that can be sorted, and columns of other types that refer to
-- them: a row goes with the account that the server's own equality names.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
DROP VIEW whole_accounts, broken_promises;
-- The built-in tables with a key of one type, and check_ins.user_id of another,
-- with a foreign key or not; account 1 is due, and its neighbour 2 must stay.
CREATE FUNCTION try(key_type text, child_type text, is_key boolean, one text, two text)
RETURNS TABLE (deleted jsonb, errors jsonb, accounts text[], check_ins text[], audited text[])
LANGUAGE plpgsql AS $$
DECLARE
    report jsonb;
BEGIN
    SET LOCAL client_min_messages = warning;
    DROP TABLE profiles, check_ins, crisis_plan, clinical_notes, therapist_patients, user_consent, audit_log CASCADE;
    DELETE FROM erasure.deletion_policy;
    EXECUTE replace(replace($sql$
        CREATE TABLE profiles (id KEYTYPE PRIMARY KEY, deletion_scheduled_at timestamptz, deleted_at timestamptz);
        CREATE TABLE check_ins (user_id CHILDTYPE);
        CREATE TABLE crisis_plan (user_id KEYTYPE);
        CREATE TABLE clinical_notes (patient_id KEYTYPE, therapist_id KEYTYPE);
        CREATE TABLE therapist_patients (patient_id KEYTYPE, therapist_id KEYTYPE);
        CREATE TABLE user_consent (user_id KEYTYPE);
        CREATE TABLE audit_log (user_id KEYTYPE, action text, details jsonb, performed_by KEYTYPE, created_at timestamptz);
    $sql$, 'KEYTYPE', key_type), 'CHILDTYPE', child_type || CASE WHEN is_key THEN ' REFERENCES profiles' ELSE '' END);
    EXECUTE format('INSERT INTO profiles VALUES (%1$L, ''2020-01-01''), (%2$L, NULL)', one, two);
    EXECUTE format('INSERT INTO check_ins VALUES (%1$L), (%1$L), (%2$L), (NULL)', one, two);
    EXECUTE format('INSERT INTO clinical_notes VALUES (%2$L, %1$L), (%2$L, %2$L)', one, two);
    report := process_scheduled_deletions();
    RETURN QUERY SELECT report -> 'total_records_deleted', report -> 'errors',
        (SELECT array_agg(p.id::text) FROM profiles p),
        (SELECT array_agg(c.user_id::text ORDER BY c.user_id) FROM check_ins c),
        (SELECT array_agg(a.user_id::text) FROM audit_log a);
END
$$;
CREATE TYPE color AS ENUM ('red', 'green', 'blue');
CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
\pset format unaligned
SELECT * FROM try('bigint', 'bigint', true, '1', '2');
SELECT * FROM try('bigint', 'integer', true, '1', '2');
SELECT * FROM try('smallint', 'bigint', false, '1', '2');
SELECT * FROM try('numeric', 'numeric', true, '1.0', '1.5');
SELECT * FROM try('numeric', 'integer', true, '1', '2');
SELECT * FROM try('numeric', 'bigint', true, '1', '2');
SELECT * FROM try('double precision', 'integer', true, '1', '2');
SELECT * FROM try('text', 'text', true, 'one', 'two');
SELECT * FROM try('text', 'char(10)', true, 'one', 'two');
SELECT * FROM try('char(10)', 'text', true, 'one', 'two');
SELECT * FROM try('varchar(20)', 'varchar(10)', true, 'one', 'two');
SELECT * FROM try('varchar', 'text', false, 'one', 'two');
SELECT * FROM try('name', 'text', false, 'one', 'two');
SELECT * FROM try('email', 'text', true, 'a@b', 'A@b');
SELECT * FROM try('uuid', 'uuid', false, 'a0000000-0000-0000-0000-000000000001', 'a0000000-0000-0000-0000-000000000002');
SELECT * FROM try('color', 'color', true, 'red', 'blue');
SELECT * FROM try('int4range', 'int4range', true, '[1,3)', '[3,4)');
SELECT * FROM try('cidr', 'cidr', true, '10.0.0.0/8', '10.0.0.0/16');
SELECT * FROM try('date', 'timestamp', true, '2020-01-01', '2020-01-02');
-- without a foreign key, a key is cast to the column's type where no two become one
SELECT * FROM try('uuid', 'text', false, 'a0000000-0000-0000-0000-000000000001', 'a0000000-0000-0000-0000-000000000002');
SELECT * FROM try('uuid', 'varchar(36)', false, 'a0000000-0000-0000-0000-000000000001', 'a0000000-0000-0000-0000-000000000002');
SELECT * FROM try('bigint', 'text', false, '1', '10');
SELECT * FROM try('int', 'numeric', false, '1', '2');
-- types without a hash function, and citext, whose equality is not pg_catalog's
SELECT * FROM try('bit(3)', 'bit(3)', true, '101', '110');
SELECT * FROM try('tsvector', 'tsvector', true, 'a b', 'a c');
CREATE EXTENSION citext SCHEMA erasure;
SELECT * FROM try('citext', 'citext', true, 'One', 'two');
UPDATE profiles SET deletion_scheduled_at = '2020-01-01';
INSERT INTO check_ins VALUES ('TWO');
SELECT process_scheduled_deletions() #> '{total_records_deleted,check_ins}' AS check_ins;
SELECT * FROM try('char(4)', 'char(8)', true, 'one', 'two');
CREATE DOMAIN shade AS color;
SELECT * FROM try('shade', 'shade', false, 'red', 'blue');
SELECT * FROM try('color', 'shade', false, 'red', 'blue');
-- in the collation of the key, whatever that of the column
CREATE COLLATION ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SELECT * FROM try('text COLLATE ignore_case', 'text COLLATE ignore_case', true, 'one', 'two');
SELECT * FROM try('text', 'text COLLATE ignore_case', false, 'one', 'ONE');
SELECT * FROM try('name', 'text COLLATE ignore_case', false, 'one', 'ONE');
SELECT * FROM try('text COLLATE "POSIX"', 'text COLLATE "C"', true, 'one', 'ONE');
SELECT count(*) FROM try('text COLLATE ignore_case', 'text', false, 'one', 'two');
UPDATE profiles SET deletion_scheduled_at = '2020-01-01';
INSERT INTO check_ins VALUES ('TWO');
SELECT process_scheduled_deletions() #> '{total_records_deleted,check_ins}' AS check_ins;
SELECT * FROM check_ins;
-- what cannot be compared, or sorted, is refused
\set VERBOSITY terse
SELECT * FROM try('text', 'uuid', false, 'a0000000-0000-0000-0000-000000000001', 'a0000000-0000-0000-0000-000000000002');  -- fails
SELECT * FROM try('numeric', 'bigint', false, '1', '2');  -- fails
CREATE TYPE pair AS (a int, b int);
SELECT * FROM try('pair', 'pair', false, '(1,2)', '(1,3)');  -- fails
-- a unique index that tells values apart in another way does not make a key
BEGIN;
SELECT count(*) FROM try('text', 'text', false, 'one', 'two');
ALTER TABLE profiles DROP CONSTRAINT profiles_pkey, ALTER id SET NOT NULL;
CREATE UNIQUE INDEX ON profiles (id text_pattern_ops);
SELECT process_scheduled_deletions();  -- fails
ROLLBACK;
\set VERBOSITY default
\pset format aligned
:clean_up
