-- Print the table, and what it is of.  A psql script for the database postgres: -v
-- contenders, settings, machine.

CREATE VIEW line AS
SELECT 0 AS due, 1 AS part, '| MB | ' || replace(:'contenders', ',', ' | ') || ' |' AS text
UNION ALL
SELECT 0, 2, '|' || repeat('--:|', 1 + cardinality(string_to_array(:'contenders', ',')))
UNION ALL
SELECT due, 3, format('| %s due | %s |', due, string_agg(megabytes::text, ' | '
                      ORDER BY array_position(string_to_array(:'contenders', ','), contender)))
FROM memory GROUP BY due;
SELECT text FROM line ORDER BY due, part;

SELECT E'\n' || format('The most resident memory that the session''s process has had, with what it has touched of '
    'shared_buffers. PostgreSQL %s, %s; %s.',
    split_part(current_setting('server_version'), ' ', 1), :'settings', :'machine');
