\set r random(0, 1000000) / 1000000.0
\set s random(0, 1000000) / 1000000.0
\set tab random(1, 12)
SELECT move_row(('{members,members,members,team_files,team_files,file_versions,posts,comments,comments,links,events,teams}'::text[])[:tab], :r, :s);
SELECT move_part(:s, :r), move_box_item(:r, :s);
