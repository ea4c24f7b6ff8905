-- What is measured, where the results are, and what is made of them.  A psql script for
-- the database postgres: -v accounts, due, memory, failing, keys, order, runs,
-- contenders, base, rounds.

\ir ../brief.sql

CREATE TABLE contender (
    contender text PRIMARY KEY,
    label     text,
    ours      boolean,
    counts    boolean,              -- rows, for each account
    alone     boolean,              -- cannot be at work in two sessions
    puts_off  boolean,              -- accounts that share rows, if two sessions want them
    whole     boolean,              -- one account that fails lets all fail
    by_keys   boolean,              -- leaves other tables to the foreign keys
    place     integer               -- null: has no part in it
);
INSERT INTO contender VALUES
    ('function',         '`process_scheduled_deletions()`',         true,  true,  false, true,  false, false),
    ('checked',          '`process_scheduled_deletions()`, checked', true,  true,  false, true,  false, false),
    ('procedure',        '`run_scheduled_deletions()`',             true,  true,  false, true,  false, false),
    ('procedure_checked', '`run_scheduled_deletions()`, checked',   true,  true,  false, true,  false, false),
    ('cascade',          'one `DELETE`, `ON DELETE CASCADE`',       false, false, true,  false, true,  true),
    ('loop',             'PL/pgSQL, account by account',            false, true,  false, true,  false, false),
    ('setwise',          'SQL by hand, table by table',             false, true,  true,  false, true,  false),
    ('client',           'a client, statement by statement',        false, false, true,  false, false, false),
    ('bare',             'the same rows by their addresses',        false, false, false, false, false, false);
UPDATE contender SET place = array_position(string_to_array(:'contenders', ','), contender);

-- All that the lists can be combined to, those with the same data one after the other
CREATE TABLE regime (
    regime           serial PRIMARY KEY,
    accounts         integer,
    due              text,          -- accounts, or percent of them
    failing          text,
    keys             text,
    placed           text,
    memory           text,
    runs             integer,
    data             text GENERATED ALWAYS AS (accounts || '/' || due || '/' || failing || '/' || keys || '/' || placed) STORED,
    due_accounts     integer,
    kind             text,
    failing_accounts integer
);

-- So many, or so many percent of it: of few at least one, but of none none
CREATE FUNCTION share(of integer, share text) RETURNS integer LANGUAGE sql
RETURN CASE WHEN share LIKE '%\%' THEN ceil(of * rtrim(share, '%')::numeric / 100) ELSE share::integer END;

INSERT INTO regime (accounts, due, failing, keys, placed, memory, runs, due_accounts, kind, failing_accounts)
SELECT accounts, due, failing, keys, placed, memory, runs::integer, due_accounts, split_part(failing, ':', 1),
       CASE failing WHEN '0' THEN 0 ELSE share(due_accounts, split_part(failing, ':', 2)) END
FROM (SELECT accounts::integer, a FROM string_to_table(:'accounts', ',') WITH ORDINALITY AS a (accounts, a)) AS a
CROSS JOIN string_to_table(:'due', ',') WITH ORDINALITY AS d (due, d)
CROSS JOIN string_to_table(:'failing', ',') WITH ORDINALITY AS f (failing, f)
CROSS JOIN string_to_table(:'keys', ',') WITH ORDINALITY AS k (keys, k)
CROSS JOIN string_to_table(:'order', ',') WITH ORDINALITY AS o (placed, o)
CROSS JOIN string_to_table(:'memory', ',') WITH ORDINALITY AS m (memory, m)
CROSS JOIN string_to_table(:'runs', ',') WITH ORDINALITY AS r (runs, r)
CROSS JOIN LATERAL share(accounts, due) AS due_accounts
WHERE keys = 'yes' OR failing NOT LIKE 'blocked:%'
ORDER BY a, d, f, k, o, m, r;

-- What was made for them, with indexes
CREATE TABLE data (
    data  text PRIMARY KEY,
    rows  bigint,
    bytes bigint
);

-- What is run in which order, another one each round, so that none is always first.
-- One that is expected to fail has to show it once.
CREATE VIEW lineup AS
SELECT regime, contender, round, fails, puts_off AND runs > 1 AS leaves,
       row_number() OVER (PARTITION BY regime ORDER BY round, (place + round) % contenders) AS turn
