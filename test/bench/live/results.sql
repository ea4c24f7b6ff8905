-- Where the results are, and what is made of them.  A psql script for the database
-- postgres.  Times are in milliseconds but where it is said.

\ir ../brief.sql

CREATE TABLE regime (regime text PRIMARY KEY, place integer, label text);
INSERT INTO regime VALUES
    ('alone', 1, 'no deletion'),
    ('function', 2, 'process_scheduled_deletions()'),
    ('procedure', 3, 'run_scheduled_deletions()');

CREATE TABLE run (
    regime   text,
    round    integer,
    started  timestamptz,
    ended    timestamptz,
    wal      numeric,       -- bytes
    due_left bigint,
    dead     bigint,        -- rows
    PRIMARY KEY (regime, round),
    CONSTRAINT all_due_are_deleted CHECK (due_left = 0 OR regime = 'alone')
);

-- The latency is from when the transaction was to begin until it had ended; null,
-- if it failed for others' sake.
CREATE UNLOGGED TABLE transaction (
    regime text, round integer, scheduled timestamptz, ended timestamptz, latency float8
);

-- What the server has logged: waits of clients for a lock, and beginnings of checkpoints.
CREATE TABLE lock_wait (ended float8, duration float8);
CREATE TABLE checkpoint (started float8);

-- A run in numbers.  A transaction counts if a moment of it, its wait for its turn
-- included, was in the window of the run.
CREATE VIEW measured AS
SELECT regime, round, seconds, wal / 1e6 AS wal, dead, t.*, u.*, l.*, c.*
FROM run,
     LATERAL (SELECT extract(epoch FROM run.ended - run.started)::float8 AS seconds) AS s,
     LATERAL (SELECT count(*) FILTER (WHERE t.ended BETWEEN run.started AND run.ended) / seconds AS tps,
                     percentile_disc(0.50) WITHIN GROUP (ORDER BY latency) AS p50,
                     percentile_disc(0.95) WITHIN GROUP (ORDER BY latency) AS p95,
                     percentile_disc(0.99) WITHIN GROUP (ORDER BY latency) AS p99,
                     max(latency) AS longest,
                     count(*) FILTER (WHERE latency IS NULL) AS failed
              FROM transaction AS t
              WHERE (t.regime, t.round) = (run.regime, run.round)
                AND t.scheduled <= run.ended AND t.ended >= run.started) AS t,
     -- what they had not begun when they were stopped is not in their log
     LATERAL (SELECT max(t.scheduled) > run.ended AS caught_up FROM transaction AS t
              WHERE (t.regime, t.round) = (run.regime, run.round)) AS u,
     LATERAL (SELECT max(duration) AS lock_wait FROM lock_wait AS l
              WHERE l.ended - duration / 1000 <= extract(epoch FROM run.ended)
                AND l.ended >= extract(epoch FROM run.started)) AS l,
     LATERAL (SELECT count(*) AS checkpoints FROM checkpoint AS c
              WHERE c.started BETWEEN extract(epoch FROM run.started) AND extract(epoch FROM run.ended)) AS c;

-- All rounds of a regime: medians, and what was worst.
CREATE VIEW summary AS
SELECT regime, count(*) AS rounds,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS seconds,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY tps) AS tps,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY p50) AS p50,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY p95) AS p95,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY p99) AS p99,
       min(p99) AS least_p99, max(p99) AS most_p99,
       -- the round that has it, or comes next to it
       (array_agg(round ORDER BY p99))[(count(*) + 1) / 2] AS median_round,
       (array_agg(seconds ORDER BY p99))[(count(*) + 1) / 2] AS median_round_seconds,
       max(longest) AS longest, max(lock_wait) AS lock_wait, sum(failed) AS failed,
       count(*) FILTER (WHERE NOT caught_up) AS overtaxed,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY wal) AS wal,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY dead) AS dead
FROM measured
GROUP BY regime;

-- One line for each run
CREATE VIEW progress AS
SELECT regime, round,
       format('round %s, %s: %s s, %s transactions a second, p50 %s, p95 %s, p99 %s, longest %s, lock wait %s, '
              '%s failed, %s MB of WAL, %s dead rows, %s checkpoints%s',
              round, label, brief(seconds), brief(tps), brief(p50), brief(p95), brief(p99), brief(longest),
              coalesce(brief(lock_wait), 'none'),
              failed, brief(wal::float8), dead, checkpoints,
              CASE WHEN NOT caught_up THEN '; the clients did not catch up' END) AS line
FROM measured JOIN regime USING (regime);

-- The table for the README
CREATE VIEW markdown AS
WITH figure AS (
    SELECT regime.place, f.*
    FROM summary JOIN regime USING (regime) JOIN summary AS alone ON alone.regime = 'alone',
         LATERAL (VALUES
            (1, 'beside the clients', CASE place WHEN 1 THEN label ELSE '`' || label || '`' END),
            (2, '---', '--:'),
            (3, 'duration, s', brief(summary.seconds)),
            (4, 'transactions a second', brief(summary.tps)),
            (5, 'latency, ms: p50', brief(summary.p50)),
            (6, 'p95', brief(summary.p95)),
            (7, 'p99', '**' || brief(summary.p99) || '**'),
            (8, 'p99, from round to round', brief(summary.least_p99) || '–' || brief(summary.most_p99)),
            (9, 'p99, times that without deletion', brief(summary.p99 / alone.p99)),
            (10, 'longest of all rounds', brief(summary.longest)),
            (11, 'longest wait for a lock of all rounds, ms',
             coalesce(brief(summary.lock_wait), 'none over ' || current_setting('deadlock_timeout'))),
            (12, 'transactions that failed', CASE WHEN summary.failed > 0 THEN summary.failed::text END),
            (13, 'rounds whose clients did not catch up', CASE WHEN summary.overtaxed > 0 THEN summary.overtaxed::text END),
            (14, 'WAL, MB', brief(summary.wal)),
            (15, 'dead rows left', summary.dead::bigint::text)
         ) AS f (line, label, value)
)
SELECT line, '| ' || label || ' | ' || string_agg(coalesce(value, '0'), ' | ' ORDER BY place) || ' |' AS text
FROM figure
GROUP BY line, label
HAVING count(value) > 0;

-- The p99 of each second in the round that has the median p99, from the start of
-- the deletion on.
CREATE VIEW by_second AS
SELECT regime, floor(extract(epoch FROM t.scheduled - run.started)) AS second,
       percentile_disc(0.99) WITHIN GROUP (ORDER BY latency) AS p99
FROM summary JOIN run USING (regime) JOIN transaction AS t USING (regime, round)
WHERE round = median_round
GROUP BY 1, 2;

-- The same for a picture: each percentile, and for each regime its median, least and most
CREATE VIEW percentile AS
SELECT name, string_agg(figures, ' ' ORDER BY place) AS figures
FROM (SELECT name, place,
             concat_ws(' ', percentile_cont(0.5) WITHIN GROUP (ORDER BY value), min(value), max(value)) AS figures
      FROM measured JOIN regime USING (regime),
           LATERAL (VALUES ('p50', p50), ('p95', p95), ('p99', p99)) AS v (name, value)
      GROUP BY name, place) AS r
GROUP BY name;
