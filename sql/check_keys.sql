-- The check names every key, column and index that would stop a run, slow it down or
-- lead it too far, all at once; its remedies mend what can be mended.
CREATE SCHEMA erasure;
CREATE EXTENSION scheduled_deletion SCHEMA erasure;
CREATE SCHEMA app;
SET search_path = app, erasure;
SET client_min_messages = warning;
CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE INDEX ON users (deletion_scheduled_at);
CREATE TABLE audit_log (id int GENERATED ALWAYS AS IDENTITY, user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
CREATE TABLE posts (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users ON DELETE CASCADE);
CREATE INDEX ON posts (user_id);
SELECT add_deletion_policy('users', 'users');

-- what \gexec does with remedies, where their text is not the same each time
CREATE PROCEDURE mend() LANGUAGE plpgsql AS $$ DECLARE statement text; BEGIN
    FOR statement IN SELECT remedy FROM check_deletion_policy('users') WHERE remedy IS NOT NULL LOOP EXECUTE statement; END LOOP; END $$;

-- a healthy schema has no finding
SELECT * FROM check_deletion_policy();
SELECT * FROM check_deletion_policy('users', current_user::regrole);
SELECT * FROM check_deletion_policy('nobody');  -- fails
SELECT * FROM check_deletion_policy(job_role => 'no_such_role');  -- fails

-- keys that block, to the end of the chain, and the indexes of all
CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, UNIQUE (user_id, id));
CREATE TABLE items (id int PRIMARY KEY, order_id int REFERENCES orders ON DELETE RESTRICT, n int UNIQUE);
CREATE TABLE returns (id int PRIMARY KEY, item_n int REFERENCES items (n), "Order" int, buyer int, FOREIGN KEY (buyer, "Order") REFERENCES orders (user_id, id));
CREATE TABLE notes (id int PRIMARY KEY, user_id int REFERENCES users DEFERRABLE INITIALLY DEFERRED, answers int REFERENCES notes, author int REFERENCES users ON DELETE SET NULL);
CREATE INDEX ON notes (user_id);
CREATE INDEX ON notes (author);
SELECT severity, code, object, message FROM check_deletion_policy('users');
SELECT detail, hint FROM check_deletion_policy('users') WHERE code = 'blocking_key' ORDER BY object LIMIT 2;
SELECT remedy FROM check_deletion_policy('users') WHERE remedy IS NOT NULL;
SELECT remedy FROM check_deletion_policy('users') WHERE remedy IS NOT NULL \gexec
SELECT severity, code, object, detail FROM check_deletion_policy('users');
SELECT step_table, columns, action, via FROM deletion_plan('users') ORDER BY step_table, columns;
DROP TABLE returns, items, orders, notes;
SELECT severity, code, object, message FROM check_deletion_policy('users');
CALL mend();
SELECT * FROM check_deletion_policy('users');

-- keys from the account table to itself and to the audit table, and back
ALTER TABLE users ADD invited_by int REFERENCES users ON DELETE CASCADE, ADD boss int NOT NULL REFERENCES users;
CREATE INDEX ON users (invited_by);
CREATE INDEX ON users (boss);
CREATE TABLE team (id int PRIMARY KEY, owner int REFERENCES users ON DELETE CASCADE);
CREATE INDEX ON team (owner);
ALTER TABLE users ADD team int REFERENCES team;
CREATE INDEX ON users (team);
ALTER TABLE audit_log ADD FOREIGN KEY (performed_by) REFERENCES users;
CREATE INDEX ON audit_log (performed_by);
SELECT severity, code, object, detail, hint, remedy FROM check_deletion_policy('users');
SELECT remedy FROM check_deletion_policy('users') WHERE remedy IS NOT NULL \gexec
SELECT severity, code, object FROM check_deletion_policy('users');
ALTER TABLE users DROP boss;
SELECT severity, code, object FROM check_deletion_policy('users');
SELECT remove_deletion_step('users', 'users');
ALTER TABLE users DROP invited_by, DROP team;
DROP TABLE team;

