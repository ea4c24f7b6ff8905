-- Print the tables, and what they are of.  A psql script for the database postgres: -v
-- rounds, base, settings, machine, left_out.

SELECT text FROM markdown WHERE "table" = 1 ORDER BY line;
\echo
SELECT text FROM markdown WHERE "table" = 2 ORDER BY line;
SELECT E'\n' || :'left_out' WHERE :'left_out' <> '';

SELECT string_agg(text, '; ' ORDER BY accounts) AS accounts
FROM (SELECT accounts, format('%s, with %s million rows, %s MB with indexes, of which %s are to be deleted',
                              accounts, round(max(rows) / 1e6, 1), max(bytes) / 1000000,
                              string_agg(DISTINCT format('%s, with %s rows', doomed, doomed_rows), ', or ')) AS text
      FROM (SELECT regime.accounts, data.rows, bytes, run.accounts AS doomed, run.rows AS doomed_rows
            FROM regime JOIN data USING (data) JOIN run USING (regime)) AS d
      GROUP BY accounts) AS a \gset
SELECT concat_ws('; ', CASE WHEN same_memory THEN in_memory END, CASE WHEN same_failing THEN fail END,
                 CASE WHEN same_keys THEN with_keys END, CASE WHEN same_placed THEN lie END,
                 CASE WHEN same_runs THEN at_once END) AS same
FROM title LIMIT 1 \gset
SELECT CASE WHEN count(*) > 0 THEN
    'A third in memory: the server and its page cache are in a memory cgroup of a third of that size, and some MB for '
    'processes; a quarter of that third is shared_buffers, and no data are in memory when a run begins. '
ELSE '' END AS third
FROM regime WHERE memory = 'third' \gset
SELECT label AS base FROM contender WHERE contender = :'base' \gset

SELECT E'\n' || format(
    'Medians of %s rounds; in brackets, how many times as long as %s. '
    'Accounts: %s. In all: %s. '
    '%sEach run soon after a checkpoint, so that the WAL has whole pages. '
    'PostgreSQL %s, %s; %s.',
    :'rounds', :'base', :'accounts', :'same', :'third',
    split_part(current_setting('server_version'), ' ', 1), :'settings', :'machine');
