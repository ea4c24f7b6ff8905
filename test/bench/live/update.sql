-- pgbench: somebody changes their address, or their plan for a crisis
\set n random(1, :living)
SELECT id AS account FROM living WHERE n = :n \gset
\if :n % 2
UPDATE profiles SET email = 'moved' || :n || '@example.org', role = role WHERE id = :account;
\else
UPDATE crisis_plan SET coping_strategies = '["call someone", "go outside", "sleep"]', updated_at = now()
WHERE user_id = :account;
\endif
