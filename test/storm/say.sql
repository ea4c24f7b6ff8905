\set r random(0, 1000000) / 1000000.0
\set s random(0, 1000000) / 1000000.0
SELECT say(some_account(:r), some_account(:s), now() + (:s - 0.8) * interval '5 seconds');
