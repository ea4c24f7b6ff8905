/* src/scheduled_deletion--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION scheduled_deletion" to load this file. \quit

-- All objects are in the schema that the installing user chose; the C code finds
-- them there by that schema's OID, never by search_path.
--
-- That schema is in the search_path while this runs, after pg_catalog, and others
-- may create there what fits better than what is meant: so a function or operator
-- is written with its schema, unless pg_catalog has one for exactly these types.
--
-- Tables of the user are regclass, which follows a rename and is dumped as a
-- name; beside each stands its name at registration, which only serves to tell
-- which table is gone when it was dropped.  Columns are names: one that is
-- renamed is an error until the policy is told.
--
-- Nobody but the owner may do anything here until it is granted, whatever
-- default privileges say; the C code reads and writes the tables as their owner.

--
-- deletion_policy: what is deleted, and when.  Decided by the operator, so
-- dumped with the database.
--
CREATE TABLE @extschema@.deletion_policy (
    policy text PRIMARY KEY CHECK (policy <> ''),
    account_table regclass NOT NULL,
    account_table_name text NOT NULL,
    key_columns name[] NOT NULL CHECK (pg_catalog.cardinality(key_columns) > 0),
    due_column name NOT NULL,
    grace interval NOT NULL CHECK (grace >= '0'),
    done_column name,
    audit_table regclass NOT NULL,
    audit_table_name text NOT NULL,
    audit_columns jsonb,
    audit_details name[] NOT NULL,
    blocking_keys text NOT NULL CHECK (blocking_keys IN ('fail', 'delete')),
    time_zone text NOT NULL,
    overdue_after interval NOT NULL CHECK (overdue_after >= '0'),
    enabled boolean NOT NULL,
    brake_accounts integer NOT NULL CHECK (brake_accounts >= 0),
    brake_share float8 NOT NULL CHECK (brake_share OPERATOR(pg_catalog.>) 0::float8 AND brake_share OPERATOR(pg_catalog.<=) 1::float8)
);

COMMENT ON TABLE @extschema@.deletion_policy IS
'one row for each deletion policy: its account table, when an account is due, and where audit rows go; written by add_deletion_policy() and alter_deletion_policy()';
COMMENT ON COLUMN @extschema@.deletion_policy.policy IS
'name of the policy';
COMMENT ON COLUMN @extschema@.deletion_policy.account_table IS
'table with one row for each account';
COMMENT ON COLUMN @extschema@.deletion_policy.account_table_name IS
'its name when it was registered';
COMMENT ON COLUMN @extschema@.deletion_policy.key_columns IS
'columns that together name an account: NOT NULL, with a unique constraint';
COMMENT ON COLUMN @extschema@.deletion_policy.due_column IS
'timestamptz, timestamp or date column: an account is due when this time and the grace have passed; null means never';
COMMENT ON COLUMN @extschema@.deletion_policy.grace IS
'how long after the time in the due column an account is due';
COMMENT ON COLUMN @extschema@.deletion_policy.done_column IS
'column that is not null for an account which is to be left alone; null if there is none';
COMMENT ON COLUMN @extschema@.deletion_policy.audit_table IS
'table that gets one row for each deleted account';
COMMENT ON COLUMN @extschema@.deletion_policy.audit_table_name IS
'its name when it was registered';
COMMENT ON COLUMN @extschema@.deletion_policy.audit_columns IS
'what its columns user_id, action, details, performed_by and created_at are called, where they have other names; null for no such column';
COMMENT ON COLUMN @extschema@.deletion_policy.audit_details IS
'columns of the account table whose values are copied into the audit row';
COMMENT ON COLUMN @extschema@.deletion_policy.blocking_keys IS
'foreign keys without an action: ''fail'': they stop the accounts that they lead to; ''delete'': their rows are deleted, too';
COMMENT ON COLUMN @extschema@.deletion_policy.time_zone IS
'time zone in which due columns without one, and the days of the grace, are read';
COMMENT ON COLUMN @extschema@.deletion_policy.overdue_after IS
'how long after it was due an account that is still there is overdue';
COMMENT ON COLUMN @extschema@.deletion_policy.enabled IS
'false: a run leaves the policy out, and one that names it leaves all as it is; one that is under way stops after its batch';
COMMENT ON COLUMN @extschema@.deletion_policy.brake_accounts IS
'how many accounts may be due for a run to delete any; 0: no such limit';
COMMENT ON COLUMN @extschema@.deletion_policy.brake_share IS
'the same as a part of all accounts, where more than a hundred are due; 1: no such limit';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_policy', '');

--
-- deletion_step: what happens to rows of which the foreign keys do not say it, or
-- not as it should be.
--
CREATE TABLE @extschema@.deletion_step (
    policy text NOT NULL REFERENCES @extschema@.deletion_policy
        ON UPDATE CASCADE ON DELETE CASCADE,
    position integer NOT NULL CHECK (position > 0),
    step_table regclass NOT NULL,
    step_table_name text NOT NULL,
    columns name[] NOT NULL CHECK (pg_catalog.cardinality(columns) > 0),
    action text NOT NULL CHECK (action IN ('delete', 'set null', 'keep')),
    reason text CHECK (action <> 'keep' OR reason IS NOT NULL),
    after_account boolean NOT NULL CHECK (action = 'delete' OR NOT after_account),
    via regclass,
    via_name text,
    via_columns name[],
    match jsonb CHECK (pg_catalog.jsonb_typeof(match) = 'object'),
    PRIMARY KEY (policy, position)
);

COMMENT ON TABLE @extschema@.deletion_step IS
'what the operator has decided of a table''s rows; written by add_deletion_step()';
COMMENT ON COLUMN @extschema@.deletion_step.policy IS
'policy that the step belongs to';
COMMENT ON COLUMN @extschema@.deletion_step.position IS
'steps are executed in ascending order of position, as far as foreign keys let them be';
COMMENT ON COLUMN @extschema@.deletion_step.step_table IS
'table that the step is about';
COMMENT ON COLUMN @extschema@.deletion_step.step_table_name IS
'its name when it was registered';
COMMENT ON COLUMN @extschema@.deletion_step.columns IS
'columns that hold the key of an account, or of a row of the table in via; several times as many as the key has are alternatives, of which the first that leads there counts';
COMMENT ON COLUMN @extschema@.deletion_step.action IS
'what happens to the rows: ''delete'', ''set null'' (the columns), or ''keep''';
COMMENT ON COLUMN @extschema@.deletion_step.reason IS
'why rows are kept; goes into audit rows';
COMMENT ON COLUMN @extschema@.deletion_step.after_account IS
'true: its rows are deleted after the account''s own, which refers to them';
COMMENT ON COLUMN @extschema@.deletion_step.via IS
'another table from which rows are deleted, to which the columns lead; null: the account table';
COMMENT ON COLUMN @extschema@.deletion_step.via_name IS
'its name when it was registered';
COMMENT ON COLUMN @extschema@.deletion_step.via_columns IS
'the columns there; null: its primary key, or the key of the accounts';
COMMENT ON COLUMN @extschema@.deletion_step.match IS
'values that columns must have for a row to belong to the step; null: every row';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_step', '');

--
-- deletion_failure: accounts that could not be deleted, and are tried again.
--
CREATE TABLE @extschema@.deletion_failure (
    policy text NOT NULL REFERENCES @extschema@.deletion_policy
        ON UPDATE CASCADE ON DELETE CASCADE,
    account text NOT NULL,
    attempts integer NOT NULL CHECK (attempts > 0),
    first_attempt_at timestamptz NOT NULL,
    last_attempt_at timestamptz NOT NULL,
    next_attempt_at timestamptz NOT NULL,
    sqlstate text NOT NULL,
    table_name text,
    constraint_name text,
    message text NOT NULL
);

-- a key may be longer than an index takes
CREATE UNIQUE INDEX deletion_failure_account ON @extschema@.deletion_failure
    (policy, pg_catalog.hashtextextended(account, 0));

COMMENT ON TABLE @extschema@.deletion_failure IS
'one row for each account that failed when it was last tried; it goes when the account does, or is not due any more; nothing in it is of the person but the key';
COMMENT ON COLUMN @extschema@.deletion_failure.policy IS
'policy whose run tried it';
COMMENT ON COLUMN @extschema@.deletion_failure.account IS
'its key as text';
COMMENT ON COLUMN @extschema@.deletion_failure.attempts IS
'how many runs have tried it in a row, and failed';
COMMENT ON COLUMN @extschema@.deletion_failure.first_attempt_at IS
'when the first of them tried';
COMMENT ON COLUMN @extschema@.deletion_failure.last_attempt_at IS
'when the last of them tried';
COMMENT ON COLUMN @extschema@.deletion_failure.next_attempt_at IS
'no run tries it before; the wait grows from ten minutes to twelve hours; retry_account() ends it';
COMMENT ON COLUMN @extschema@.deletion_failure.sqlstate IS
'SQLSTATE of the last error';
COMMENT ON COLUMN @extschema@.deletion_failure.table_name IS
'table that it concerns, if one is known';
COMMENT ON COLUMN @extschema@.deletion_failure.constraint_name IS
'constraint of that table which was violated, if one is known';
COMMENT ON COLUMN @extschema@.deletion_failure.message IS
'what the error was, in words of the extension';

-- a publication of all tables must not stop runs
ALTER TABLE @extschema@.deletion_failure REPLICA IDENTITY FULL;

SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_failure', '');

--
-- deletion_hold: accounts that must not be deleted.  Not a policy's: it counts for
-- each that is about the same table, also for one that is registered later.
--
CREATE TABLE @extschema@.deletion_hold (
    account_table regclass NOT NULL,
    account_table_name text NOT NULL,
    key_columns name[] NOT NULL CHECK (pg_catalog.cardinality(key_columns) > 0),
    account text NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    held_by text NOT NULL,
    held_at timestamptz NOT NULL,
    held_until timestamptz,
    refused_at timestamptz
);

CREATE UNIQUE INDEX deletion_hold_account ON @extschema@.deletion_hold
    (account_table, key_columns, pg_catalog.hashtextextended(account, 0), reason);

COMMENT ON TABLE @extschema@.deletion_hold IS
'one row for each reason for which an account must not be deleted, by any policy on its table; written by hold_account() and release_account()';
COMMENT ON COLUMN @extschema@.deletion_hold.account_table IS
'table with one row for each account';
COMMENT ON COLUMN @extschema@.deletion_hold.account_table_name IS
'its name when the hold was placed';
COMMENT ON COLUMN @extschema@.deletion_hold.key_columns IS
'columns that name the account: the primary key of its table or, without one, those of the policy by which the hold was placed';
COMMENT ON COLUMN @extschema@.deletion_hold.account IS
'their values as text, with settings as pg_dump has them';
COMMENT ON COLUMN @extschema@.deletion_hold.reason IS
'a reference, as in ''case 2026/17'', and not a name: it goes into reports, messages and audit rows';
COMMENT ON COLUMN @extschema@.deletion_hold.held_by IS
'role that was logged in when the hold was placed, or changed';
COMMENT ON COLUMN @extschema@.deletion_hold.held_at IS
'when the hold was placed, or changed';
COMMENT ON COLUMN @extschema@.deletion_hold.held_until IS
'when it ends by itself; null: only when it is released';
COMMENT ON COLUMN @extschema@.deletion_hold.refused_at IS
'when a run left the account alone for the first time since';

-- a publication of all tables must not stop runs
ALTER TABLE @extschema@.deletion_hold REPLICA IDENTITY FULL;

SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_hold', '');

--
-- deletion_run: the ledger.  Dumped, so that a restored database still knows who was
-- erased when, as far as it was kept.
--
CREATE TABLE @extschema@.deletion_run (
    run_id bigint NOT NULL,
    policy text NOT NULL,
    form text NOT NULL CHECK (form IN ('function', 'procedure')),
    started_by text NOT NULL,
    arguments jsonb NOT NULL,
    pid integer NOT NULL,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    completed_at timestamptz,
    users_due bigint,
    users_deleted bigint NOT NULL,
    users_failed bigint NOT NULL,
    users_skipped bigint NOT NULL,
    users_held bigint NOT NULL,
    users_waiting bigint NOT NULL,
    records_deleted bigint NOT NULL,
    stop_reason text,
    sqlstate text,
    message text,
    report jsonb,
    waiting_for text,
    PRIMARY KEY (run_id, policy),
    CHECK ((completed_at IS NULL) = (stop_reason IS NULL))
);

CREATE INDEX deletion_run_completed_at ON @extschema@.deletion_run (completed_at);
CREATE INDEX deletion_run_policy ON @extschema@.deletion_run (policy, started_at);

COMMENT ON TABLE @extschema@.deletion_run IS
'the ledger: one row for each policy of a run that was not dry; of a run in one transaction, if that was committed; nothing in it is of the person but the keys of accounts that failed';
COMMENT ON COLUMN @extschema@.deletion_run.run_id IS
'number of the call; the audit rows have it, too';
COMMENT ON COLUMN @extschema@.deletion_run.policy IS
'policy that was followed';
COMMENT ON COLUMN @extschema@.deletion_run.form IS
'function: process_scheduled_deletions(), in one transaction; procedure: run_scheduled_deletions(), in one for each batch';
COMMENT ON COLUMN @extschema@.deletion_run.started_by IS
'role that was logged in';
COMMENT ON COLUMN @extschema@.deletion_run.arguments IS
'arguments of the call that were not left out';
COMMENT ON COLUMN @extschema@.deletion_run.pid IS
'process ID of its session';
COMMENT ON COLUMN @extschema@.deletion_run.started_at IS
'when the call began: accounts due then were due for it';
COMMENT ON COLUMN @extschema@.deletion_run.updated_at IS
'when this row was written last: with each batch';
COMMENT ON COLUMN @extschema@.deletion_run.completed_at IS
'when the run came to its end; null: it is under way, or its session has died, which the next run tells: see deletion_progress';
COMMENT ON COLUMN @extschema@.deletion_run.users_due IS
'how many accounts were due when it began; null: not counted';
COMMENT ON COLUMN @extschema@.deletion_run.users_deleted IS
'accounts that are gone';
COMMENT ON COLUMN @extschema@.deletion_run.users_failed IS
'accounts that could not be deleted and are whole';
COMMENT ON COLUMN @extschema@.deletion_run.users_skipped IS
'accounts that somebody else had locked';
COMMENT ON COLUMN @extschema@.deletion_run.users_held IS
'accounts that were due, and on hold';
COMMENT ON COLUMN @extschema@.deletion_run.users_waiting IS
'accounts that were due, had failed before, and were not tried';
COMMENT ON COLUMN @extschema@.deletion_run.records_deleted IS
'rows that are gone, those of the account table included';
COMMENT ON COLUMN @extschema@.deletion_run.stop_reason IS
'why it ended: drained (nothing more was due), max_accounts, max_runtime, disabled, cancelled, interrupted (its session died), internal_error, or failed: see message';
COMMENT ON COLUMN @extschema@.deletion_run.sqlstate IS
'of the error that ended it, or for which it waits to try a batch again';
COMMENT ON COLUMN @extschema@.deletion_run.message IS
'what that error was';
COMMENT ON COLUMN @extschema@.deletion_run.report IS
'the report of a run that has come to its end';
COMMENT ON COLUMN @extschema@.deletion_run.waiting_for IS
'what keeps it from beginning the next batch: a lock, or replication; null: nothing';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_run', '');

--
-- deletion_progress: who is at work.  A run has a lock on its number as long as it is;
-- ledger.c takes it.  A standby has no locks of its primary, and cannot know.
--
CREATE VIEW @extschema@.deletion_progress AS
SELECT r.run_id, r.policy, r.pid, lock.held AS running, r.started_at, r.updated_at,
    r.waiting_for, r.users_due, d.users_done, r.users_failed, r.records_deleted,
    CASE WHEN d.seconds OPERATOR(pg_catalog.>) 0::float8 THEN d.users_done OPERATOR(pg_catalog./) d.seconds END AS users_per_second,
    CASE WHEN lock.held AND d.users_done OPERATOR(pg_catalog.>) 0 AND r.users_due OPERATOR(pg_catalog.>=) d.users_done THEN
        r.updated_at OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs =>
            d.seconds OPERATOR(pg_catalog.*) (r.users_due OPERATOR(pg_catalog.-) d.users_done) OPERATOR(pg_catalog./) d.users_done)
    END AS estimated_end
FROM @extschema@.deletion_run r,
LATERAL (SELECT
    r.users_deleted OPERATOR(pg_catalog.+) r.users_failed OPERATOR(pg_catalog.+) r.users_skipped
        OPERATOR(pg_catalog.+) r.users_held AS users_done,
    extract(epoch FROM r.updated_at OPERATOR(pg_catalog.-) r.started_at)::float8 AS seconds) d,
LATERAL (SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN EXISTS (
    SELECT FROM pg_catalog.pg_locks l
    WHERE l.locktype OPERATOR(pg_catalog.=) 'object'
        AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database
            WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
        AND l.classid OPERATOR(pg_catalog.=) '@extschema@.deletion_run'::pg_catalog.regclass
        AND l.objid OPERATOR(pg_catalog.=) (r.run_id OPERATOR(pg_catalog.&) 4294967295)::pg_catalog.oid
        AND l.granted) END AS held) lock
WHERE r.completed_at IS NULL;

COMMENT ON VIEW @extschema@.deletion_progress IS
'one row for each run of run_scheduled_deletions() that has not come to its end: how far it is, as of its last batch, and when it will be through at that rate';
COMMENT ON COLUMN @extschema@.deletion_progress.run_id IS
'number of the run, as in deletion_run';
COMMENT ON COLUMN @extschema@.deletion_progress.policy IS
'policy that it follows now';
COMMENT ON COLUMN @extschema@.deletion_progress.pid IS
'process ID of its session, for pg_cancel_backend()';
COMMENT ON COLUMN @extschema@.deletion_progress.started_at IS
'when it began';
COMMENT ON COLUMN @extschema@.deletion_progress.updated_at IS
'when its last batch was committed';
COMMENT ON COLUMN @extschema@.deletion_progress.waiting_for IS
'what keeps it from beginning the next batch: a lock, or replication; null: nothing';
COMMENT ON COLUMN @extschema@.deletion_progress.users_due IS
'accounts that were due when it began';
COMMENT ON COLUMN @extschema@.deletion_progress.users_failed IS
'of those that are done, how many could not be deleted';
COMMENT ON COLUMN @extschema@.deletion_progress.records_deleted IS
'rows that are gone';
COMMENT ON COLUMN @extschema@.deletion_progress.users_per_second IS
'accounts done in a second, on average';
COMMENT ON COLUMN @extschema@.deletion_progress.running IS
'false: its session has died, and the next run will tell that it was interrupted; null: this is a standby, which cannot know';
COMMENT ON COLUMN @extschema@.deletion_progress.users_done IS
'accounts that were deleted, failed, were skipped or are on hold';
COMMENT ON COLUMN @extschema@.deletion_progress.estimated_end IS
'when all that were due will be done; null where that cannot be told';

--
-- deletion_run_id: numbers the runs.  Dumped, so that a restored database goes
-- on with numbers that its audit rows do not have yet.
--
CREATE SEQUENCE @extschema@.deletion_run_id;

COMMENT ON SEQUENCE @extschema@.deletion_run_id IS
'run_id of the last run, dry runs and failed ones included';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.deletion_run_id', '');

--
-- process_scheduled_deletions()
--
CREATE FUNCTION @extschema@.process_scheduled_deletions(
    policy text DEFAULT NULL,
    max_accounts integer DEFAULT NULL,
    dry_run boolean DEFAULT false,
    release_brake boolean DEFAULT false
)
RETURNS jsonb
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.process_scheduled_deletions(text, integer, boolean, boolean) IS
'deletes the accounts that are due, with all their rows and one audit row each, in the caller''s transaction
policy: which policy to follow; null: every one that is enabled
max_accounts: how many accounts to delete at most, earliest due first, not counting those that fail; null: all that are due
dry_run: do it all, report, and undo it
release_brake: for this once, whatever brake_accounts and brake_share of the policy say
returns a report: counts, and for each account that could not be deleted why
raises an error, and changes nothing, if no policy can run or if the trouble is not a single account''s';

--
-- run_scheduled_deletions()
--
CREATE PROCEDURE @extschema@.run_scheduled_deletions(
    policy text DEFAULT NULL,
    batch_size integer DEFAULT NULL,
    max_accounts bigint DEFAULT NULL,
    max_runtime interval DEFAULT NULL,
    pause interval DEFAULT NULL,
    raise_on_failure boolean DEFAULT true,
    release_brake boolean DEFAULT false,
    max_lag interval DEFAULT NULL,
    max_lag_bytes bigint DEFAULT NULL,
    INOUT report jsonb DEFAULT NULL
)
LANGUAGE C
AS 'MODULE_PATHNAME';

COMMENT ON PROCEDURE @extschema@.run_scheduled_deletions(text, integer, bigint, interval, interval, boolean, boolean, interval, bigint, jsonb) IS
'deletes the accounts that are due, as process_scheduled_deletions() does, and commits after each batch; everything of an account is in one transaction
policy, max_accounts, release_brake: as there
batch_size: how many accounts a batch has at most; null: scheduled_deletion.batch_size
max_runtime: begin no batch after that time; null: no limit
pause: between two batches; null: scheduled_deletion.pause
raise_on_failure: raise an error at the end if an account could not be deleted, after all that could be is committed
max_lag, max_lag_bytes: begin no batch while a standby is further behind, or a logical slot by more bytes; null: however far; needs the privileges of pg_read_all_stats
report: the report, as there
raises an error before any work if it is called inside a transaction block or from a function (25001); an error that ends it leaves what was committed before';

--
-- add_deletion_policy(), alter_deletion_policy(), remove_deletion_policy()
--
CREATE FUNCTION @extschema@.add_deletion_policy(
    policy text,
    account_table regclass,
    key_columns name[] DEFAULT NULL,
    due_column name DEFAULT 'deletion_scheduled_at',
    grace interval DEFAULT '0',
    done_column name DEFAULT NULL,
    audit_table regclass DEFAULT NULL,
    audit_columns jsonb DEFAULT NULL,
    audit_details name[] DEFAULT '{}',
    blocking_keys text DEFAULT 'fail',
    time_zone text DEFAULT 'UTC',
    overdue_after interval DEFAULT '1 day',
    enabled boolean DEFAULT true,
    brake_accounts integer DEFAULT 0,
    brake_share float8 DEFAULT 0.25
)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.add_deletion_policy(text, regclass, name[], name, interval, name, regclass, jsonb, name[], text, text, interval, boolean, integer, float8) IS
'registers a deletion policy, and makes its plan to see that it can be followed
key_columns: null: the primary key of the account table
audit_table: null: audit_log in the schema of the account table, or else in the search_path
the other arguments are the columns of deletion_policy
returns the name of the policy
raises an error, and registers nothing, if the plan cannot be made or a policy of that name exists';

CREATE FUNCTION @extschema@.alter_deletion_policy(
    policy text,
    account_table regclass DEFAULT NULL,
    key_columns name[] DEFAULT NULL,
    due_column name DEFAULT NULL,
    grace interval DEFAULT NULL,
    done_column name DEFAULT NULL,
    audit_table regclass DEFAULT NULL,
    audit_columns jsonb DEFAULT NULL,
    audit_details name[] DEFAULT NULL,
    blocking_keys text DEFAULT NULL,
    time_zone text DEFAULT NULL,
    overdue_after interval DEFAULT NULL,
    enabled boolean DEFAULT NULL,
    brake_accounts integer DEFAULT NULL,
    brake_share float8 DEFAULT NULL
)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.alter_deletion_policy(text, regclass, name[], name, interval, name, regclass, jsonb, name[], text, text, interval, boolean, integer, float8) IS
'changes a deletion policy where an argument is not null, and makes its plan again unless it is disabled
done_column: an empty name: none any more
returns the name of the policy
raises an error, and changes nothing, if the plan cannot be made or there is no such policy';

CREATE FUNCTION @extschema@.remove_deletion_policy(policy text)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.remove_deletion_policy(text) IS
'removes a deletion policy and its steps
returns false if there is none of that name';

--
-- add_deletion_step(), remove_deletion_step()
--
CREATE FUNCTION @extschema@.add_deletion_step(
    policy text,
    step_table regclass,
    columns name[],
    action text DEFAULT 'delete',
    reason text DEFAULT NULL,
    after_account boolean DEFAULT false,
    via regclass DEFAULT NULL,
    via_columns name[] DEFAULT NULL,
    match jsonb DEFAULT NULL
)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.add_deletion_step(text, regclass, name[], text, text, boolean, regclass, name[], jsonb) IS
'adds a step at the end of a deletion policy, and makes its plan to see that it can be followed
the arguments are the columns of deletion_step
returns the name of the policy
raises an error, and adds nothing, if the plan cannot be made';

CREATE FUNCTION @extschema@.remove_deletion_step(policy text, step_table regclass)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.remove_deletion_step(text, regclass) IS
'removes all steps of a deletion policy on a table
step_table: of a table that was dropped, its number
returns false if there is none';

--
-- deletion_plan()
--
CREATE FUNCTION @extschema@.deletion_plan(
    policy text DEFAULT NULL,
    OUT policy text,
    OUT "position" integer,
    OUT step_table regclass,
    OUT columns name[],
    OUT action text,
    OUT source text,
    OUT via text,
    OUT fk_checks text,
    OUT estimated_rows bigint,
    OUT constraint_name name,
    OUT match jsonb,
    OUT reason text
)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.deletion_plan(text) IS
'shows what a run would do now: a row for each way in which rows of a table lead to an account, in the order of execution
policy: null: every one that is registered
position: rows with the same are deleted together; 0: nothing is done, the rows stop their account
action: delete, set null, set default, keep or block
source: policy, or foreign key, whose name is in constraint_name
via: the table and columns that the columns lead to; null for the account itself
fk_checks: run: the server looks for rows that refer to a deleted one, by each foreign key to the table; proved empty: that is left out (scheduled_deletion.elide_fk_checks); some proved empty: of some keys; null: there are none
match, reason: as the policy''s step says
estimated_rows: how many rows belong to the accounts that are due now, from the planner''s statistics; null if there are none of these
raises an error if the plan cannot be made';

--
-- check_deletion_policy()
--
CREATE FUNCTION @extschema@.check_deletion_policy(
    policy text DEFAULT NULL,
    job_role regrole DEFAULT NULL,
    OUT policy text,
    OUT severity text,
    OUT code text,
    OUT object text,
    OUT message text,
    OUT detail text,
    OUT hint text,
    OUT remedy text
)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.check_deletion_policy(text, regrole) IS
'finds what would stop a run, or make it go wrong or further than meant: a row for each finding, the grave ones of each policy first; none if all is well
policy: null: every one that is enabled
job_role: the role that runs the job; null: the caller
severity: error: a run stops, or accounts stay; warning: it may go wrong, or further than meant; info
code: what kind of finding it is; the README explains each
object: the table, or its columns, as SQL names them
remedy: a statement that mends it; null if that is for a person to decide
changes nothing, and locks tables in ACCESS SHARE mode
raises an error if there is no such policy';

--
-- schedule_account_deletion(), cancel_account_deletion()
--
CREATE FUNCTION @extschema@.schedule_account_deletion(
    account text,
    grace interval DEFAULT '14 days',
    policy text DEFAULT NULL,
    performed_by text DEFAULT NULL
)
RETURNS timestamptz
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.schedule_account_deletion(text, interval, text, text) IS
'lets an account be due once the grace has passed, and writes an audit row (delete_requested)
account: its key as text; a key of several columns as a row: (1,2)
grace: how long from the start of the transaction until it is due, the grace of the policy included
policy: null: the only one that is registered
performed_by: for the audit row: the key of whoever asks, not a name; null: the system
returns when the account is due; if that is earlier already, it stays, and no audit row is written
raises an error if there is no such account (P0002), if its done column is set (55000), or if a trigger keeps it';

CREATE FUNCTION @extschema@.cancel_account_deletion(
    account text,
    policy text DEFAULT NULL,
    performed_by text DEFAULT NULL
)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.cancel_account_deletion(text, text, text) IS
'lets an account not be due any more, and writes an audit row (delete_cancelled); works until a run has claimed the account, also when it is due
account, policy, performed_by: as for schedule_account_deletion()
returns false, and writes none, if its deletion was not asked for
raises an error if there is no such account (P0002), as when it was erased, if its done column is set (55000), or if a trigger keeps it';

--
-- retry_account()
--
CREATE FUNCTION @extschema@.retry_account(
    account text DEFAULT NULL,
    policy text DEFAULT NULL
)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.retry_account(text, text) IS
'lets accounts that have failed be tried by the next run, however long they would wait
account: as in deletion_failure; null: all that wait
policy: null: of every policy
returns how many have waited
raises an error if there is no such policy';

--
-- hold_account(), release_account(), guard_held_accounts()
--
CREATE FUNCTION @extschema@.hold_account(
    account text,
    reason text,
    until timestamptz DEFAULT NULL,
    policy text DEFAULT NULL,
    performed_by text DEFAULT NULL
)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.hold_account(text, text, timestamptz, text, text) IS
'keeps an account, and the rows that others share with it, from being deleted by any policy on its table, and writes an audit row (account_held)
account: its key as text; a key of several columns as a row: (1,2)
reason: a reference, as in ''case 2026/17'', and not a name; an account can have several holds, each with its reason
until: when the hold ends by itself; null: only when it is released; the same reason once more changes that
policy: null: the only one that is registered
performed_by: for the audit row: the key of whoever asks, not a name; null: the system
raises an error if there is no such account (P0002), as when it was erased';

CREATE FUNCTION @extschema@.release_account(
    account text,
    policy text DEFAULT NULL,
    reason text DEFAULT NULL,
    performed_by text DEFAULT NULL
)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.release_account(text, text, text, text) IS
'ends holds on an account, and writes an audit row for each (account_released); if the account is due, the next run deletes it
reason: null: all holds that the account has
account, policy, performed_by: as for hold_account(); the account need not be there any more
returns false if there is no such hold';

CREATE FUNCTION @extschema@.guard_held_accounts(
    policy text DEFAULT NULL,
    enabled boolean DEFAULT true
)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.guard_held_accounts(text, boolean) IS
'lets nobody delete an account on hold, or give it another key, but where session_replication_role is replica: creates the triggers guard_held_accounts and guard_held_account_keys on the account table, and guard_held_accounts_truncate on each of its partitions, too; they execute refuse_held_account()
policy: null: the only one that is registered
enabled: false: drops them
returns false if it is so already
takes the locks of CREATE TRIGGER: runs, and other writers, are waited for';

CREATE FUNCTION @extschema@.refuse_held_account()
RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.refuse_held_account() IS
'trigger function of guard_held_accounts(): raises an error (23001) if a row that was deleted, or has another key now, is an account on hold; or if a table with such accounts is to be truncated';

--
-- deletion_status
--
CREATE FUNCTION @extschema@.deletion_policy_status(
    OUT policy text,
    OUT users_due bigint,
    OUT oldest_due timestamptz,
    OUT users_held bigint,
    OUT blocked_by text,
    OUT scheduled boolean
)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT ROWS 10
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.deletion_policy_status() IS
'what view deletion_status shows that is not in tables of the extension: a row for each policy; its columns are explained there
changes nothing, and keeps no lock
raises an error if the caller may not read an account table';

CREATE VIEW @extschema@.deletion_status AS
SELECT s.policy, coalesce(p.enabled, true) AS enabled, s.users_due, s.oldest_due,
    pg_catalog.date_trunc('second', age.age) AS oldest_due_age,
    CASE WHEN s.users_due IS NULL THEN NULL
        WHEN s.oldest_due IS NULL THEN false
        WHEN age.age IS NULL THEN true
        ELSE age.age OPERATOR(pg_catalog.>) coalesce(p.overdue_after, '1 day')
    END AS overdue,
    s.users_held, f.users_failing, f.failing_since,
    coalesce(CASE WHEN NOT p.enabled THEN 'policy is disabled' END, s.blocked_by, f.most) AS blocked_by,
    run.last_run, run.last_result, run.last_success, g.running, run.next_run, s.scheduled
FROM @extschema@.deletion_policy_status() s
LEFT JOIN @extschema@.deletion_policy p ON p.policy OPERATOR(pg_catalog.=) s.policy
CROSS JOIN LATERAL (
    SELECT CASE WHEN pg_catalog.isfinite(s.oldest_due) THEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) s.oldest_due END AS age
) age
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS users_failing, pg_catalog.min(first_attempt_at) AS failing_since,
        pg_catalog.mode() WITHIN GROUP (ORDER BY message) AS most
    FROM @extschema@.deletion_failure
    WHERE policy OPERATOR(pg_catalog.=) s.policy
) f
CROSS JOIN LATERAL (
    SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN coalesce(pg_catalog.bool_or(running), false) END AS running
    FROM @extschema@.deletion_progress
    WHERE policy OPERATOR(pg_catalog.=) s.policy
) g
CROSS JOIN LATERAL (
    SELECT pg_catalog.max(started_at) AS last_run,
        (SELECT pg_catalog.concat_ws(': ', stop_reason, message) FROM @extschema@.deletion_run
            WHERE policy OPERATOR(pg_catalog.=) s.policy AND completed_at IS NOT NULL
            ORDER BY started_at DESC LIMIT 1) AS last_result,
        (SELECT pg_catalog.max(completed_at) FROM @extschema@.deletion_run
            WHERE policy OPERATOR(pg_catalog.=) s.policy AND stop_reason OPERATOR(pg_catalog.=) 'drained' AND users_skipped OPERATOR(pg_catalog.=) 0::bigint) AS last_success,
        pg_catalog.max(started_at) OPERATOR(pg_catalog.+) (pg_catalog.percentile_disc(0.5) WITHIN GROUP (ORDER BY gap)) AS next_run
    FROM (
        SELECT started_at, started_at OPERATOR(pg_catalog.-) pg_catalog.lag(started_at) OVER (ORDER BY started_at) AS gap
        FROM (
            SELECT started_at FROM @extschema@.deletion_run
            WHERE policy OPERATOR(pg_catalog.=) s.policy
            ORDER BY started_at DESC LIMIT 8
        ) last_runs
    ) gaps
) run;

COMMENT ON VIEW @extschema@.deletion_status IS
'is all well? one row for each policy, and for the built-in one also before it is registered; whoever reads it needs EXECUTE on deletion_policy_status(), and SELECT on the account tables';
COMMENT ON COLUMN @extschema@.deletion_status.policy IS
'name of the policy';
COMMENT ON COLUMN @extschema@.deletion_status.enabled IS
'whether runs follow it';
COMMENT ON COLUMN @extschema@.deletion_status.users_due IS
'accounts that are due now, on hold or not; null if they cannot be told: see blocked_by';
COMMENT ON COLUMN @extschema@.deletion_status.oldest_due IS
'since when the first of them is due that is not on hold';
COMMENT ON COLUMN @extschema@.deletion_status.oldest_due_age IS
'how long that is';
COMMENT ON COLUMN @extschema@.deletion_status.overdue IS
'whether that is longer than the policy''s overdue_after; null if it cannot be told: see blocked_by';
COMMENT ON COLUMN @extschema@.deletion_status.users_held IS
'accounts that are due, and on hold';
COMMENT ON COLUMN @extschema@.deletion_status.users_failing IS
'accounts that failed when they were last tried';
COMMENT ON COLUMN @extschema@.deletion_status.failing_since IS
'since when the first of them does';
COMMENT ON COLUMN @extschema@.deletion_status.blocked_by IS
'what would stop the next run, or else what most of the failing accounts fail for; null: nothing';
COMMENT ON COLUMN @extschema@.deletion_status.last_run IS
'when the last run began, as far as the ledger goes back';
COMMENT ON COLUMN @extschema@.deletion_status.last_result IS
'stop_reason of the last run that has ended, and the error if that was one';
COMMENT ON COLUMN @extschema@.deletion_status.last_success IS
'when the last run ended that left nothing due but what failed, or is on hold';
COMMENT ON COLUMN @extschema@.deletion_status.running IS
'whether run_scheduled_deletions() is at work on it now; null on a standby';
COMMENT ON COLUMN @extschema@.deletion_status.next_run IS
'when the next run is to be expected: after the median time between the last eight';
COMMENT ON COLUMN @extschema@.deletion_status.scheduled IS
'whether an active job of pg_cron runs it; null: pg_cron is not in this database, or its jobs are hidden from the caller';

-- They delete people, or decide who is deleted: who may call them is the
-- administrator's to decide, and what ALTER DEFAULT PRIVILEGES has decided for
-- other objects does not count.
DO $$
DECLARE
    object text;
    grantee text;
BEGIN
    FOR object, grantee IN
        SELECT 'ROUTINE ' OPERATOR(pg_catalog.||) p.oid::pg_catalog.regprocedure, acl.grantee::pg_catalog.regrole
        FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refobjid = e.oid
        JOIN pg_catalog.pg_proc p ON p.oid = d.objid,
        pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) acl
        WHERE e.extname = 'scheduled_deletion' AND d.deptype = 'e'
            AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
            AND acl.grantee <> p.proowner
        UNION ALL
        SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END
            OPERATOR(pg_catalog.||) c.oid::pg_catalog.regclass,
            acl.grantee::pg_catalog.regrole
        FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refobjid = e.oid
        JOIN pg_catalog.pg_class c ON c.oid = d.objid,
        pg_catalog.aclexplode(c.relacl) acl
        WHERE e.extname = 'scheduled_deletion' AND d.deptype = 'e'
            AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
            AND acl.grantee <> c.relowner
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %s', object,
            CASE grantee WHEN '-' THEN 'PUBLIC' ELSE grantee END);
    END LOOP;
END
$$;
