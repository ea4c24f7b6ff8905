CALL run_scheduled_deletions(release_brake => true, raise_on_failure => false, pause => '5 ms');
SELECT retry_account();
