-- In one transaction for each batch, by the extension, without rest between them
CALL run_scheduled_deletions(release_brake => true, pause => '0');
