# Where nothing may be written, a run refuses before it does anything: on a
# standby, and in a read-only transaction.  A standby that is promoted does the
# next run.
#
# A SQL test has one server only, and that is a primary.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->start;
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres',
		slurp_file("$top/test/schema.sql")
	  . slurp_file("$top/test/generate.sql"));
$primary->safe_psql('postgres', 'CREATE EXTENSION scheduled_deletion');
$primary->wait_for_catchup($standby);

my $counts = q{
	SELECT count(*), count(*) FILTER (WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL),
		(SELECT count(*) FROM check_ins), (SELECT count(*) FROM clinical_notes),
		(SELECT count(*) FROM audit_log WHERE action = 'hard_deleted'), (SELECT count(*) FROM deletion_policy)
	FROM profiles};
my $before = $primary->safe_psql('postgres', $counts);
like($before, qr/^100\|10\|/, 'accounts are due');

# The error with which a call is refused, after its SQLSTATE
sub refusal
{
	my ($node, $sql) = @_;
	my ($ret, $stdout, $stderr) = $node->psql('postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $stderr =~ /ERROR:  (.*)/ ? $1 : "none, but $stdout";
}

my $in_recovery =
  '25006: cannot execute process_scheduled_deletions() during recovery';
my $read_only =
  '25006: cannot execute process_scheduled_deletions() in a read-only transaction';

foreach my $run ('SELECT process_scheduled_deletions()',
	'SELECT process_scheduled_deletions(dry_run => true)')
{
	is(refusal($standby, $run), $in_recovery, "on a standby: $run");
	is(refusal($primary, "BEGIN READ ONLY; $run"),
		$read_only, "in a read-only transaction: $run");
	is(refusal($primary, "SET default_transaction_read_only = on; $run"),
		$read_only, "in a read-only session: $run");
}

my $call = 'CALL run_scheduled_deletions()';
is( refusal($standby, $call),
	'25006: cannot execute run_scheduled_deletions() during recovery',
	"on a standby: $call");
is( refusal($primary, "SET default_transaction_read_only = on\\; $call"),
	'25001: run_scheduled_deletions() cannot run inside a transaction block',
	"with another statement: $call");
is( refusal($primary, "SET default_transaction_read_only = on; $call"),
	'25006: cannot execute run_scheduled_deletions() in a read-only transaction',
	"in a read-only session: $call");

# A run that was interrupted on the primary, which a standby cannot know
$primary->safe_psql(
	'postgres', q{
	SELECT add_deletion_policy('profiles', 'profiles', done_column => 'deleted_at');
	INSERT INTO deletion_run (run_id, policy, form, started_by, arguments, pid, started_at, updated_at, users_due,
		users_deleted, users_failed, users_skipped, users_held, users_waiting, records_deleted)
	VALUES (0, 'profiles', 'procedure', 'nobody', '{}', 0, now(), now(), 10, 0, 0, 0, 0, 0, 0);
});
$primary->wait_for_catchup($standby);
my $status = 'SELECT policy, users_due, users_held, blocked_by, running FROM deletion_status';
my $progress = 'SELECT policy, running FROM deletion_progress';
is($primary->safe_psql('postgres', $status), 'profiles|10|0||f', 'how the policy stands');
is($standby->safe_psql('postgres', $status), 'profiles|10|0||', 'the standby tells it, too');
is($primary->safe_psql('postgres', $progress), 'profiles|f', 'nobody is at work');
is($standby->safe_psql('postgres', $progress), 'profiles|', 'as far as a standby can know');
$before = $primary->safe_psql('postgres', $counts);

$primary->wait_for_catchup($standby);
is($primary->safe_psql('postgres', $counts),
	$before, 'all is as before on the primary');
is($standby->safe_psql('postgres', $counts),
	$before, 'all is as before on the standby');

$primary->stop;
$standby->promote;
is( $standby->safe_psql(
		'postgres',
		q{SELECT process_scheduled_deletions() ->> 'users_deleted'}),
	10,
	'the promoted standby deletes them');
like($standby->safe_psql('postgres', $counts),
	qr/^90\|0\|.*\|10\|1$/, 'and they are gone, with an audit row each');
is( $standby->safe_psql(
		'postgres', 'SELECT stop_reason FROM deletion_run ORDER BY run_id'),
	"interrupted\ndrained",
	'and it tells that the run before was interrupted');

$standby->stop;
done_testing();
