-- What every copy is made of.  A psql script for the empty database base: -v
-- accounts, due.

CREATE EXTENSION scheduled_deletion;
\ir ../../schema.sql
\ir ../../generate.sql

-- Whom the clients deal with.  Ids are md5 sums, so that a random one is found by
-- its number; the due accounts lie scattered between them.
CREATE TABLE living AS
SELECT row_number() OVER (ORDER BY id)::integer AS n, id
FROM profiles
WHERE deleted_at IS NULL AND (deletion_scheduled_at IS NULL OR deletion_scheduled_at > now());
ALTER TABLE living ADD PRIMARY KEY (n);

VACUUM (ANALYZE);
CREATE EXTENSION IF NOT EXISTS pg_prewarm;
