-- What the operator decides of a table goes before what its foreign keys say, and
-- reaches tables without one.
CREATE SCHEMA erasure;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
\getenv srcdir PG_ABS_SRCDIR
\set at_once :srcdir '/test/at_once.sql'
\set ECHO none
\i :at_once
\set ECHO all
CREATE SCHEMA app;
SET search_path = app, erasure;
SET client_min_messages = warning;
CREATE TABLE audit_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
CREATE TABLE users (id int PRIMARY KEY, email text, deletion_scheduled_at timestamptz);
CREATE FUNCTION plan() RETURNS TABLE ("position" int, step_table regclass, columns name[], action text, source text, via text, match jsonb, reason text)
LANGUAGE sql AS $$ SELECT "position", step_table, columns, action, source, via, match, reason FROM deletion_plan('users') $$;
CREATE FUNCTION run() RETURNS TABLE (key text, value jsonb) LANGUAGE sql AS $$
    SELECT k, r -> k FROM process_scheduled_deletions() r,
        unnest('{users_deleted,users_failed,total_records_deleted,set_null_records,retained_records,errors}'::text[]) k WHERE r ? k $$;
SELECT add_deletion_policy('users', 'users');
-- accounts 1 and 2 are due, 3 is not
CREATE PROCEDURE due() LANGUAGE sql AS $$
    INSERT INTO users VALUES (1, 'a@b', '2020-01-01'), (2, 'c@d', '2020-01-01'), (3, 'e@f', NULL) ON CONFLICT DO NOTHING $$;

-- in the given order, as far as foreign keys let it be
CREATE TABLE a (user_id int REFERENCES users ON DELETE CASCADE, id int PRIMARY KEY);
CREATE TABLE b (user_id int, a_id int REFERENCES a ON DELETE CASCADE);
CREATE TABLE c (user_id int REFERENCES users ON DELETE CASCADE);
CREATE TABLE d (user_id int REFERENCES users ON DELETE CASCADE);
SELECT add_deletion_step('users', 'd', '{user_id}');
SELECT add_deletion_step('users', 'a', '{user_id}');
SELECT add_deletion_step('users', 'b', '{user_id}');
SELECT * FROM plan();
SELECT position, step_table, step_table_name, columns, action FROM deletion_step ORDER BY position;
CALL due();
INSERT INTO a VALUES (1, 1), (3, 3);
INSERT INTO b VALUES (1, 1), (3, 1), (2, 3), (2, NULL), (3, 3);
INSERT INTO c VALUES (1), (3);
SELECT * FROM run();
SELECT * FROM b;
SELECT remove_deletion_step('users', 'd'), remove_deletion_step('users', 'd'), remove_deletion_step('users', 'a'),
    remove_deletion_step('users', 'b');
DROP TABLE a, b, c, d;

-- instead of the action of the key: rows that would go stay, and the other way round
CREATE TABLE posts (id int PRIMARY KEY, author int REFERENCES users ON DELETE CASCADE, editor int REFERENCES users ON DELETE CASCADE);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES users);
CREATE TABLE devices (id int, user_id int REFERENCES users ON DELETE SET NULL);
CREATE TABLE payments (id int, user_id int, at date);
SELECT add_deletion_step('users', 'posts', '{author}', action => 'set null');
SELECT add_deletion_step('users', 'orders', '{customer}', action => 'set null');
SELECT add_deletion_step('users', 'devices', '{user_id}');
SELECT add_deletion_step('users', 'payments', '{user_id}', action => 'keep', reason => 'tax law, ten years');
SELECT add_deletion_step('users', 'payments', '{id}', action => 'keep', reason => 'habit');  -- fails
SELECT * FROM plan();
CALL due();
INSERT INTO posts VALUES (1, 1, NULL), (2, 1, 2), (3, 3, 2), (4, 3, 3);
INSERT INTO orders VALUES (1, 1), (2, 3);
INSERT INTO devices VALUES (1, 1), (2, 3);
INSERT INTO payments VALUES (1, 1), (2, 1), (3, 2), (4, 3);
SELECT * FROM run();
SELECT user_id, jsonb_pretty(details - 'run_id' - 'deletion_scheduled_at') FROM audit_log
WHERE (details -> 'run_id')::int = (SELECT max((details -> 'run_id')::int) FROM audit_log) ORDER BY user_id;
SELECT * FROM posts ORDER BY id;
SELECT * FROM orders ORDER BY id;
SELECT * FROM devices ORDER BY id;
SELECT count(*) FROM payments;
-- rows that a trigger keeps from being set to null are not taken for it
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER keep BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION keep();
CALL due();
INSERT INTO orders VALUES (3, 1);
SELECT * FROM run();
-- nor those to which a trigger gives the key back, be it the policy or a foreign key
-- that has set them to null
ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey;
CREATE FUNCTION give_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;
DROP TRIGGER keep ON orders;
CREATE TRIGGER give_back BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION give_back();
CREATE TABLE votes (user_id int REFERENCES users ON DELETE SET NULL);
CREATE TRIGGER keep BEFORE UPDATE ON votes FOR EACH ROW EXECUTE FUNCTION keep();
CALL due();
INSERT INTO votes VALUES (2), (3);
SELECT * FROM run();
DROP TABLE posts, orders, devices, payments, votes;
TRUNCATE users;
DELETE FROM deletion_step;

