-- A run finds rows by an index, however many accounts are due and whatever the planner
-- knows of them; a table without an index it reads once.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
-- (the server's own checks, were they not left out, would read tables, too)
CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE TABLE indexed (user_id int REFERENCES users ON DELETE CASCADE);
CREATE INDEX ON indexed (user_id);
CREATE TABLE unindexed (user_id int REFERENCES users ON DELETE CASCADE);
CREATE TABLE erased (user_id int, action text, details jsonb, created_at timestamptz);
ALTER TABLE users SET (autovacuum_enabled = off);
ALTER TABLE indexed SET (autovacuum_enabled = off);
ALTER TABLE unindexed SET (autovacuum_enabled = off);
SELECT add_deletion_policy('users', 'users', audit_table => 'erased', audit_columns => '{"performed_by": null}');

CREATE FUNCTION fill(due int) RETURNS void LANGUAGE sql AS $$
  TRUNCATE users, indexed, unindexed;
  INSERT INTO users SELECT n, CASE WHEN n <= due THEN timestamptz '2020-01-01' END FROM generate_series(1, 4000) n;
  INSERT INTO indexed SELECT id FROM users, generate_series(1, 3);
  INSERT INTO unindexed TABLE indexed;
$$;
CREATE VIEW scan AS
  SELECT relname, seq_scan AS whole, idx_scan > 0 AS by_index
  FROM pg_stat_xact_user_tables WHERE relname IN ('indexed', 'unindexed') ORDER BY relname;

-- nothing is known of the tables
SELECT fill(3000), pg_stat_force_next_flush();
BEGIN;
SELECT process_scheduled_deletions('users') ->> 'users_deleted' AS deleted;
SELECT * FROM scan;
COMMIT;

-- statistics of a time when all rows were of a single account
SELECT fill(1), pg_stat_force_next_flush();
UPDATE indexed SET user_id = 1;
UPDATE unindexed SET user_id = 1;
ANALYZE;
SELECT pg_stat_force_next_flush();
SELECT fill(3000), pg_stat_force_next_flush();
BEGIN;
SELECT process_scheduled_deletions('users') ->> 'users_deleted' AS deleted;
SELECT * FROM scan;
COMMIT;

-- good ones; nearly all accounts, and a single one
SELECT fill(3900), pg_stat_force_next_flush();
ANALYZE;
SELECT pg_stat_force_next_flush();
BEGIN;
SELECT process_scheduled_deletions('users') ->> 'users_deleted' AS deleted;
SELECT * FROM scan;
COMMIT;
SELECT fill(1), pg_stat_force_next_flush();
ANALYZE;
SELECT pg_stat_force_next_flush();
BEGIN;
SELECT process_scheduled_deletions('users') ->> 'users_deleted' AS deleted;
SELECT * FROM scan;
COMMIT;

-- what a trigger asks is planned as ever
CREATE TABLE plan (line text);
CREATE FUNCTION explain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  line text;
BEGIN
  IF NOT EXISTS (SELECT FROM plan) THEN
    FOR line IN EXECUTE 'EXPLAIN (COSTS off) SELECT FROM indexed WHERE user_id > 0' LOOP
      INSERT INTO plan VALUES (line);
    END LOOP;
  END IF;
  RETURN OLD;
END $$;
CREATE TRIGGER explain BEFORE DELETE ON indexed FOR EACH ROW EXECUTE FUNCTION explain();
SELECT fill(10), pg_stat_force_next_flush();
ANALYZE;
SELECT pg_stat_force_next_flush();
SELECT process_scheduled_deletions('users') ->> 'users_deleted' AS deleted;
TABLE plan;
SHOW enable_seqscan;
DROP TRIGGER explain ON indexed;
:clean_up
