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

# The SQLSTATE with which a call is refused.
sub sqlstate
{
	my ($node, $sql) = @_;
	my ($ret, $stdout, $stderr) = $node->psql('postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	return $stderr =~ /ERROR:  (\w+)/ ? $1 : "none, but $stdout";
}

my $run = 'SELECT process_scheduled_deletions()';
my $dry_run = 'SELECT process_scheduled_deletions(dry_run => true)';

is(sqlstate($standby, $run), '25006', 'a standby refuses');
is(sqlstate($standby, $dry_run), '25006', 'a dry run, too');

is(sqlstate($primary, "BEGIN READ ONLY; $run"),
	'25006', 'a read-only transaction on the primary refuses');
is(sqlstate($primary, "BEGIN READ ONLY; $dry_run"),
	'25006', 'a dry run, too');
is(sqlstate($primary, "SET default_transaction_read_only = on; $run"),
	'25006', 'and a session that is read-only by default');

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

$standby->stop;
done_testing();
