-- What must be left of a random schema, and what the report must say: a model that knows
-- nothing of plans, batches and statements, but rows and how they refer to each other.
-- A psql script; the tables are filled by what generate.pl prints.
--
-- Each row of each table has a number of its own, rid.  A ref is a row that refers to
-- another one by one of the schema's edges, and an edge has the effect that the foreign
-- key or the step says:
--
--     delete   it goes with what it refers to; a row of the account table does not, but
--              keeps that from going
--     block    it keeps what it refers to from going, unless it goes too
--     null     its columns are set to null, unless it goes
--     default  the same, to their defaults
--     keep     it stays as it is
--
-- An account owns all rows from which edges that delete lead to it, other accounts'
-- own rows left aside.  A row that leads to one of an account on hold, by an edge that
-- would delete or keep it or be stopped by it, has to stay.

CREATE EXTENSION scheduled_deletion;
CREATE EXTENSION citext;
CREATE SCHEMA model;
CREATE DOMAIN model.positive AS integer CHECK (VALUE > 0);
CREATE COLLATION model.lax (provider = icu, locale = 'und-u-ks-level2', deterministic = false);

SELECT 'CREATE ROLE job BYPASSRLS' WHERE to_regrole('job') IS NULL \gexec
GRANT EXECUTE ON FUNCTION process_scheduled_deletions TO job;
GRANT EXECUTE ON PROCEDURE run_scheduled_deletions TO job;

-- What keeps a row
CREATE FUNCTION model.trip() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.bad = 'raise' THEN
        RAISE 'row % trips', OLD.rid;
    END IF;
    RETURN CASE WHEN OLD.bad = 'keep' THEN NULL ELSE OLD END;
END
$$;
CREATE FUNCTION model.late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.bad = 'late' THEN
        RAISE 'row % is needed', OLD.rid;
    END IF;
    RETURN NULL;
END
$$;

CREATE TABLE model.edge (edge integer PRIMARY KEY, child text, columns text[], parent text, parent_columns text[],
                         effect text, by_key boolean, defaults jsonb,
                         kind text);  -- if only rows of that kind count

-- of the account table; key: as text
CREATE VIEW model.account AS SELECT NULL::integer AS rid, NULL::text AS key, NULL::boolean AS due, NULL::boolean AS held;

CREATE TABLE model.before (rid integer PRIMARY KEY, tab text, content jsonb);
CREATE TABLE model.account_before (rid integer PRIMARY KEY, key text, due boolean, held boolean);
CREATE TABLE model.ref (edge integer, child integer, parent integer);
CREATE TABLE model.owner (account integer, rid integer, PRIMARY KEY (account, rid));

-- All rows as they are now
CREATE FUNCTION model.rows_now() RETURNS TABLE (rid integer, tab text, content jsonb) LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT t.tab FROM model.tab AS t LOOP
        RETURN QUERY EXECUTE format('SELECT t.rid, %L, to_jsonb(t) FROM s.%I AS t', name, name);
    END LOOP;
END
$$;
CREATE TABLE model.tab (tab text PRIMARY KEY, is_parent boolean);

-- Take down what there is before the runs
CREATE PROCEDURE model.look() LANGUAGE plpgsql AS $$
DECLARE
    this model.edge;
BEGIN
    TRUNCATE model.before, model.account_before, model.ref;
    INSERT INTO model.before SELECT * FROM model.rows_now();
    INSERT INTO model.account_before SELECT * FROM model.account;
    FOR this IN SELECT * FROM model.edge WHERE effect <> 'none' LOOP
        EXECUTE format('INSERT INTO model.ref SELECT %s, c.rid, p.rid FROM %s s.%I AS c JOIN s.%I AS p ON %s %s',
                       this.edge,
                       (SELECT CASE WHEN is_parent AND this.by_key THEN 'ONLY' ELSE '' END FROM model.tab WHERE tab = this.child),
                       this.child, this.parent,
                       (SELECT string_agg(format('c.%I = p.%I', c, p), ' AND ')
                        FROM unnest(this.columns, this.parent_columns) AS pair (c, p)),
                       'AND c.kind = ' || quote_literal(this.kind));
    END LOOP;

    CALL model.find_owners();
END
$$;

-- Which rows are whose, by the refs
CREATE PROCEDURE model.find_owners() LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    TRUNCATE model.owner;
    INSERT INTO model.owner SELECT rid, rid FROM model.account_before;
    LOOP
        INSERT INTO model.owner
        SELECT DISTINCT o.account, r.child
        FROM model.owner AS o JOIN model.ref AS r ON r.parent = o.rid JOIN model.edge AS e USING (edge)
        WHERE e.effect = 'delete' AND e.child <> 'acct'
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS n = ROW_COUNT;
        EXIT WHEN n = 0;
    END LOOP;
