-- Whatever somebody gives to a function, the answer is a result or an error of theirs,
-- never one of ours, a crash or a wait; and an error changes nothing.
\getenv srcdir PG_ABS_SRCDIR
\set fixture :srcdir '/test/fixture.sql'
\set ECHO none
\i :fixture
\set ECHO all
SET client_min_messages = error;
SET statement_timeout = '10min';
CREATE TABLE users (id int PRIMARY KEY, name text, deletion_scheduled_at timestamptz, done timestamptz);
CREATE TABLE posts (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE, kind text);
CREATE TABLE pairs (a int, b text, deletion_scheduled_at timestamptz, PRIMARY KEY (a, b));
CREATE TABLE parts (id int PRIMARY KEY, deletion_scheduled_at timestamptz) PARTITION BY HASH (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE bare ();
CREATE VIEW seen AS SELECT * FROM users;
CREATE SEQUENCE counter;
CREATE TABLE erased (user_id text, action text, details jsonb, created_at timestamptz);
INSERT INTO users VALUES (1, 'one', '2020-01-01', NULL), (2, 'two', NULL, NULL);
INSERT INTO posts SELECT id, id, 'a' FROM users;
SELECT add_deletion_policy('users', 'users', audit_table => 'erased', audit_columns => '{"performed_by": null}');
SELECT add_deletion_policy('pairs', 'pairs', audit_table => 'erased', audit_columns => '{"performed_by": null}');

-- what is given for an argument of a type, as literals
CREATE TABLE given (type regtype, value text);
INSERT INTO given
SELECT type, unnest(values || 'NULL'::text) FROM (VALUES
    ('text'::regtype, ARRAY['''''', ''' ''', '''nobody''', '''users''', '''pairs''', '''delete''', '''set null''', '''1''', '''2''', '''-1''',
        '''(1,2)''', '''(''', '''{}''', '''UTC''', '''Nowhere/Else''', '''a"b''''c\d''', 'E''\u0001''', 'repeat(''x'', 100000)', 'repeat(''('', 100000)',
        '''99999999999999999999''', '''NaN''', '''fail''']),
    ('name', ARRAY['''''', '''nothing''', '''id''', '''name''', '''deletion_scheduled_at''', '''done''', '''ctid''', '''xmin''', 'repeat(''x'', 63)']),
    ('name[]', ARRAY['''{}''', '''{NULL}''', '''{id}''', '''{id,id}''', '''{id,NULL}''', '''{nothing}''', '''{user_id}''', '''{a,b}''', '''{{id},{name}}''', '''[5:5]={id}''',
        '''{ctid}''', '''{tableoid}''', '''{deletion_scheduled_at}''', '(SELECT array_agg(''c'' || n)::name[] FROM generate_series(1, 2000) n)', '(SELECT array_agg(''id''::name) FROM generate_series(1, 2000) n)']),
    ('regclass', ARRAY['0', '4294967295', '''users''', '''posts''', '''pairs''', '''parts''', '''parts_0''', '''bare''', '''seen''', '''counter''', '''users_pkey''', '''erased''', '''pg_class''', '''erasure.deletion_policy''',
        '(SELECT reltoastrelid FROM pg_class WHERE oid = ''users''::regclass)']),
    ('regrole', ARRAY['0', '4294967295', 'current_user::regrole']),
    ('interval', ARRAY['''0''', '''-1 day''', '''1 us''', '''178000000 years''', '''-178000000 years''', '''1 mon -30 days''', '''-1 mon 31 days''', '''2147483647 days''', '''infinity''']),
    ('jsonb', ARRAY['''null''', '''[]''', '''{}''', '''1''', '''"x"''', '''[1, {"a": null}]''', '''{"user_id": 1}''', '''{"user_id": null}''', '''{"user_id": "nothing"}''', '''{"user_id": {"a": 1}}''', '''{"kind": "a"}''',
        '''{"id": [1]}''', '''{"id": {}}''', '''{"id": 1e400}''', '''{"": ""}''', '''{"nothing": 1}''', '(repeat(''['', 1000) || repeat('']'', 1000))::jsonb', 'jsonb_build_object(repeat(''x'', 100000), 1)']),
    ('integer', ARRAY['0', '1', '-1', '2147483647', '(-2147483648)']),
    ('bigint', ARRAY['0', '1', '-1', '9223372036854775807', '(-9223372036854775808)']),
    ('double precision', ARRAY['0', '0.5', '-1', '1e308', '''NaN''', '''Infinity''', '''-Infinity''']),
    ('boolean', ARRAY['true', 'false']),
    ('timestamptz', ARRAY['''infinity''', '''-infinity''', '''4713-01-02 BC''', '''294276-12-31''', 'now()'])) AS v (type, values);

-- what is right for the arguments of a name
CREATE TABLE fit (name text, value text);
INSERT INTO fit VALUES ('policy', '''users'''), ('account', '''1'''), ('account_table', '''users'''), ('step_table', '''posts'''), ('columns', '''{user_id}'''),
    ('audit_table', '''erased'''), ('audit_columns', '''{"performed_by": null}'''), ('reason', '''case 1''');

-- every function that can be called, and its arguments
CREATE TABLE callable AS
SELECT p.oid::regproc AS function, prokind, n, proargnames[n] AS name, type::regtype
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND deptype = 'e' AND d.classid = 'pg_proc'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'scheduled_deletion')
    LEFT JOIN LATERAL unnest(proargtypes::oid[]) WITH ORDINALITY u (type, n) ON true
