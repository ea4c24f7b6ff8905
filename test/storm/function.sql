SELECT process_scheduled_deletions(release_brake => true);
