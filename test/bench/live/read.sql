-- pgbench: somebody opens the application
\set n random(1, :living)
SELECT id AS account FROM living WHERE n = :n \gset
SELECT id, email, role, created_at FROM profiles WHERE id = :account;
SELECT checkin_date, mood, sleep_hours, note FROM check_ins
WHERE user_id = :account ORDER BY checkin_date DESC LIMIT 10;
