-- pgbench: somebody checks in
\set n random(1, :living)
\set mood random(1, 10)
SELECT id AS account FROM living WHERE n = :n \gset
INSERT INTO check_ins (user_id, mood, sleep_hours, note)
VALUES (:account, :mood, 7.5, 'Walked to work, slept a little better than yesterday.');
