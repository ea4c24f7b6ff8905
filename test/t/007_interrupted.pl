# run_scheduled_deletions() that does not come to its end has done what it has
# committed, and nothing of the batch that it was at: whatever ends it, from a cancel
# to a crash.  The ledger tells so before the next run and after it, and the next run
# does the rest, in either form and on whatever server is the primary then.  No
# lock on its number outlives a call.
#
# A SQL test can neither crash its server nor lose its session, nor see a run that is
# at work.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

# A batch has as many accounts as it may, however long it takes, and waits for as long
# as the test lets it
my $node = PostgreSQL::Test::Cluster->new('interrupted');
$node->init(allows_streaming => 1);
$node->append_conf(
	'postgresql.conf', q{
restart_after_crash = on
scheduled_deletion.batch_duration = '1h'
scheduled_deletion.lock_timeout = 0
});
$node->start;

# Each run gets a copy of this database, with its ten accounts in table "due", numbered
# in their order.  The sixth keeps the run waiting while the lock is held: then two
# batches are committed, and the third has deleted all rows but those of profiles.
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop',
		slurp_file("$top/test/schema.sql")
	  . slurp_file("$top/test/generate.sql")
	  . slurp_file("$top/test/gate.sql"));
$node->safe_psql(
	'shop', q{
	CREATE EXTENSION scheduled_deletion;
	CREATE TABLE due AS
		SELECT id, row_number() OVER (ORDER BY deletion_scheduled_at) AS n FROM profiles
		WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL;

	-- every row, and whose it is
	CREATE VIEW rows_now AS
		SELECT 'profiles' AS name, t::text AS row, ARRAY[id] AS accounts FROM profiles t
		UNION ALL SELECT 'check_ins', t::text, ARRAY[user_id] FROM check_ins t
		UNION ALL SELECT 'crisis_plan', t::text, ARRAY[user_id] FROM crisis_plan t
		UNION ALL SELECT 'clinical_notes', t::text, ARRAY[patient_id, therapist_id] FROM clinical_notes t
		UNION ALL SELECT 'therapist_patients', t::text, ARRAY[patient_id, therapist_id] FROM therapist_patients t
		UNION ALL SELECT 'user_consent', t::text, ARRAY[user_id] FROM user_consent t;
	CREATE TABLE rows_before AS TABLE rows_now;
	CREATE VIEW rows_gone AS
		SELECT (SELECT count(*) FROM rows_before) - count(*) AS count FROM rows_now;

	-- the numbers of those who are gone
	CREATE VIEW gone AS
		SELECT string_agg(n::text, ' ' ORDER BY n) FROM due WHERE id NOT IN (SELECT id FROM profiles);

	-- what proves that something is half done
	CREATE VIEW broken AS
		SELECT 'left of a deleted account' AS promise, name, row FROM rows_now
		WHERE NOT accounts <@ ARRAY(SELECT id FROM profiles)
		UNION ALL
		SELECT 'not whole', name, row FROM (TABLE rows_before EXCEPT TABLE rows_now) lost
		WHERE accounts <@ ARRAY(SELECT id FROM profiles)
		UNION ALL
		SELECT 'wrong number of audit rows', count(a.id)::text, due.n::text
		FROM due LEFT JOIN audit_log a ON a.user_id = due.id AND a.action = 'hard_deleted'
		GROUP BY due.id, due.n
		HAVING count(a.id) <> (due.id NOT IN (SELECT id FROM profiles))::int
		UNION ALL
		SELECT 'audited, and not due', user_id::text, action FROM audit_log
		WHERE action = 'hard_deleted' AND user_id NOT IN (SELECT id FROM due);
});

# Give a run its database
sub copy_shop
{
	my $database = shift;
	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE shop");
}

# How many locks on numbers of runs a session has after a call, in words
my $locks = q{
	SELECT count(*) || ' locks' FROM pg_locks
	WHERE locktype = 'object' AND classid = 'deletion_run'::regclass AND pid = pg_backend_pid()};

# Start a run, after a setting, and wait until it is in the middle.  Returns the session
# that keeps it waiting and its own; what it prints is in $printed and $errors when it
# has finished.
my ($printed, $errors);

