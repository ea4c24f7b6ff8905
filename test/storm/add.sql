\set r random(0, 1000000) / 1000000.0
\set s random(0, 1000000) / 1000000.0
SELECT add_account();
SELECT add_rows(some_account(:r), some_account(:s));
SELECT add_rows(some_account(:s), some_account(:r));
