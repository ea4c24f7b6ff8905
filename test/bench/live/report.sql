-- Print the table, and what it is of.  A psql script for the database postgres: -v
-- accounts, due, clients, rate, rounds, settings, machine.

SELECT text FROM markdown ORDER BY line;

\connect base
SELECT round(sum(reltuples)::numeric / 1e6, 1) AS rows FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' \gset
SELECT E'\n' || format(
    'Accounts: %s, with %s million rows, %s MB with indexes; %s of them due. Clients: %s, which begin '
    '%s transactions a second (60 %% reads, 20 %% inserts, 20 %% updates) of accounts that stay; '
    'a latency counts from when a transaction was to begin. Medians of %s rounds, each run soon after '
    'a checkpoint, so that the WAL has whole pages. '
    'PostgreSQL %s, %s; %s.',
    :'accounts', :'rows', pg_database_size('base') / 1000000, :'due', :'clients', :'rate', :'rounds',
    split_part(current_setting('server_version'), ' ', 1), :'settings', :'machine');
