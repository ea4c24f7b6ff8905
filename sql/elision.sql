-- With scheduled_deletion.elide_fk_checks, accounts go without the checks of those foreign
-- keys of which the plan proves that they would find nothing.  Whatever could let one find
-- something makes it run: no row is left behind, and nobody's trigger or action is missed.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
SET scheduled_deletion.elide_fk_checks = on;
SET client_min_messages = warning;

-- the built-in policy; who was told of it is told still
CREATE TABLE told_users (id uuid);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO told_users VALUES (NEW.user_id); RETURN NEW; END $$;
CREATE TRIGGER tell AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION tell();
SELECT add_account('ann'), add_account('bob', NULL), add_account('cat');
INSERT INTO accounts_before SELECT * FROM profiles;
INSERT INTO clinical_notes (patient_id, therapist_id, note_text) VALUES (account('ann'), account('bob'), 'x'), (account('bob'), account('ann'), 'x');
SELECT key, value FROM jsonb_each(process_scheduled_deletions()) WHERE key IN ('users_deleted', 'fk_checks_elided', 'total_records_deleted') ORDER BY key;
SELECT * FROM whole_accounts;
SELECT * FROM broken_promises;
SELECT count(*) FROM told_users;
SELECT "position", step_table, fk_checks FROM deletion_plan() ORDER BY 1, 2;
SET scheduled_deletion.elide_fk_checks = off;
SELECT add_account('dan');
SELECT process_scheduled_deletions() -> 'fk_checks_elided' AS elided;
SELECT fk_checks FROM deletion_plan() WHERE step_table = 'profiles'::regclass;
SET scheduled_deletion.elide_fk_checks = on;
DROP VIEW whole_accounts, broken_promises;

