-- All in one transaction, by the extension, which leaves out the queries of foreign
-- keys that it has proved empty
SET scheduled_deletion.elide_fk_checks = on;
\ir function.sql
