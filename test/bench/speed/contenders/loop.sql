-- Account by account in PL/pgSQL: one that fails is rolled back, and the others go on
DO $$
DECLARE
    account record;
    check_ins bigint;
    crisis_plan bigint;
    notes bigint;
    notes_written bigint;
    therapists bigint;
    patients bigint;
    consents bigint;
    failed bigint := 0;
BEGIN
    FOR account IN
        SELECT id, deletion_scheduled_at FROM profiles
        WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL
        FOR UPDATE SKIP LOCKED
    LOOP
        BEGIN
            DELETE FROM check_ins WHERE user_id = account.id;
            GET DIAGNOSTICS check_ins = ROW_COUNT;
            DELETE FROM crisis_plan WHERE user_id = account.id;
            GET DIAGNOSTICS crisis_plan = ROW_COUNT;
            DELETE FROM clinical_notes WHERE patient_id = account.id;
            GET DIAGNOSTICS notes = ROW_COUNT;
            DELETE FROM clinical_notes WHERE therapist_id = account.id;
            GET DIAGNOSTICS notes_written = ROW_COUNT;
            DELETE FROM therapist_patients WHERE patient_id = account.id;
            GET DIAGNOSTICS therapists = ROW_COUNT;
            DELETE FROM therapist_patients WHERE therapist_id = account.id;
            GET DIAGNOSTICS patients = ROW_COUNT;
            DELETE FROM user_consent WHERE user_id = account.id;
            GET DIAGNOSTICS consents = ROW_COUNT;
            DELETE FROM profiles WHERE id = account.id;
            INSERT INTO audit_log (user_id, action, details)
            VALUES (account.id, 'hard_deleted', jsonb_build_object(
                'deletion_scheduled_at', account.deletion_scheduled_at,
                'deleted_records', jsonb_strip_nulls(jsonb_build_object(
                    'profiles', 1,
                    'check_ins', nullif(check_ins, 0),
                    'crisis_plan', nullif(crisis_plan, 0),
                    'clinical_notes', nullif(notes + notes_written, 0),
                    'therapist_patients', nullif(therapists + patients, 0),
                    'user_consent', nullif(consents, 0)))));
        EXCEPTION WHEN OTHERS THEN
            failed := failed + 1;
        END;
    END LOOP;
    RAISE NOTICE '% accounts failed', failed;
END
$$;
