-- max_accounts bounds a run, earliest due first; batch_size changes nothing but
-- the number of statements.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
SELECT add_account('third', '2020-01-03'), add_account('first', '2020-01-01'), add_account('fourth', '2020-01-04'),
    add_account('second', '2020-01-02'), add_account('later', now() + interval '1 day');
SELECT * FROM told(process_scheduled_deletions(max_accounts => 2)) WHERE key <> 'total_records_deleted';
SELECT * FROM whole_accounts;
SELECT * FROM told(process_scheduled_deletions(NULL, 1)) WHERE key <> 'total_records_deleted';
SELECT * FROM whole_accounts;
-- more than there are
SELECT * FROM told(process_scheduled_deletions(max_accounts => 2147483647)) WHERE key <> 'total_records_deleted';
SELECT * FROM whole_accounts;

-- one by one, many of them due at the same moment, in whatever order the keys are
SET scheduled_deletion.batch_size = 1;
SELECT count(add_account('account' || n, '2020-01-01'::timestamptz + n / 10 * interval '1 day')) FROM generate_series(1, 60) n;
SELECT * FROM told(process_scheduled_deletions(max_accounts => 45)) WHERE key <> 'total_records_deleted';
SELECT count(*), min(deletion_scheduled_at) = '2020-01-05' AS earliest_first FROM profiles WHERE deletion_scheduled_at < now();
SET scheduled_deletion.batch_size = 7;
SELECT * FROM told(process_scheduled_deletions()) WHERE key <> 'total_records_deleted';
RESET scheduled_deletion.batch_size;

-- failing accounts are passed by, and do not count: they keep nobody waiting
CREATE TABLE invoices (user_id uuid REFERENCES profiles);
SELECT add_account('a', '2020-01-01'), add_account('b', '2020-01-02'), add_account('c', '2020-01-03');
INSERT INTO invoices VALUES (account('a'));
SELECT * FROM told(process_scheduled_deletions(max_accounts => 2)) WHERE key <> 'total_records_deleted';
SELECT * FROM whole_accounts;

-- accounts that a key stops leave no subtransaction behind, though each is a batch
SELECT count(add_account('blocked ' || n, '2020-01-01')) FROM generate_series(1, 300) n;
INSERT INTO invoices SELECT account('blocked ' || n) FROM generate_series(1, 300) n;
SELECT add_account('good', '2020-01-02');
BEGIN;
SELECT * FROM told(process_scheduled_deletions(max_accounts => 1)) WHERE key <> 'total_records_deleted';
-- the subtransactions of this transaction, as an exported snapshot lists them
SELECT substring(pg_read_file('pg_snapshots/' || pg_export_snapshot()) FROM 'sxcnt:(\d+)')::int <= 2 AS few_subtransactions;
COMMIT;
DELETE FROM invoices WHERE user_id <> account('a');
DELETE FROM profiles WHERE email LIKE 'blocked%';

-- a run in one transaction keeps its subtransactions few, however small the batches
SET scheduled_deletion.batch_size = 1;
-- (one that is kept has its mark on the audit rows it wrote)
TRUNCATE audit_log;
SELECT count(add_account('account' || n)) FROM generate_series(1, 3000) n;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT count(DISTINCT xmin::text) BETWEEN 2 AND 64 AS few_subtransactions FROM audit_log;

-- nor does it keep the memory of a batch
CREATE TABLE memory (batch serial, bytes numeric);
CREATE FUNCTION measure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO memory (bytes) SELECT sum(used_bytes) FROM pg_backend_memory_contexts;
    RETURN NULL;
END
$$;
CREATE TRIGGER measure AFTER INSERT ON audit_log EXECUTE FUNCTION measure();
SET scheduled_deletion.batch_size = 500;
SELECT count(add_account('account' || n)) FROM generate_series(1, 5000) n;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT count(*) >= 8 AS batches, max(bytes) FILTER (WHERE batch > 2) - min(bytes) FILTER (WHERE batch > 2) < 3000000 AS flat FROM memory;
RESET scheduled_deletion.batch_size;
DROP TRIGGER measure ON audit_log;

-- nor does it begin with all of those whose details it keeps
SET client_min_messages = warning;
SELECT alter_deletion_policy('built-in', audit_details => '{role,email}');
TRUNCATE audit_log;
SELECT count(add_account('account' || n)) FROM generate_series(1, 600) n;
SELECT process_scheduled_deletions() -> 'users_deleted' AS deleted;
SELECT count(*) FROM audit_log GROUP BY xmin::text ORDER BY 1;
SELECT alter_deletion_policy('built-in', audit_details => '{}');

-- nor with all of those of which it counts the rows in very many tables
CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE TABLE trail (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
DO $$
BEGIN
    FOR i IN 1..300 LOOP
        EXECUTE format('CREATE TABLE t%s (user_id int REFERENCES users ON DELETE CASCADE)', i);
    END LOOP;
END
$$;
INSERT INTO users SELECT n, '2020-01-01' FROM generate_series(1, 27000) n;
SELECT add_deletion_policy('users', 'users', audit_table => 'trail');
SELECT process_scheduled_deletions('users') -> 'users_deleted' AS deleted;
SELECT count(*) FROM trail GROUP BY xmin::text ORDER BY 1;

SET scheduled_deletion.batch_size = 0;  -- fails
:clean_up
