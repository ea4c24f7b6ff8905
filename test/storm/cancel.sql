\set r random(0, 1000000) / 1000000.0
\set s random(0, 1000000) / 1000000.0
SELECT cancel(some_account(:r));
SELECT say(some_account(:s), some_account(:r), NULL);
