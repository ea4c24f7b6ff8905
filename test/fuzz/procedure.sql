-- A transaction for each batch, of which the first has ten accounts at most.
\set run 'procedure, elide ' :elide
SET ROLE :role;
SET scheduled_deletion.elide_fk_checks = :elide;
CALL run_scheduled_deletions('fuzz', batch_size => :batch_size, pause => '0', raise_on_failure => false) \gset
\if :ERROR
    RESET ROLE;
    \echo :run refused: :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE
\else
    RESET ROLE;
    SELECT :'run' || ': ' || difference
    FROM model.differences(:'report', :'one_batch' AND (:'report'::jsonb ->> 'users_processed')::integer <= 10) AS difference;
    SELECT format('%s: %s deleted, %s failed, elided: %s', :'run', r -> 'users_deleted', r -> 'users_failed', r -> 'fk_checks_elided')
    FROM (SELECT :'report'::jsonb AS r) AS r;
\endif
