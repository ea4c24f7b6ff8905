\set r random(0, 1000000) / 1000000.0
\set s random(0, 1000000) / 1000000.0
\set tab random(1, 6)
BEGIN;
SELECT move_row(('{team_files,team_files,file_versions,comments,members,links}'::text[])[:tab], :r, :s);
SELECT move_in_pair(CASE :tab % 2 WHEN 0 THEN 'pair_items' ELSE 'pair_rows' END, :r);
\sleep 10 ms
COMMIT;