END
$$;

-- The rows that go with accounts
CREATE FUNCTION model.doomed(accounts integer[]) RETURNS integer[] LANGUAGE sql AS
$$ SELECT coalesce(array_agg(DISTINCT rid), '{}') FROM model.owner WHERE account = ANY (accounts) $$;

-- Of some accounts, the most that can go together
CREATE FUNCTION model.can_go(accounts integer[]) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    doomed integer[];
    stopped integer[];
BEGIN
    LOOP
        doomed := model.doomed(accounts);
        SELECT array_agg(DISTINCT o.account) INTO stopped
        FROM model.owner AS o JOIN model.before AS b USING (rid)
        WHERE o.account = ANY (accounts)
            AND (b.content ->> 'bad' IN ('raise', 'keep', 'late')
                 OR EXISTS (SELECT FROM model.ref AS r JOIN model.edge AS e USING (edge)
                                JOIN model.owner AS other ON other.rid = r.parent
                                JOIN model.account_before AS a ON a.rid = other.account
                            WHERE r.child = o.rid AND e.effect IN ('delete', 'keep', 'block') AND e.child <> 'acct' AND a.held)
                 OR EXISTS (SELECT FROM model.ref AS r JOIN model.edge AS e USING (edge)
                            WHERE r.parent = o.rid AND r.child <> ALL (doomed)
                                AND (e.effect = 'block' OR e.effect = 'delete' AND e.child = 'acct'
                                     OR e.effect IN ('null', 'default') AND NOT model.can_be_set(e))));
        EXIT WHEN stopped IS NULL;
        accounts := ARRAY(SELECT a FROM unnest(accounts) AS a WHERE a <> ALL (stopped));
    END LOOP;
    RETURN accounts;
END
$$;

-- Can the columns of an edge be set to null, or to their defaults?
CREATE FUNCTION model.can_be_set(e model.edge) RETURNS boolean LANGUAGE sql AS $$
    SELECT NOT EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE attrelid = format('s.%I', e.child)::regclass AND attname = ANY (e.columns) AND attnotnull
            AND (e.effect = 'null' OR coalesce(e.defaults -> attname::text, 'null') = 'null'))
$$;

-- What is to be there when accounts have gone
CREATE FUNCTION model.rows_after(accounts integer[]) RETURNS TABLE (rid integer, tab text, content jsonb) LANGUAGE sql AS $$
    WITH changed AS (
        SELECT r.child AS rid, jsonb_object_agg(c, CASE e.effect WHEN 'default' THEN coalesce(e.defaults -> c, 'null') ELSE 'null' END) AS content
        FROM model.ref AS r JOIN model.edge AS e USING (edge), unnest(e.columns) AS c
        WHERE r.parent = ANY (model.doomed(accounts)) AND e.effect IN ('null', 'default')
        GROUP BY r.child
    )
    SELECT b.rid, b.tab, b.content || coalesce(changed.content, '{}')
    FROM model.before AS b LEFT JOIN changed USING (rid)
    WHERE b.rid <> ALL (model.doomed(accounts))
$$;

