-- Sessions that move rows while runs are at work: what they do, the book that they keep of
-- it, and what must be true afterwards.  A psql script, after model.sql.
--
-- Who is deleted depends on who was faster.  But by the book, it is known what each row
-- refers to at the end, and what the deleted ones did; so it is known which rows must have
-- gone with the accounts that are gone, and what must be left; but not with which of two
-- accounts a row was counted that went from one to the other meanwhile.
--
-- Rows that refer to each other in a circle, once collected, are deleted together even if
-- what led to them is moved meanwhile.  So there is no circle: a row refers to earlier ones.
--
-- Where there is no foreign key, only the lock on an account keeps a row from being moved
-- to one that is gone, so rows are moved to accounts there, and to nothing else.

-- The row child refers by that edge to the row parent (null: to none); or, without an edge,
-- its key has changed.  content: of the child
CREATE TABLE model.moved (n bigserial, edge integer, child integer, parent integer, content jsonb);
CREATE TABLE model.mover (is_ready boolean);
CREATE TABLE model.stop (all_of_them boolean);
CREATE TABLE model.report (report jsonb);

-- By which edges rows can be moved
CREATE VIEW model.movable AS
SELECT e.*, is_parent AND by_key AS is_only
FROM model.edge AS e JOIN model.tab ON tab = child
WHERE effect <> 'none' AND child NOT IN ('acct', 'login')
    AND (parent = 'acct'
         OR EXISTS (SELECT FROM pg_constraint AS c
                    WHERE contype = 'f' AND conrelid = format('s.%I', child)::regclass
                        AND columns = ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS k (num, n)
                                            JOIN pg_attribute ON attrelid = conrelid AND attnum = num ORDER BY n)));

CREATE PROCEDURE model.break_circles() LANGUAGE plpgsql AS $$
DECLARE
    e model.edge;
BEGIN
    FOR e IN SELECT * FROM model.edge WHERE child NOT IN ('acct', 'login') LOOP
        EXECUTE format('UPDATE s.%I AS c SET %s FROM s.%I AS p WHERE %s AND p.rid >= c.rid', e.child,
                       (SELECT string_agg(format('%I = NULL', c), ', ') FROM unnest(e.columns) AS c), e.parent,
                       (SELECT string_agg(format('c.%I = p.%I', c, p), ' AND ') FROM unnest(e.columns, e.parent_columns) AS pair (c, p)));
    END LOOP;
END
$$;

