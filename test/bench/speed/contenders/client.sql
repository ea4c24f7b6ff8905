-- A program outside the server, which sends one statement at a time: here psql, with
-- one transaction for each account.  Where one fails, its COMMIT rolls back.
SELECT 'BEGIN',
       format('DELETE FROM check_ins WHERE user_id = %L', id),
       format('DELETE FROM crisis_plan WHERE user_id = %L', id),
       format('DELETE FROM clinical_notes WHERE patient_id = %L', id),
       format('DELETE FROM clinical_notes WHERE therapist_id = %L', id),
       format('DELETE FROM therapist_patients WHERE patient_id = %L', id),
       format('DELETE FROM therapist_patients WHERE therapist_id = %L', id),
       format('DELETE FROM user_consent WHERE user_id = %L', id),
       format('DELETE FROM profiles WHERE id = %L', id),
       format('INSERT INTO audit_log (user_id, action) VALUES (%L, ''hard_deleted'')', id),
       'COMMIT'
FROM profiles
WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL \gexec