-- What is wrong with the rows, and with how they were counted, when accounts are gone
CREATE FUNCTION model.row_differences(report jsonb, gone integer[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    -- rows
    RETURN QUERY SELECT format('row %s of %s is there', a.rid, a.tab)
        FROM model.rows_now() AS a LEFT JOIN model.rows_after(gone) AS e USING (rid) WHERE e.rid IS NULL;
    RETURN QUERY SELECT format('row %s of %s is not there', e.rid, e.tab)
        FROM model.rows_after(gone) AS e LEFT JOIN model.rows_now() AS a USING (rid) WHERE a.rid IS NULL;
    RETURN QUERY SELECT format('row %s of %s is %s, not %s', e.rid, e.tab, a.content, e.content)
        FROM model.rows_after(gone) AS e JOIN model.rows_now() AS a USING (rid) WHERE a.content <> e.content;

    -- how many
    RETURN QUERY SELECT format('%s rows of %s are counted, not %s', coalesce(c.n, 0), tab, coalesce(e.n, 0))
        FROM (SELECT tab, count(*) AS n FROM model.before WHERE rid = ANY (model.doomed(gone)) GROUP BY tab) AS e
        FULL JOIN (SELECT replace(k, 's.', '') AS tab, v::bigint AS n
                   FROM jsonb_each_text(report -> 'total_records_deleted') AS t (k, v)) AS c USING (tab)
        WHERE coalesce(c.n, 0) <> coalesce(e.n, 0);

    -- audit rows
    RETURN QUERY SELECT format('%s has %s audit rows, and is %s', coalesce(key, user_id), coalesce(n, 0),
                               CASE WHEN rid = ANY (gone) THEN 'gone' ELSE 'there' END)
        FROM model.account_before
        FULL JOIN (SELECT user_id, count(*) AS n FROM s.audit_log WHERE action = 'hard_deleted' GROUP BY user_id) AS l ON user_id = rtrim(key)
        WHERE rid IS NULL OR coalesce(n, 0) <> (rid = ANY (gone))::integer;
    RETURN QUERY SELECT format('%s rows of %s are in audit rows, and %s in the report', n, k, report -> 'total_records_deleted' -> k)
        FROM (SELECT k, sum(v::bigint) AS n FROM s.audit_log, jsonb_each_text(details -> 'deleted_records') AS d (k, v)
              WHERE action = 'hard_deleted' GROUP BY k) AS c
        WHERE n <> (report -> 'total_records_deleted' ->> k)::bigint;
END
$$;

-- What is wrong after a run; one_batch: it has tried all accounts at once.  If one of
-- them fails, accounts that can only go together may have been tried one by one.
CREATE FUNCTION model.differences(report jsonb, one_batch boolean) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    candidates integer[] := ARRAY(SELECT rid FROM model.account_before WHERE due AND NOT held);
    can_go integer[] := model.can_go(candidates);
    gone integer[] := ARRAY(SELECT rid FROM model.account_before EXCEPT SELECT rid FROM model.account);
    alone integer[] := ARRAY(SELECT a FROM unnest(candidates) AS a WHERE model.can_go(ARRAY[a]) = ARRAY[a]);
BEGIN
    -- who
    RETURN QUERY SELECT 'should have stayed: ' || key FROM model.account_before
        WHERE rid = ANY (gone) AND rid <> ALL (can_go);
    RETURN QUERY SELECT 'should have gone: ' || key FROM model.account_before
        WHERE rid <> ALL (gone) AND rid = ANY (CASE WHEN one_batch AND can_go = candidates THEN can_go ELSE alone END);

    -- the report
    RETURN QUERY SELECT format('%s is %s, not %s', k, report -> k, n)
        FROM (VALUES ('users_deleted', cardinality(gone)),
                     ('users_failed', cardinality(candidates) - cardinality(gone)),
                     ('users_processed', cardinality(candidates)),
                     ('users_skipped', 0), ('users_waiting', 0),
                     ('users_held', (SELECT count(*) FROM model.account_before WHERE due AND held)::integer)) AS e (k, n)
        WHERE (report ->> k)::integer <> n;
    RETURN QUERY SELECT format('%s is reported to have failed: %s', key, f)
        FROM (SELECT f ->> 'user_id' AS key, f FROM jsonb_array_elements(report -> 'errors') AS f) AS f
        FULL JOIN (SELECT key, rid FROM model.account_before WHERE rid = ANY (candidates) AND rid <> ALL (gone)) AS a USING (key)
        WHERE f IS NULL OR a.rid IS NULL;
    RETURN QUERY SELECT format('%s rows of %s are in the audit row of %s, not %s to %s', coalesce(c.n, 0), tab, key, own, most)
        FROM (SELECT rtrim(key) AS key, tab, count(*) FILTER (WHERE NOT shared) AS own, count(*) AS most
              FROM model.account_before AS a JOIN model.owner AS o ON o.account = a.rid JOIN model.before AS b ON b.rid = o.rid,
                   LATERAL (SELECT count(*) > 1 AS shared FROM model.owner AS other
                            WHERE other.rid = o.rid AND other.account = ANY (gone)) AS s
              WHERE a.rid = ANY (gone) GROUP BY key, tab) AS e
        FULL JOIN (SELECT user_id AS key, replace(k, 's.', '') AS tab, v::bigint AS n
                   FROM s.audit_log, jsonb_each_text(details -> 'deleted_records') AS d (k, v)
                   WHERE action = 'hard_deleted') AS c USING (key, tab)
        WHERE coalesce(c.n, 0) NOT BETWEEN coalesce(own, 0) AND coalesce(most, 0);
    RETURN QUERY SELECT * FROM model.row_differences(report, gone);
END
$$;
