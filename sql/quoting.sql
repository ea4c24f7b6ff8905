-- Whatever tables, columns, constraints, policies, roles and keys are called, each
-- statement, remedy, error and report means just these.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
\pset format unaligned
SET client_min_messages = warning;
-- quotes, backslashes, the ends of statements, literals and comments, formats, arrays,
-- keywords; of as many bytes as a name can have; and two that differ by case
CREATE TABLE name AS SELECT n, name FROM unnest(ARRAY[
    'O''Reilly', '"quoted"', 'back\slash', 'semi; DROP TABLE bystander; --', ' space ', '$$', '$a$', '%s%n', '{a,b}', '/*',
    'select', 'user', 'ALL', 'all', E'line\nfeed', 'a.b', '\\''"', repeat('é', 31) || 'x', repeat('名', 21), '(1)', 'null', ',', '-1'])
    WITH ORDINALITY AS t (name, n);
SELECT max(octet_length(name)) AS longest, count(*) FROM name;
\set policy 'pol''icy"; \\ $$ {}'
\set schema 'sch''e"ma; \\ $$'
\set accounts 'acc"ounts''; \\ $$'
\set key1 'k''e"y\\'
\set key2 '$$ second, {key}'
\set due 'du"e'';'
\set done 'do\\n''e'
\set log 'lo''g"\\'
\set role 'regress_sd ro''le"; \\ $$'

-- the table of the accounts, one of each name that refers to it by a key of each kind,
-- and one that is to be left alone
CREATE ROLE :"role";
CREATE SCHEMA :"schema";
CREATE TABLE :"schema".bystander (id int);
CREATE TABLE :"schema".:"accounts" (:"key1" int, :"key2" text, :"due" timestamptz, :"done" timestamptz, PRIMARY KEY (:"key1", :"key2"));
CREATE INDEX ON :"schema".:"accounts" (:"due");
CREATE TABLE :"schema".:"log" ("wh'o""" text, "wh\at" text, "det;ails" jsonb, "w'hen" timestamptz);
INSERT INTO :"schema".bystander VALUES (1);
INSERT INTO :"schema".:"accounts" SELECT n, name, CASE WHEN n <= 3 THEN '2020-01-01'::timestamptz END FROM name;
\set ECHO none
SELECT format('CREATE TABLE %1$I.%2$I (%3$I int, %4$I text, CONSTRAINT %5$I FOREIGN KEY (%3$I, %4$I) REFERENCES %1$I.%6$I %7$s)',
    :'schema', name, name, right(name, 10) || '2', 'fk ' || left(name, 15), :'accounts',
    (ARRAY['', 'ON DELETE CASCADE', 'ON DELETE SET NULL'])[1 + n % 3]),
    format('INSERT INTO %1$I.%2$I SELECT %4$I, %5$I FROM %1$I.%3$I', :'schema', name, :'accounts', :'key1', :'key2')
FROM name ORDER BY n \gexec
\set ECHO all
-- how many of their rows are of an account, of how many, in how many of them
CREATE FUNCTION rows_of(schema text, account int) RETURNS TABLE (rows text, tables bigint) LANGUAGE plpgsql AS $body$
BEGIN
    RETURN QUERY EXECUTE (SELECT format('SELECT rows, count(*) FROM (%s) r GROUP BY 1 ORDER BY 1',
        string_agg(format('SELECT count(*) FILTER (WHERE %2$I = %3$s) || '' of '' || count(*) AS rows FROM %1$I.%2$I', schema, name, account), ' UNION ALL '))
        FROM name JOIN pg_class ON relname = name AND relnamespace = quote_ident(schema)::regnamespace);
END
$body$;

-- a policy of such a name
SELECT format('%I.%I', :'schema', :'accounts') AS account_table, format('%I.%I', :'schema', :'log') AS audit_table, quote_ident(:'role') AS job \gset
SELECT add_deletion_policy(:'policy', :'account_table', due_column => :'due', done_column => :'done', audit_table => :'audit_table',
    audit_columns => '{"user_id": "wh''o\"", "action": "wh\\at", "details": "det;ails", "created_at": "w''hen", "performed_by": null}',
    audit_details => ARRAY[:'key2', :'done']::name[]);
SELECT policy, account_table_name, key_columns, due_column, done_column, audit_table_name, audit_details FROM deletion_policy;
SELECT position, step_table, columns, action, via, constraint_name FROM deletion_plan(:'policy');