-- an account's own reference to what goes after it is none, unless others can share it
CREATE TABLE login (id int PRIMARY KEY);
ALTER TABLE users ADD login int UNIQUE REFERENCES login;
SELECT add_deletion_step('users', 'login', '{id}', after_account => true);
SELECT * FROM check_deletion_policy('users');
ALTER TABLE users DROP CONSTRAINT users_login_key;
SELECT code, object FROM check_deletion_policy('users');
SELECT remove_deletion_step('users', 'login');
ALTER TABLE users DROP login;
DROP TABLE login;

-- actions that a column does not take
CREATE DOMAIN filled AS int NOT NULL;
CREATE TABLE likes (id int PRIMARY KEY, a int NOT NULL REFERENCES users ON DELETE SET NULL, b int NOT NULL REFERENCES users ON DELETE SET DEFAULT,
    c int NOT NULL DEFAULT 0 REFERENCES users ON DELETE SET DEFAULT, d filled REFERENCES users ON DELETE SET NULL, e int REFERENCES users ON DELETE SET NULL);
CREATE INDEX ON likes (a); CREATE INDEX ON likes (b); CREATE INDEX ON likes (c); CREATE INDEX ON likes (d); CREATE INDEX ON likes (e);
SELECT severity, code, object, message, remedy FROM check_deletion_policy('users');
SELECT remedy FROM check_deletion_policy('users') WHERE remedy IS NOT NULL \gexec
SELECT object FROM check_deletion_policy('users');
DROP TABLE likes;
CREATE TABLE members (org int, person int, note text, PRIMARY KEY (org, person));
CREATE TABLE votes (org int NOT NULL, person int NOT NULL, who int REFERENCES users ON DELETE CASCADE,
    FOREIGN KEY (org, person) REFERENCES members ON DELETE SET NULL (person));
CREATE INDEX ON votes (who); CREATE INDEX ON votes (org, person);
SELECT add_deletion_step('users', 'members', '{person}');
CREATE INDEX ON members (person);
SELECT severity, code, object, message FROM check_deletion_policy('users');
DROP TABLE votes, members;
CALL mend();

-- rows of two accounts
CREATE TABLE comments (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE, post_id int REFERENCES posts ON DELETE CASCADE);
CREATE TABLE replies (id int PRIMARY KEY, author int REFERENCES users ON DELETE SET NULL, comment_id int REFERENCES comments ON DELETE CASCADE);
CREATE TABLE reactions (id int PRIMARY KEY, comment_id int REFERENCES comments ON DELETE CASCADE);
CREATE TABLE images (id int PRIMARY KEY, of_type text, of_id int);
CREATE INDEX ON comments (user_id); CREATE INDEX ON comments (post_id); CREATE INDEX ON replies (author);
CREATE INDEX ON replies (comment_id); CREATE INDEX ON reactions (comment_id); CREATE INDEX ON images (of_type, of_id);
SELECT add_deletion_step('users', 'images', '{of_id}', match => '{"of_type": "User"}');
SELECT add_deletion_step('users', 'images', '{of_id}', via => 'posts', match => '{"of_type": "Post"}');
SELECT severity, code, object, message, detail FROM check_deletion_policy('users');
SELECT remove_deletion_step('users', 'images');
DROP TABLE comments, replies, reactions, images;

-- a step that compares with another table's key than its column refers to
CREATE TABLE photos (id int PRIMARY KEY, post_id int REFERENCES posts ON DELETE CASCADE);
CREATE INDEX ON photos (post_id);
SELECT add_deletion_step('users', 'photos', '{post_id}');
SELECT severity, code, object, message, detail, hint FROM check_deletion_policy('users') WHERE code = 'misdirected_step';
SELECT remove_deletion_step('users', 'photos'), add_deletion_step('users', 'photos', '{post_id}', via => 'posts');
SELECT * FROM check_deletion_policy('users');
ALTER TABLE posts DROP CONSTRAINT posts_user_id_fkey;
SELECT severity, code, object, message, hint FROM check_deletion_policy('users');
CALL mend();
SET client_min_messages = notice;
SELECT remove_deletion_step('users', 'posts');
SELECT add_deletion_step('users', 'posts', '{user_id}'), add_deletion_step('users', 'photos', '{post_id}', via => 'posts');
SELECT remove_deletion_step('users', 'posts');
SET client_min_messages = warning;
SELECT remove_deletion_step('users', 'photos');
ALTER TABLE posts ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
DROP TABLE photos;

