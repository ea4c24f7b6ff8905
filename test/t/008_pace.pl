# run_scheduled_deletions() lets others go first: it pauses, waits in steps for a table
# that somebody has locked, and waits for standbys and logical slots that lag behind.
# Meanwhile it locks nothing, others see what it waits for and how far it is, and it
# can be ended.
#
# A SQL test has one session and one server, and nothing to see of a run at work.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 'logical');
$node->append_conf('postgresql.conf',
	"scheduled_deletion.batch_duration = '1h'");
$node->start;

# Each scene has a copy of this database, with ten accounts that are due.  The sixth
# keeps a run in the middle of a batch while the lock is held, whatever lock_timeout.
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop',
		slurp_file("$top/test/schema.sql")
	  . slurp_file("$top/test/generate.sql")
	  . slurp_file("$top/test/gate.sql"));
$node->safe_psql(
	'shop', q{
	CREATE EXTENSION scheduled_deletion;
	CREATE OR REPLACE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN
			WHILE NOT pg_try_advisory_xact_lock_shared(1) LOOP PERFORM pg_sleep(0.01); END LOOP;
			RETURN OLD;
		END';
	CREATE VIEW accounts_left AS
		SELECT count(*) FROM profiles WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL;
	CREATE VIEW ledger AS
		SELECT stop_reason, users_deleted, users_failed, users_skipped, sqlstate, message, waiting_for
		FROM deletion_run ORDER BY run_id;
});

sub copy_shop
{
	my $database = shift;
	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE shop");
}

# Start a call, after settings.  What is returned has its messages, too.
sub start_call
{
	my ($database, $arguments, @settings) = @_;
	my %call = (printed => '', messages => '');
	my @psql = (
		$node->installed_command('psql'),
		'-XAtq', '-d', $node->connstr($database));
	foreach my $command (
		@settings,
		"CALL run_scheduled_deletions($arguments)",
		'\echo SQLSTATE :SQLSTATE')
	{
		push @psql, '-c', $command;
	}
	$call{timer} =
	  IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	$call{psql} =
	  IPC::Run::start(\@psql, '>', \$call{printed}, '2>', \$call{messages},
		$call{timer});
	return \%call;
}

# Wait until so many runs are at work of which that is true
sub wait_until
{
	my ($database, $condition, $name, $nruns) = @_;
	ok( $node->poll_query_until(
			$database,
			'SELECT count(*) FROM deletion_progress JOIN pg_stat_activity USING (pid)'
			  . " WHERE running AND ($condition)",
			$nruns // 1),
		$name);
}

# Wait until a call has come to its end, and tell how
sub sqlstate
{
	my $call = shift;
	$call->{psql}->finish;
	return $call->{printed} =~ /^SQLSTATE (.*)$/m ? $1 : 'none';
}

# Pauses
copy_shop('pause');
my @calls;
foreach my $n (1 .. 2)
{
	push @calls, start_call('pause', q{batch_size => 2, pause => '1 hour'});
	wait_until('pause', "wait_event = 'Extension'", "run $n of 2 pauses", $n);
}
is( $node->safe_psql(
		'pause', 'SELECT users_done, waiting_for FROM deletion_progress'),
	"2|\n2|",
	'each after a batch');
is( $node->safe_psql(
		'pause', q{
		SELECT string_agg(locktype, ' ' ORDER BY locktype), bool_and(granted)
		FROM pg_locks JOIN deletion_progress USING (pid) GROUP BY pid}),
	"object virtualxid|t\nobject virtualxid|t",
	'and locks nothing but its number');
is( $node->safe_psql(
		'pause', q{
		SELECT count(backend_xmin), count(backend_xid)
		FROM pg_stat_activity JOIN deletion_progress USING (pid)}),
	'0|0',
	'nor keeps VACUUM from a row');
$node->safe_psql('pause',
	'SELECT pg_cancel_backend(pid) FROM deletion_progress');
is(sqlstate($_), '57014', 'a run that pauses can be cancelled')
  foreach @calls;
is( $node->safe_psql(
		'pause', 'SELECT stop_reason, users_deleted FROM ledger'),
	"cancelled|2\ncancelled|2",
	'and says so');

# A server that bounds transactions, as since 17, does not count it
if ($node->safe_psql(
		'postgres',
		q{SELECT count(*) FROM pg_settings WHERE name = 'transaction_timeout'}))
{
	copy_shop('untimed');
	my $call = start_call(
		'untimed',
		q{batch_size => 5, pause => '6 s'},
		q{SET transaction_timeout = '5 s'});
	is(sqlstate($call), '00000',
		'and a pause is longer than a transaction may be');
	is($node->safe_psql('untimed', 'TABLE ledger'),
		'drained|10|0|0|||', 'but goes on after it');
}

# After the last batch there is nothing to pause for: it ends before that
my $soon = 'SET statement_timeout = '
  . $PostgreSQL::Test::Utils::timeout_default * 1000 / 30;
foreach
  my $arguments ('batch_size => 2, max_accounts => 2', 'batch_size => 100')
{
	my $call = start_call('pause', "$arguments, pause => '1 hour'", $soon);
	is(sqlstate($call), '00000',
		"a run of one batch does not pause: $arguments");
}
is( $node->safe_psql(
		'pause', 'SELECT stop_reason, users_deleted FROM ledger OFFSET 2'),
	"max_accounts|2\ndrained|4",
	'and does it all');

# Progress
copy_shop('progress');
my $gate = $node->background_psql('progress');
$gate->query_safe('SELECT pg_advisory_lock(1)');
my $call = start_call(
	'progress',
	'batch_size => 2',
	'SET scheduled_deletion.progress_interval = 1');
wait_until('progress', "wait_event = 'PgSleep'", 'a run is in the middle');
my ($query, $rows) = split /\|/,
  $node->safe_psql('progress',
	'SELECT query, records_deleted FROM pg_stat_activity JOIN deletion_progress USING (pid)'
  );
like(
	$query,
	qr/^CALL run_scheduled_deletions\(batch_size => 2\) -- deletion policy "built-in": 4 of 10 accounts, $rows rows deleted; about \d+ s left$/,
	'pg_stat_activity shows how far it is');
ok( pump_until(
		$call->{psql},
		$call->{timer},
		\$call->{messages},
		qr/^NOTICE:  deletion policy "built-in": [0-4] of 10 accounts, \d+ rows deleted/m
	),
	'and its caller is told');
$gate->quit;
is(sqlstate($call), '00000', 'until it is through');

copy_shop('quiet');
$call = start_call(
	'quiet',
	'batch_size => 2',
	'SET scheduled_deletion.progress_interval = 0');
is(sqlstate($call), '00000', 'another one comes to its end');
is($call->{messages}, '', 'and was not to tell anything');

# A table that is locked, in the middle of a run
copy_shop('locked');
$gate = $node->background_psql('locked');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$call = start_call(
	'locked',
	'batch_size => 2',
	q{SET scheduled_deletion.lock_timeout = '50ms'});
wait_until('locked', "wait_event = 'PgSleep'", 'a run is in the middle');
my $locker = $node->background_psql('locked');
$locker->query_until(
	qr/begun/, q{
	BEGIN;
	\echo begun
	LOCK TABLE check_ins IN ACCESS EXCLUSIVE MODE;
});
ok( $node->poll_query_until(
		'locked',
		q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'check_ins'::regclass AND NOT granted}
	),
	'somebody waits for a table of its plan');
