-- What a storm needs in a database of its own: organisations with teams, people and much
-- that is below them, where clients move rows from what stays to what goes, and back, at
-- each level, most of all under rows of accounts that a run is at work with.  What clients
-- do, each in a function that gives up where somebody else was faster; the book of where
-- they have put each row; and a view of every promise that is broken.
--
-- Nothing keeps a row of a table without a foreign key from being written for an account
-- that is gone.  So clients lock the account, as an application would have to, but where
-- a row goes from one of a pair to the other: they can only go together.

CREATE TABLE orgs (id bigserial PRIMARY KEY, due timestamptz);
CREATE TABLE teams (id bigserial PRIMARY KEY, org_id bigint NOT NULL REFERENCES orgs ON DELETE CASCADE);
CREATE TABLE members (id bigserial PRIMARY KEY, team_id bigint NOT NULL REFERENCES teams ON DELETE CASCADE, due timestamptz);
CREATE TABLE team_files (id bigserial PRIMARY KEY, team_id bigint NOT NULL REFERENCES teams ON DELETE CASCADE);
CREATE TABLE file_versions (id bigserial PRIMARY KEY, file_id bigint NOT NULL REFERENCES team_files ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE posts (id bigserial PRIMARY KEY, member_id bigint NOT NULL REFERENCES members ON DELETE CASCADE);
-- They stay, by a step, although the key says that they go
CREATE TABLE comments (id bigserial PRIMARY KEY, post_id bigint REFERENCES posts ON DELETE CASCADE);
CREATE TABLE links (id bigserial PRIMARY KEY, team_id bigint REFERENCES teams ON DELETE SET NULL);
CREATE TABLE boxes (team_id bigint REFERENCES teams ON DELETE CASCADE, u int, PRIMARY KEY (team_id, u));
CREATE TABLE box_items (id bigserial PRIMARY KEY, team_id bigint NOT NULL, u int NOT NULL,
                        FOREIGN KEY (team_id, u) REFERENCES boxes ON DELETE CASCADE);
CREATE TABLE parts (id bigserial, region int, team_id bigint NOT NULL REFERENCES teams ON DELETE CASCADE) PARTITION BY LIST (region);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES IN (3);
-- Without a key; where a trigger keeps the rows of the partition that comes and goes
CREATE TABLE events (id bigserial, region int, org_id bigint NOT NULL) PARTITION BY LIST (region);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
CREATE TABLE events_3 PARTITION OF events FOR VALUES IN (3);
-- Accounts with a key of two columns, who can only go together, two and two
CREATE TABLE pairs (t bigint, u int, partner int NOT NULL, due timestamptz, PRIMARY KEY (t, u),
                    FOREIGN KEY (t, partner) REFERENCES pairs DEFERRABLE);
CREATE TABLE pair_rows (id bigserial PRIMARY KEY, t bigint NOT NULL, u int NOT NULL, FOREIGN KEY (t, u) REFERENCES pairs ON DELETE CASCADE);
CREATE TABLE pair_items (id bigserial PRIMARY KEY, t bigint NOT NULL, u int NOT NULL);
CREATE SEQUENCE pair_numbers;
CREATE INDEX ON teams (org_id);
CREATE INDEX ON members (team_id);
CREATE INDEX ON team_files (team_id);
CREATE INDEX ON file_versions (file_id);
CREATE INDEX ON posts (member_id);
CREATE INDEX ON comments (post_id);
CREATE INDEX ON links (team_id);
CREATE INDEX ON box_items (team_id, u);
CREATE INDEX ON parts (team_id);
CREATE INDEX ON parts (id);
CREATE INDEX ON events (org_id);
CREATE INDEX ON events (id);
CREATE INDEX ON pair_rows (t, u);
CREATE INDEX ON pair_items (t, u);

CREATE FUNCTION keep_event() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RETURN CASE WHEN current_setting('storm.by_hand', true) = 'yes' THEN OLD END; END $$;
CREATE TRIGGER keep BEFORE DELETE ON events_3 FOR EACH ROW EXECUTE FUNCTION keep_event();

CREATE TABLE audit_log (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);
SELECT add_deletion_policy(policy, policy::regclass, due_column => 'due')
FROM unnest('{orgs,members,pairs}'::text[]) AS policy;
SELECT add_deletion_step(policy, 'comments', '{post_id}', via => 'posts', action => 'set null') FROM unnest('{orgs,members}'::text[]) AS policy;
SELECT add_deletion_step('orgs', 'events', '{org_id}');
SELECT add_deletion_step('pairs', 'pair_items', '{t,u}');

-- What a row is under, from then on; of an account itself, nothing
CREATE TABLE placed (n bigserial, tab text, id text, parent text);
-- What was said of an account last: it is due at that time, or not any more (null)
CREATE TABLE said (n bigserial, policy text, account text, due timestamptz);
CREATE TABLE hold_said (n bigserial, account text, is_held boolean);
CREATE TABLE taken_by_hand (tab text, id text);

CREATE TABLE below (tab text PRIMARY KEY, parent_tab text, col text);
INSERT INTO below VALUES ('teams', 'orgs', 'org_id'), ('members', 'teams', 'team_id'), ('team_files', 'teams', 'team_id'),
    ('file_versions', 'team_files', 'file_id'), ('posts', 'members', 'member_id'), ('comments', 'posts', 'post_id'),
    ('links', 'teams', 'team_id'), ('boxes', 'teams', 'team_id'), ('box_items', 'boxes', NULL), ('parts', 'teams', 'team_id'),
    ('events', 'orgs', 'org_id'), ('pair_rows', 'pairs', NULL), ('pair_items', 'pairs', NULL), ('orgs', NULL, NULL), ('pairs', NULL, NULL);

-- Each row that is there, and what it is under
CREATE VIEW present AS
SELECT 'orgs' AS tab, id::text AS id, NULL AS parent FROM orgs
UNION ALL SELECT 'teams', id::text, org_id::text FROM teams
UNION ALL SELECT 'members', id::text, team_id::text FROM members
UNION ALL SELECT 'team_files', id::text, team_id::text FROM team_files
UNION ALL SELECT 'file_versions', id::text, file_id::text FROM file_versions
UNION ALL SELECT 'posts', id::text, member_id::text FROM posts
UNION ALL SELECT 'comments', id::text, post_id::text FROM comments
UNION ALL SELECT 'links', id::text, team_id::text FROM links
UNION ALL SELECT 'boxes', format('(%s,%s)', team_id, u), team_id::text FROM boxes
UNION ALL SELECT 'box_items', id::text, format('(%s,%s)', team_id, u) FROM box_items
UNION ALL (SELECT 'parts', id::text, team_id::text FROM parts UNION SELECT 'parts', id::text, team_id::text FROM parts_3)
UNION ALL (SELECT 'events', id::text, org_id::text FROM events UNION SELECT 'events', id::text, org_id::text FROM events_3)
UNION ALL SELECT 'pairs', format('(%s,%s)', t, u), NULL FROM pairs
UNION ALL SELECT 'pair_rows', id::text, format('(%s,%s)', t, u) FROM pair_rows
UNION ALL SELECT 'pair_items', id::text, format('(%s,%s)', t, u) FROM pair_items;

CREATE FUNCTION add_org() RETURNS void LANGUAGE sql AS $$
    WITH o AS (INSERT INTO orgs DEFAULT VALUES RETURNING *),
         t AS (INSERT INTO teams (org_id) SELECT id FROM o, generate_series(1, 3) RETURNING *),
         m AS (INSERT INTO members (team_id) SELECT id FROM t, generate_series(1, 2) RETURNING *),
         f AS (INSERT INTO team_files (team_id) SELECT id FROM t, generate_series(1, 8) RETURNING *),
         v AS (INSERT INTO file_versions (file_id) SELECT id FROM f, generate_series(1, 2) RETURNING *),
         p AS (INSERT INTO posts (member_id) SELECT id FROM m, generate_series(1, 2) RETURNING *),
         c AS (INSERT INTO comments (post_id) SELECT id FROM p RETURNING *),
         l AS (INSERT INTO links (team_id) SELECT id FROM t, generate_series(1, 2) RETURNING *),
         b AS (INSERT INTO boxes (team_id, u) SELECT id, u FROM t, generate_series(1, 2) AS u RETURNING *),
         i AS (INSERT INTO box_items (team_id, u) SELECT team_id, u FROM b, generate_series(1, 2) RETURNING *),
         r AS (INSERT INTO parts (region, team_id) SELECT n, id FROM t, generate_series(1, 2) AS n RETURNING *),
         e AS (INSERT INTO events (region, org_id) SELECT n, id FROM o, generate_series(1, 2) AS n RETURNING *)
    INSERT INTO placed (tab, id, parent)
    SELECT 'orgs', id::text, NULL FROM o UNION ALL SELECT 'teams', id::text, org_id::text FROM t
    UNION ALL SELECT 'members', id::text, team_id::text FROM m UNION ALL SELECT 'team_files', id::text, team_id::text FROM f
    UNION ALL SELECT 'file_versions', id::text, file_id::text FROM v UNION ALL SELECT 'posts', id::text, member_id::text FROM p
    UNION ALL SELECT 'comments', id::text, post_id::text FROM c UNION ALL SELECT 'links', id::text, team_id::text FROM l
    UNION ALL SELECT 'boxes', format('(%s,%s)', team_id, u), team_id::text FROM b
    UNION ALL SELECT 'box_items', id::text, format('(%s,%s)', team_id, u) FROM i
    UNION ALL SELECT 'parts', id::text, team_id::text FROM r UNION ALL SELECT 'events', id::text, org_id::text FROM e;
$$;

CREATE FUNCTION add_pair() RETURNS void LANGUAGE sql AS $$
    WITH a AS (INSERT INTO pairs (t, u, partner) SELECT t, u, 3 - u FROM nextval('pair_numbers') AS t, generate_series(1, 2) AS u RETURNING *),
         r AS (INSERT INTO pair_rows (t, u) SELECT t, u FROM a, generate_series(1, 3) RETURNING *),
         i AS (INSERT INTO pair_items (t, u) SELECT t, u FROM a, generate_series(1, 3) RETURNING *)
    INSERT INTO placed (tab, id, parent)
    SELECT 'pairs', format('(%s,%s)', t, u), NULL FROM a
    UNION ALL SELECT 'pair_rows', id::text, format('(%s,%s)', t, u) FROM r
    UNION ALL SELECT 'pair_items', id::text, format('(%s,%s)', t, u) FROM i;
$$;

-- What goes soon
CREATE VIEW doomed_orgs AS SELECT id FROM orgs WHERE due < now() + interval '1 second';
CREATE VIEW doomed AS
SELECT 'orgs' AS tab, id FROM doomed_orgs
UNION ALL SELECT 'teams', id FROM teams WHERE org_id IN (TABLE doomed_orgs)
UNION ALL SELECT 'members', m.id FROM members AS m JOIN teams AS t ON t.id = team_id WHERE org_id IN (TABLE doomed_orgs) OR due < now()
UNION ALL SELECT 'team_files', f.id FROM team_files AS f JOIN teams AS t ON t.id = team_id WHERE org_id IN (TABLE doomed_orgs)
UNION ALL SELECT 'posts', p.id FROM posts AS p JOIN members AS m ON m.id = member_id JOIN teams AS t ON t.id = team_id
    WHERE org_id IN (TABLE doomed_orgs) OR due < now();

-- Any row of a table, by a number between 0 and 1: below 0.6, one that goes soon, if there
-- is any; above 0.8, of members one on hold
CREATE FUNCTION some_row(tab text, r float8) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    result bigint;
BEGIN
    IF r < 0.6 THEN
        SELECT id INTO result FROM doomed AS d WHERE d.tab = some_row.tab ORDER BY random() LIMIT 1;
    END IF;
    IF r > 0.8 AND tab = 'members' THEN
        SELECT account::bigint INTO result FROM deletion_hold ORDER BY random() LIMIT 1;
    END IF;
    IF result IS NULL THEN
        EXECUTE format('SELECT id FROM %I WHERE id >= (SELECT min(id) + random() * (max(id) - min(id)) FROM %I) ORDER BY id LIMIT 1', tab, tab)
        INTO result;
    END IF;
    RETURN result;
END
$$;

-- A row goes under another one: r says which, s under which
CREATE FUNCTION move_row(tab text, r float8, s float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    this below;
    row_id bigint := some_row(tab, r);
    parent_id bigint;
    n bigint;
BEGIN
    SELECT * INTO this FROM below AS b WHERE b.tab = move_row.tab;
    parent_id := some_row(this.parent_tab, s);
    IF tab = 'events' THEN
        PERFORM FROM orgs WHERE id = parent_id FOR KEY SHARE;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE format('UPDATE %I SET %I = $1 WHERE id = $2 AND %I IS NOT NULL', tab, this.col, this.col) USING parent_id, row_id;
    GET DIAGNOSTICS n = ROW_COUNT;
    SET CONSTRAINTS ALL IMMEDIATE;
    IF n > 0 THEN
        INSERT INTO placed (tab, id, parent) VALUES (tab, row_id::text, parent_id::text);
    END IF;
EXCEPTION WHEN foreign_key_violation THEN
END
$$;

-- To another partition, and another team
CREATE FUNCTION move_part(r float8, s float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    part bigint := some_row('parts', r);
    team bigint := some_row('teams', s);
BEGIN
    UPDATE parts SET region = 1 + (region + floor(10 * s)::int) % 3, team_id = team WHERE id = part;
    IF FOUND THEN
        INSERT INTO placed (tab, id, parent) VALUES ('parts', part::text, team::text);
    END IF;
EXCEPTION WHEN foreign_key_violation OR check_violation THEN
END
$$;

CREATE FUNCTION move_box_item(r float8, s float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    item bigint := some_row('box_items', r);
    team bigint := some_row('teams', s);
BEGIN
    UPDATE box_items SET team_id = team, u = 3 - u WHERE id = item;
    IF FOUND THEN
        INSERT INTO placed (tab, id, parent) SELECT 'box_items', id::text, format('(%s,%s)', team_id, u) FROM box_items WHERE id = item;
    END IF;
EXCEPTION WHEN foreign_key_violation THEN
END
$$;

-- From one of a pair to the other, who are both there, or not
CREATE FUNCTION move_in_pair(tab text, r float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    pair bigint;
    first int := 1 + floor(r * 1000)::int % 2;
    moved bigint[];
BEGIN
    SELECT t INTO pair FROM pairs ORDER BY due < now() DESC NULLS LAST, random() LIMIT 1;
    EXECUTE format('WITH i AS (UPDATE %I SET u = 3 - u WHERE t = $1 AND u = $2 RETURNING id) SELECT array_agg(id) FROM i', tab)
    INTO moved USING pair, first;
    IF (SELECT count(*) FROM pairs WHERE t = pair) < 2 THEN
        RAISE foreign_key_violation;
    END IF;
    INSERT INTO placed (tab, id, parent) SELECT tab, id, format('(%s,%s)', pair, 3 - first) FROM unnest(moved) AS id;
EXCEPTION WHEN foreign_key_violation THEN
END
$$;

-- A partition comes, with a row of somebody that its trigger keeps, or goes, without one
CREATE FUNCTION move_partition(tab text, r float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    part regclass := tab || '_3';
    org bigint := some_row('orgs', r);
    event bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(part::oid::bigint) THEN
        RETURN;
    END IF;
    SET LOCAL lock_timeout = '20ms';
    IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = part) THEN
        IF tab = 'events' THEN
            SET LOCAL storm.by_hand = 'yes';
            WITH e AS (DELETE FROM events_3 RETURNING id)
            INSERT INTO taken_by_hand SELECT 'events', id::text FROM e;
        END IF;
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %s', tab, part);
    ELSE
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %s FOR VALUES IN (3)', tab, part);
        PERFORM FROM orgs WHERE id = org FOR KEY SHARE;
        IF FOUND AND tab = 'events' THEN
            INSERT INTO events (region, org_id) VALUES (3, org) RETURNING id INTO event;
            INSERT INTO placed (tab, id, parent) VALUES ('events', event::text, org::text);
        END IF;
    END IF;
EXCEPTION WHEN lock_not_available THEN
END
$$;

-- An account is due then, or not (null)
CREATE FUNCTION say(policy text, r float8, due timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    account bigint;
BEGIN
    IF policy = 'pairs' THEN
        SELECT t INTO account FROM pairs ORDER BY random() LIMIT 1;
        WITH p AS (UPDATE pairs SET due = say.due WHERE t = account RETURNING *)
        INSERT INTO said (policy, account, due) SELECT 'pairs', format('(%s,%s)', t, u), p.due FROM p;
        RETURN;
    END IF;
    account := some_row(policy, r);
    IF policy = 'orgs' THEN
        UPDATE orgs SET due = say.due WHERE id = account;
    ELSE
        UPDATE members SET due = say.due WHERE id = account;
    END IF;
    IF FOUND THEN
        INSERT INTO said (policy, account, due) VALUES (policy, account::text, due);
    END IF;
END
$$;

CREATE FUNCTION hold(r float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    member bigint := some_row('members', r);
BEGIN
    PERFORM hold_account(member::text, 'case', policy => 'members');
    INSERT INTO hold_said (account, is_held) VALUES (member::text, true);
EXCEPTION WHEN no_data_found THEN
END
$$;

CREATE FUNCTION release() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    member text;
BEGIN
    SELECT account INTO member FROM deletion_hold ORDER BY random() LIMIT 1;
    IF member IS NOT NULL AND release_account(member, policy => 'members') THEN
        INSERT INTO hold_said (account, is_held) VALUES (member, false);
    END IF;
EXCEPTION WHEN no_data_found THEN
END
$$;

-- Rows that prove a broken promise; none, if all is well
CREATE VIEW broken_promises AS
WITH there AS MATERIALIZED (TABLE present),
     last_placed AS MATERIALIZED (
         SELECT DISTINCT ON (tab, id) tab, id, parent, parent_tab FROM placed JOIN below USING (tab) ORDER BY tab, id, n DESC),
     gone AS MATERIALIZED (
         SELECT * FROM last_placed AS l
         WHERE NOT EXISTS (SELECT FROM there AS t WHERE t.tab = l.tab AND t.id = l.id)
             AND NOT EXISTS (SELECT FROM taken_by_hand AS h WHERE h.tab = l.tab AND h.id = l.id)),
     audited AS MATERIALIZED (
         SELECT details ->> 'policy' AS tab, user_id AS id, details, created_at FROM audit_log WHERE action = 'hard_deleted'),
     last_said AS (SELECT DISTINCT ON (policy, account) policy, account, due FROM said ORDER BY policy, account, n DESC),
     last_hold AS (SELECT DISTINCT ON (account) account, is_held FROM hold_said ORDER BY account, n DESC),
     counted AS (
         SELECT 'audit rows' AS source, key AS tab, value::bigint AS rows FROM audited, jsonb_each_text(details -> 'deleted_records')
         UNION ALL
         SELECT 'reports', key, value::bigint
         FROM deletion_run, jsonb_each_text(report -> 'total_records_deleted')),
     -- a run that is killed has no report
     source AS (SELECT 'audit rows' AS source UNION ALL SELECT 'reports' WHERE NOT EXISTS (SELECT FROM deletion_run WHERE report IS NULL))
SELECT 'orphan in ' || t.tab AS promise, t.id
FROM there AS t JOIN below AS b USING (tab)
WHERE parent IS NOT NULL AND NOT EXISTS (SELECT FROM there AS p WHERE p.tab = parent_tab AND p.id = t.parent)
UNION ALL
SELECT 'gone from ' || tab || ', and what it was under is there', id FROM gone AS g
WHERE EXISTS (SELECT FROM there AS p WHERE p.tab = parent_tab AND p.id = g.parent)
    AND NOT EXISTS (SELECT FROM audited AS a WHERE a.tab = g.tab AND a.id = g.id)
UNION ALL
SELECT 'gone from ' || tab || ', which stay', id FROM gone WHERE tab IN ('comments', 'links')
UNION ALL
SELECT 'set to null in ' || tab || ', and what it was under is there', t.id
FROM there AS t JOIN last_placed AS l USING (tab, id)
WHERE t.parent IS NULL AND EXISTS (SELECT FROM there AS p WHERE p.tab = parent_tab AND p.id = l.parent)
UNION ALL
SELECT 'audited, and there in ' || tab, id FROM audited JOIN there USING (tab, id)
UNION ALL
SELECT 'audited twice in ' || tab, id FROM audited GROUP BY tab, id HAVING count(*) > 1
UNION ALL
SELECT 'gone from ' || tab || ' without an audit row', id FROM gone
WHERE parent_tab IS NULL AND (tab, id) NOT IN (SELECT tab, id FROM audited)
UNION ALL
SELECT 'was not due in ' || tab, id FROM audited JOIN last_said ON policy = tab AND account = id
WHERE (details ->> 'deletion_scheduled_at')::timestamptz IS DISTINCT FROM due OR due > created_at
UNION ALL
SELECT 'was on hold', id FROM gone JOIN last_hold ON account = id WHERE tab = 'members' AND is_held
UNION ALL
SELECT format('%s of %s gone rows of %s are counted by %s', coalesce(c.rows, 0), coalesce(g.rows, 0), tab, source), NULL
FROM (SELECT tab, source, count(id) AS rows FROM source, below LEFT JOIN gone USING (tab) GROUP BY tab, source) AS g
FULL JOIN (SELECT replace(tab, '_3', '') AS tab, source, sum(rows) AS rows FROM counted JOIN source USING (source) GROUP BY 1, 2) AS c
    USING (tab, source)
WHERE coalesce(c.rows, 0) <> coalesce(g.rows, 0)
UNION ALL
-- the server sets links to null, after they were counted, so one may have left since
SELECT format('%s of %s rows of %s that are set to null are counted', coalesce(c.rows, 0), coalesce(t.rows, 0), tab), NULL
FROM (SELECT tab, count(*) AS rows FROM there WHERE tab IN ('comments', 'links') AND parent IS NULL GROUP BY tab) AS t
FULL JOIN (SELECT key AS tab, sum(value::bigint) AS rows
           FROM audited, jsonb_each_text(details -> 'set_null_records') GROUP BY key) AS c USING (tab)
WHERE coalesce(c.rows, 0) < coalesce(t.rows, 0) OR (tab = 'comments' AND c.rows > coalesce(t.rows, 0));

SELECT count(add_org()) FROM generate_series(1, 40);
SELECT count(add_pair()) FROM generate_series(1, 20);
