# No account is deleted before it is due, and none that is due is left, whatever the
# clock says: over time zones whose clocks are put forward and back, months, leap days
# and the ends of months, for each type of the due column.  And a clock that is put
# back, or forward, while a run is at work changes neither its pauses nor how long it
# may take.
#
# Needs a server whose clock the test can put: libfaketime.

use strict;
use warnings;

use IPC::Open2;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# The wrapper knows where the library is.  It also makes the semaphore and the memory that
# all processes of the server share, and takes them away when its program ends, which it
# does with this script.  Without it, each process that finds none makes its own: it is
# left behind, and two that do so at once can fail.
my $wrapper = open2(my $from_wrapper, my $to_wrapper, 'faketime', '-f', '+0', 'sh', '-c',
	'printenv LD_PRELOAD FAKETIME_SHARED; exec cat');
chomp(my ($faketime, $shared) = (scalar <$from_wrapper>, scalar <$from_wrapper>));

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf('postgresql.conf', 'autovacuum = off');

# What the file says is the time, or how far it is from the true one.  It is replaced as
# a whole: a process that reads half of it comes to its end.
my $clock = $node->data_dir . '/clock';
append_to_file($clock, "+0\n");
{
	local %ENV = (
		%ENV,
		LD_PRELOAD => $faketime,
		FAKETIME_SHARED => $shared,
		TZ => 'UTC',
		FAKETIME_TIMESTAMP_FILE => $clock,
		FAKETIME_NO_CACHE => 1,
		FAKETIME_DONT_FAKE_MONOTONIC => 1);
	$node->start;
}