-- unless both refer to the same, as those to Supabase's users; which stay without a step
CREATE TABLE login (id int PRIMARY KEY);
ALTER TABLE users ADD FOREIGN KEY (id) REFERENCES login;
CREATE TABLE tokens (user_id int REFERENCES login ON DELETE CASCADE);
CREATE INDEX ON tokens (user_id);
SELECT add_deletion_step('users', 'tokens', '{user_id}');
SELECT severity, code, object, message, detail, hint, remedy FROM check_deletion_policy('users');
CALL mend();
SELECT * FROM check_deletion_policy('users');
SELECT remove_deletion_step('users', 'tokens'), remove_deletion_step('users', 'login');
DROP TABLE tokens;
DROP TABLE login CASCADE;

-- who has only edited a row does not take it along; nor what is of several kinds
CREATE TABLE pages (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, edited_by int REFERENCES users, sender_user_id int, owner_id int, owner_type text, "reviewerUserId" int);
CREATE TABLE edits (id int PRIMARY KEY, edited_by int REFERENCES users ON DELETE SET NULL, owner_id int REFERENCES users ON DELETE CASCADE);
CREATE TABLE marked (edited_by int);
SELECT code, object, remedy FROM check_deletion_policy('users') WHERE code NOT LIKE 'unindexed%';
SELECT remedy FROM check_deletion_policy('users') WHERE remedy IS NOT NULL \gexec
SELECT severity, code, object, detail FROM check_deletion_policy('users');
SELECT count(remove_deletion_step('users', t)) FROM unnest('{pages,marked}'::regclass[]) t;
DROP TABLE pages, edits, marked;

-- what hangs on rows that stay is not deleted, either
CREATE TABLE jobs (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, notice int);
CREATE TABLE notices (id int PRIMARY KEY, job int REFERENCES jobs, user_id int REFERENCES users ON DELETE SET NULL, by int NOT NULL);
ALTER TABLE jobs ADD FOREIGN KEY (notice) REFERENCES notices;
CREATE TABLE receivers (id int PRIMARY KEY, notice int NOT NULL REFERENCES notices);
CREATE TABLE copies (id int PRIMARY KEY, job int REFERENCES jobs, receiver int REFERENCES receivers);
SELECT code, object, hint, remedy FROM check_deletion_policy('users') WHERE code = 'blocking_key';
SELECT remedy FROM check_deletion_policy('users') WHERE code = 'blocking_key' AND remedy IS NOT NULL \gexec
SELECT code, object FROM check_deletion_policy('users') WHERE code NOT LIKE 'unindexed%';
SELECT count(remove_deletion_step('users', t)) FROM unnest('{jobs,notices,receivers,copies}'::regclass[]) t;
DROP TABLE jobs, notices, receivers, copies CASCADE;

-- columns that should have a key
CREATE TABLE a (user_id int); CREATE INDEX ON a (user_id);
CREATE TABLE b ("userId" bigint, user_id text); CREATE INDEX ON b ("userId"); CREATE INDEX ON b (user_id);
CREATE TABLE c (user_id uuid, id_of_user int, users_id int);  -- other types and names
CREATE TABLE d (user_id int REFERENCES posts);  -- refers to something else
CREATE TABLE e (user_id int, more int) PARTITION BY LIST (more);
CREATE TABLE e1 PARTITION OF e DEFAULT; CREATE INDEX ON e (user_id);
CREATE VIEW f AS SELECT user_id FROM a;
SELECT severity, code, object, message, remedy FROM check_deletion_policy('users');
SELECT remedy FROM check_deletion_policy('users') \gexec
SELECT * FROM check_deletion_policy('users');
SELECT remove_deletion_step('users', 'a'), add_deletion_step('users', 'a', '{user_id}', action => 'keep', reason => 'law');
SELECT * FROM check_deletion_policy('users');
SELECT remove_deletion_step('users', 'a'), remove_deletion_step('users', 'b'), remove_deletion_step('users', 'e');
DROP VIEW f;
DROP TABLE a, b, c, d, e;
CALL mend();

