-- One statement; the foreign keys ON DELETE CASCADE do the rest, and nobody counts
WITH deleted AS (
    DELETE FROM profiles
    WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL
    RETURNING id
)
INSERT INTO audit_log (user_id, action)
SELECT id, 'hard_deleted' FROM deleted;