-- a reply stays, and what it replied to goes, also where replies go that have replies
CREATE TABLE comments (id int PRIMARY KEY, author int, thread int, parent int REFERENCES comments);
CREATE TABLE threads (id int PRIMARY KEY, author int REFERENCES users ON DELETE CASCADE);
SELECT add_deletion_step('users', 'comments', '{author}');
SELECT add_deletion_step('users', 'comments', '{thread}', via => 'threads');
SELECT add_deletion_step('users', 'comments', '{parent}', via => 'comments', action => 'set null');
SELECT * FROM plan();
CALL due();
INSERT INTO threads VALUES (1, 1), (3, 3);
INSERT INTO comments VALUES (1, 1, 1, NULL), (2, 3, 1, 1), (3, 3, 1, 2), (4, 1, 3, NULL), (5, 3, 3, 4), (6, 1, 3, 5);
SELECT * FROM run();
SELECT * FROM comments;
DROP TABLE comments, threads;
TRUNCATE users;
DELETE FROM deletion_step;

-- hanging on another step's table, by its primary key or other columns, several deep
CREATE TABLE orders (id int PRIMARY KEY, number text, user_id int);
CREATE TABLE items (order_id int, sku text);
CREATE TABLE labels (number varchar(10));
SELECT add_deletion_step('users', 'items', '{order_id}', via => 'orders');  -- fails
SELECT add_deletion_step('users', 'orders', '{user_id}');
SELECT add_deletion_step('users', 'items', '{order_id}', via => 'orders');
SELECT add_deletion_step('users', 'labels', '{number}', via => 'orders', via_columns => '{number}');
SELECT * FROM plan();
CALL due();
INSERT INTO orders VALUES (1, 'x', 1), (2, 'x', 1), (3, 'y', 3), (4, NULL, 2);
INSERT INTO items VALUES (1, 's'), (2, 's'), (3, 's'), (4, 's'), (NULL, 's');
INSERT INTO labels VALUES ('x'), ('x'), ('y'), (NULL);
SELECT * FROM run();
SELECT * FROM items;
SELECT * FROM labels;
SELECT * FROM orders;
DROP TABLE orders, items, labels;
DELETE FROM deletion_step;
-- nothing tells these rows apart: no primary key, and tokens that are not unique
CREATE TABLE devices (user_id int REFERENCES users ON DELETE CASCADE, token text, serial int UNIQUE,
    parent int REFERENCES devices (serial) ON DELETE CASCADE);
CREATE TABLE pushes (token text);
CREATE TABLE events (serial int);
SELECT add_deletion_step('users', 'pushes', '{token}', via => 'devices', via_columns => '{token}');
SELECT add_deletion_step('users', 'events', '{serial}', via => 'devices', via_columns => '{serial}');
CALL due();
INSERT INTO devices VALUES (1, 'a', 1, NULL), (NULL, 'a', 2, 1), (1, 'b', NULL, NULL), (1, 'b', NULL, NULL), (1, NULL, NULL, NULL), (3, 'c', 3, NULL);
INSERT INTO pushes VALUES ('a'), ('b'), ('c');
INSERT INTO events VALUES (1), (2), (3);
SELECT * FROM run();
SELECT * FROM devices;
SELECT * FROM pushes;
SELECT * FROM events;
DROP TABLE devices, pushes, events;
DELETE FROM deletion_step;