$node->safe_psql(
	'postgres', qq{
	CREATE EXTENSION scheduled_deletion;
	CREATE TABLE users (id int PRIMARY KEY, zoned timestamptz, local timestamp, day date);
	CREATE TABLE audit_log (user_id int, action text, details jsonb, performed_by text, created_at timestamptz);
	CREATE PROCEDURE put_clock(what text) LANGUAGE plpgsql AS
		\$\$ BEGIN EXECUTE format('COPY (SELECT %L) TO PROGRAM %L', what, 'cat >$clock.new; mv $clock.new $clock'); END \$\$;
});
$node->safe_psql(
	'postgres', q{
	SELECT add_deletion_policy('users', 'users', due_column => 'zoned', brake_share => 1);

	-- values of the due column whose account is due about then, and some others
	CREATE FUNCTION dues(at timestamptz, zone text, grace interval) RETURNS SETOF timestamp LANGUAGE sql AS $$
		SELECT due + s
		FROM (VALUES ((at AT TIME ZONE zone) - grace)) t (due),
			unnest('{0,1 us,-1 us,29 min,-31 min,59 min,-61 min,119 min,-121 min,13 h,-13 h,
				1 day,-1 day,26 h,-26 h,2 days,-2 days,3 days,-3 days,3 days 13 h,-3 days -13 h,
				4 days,-4 days,6 days,-6 days,9 days,-9 days}'::interval[]) s
		UNION
		SELECT date_trunc('day', (at AT TIME ZONE zone) - grace) + d * interval '1 day' + s
		FROM generate_series(-4, 4) d, unnest('{0,23:59:59}'::interval[]) s
		UNION
		VALUES ('infinity'::timestamp), ('-infinity'), (NULL), ('0044-03-15 BC'), ('200000-01-01')
	$$;

	-- when an account is due: on the clock of the zone, unless hours are added to a time
	-- that has one
	CREATE FUNCTION due_at(due timestamp, zone text, grace interval) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS
		$$ SELECT CASE WHEN isfinite(due) THEN (due + grace) AT TIME ZONE zone ELSE due AT TIME ZONE 'UTC' END $$;
	CREATE FUNCTION due_at(due timestamptz, zone text, grace interval) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS
		$$ SELECT CASE WHEN date_trunc('day', grace) = '0' THEN due + grace
			ELSE due_at(due AT TIME ZONE zone, zone, grace) END $$;

	CREATE TABLE tried (zone text, due_column name, grace interval, at timestamptz,
		deleted int, early int, left_over int, wrong_count bool);
	CREATE PROCEDURE try(zone text, due_column name, grace interval, at timestamptz) LANGUAGE plpgsql AS $$
	DECLARE
		wrong_count bool;
		ids int[];
		expected int[];
	BEGIN
		CALL put_clock(to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'));
		IF clock_timestamp() <> at THEN
			RAISE 'the clock says %, not %', clock_timestamp(), at;
		END IF;
		DELETE FROM users;
		IF due_column = 'zoned' THEN
			INSERT INTO users (id, zoned) SELECT row_number() OVER (), due AT TIME ZONE zone FROM dues(at, zone, grace) due;
		ELSIF due_column = 'local' THEN
			INSERT INTO users (id, local) SELECT row_number() OVER (), due FROM dues(at, zone, grace) due;
		ELSE
			INSERT INTO users (id, day) SELECT row_number() OVER (), due FROM dues(at, zone, grace) due;
		END IF;
		SELECT coalesce(array_agg(id), '{}') INTO expected FROM users
		WHERE coalesce(due_at(zoned, zone, grace), due_at(coalesce(local, day), zone, grace)) <= at;
		SELECT users_due <> cardinality(expected) OR oldest_due > at INTO wrong_count FROM deletion_status;
		PERFORM process_scheduled_deletions('users');
		SELECT coalesce(array_agg(user_id), '{}') INTO ids FROM audit_log WHERE action = 'hard_deleted';
		DELETE FROM audit_log;
		INSERT INTO tried SELECT zone, due_column, grace, at, cardinality(ids),
			(SELECT count(*) FROM unnest(ids) id WHERE id <> ALL (expected)),
			(SELECT count(*) FROM unnest(expected) id WHERE id <> ALL (ids)), wrong_count;
	END $$;

	-- when the clocks of some zones are put, and ends of months there
	CREATE TABLE zones (zone text);
	INSERT INTO zones VALUES ('Australia/Lord_Howe'), ('Antarctica/Troll'), ('Africa/Casablanca'),
		('Pacific/Apia'), ('America/New_York'), ('UTC');
	CREATE TABLE moments AS
	SELECT zone, at, true AS is_change FROM zones,
		(SELECT generate_series('2011-12-01 00:00+00', '2012-01-31', interval '30 min')
		UNION ALL SELECT generate_series('2025-01-01 00:00+00', '2025-12-31', interval '30 min')) t (at)
	WHERE at AT TIME ZONE zone - (at - interval '30 min') AT TIME ZONE zone <> '30 min'
	UNION ALL
	SELECT zone, (month + day) AT TIME ZONE zone, false FROM zones,
		unnest('{2024-03-01,2025-03-01,2025-05-01}'::timestamp[]) month,
		unnest('{-23:59:55,-12:00,-00:00:01,0,00:00:05,1 day 12:00}'::interval[]) day;
});

my $count = $node->safe_psql(
	'postgres', q{
	SET client_min_messages = warning;
	DO $$
	DECLARE
		c record;
		m record;
	BEGIN
		FOR c IN SELECT * FROM zones, unnest('{zoned,local,day}'::name[]) due_column,
			unnest('{0,36 hours,1 day,14 days,1 month,1 month 3 days -2 hours,1 year 1 month 400 hours}'::interval[]) grace
		LOOP
			TRUNCATE users, audit_log, deletion_run;
			PERFORM alter_deletion_policy('users', due_column => c.due_column, grace => c.grace, time_zone => c.zone);
			COMMIT;
			FOR m IN
				SELECT date_trunc('second', at + s) AS at FROM moments, unnest('{-24 h,-1 s,0,31 min,2 h}'::interval[]) s
				WHERE zone = c.zone AND is_change
				UNION SELECT due_at((at + s) AT TIME ZONE c.zone, c.zone, c.grace) FROM moments, unnest('{0,31 min}'::interval[]) s
				WHERE zone = c.zone AND is_change
				UNION SELECT at FROM moments WHERE zone = c.zone AND NOT is_change
			LOOP
				CALL try(c.zone, c.due_column, c.grace, m.at);
				COMMIT;
			END LOOP;
		END LOOP;
	END $$;
	SELECT count(*) FROM tried});
note "$count runs";
cmp_ok($count, '>', 1000, 'runs at all those moments');
is( $node->safe_psql('postgres', 'SELECT count(*) FROM tried WHERE deleted < 2'),
	0, 'each had accounts to delete');
foreach my $case (
	[ 'early > 0', 'no account is deleted before it is due' ],
	[ 'left_over > 0', 'none that is due is left' ],
	[ 'wrong_count IS NOT false', 'deletion_status counts the same accounts' ])
{
	my ($condition, $name) = @$case;
	is( $node->safe_psql(
			'postgres', "SELECT * FROM tried WHERE $condition LIMIT 10"),
		'', $name);
}

# A clock that is put back, or forward, while a run pauses
foreach my $case (
	[ '-1h', q{pause => '50 ms'}, 'drained|9', 'back: pauses are as long' ],
	[ '-1h', q{pause => '1 hour', max_runtime => '3 s'}, 'max_runtime|1', 'back: it may take as long' ],
	[ '+1d', q{pause => '50 ms', max_runtime => '1 hour'}, 'drained|9', 'forward: it may take as long' ])
{
	my ($put, $arguments, $result, $name) = @$case;
	my ($printed, $messages) = ('', '');

	$node->safe_psql(
		'postgres', q{
		CALL put_clock('+0');
		TRUNCATE users, audit_log, deletion_run;
		SELECT alter_deletion_policy('users', due_column => 'zoned', grace => '0', time_zone => 'UTC');
		INSERT INTO users SELECT n, '2020-01-01' FROM generate_series(1, 9) n});
	my $timer = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	my $call = IPC::Run::start(
		[
			$node->installed_command('psql'), '-XAtq',
			'-d', $node->connstr('postgres'),
			'-c', "CALL run_scheduled_deletions(batch_size => 1, $arguments)"
		],
		'>', \$printed, '2>', \$messages, $timer);
	$node->poll_query_until('postgres',
		'SELECT count(*) < 9 FROM users')
	  or die 'the run has not begun';
	$node->safe_psql('postgres', "CALL put_clock('$put')");
	$call->finish;
	is($messages, '', "a clock is put $put: the run comes to its end");
	is( $node->safe_psql(
			'postgres', 'SELECT stop_reason, users_deleted FROM deletion_run'),
		$result, $name);
}

$node->stop;
close $to_wrapper;
waitpid $wrapper, 0;
is($?, 0, 'the wrapper ends');
done_testing();