-- what the check proposes for it and the job's role is all that is to be done, and no
-- more; the steps that it adds need privileges in their turn
SELECT code, count(*), count(remedy) AS remedies FROM check_deletion_policy(:'policy', :'job') GROUP BY 1 ORDER BY 1;
SELECT object, message, remedy FROM check_deletion_policy(:'policy', :'job') WHERE remedy IS NOT NULL;
\set ECHO none
SELECT remedy FROM check_deletion_policy(:'policy', :'job') WHERE remedy IS NOT NULL \gexec
\set ECHO all
SELECT remedy FROM check_deletion_policy(:'policy', :'job') WHERE remedy IS NOT NULL \gexec
SELECT severity, code, object, remedy FROM check_deletion_policy(:'policy', :'job');
SELECT step_table, columns, action FROM deletion_step ORDER BY position;
SELECT count(*) AS indexes, count(DISTINCT indrelid) AS tables FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE relnamespace = quote_ident(:'schema')::regnamespace;
SELECT * FROM rows_of(:'schema', 1);

-- the run by that role, in which one account fails
CREATE TABLE :"schema"."keeps \'"";$$" ("k'1""" int, "k\2" text,
    CONSTRAINT "b""lo'ck;\" FOREIGN KEY ("k'1""", "k\2") REFERENCES :"schema".:"accounts");
INSERT INTO :"schema"."keeps \'"";$$" VALUES (2, '"quoted"');
SET ROLE :"role";
SELECT r -> 'users_deleted' AS deleted, jsonb_pretty(r -> 'errors') AS errors, jsonb_pretty(r -> 'total_records_deleted') AS records, r ->> 'policy' AS policy
FROM process_scheduled_deletions() r;
RESET ROLE;
SELECT policy, account, table_name, constraint_name, message FROM deletion_failure;
SELECT "wh'o""", "wh\at", jsonb_pretty("det;ails" - 'run_id' - 'deletion_scheduled_at') FROM :"schema".:"log" ORDER BY "wh'o""" COLLATE "C";
SELECT * FROM rows_of(:'schema', 1);
SELECT * FROM rows_of(:'schema', 2);

-- what is remembered names the account as a call takes it
DROP TRIGGER do_not_wait ON erasure.deletion_failure;
UPDATE deletion_failure SET next_attempt_at = 'infinity';
SELECT retry_account(account, policy) AS retried FROM deletion_failure;
SELECT cancel_account_deletion(account, policy) AS cancelled FROM deletion_failure;
SELECT count(*) FROM :"schema".:"accounts" WHERE :"due" IS NOT NULL;
SELECT schedule_account_deletion('(2,"""quoted""")') > now() AS scheduled;

-- errors, and their hints, which are statements
REVOKE DELETE ON :"schema"."O'Reilly" FROM :"role";
REVOKE UPDATE (:"due") ON :"schema".:"accounts" FROM :"role";
SET ROLE :"role";
SELECT process_scheduled_deletions();  -- fails
RESET ROLE;
ALTER TABLE :"schema"."$$" ENABLE ROW LEVEL SECURITY;
SELECT remedy FROM check_deletion_policy(:'policy', :'job') WHERE code IN ('missing_privilege', 'row_security') \gexec
SELECT count(*) FROM check_deletion_policy(:'policy', :'job') WHERE code IN ('missing_privilege', 'row_security');
SET ROLE :"role";
SELECT process_scheduled_deletions() -> 'users_failed' AS failed;
RESET ROLE;
ALTER TABLE :"schema".:"accounts" RENAME :"due" TO "du'e";
SELECT process_scheduled_deletions();  -- fails
ALTER TABLE :"schema".:"accounts" RENAME "du'e" TO :"due";
SELECT add_deletion_step(:'policy', format('%I.%I', :'schema', E'line\nfeed'), ARRAY['no''"\;$$,{}']::name[]);  -- fails
DROP TABLE :"schema"."user";
SELECT regexp_replace(remedy, '[0-9]+\)$', 'N)') AS remedy FROM check_deletion_policy(:'policy') WHERE code = 'lost_step';
\set ECHO none
SELECT remedy FROM check_deletion_policy(:'policy') WHERE code = 'lost_step' \gexec
\set ECHO all
SELECT count(*) FROM check_deletion_policy(:'policy') WHERE code = 'lost_step';
SELECT process_scheduled_deletions(:'policy' || ' ');  -- fails
SELECT remove_deletion_policy(:'policy');
SELECT count(*) AS bystander FROM :"schema".bystander;
DROP OWNED BY :"role";
DROP ROLE :"role";
DROP SCHEMA :"schema" CASCADE;

-- remedies of other kinds; the other constraint and column stay as they are
CREATE SCHEMA :"schema";
CREATE TABLE :"schema".:"accounts" (:"key1" int PRIMARY KEY, deletion_scheduled_at timestamptz, :"done" int UNIQUE);
CREATE INDEX ON :"schema".:"accounts" (deletion_scheduled_at);
CREATE TABLE :"schema".:"log" (user_id int CONSTRAINT "f'k""; \" REFERENCES :"schema".:"accounts", action text, details jsonb, performed_by int, created_at timestamptz);
CREATE TABLE :"schema"."n'o""t;" (:"key2" int NOT NULL CONSTRAINT "s""et';\" REFERENCES :"schema".:"accounts" ON DELETE SET NULL, :"done" int NOT NULL);
CREATE INDEX "i'n""dex;\" ON :"schema"."n'o""t;" (:"key2");
SET client_min_messages = error;
CREATE PUBLICATION "p'u""b;" FOR TABLE :"schema"."n'o""t;";
SET client_min_messages = warning;
CREATE TABLE :"schema"."log'in""" (:"key2" int PRIMARY KEY);
ALTER TABLE :"schema".:"accounts" ADD CONSTRAINT "log';in""" FOREIGN KEY (:"done") REFERENCES :"schema"."log'in""";
SELECT add_deletion_policy(:'policy', :'account_table', audit_table => :'audit_table');  -- fails
ALTER TABLE :"schema".:"log" DROP CONSTRAINT "f'k""; \";
SELECT add_deletion_policy(:'policy', :'account_table', audit_table => :'audit_table');
ALTER TABLE :"schema".:"log" ADD CONSTRAINT "f'k""; \" FOREIGN KEY (user_id) REFERENCES :"schema".:"accounts";
SELECT code, message, remedy FROM check_deletion_policy(:'policy');
SELECT remedy FROM check_deletion_policy(:'policy') WHERE remedy IS NOT NULL \gexec
SELECT code, message, remedy FROM check_deletion_policy(:'policy');
SELECT conrelid::regclass, conname FROM pg_constraint WHERE connamespace = quote_ident(:'schema')::regnamespace AND contype = 'f' ORDER BY conname COLLATE "C";
SELECT attname, attnotnull FROM pg_attribute WHERE attrelid = (quote_ident(:'schema') || '."n''o""t;"')::regclass AND attnum > 0;
SELECT remove_deletion_policy(:'policy');
DROP PUBLICATION "p'u""b;";
DROP SCHEMA :"schema" CASCADE;

-- keys that look like something else, and very long ones
CREATE TABLE users (id text PRIMARY KEY, due timestamptz);
CREATE TABLE posts (user_id text REFERENCES users ON DELETE CASCADE);
CREATE TABLE "no';key""\" (user_id varchar);
CREATE TABLE blocks (user_id text REFERENCES users);
CREATE TABLE users_log (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);
INSERT INTO users SELECT key, '2020-01-01' FROM (SELECT name FROM name
    UNION SELECT unnest(ARRAY['', '{}', '{NULL}', '"', '\', '''', '$1', '() ', '()', '(,)', 'NULL', 'null ', '\x00', repeat('x', 100000), repeat('x', 100001)])) AS k (key);
INSERT INTO users VALUES ('Null', NULL), ('a', NULL), ('b', NULL), ('{', NULL), (repeat('x', 99999), NULL);
INSERT INTO posts SELECT id FROM users;
INSERT INTO "no';key""\" SELECT id FROM users;
INSERT INTO "no';key""\" VALUES (NULL), ('y');
INSERT INTO blocks VALUES ('{NULL}'), ('NULL'), (''), ('null'), ('\'), ('"'), ('''');
SELECT add_deletion_policy('users', 'users', due_column => 'due', audit_table => 'users_log');
SELECT remedy FROM check_deletion_policy('users') WHERE code NOT IN ('blocking_key', 'unindexed_reference') AND remedy IS NOT NULL \gexec
SELECT r -> 'users_deleted' AS deleted, r -> 'total_records_deleted' AS records,
    (SELECT string_agg(e ->> 'user_id', ' | ' ORDER BY e ->> 'user_id' COLLATE "C") FROM jsonb_array_elements(r -> 'errors') e) AS failed
FROM process_scheduled_deletions('users') r;
-- those that failed or are not due are whole, and the others gone
SELECT left(id, 10) AS id, due, (SELECT count(*) FROM posts WHERE user_id = id) AS posts, (SELECT count(*) FROM "no';key""\" WHERE user_id = id) AS without_key,
    (SELECT count(*) FROM users_log WHERE user_id = id) AS audit_rows, (SELECT count(*) FROM deletion_failure WHERE account = id) AS remembered
FROM users u ORDER BY u.id COLLATE "C";
SELECT count(DISTINCT user_id) AS audited, count(*) AS audit_rows FROM users_log;
SELECT user_id FROM "no';key""\" WHERE user_id IS NULL OR user_id NOT IN (SELECT id FROM users);
-- once more, now that they are remembered
DELETE FROM blocks WHERE user_id <> 'NULL';
SELECT retry_account('{NULL}') AS one, retry_account() AS others;
SELECT r -> 'users_deleted' AS deleted, r #> '{errors,0,user_id}' AS failed FROM process_scheduled_deletions('users') r;
SELECT account FROM deletion_failure;
:clean_up