$gate->quit;
wait_until(
	'locked',
	'waiting_for IS NOT NULL',
	'and gets it after the batch: now the run waits');
is( $node->safe_psql(
		'locked', 'SELECT users_done, users_failed FROM deletion_progress'),
	'6|0',
	'what it has committed is done');
is($node->safe_psql('locked', 'SELECT sqlstate FROM ledger'),
	'55P03', 'and the ledger tells why it waits');
my $patience = $PostgreSQL::Test::Utils::timeout_default . 's';
is( $node->safe_psql(
		'locked', qq{
		SET statement_timeout = '$patience';
		BEGIN;
		LOCK TABLE user_consent IN ACCESS EXCLUSIVE MODE;
		SELECT count(*) > 0 FROM user_consent;
		COMMIT}),
	't',
	'others read, and even lock, another table of its plan');
wait_until('locked', 'waiting_for IS NOT NULL', 'while it waits still');
my $other = start_call(
	'locked',
	'batch_size => 2',
	q{SET scheduled_deletion.lock_timeout = '50ms'});
wait_until(
	'locked',
	q{waiting_for IS NOT NULL AND users_due IS NULL AND query LIKE '% waiting for %'},
	'another one waits from its beginning');
unlike(
	$node->safe_psql(
		'locked',
		'SELECT query FROM pg_stat_activity JOIN deletion_progress USING (pid) WHERE users_due IS NULL'
	),
	qr/-1/,
	'and does not know yet how many accounts are due');
$node->safe_psql('locked',
	'SELECT pg_cancel_backend(pid) FROM deletion_progress WHERE users_due IS NULL'
);
is(sqlstate($other), '57014', 'it is cancelled');
is( $node->safe_psql(
		'locked',
		'SELECT stop_reason, users_deleted, sqlstate, waiting_for FROM ledger OFFSET 1'
	),
	'cancelled|0|57014|',
	'and does not wait any more');

$locker->query_safe('COMMIT');
is(sqlstate($call), '00000', 'it goes on when the table is free');
is($node->safe_psql('locked', 'SELECT * FROM ledger LIMIT 1'),
	'drained|10|0|0|||', 'to the end, and nobody has failed');
$locker->quit;

# Only who sees lag may wait for it
copy_shop('role');
$node->safe_psql(
	'role', q{
	CREATE ROLE job LOGIN;
	GRANT EXECUTE ON PROCEDURE run_scheduled_deletions TO job;
	GRANT SELECT, INSERT, UPDATE, DELETE ON profiles, check_ins, crisis_plan, clinical_notes,
		therapist_patients, user_consent, audit_log TO job;
});
foreach my $limit (q{max_lag => '1 minute'}, 'max_lag_bytes => 1000000000')
{
	$call = start_call('role', $limit, 'SET SESSION AUTHORIZATION job');
	is(sqlstate($call), '42501', "not every role may set $limit");
	like(
		$call->{messages},
		qr/^HINT:  GRANT pg_read_all_stats TO job;$/m,
		'and is told which may');
}
is($node->safe_psql('role', 'TABLE accounts_left'), 10, 'nothing is deleted');
is($node->safe_psql('role', 'SELECT count(*) FROM deletion_run'),
	0, 'nor was a run begun');
