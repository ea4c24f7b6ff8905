-- Accounts, and rows of theirs, that refer to themselves and to each other in a circle,
-- by keys of all actions; what only steps lead to; and a key of two columns.

CREATE TABLE people (id text, tenant int, due date, friend text, friend_tenant int, avatar int, PRIMARY KEY (tenant, id),
    FOREIGN KEY (friend_tenant, friend) REFERENCES people ON DELETE SET NULL);
CREATE TABLE threads (id int PRIMARY KEY, tenant int, owner text, first int, FOREIGN KEY (tenant, owner) REFERENCES people);
CREATE TABLE messages (id int PRIMARY KEY, thread int NOT NULL REFERENCES threads ON DELETE CASCADE, reply_to int REFERENCES messages ON DELETE CASCADE);
ALTER TABLE threads ADD FOREIGN KEY (first) REFERENCES messages DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE pictures (id int PRIMARY KEY);
ALTER TABLE people ADD FOREIGN KEY (avatar) REFERENCES pictures;
CREATE TABLE files (id int PRIMARY KEY, kind text, message text);
CREATE TABLE notes (tenant int DEFAULT 0, person text DEFAULT 'nobody', FOREIGN KEY (tenant, person) REFERENCES people ON DELETE SET DEFAULT);
CREATE INDEX ON messages (reply_to);
CREATE INDEX ON files (message, kind);

INSERT INTO pictures SELECT generate_series(1, 20);
INSERT INTO people VALUES ('nobody', 0);
INSERT INTO people SELECT 'p' || i, i % 2, CASE WHEN i < 3 THEN '2020-01-01'::date + i END, 'nobody', 0, i FROM generate_series(1, 20) i;
UPDATE people SET friend = 'p1', friend_tenant = 1 WHERE id IN ('p2', 'p7');
INSERT INTO threads SELECT i, i % 2, 'p' || i FROM generate_series(1, 20) i;
INSERT INTO messages SELECT 10 * i + j, i, CASE WHEN j > 1 THEN 10 * i + j - 1 END FROM generate_series(1, 20) i, generate_series(1, 3) j;
UPDATE threads SET first = 10 * id + 1;
INSERT INTO files SELECT id, 'message', id FROM messages;
INSERT INTO notes SELECT tenant, id FROM people;
ANALYZE;

CREATE EXTENSION scheduled_deletion;
CREATE TABLE audit_log (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);
SELECT add_deletion_policy('people', 'people', key_columns => '{tenant,id}', due_column => 'due', grace => '1 month', blocking_keys => 'delete', brake_share => 1);
SELECT add_deletion_step('people', 'files', '{message}', via => 'messages', match => '{"kind": "message"}');
SELECT add_deletion_step('people', 'pictures', '{id}', after_account => true);
