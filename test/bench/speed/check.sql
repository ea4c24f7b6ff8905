-- What is known of a run when it has ended, and whether it has done what it should.  A
-- psql script for the database speed: -v regime, contender, round.

SELECT b.go AS rows, b.go - c.go AS deleted, b.stay - c.stay AS missing FROM census_before AS b, census AS c \gset
SELECT count(*) AS accounts FROM doomed \gset
SELECT count(*) AS audited, count(DISTINCT user_id) FILTER (WHERE user_id IN (TABLE doomed)) AS audited_accounts
FROM audit_log WHERE action = 'hard_deleted' \gset
SELECT coalesce(sum(value::bigint)::text, 'null') AS counted
FROM audit_log, jsonb_each_text(details -> 'deleted_records') WHERE action = 'hard_deleted' \gset

\connect postgres
INSERT INTO run (regime, contender, round, fails, leaves, accounts, rows, deleted, missing, audited, audited_accounts, counted)
SELECT regime, contender, round, fails, leaves, :accounts, :rows, :deleted, :missing, :audited, :audited_accounts, :counted
FROM lineup WHERE regime = :regime AND contender = :'contender' AND round = :round;