WHERE prorettype <> 'trigger'::regtype;
SELECT DISTINCT function FROM callable ORDER BY 1;
-- nothing is missed
SELECT DISTINCT type FROM callable WHERE type NOT IN (SELECT type FROM given);

-- a call with some arguments by name
CREATE FUNCTION call_of(function regproc, arguments jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT format('SELECT * FROM %s(%s)', function, string_agg(format('%I => %s', key, value #>> '{}'), ', ')) FROM jsonb_each(arguments) $$;
CREATE FUNCTION fitting(function regproc) RETURNS jsonb LANGUAGE sql AS $$
    SELECT coalesce(jsonb_object_agg(name, value), '{}') FROM callable JOIN fit USING (name) WHERE callable.function = $1 $$;

-- one argument is anything; or each of them, many times
CREATE TABLE calls AS
SELECT function, call_of(function, fitting(function) || jsonb_build_object(name, value)) AS call
FROM callable JOIN given USING (type) WHERE prokind = 'f';
INSERT INTO calls
SELECT function, call_of(function, fitting(function) || jsonb_object_agg(name, value))
FROM generate_series(1, 300) AS round, (SELECT function, name, type FROM callable WHERE prokind = 'f' ORDER BY function::text COLLATE "C", n) AS c,
    LATERAL (SELECT value FROM given WHERE given.type = c.type ORDER BY hashtext(value || round || name || function::text) LIMIT 1) AS g
WHERE hashtext(round || name) % 3 = 0
GROUP BY round, function;
SELECT count(*) > 2000 AS many FROM calls;

-- what each call comes to; it is undone
CREATE FUNCTION result(call text) RETURNS TABLE (state text, message text) LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE call;
        SET CONSTRAINTS ALL IMMEDIATE;
        RAISE SQLSTATE 'ZZZZZ';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
    END;
    RETURN NEXT;
END
$$;
CREATE TABLE results AS SELECT calls.*, r.* FROM calls, result(call) r;
SELECT function, state, left(message, 100) AS message, min(left(call, 200)) AS call FROM results
WHERE state ~ '^(XX|57|58|P0004|08|0A|24|25|26|34|38|39|3D|40|53|54|F0|HV)' AND state NOT IN ('0A000', '54000', '54001', '54011', '54023')
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
SELECT function, state, left(message, 100) AS message, min(left(call, 200)) AS call FROM results
WHERE message ~ 'cache lookup|unexpected|could not open relation|unrecognized node|invalid memory' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
-- each has let some through, and refused some; what is not there need not be removed
SELECT function FROM results WHERE function::text NOT LIKE '%remove%' GROUP BY 1 HAVING count(*) FILTER (WHERE state = 'ZZZZZ') = 0 OR count(*) FILTER (WHERE state <> 'ZZZZZ') = 0 ORDER BY 1;
SELECT policy FROM erasure.deletion_policy ORDER BY 1;
SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM posts), (SELECT count(*) FROM erased), (SELECT count(*) FROM erasure.deletion_hold);

-- the procedure commits, so each call is a statement of its own
\set VERBOSITY sqlstate
\o /dev/null
SELECT format('CALL run_scheduled_deletions(''users'', %I => %s)', name, value) FROM callable JOIN given USING (type)
WHERE prokind = 'p' AND name NOT IN ('policy', 'pause', 'report') AND value NOT LIKE '%infinity%' ORDER BY n, value COLLATE "C" \gexec
\o
\set VERBOSITY default
:clean_up
