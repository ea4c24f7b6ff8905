-- One transaction, undone afterwards.
\set run 'function, elide ' :elide
BEGIN;
SET LOCAL ROLE :role;
SET LOCAL scheduled_deletion.elide_fk_checks = :elide;
SELECT process_scheduled_deletions('fuzz') AS report \gset
\if :ERROR
    ROLLBACK;
    \echo :run refused: :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE
\else
    RESET ROLE;
    SET CONSTRAINTS ALL IMMEDIATE;
    SELECT :'run' || ': ' || difference FROM model.differences(:'report', :'one_batch') AS difference;
    SELECT format('%s: %s deleted, %s failed, elided: %s', :'run', r -> 'users_deleted', r -> 'users_failed', r -> 'fk_checks_elided')
    FROM (SELECT :'report'::jsonb AS r) AS r;
    ROLLBACK;
\endif