-- Any row of a table, rather of those that are due
CREATE FUNCTION model.some_row(tab text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    result integer;
BEGIN
    EXECUTE format('SELECT rid FROM s.%I AS t ORDER BY $1 AND EXISTS (
                        SELECT FROM model.owner AS o JOIN model.account_before AS a ON a.rid = o.account
                        WHERE o.rid = t.rid AND a.due AND NOT a.held) DESC, random() LIMIT 1', tab)
    INTO result USING random() < 0.6;
    RETURN result;
END
$$;

CREATE FUNCTION model.move_row(e model.movable) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    child_rid integer := model.some_row(e.child);
    parent_rid integer := CASE WHEN random() < 0.9 THEN model.some_row(e.parent) END;
    moved jsonb;
BEGIN
    IF e.parent = 'acct' THEN
        PERFORM FROM s.acct WHERE rid = parent_rid FOR KEY SHARE;
    END IF;
    EXECUTE format('UPDATE %s s.%I AS c SET %s %s RETURNING to_jsonb(c)', CASE WHEN e.is_only THEN 'ONLY' ELSE '' END, e.child,
                   (SELECT string_agg(format('%I = %s', c, CASE WHEN parent_rid IS NULL THEN 'NULL' ELSE format('p.%I', p) END), ', ')
                    FROM unnest(e.columns, e.parent_columns) AS pair (c, p)),
                   CASE WHEN parent_rid IS NULL THEN 'WHERE c.rid = $1'
                        ELSE format('FROM s.%I AS p WHERE c.rid = $1 AND p.rid = $2 AND p.rid < c.rid', e.parent) END)
    INTO moved USING child_rid, parent_rid;
    IF moved IS NOT NULL THEN
        INSERT INTO model.moved (edge, child, parent, content) VALUES (e.edge, child_rid, parent_rid, moved);
    END IF;
END
$$;

-- To another partition, if nothing refers to it
CREATE FUNCTION model.move_partition() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    tab text;
    type text;
    child_rid integer;
    moved jsonb;
BEGIN
    SELECT t.tab, format_type(atttypid, atttypmod) INTO tab, type
    FROM model.tab AS t JOIN pg_class AS c ON c.oid = format('s.%I', t.tab)::regclass JOIN pg_attribute ON attrelid = c.oid AND attname = 'k1'
    WHERE relkind = 'p' AND t.tab NOT IN ('acct', 'login') AND NOT EXISTS (SELECT FROM model.edge AS e WHERE e.parent = t.tab)
    ORDER BY random() LIMIT 1;
    IF FOUND THEN
        child_rid := model.some_row(tab);
        EXECUTE format('UPDATE s.%I AS c SET k1 = %L WHERE rid = $1 RETURNING to_jsonb(c)', tab,
                       CASE type WHEN 'integer' THEN (1000 + 1e6 * random())::integer::text
                                 WHEN 'uuid' THEN gen_random_uuid()::text ELSE 'moved ' || random() END)
        INTO moved USING child_rid;
        INSERT INTO model.moved (child, content) SELECT child_rid, moved WHERE moved IS NOT NULL;
    END IF;
END
$$;

-- Move rows until there is something in model.stop; most of all where the parent is not an
-- account, which a run locks.  One that is slow keeps such parents locked, so that a run
-- waits for it in its middle, while others can put rows under them.
CREATE PROCEDURE model.move_rows(is_slow boolean) LANGUAGE plpgsql AS $$
DECLARE
    movable model.movable[] := ARRAY(SELECT m FROM model.movable AS m ORDER BY parent = 'acct');
    n integer := (SELECT count(*) FROM model.movable WHERE parent <> 'acct');
    e model.movable;
BEGIN
    INSERT INTO model.mover VALUES (true);
    COMMIT;
    WHILE NOT EXISTS (SELECT FROM model.stop) AND movable <> '{}' LOOP
        FOR i IN 1 .. 1 + floor(3 * random()) LOOP
            e := movable[1 + floor(random() * CASE WHEN n > 0 AND random() < 0.7 THEN n ELSE cardinality(movable) END)];
            BEGIN
                IF is_slow AND random() < 0.7 AND e.parent <> 'acct' THEN
                    EXECUTE format('SELECT FROM s.%I WHERE rid = ANY ($1) FOR NO KEY UPDATE', e.parent)
                    USING ARRAY(SELECT model.some_row(e.parent) FROM generate_series(1, 8));
                ELSIF random() < 0.1 THEN
                    PERFORM model.move_partition();
                ELSE
                    PERFORM model.move_row(e);
                END IF;
                SET CONSTRAINTS ALL IMMEDIATE;
            EXCEPTION WHEN integrity_constraint_violation OR raise_exception OR deadlock_detected OR serialization_failure THEN
            END;
        END LOOP;
        IF is_slow THEN
            PERFORM pg_sleep(0.02 * random());
        END IF;
        COMMIT;
    END LOOP;
END
$$;

-- What the book says takes the place of what there was before
CREATE PROCEDURE model.look_into_book() LANGUAGE plpgsql AS $$
BEGIN
    UPDATE model.before AS b SET content = m.content
    FROM (SELECT DISTINCT ON (child) child, content FROM model.moved ORDER BY child, n DESC) AS m WHERE m.child = b.rid;
    DELETE FROM model.ref AS r USING model.moved AS m WHERE (m.edge, m.child) = (r.edge, r.child);
    INSERT INTO model.ref
    SELECT m.edge, m.child, m.parent
    FROM (SELECT DISTINCT ON (edge, child) * FROM model.moved WHERE edge IS NOT NULL ORDER BY edge, child, n DESC) AS m
    JOIN model.edge AS e USING (edge)
    WHERE m.parent IS NOT NULL AND (e.kind IS NULL OR m.content ->> 'kind' = e.kind);
    CALL model.find_owners();
END
$$;

-- What is wrong after runs with these reports
CREATE FUNCTION model.moved_differences(reports jsonb[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    gone integer[] := ARRAY(SELECT rid FROM model.account_before EXCEPT SELECT rid FROM model.account);
    report jsonb := jsonb_build_object(
        'users_deleted', (SELECT sum((r ->> 'users_deleted')::bigint) FROM unnest(reports) AS r),
        'total_records_deleted', (SELECT jsonb_object_agg(k, n) FROM (
            SELECT k, sum(v::bigint) AS n FROM unnest(reports) AS r, jsonb_each_text(r -> 'total_records_deleted') AS t (k, v) GROUP BY k) AS t));
BEGIN
    RETURN QUERY SELECT CASE WHEN held THEN 'was on hold: ' ELSE 'was not due: ' END || key
        FROM model.account_before WHERE rid = ANY (gone) AND (held OR NOT due);
    RETURN QUERY SELECT format('row %s of %s trips', rid, tab)
        FROM model.before WHERE rid = ANY (model.doomed(gone)) AND content ->> 'bad' IN ('raise', 'keep', 'late');
    RETURN QUERY SELECT DISTINCT format('row %s of %s led to %s, who is on hold', r.child, e.child, a.key)
        FROM model.ref AS r JOIN model.edge AS e USING (edge) JOIN model.account_before AS a ON a.rid = r.parent
        WHERE r.child = ANY (model.doomed(gone)) AND e.effect IN ('delete', 'keep', 'block') AND e.child <> 'acct' AND a.held;
    RETURN QUERY SELECT format('%s accounts are counted, not %s', report -> 'users_deleted', cardinality(gone))
        WHERE (report ->> 'users_deleted')::bigint <> cardinality(gone);
    RETURN QUERY SELECT * FROM model.row_differences(report, gone);
END
$$;
