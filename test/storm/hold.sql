\set r random(0, 1000000) / 1000000.0
\set s random(0, 1000000) / 1000000.0
SELECT hold(some_account(:r));
SELECT add_invoice(some_account(:s));
