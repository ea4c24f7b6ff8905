-- What a storm needs beside the built-in schema with its data: what clients do, each in
-- a function that gives up where somebody else was faster; a book of what they have done;
-- and a view of every promise that is broken.

-- As many rows of a table have come, or gone by hand
CREATE TABLE booked (tab text, rows bigint);
-- What was said of an account last: it is due at that time, or not any more (null)
CREATE TABLE said (n bigserial, account uuid, due timestamptz);
CREATE TABLE hold_said (n bigserial, account uuid, is_held boolean);
CREATE TABLE deleted_by_hand (account uuid);

ALTER TABLE user_consent ALTER CONSTRAINT user_consent_user_id_fkey DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE invoices (id bigserial PRIMARY KEY, user_id uuid NOT NULL REFERENCES profiles);
CREATE INDEX ON invoices (user_id);
CREATE SEQUENCE accounts;
SELECT setval('accounts', count(*)) FROM profiles;

CREATE VIEW counted AS
SELECT 'profiles' AS tab, count(*) AS rows FROM profiles
UNION ALL SELECT 'check_ins', count(*) FROM check_ins
UNION ALL SELECT 'crisis_plan', count(*) FROM crisis_plan
UNION ALL SELECT 'clinical_notes', count(*) FROM clinical_notes
UNION ALL SELECT 'therapist_patients', count(*) FROM therapist_patients
UNION ALL SELECT 'user_consent', count(*) FROM user_consent;
INSERT INTO booked TABLE counted;
INSERT INTO said (account, due) SELECT id, deletion_scheduled_at FROM profiles;

-- Any account, by a number between 0 and 1; most of them the last ones, so that clients meet
CREATE FUNCTION some_account(r float8) RETURNS uuid LANGUAGE sql AS
$$ SELECT md5('account ' || greatest(1, last_value - floor(r * r * r * 300)::bigint))::uuid FROM accounts $$;

CREATE FUNCTION add_account() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    id uuid := md5('account ' || nextval('accounts'))::uuid;
BEGIN
    INSERT INTO profiles (id, email) VALUES (id, id || '@example.org');
    INSERT INTO said (account) VALUES (id);
    INSERT INTO check_ins (user_id) SELECT id FROM generate_series(1, 3);
    INSERT INTO user_consent (user_id, consent_type, version, granted) VALUES (id, 'terms', 1, true);
    INSERT INTO booked VALUES ('profiles', 1), ('check_ins', 3), ('user_consent', 1);
END
$$;