$node->safe_psql('role', 'GRANT pg_read_all_stats TO job');
foreach my $limit (q{max_lag => '1 minute'}, 'max_lag_bytes => 1000000000')
{
	$call = start_call(
		'role',
		"batch_size => 1, max_accounts => 5, $limit",
		'SET SESSION AUTHORIZATION job');
	is(sqlstate($call), '00000', "with the grant it may set $limit");
}
is( $node->safe_psql('role', 'SELECT stop_reason, users_deleted FROM ledger'),
	"max_accounts|5\nmax_accounts|5",
	'and nobody lags behind');

# A logical slot that nobody reads
copy_shop('slot');
$node->safe_psql('slot',
	q{SELECT pg_create_logical_replication_slot('nobody', 'pgoutput')});
my $waits_for_slot =
  q{waiting_for LIKE 'slot "nobody" is % bytes behind' AND query LIKE '% waiting for %'};
my $limits = 'batch_size => 1, max_lag_bytes => 1';

$call = start_call('slot', $limits);
wait_until('slot', $waits_for_slot, 'a run waits for a slot');
is($node->safe_psql('slot', 'SELECT users_done FROM deletion_progress'),
	0, 'before its first batch');
like(
	$node->safe_psql(
		'slot',
		'SELECT query FROM pg_stat_activity JOIN deletion_progress USING (pid)'
	),
	qr/: 0 of 10 accounts, 0 rows deleted; waiting for slot "nobody" is \d+ bytes behind$/,
	'pg_stat_activity shows it');
$node->safe_psql('slot',
	q{SELECT alter_deletion_policy('built-in', enabled => false)});
is(sqlstate($call), '00000', 'whoever disables the policy ends it');
is($node->safe_psql('slot', 'TABLE ledger'),
	'disabled|0|0|0|||', 'and it does not wait any more');
$node->safe_psql('slot',
	q{SELECT alter_deletion_policy('built-in', enabled => true)});

$call = start_call('slot', $limits);
wait_until('slot', $waits_for_slot, 'another one waits');
$node->safe_psql('slot',
	'SELECT pg_cancel_backend(pid) FROM deletion_progress');
is(sqlstate($call), '57014', 'and is cancelled');
is( $node->safe_psql(
		'slot',
		'SELECT stop_reason, users_deleted, sqlstate, waiting_for FROM ledger OFFSET 1'
	),
	'cancelled|0|57014|',
	'and does not wait any more');

$call = start_call('slot', "$limits, max_runtime => '1 second'");
is(sqlstate($call), '00000',
	'one that has little time does not wait for ever');
is($node->safe_psql('slot', 'SELECT * FROM ledger OFFSET 2'),
	'max_runtime|0|0|0|||', 'but says so');

$call = start_call('slot', $limits);
wait_until('slot', $waits_for_slot, 'one more waits');
$node->safe_psql('slot', q{SELECT pg_drop_replication_slot('nobody')});
is(sqlstate($call), '00000', 'when the slot is dropped, it goes on');
is($node->safe_psql('slot', 'SELECT * FROM ledger OFFSET 3'),
	'drained|10|0|0|||', 'to the end');

# A standby that does not replay
copy_shop($_) foreach ('bytes', 'seconds');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf',
	"wal_receiver_status_interval = '1s'");
$standby->start;

foreach my $case (
	[
		'bytes', 'max_lag_bytes => 1000000',
		'replay_lsn < sent_lsn - 1000000'
	],
	[ 'seconds', q{max_lag => '1 second'}, q{replay_lag > '1 second'} ])
{
	my ($database, $limit, $lags) = @$case;
	$node->wait_for_catchup($standby);
	$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
	ok( $standby->poll_query_until(
			'postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'}),
		'a standby does not replay');
	$node->safe_psql('postgres',
		q{SELECT pg_logical_emit_message(false, 'test', repeat('x', 2000000))}
	);
	ok( $node->poll_query_until(
			'postgres', "SELECT $lags FROM pg_stat_replication"),
		"it lags behind: $lags");

	$call = start_call($database, "batch_size => 2, $limit");
	wait_until(
		$database,
		q{waiting_for ~ '^standby "standby" is [0-9.]+ s and [0-9]+ bytes behind$'},
		"a run waits for it, with $limit");
	is($node->safe_psql($database, 'TABLE accounts_left'),
		10, 'before its first batch');
	$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
	is(sqlstate($call), '00000', 'when the standby goes on, the run does');
	is($node->safe_psql($database, 'TABLE ledger'),
		'drained|10|0|0|||', 'to the end');
}

$standby->stop;
$node->stop;
done_testing();
