-- The plan is read from the foreign keys as they are now, and it is what a run does.
CREATE SCHEMA erasure;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
\getenv srcdir PG_ABS_SRCDIR
\set at_once :srcdir '/test/at_once.sql'
\set ECHO none
\i :at_once
\set ECHO all
CREATE SCHEMA app;
SET search_path = app, erasure;
CREATE TABLE audit_log (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);
CREATE FUNCTION plan(policy text) RETURNS TABLE ("position" int, step_table regclass, columns name[], action text, via text, constraint_name name)
LANGUAGE sql AS 'SELECT "position", step_table, columns, action, via, constraint_name FROM deletion_plan($1)';
-- what a run deleted and what it did not, of each table
CREATE FUNCTION run(policy text) RETURNS TABLE (key text, value jsonb)
LANGUAGE sql AS $$
    SELECT k, r -> k FROM process_scheduled_deletions($1) r,
        unnest('{users_deleted,users_failed,total_records_deleted,errors}'::text[]) k $$;
\set VERBOSITY terse

-- every action, transitively: two keys to one table, one to a unique key that is not
-- the primary one, a key of two columns, a step of a step of a step
CREATE TABLE users (id int PRIMARY KEY, handle text UNIQUE, tenant int NOT NULL, deletion_scheduled_at timestamptz,
    UNIQUE (tenant, id));
CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
CREATE TABLE items (order_id int REFERENCES orders ON DELETE CASCADE, n int, PRIMARY KEY (order_id, n));
CREATE TABLE item_notes (order_id int, n int, note text, FOREIGN KEY (order_id, n) REFERENCES items ON DELETE CASCADE);
CREATE TABLE letters (id int, sender int REFERENCES users ON DELETE CASCADE, receiver int REFERENCES users ON DELETE CASCADE);
CREATE TABLE mentions (handle text REFERENCES users (handle) ON DELETE CASCADE);
CREATE TABLE seats (tenant int, user_id int, FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id) ON DELETE CASCADE);
CREATE TABLE tickets (id int, assignee int REFERENCES users ON DELETE SET NULL, item_order int REFERENCES orders ON DELETE SET NULL);
INSERT INTO users VALUES (0, 'nobody', 0, NULL);
CREATE TABLE reviews (id int, user_id int DEFAULT 0 REFERENCES users ON DELETE SET DEFAULT);
CREATE TABLE invoices (id int, order_id int REFERENCES orders);
SELECT add_deletion_policy('users', 'users');
SELECT * FROM plan('users');

INSERT INTO users SELECT n, 'u' || n, n % 2, CASE WHEN n <= 3 THEN '2020-01-01'::timestamptz END FROM generate_series(1, 5) n;
INSERT INTO orders SELECT n, 1 + n % 5 FROM generate_series(1, 20) n;
INSERT INTO items SELECT o, n FROM generate_series(1, 20) o, generate_series(1, 2) n;
INSERT INTO item_notes SELECT order_id, n, 'x' FROM items, generate_series(1, 3);
INSERT INTO letters VALUES (1, 1, 2), (2, 1, 1), (3, 4, 1), (4, 4, 5);
INSERT INTO mentions VALUES ('u1'), ('u4'), (NULL);
INSERT INTO seats VALUES (1, 1), (0, 4), (NULL, 1);
INSERT INTO tickets VALUES (1, 1, NULL), (2, 4, 5), (3, 4, 4);
INSERT INTO reviews VALUES (1, 1), (2, 1), (3, 4);
INSERT INTO invoices VALUES (1, 1);     -- of an order of user 2
SELECT * FROM run('users');
SELECT user_id, details -> 'deleted_records' AS deleted, details -> 'set_null_records' AS set_null,
    details -> 'set_default_records' AS set_default
FROM audit_log ORDER BY user_id;
SELECT (SELECT array_agg(id ORDER BY id) FROM users) AS users, (SELECT count(*) FROM orders) AS orders,
    (SELECT count(*) FROM items) AS items, (SELECT count(*) FROM item_notes) AS notes,
    (SELECT array_agg(id) FROM letters) AS letters, (SELECT array_agg(handle) FROM mentions) AS mentions,
    (SELECT count(*) FROM seats) AS seats;
SELECT * FROM tickets ORDER BY id;
SELECT * FROM reviews ORDER BY id;

-- keys without an action are followed if the policy says so
SELECT alter_deletion_policy('users', blocking_keys => 'delete');
SELECT * FROM plan('users') WHERE step_table = 'invoices'::regclass;
SELECT * FROM run('users');

