# The job as it is meant to be: scheduled with pg_cron by the very statement that
# README.md shows, and started by pg_cron.
#
# A SQL test could only call the function itself.  What makes the job run is
# pg_cron's background worker, a connection of its own and the clock; it needs
# shared_preload_libraries, and knows one database only.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
chomp(my $sharedir = qx(pg_config --sharedir));
plan skip_all => 'pg_cron is not installed'
  unless -e "$sharedir/extension/pg_cron.control";

# The statement, on one line or over a few, in one of the ```sql blocks.
my ($schedule) =
  map {
	/^(SELECT\s+cron\.schedule\(\s*'hard-delete-scheduled-accounts',\s*
		'0[ ]2[ ][*][ ][*][ ][*]',\s*
		'SELECT[ ]process_scheduled_deletions\(\)'\s*\);)/mx
  } slurp_file("$top/README.md") =~ /^```sql\n(.*?)^```/msg;
if (!ok(defined $schedule, 'README.md shows how to schedule the job'))
{
	diag(<<'EOM');
It needs, in a ```sql block, the statement
SELECT cron.schedule('hard-delete-scheduled-accounts', '0 2 * * *', 'SELECT process_scheduled_deletions()');
EOM
	done_testing();
	exit 1;
}

my $node = PostgreSQL::Test::Cluster->new('pg_cron');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron'");
$node->append_conf('postgresql.conf', "cron.database_name = 'app'");
$node->append_conf('postgresql.conf', "cron.host = '" . $node->host . "'");
$node->restart;

$node->safe_psql('app',
		slurp_file("$top/test/schema.sql")
	  . slurp_file("$top/test/generate.sql"));
$node->safe_psql(
	'app', q{
	CREATE EXTENSION pg_cron;
	CREATE EXTENSION scheduled_deletion;
	CREATE TABLE initial AS
		SELECT id, deletion_scheduled_at <= now() AND deleted_at IS NULL AS due FROM profiles;
});
is( $node->safe_psql(
		'app', 'SELECT count(*) FILTER (WHERE due), count(*) FROM initial'),
	'10|100',
	'10 of 100 accounts are due');

$node->safe_psql('app', $schedule);
is( $node->safe_psql(
		'app', 'SELECT jobname, schedule, command, database FROM cron.job'),
	'hard-delete-scheduled-accounts|0 2 * * *|SELECT process_scheduled_deletions()|app',
	'the job is scheduled for the night');

# Not until the night, though.
$node->safe_psql('app',
	q{SELECT cron.alter_job(jobid, schedule => '* * * * *') FROM cron.job});
ok( $node->poll_query_until(
		'app',
		q{SELECT EXISTS (SELECT FROM cron.job_run_details WHERE status IN ('succeeded', 'failed'))}
	),
	'pg_cron has run the job');

is( $node->safe_psql(
		'app',
		'SELECT status, return_message FROM cron.job_run_details ORDER BY runid LIMIT 1'
	),
	'succeeded|1 row',
	'the job has succeeded');
is( $node->safe_psql(
		'app',
		'SELECT count(*) FROM profiles JOIN initial USING (id) WHERE due'),
	0,
	'the due accounts are gone');
is( $node->safe_psql(
		'app',
		'SELECT count(*) FROM profiles JOIN initial USING (id) WHERE due IS NOT TRUE'
	),
	90,
	'the others are left');
is( $node->safe_psql(
		'app', q{
	SELECT count(*), count(DISTINCT user_id), bool_and(due) FROM audit_log LEFT JOIN initial ON initial.id = user_id
	WHERE action = 'hard_deleted'}),
	'10|10|t',
	'each has one audit row');

# deletion_status tells which policies an active job of pg_cron runs.
$node->safe_psql(
	'app', q{
	CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
	CREATE TABLE users_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
	SELECT add_deletion_policy('users', 'users', audit_table => 'users_log');
});
my $scheduled =
  q{SELECT string_agg(policy, ' ' ORDER BY policy) FILTER (WHERE scheduled) FROM deletion_status};
my $job =
  q{SELECT cron.schedule('hard-delete-scheduled-accounts', '0 2 * * *', $job$%s$job$)};
foreach my $case (
	[ 'SELECT process_scheduled_deletions()', 'built-in users' ],
	[ 'CALL run_scheduled_deletions()', 'built-in users' ],
	[ q{call "public".RUN_scheduled_deletions('users')}, 'users' ],
	[ q{CALL run_scheduled_deletions(max_runtime => '1 hour')}, 'built-in users' ],
	[ q{CALL run_scheduled_deletions(max_runtime => '1 hour', policy => 'users')}, 'users' ],
	[ q{CALL run_scheduled_deletions(policy := $x$users$x$)}, 'users' ],
	[ q{CALL run_scheduled_deletions($users$users$users$)}, 'users' ],
	[ q{SELECT process_scheduled_deletions(dry_run => true)}, '' ],
	[ q{SELECT 1 -- process_scheduled_deletions()}, '' ],
	[ q{SELECT 1 /* process_scheduled_deletions() */}, '' ])
{
	my ($command, $policies) = @$case;
	$node->safe_psql('app', sprintf($job, $command));
	is($node->safe_psql('app', $scheduled), $policies, "scheduled: $command");
}
$node->safe_psql('app',
	q{SELECT cron.schedule('hard-delete-scheduled-accounts', '0 2 * * *', 'CALL run_scheduled_deletions()');
	SELECT cron.alter_job(jobid, active => false) FROM cron.job});
is($node->safe_psql('app', $scheduled), '', 'nor by one that is not active');

$node->stop;
done_testing();
