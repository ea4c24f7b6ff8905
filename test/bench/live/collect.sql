-- What is known of a round when its clients have ended.  A psql script for the
-- database live: -v regime, round, log (a file of pgbench).

-- Their sessions report what they did to the tables when they end.
DO $$
BEGIN
    WHILE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgbench') LOOP
        PERFORM pg_sleep(0.1), pg_stat_clear_snapshot();
    END LOOP;
END
$$;
SELECT sum(n_dead_tup) AS dead FROM pg_stat_user_tables \gset

\connect postgres
UPDATE run SET dead = :dead WHERE regime = :'regime' AND round = :round;
CREATE TEMPORARY TABLE log (
    client integer, number bigint, latency text, script integer, s bigint, us bigint, lag text
);
COPY log FROM :'log' (DELIMITER ' ');
INSERT INTO transaction
SELECT :'regime', :round, ended - make_interval(secs => coalesce(ms, 0) / 1000), ended, ms
FROM log,
     LATERAL (SELECT to_timestamp(s + us / 1e6) AS ended, nullif(latency, 'failed')::float8 / 1000 AS ms) AS l;