-- a migration adds a table, and another drops a key; nobody tells the policy
CREATE TABLE sessions (user_id int REFERENCES users);
CREATE TABLE session_events (session int);
INSERT INTO sessions VALUES (4);
ALTER TABLE orders DROP CONSTRAINT orders_user_id_fkey;
UPDATE users SET deletion_scheduled_at = '2020-01-01' WHERE id = 4;
SELECT * FROM run('users');
DROP TABLE item_notes, items, invoices, tickets, orders, letters, mentions, seats, reviews, sessions, session_events;
TRUNCATE users, audit_log;

-- tables that refer to themselves, and to each other
CREATE TABLE posts (id int PRIMARY KEY, author int REFERENCES users ON DELETE CASCADE, pinned int);
CREATE TABLE comments (id int PRIMARY KEY, post int REFERENCES posts, author int REFERENCES users, parent int REFERENCES comments);
ALTER TABLE posts ADD FOREIGN KEY (pinned) REFERENCES comments;
SELECT * FROM plan('users');
INSERT INTO users VALUES (1, 'one', 1, '2020-01-01'), (2, 'two', 1, '2020-01-01'), (3, 'three', 1, NULL);
INSERT INTO posts VALUES (1, 1), (2, 3), (3, 3);
INSERT INTO comments VALUES (1, 1, 3, NULL), (2, 1, 3, 1), (3, 2, 2, NULL), (4, 2, 3, 3), (5, 2, 3, 4), (6, 3, 3, NULL);
UPDATE posts SET pinned = 2 WHERE id = 1;
UPDATE posts SET pinned = 6 WHERE id = 3;
SELECT * FROM run('users');
SELECT array_agg(id) AS posts FROM posts;
SELECT array_agg(id) AS comments FROM comments;
SELECT user_id, details -> 'deleted_records' AS deleted FROM audit_log ORDER BY user_id;
-- and with keys that stop accounts: a reply of the living does
TRUNCATE users, audit_log, posts, comments;
SELECT alter_deletion_policy('users', blocking_keys => 'fail');
ALTER TABLE comments DROP CONSTRAINT comments_author_fkey, DROP CONSTRAINT comments_post_fkey,
    ADD FOREIGN KEY (author) REFERENCES users ON DELETE CASCADE, ADD FOREIGN KEY (post) REFERENCES posts ON DELETE CASCADE;
SELECT * FROM plan('users');
INSERT INTO users VALUES (1, 'one', 1, '2020-01-01'), (2, 'two', 1, '2020-01-01'), (3, 'three', 1, NULL);
INSERT INTO posts VALUES (1, 3);
INSERT INTO comments VALUES (1, 1, 1, NULL), (2, 1, 1, 1), (3, 1, 2, NULL), (4, 1, 3, 3);
SELECT * FROM run('users');
SELECT array_agg(id) AS comments FROM comments;
DROP TABLE posts, comments;
TRUNCATE users, audit_log;

-- partitioned tables on either side, and a key to one partition, whose values the
-- others may have, too
CREATE TABLE visits (id int, region text, user_id int REFERENCES users ON DELETE CASCADE) PARTITION BY LIST (region);
CREATE TABLE visits_eu PARTITION OF visits (PRIMARY KEY (id)) FOR VALUES IN ('eu');
CREATE TABLE visits_us PARTITION OF visits (PRIMARY KEY (id)) FOR VALUES IN ('us') PARTITION BY LIST (id);
CREATE TABLE visits_us_1 PARTITION OF visits_us FOR VALUES IN (1, 2, 3);
CREATE TABLE eu_consents (visit_id int REFERENCES visits_eu ON DELETE CASCADE);
CREATE TABLE us_consents (visit_id int REFERENCES visits_us ON DELETE CASCADE);
ALTER TABLE visits ADD UNIQUE (region, id);
CREATE TABLE pages (region text, visit_id int, FOREIGN KEY (region, visit_id) REFERENCES visits (region, id) ON DELETE CASCADE)
    PARTITION BY LIST (region);
CREATE TABLE pages_all PARTITION OF pages DEFAULT;
SELECT * FROM plan('users');
INSERT INTO users VALUES (1, 'one', 1, '2020-01-01'), (2, 'two', 1, NULL);
INSERT INTO visits VALUES (1, 'eu', 1), (1, 'us', 2), (2, 'eu', 2), (2, 'us', 1);
INSERT INTO eu_consents VALUES (1), (2);
INSERT INTO us_consents VALUES (1), (2);
INSERT INTO pages SELECT region, id FROM visits, generate_series(1, 2);
SELECT * FROM run('users');
SELECT * FROM visits ORDER BY region;
SELECT * FROM eu_consents;
SELECT * FROM us_consents;
SELECT region, visit_id, count(*) FROM pages GROUP BY region, visit_id ORDER BY region;
DROP TABLE eu_consents, us_consents, pages, visits;
TRUNCATE users, audit_log;

