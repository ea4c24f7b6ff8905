-- Let four accounts of the only policy be due and, if :held is given, the first be on hold.

SELECT account_table::text AS accounts, quote_ident(due_column) AS due, k.keys,
    CASE WHEN cardinality(key_columns) > 1 THEN format('ROW(%s)', keys) ELSE keys END || '::text' AS account
FROM deletion_policy, LATERAL (SELECT string_agg(quote_ident(c), ', ') AS keys FROM unnest(key_columns) c) k \gset
SELECT min(:due) AS moment FROM :accounts \gset
CREATE TEMPORARY TABLE chosen AS SELECT :keys FROM :accounts ORDER BY :due, :keys LIMIT 4;
UPDATE :accounts SET :due = CASE WHEN (:keys) IN (SELECT :keys FROM chosen) THEN :'moment' END::timestamptz WHERE :due IS NOT NULL OR (:keys) IN (SELECT :keys FROM chosen);
UPDATE deletion_policy SET brake_share = 1;
\if :{?held}
    SELECT hold_account(:account, 'a test') FROM (SELECT * FROM chosen ORDER BY :keys LIMIT 1) c;
\endif