CREATE FUNCTION add_rows(a uuid, b uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO check_ins (user_id) VALUES (a), (a);
    INSERT INTO clinical_notes (patient_id, therapist_id, note_text) VALUES (a, b, 'x'), (b, a, 'x');
    INSERT INTO user_consent (user_id, consent_type, version, granted) VALUES (b, 'terms', 1, true);
    SET CONSTRAINTS ALL IMMEDIATE;
    INSERT INTO booked VALUES ('check_ins', 2), ('clinical_notes', 2), ('user_consent', 1);
EXCEPTION WHEN foreign_key_violation THEN
END
$$;

-- Rows of one go to the other, and some the other way
CREATE FUNCTION move_rows(a uuid, b uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE check_ins SET user_id = b WHERE id IN (SELECT id FROM check_ins WHERE user_id = a LIMIT 2);
    UPDATE clinical_notes SET therapist_id = a WHERE id IN (SELECT id FROM clinical_notes WHERE patient_id = b LIMIT 2);
    UPDATE check_ins SET user_id = a WHERE id IN (SELECT id FROM check_ins WHERE user_id = b LIMIT 1);
EXCEPTION WHEN foreign_key_violation THEN
END
$$;

-- Two accounts are due then, or not (null), in whatever order: some meet in a deadlock
CREATE FUNCTION say(a uuid, b uuid, due timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    account uuid;
BEGIN
    FOREACH account IN ARRAY ARRAY[a, b] LOOP
        UPDATE profiles SET deletion_scheduled_at = due WHERE id = account;
        IF FOUND THEN
            INSERT INTO said (account, due) VALUES (account, due);
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION cancel(a uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM cancel_account_deletion(a::text);
    INSERT INTO said (account) VALUES (a);
EXCEPTION WHEN no_data_found THEN
END
$$;

CREATE FUNCTION hold(a uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hold_account(a::text, 'case');
    INSERT INTO hold_said (account, is_held) VALUES (a, true);
EXCEPTION WHEN no_data_found THEN
END
$$;

CREATE FUNCTION release(a uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF release_account(a::text) THEN
        INSERT INTO hold_said (account, is_held) VALUES (a, false);
    END IF;
EXCEPTION WHEN no_data_found THEN
END
$$;

CREATE FUNCTION add_invoice(a uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO invoices (user_id) VALUES (a);
EXCEPTION WHEN foreign_key_violation THEN
END
$$;

CREATE FUNCTION delete_by_hand(a uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM profiles WHERE id = a FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH c AS (DELETE FROM check_ins WHERE user_id = a RETURNING 1),
         p AS (DELETE FROM crisis_plan WHERE user_id = a RETURNING 1),
         n AS (DELETE FROM clinical_notes WHERE a IN (patient_id, therapist_id) RETURNING 1),
         t AS (DELETE FROM therapist_patients WHERE a IN (patient_id, therapist_id) RETURNING 1),
         u AS (DELETE FROM user_consent WHERE user_id = a RETURNING 1)
    INSERT INTO booked
    SELECT 'check_ins', -count(*) FROM c UNION ALL SELECT 'crisis_plan', -count(*) FROM p
    UNION ALL SELECT 'clinical_notes', -count(*) FROM n UNION ALL SELECT 'therapist_patients', -count(*) FROM t
    UNION ALL SELECT 'user_consent', -count(*) FROM u;
    DELETE FROM invoices WHERE user_id = a;
    DELETE FROM profiles WHERE id = a;
    INSERT INTO booked VALUES ('profiles', -1);
    INSERT INTO deleted_by_hand VALUES (a);
END
$$;

-- Rows that prove a broken promise; none, if all is well
CREATE VIEW broken_promises AS
WITH gone AS (SELECT user_id AS id, details, created_at FROM audit_log WHERE action = 'hard_deleted'),
     last_said AS (SELECT DISTINCT ON (account) account, due FROM said ORDER BY account, n DESC),
     last_hold AS (SELECT DISTINCT ON (account) account, is_held FROM hold_said ORDER BY account, n DESC)
SELECT 'orphan in ' || tab AS promise, id
FROM (SELECT 'check_ins', user_id FROM check_ins
      UNION ALL SELECT 'crisis_plan', user_id FROM crisis_plan
      UNION ALL SELECT 'clinical_notes', patient_id FROM clinical_notes
      UNION ALL SELECT 'clinical_notes', therapist_id FROM clinical_notes
      UNION ALL SELECT 'therapist_patients', patient_id FROM therapist_patients
      UNION ALL SELECT 'therapist_patients', therapist_id FROM therapist_patients
      UNION ALL SELECT 'user_consent', user_id FROM user_consent
      UNION ALL SELECT 'invoices', user_id FROM invoices) AS child (tab, id)
WHERE NOT EXISTS (SELECT FROM profiles AS p WHERE p.id = child.id)
UNION ALL
SELECT 'audited, and there', id FROM gone WHERE EXISTS (SELECT FROM profiles AS p WHERE p.id = gone.id)
UNION ALL
SELECT 'audited twice', id FROM gone GROUP BY id HAVING count(*) > 1
UNION ALL
SELECT 'gone without an audit row', account FROM last_said
WHERE NOT EXISTS (SELECT FROM profiles AS p WHERE p.id = account) AND account NOT IN (SELECT id FROM gone)
    AND account NOT IN (TABLE deleted_by_hand)
UNION ALL
SELECT 'was not due', id FROM gone JOIN last_said ON account = id
WHERE (details ->> 'deletion_scheduled_at')::timestamptz IS DISTINCT FROM due OR due > created_at
UNION ALL
SELECT 'was on hold', id FROM gone JOIN last_hold ON account = id WHERE is_held
UNION ALL
SELECT format('%s rows of %s, not %s', max(c.rows), tab, sum(b.rows)), NULL
FROM counted AS c
JOIN (SELECT tab, rows FROM booked
      UNION ALL SELECT key, -value::bigint FROM gone, jsonb_each_text(details -> 'deleted_records')) AS b USING (tab)
GROUP BY tab HAVING max(c.rows) <> sum(b.rows);
