\set r random(0, 1000000) / 1000000.0
\set s random(0, 1000000) / 1000000.0
\set policy random(1, 5)
SELECT say(('{orgs,orgs,members,pairs,pairs}'::text[])[:policy], 0.6 + 0.4 * :r, now() + (:s - 0.7) * interval '3 seconds');