-- From here on: accounts 1 and 2 are due, 3 is not, and each has a post and likes.  Posts
-- go first, then likes: what is posted while likes go, the foreign key has to find.
CREATE TABLE trail (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);
CREATE TABLE users (id int PRIMARY KEY, alt int UNIQUE, deletion_scheduled_at timestamptz);
CREATE TABLE posts (user_id int REFERENCES users ON DELETE CASCADE);
CREATE TABLE likes (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
INSERT INTO users VALUES (1, 11, '2020-01-01'), (2, 12, '2020-01-01'), (3, 13, NULL);
INSERT INTO posts SELECT id FROM users;
INSERT INTO likes SELECT id, id FROM users;
SELECT add_deletion_policy('users', 'users', audit_table => 'trail');
SELECT add_deletion_step('users', 'posts', '{user_id}'), add_deletion_step('users', 'likes', '{user_id}');

-- rows that refer to nothing, by the key's own operators
CREATE FUNCTION orphans() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    key text;
    query text;
    any_orphan boolean;
BEGIN
    FOR key, query IN
        SELECT format('%s(%s)', conrelid::regclass, string_agg(c.attname, ',' ORDER BY n)),
            format('SELECT EXISTS (SELECT FROM %s %s c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s))',
                CASE relkind WHEN 'r' THEN 'ONLY' END, conrelid::regclass, string_agg(format('c.%I IS NOT NULL', c.attname), ' AND '),
                confrelid::regclass, string_agg(format('p.%I OPERATOR(%s.%s) c.%I %s', p.attname, oprnamespace::regnamespace, oprname, c.attname,
                    'COLLATE ' || nullif(p.attcollation, 0)::regcollation), ' AND '))
        FROM pg_constraint k JOIN pg_class r ON r.oid = conrelid, unnest(conkey, confkey, conpfeqop) WITH ORDINALITY AS u (c, p, o, n)
        JOIN pg_operator ON pg_operator.oid = o, pg_attribute c, pg_attribute p
        WHERE contype = 'f' AND conparentid = 0 AND relnamespace = 'app'::regnamespace
            AND c.attrelid = conrelid AND c.attnum = u.c AND p.attrelid = confrelid AND p.attnum = u.p
        GROUP BY k.oid, conrelid, confrelid, relkind, conname ORDER BY 1, conname LOOP
        EXECUTE query INTO any_orphan;
        IF any_orphan THEN
            RETURN NEXT key;
        END IF;
    END LOOP;
END
$$;
-- what is planned, and what comes of it
CREATE FUNCTION run(of text DEFAULT 'users') RETURNS TABLE (planned text, elided boolean, deleted int, failed int, orphans text) LANGUAGE plpgsql AS $$
DECLARE
    report jsonb;
BEGIN
    SELECT fk_checks INTO planned FROM deletion_plan(of) WHERE step_table = of::regclass AND action = 'delete';
    report := process_scheduled_deletions(of);
    RETURN QUERY SELECT planned, (report -> 'fk_checks_elided')::boolean, (report -> 'users_deleted')::int, (report -> 'users_failed')::int,
        string_agg(o, ' ' ORDER BY o) FROM orphans() o;
END
$$;
CREATE FUNCTION post() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO posts SELECT id FROM users WHERE id < 3; RETURN OLD; END $$;
CREATE FUNCTION post(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO posts SELECT id FROM users WHERE id < 3; RETURN true; END $$;
BEGIN;
SELECT * FROM run();
SELECT * FROM posts;
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM run();
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM run();
ROLLBACK;

-- triggers of users that fire before the accounts are gone
BEGIN;
CREATE TRIGGER post AFTER DELETE ON likes FOR EACH ROW EXECUTE FUNCTION post();
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TRIGGER post BEFORE DELETE ON likes FOR EACH ROW EXECUTE FUNCTION post();
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TRIGGER post AFTER DELETE ON likes REFERENCING OLD TABLE AS gone EXECUTE FUNCTION post();
SELECT * FROM run();
ROLLBACK;
-- what the statement that deletes accounts lets a trigger write under them fails them
BEGIN;
CREATE TRIGGER post BEFORE DELETE ON users EXECUTE FUNCTION post();
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE CONSTRAINT TRIGGER post AFTER DELETE ON likes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION post();
SELECT * FROM run();
ROLLBACK;
-- on a grandchild, whose rows go or are set to null
BEGIN;
CREATE TABLE stars (like_id int REFERENCES likes ON DELETE CASCADE);
INSERT INTO stars SELECT id FROM likes;
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE stars (like_id int REFERENCES likes ON DELETE CASCADE);
INSERT INTO stars SELECT id FROM likes;
CREATE TRIGGER post AFTER DELETE ON stars FOR EACH ROW EXECUTE FUNCTION post();
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE stars (like_id int REFERENCES likes ON DELETE SET NULL);
INSERT INTO stars SELECT id FROM likes;
SELECT * FROM run();
CREATE TRIGGER post AFTER UPDATE ON stars FOR EACH ROW EXECUTE FUNCTION post();
UPDATE users SET deletion_scheduled_at = '2020-01-01' WHERE id = 3;
INSERT INTO users VALUES (1);
INSERT INTO posts VALUES (1);
CREATE OR REPLACE FUNCTION post() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO posts VALUES (3); RETURN OLD; END $$;
SELECT * FROM run();
ROLLBACK;
-- on one partition, or an inheritance child
BEGIN;
CREATE TABLE parts (user_id int, place int) PARTITION BY LIST (place);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
ALTER TABLE parts ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
INSERT INTO parts SELECT id, id FROM users;
SAVEPOINT s;
SELECT * FROM run();
ROLLBACK TO s;
CREATE TRIGGER post AFTER DELETE ON parts_2 FOR EACH ROW EXECUTE FUNCTION post();
SELECT add_deletion_step('users', 'parts', '{user_id}');
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE olds () INHERITS (likes);
INSERT INTO olds VALUES (7, 1);
CREATE TRIGGER post AFTER DELETE ON olds FOR EACH ROW EXECUTE FUNCTION post();
SELECT * FROM run();
ROLLBACK;
-- where a step sets to null; then they move to another partition, too
BEGIN;
CREATE TABLE notes (user_id int);
INSERT INTO notes SELECT id FROM users;
SELECT add_deletion_step('users', 'notes', '{user_id}', action => 'set null');
SAVEPOINT s;
SELECT * FROM run();
ROLLBACK TO s;
CREATE TRIGGER post AFTER UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION post();
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE notes (user_id int) PARTITION BY LIST (user_id);
CREATE TABLE notes_null PARTITION OF notes FOR VALUES IN (NULL);
CREATE TABLE notes_rest PARTITION OF notes DEFAULT;
INSERT INTO notes SELECT id FROM users;
SELECT add_deletion_step('users', 'notes', '{user_id}', action => 'set null');
SAVEPOINT s;
SELECT * FROM run();
ROLLBACK TO s;
CREATE TRIGGER post AFTER INSERT ON notes_null FOR EACH ROW EXECUTE FUNCTION post();
SELECT * FROM run();
ROLLBACK TO s;
CREATE TRIGGER post AFTER DELETE ON notes_rest FOR EACH ROW EXECUTE FUNCTION post();
SELECT * FROM run();
ROLLBACK;
-- a constraint that is checked then
BEGIN;
CREATE TABLE notes (user_id int CHECK (user_id IS NOT NULL OR post(1)), at date CHECK (at > '2000-01-01'));
INSERT INTO notes SELECT id FROM users;
SELECT add_deletion_step('users', 'notes', '{user_id}', action => 'set null');
SAVEPOINT s;
SELECT * FROM run();
ROLLBACK TO s;
ALTER TABLE notes DROP CONSTRAINT notes_user_id_check;
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE FUNCTION post_if_null(int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 IS NOT NULL OR post(1)';
CREATE DOMAIN reference AS int CHECK (post_if_null(VALUE));
CREATE TABLE notes (user_id reference);
INSERT INTO notes SELECT id FROM users;
SELECT add_deletion_step('users', 'notes', '{user_id}', action => 'set null');
SELECT * FROM run();
ROLLBACK;
-- where rows are only deleted, none is
BEGIN;
ALTER TABLE likes ADD CHECK (user_id > 0 OR post(1));
SELECT * FROM run();
ROLLBACK;
-- a rule
BEGIN;
CREATE RULE post AS ON DELETE TO likes DO ALSO INSERT INTO posts VALUES (OLD.user_id);
SELECT * FROM run();
ROLLBACK;
-- what does not fire, or not for what is done, and the guard do not matter
BEGIN;
CREATE TRIGGER post AFTER DELETE ON likes FOR EACH ROW EXECUTE FUNCTION post();
ALTER TABLE likes DISABLE TRIGGER post;
CREATE TRIGGER post_replica AFTER DELETE ON likes FOR EACH ROW EXECUTE FUNCTION post();
ALTER TABLE likes ENABLE REPLICA TRIGGER post_replica;
CREATE TRIGGER post_update AFTER INSERT OR UPDATE ON likes FOR EACH ROW EXECUTE FUNCTION post();
CREATE TABLE notes (user_id int);
CREATE TRIGGER post_delete BEFORE DELETE ON notes FOR EACH ROW EXECUTE FUNCTION post();
SELECT add_deletion_step('users', 'notes', '{user_id}', action => 'set null');
SELECT guard_held_accounts('users');
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE notes (user_id int);
CREATE TRIGGER post AFTER UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION post();
SELECT add_deletion_step('users', 'notes', '{user_id}', action => 'keep', reason => 'a test');
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE olds () INHERITS (likes);
SELECT * FROM run();
ROLLBACK;
-- what calls the guard's function under a condition of its own, or another name, is no guard
CREATE FUNCTION post_first(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO posts VALUES ($1); RETURN false; END $$;
BEGIN;
CREATE TRIGGER told AFTER DELETE ON likes FOR EACH ROW WHEN (post_first(OLD.user_id)) EXECUTE FUNCTION refuse_held_account();
SELECT * FROM run();
SELECT count(*) FROM posts;
ROLLBACK;
BEGIN;
CREATE TRIGGER guard_held_accounts AFTER DELETE ON likes FOR EACH ROW WHEN (post_first(OLD.user_id)) EXECUTE FUNCTION refuse_held_account();
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE notes (id int, user_id int);
INSERT INTO notes SELECT id, id FROM users;
SELECT add_deletion_step('users', 'notes', '{user_id}', action => 'set null');
CREATE TRIGGER guard_held_account_keys AFTER UPDATE ON notes FOR EACH ROW
    WHEN (record_image_ne(ROW(false), ROW(post_first(NEW.id)))) EXECUTE FUNCTION refuse_held_account();
SELECT * FROM run();
ROLLBACK;
-- the guard of a partitioned table is that of its partitions, wherever they have its columns
BEGIN;
CREATE TABLE members (id int PRIMARY KEY, deletion_scheduled_at timestamptz) PARTITION BY LIST (id);
CREATE TABLE members_1 (gone int, deletion_scheduled_at timestamptz, id int NOT NULL);
ALTER TABLE members_1 DROP gone;
ALTER TABLE members ATTACH PARTITION members_1 FOR VALUES IN (1);
CREATE TABLE members_2 PARTITION OF members DEFAULT;
CREATE TABLE pages (user_id int REFERENCES members ON DELETE CASCADE);
INSERT INTO members SELECT id, deletion_scheduled_at FROM users;
INSERT INTO pages SELECT id FROM members;
SELECT add_deletion_policy('members', 'members', audit_table => 'trail');
SELECT guard_held_accounts('members');
SELECT tgrelid::regclass, tgname, pg_get_triggerdef(oid) LIKE '%WHEN%' AS has_condition FROM pg_trigger
    WHERE tgrelid IN ('members'::regclass, 'members_1'::regclass) AND NOT tgisinternal ORDER BY 1, 2;
SELECT * FROM run('members');
ROLLBACK;
-- a trigger that only looks like that of a key
BEGIN;
CREATE TRIGGER fake AFTER DELETE ON likes FOR EACH ROW WHEN (post_first(OLD.user_id)) EXECUTE FUNCTION "RI_FKey_cascade_upd"();
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE notes (user_id int);
CREATE TRIGGER fake AFTER DELETE ON notes FOR EACH ROW EXECUTE FUNCTION "RI_FKey_cascade_del"();
SELECT add_deletion_step('users', 'notes', '{user_id}', action => 'set null');
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE stars (like_id int REFERENCES likes);
CREATE TRIGGER post AFTER UPDATE ON stars FOR EACH ROW EXECUTE FUNCTION post();
SELECT * FROM run();
ROLLBACK;

-- what comes only once a batch is gone is met in the next one
BEGIN;
CREATE FUNCTION add_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CREATE OR REPLACE TRIGGER post AFTER DELETE ON likes FOR EACH ROW EXECUTE FUNCTION post();
    RETURN NEW;
END
$$;
CREATE TRIGGER add_trigger AFTER INSERT ON trail FOR EACH ROW EXECUTE FUNCTION add_trigger();
SET LOCAL scheduled_deletion.batch_size = 1;
SELECT * FROM run();
ROLLBACK;

-- a key that takes another action than the steps does so still, and is told
BEGIN;
CREATE TABLE notes (user_id int REFERENCES users ON DELETE SET NULL);
INSERT INTO notes SELECT id FROM users;
CREATE TRIGGER post AFTER UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION tell();
CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO told_users VALUES (NULL); RETURN NEW; END $$;
TRUNCATE told_users;
SELECT * FROM run();
SELECT count(*) FROM told_users;
SELECT * FROM notes ORDER BY 1;
ROLLBACK;
-- not on a row that such an action lets a trigger write: its account fails
BEGIN;
CREATE TABLE notes (user_id int REFERENCES users ON DELETE SET NULL);
INSERT INTO notes VALUES (1);
CREATE FUNCTION post_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO posts VALUES (OLD.user_id); RETURN NEW; END $$;
CREATE TRIGGER post_again BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION post_again();
ALTER TABLE posts DROP CONSTRAINT posts_user_id_fkey, ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
SELECT * FROM run();
SELECT count(*) FROM posts;
ROLLBACK;
BEGIN;
CREATE TABLE bills (user_id int REFERENCES users);
INSERT INTO bills VALUES (2);
SELECT * FROM run();
SELECT alter_deletion_policy('users', blocking_keys => 'delete');
SELECT * FROM run();
ROLLBACK;

-- what keys do to rows before the accounts are gone: a row that is given to account 1
-- after posts of it have gone
CREATE TABLE boxes (id int PRIMARY KEY, tag int UNIQUE, user_id int REFERENCES users ON DELETE CASCADE);
INSERT INTO boxes VALUES (1, NULL, 3), (5, NULL, 1);
BEGIN;
ALTER TABLE posts ADD box int DEFAULT 1 REFERENCES users ON DELETE CASCADE, ADD FOREIGN KEY (box) REFERENCES boxes ON DELETE SET DEFAULT;
INSERT INTO users VALUES (5);
INSERT INTO posts VALUES (3, 5);
SELECT remove_deletion_step('users', 'posts'), add_deletion_step('users', 'posts', '{user_id,box}'), add_deletion_step('users', 'boxes', '{user_id}');
SELECT * FROM run();
ROLLBACK;
BEGIN;
-- by another column of theirs, which a step sets to null
SELECT add_deletion_step('users', 'boxes', '{tag}', action => 'set null');
CREATE TABLE labels (tag int);
CREATE TRIGGER post AFTER UPDATE ON labels FOR EACH ROW EXECUTE FUNCTION post();
UPDATE boxes SET user_id = 3, tag = 1 WHERE id = 1;
INSERT INTO labels VALUES (1);
SAVEPOINT s;
SELECT * FROM run();
ROLLBACK TO s;
ALTER TABLE labels ADD FOREIGN KEY (tag) REFERENCES boxes (tag) ON UPDATE CASCADE;
SELECT * FROM run();
ROLLBACK TO s;
ALTER TABLE labels ADD FOREIGN KEY (tag) REFERENCES boxes (tag) ON UPDATE SET NULL;
SELECT * FROM run();
ROLLBACK TO s;
ALTER TABLE labels ADD FOREIGN KEY (tag) REFERENCES boxes (tag) ON UPDATE SET DEFAULT;
SELECT * FROM run();
ROLLBACK;
-- where rows are only deleted, what happens on update does not matter
BEGIN;
CREATE TABLE labels (box int REFERENCES boxes ON UPDATE CASCADE ON DELETE CASCADE, tag int REFERENCES boxes (tag) ON UPDATE SET NULL ON DELETE CASCADE);
SELECT * FROM run();
ROLLBACK;
-- a column that is computed from one that a step sets to null
BEGIN;
CREATE TABLE notes (about int, user_id int GENERATED ALWAYS AS (CASE WHEN about IS NULL THEN 1 ELSE 3 END) STORED REFERENCES users ON DELETE CASCADE);
INSERT INTO notes VALUES (2);
SELECT add_deletion_step('users', 'notes', '{user_id}'), add_deletion_step('users', 'notes', '{about}', action => 'set null');
SELECT * FROM run();
ROLLBACK;
-- accounts that refer to each other, or to what goes before them
BEGIN;
ALTER TABLE users ADD invited_by int REFERENCES users ON DELETE SET NULL;
UPDATE users SET invited_by = 1;
SELECT * FROM run();
SELECT id, invited_by FROM users;
ROLLBACK;
BEGIN;
ALTER TABLE users ADD invited_by int REFERENCES users ON DELETE CASCADE;
UPDATE users SET invited_by = 3 - id WHERE id < 3;
SELECT * FROM run();
ROLLBACK;
BEGIN;
ALTER TABLE users ADD box int REFERENCES boxes ON DELETE SET NULL;
UPDATE users SET box = 5;
SELECT * FROM run();
ROLLBACK;
BEGIN;
ALTER TABLE users ADD box int REFERENCES boxes ON DELETE CASCADE;
UPDATE users SET box = 5 WHERE id < 3;
SELECT * FROM run();
ROLLBACK;
-- what comes after them
BEGIN;
CREATE TABLE logins (id int PRIMARY KEY);
INSERT INTO logins SELECT id FROM users;
SELECT add_deletion_step('users', 'logins', '{id}', after_account => true);
SAVEPOINT s;
SELECT * FROM run();
SELECT * FROM logins;
ROLLBACK TO s;
ALTER TABLE users ADD FOREIGN KEY (id) REFERENCES logins;
SELECT * FROM run();
ROLLBACK TO s;
ALTER TABLE users ADD FOREIGN KEY (id) REFERENCES logins ON DELETE CASCADE;
SELECT * FROM run();
ROLLBACK;
-- a circle of others
BEGIN;
ALTER TABLE likes ADD box int REFERENCES boxes ON DELETE CASCADE;
ALTER TABLE boxes ADD first_like int REFERENCES likes ON DELETE CASCADE;
UPDATE likes SET box = 5 WHERE id = 3;
UPDATE boxes SET first_like = 3 WHERE id = 1;
SELECT * FROM run();
SELECT * FROM likes;
ROLLBACK;

-- A key is left out only if its own rows are deleted.  These are beside one of the same
-- table, or of the same columns, that is: to another column, by other columns, of fewer
-- columns, of another partition, of all rows and not of some.
BEGIN;
ALTER TABLE posts ADD editor int REFERENCES users ON DELETE SET NULL;
INSERT INTO posts SELECT 3, id FROM users;
SELECT * FROM run();
ROLLBACK;
BEGIN;
TRUNCATE users CASCADE;
INSERT INTO users VALUES (1, 3, '2020-01-01'), (2, 2, '2020-01-01'), (3, 1, NULL);
ALTER TABLE posts ADD FOREIGN KEY (user_id) REFERENCES users (alt) ON DELETE SET NULL;
INSERT INTO posts VALUES (3);
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE marks (user_id int REFERENCES boxes ON DELETE CASCADE, FOREIGN KEY (user_id) REFERENCES users ON DELETE SET NULL);
INSERT INTO marks VALUES (1);
SELECT * FROM run();
SELECT * FROM marks;
ROLLBACK;
BEGIN;
ALTER TABLE users ADD UNIQUE (id, alt);
CREATE TABLE notes (user_id int, alt int, FOREIGN KEY (user_id, alt) REFERENCES users (id, alt) ON DELETE CASCADE);
INSERT INTO notes SELECT id, alt FROM users;
SAVEPOINT s;
SELECT * FROM run();
ROLLBACK TO s;
INSERT INTO notes SELECT id, NULL FROM users;
ALTER TABLE notes ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE SET NULL;
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE parts (user_id int, place int) PARTITION BY LIST (place);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
ALTER TABLE parts_1 ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE parts_2 ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE SET NULL;
INSERT INTO parts SELECT id, 1 FROM users UNION ALL SELECT id, 2 FROM users;
SELECT * FROM run();
SELECT * FROM parts ORDER BY place, user_id;
ROLLBACK;
BEGIN;
CREATE TABLE parts (user_id int, place int) PARTITION BY LIST (place);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
ALTER TABLE parts_1 ADD FOREIGN KEY (user_id) REFERENCES users;
INSERT INTO parts SELECT id, 1 FROM users UNION ALL SELECT id, 2 FROM users;
SELECT add_deletion_step('users', 'parts', '{user_id}');
SELECT * FROM run();
SELECT * FROM parts ORDER BY place;
ROLLBACK;
BEGIN;
CREATE TABLE notes (user_id int REFERENCES users ON DELETE SET NULL, kind text);
INSERT INTO notes SELECT id, kind FROM users, (VALUES ('x'), ('y')) AS k (kind);
SELECT add_deletion_step('users', 'notes', '{user_id}', match => '{"kind": "x"}');
SELECT * FROM run();
SELECT * FROM notes ORDER BY 1, 2;
ROLLBACK;
BEGIN;
CREATE TABLE notes (user_id int);
ALTER TABLE notes ADD FOREIGN KEY (user_id) REFERENCES users DEFERRABLE INITIALLY DEFERRED;
INSERT INTO notes SELECT id FROM users;
SELECT add_deletion_step('users', 'notes', '{user_id}');
SELECT * FROM run();
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
BEGIN;
-- the key's action would set to null what a step has deleted
CREATE TABLE notes (user_id int REFERENCES users ON DELETE SET DEFAULT);
INSERT INTO notes SELECT id FROM users;
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE notes (alt int REFERENCES users (alt) ON DELETE CASCADE);
INSERT INTO notes SELECT alt FROM users;
INSERT INTO users VALUES (4, NULL, '2020-01-01');
SELECT * FROM run();
ROLLBACK;

-- as the key compares: 1 is 101, and only by one of two keys
CREATE FUNCTION mod_lt(int, int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 100 < $2 % 100';
CREATE FUNCTION mod_le(int, int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 100 <= $2 % 100';
CREATE FUNCTION mod_eq(int, int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 100 = $2 % 100';
CREATE FUNCTION mod_ge(int, int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 100 >= $2 % 100';
CREATE FUNCTION mod_gt(int, int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 100 > $2 % 100';
CREATE FUNCTION mod_cmp(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT btint4cmp($1 % 100, $2 % 100)';
CREATE OPERATOR <% (FUNCTION = mod_lt, LEFTARG = int, RIGHTARG = int, COMMUTATOR = >%);
CREATE OPERATOR <=% (FUNCTION = mod_le, LEFTARG = int, RIGHTARG = int, COMMUTATOR = >=%);
CREATE OPERATOR ==% (FUNCTION = mod_eq, LEFTARG = int, RIGHTARG = int, COMMUTATOR = ==%);
CREATE OPERATOR >=% (FUNCTION = mod_ge, LEFTARG = int, RIGHTARG = int, COMMUTATOR = <=%);
CREATE OPERATOR >% (FUNCTION = mod_gt, LEFTARG = int, RIGHTARG = int, COMMUTATOR = <%);
CREATE OPERATOR CLASS mod_ops FOR TYPE int USING btree AS
    OPERATOR 1 <%, OPERATOR 2 <=%, OPERATOR 3 ==%, OPERATOR 4 >=%, OPERATOR 5 >%, FUNCTION 1 mod_cmp(int, int);
BEGIN;
ALTER TABLE users ADD code int;
CREATE UNIQUE INDEX ON users (code mod_ops);
UPDATE users SET code = id;
CREATE TABLE notes (user_code int REFERENCES users (code) ON DELETE CASCADE);
INSERT INTO notes VALUES (101), (2), (203);
SAVEPOINT s;
SELECT * FROM run();
SELECT * FROM notes;
ROLLBACK TO s;
-- one key by mod_ops, and one by the primary key, which deletes fewer rows
DELETE FROM notes WHERE user_code = 203;
ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE, ADD PRIMARY KEY (code);
SELECT alter_deletion_policy('users', key_columns => '{code}');
ALTER TABLE notes DROP CONSTRAINT notes_user_code_fkey, ADD FOREIGN KEY (user_code) REFERENCES users (code) ON DELETE SET NULL,
    ADD FOREIGN KEY (user_code) REFERENCES users ON DELETE CASCADE NOT VALID;
SELECT * FROM run();
SELECT * FROM notes ORDER BY 1;
ROLLBACK;
DROP OPERATOR CLASS mod_ops USING btree;
-- columns of other types than the account's, and keys of other types; a server may refuse
-- a key between columns of different collations
CREATE DOMAIN number AS int CHECK (VALUE > 0);
CREATE COLLATION ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE EXTENSION citext SCHEMA erasure;
CREATE FUNCTION try(key_type text, child_type text) RETURNS TABLE (planned text, elided boolean, orphans text) LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL client_min_messages = warning;
    EXECUTE format('ALTER TABLE likes ADD code %s', child_type);
    EXECUTE format('ALTER TABLE users ADD code %s UNIQUE', key_type);
    EXECUTE format('UPDATE users SET code = id::text::%s', split_part(key_type, ' COLLATE', 1));
    EXECUTE format('INSERT INTO likes SELECT id + 3, 3, id::text::%s FROM users', split_part(child_type, ' COLLATE', 1));
    ALTER TABLE likes ADD FOREIGN KEY (code) REFERENCES users (code) ON DELETE CASCADE;
    RETURN QUERY SELECT run.planned, run.elided, run.orphans FROM run();
    RAISE division_by_zero;
EXCEPTION
    WHEN division_by_zero THEN
        NULL;
    WHEN collation_mismatch THEN
        RETURN QUERY SELECT 'some proved empty', true, NULL;
END
$$;
SELECT * FROM (VALUES ('int', 'int'), ('int', 'number'), ('number', 'int'), ('bigint', 'int'), ('numeric', 'int'), ('text', 'varchar(10)'), ('varchar(10)', 'text'),
    ('text', 'char(4)'), ('char(4)', 'text'), ('char(4)', 'char(8)'), ('citext', 'citext'), ('name', 'name'), ('name', 'text'),
    ('text COLLATE "C"', 'text COLLATE "POSIX"'), ('text COLLATE ignore_case', 'text COLLATE ignore_case'),
    ('text COLLATE ignore_case', 'text'), ('text', 'text COLLATE ignore_case')) AS t (key, child), try(key, child);

-- Where rows are written unchecked, there may be some that no step has seen.
-- A trigger of a key on one side, that of its check when rows are inserted or updated.
CREATE PROCEDURE disable(child regclass, function text, key text DEFAULT NULL, partition regclass DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    SELECT tgname INTO STRICT name FROM pg_trigger
    WHERE tgrelid = coalesce(partition, child) AND tgfoid = function::regproc
        AND tgconstraint IN (SELECT oid FROM pg_constraint WHERE conname = coalesce(key, conname));
    EXECUTE format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', coalesce(partition, child), name);
END
$$;
BEGIN;
CALL disable('posts', '"RI_FKey_check_ins"');
SELECT * FROM run();
ROLLBACK;
BEGIN;
CALL disable('posts', '"RI_FKey_check_upd"');
SELECT * FROM run();
ROLLBACK;
BEGIN;
ALTER TABLE posts DISABLE TRIGGER ALL;
SELECT * FROM run();
ROLLBACK;
-- another key of the same table is checked
BEGIN;
ALTER TABLE posts ADD editor int REFERENCES users ON DELETE CASCADE;
CALL disable('posts', '"RI_FKey_check_ins"', 'posts_editor_fkey');
SELECT * FROM run();
ROLLBACK;
-- of a partition
BEGIN;
CREATE TABLE parts (user_id int REFERENCES users ON DELETE CASCADE, place int) PARTITION BY LIST (place);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts DEFAULT PARTITION BY LIST (place);
CREATE TABLE parts_3 PARTITION OF parts_2 DEFAULT;
INSERT INTO parts SELECT id, id FROM users;
SAVEPOINT s;
SELECT * FROM run();
ROLLBACK TO s;
ALTER TABLE parts_3 DISABLE TRIGGER ALL;
SELECT * FROM run();
ROLLBACK TO s;
-- rows are in partitions only
ALTER TABLE ONLY parts DISABLE TRIGGER ALL;
SELECT * FROM run();
ROLLBACK;
-- the action of a key is that of a partition only: a plan does not know it
BEGIN;
CREATE TABLE parts (user_id int REFERENCES users ON DELETE CASCADE, place int PRIMARY KEY) PARTITION BY LIST (place);
CREATE TABLE parts_1 PARTITION OF parts DEFAULT;
CREATE TABLE marks (place int REFERENCES parts ON DELETE CASCADE);
INSERT INTO parts SELECT id, id FROM users;
INSERT INTO marks SELECT id FROM users;
CREATE TRIGGER post AFTER DELETE ON marks FOR EACH ROW EXECUTE FUNCTION post();
SELECT add_deletion_step('users', 'parts', '{user_id}');
CALL disable('parts', '"RI_FKey_cascade_del"');
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE parts (user_id int REFERENCES users ON DELETE CASCADE, place int PRIMARY KEY) PARTITION BY LIST (place);
CREATE TABLE parts_1 PARTITION OF parts DEFAULT;
CREATE TABLE marks (place int REFERENCES parts ON DELETE SET NULL);
INSERT INTO parts SELECT id, id FROM users;
INSERT INTO marks SELECT id FROM users;
CREATE TRIGGER post AFTER UPDATE ON marks FOR EACH ROW EXECUTE FUNCTION post();
SELECT add_deletion_step('users', 'parts', '{user_id}');
CALL disable('parts', '"RI_FKey_setnull_del"');
SELECT * FROM run();
ROLLBACK;
BEGIN;
CREATE TABLE parts (user_id int REFERENCES users ON DELETE CASCADE, place int PRIMARY KEY) PARTITION BY LIST (place);
CREATE TABLE parts_1 PARTITION OF parts DEFAULT;
CREATE TABLE marks (place int REFERENCES parts_1 ON DELETE CASCADE, other int REFERENCES parts ON DELETE SET NULL);
SELECT * FROM run();
ROLLBACK;
-- the other side: what does not fire is not run
BEGIN;
CREATE TABLE notes (user_id int REFERENCES users);
INSERT INTO notes SELECT id FROM users;
CALL disable('users', '"RI_FKey_noaction_del"');
SELECT * FROM run();
SELECT * FROM notes ORDER BY 1;
ROLLBACK;
BEGIN;
CREATE TRIGGER fake AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION "RI_FKey_cascade_del"();
ALTER TABLE users DISABLE TRIGGER fake;
SELECT * FROM run();
ROLLBACK;
-- a role from whom rows are hidden
BEGIN;
CREATE ROLE regress_sd_job;
GRANT USAGE ON SCHEMA app, erasure TO regress_sd_job;
GRANT EXECUTE ON FUNCTION deletion_plan TO regress_sd_job;
ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
SELECT fk_checks FROM deletion_plan('users') WHERE step_table = 'users'::regclass;
SET LOCAL ROLE regress_sd_job;
SELECT fk_checks FROM deletion_plan('users') WHERE step_table = 'users'::regclass;
ROLLBACK;
-- a subscription
BEGIN;
SET LOCAL client_min_messages = error;
CREATE SUBSCRIPTION regress_sd_subscription CONNECTION 'dbname=none' PUBLICATION none WITH (connect = false);
INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) SELECT oid, 'posts'::regclass, 'r' FROM pg_subscription WHERE subname = 'regress_sd_subscription';
SELECT * FROM run();
ROLLBACK;

-- partitioned accounts, and keys to one of their partitions, where a value can be that
-- of an account in another
CREATE TABLE members (region text, id int, deletion_scheduled_at timestamptz, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE members_eu PARTITION OF members (UNIQUE (id)) FOR VALUES IN ('eu');
CREATE TABLE members_us PARTITION OF members (UNIQUE (id)) FOR VALUES IN ('us');
INSERT INTO members VALUES ('eu', 1, '2020-01-01'), ('us', 1, NULL), ('us', 2, '2020-01-01'), ('eu', 3, NULL);
CREATE TABLE visits (region text, id int, FOREIGN KEY (region, id) REFERENCES members ON DELETE CASCADE);
INSERT INTO visits SELECT region, id FROM members;
SELECT add_deletion_policy('members', 'members', key_columns => '{region,id}', audit_table => 'trail');
BEGIN;
SELECT * FROM run('members');
SELECT * FROM visits ORDER BY 1, 2;
ROLLBACK;
BEGIN;
CREATE TABLE notes (member int REFERENCES members_eu (id) ON DELETE CASCADE);
INSERT INTO notes VALUES (1), (3);
SELECT * FROM run('members');
SELECT * FROM notes;
ROLLBACK;
-- a trigger on one partition of theirs
BEGIN;
CREATE TRIGGER post AFTER DELETE ON members_us FOR EACH ROW EXECUTE FUNCTION post();
SELECT * FROM run('members');
ROLLBACK;
-- beside a key to all of them, over the same columns, one to a partition
BEGIN;
DELETE FROM visits WHERE region = 'us';
ALTER TABLE visits ADD FOREIGN KEY (region, id) REFERENCES members_eu ON DELETE SET NULL;
SELECT * FROM run('members');
ROLLBACK;
-- and beside one to a partition, one to all that fires in partitions only: to the plan, it
-- is not there.  (The row of 'us' was let in unchecked: it breaks the second key from the first.)
BEGIN;
ALTER TABLE visits DROP CONSTRAINT visits_region_id_fkey;
DELETE FROM visits;
ALTER TABLE visits ADD FOREIGN KEY (region, id) REFERENCES members, ADD FOREIGN KEY (region, id) REFERENCES members_eu ON DELETE CASCADE;
ALTER TABLE ONLY members DISABLE TRIGGER ALL;
INSERT INTO visits VALUES ('eu', 1);
ALTER TABLE visits DISABLE TRIGGER ALL;
INSERT INTO visits VALUES ('us', 2);
ALTER TABLE visits ENABLE TRIGGER ALL;
SELECT * FROM run('members');
SELECT * FROM visits ORDER BY 1;
ROLLBACK;
BEGIN;
ALTER TABLE visits DROP CONSTRAINT visits_region_id_fkey, ADD FOREIGN KEY (region, id) REFERENCES members;
ALTER TABLE ONLY members DISABLE TRIGGER ALL;
\set VERBOSITY terse
SELECT add_deletion_step('members', 'visits', '{region,id}', after_account => true);  -- fails
\set VERBOSITY default
ROLLBACK;

-- It is for that statement alone: what else deletes accounts has all of its checks, be it
-- the same text, or after an error.
BEGIN;
CREATE TABLE notes (user_id int REFERENCES users ON DELETE SET NULL);
INSERT INTO notes SELECT id FROM users;
CREATE FUNCTION delete_another() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'DELETE FROM app.users t WHERE t.id OPERATOR(pg_catalog.=) ANY ($1::integer[]) AND t.deletion_scheduled_at OPERATOR(pg_catalog.<=) $2 RETURNING t.id'
    USING '{3}'::int[], 'infinity'::timestamptz;
    RETURN NEW;
END
$$;
CREATE TRIGGER delete_another AFTER UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION delete_another();
UPDATE users SET deletion_scheduled_at = 'infinity' WHERE id = 3;
SELECT * FROM run();
SELECT * FROM users;
ROLLBACK;
BEGIN;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = 'P0002'; END $$;
CREATE TABLE notes (user_id int REFERENCES users ON DELETE SET NULL);
INSERT INTO notes VALUES (1);
CREATE TRIGGER refuse BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT * FROM run();
DELETE FROM users WHERE id = 3;
SELECT * FROM orphans();
ROLLBACK;
-- a row of the caller's own transaction
BEGIN;
ALTER TABLE posts ALTER CONSTRAINT posts_user_id_fkey DEFERRABLE INITIALLY DEFERRED;
SAVEPOINT s;
INSERT INTO posts VALUES (1);
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO s;
UPDATE posts SET user_id = 2 WHERE user_id = 3;
SELECT * FROM run();
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO posts VALUES (1);
SET CONSTRAINTS ALL IMMEDIATE;  -- fails
ROLLBACK;
-- of the statement that calls the run, or whose trigger does
BEGIN;
WITH inserted AS (INSERT INTO posts VALUES (1) RETURNING 1)
SELECT r -> 'users_deleted' AS deleted FROM process_scheduled_deletions('users') r;  -- fails
ROLLBACK;
BEGIN;
CREATE FUNCTION run_now() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM process_scheduled_deletions('users'); RETURN NEW; END $$;
CREATE TRIGGER "A" AFTER INSERT ON posts FOR EACH ROW EXECUTE FUNCTION run_now();
INSERT INTO posts VALUES (1);
SELECT * FROM orphans();
ROLLBACK;
DROP EXTENSION citext CASCADE;
:clean_up
