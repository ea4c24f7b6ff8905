\set r random(0, 1000000) / 1000000.0
\set s random(0, 1000000) / 1000000.0
SELECT release(some_account(:r));
SELECT release(some_account(:s));
DELETE FROM invoices WHERE user_id = some_account(:r);
