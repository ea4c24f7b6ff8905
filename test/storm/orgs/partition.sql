\set r random(0, 1000000) / 1000000.0
\set s random(0, 1000000) / 1000000.0
SELECT move_partition(CASE WHEN :r < 0.5 THEN 'parts' ELSE 'events' END, :s);
\sleep 100 ms
