-- All in one transaction, by the extension
SELECT process_scheduled_deletions(release_brake => true);
