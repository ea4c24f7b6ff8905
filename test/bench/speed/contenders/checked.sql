-- All in one transaction, by the extension, with the foreign-key checks that it would
-- leave out as proved empty
SET scheduled_deletion.elide_fk_checks = off;
\ir function.sql
