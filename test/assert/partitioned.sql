-- Partitioned accounts, whose columns lie otherwise in one partition, with a guard and
-- somebody's triggers; keys of whole tables, of partitions and of several columns; a child.

CREATE TABLE users (id int, region int, due timestamptz, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE users_1 PARTITION OF users FOR VALUES FROM (1) TO (6);
CREATE TABLE users_2 (gone int, due timestamptz, region int, id int NOT NULL);
ALTER TABLE users_2 DROP gone;
ALTER TABLE users ATTACH PARTITION users_2 FOR VALUES FROM (6) TO (100);
CREATE TABLE posts (id int, user_id int NOT NULL REFERENCES users ON DELETE CASCADE, place int, title text CHECK (length(title) < 100), PRIMARY KEY (id, place)) PARTITION BY LIST (place);
CREATE TABLE posts_1 PARTITION OF posts FOR VALUES IN (1);
CREATE TABLE posts_2 PARTITION OF posts DEFAULT;
CREATE TABLE comments (id int PRIMARY KEY, post_id int, place int, FOREIGN KEY (post_id, place) REFERENCES posts ON DELETE CASCADE);
CREATE TABLE first_only (user_id int REFERENCES users_1 ON DELETE CASCADE);
CREATE TABLE likes (user_id int REFERENCES users ON DELETE SET NULL, about varchar);
CREATE TABLE old_likes () INHERITS (likes);
CREATE TABLE bills (user_id int REFERENCES users DEFERRABLE INITIALLY DEFERRED);
CREATE INDEX ON posts (user_id);
CREATE INDEX ON likes (user_id) WHERE user_id IS NOT NULL;
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN COALESCE(NEW, OLD); END $$;
CREATE TRIGGER noted BEFORE DELETE ON posts_2 FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TRIGGER noted AFTER UPDATE ON likes FOR EACH ROW WHEN (OLD.about IS NULL) EXECUTE FUNCTION noted();
CREATE RULE noted AS ON DELETE TO comments DO ALSO SELECT 1;

INSERT INTO users SELECT i, i % 3, CASE WHEN i < 3 THEN '2020-01-01'::timestamptz + i * interval '1 day' END FROM generate_series(1, 20) i;
INSERT INTO posts SELECT 10 * u.id + i, u.id, 1 + i % 2, 'title' FROM users u, generate_series(1, 3) i;
INSERT INTO comments SELECT id, id, place FROM posts;
INSERT INTO first_only SELECT id FROM users_1;
INSERT INTO likes SELECT id FROM users;
INSERT INTO old_likes SELECT id FROM users;
INSERT INTO bills VALUES (2), (19);
ANALYZE;

CREATE EXTENSION scheduled_deletion;
CREATE TABLE audit_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
SELECT add_deletion_policy('users', 'users', due_column => 'due', audit_details => '{region}', brake_share => 1);
SELECT guard_held_accounts('users');
