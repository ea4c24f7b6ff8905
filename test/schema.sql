-- The schema that the built-in policy serves.  The names are not qualified: the
-- tables are made in the first schema of the search_path.
--
-- The application these tables come from has row-level security on most of
-- them.  It is left out here: the job runs as a role that it does not apply to.

CREATE TABLE profiles (
    id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email                 text NOT NULL,
    role                  text NOT NULL DEFAULT 'patient'
                          CHECK (role IN ('patient', 'therapist', 'admin')),
    created_at            timestamptz NOT NULL DEFAULT now(),
    deletion_scheduled_at timestamptz,  -- when the grace period ends; NULL: not asked for
    deleted_at            timestamptz,  -- set: finished by other means, nothing left to do
    deletion_token        uuid          -- the link by which the person can cancel
);

CREATE INDEX ON profiles (deletion_scheduled_at) WHERE deletion_scheduled_at IS NOT NULL;

CREATE TABLE check_ins (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id      uuid NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    checkin_date timestamptz NOT NULL DEFAULT now(),
    mood         smallint CHECK (mood BETWEEN 1 AND 10),
    sleep_hours  numeric(3, 1),
    note         text
);

CREATE INDEX ON check_ins (user_id);

CREATE TABLE crisis_plan (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id            uuid NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    warning_signs      jsonb NOT NULL DEFAULT '[]',
    coping_strategies  jsonb NOT NULL DEFAULT '[]',
    emergency_contacts jsonb NOT NULL DEFAULT '[]',
    updated_at         timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ON crisis_plan (user_id);

CREATE TABLE clinical_notes (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    patient_id   uuid NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    therapist_id uuid NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    note_text    text NOT NULL,
    session_date timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ON clinical_notes (patient_id);
CREATE INDEX ON clinical_notes (therapist_id);

CREATE TABLE therapist_patients (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    therapist_id uuid NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    patient_id   uuid NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    status       text NOT NULL DEFAULT 'active' CHECK (status IN ('pending', 'active', 'ended')),
    assigned_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (therapist_id, patient_id)
);

CREATE INDEX ON therapist_patients (therapist_id);
CREATE INDEX ON therapist_patients (patient_id);

CREATE TABLE user_consent (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id      uuid NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    consent_type text NOT NULL,
    version      integer NOT NULL,
    granted      boolean NOT NULL,
    granted_at   timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ON user_consent (user_id);

-- What was done to an account outlives it, so nothing here points at profiles.
CREATE TABLE audit_log (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id      uuid,
    action       text NOT NULL,
    details      jsonb,
    performed_by uuid,                  -- NULL: the system
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ON audit_log (user_id);
