-- One statement for each table and column, for all accounts at once; counted
BEGIN;
CREATE TEMPORARY TABLE due ON COMMIT DROP AS
SELECT id, deletion_scheduled_at FROM profiles
WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL
FOR UPDATE SKIP LOCKED;
ANALYZE due;
CREATE TEMPORARY TABLE deleted (id uuid, table_name text, rows bigint) ON COMMIT DROP;

WITH gone AS (DELETE FROM check_ins USING due WHERE user_id = due.id RETURNING due.id)
INSERT INTO deleted SELECT id, 'check_ins', count(*) FROM gone GROUP BY id;

WITH gone AS (DELETE FROM crisis_plan USING due WHERE user_id = due.id RETURNING due.id)
INSERT INTO deleted SELECT id, 'crisis_plan', count(*) FROM gone GROUP BY id;

WITH gone AS (DELETE FROM clinical_notes USING due WHERE patient_id = due.id RETURNING due.id)
INSERT INTO deleted SELECT id, 'clinical_notes', count(*) FROM gone GROUP BY id;

WITH gone AS (DELETE FROM clinical_notes USING due WHERE therapist_id = due.id RETURNING due.id)
INSERT INTO deleted SELECT id, 'clinical_notes', count(*) FROM gone GROUP BY id;

WITH gone AS (DELETE FROM therapist_patients USING due WHERE patient_id = due.id RETURNING due.id)
INSERT INTO deleted SELECT id, 'therapist_patients', count(*) FROM gone GROUP BY id;

WITH gone AS (DELETE FROM therapist_patients USING due WHERE therapist_id = due.id RETURNING due.id)
INSERT INTO deleted SELECT id, 'therapist_patients', count(*) FROM gone GROUP BY id;

WITH gone AS (DELETE FROM user_consent USING due WHERE user_id = due.id RETURNING due.id)
INSERT INTO deleted SELECT id, 'user_consent', count(*) FROM gone GROUP BY id;

WITH gone AS (DELETE FROM profiles USING due WHERE profiles.id = due.id RETURNING due.id)
INSERT INTO deleted SELECT id, 'profiles', 1 FROM gone;

INSERT INTO audit_log (user_id, action, details)
SELECT id, 'hard_deleted',
       jsonb_build_object('deletion_scheduled_at', deletion_scheduled_at, 'deleted_records', counts)
FROM due
JOIN (SELECT id, jsonb_object_agg(table_name, rows) AS counts
      FROM (SELECT id, table_name, sum(rows) AS rows FROM deleted GROUP BY id, table_name) AS sums
      GROUP BY id) AS counted USING (id);
COMMIT;