-- also on one that a foreign key leads to
CREATE TABLE photos (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
CREATE TABLE likes (photo int);
SELECT add_deletion_step('users', 'likes', '{photo}', via => 'photos');
CALL due();
INSERT INTO photos VALUES (1, 1), (3, 3);
INSERT INTO likes VALUES (1), (3);
SELECT * FROM run();
SELECT * FROM likes;

-- a polymorphic reference: constants to match, which are values and not SQL
CREATE TYPE kind AS ENUM ('user', 'photo');
CREATE TABLE tags (id int, item_kind kind, item_id text, system boolean DEFAULT false, shard smallint DEFAULT 1);
SELECT add_deletion_step('users', 'tags', '{item_id}', match => '{"item_kind": "user", "system": false, "shard": 1}');
SELECT add_deletion_step('users', 'tags', '{item_id}', match => '{"item_kind": "photo"}', via => 'photos');
SELECT * FROM plan();
CALL due();
INSERT INTO photos VALUES (7, 1);
INSERT INTO tags VALUES (1, 'user', '1'), (2, 'user', '3'), (3, 'photo', '1'), (4, 'photo', '7'), (5, 'user', '7');
INSERT INTO tags VALUES (6, 'user', '1', true, 1), (7, 'user', '1', false, 2), (8, NULL, '1', false, 1);
SELECT * FROM run();
SELECT * FROM tags ORDER BY id;
\set VERBOSITY terse
SELECT add_deletion_step('users', 'tags', '{item_id}', match => '{"item_kind": "video"}');  -- fails
SELECT add_deletion_step('users', 'tags', '{item_id}', match => '{"item_kind": "user''; DROP TABLE users; --"}');  -- fails
SELECT add_deletion_step('users', 'tags', '{item_id}', match => '{"no_such_column": 1}');  -- fails
SELECT add_deletion_step('users', 'tags', '{item_id}', match => '{"item_kind": ["user"]}');  -- fails
SELECT add_deletion_step('users', 'tags', '{item_id}', match => '{}');  -- fails
SELECT add_deletion_step('users', 'tags', '{item_id}', match => '"user"');  -- fails
\set VERBOSITY default
DROP TABLE photos, likes, tags;
DELETE FROM deletion_step;
TRUNCATE users;

-- after the account, which refers to it
CREATE SCHEMA auth;
CREATE TABLE auth.users (id int PRIMARY KEY, email text);
CREATE TABLE auth.sessions (id int, user_id int REFERENCES auth.users ON DELETE CASCADE);
ALTER TABLE users ADD FOREIGN KEY (id) REFERENCES auth.users ON DELETE CASCADE;
SELECT add_deletion_step('users', 'auth.users', '{id}', after_account => true);
SELECT * FROM plan();
INSERT INTO auth.users SELECT n, 'x' FROM generate_series(1, 4) n;
INSERT INTO auth.sessions SELECT n, n FROM generate_series(1, 4) n;
CALL due();
SELECT * FROM run();
SELECT array_agg(id) FROM auth.users;
SELECT array_agg(user_id) FROM auth.sessions;
DELETE FROM deletion_step;
-- also by another column than its key
TRUNCATE users, auth.users CASCADE;
ALTER TABLE users DROP CONSTRAINT users_id_fkey, ADD login int UNIQUE REFERENCES auth.users ON DELETE CASCADE;
SELECT add_deletion_step('users', 'auth.users', '{id}', after_account => true);
SELECT * FROM plan();
INSERT INTO auth.users SELECT n, 'x' FROM generate_series(1, 13) n;
CALL due();
UPDATE users SET login = 10 + id WHERE id <> 2;
SELECT * FROM run();
SELECT array_agg(id ORDER BY id) FROM auth.users;
DELETE FROM deletion_step;

-- what is refused
CREATE TABLE t (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users ON DELETE CASCADE, amount float);
CREATE VIEW v AS SELECT * FROM t;
CREATE TEMPORARY TABLE temporary (user_id int);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far (user_id int) SERVER elsewhere;
CREATE TABLE parts (user_id int) PARTITION BY LIST (user_id);
CREATE FOREIGN TABLE far_part PARTITION OF parts DEFAULT SERVER elsewhere;
SELECT add_deletion_step('users', 'v', '{user_id}');  -- fails
SELECT add_deletion_step('users', 'temporary', '{user_id}');  -- fails
SELECT add_deletion_step('users', 'far', '{user_id}');  -- fails
SELECT add_deletion_step('users', 'parts', '{user_id}');  -- fails
SELECT add_deletion_step('users', 't_pkey', '{id}');  -- fails
SELECT add_deletion_step('users', 't', '{no_such_column}');  -- fails
SELECT add_deletion_step('users', 't', '{amount}');  -- fails
SELECT add_deletion_step('users', 't', '{}');  -- fails
SELECT add_deletion_step('users', 't', '{user_id,NULL}');  -- fails
SELECT add_deletion_step('users', 't', NULL);  -- fails
SELECT add_deletion_step('users', NULL, '{user_id}');  -- fails
SELECT add_deletion_step(NULL, 't', '{user_id}');  -- fails
SELECT add_deletion_step('nobody', 't', '{user_id}');  -- fails
SELECT add_deletion_step('users', 't', '{user_id}', action => 'forget');  -- fails
SELECT add_deletion_step('users', 't', '{user_id}', action => 'keep');  -- fails
SELECT add_deletion_step('users', 't', '{user_id}', action => 'keep', reason => 'because');  -- fails
SELECT add_deletion_step('users', 't', '{user_id}', action => 'set null');  -- fails
ALTER TABLE t ADD twice int GENERATED ALWAYS AS (user_id * 2) STORED;
SELECT add_deletion_step('users', 't', '{twice}', action => 'set null');  -- fails
SELECT add_deletion_step('users', 'audit_log', '{user_id}');  -- fails
CREATE DOMAIN present AS int NOT NULL;
CREATE TABLE u (user_id present, a int, b int, c int);
SELECT add_deletion_step('users', 'u', '{user_id}', action => 'set null');  -- fails
CREATE TABLE pairs (id int, part int, deletion_scheduled_at timestamptz, PRIMARY KEY (id, part));
CREATE TABLE trail (user_id text, action text, details jsonb, performed_by int, created_at timestamptz);
SELECT add_deletion_policy('pairs', 'pairs', audit_table => 'trail');
SELECT add_deletion_step('users', 'trail', '{user_id}');  -- fails
SELECT add_deletion_step('pairs', 'u', '{a,b,a,c}', action => 'set null');  -- fails
SELECT add_deletion_step('users', 't', '{user_id}', action => 'set null', after_account => true);  -- fails
SELECT add_deletion_step('users', 't', '{user_id}', via => 'v');  -- fails
CREATE TABLE bills (id int PRIMARY KEY, user_id int, draft_of int REFERENCES t ON DELETE CASCADE);
SELECT add_deletion_step('users', 'bills', '{user_id}', action => 'keep', reason => 'tax law');  -- fails
ALTER TABLE bills DROP draft_of;
SELECT add_deletion_step('users', 'bills', '{user_id}', action => 'keep', reason => 'tax law');
SELECT add_deletion_step('users', 'bills', '{user_id}');  -- fails
SELECT add_deletion_step('users', 'bills', '{user_id}', action => 'set null');  -- fails
SELECT remove_deletion_step('users', 'bills');
SELECT add_deletion_step('users', 'bills', '{user_id}', action => 'keep', reason => 'tax law', match => '{"id": 1}');
SELECT add_deletion_step('users', 'bills', '{user_id}', match => '{"id": 2}');
SET client_min_messages = notice;
SELECT remove_deletion_step('users', 'bills');
SET client_min_messages = warning;
SELECT add_deletion_step('users', 'users', '{id}');  -- fails
SELECT add_deletion_step('users', 't', '{user_id}', after_account => true);  -- fails
SELECT add_deletion_step('users', 't', '{user_id,id}');
SELECT add_deletion_step('users', 't', array_fill('user_id'::name, '{33}'), via => 't', via_columns => array_fill('id'::name, '{33}'));  -- fails
SELECT remove_deletion_step('users', 't');
-- what no step can lead to, or match
CREATE TABLE odd (user_id int, code xid, ids int[], data json);
CREATE TABLE leaves (code xid, ids int[]);
SELECT add_deletion_step('users', 'odd', '{user_id}', match => '{"data": 1}');  -- fails
SELECT add_deletion_step('users', 'odd', '{user_id}');
SELECT add_deletion_step('users', 'leaves', '{code}', via => 'odd');  -- fails
SELECT add_deletion_step('users', 'leaves', '{code}', via => 'odd', via_columns => '{code}');  -- fails
SELECT add_deletion_step('users', 'leaves', '{ids}', via => 'odd', via_columns => '{ids}');  -- fails
SELECT remove_deletion_step('users', 'odd');
SELECT count(*) FROM deletion_step;
SELECT remove_deletion_step('users', 't'), remove_deletion_step('nobody', 't'), remove_deletion_step(NULL, 't') IS NULL AS null;

DROP SCHEMA app, auth CASCADE;
DROP FOREIGN DATA WRAPPER nothing CASCADE;
DROP EXTENSION scheduled_deletion;
DROP SCHEMA erasure;
