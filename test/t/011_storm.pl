# While clients insert, move, ask, cancel, hold, release and delete by hand, runs of both
# forms, with foreign-key checks left out, break no promise, and none of them fails.  In
# a second database, clients move rows at each level from what stays to what goes.
#
# STORM_SECONDS in the environment says how long; 20 by default.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $storm = "$top/test/storm";
my $seconds = $ENV{STORM_SECONDS} // 20;

my $node = PostgreSQL::Test::Cluster->new('storm');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
client_min_messages = error
deadlock_timeout = 50ms
max_connections = 30
});
$node->start;
$node->safe_psql('postgres',
	    slurp_file("$top/test/schema.sql")
	  . '\set accounts 400' . "\n"
	  . slurp_file("$top/test/generate.sql")
	  . 'CREATE EXTENSION scheduled_deletion;'
	  . slurp_file("$storm/setup.sql"));
$node->safe_psql('postgres', 'SELECT process_scheduled_deletions()');
$node->safe_psql('postgres', 'CREATE DATABASE orgs');
$node->safe_psql('orgs', 'CREATE EXTENSION scheduled_deletion;' . slurp_file("$storm/orgs/setup.sql"));

my @clients = map { "$storm/$_" } qw(add.sql@2 move.sql@3 say.sql@4 cancel.sql@2 hold.sql release.sql@2 by_hand.sql);
my @movers = map { "$storm/orgs/$_" }
  qw(add.sql@2 move.sql@8 move_slowly.sql@8 partition.sql say.sql@4 cancel.sql hold.sql@2 release.sql);
my @pgbenches = (
	pgbench('postgres', 'read committed', 6, @clients),
	pgbench('postgres', 'repeatable read', 2, map { "$storm/$_.sql" } qw(say move cancel)),
	pgbench('orgs', 'read committed', 4, @movers),
	map { my $database = $_; map { pgbench($database, 'read committed', 1, "$storm/$_.sql") } qw(function procedure) }
	  qw(postgres orgs));
my %failures = (deadlock => 0, serialization => 0);
for my $pgbench (@pgbenches) {
	$pgbench->{run}->finish;
	is($pgbench->{err}, '', "no error of $pgbench->{name}");
	while ($pgbench->{out} =~ /^number of (deadlock|serialization) failures: (\d+)/gm) { $failures{$1} += $2 }
}
for my $database (qw(postgres orgs)) {
	is($node->safe_psql($database, 'SELECT promise, count(*), min(id::text) FROM broken_promises GROUP BY promise'),
		'', "no promise is broken in database $database");
	for my $form (qw(function procedure)) {
		my ($runs, $deleted, $failed, $bad) = split /\|/, $node->safe_psql(
			$database, qq{
			SELECT count(*), sum(users_deleted), sum(users_failed),
				-- partitions that come and go may meet with a call in a deadlock for tables
				count(*) FILTER (WHERE stop_reason IS DISTINCT FROM 'drained'
					AND (sqlstate, current_database()) IS DISTINCT FROM ('40P01', 'orgs'))
			FROM deletion_run WHERE form = '$form'});
		note("$runs runs of the $form in database $database: $deleted accounts deleted, $failed failed");
		cmp_ok($deleted, '>', 0, "the $form deleted accounts");
		is($bad, 0, "each run of the $form came to its end");
	}
}
cmp_ok($failures{$_}, '>', 0, "clients met $_ failures") for sort keys %failures;
note(join ', ', map { "$_ failures: $failures{$_}" } sort keys %failures);
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM deletion_run WHERE (report ->> $$fk_checks_elided$$)::boolean'),
	'>', 0, 'runs left out foreign-key checks');
$node->stop;
done_testing();

sub pgbench {
	my ($database, $isolation, $clients, @scripts) = @_;
	my $name = join ', ', map { s{.*/|\.sql.*}{}gr } @scripts;
	my $self = { name => "$name ($database, $isolation)", out => '', err => '' };
	local $ENV{PGOPTIONS} = '-c default_transaction_isolation=' . $isolation =~ s/ /\\ /r;
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	$self->{run} = IPC::Run::start(
		[ 'pgbench', '--no-vacuum', '--failures-detailed', "--client=$clients", "--time=$seconds",
			(map { "--file=$_" } @scripts), $database ],
		'<', \undef, '>', \$self->{out}, '2>', \$self->{err});
	return $self;
}