sub start_run
{
	my ($database, $setting) = @_;
	my $gate = $node->background_psql($database);
	$gate->query_safe('SELECT pg_advisory_lock(1)');

	my @psql = (
		$node->installed_command('psql'),
		'-XAtq', '-d', $node->connstr($database) . ' application_name=run');
	foreach my $command (
		$setting,
		'CALL run_scheduled_deletions(batch_size => 2)',
		'\echo :SQLSTATE', $locks)
	{
		push @psql, '-c', $command;
	}
	$printed = $errors = '';
	my $run = IPC::Run::start(\@psql, '>', \$printed, '2>', \$errors,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	ok( $node->poll_query_until(
			$database, q{
			SELECT count(*) = 1 FROM pg_stat_activity
			WHERE application_name = 'run' AND wait_event_type = 'Lock' AND wait_event = 'advisory'}
		),
		"$database: a run is in the middle");
	return ($gate, $run);
}

# The ledger's row of the first run, and of the last one
my $counts = q{
	SELECT users_due, users_deleted, users_failed, users_skipped, users_held, users_waiting,
		records_deleted, updated_at FROM deletion_run ORDER BY run_id LIMIT 1};
my $outcome = q{
	SELECT form, stop_reason, users_due, users_deleted, users_failed, records_deleted, sqlstate,
		completed_at = updated_at, report ->> 'users_deleted'
	FROM deletion_run};
my $last_outcome = "$outcome ORDER BY run_id DESC LIMIT 1";
my $first_outcome = "$outcome ORDER BY run_id LIMIT 1";

# What is interrupted, and how; whether it lives to write that down; and the next run
my $call = 'CALL run_scheduled_deletions()';
foreach my $case (
	{
		database => 'cancelled',
		how => sub {
			my ($database, $pid) = @_;
			$node->safe_psql($database, "SELECT pg_cancel_backend($pid)");
		},
		lives => 1,
		next_run => $call
	},
	{
		# later than the middle, and on a slow machine the more so
		database => 'timed_out',
		setting => 'SET statement_timeout = '
		  . $PostgreSQL::Test::Utils::timeout_default * 1000 / 30,
		how => sub { },
		lives => 1,
		next_run => $call
	},
	{
		database => 'terminated',
		how => sub {
			my ($database, $pid) = @_;
			$node->safe_psql($database, "SELECT pg_terminate_backend($pid)");
		},
		next_run => 'SELECT process_scheduled_deletions()'
	},
	{
		database => 'killed',
		how => sub {
			my ($database, $pid) = @_;
			system_or_bail('pg_ctl', 'kill', 'KILL', $pid);
		},
		next_run => $call
	},
	{
		database => 'stopped',
		how => sub { $node->stop('fast') },
		restart => 1,
		next_run => $call
	},
	{
		# what the run has done so far is on disk
		database => 'crashed',
		how => sub {
			$node->safe_psql('postgres', 'CHECKPOINT');
			$node->stop('immediate');
		},
		restart => 1,
		next_run => $call
	})
{
	my $database = $case->{database};
	copy_shop($database);
	my ($gate, $run) = start_run($database, $case->{setting} // 'SELECT');
	is( $node->safe_psql(
			$database, q{
			SELECT running, users_due, users_done, users_failed, records_deleted - count, waiting_for
			FROM deletion_progress, rows_gone}),
		't|10|4|0|0|',
		'which deletion_progress shows, and how far it is');
	is( $node->safe_psql(
			$database, q{
			SELECT running, running_since = started_at FROM deletion_status JOIN deletion_progress USING (policy, running)}),
		't|t',
		'and deletion_status, since when');

	my $pid =
	  $node->safe_psql($database, 'SELECT pid FROM deletion_progress');
	$case->{how}->($database, $pid);
	$run->finish;
	$gate->quit;
	$node->start if $case->{restart};

	# A server that restarts itself, too, forgets the locks of before
	ok( $node->poll_query_until(
			$database,
			q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'}),
		'it has come to its end, and so have its locks');
	is( $printed,
		$case->{lives} ? "57014\n0 locks\n" : '',
		$case->{lives} ? 'its session goes on' : 'its session is gone');
	is($node->safe_psql($database, 'TABLE gone'),
		'1 2 3 4', 'what it has committed is done');
	is($node->safe_psql($database, 'TABLE broken'),
		'', 'and nothing is half done');

	# Before the next run
	my $rows = $node->safe_psql($database, 'TABLE rows_gone');
	my $ended =
	  $case->{lives}
	  ? "procedure|cancelled|10|4|0|$rows|57014|t|4"
	  : "procedure|interrupted|10|4|0|$rows||t|";
	if ($case->{lives})
	{
		like(
			$errors,
			qr/^DETAIL:  4 accounts were deleted and committed before\.$/m,
			'its error tells what is done');
		is($node->safe_psql($database, $first_outcome),
			$ended, 'the ledger tells that it was cancelled');
		is($node->safe_psql($database, 'TABLE deletion_progress'),
			'', 'and deletion_progress that nobody is at work');
	}
	else
	{
		is( $node->safe_psql($database, $first_outcome),
			"procedure||10|4|0|$rows|||",
			'the ledger has it as of its last commit');
		is( $node->safe_psql(
				$database,
				'SELECT pid, running, users_done, estimated_end FROM deletion_progress'
			),
			"$pid|f|4|",
			'and deletion_progress tells that it is not at work');
	}

	# The next run
	my $before = $node->safe_psql($database, $counts);
	$node->safe_psql($database, $case->{next_run});
	is( $node->safe_psql($database, 'TABLE gone'),
		'1 2 3 4 5 6 7 8 9 10',
		"the next run does the rest: $case->{next_run}");
	is($node->safe_psql($database, 'TABLE broken'), '', 'and all of it');
	is($node->safe_psql($database, $first_outcome),
		$ended, 'the ledger knows how the one before has ended');
	is($node->safe_psql($database, $counts),
		$before, 'and when, and what it had done until then');
	my $rest = $node->safe_psql($database, 'TABLE rows_gone') - $rows;
	is( $node->safe_psql($database, $last_outcome),
		(   $case->{next_run} eq $call
			? 'procedure|drained|6'
			: 'function|drained|')
		  . "|6|0|$rest||t|6",
		'and that this one has come to its end');
	is( $node->safe_psql(
			$database,
			'SELECT count(*), count(completed_at), (SELECT count(*) FROM deletion_progress) FROM deletion_run'
		),
		'2|2|0',
		'and of no other');
}

# A call that comes to its end leaves no lock behind, nor does one that raises an error
# there because an account failed
copy_shop('complete');
is( $node->safe_psql(
		'complete', qq{
		DO 'DECLARE r jsonb; BEGIN CALL run_scheduled_deletions(batch_size => 2, report => r); END';
		$locks}),
	'0 locks',
	'a run that comes to its end leaves no lock behind');
is( $node->safe_psql('complete', 'TABLE gone'),
	'1 2 3 4 5 6 7 8 9 10',
	'when all are gone');

copy_shop('failing');
$node->safe_psql(
	'failing', q{
	CREATE TABLE invoices (user_id uuid REFERENCES profiles);
	INSERT INTO invoices SELECT id FROM due WHERE n = 3});
my ($gate, $run) = start_run('failing', 'SELECT');
$gate->quit;
$run->finish;
is($printed, "38000\n0 locks\n", 'nor does one of which an account failed');
like(
	$errors,
	qr/^ERROR:  1 of 10 accounts could not be deleted$/m,
	'which its error tells');
is( $node->safe_psql('failing', 'TABLE gone'),
	'1 2 4 5 6 7 8 9 10',
	'when all others are gone');
is($node->safe_psql('failing', 'TABLE broken'), '', 'and that one is whole');
my $rows = $node->safe_psql('failing', 'TABLE rows_gone');
is( $node->safe_psql('failing', $last_outcome),
	"procedure|drained|10|9|1|$rows||t|9",
	'the ledger has it as complete');
is($node->safe_psql('failing', 'TABLE deletion_progress'),
	'', 'and nobody is at work');

# A standby does not know whether a run is at work; but when the primary is lost, and it
# takes its place
copy_shop('promoted');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
($gate, $run) = start_run('promoted', 'SELECT');
$node->wait_for_catchup($standby);
my $progress = 'SELECT running, users_done FROM deletion_progress';
is($standby->safe_psql('promoted', $progress),
	'|4', 'a standby sees how far it is, not whether it is at work');
$node->stop('immediate');
$run->finish;
$gate->quit;
$standby->promote;
is($standby->safe_psql('promoted', $progress),
	'f|4', 'a standby that is promoted does');
is($standby->safe_psql('promoted', 'TABLE gone'),
	'1 2 3 4', 'it has what was committed');
is($standby->safe_psql('promoted', 'TABLE broken'),
	'', 'and nothing is half done');
$standby->safe_psql('promoted', $call);
is( $standby->safe_psql('promoted', 'TABLE gone'),
	'1 2 3 4 5 6 7 8 9 10',
	'its next run does the rest');
is($standby->safe_psql('promoted', 'TABLE broken'), '', 'and all of it');
is( $standby->safe_psql(
		'promoted',
		'SELECT stop_reason, users_deleted FROM deletion_run ORDER BY run_id'
	),
	"interrupted|4\ndrained|6",
	'and says so of both');

$standby->stop;
done_testing();
