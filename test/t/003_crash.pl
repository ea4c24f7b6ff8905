# A run that does not come to its end has not been: the server crashes, the
# session is terminated or the statement is cancelled while half of the accounts
# are deleted and audited.  The next run deletes them all.
#
# A SQL test can neither crash its server nor lose its session.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

my $node = PostgreSQL::Test::Cluster->new('crash');
$node->init;
$node->start;
$node->safe_psql('postgres',
		slurp_file("$top/test/schema.sql")
	  . slurp_file("$top/test/generate.sql")
	  . slurp_file("$top/test/gate.sql"));

# The sixth of ten accounts keeps the run waiting while the lock is held.  Of two
# accounts a batch, two batches are complete then, and the third has deleted all
# rows but those of profiles.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION scheduled_deletion;
});

# Every row, in one value: the same before and after.
my $everything =
  'SELECT md5(string_agg(row, chr(10) ORDER BY row)) FROM (' . join(
	' UNION ALL ',
	map { "SELECT '$_ ' || t::text FROM $_ AS t" }
	  qw(profiles check_ins crisis_plan clinical_notes therapist_patients
	  user_consent audit_log deletion_policy deletion_step)
  ) . ') AS every (row)';
my $before = $node->safe_psql('postgres', $everything);

# Start a run and wait until it is in the middle.  Returns the session that keeps
# it waiting and its own; what it prints is in $printed when it has finished.
my $printed;

sub start_run
{
	my $gate = $node->background_psql('postgres');
	$gate->query_safe('SELECT pg_advisory_lock(1)');

	my @psql = (
		$node->installed_command('psql'),
		'-XAtq', '-d', $node->connstr('postgres') . ' application_name=run');
	foreach my $command (
		'SET scheduled_deletion.batch_size = 2',
		'SELECT process_scheduled_deletions()',
		'\echo :SQLSTATE',
		q{SELECT 'the session goes on'})
	{
		push @psql, '-c', $command;
	}
	$printed = '';
	my $run = IPC::Run::start(\@psql, '>', \$printed, '2>', \my $stderr,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	ok( $node->poll_query_until(
			'postgres', q{
			SELECT count(*) = 1 FROM pg_stat_activity
			WHERE application_name = 'run' AND wait_event_type = 'Lock' AND wait_event = 'advisory'}
		),
		'a run is in the middle');
	return ($gate, $run);
}

# Cancelled
my ($gate, $run) = start_run();
$node->safe_psql('postgres',
	q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'run'}
);
$run->finish;
is($printed, "57014\nthe session goes on\n", 'it is cancelled');
is($node->safe_psql('postgres', $everything),
	$before, 'and has done nothing');
$gate->quit;

# Terminated
($gate, $run) = start_run();
$node->safe_psql('postgres',
	q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'run'}
);
$run->finish;
is($printed, '', 'its session is terminated');
ok( $node->poll_query_until(
		'postgres',
		q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'run'}
	),
	'and gone');
is($node->safe_psql('postgres', $everything),
	$before, 'and has done nothing');
$gate->quit;

# Stopped
($gate, $run) = start_run();
$node->stop('fast');
$run->finish;
$gate->quit;
$node->start;
is($printed, '', 'the server is stopped');
is($node->safe_psql('postgres', $everything),
	$before, 'and the run has done nothing');

# Crashed, when what the run has done so far is on disk
($gate, $run) = start_run();
$node->safe_psql('postgres', 'CHECKPOINT');
$node->stop('immediate');
$run->finish;
$gate->quit;
$node->start;
is($printed, '', 'the server crashes');
is($node->safe_psql('postgres', $everything),
	$before, 'and the run has done nothing');

# Out of memory, at one account: its session may not take more than it has, and 200 MB
$node->safe_psql(
	'postgres', q{
	CREATE OR REPLACE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN PERFORM pg_advisory_xact_lock_shared(1); PERFORM length(repeat(left(OLD.email, 1), 500000000)); RETURN OLD; END$$;
});
($gate, $run) = start_run();
my $pid = $node->safe_psql('postgres',
	q{SELECT pid FROM pg_stat_activity WHERE application_name = 'run'});
my ($size) = slurp_file("/proc/$pid/status") =~ /^VmSize:\s+(\d+) kB/m;
system_or_bail('prlimit', "--pid=$pid", '--as=' . ($size + 200_000) * 1024);
$gate->quit;
$run->finish;
my ($report) = split /\n/, $printed;
is( $node->safe_psql(
		'postgres',
		"SELECT j ->> 'users_deleted', e ->> 'sqlstate' FROM jsonb(\$\$$report\$\$) j, jsonb_array_elements(j -> 'errors') e"
	),
	'9|53200',
	'of memory that one account takes, others do not die');
is( $node->safe_psql(
		'postgres',
		q{SELECT process_scheduled_deletions() ->> 'users_deleted'}),
	1,
	'and the next run deletes it at once, when there is enough');
is( $node->safe_psql(
		'postgres', q{
	SELECT count(*), count(DISTINCT user_id), count(profiles.id) FROM audit_log LEFT JOIN profiles ON profiles.id = user_id
	WHERE action = 'hard_deleted'}),
	'10|10|0',
	'with an audit row each');

$node->stop;
done_testing();