-- of a table named in the plural, and a key named after it
CREATE TABLE companies (company_id int PRIMARY KEY, deletion_scheduled_at timestamptz);
CREATE TABLE offices (company_id int, "companyId" int, companies_id int, company int);
SELECT add_deletion_policy('companies', 'companies', enabled => false);
SELECT code, object FROM check_deletion_policy('companies') WHERE object LIKE 'offices%';
SELECT remove_deletion_policy('companies');
DROP TABLE companies, offices;

-- an index serves if its first columns are those, and it has all rows, and is valid
CREATE TABLE w (id int, u int REFERENCES users ON DELETE CASCADE, x int, t text);
CREATE INDEX ON w (x, u);
CREATE INDEX ON w (u) WHERE x > 0;
CREATE INDEX ON w (u) WHERE u IS NULL;
CREATE INDEX ON w ((u + 0));
CREATE INDEX ON w USING brin (u);
SELECT code, object FROM check_deletion_policy('users');
CREATE INDEX w_u ON w (u, x) WHERE u IS NOT NULL;
SELECT code, object FROM check_deletion_policy('users');
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'w_u'::regclass;
SELECT code, object, detail FROM check_deletion_policy('users');
DROP INDEX w_u;
CREATE INDEX ON w USING hash (u);
ANALYZE w;
SELECT code, object FROM check_deletion_policy('users');
DROP TABLE w;
CREATE TABLE w (u int, v int, t text, FOREIGN KEY (u) REFERENCES users ON DELETE CASCADE) PARTITION BY LIST (v);
CREATE TABLE w1 PARTITION OF w FOR VALUES IN (1);
CREATE TABLE w2 PARTITION OF w FOR VALUES IN (2) PARTITION BY RANGE (v);
CREATE TABLE w2x PARTITION OF w2 DEFAULT;
CREATE INDEX ON w1 (u);
SELECT code, object, remedy FROM check_deletion_policy('users');
SELECT remedy FROM check_deletion_policy('users') \gexec
SELECT * FROM check_deletion_policy('users');
SELECT count(*) FROM pg_inherits WHERE inhparent IN ('w_u_idx'::regclass, 'w2_u_idx'::regclass);
DROP TABLE w;
DROP INDEX users_deletion_scheduled_at_idx;
SELECT severity, code, object, message, remedy FROM check_deletion_policy('users');
SELECT remedy FROM check_deletion_policy('users') \gexec
SELECT * FROM check_deletion_policy('users');
ALTER TABLE users ADD done date;
SELECT alter_deletion_policy('users', done_column => 'done');
SELECT * FROM check_deletion_policy('users');
DROP INDEX users_deletion_scheduled_at_idx;
CREATE INDEX users_due ON users (deletion_scheduled_at) WHERE done IS NULL AND deletion_scheduled_at IS NOT NULL;
SELECT * FROM check_deletion_policy('users');
DROP INDEX users_due;
CREATE INDEX users_due ON users (done, deletion_scheduled_at);
SELECT * FROM check_deletion_policy('users');
DROP INDEX users_due;
CREATE INDEX users_due ON users (deletion_scheduled_at) WHERE done IS NOT NULL;
SELECT code FROM check_deletion_policy('users');
DROP INDEX users_due;
CREATE INDEX users_due ON users USING brin (deletion_scheduled_at);
SELECT code FROM check_deletion_policy('users');

