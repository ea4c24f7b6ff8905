\set r random(0, 1000000) / 1000000.0
\set s random(0, 1000000) / 1000000.0
\set policy random(1, 3)
SELECT say(('{orgs,members,pairs}'::text[])[:policy], :r, NULL);