FROM regime,
     (SELECT *, count(*) OVER () AS contenders FROM contender WHERE place IS NOT NULL) AS c,
     generate_series(1, :rounds) AS round,
     LATERAL (SELECT whole AND failing_accounts > 0 AS fails) AS f
WHERE NOT (alone AND runs > 1) AND NOT (by_keys AND keys = 'no') AND NOT (fails AND round > 1);

CREATE TABLE session (
    regime integer, contender text, round integer,
    started timestamptz, ended timestamptz, lsn pg_lsn, ended_lsn pg_lsn
);

CREATE TABLE run (
    regime           integer,
    contender        text,
    round            integer,
    fails            boolean,       -- as is expected
    leaves           boolean,       -- some accounts, as it may
    accounts         bigint,        -- that had to go
    rows             bigint,        -- that had to go, theirs included
    deleted          bigint,        -- rows of these
    missing          bigint,        -- other rows that are gone
    audited          bigint,        -- audit rows
    audited_accounts bigint,        -- of those that had to go
    counted          bigint,        -- rows that they tell of; null: of none
    PRIMARY KEY (regime, contender, round),
    CONSTRAINT nothing_else_is_deleted CHECK (missing = 0),
    CONSTRAINT all_or_nothing_is_deleted CHECK (deleted = CASE WHEN fails THEN 0 ELSE rows END OR leaves),
    CONSTRAINT all_deleted_are_audited CHECK ((audited = CASE WHEN fails THEN 0 ELSE accounts END OR leaves)
                                              AND audited_accounts = audited),
    CONSTRAINT all_counted_are_deleted CHECK (counted = deleted)
);

-- A run in numbers; it took until the last of its sessions had ended
CREATE VIEW measured AS
SELECT regime, contender, round, fails, CASE WHEN leaves THEN accounts - audited ELSE 0 END AS accounts_left,
       seconds, deleted / seconds AS rate, wal
FROM run,
     LATERAL (SELECT extract(epoch FROM max(ended) - min(started))::float8 AS seconds,
                     (max(ended_lsn) - min(lsn))::float8 / 1e6 AS wal
              FROM session AS s
              WHERE (s.regime, s.contender, s.round) = (run.regime, run.contender, run.round)) AS s;

-- All rounds, and how many times as long as the base a contender takes
CREATE VIEW summary AS
SELECT *, seconds / max(seconds) FILTER (WHERE contender = :'base' AND NOT fails) OVER (PARTITION BY regime) AS ratio
FROM (SELECT regime, contender, fails,
             percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS seconds,
             min(seconds) AS least, max(seconds) AS most, max(accounts_left) AS accounts_left,
             percentile_cont(0.5) WITHIN GROUP (ORDER BY rate) AS rate,
             percentile_cont(0.5) WITHIN GROUP (ORDER BY wal) AS wal
      FROM measured
      GROUP BY regime, contender, fails) AS s;

-- What a regime is called beside the others: by what they do not all have in common
CREATE VIEW title AS
SELECT regime, concat_ws(', ', CASE WHEN NOT same_accounts THEN 'of ' || regime.accounts END,
                         replace(due, '%', ' %') || ' due', CASE WHEN NOT same_memory THEN in_memory END,
                         CASE WHEN NOT same_failing THEN fail END, CASE WHEN NOT same_keys THEN with_keys END,
                         CASE WHEN NOT same_placed THEN lie END, CASE WHEN NOT same_runs THEN at_once END) AS title,
       in_memory, fail, with_keys, lie, at_once, s.*
FROM regime,
     LATERAL (SELECT CASE memory WHEN 'all' THEN 'in memory' ELSE 'a third in memory' END AS in_memory,
                     CASE kind
                         WHEN '0' THEN 'none fails'
                         ELSE replace(split_part(failing, ':', 2), '%', ' %') || ' of them ' ||
                             CASE kind WHEN 'blocked' THEN 'blocked by a key' WHEN 'late' THEN 'refused by a trigger'
                                       ELSE 'known to fail' END
                     END AS fail,
                     CASE keys WHEN 'yes' THEN 'foreign keys' ELSE 'no foreign keys' END AS with_keys,
                     CASE placed WHEN 'scattered' THEN 'rows scattered' ELSE 'rows in the order of the accounts' END AS lie,
                     CASE runs WHEN 1 THEN 'one session' ELSE 'two sessions at once' END AS at_once) AS w,
     (SELECT count(DISTINCT accounts) = 1 AS same_accounts, count(DISTINCT memory) = 1 AS same_memory, count(DISTINCT failing) = 1 AS same_failing,
             count(DISTINCT keys) = 1 AS same_keys, count(DISTINCT placed) = 1 AS same_placed,
             count(DISTINCT runs) = 1 AS same_runs FROM regime) AS s;