-- a key of another type, or that compares otherwise
CREATE TABLE x (u bigint REFERENCES users ON DELETE CASCADE);
CREATE INDEX ON x (u);
CREATE TABLE guests (code text PRIMARY KEY, again text UNIQUE COLLATE "C", leaves timestamptz);
CREATE INDEX ON guests (leaves);
CREATE UNIQUE INDEX guests_pattern ON guests (again text_pattern_ops);
ALTER TABLE guests DROP CONSTRAINT guests_again_key;
CREATE TABLE visits (code varchar REFERENCES guests ON DELETE CASCADE, again text COLLATE "C" REFERENCES guests (again) ON DELETE CASCADE);
CREATE INDEX ON visits (code);
CREATE INDEX ON visits (again);
CREATE TABLE guest_log (LIKE audit_log INCLUDING IDENTITY);
ALTER TABLE guest_log ALTER user_id TYPE text;
SELECT add_deletion_policy('guests', 'guests', due_column => 'leaves', audit_table => 'guest_log');
SELECT policy, severity, code, object, message, detail, hint FROM check_deletion_policy() WHERE severity = 'info';

SELECT remove_deletion_policy('guests');
DROP TABLE x, visits;

-- an index on what is compared as another type would not serve, so none is proposed
CREATE TABLE prices (id numeric PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
CREATE INDEX ON prices (user_id);
CREATE TABLE tags (price int REFERENCES prices ON DELETE CASCADE);
CREATE INDEX ON tags (price);
SELECT severity, code, object, hint, remedy FROM check_deletion_policy('users') WHERE code = 'unindexed_reference';

-- a part of the columns is enough if it leaves few rows
CREATE TABLE orgs (org int, id int, user_id int REFERENCES users ON DELETE CASCADE, PRIMARY KEY (org, id));
CREATE INDEX ON orgs (user_id);
CREATE TABLE seats (org int, id int, FOREIGN KEY (org, id) REFERENCES orgs ON DELETE CASCADE);
CREATE INDEX ON seats (org);
INSERT INTO orgs SELECT 1, n FROM generate_series(1, 1200) n;
INSERT INTO seats SELECT org, id FROM orgs;
SELECT code, object FROM check_deletion_policy('users') WHERE code = 'unindexed_reference';
ANALYZE seats;
SELECT code, object FROM check_deletion_policy('users') WHERE code = 'unindexed_reference' AND object ~ 'seats';
CREATE INDEX ON seats (id);
SELECT code, object FROM check_deletion_policy('users') WHERE code = 'unindexed_reference' AND object ~ 'seats';
DROP TABLE seats, orgs;
DROP TABLE tags, prices;

-- a key that only an inheritance child has
CREATE TABLE child (code int UNIQUE) INHERITS (posts);
CREATE TABLE ref (code int REFERENCES child (code) ON DELETE CASCADE);
SELECT severity, code, object, message, hint FROM check_deletion_policy('users');
SELECT process_scheduled_deletions('users');  -- fails
DROP TABLE ref, child;

-- no remedy that cannot be run: of a generated column, or of a foreign partition
CREATE TABLE thread (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE, n int, up int GENERATED ALWAYS AS (n) STORED REFERENCES thread);
CREATE INDEX ON thread (user_id); CREATE INDEX ON thread (up);
CREATE FOREIGN DATA WRAPPER regress_sd_fdw;
CREATE SERVER regress_sd_server FOREIGN DATA WRAPPER regress_sd_fdw;
CREATE TABLE parts (user_id int) PARTITION BY LIST (user_id);
CREATE FOREIGN TABLE part PARTITION OF parts FOR VALUES IN (1) SERVER regress_sd_server;
CREATE TABLE "My audit" (user_id int);
SELECT code, object, remedy FROM check_deletion_policy('users') WHERE code <> 'unindexed_due_column';
DROP TABLE thread, parts, "My audit";
DROP FOREIGN DATA WRAPPER regress_sd_fdw CASCADE;

-- a table that was dropped after the caller's snapshot
CREATE TABLE late (user_id int);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT code, object FROM check_deletion_policy('users');
\setenv PGDATABASE :DBNAME
\! psql -X -q -c 'DROP TABLE app.late'
SELECT code, object FROM check_deletion_policy('users');
COMMIT;

SET client_min_messages = warning;
DROP SCHEMA app CASCADE;
DROP EXTENSION scheduled_deletion;
DROP SCHEMA erasure;
