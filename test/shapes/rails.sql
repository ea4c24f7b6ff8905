-- Ten tables as Rails makes them: bigint keys, timestamps without a zone, foreign
-- keys without an action, and a polymorphic reference without a foreign key.

CREATE TABLE users (id bigserial PRIMARY KEY, email varchar NOT NULL, created_at timestamp(6) NOT NULL DEFAULT now(), deleted_at timestamp(6));
CREATE TABLE organizations (id bigserial PRIMARY KEY, name varchar NOT NULL);
CREATE TABLE memberships (id bigserial PRIMARY KEY, organization_id bigint NOT NULL REFERENCES organizations (id), user_id bigint NOT NULL REFERENCES users (id));
CREATE TABLE posts (id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users (id), title varchar);
CREATE TABLE comments (id bigserial PRIMARY KEY, post_id bigint NOT NULL REFERENCES posts (id), user_id bigint NOT NULL REFERENCES users (id), parent_id bigint REFERENCES comments (id), body text);
CREATE TABLE orders (id bigserial PRIMARY KEY, user_id bigint REFERENCES users (id), total_cents integer NOT NULL);
CREATE TABLE line_items (id bigserial PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders (id), sku varchar);
CREATE TABLE sessions (id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users (id), token varchar);
CREATE TABLE active_storage_blobs (id bigserial PRIMARY KEY, key varchar NOT NULL);
CREATE TABLE active_storage_attachments (id bigserial PRIMARY KEY, name varchar NOT NULL, record_type varchar NOT NULL, record_id bigint NOT NULL, blob_id bigint NOT NULL REFERENCES active_storage_blobs (id));

CREATE INDEX ON users (deleted_at);
CREATE INDEX ON memberships (user_id);
CREATE INDEX ON posts (user_id);
CREATE INDEX ON comments (post_id);
CREATE INDEX ON comments (user_id);
CREATE INDEX ON comments (parent_id);
CREATE INDEX ON orders (user_id);
CREATE INDEX ON line_items (order_id);
CREATE INDEX ON sessions (user_id);
CREATE INDEX ON active_storage_attachments (record_type, record_id);

INSERT INTO users (email, deleted_at) SELECT 'user' || n || '@example.org', CASE WHEN n <= 2 THEN now() - interval '15 days' WHEN n = 3 THEN now() - interval '13 days' END FROM generate_series(1, 10) n;
INSERT INTO organizations (name) VALUES ('one');
INSERT INTO memberships (organization_id, user_id) SELECT 1, n FROM generate_series(1, 10) n;
INSERT INTO posts (user_id) SELECT 1 + n % 10 FROM generate_series(0, 29) n;
INSERT INTO comments (post_id, user_id, parent_id) SELECT 1 + n % 30, 1 + n % 7, NULLIF(n, 0) FROM generate_series(0, 69) n;
INSERT INTO orders (user_id, total_cents) SELECT 1 + n % 10, 100 FROM generate_series(0, 19) n;
INSERT INTO line_items (order_id) SELECT 1 + n % 20 FROM generate_series(0, 39) n;
INSERT INTO sessions (user_id) SELECT 1 + n % 10 FROM generate_series(0, 19) n;
INSERT INTO active_storage_blobs (key) SELECT n FROM generate_series(1, 20) n;
INSERT INTO active_storage_attachments (name, record_type, record_id, blob_id) SELECT 'avatar', 'User', n, n FROM generate_series(1, 10) n
    UNION ALL SELECT 'image', 'Post', n, 10 + n FROM generate_series(1, 10) n;
ANALYZE;
