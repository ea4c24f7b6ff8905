-- Let each form delete what is due in the schema that generate.pl has made, while others
-- move rows.  Nothing is undone.
SET scheduled_deletion.batch_size = :batch_size;
SET scheduled_deletion.elide_fk_checks = on;
SET ROLE :role;
SELECT process_scheduled_deletions('fuzz') AS report \gset
\if :ERROR
    \echo the function refused: :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE
    \set report '{}'
\endif
RESET ROLE;
INSERT INTO model.report VALUES (:'report');
SELECT retry_account(policy => 'fuzz') \g /dev/null
SET ROLE :role;
CALL run_scheduled_deletions('fuzz', pause => '0', raise_on_failure => false) \gset
\if :ERROR
    \echo the procedure refused: :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE
    \set report '{}'
\endif
RESET ROLE;
INSERT INTO model.report VALUES (:'report');
INSERT INTO model.stop VALUES (true);
