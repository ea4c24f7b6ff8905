-- Ten tables as Django makes them: foreign keys without an action and deferred to
-- COMMIT, and a generic relation by content type.

CREATE TABLE accounts_user (id serial PRIMARY KEY, username varchar(150) NOT NULL UNIQUE, email varchar(254) NOT NULL, is_active boolean NOT NULL DEFAULT true, delete_requested timestamptz);
CREATE TABLE auth_group (id serial PRIMARY KEY, name varchar(150) NOT NULL UNIQUE);
CREATE TABLE accounts_user_groups (id bigserial PRIMARY KEY, user_id integer NOT NULL REFERENCES accounts_user (id) DEFERRABLE INITIALLY DEFERRED, group_id integer NOT NULL REFERENCES auth_group (id) DEFERRABLE INITIALLY DEFERRED, UNIQUE (user_id, group_id));
CREATE TABLE django_content_type (id serial PRIMARY KEY, app_label varchar(100) NOT NULL, model varchar(100) NOT NULL);
CREATE TABLE django_admin_log (id serial PRIMARY KEY, object_id text, content_type_id integer REFERENCES django_content_type (id) DEFERRABLE INITIALLY DEFERRED, user_id integer NOT NULL REFERENCES accounts_user (id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE authtoken_token (key varchar(40) PRIMARY KEY, user_id integer NOT NULL UNIQUE REFERENCES accounts_user (id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE blog_entry (id serial PRIMARY KEY, author_id integer NOT NULL REFERENCES accounts_user (id) DEFERRABLE INITIALLY DEFERRED, title varchar(200));
CREATE TABLE blog_comment (id serial PRIMARY KEY, entry_id integer NOT NULL REFERENCES blog_entry (id) DEFERRABLE INITIALLY DEFERRED, author_id integer NOT NULL REFERENCES accounts_user (id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE tagging_taggeditem (id serial PRIMARY KEY, tag varchar(50), content_type_id integer NOT NULL REFERENCES django_content_type (id) DEFERRABLE INITIALLY DEFERRED, object_id integer NOT NULL);
CREATE TABLE shop_invoice (id serial PRIMARY KEY, customer_id integer NOT NULL, amount numeric(10, 2));

CREATE INDEX ON accounts_user (delete_requested);
CREATE INDEX ON accounts_user_groups (user_id);
CREATE INDEX ON django_admin_log (user_id);
CREATE INDEX ON blog_entry (author_id);
CREATE INDEX ON blog_comment (entry_id);
CREATE INDEX ON blog_comment (author_id);
CREATE INDEX ON tagging_taggeditem (content_type_id, object_id);
CREATE INDEX ON shop_invoice (customer_id);

INSERT INTO accounts_user (username, email, delete_requested) SELECT 'user' || n, 'user' || n || '@example.org', CASE WHEN n <= 2 THEN now() - interval '15 days' END FROM generate_series(1, 10) n;
INSERT INTO auth_group (name) VALUES ('readers');
INSERT INTO accounts_user_groups (user_id, group_id) SELECT n, 1 FROM generate_series(1, 10) n;
INSERT INTO django_content_type (app_label, model) VALUES ('accounts', 'user'), ('blog', 'entry');
INSERT INTO django_admin_log (object_id, content_type_id, user_id) SELECT n, 1, n FROM generate_series(1, 10) n;
INSERT INTO authtoken_token SELECT md5(n::text), n FROM generate_series(1, 10) n;
INSERT INTO blog_entry (author_id) SELECT 1 + n % 10 FROM generate_series(0, 29) n;
INSERT INTO blog_comment (entry_id, author_id) SELECT 1 + n % 30, 1 + n % 7 FROM generate_series(0, 69) n;
INSERT INTO tagging_taggeditem (tag, content_type_id, object_id) SELECT 'x', 1 + n % 2, 1 + n / 2 FROM generate_series(0, 39) n;
INSERT INTO shop_invoice (customer_id, amount) SELECT 1 + n % 10, 10 FROM generate_series(0, 19) n;
ANALYZE;