-- rows that go anyway are not set to null before: they might not take it
CREATE TABLE albums (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE, cover int NOT NULL);
CREATE TABLE photos (id int PRIMARY KEY, album int REFERENCES albums ON DELETE CASCADE, user_id int REFERENCES users ON DELETE CASCADE);
INSERT INTO users VALUES (1, 'one', 1, '2020-01-01'), (2, 'two', 1, '2020-01-01'), (3, 'three', 1, NULL);
INSERT INTO albums VALUES (1, 1, 1), (3, 3, 2);
INSERT INTO photos VALUES (1, 1, 1), (2, NULL, 2);
ALTER TABLE albums ADD FOREIGN KEY (cover) REFERENCES photos ON DELETE SET NULL;
SELECT * FROM plan('users');
SELECT * FROM run('users');
DROP TABLE albums, photos;
TRUNCATE users, audit_log;

-- the key of an inheritance parent says nothing of its children's rows
CREATE TABLE notes (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
CREATE TABLE old_notes () INHERITS (notes);
CREATE TABLE marks (note_id int REFERENCES notes ON DELETE CASCADE);
INSERT INTO users VALUES (1, 'one', 1, '2020-01-01');
INSERT INTO notes VALUES (1, 1);
INSERT INTO old_notes VALUES (1, 1), (2, 1);
INSERT INTO marks VALUES (1);
SELECT * FROM run('users');
SELECT tableoid::regclass, * FROM notes ORDER BY id;
DROP TABLE marks, old_notes, notes;

-- an account table in partitions
CREATE TABLE members (id int, region text, due date, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE members_eu PARTITION OF members FOR VALUES IN ('eu');
CREATE TABLE members_us PARTITION OF members FOR VALUES IN ('us');
CREATE TABLE badges (region text, member_id int, FOREIGN KEY (region, member_id) REFERENCES members ON DELETE CASCADE);
SELECT add_deletion_policy('members', 'members', due_column => 'due');
SELECT * FROM plan('members');
INSERT INTO members VALUES (1, 'eu', '2020-01-01'), (1, 'us', NULL), (2, 'us', '2020-01-01');
INSERT INTO badges VALUES ('eu', 1), ('us', 1), ('us', 2), ('us', NULL), (NULL, 1);
SELECT * FROM run('members');
SELECT * FROM badges ORDER BY region, member_id;
SELECT user_id, details ->> 'deletion_scheduled_at' AS due FROM audit_log WHERE details ->> 'policy' = 'members' ORDER BY 1;
DROP TABLE badges;

-- keys that are disabled are not there
CREATE TABLE quiet (user_id int REFERENCES users ON DELETE CASCADE);
ALTER TABLE users DISABLE TRIGGER ALL;
SELECT count(*) FROM plan('users');
ALTER TABLE users ENABLE TRIGGER ALL;
SELECT count(*) FROM plan('users');
-- nor is a trigger that somebody has made of a key's function
CREATE TRIGGER own AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION "RI_FKey_noaction_del"();
SELECT count(*) FROM plan('users');
DROP TRIGGER own ON users;
CREATE CONSTRAINT TRIGGER own AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION "RI_FKey_noaction_del"();
SELECT count(*) FROM plan('users');
DROP TRIGGER own ON users;

-- estimates, and whether the server checks keys
INSERT INTO users SELECT n, 'x' || n, 1, CASE WHEN n % 10 = 0 THEN '2020-01-01'::timestamptz END FROM generate_series(100, 1099) n;
INSERT INTO quiet SELECT 100 + n % 1000 FROM generate_series(1, 5000) n;
ANALYZE users, quiet;
SELECT step_table, source, fk_checks, estimated_rows BETWEEN 90 AND 110 AS some, estimated_rows BETWEEN 450 AND 550 AS many
FROM deletion_plan('users');
SELECT policy, step_table, estimated_rows FROM deletion_plan() ORDER BY policy, "position";
SET client_min_messages = warning;
DROP SCHEMA app CASCADE;
DROP EXTENSION scheduled_deletion;
DROP SCHEMA erasure;
