\set r random(0, 1000000) / 1000000.0
\set s random(0, 1000000) / 1000000.0
SELECT move_rows(some_account(:r), some_account(:s));
