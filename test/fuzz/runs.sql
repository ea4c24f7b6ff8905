-- Let the function, with foreign-key checks left out and not, and then the procedure, with
-- them left out, delete what is due in the schema that generate.pl has made, and print what model.sql finds wrong.  Only the last run
-- is not undone.

CALL model.look();
GRANT USAGE ON SCHEMA s TO job;
GRANT ALL ON ALL TABLES IN SCHEMA s TO job;
SELECT :batch_size > 100 AS one_batch \gset
SET scheduled_deletion.batch_size = :batch_size;

\set elide off
\ir function.sql
\set elide on
\ir function.sql
\ir procedure.sql
DELETE FROM deletion_failure;
SELECT remove_deletion_policy('fuzz') \g /dev/null
DELETE FROM deletion_hold;
