-- Fill the tables of schema.sql.  A psql script:
--
--     psql -f schema.sql -v accounts=100000 -v due=10000 -f generate.sql
--
-- The same settings give the same rows each time, but for the times, which are
-- relative to now().  Every id is the md5 of its kind and number, as in
-- md5('account 17').  The defaults come to some sixty rows an account.

\if :{?accounts}  \else \set accounts 100  \endif
-- Of these accounts: to be deleted now; still in their grace period; asked and
-- changed their mind; finished long ago, which the job must leave alone.
\if :{?due}       \else \set due 10        \endif
\if :{?pending}   \else \set pending 5     \endif
\if :{?cancelled} \else \set cancelled 3   \endif
\if :{?erased}    \else \set erased 2      \endif
-- Rows for each patient, the last for each account.
\if :{?check_ins} \else \set check_ins 30  \endif
\if :{?notes}     \else \set notes 8       \endif
\if :{?consents}  \else \set consents 18   \endif

-- Each account has a number, which is the order it signed up in, and a rank,
-- which decides what it is; the ranks are shuffled, so that the due accounts
-- lie scattered over the tables, as they would.  One account in twenty is a
-- therapist, and of the due ones at least two.
CREATE TEMPORARY TABLE generated_account AS
SELECT n, id, rank, role,
       CASE role WHEN 'therapist' THEN row_number() OVER (PARTITION BY role ORDER BY rank) END AS therapist,
       CASE WHEN rank <= :due                                   THEN 'due'
            WHEN rank <= :due + :pending                        THEN 'pending'
            WHEN rank <= :due + :pending + :cancelled           THEN 'cancelled'
            WHEN rank <= :due + :pending + :cancelled + :erased THEN 'erased'
       END AS state
FROM (SELECT n, md5('account ' || n)::uuid AS id,
             row_number() OVER (ORDER BY md5('rank ' || n)) AS rank
      FROM generate_series(1, :accounts) AS n) AS numbered,
     LATERAL (SELECT CASE WHEN rank IN (2, 5) OR rank % 20 = 0
                          THEN 'therapist' ELSE 'patient' END AS role) AS roles;
ANALYZE generated_account;

-- The due accounts became due seven minutes apart, the first rank last.
INSERT INTO profiles (id, email, role, created_at, deletion_scheduled_at, deleted_at, deletion_token)
SELECT id, 'account' || n || '@example.org', role,
       now() - interval '2 years' + n * interval '1 year' / :accounts,
       CASE state
           WHEN 'due'     THEN now() - rank * interval '7 minutes'
           WHEN 'pending' THEN now() + (rank - :due) * interval '14 days' / (:pending + 1)
           WHEN 'erased'  THEN now() - interval '90 days' - rank * interval '7 minutes'
       END,
       CASE state WHEN 'erased' THEN now() - interval '89 days' END,
       CASE WHEN state IN ('due', 'pending') THEN md5('token ' || n)::uuid END
FROM generated_account
ORDER BY n;

-- Written day by day, so that one person's rows lie far apart.
INSERT INTO check_ins (id, user_id, checkin_date, mood, sleep_hours, note)
SELECT md5('check-in ' || n || ' ' || day)::uuid, id,
       now() - (:check_ins - day) * interval '1 day',
       1 + (n + 3 * day) % 10, 4 + (n + day) % 11 / 2.0,
       CASE WHEN (n + day) % 5 = 0 THEN 'Walked to work, slept a little better than yesterday.' END
FROM generated_account, generate_series(1, :check_ins) AS day
WHERE role = 'patient'
ORDER BY day, n;

INSERT INTO crisis_plan (id, user_id, warning_signs, coping_strategies, emergency_contacts)
SELECT md5('crisis plan ' || n)::uuid, id,
       '["not sleeping", "not answering messages"]', '["call someone", "go outside"]',
       jsonb_build_array(jsonb_build_object('name', 'Contact ' || n))
FROM generated_account
WHERE role = 'patient'
ORDER BY n;

-- Two therapists for each patient, taking turns.  Some therapists are their own
-- patient: both columns of such a row name one account.
CREATE TEMPORARY TABLE generated_pair AS
SELECT p.n, p.id AS patient_id, t.id AS therapist_id, nth
FROM generated_account AS p, generated_account AS t, generate_series(0, 1) AS nth,
     (SELECT nullif(count(therapist), 0) AS therapists FROM generated_account) AS total
WHERE p.role = 'patient' AND t.therapist = 1 + (p.n + nth) % therapists
UNION ALL
SELECT n, id, id, nth
FROM generated_account, generate_series(0, 1) AS nth
WHERE therapist % 5 = 1;

INSERT INTO therapist_patients (id, therapist_id, patient_id, status, assigned_at)
SELECT md5('pair ' || n || ' ' || nth)::uuid, therapist_id, patient_id,
       CASE nth WHEN 0 THEN 'active' ELSE 'ended' END, now() - (nth + 1) * interval '90 days'
FROM generated_pair
ORDER BY n, nth
ON CONFLICT DO NOTHING;  -- both turns are the same therapist's

INSERT INTO clinical_notes (id, patient_id, therapist_id, note_text, session_date)
SELECT md5('note ' || n || ' ' || session)::uuid, patient_id, therapist_id,
       'Session ' || session || '. ' || repeat('Talked about the week and what helped. ', 3),
       now() - (:notes - session) * interval '7 days'
FROM generated_pair, generate_series(1, :notes) AS session
WHERE nth = session % 2
ORDER BY session, n;

INSERT INTO user_consent (id, user_id, consent_type, version, granted, granted_at)
SELECT md5('consent ' || n || ' ' || consent)::uuid, id,
       (ARRAY['terms', 'privacy', 'research', 'e-mail', 'telemetry', 'sharing'])[1 + consent % 6],
       1 + consent / 6, (n + consent) % 4 > 0, now() - (:consents - consent) * interval '30 days'
FROM generated_account, generate_series(0, :consents - 1) AS consent
ORDER BY n, consent;

INSERT INTO audit_log (id, user_id, action, details, performed_by, created_at)
SELECT md5(action || ' ' || n)::uuid, id, action, '{}', id, now() - age
FROM generated_account,
     (VALUES ('delete_requested', interval '15 days'), ('delete_cancelled', interval '10 days'))
         AS event (action, age)
WHERE state = 'cancelled' OR (state IN ('due', 'pending') AND action = 'delete_requested')
ORDER BY age DESC, n;

DROP TABLE generated_pair, generated_account;

ANALYZE profiles, check_ins, crisis_plan, clinical_notes, therapist_patients, user_consent, audit_log;
