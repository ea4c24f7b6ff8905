-- The least that PostgreSQL can do: the same rows, whose addresses are known beforehand, go
-- without a trigger or a count, their pages read ahead if they are not in memory.  Nobody
-- could use it, but nobody can be faster either.  Of two sessions, each has half of a table.
SET session_replication_role = replica;
BEGIN;
SELECT CASE WHEN :'memory' = 'third' THEN
           format('SELECT sum(pg_prewarm(''%1$I'', ''prefetch'', ''main'', page, page)) '
                  'FROM address, unnest(pages) AS page WHERE of = %1$L', of)
       END,
       format('DELETE FROM %1$I WHERE ctid = ANY ((SELECT at[%2$s:%3$s] FROM address WHERE of = %1$L)::tid[])', of,
              cardinality(at) * (:session - 1) / :sessions + 1, cardinality(at) * :session / :sessions)
FROM address ORDER BY of = 'profiles' \gexec
INSERT INTO audit_log (user_id, action)
SELECT id, 'hard_deleted' FROM doomed WHERE abs(uuid_hash(id)::bigint) % :sessions = :session - 1;
COMMIT;