-- One line for each run
CREATE VIEW progress AS
SELECT regime, contender, round,
       format('%s, round %s, %s: %s', title, round, contender,
              CASE WHEN fails THEN 'fails'
                   ELSE format('%s s, %s rows a second, %s MB of WAL', brief(seconds), rate::integer, brief(wal)) END ||
              CASE WHEN accounts_left > 0 THEN format(', %s accounts left', accounts_left) ELSE '' END) AS line
FROM measured JOIN title USING (regime);

-- The tables for the README: the medians, and what they are of
CREATE VIEW markdown AS
WITH figure AS (
    SELECT regime, title, place, label || CASE WHEN counts THEN '' ELSE ', no counts' END AS label,
           CASE WHEN seconds IS NULL THEN '' WHEN fails THEN 'fails'
                WHEN contender = :'base' THEN '**' || brief(seconds) || '**'
                ELSE brief(seconds) || coalesce(' (×' || brief(ratio) || ')', '') END ||
               CASE WHEN accounts_left > 0 THEN format(', %s left', accounts_left) ELSE '' END AS median,
           CASE WHEN seconds IS NULL OR fails THEN ''
                ELSE format('%s–%s s; %s; %s MB', brief(least), brief(most), round(rate::numeric, -3)::integer, brief(wal))
           END AS spread
    FROM title CROSS JOIN contender LEFT JOIN summary USING (regime, contender)
    WHERE place IS NOT NULL
)
SELECT 1 AS "table", 0 AS line, '| seconds | ' || string_agg(title, ' | ' ORDER BY regime) || ' |' AS text FROM title
UNION ALL
SELECT 2, 0, '| least–most; rows a second; WAL | ' || string_agg(title, ' | ' ORDER BY regime) || ' |' FROM title
UNION ALL
SELECT t, 1, '|---|' || repeat('--:|', count(*)::integer) FROM title, generate_series(1, 2) AS t GROUP BY t
UNION ALL
SELECT 1, 1 + place, '| ' || label || ' | ' || string_agg(median, ' | ' ORDER BY regime) || ' |' FROM figure GROUP BY place, label
UNION ALL
SELECT 2, 1 + place, '| ' || label || ' | ' || string_agg(spread, ' | ' ORDER BY regime) || ' |' FROM figure GROUP BY place, label;

-- The picture has a panel for each of the first regimes.  A bar that is far longer than
-- most is cut off, or nothing could be told from the others.
CREATE VIEW panel AS
SELECT regime AS panel, title, 1.3 * max(most) FILTER (WHERE seconds <= 3 * middle) AS "limit"
FROM title JOIN summary USING (regime)
     JOIN (SELECT regime, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS middle
           FROM summary WHERE NOT fails GROUP BY regime) AS m USING (regime)
WHERE regime IN (SELECT regime FROM title ORDER BY regime LIMIT 4) AND NOT fails
GROUP BY regime, title;

CREATE VIEW bar AS
SELECT panel,
       concat_ws(' ', place, CASE WHEN fails THEN 'NaN NaN 0' ELSE concat_ws(' ', seconds, least, most) END,
                 CASE WHEN ours THEN 1 WHEN counts THEN 2 ELSE 3 END, format('"%s"', told)) AS figures
FROM panel JOIN summary ON regime = panel JOIN contender USING (contender),
     LATERAL (SELECT CASE WHEN fails THEN 'fails' WHEN accounts_left > 0 THEN format('%s, %s left', brief(seconds), accounts_left)
                          ELSE brief(seconds) END AS told) AS t;

CREATE VIEW setting AS
SELECT format('panels = %s', count(*)) AS line FROM panel
UNION ALL
SELECT format('titles = "%s"', string_agg(format('''%s''', title), ' ' ORDER BY panel)) FROM panel
UNION ALL
SELECT format('limits = "%s"', string_agg("limit"::text, ' ' ORDER BY panel)) FROM panel
UNION ALL
SELECT format('bars = %s', count(place)) FROM contender
UNION ALL
SELECT format('labels = "%s"', string_agg(format('''%s'' %s', replace(label, '`', ''), place), ', ')) FROM contender
WHERE place IS NOT NULL;
