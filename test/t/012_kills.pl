# A backend that is killed, or a server that stops at once, at any moment of a run of
# either form: no promise is broken, and the next run goes on.  In a second database the
# runs have clients beside them, who move rows from what stays to what goes.
#
# KILLS in the environment says how often; 12 by default.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $top = "$FindBin::RealBin/../..";
my $kills = $ENV{KILLS} // 12;

my $node = PostgreSQL::Test::Cluster->new('kills');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
client_min_messages = warning
restart_after_crash = on
scheduled_deletion.batch_duration = 5ms
});
$node->start;
$node->safe_psql('postgres',
	    slurp_file("$top/test/schema.sql")
	  . '\set accounts 300' . "\n"
	  . slurp_file("$top/test/generate.sql")
	  . 'CREATE EXTENSION scheduled_deletion;'
	  . slurp_file("$top/test/storm/setup.sql"));
$node->safe_psql('postgres', 'SELECT process_scheduled_deletions()');
$node->safe_psql('postgres', 'CREATE DATABASE orgs');
$node->safe_psql('orgs', 'CREATE EXTENSION scheduled_deletion;' . slurp_file("$top/test/storm/orgs/setup.sql"));

my %statements = (
	function => "SELECT process_scheduled_deletions(release_brake => true)",
	procedure => "CALL run_scheduled_deletions(release_brake => true, pause => '0')",
	between_batches => "CALL run_scheduled_deletions(release_brake => true, batch_size => 20, pause => '1 hour')");

# How long a run takes that nobody kills
my %seconds;
for my $database (qw(postgres orgs)) {
	for my $form (qw(function procedure)) {
		let_some_be_due($database);
		my $started = time;
		$node->psql($database, $statements{$form});
		$seconds{$database}{$form} = time - $started;
	}
}

my %counts = map { $_ => 0 } qw(interrupted committed moved);
srand(1);
for my $n (1 .. $kills) {
	# the first kill of each kind comes between two batches, whatever the machine's speed
	my $form = $n <= 2 ? 'between_batches' : (qw(function procedure))[ $n % 2 ];
	my $database = $n % 8 < 4 ? 'postgres' : 'orgs';
	let_some_be_due($database);
	my $deleted = deleted($database);
	my $is_over = run_and_kill($database, $form, $n % 4 < 2);
	my $left = $node->safe_psql($database, "SELECT promise, id FROM broken_promises");
	is($left, '', "kill $n in database $database keeps promises") if $left ne '';
	$counts{interrupted}++ if !$is_over;
	$counts{committed}++ if !$is_over && deleted($database) > $deleted;
}
# what keeps some of them from going: a pair, too, if only one of it has failed before,
# for that one is tried last, and without the other
$node->safe_psql('orgs', q{
	SELECT count(release()) FROM generate_series(1, (SELECT count(*) FROM deletion_hold));
	SELECT move_partition('events', 0) WHERE EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'events_3'::regclass);
	SELECT retry_account();
	SELECT process_scheduled_deletions(release_brake => true);
	SELECT retry_account();});
for my $database (qw(postgres orgs)) {
	is($node->safe_psql($database, "$statements{function} -> 'users_failed'"), 0, "the next run does the rest in database $database");
	is($node->safe_psql($database, "SELECT promise, id FROM broken_promises"), '', "no promise is broken by $kills kills");
	is($node->safe_psql($database, "SELECT count(*) FROM deletion_run WHERE completed_at IS NULL AND stop_reason IS NULL"),
		0, 'the ledger knows that none is at work');
}
cmp_ok($counts{interrupted}, '>=', 2, "$counts{interrupted} runs were interrupted");
cmp_ok($counts{committed}, '>=', 2, "$counts{committed} of them had committed batches");
cmp_ok($counts{moved}, '>', 0, "$counts{moved} rows were moved by clients") if $kills > 3;
$node->stop;
done_testing();

sub deleted {
	my $database = shift;
	return $node->safe_psql($database, "SELECT count(*) FROM audit_log WHERE action = 'hard_deleted'");
}

sub placed {
	return $node->safe_psql('orgs', 'SELECT count(*) FROM placed');
}

# New accounts, with rows that they share with others
sub let_some_be_due {
	my $database = shift;
	my %statements = (
		postgres => q{
		SELECT count(add_account()) FROM generate_series(1, 60);
		SELECT count(add_rows(some_account(n / 60.0), some_account((n + 7) % 60 / 60.0))) FROM generate_series(0, 59) n;
		SELECT count(say(id, id, '2020-01-01')) FROM (SELECT id FROM profiles ORDER BY created_at DESC LIMIT 60) p;},
		orgs => q{
		SELECT count(add_org()), count(add_pair()) FROM generate_series(1, 10);
		SELECT count(say(policy, 0.7, '2020-01-01')) FROM generate_series(1, 15), unnest('{orgs,members,pairs}'::text[]) AS policy;
		SELECT retry_account();});
	$node->safe_psql($database, $statements{$database});
	return;
}

# Clients who move rows until the server ends
sub start_clients {
	my @scripts = map { "--file=$top/test/storm/orgs/$_" } qw(move.sql@4 move_slowly.sql@4 partition.sql hold.sql release.sql);
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	my $clients = IPC::Run::start([ 'pgbench', '--no-vacuum', '--client=3', '--time=600', @scripts, 'orgs' ],
		'<', \undef, '>', \my $out, '2>', \my $err);
	$node->poll_query_until('orgs', "SELECT count(*) = 4 FROM pg_stat_activity WHERE datname = 'orgs' AND backend_type = 'client backend'")
	  or die "no clients: $err";
	return $clients;
}

# Kill the run, or the whole server, at a moment that is any of those that it takes; was
# it over by then?
sub run_and_kill {
	my ($database, $form, $is_server) = @_;
	my ($out, $err) = ('', '');
	my $placed = placed();
	my $clients = $database eq 'orgs' ? start_clients() : undef;
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr($database), '-f', '-' ],
		'<', \"SELECT pg_backend_pid();\n$statements{$form};\n\\echo over\nSELECT pg_sleep(600);\n", '>', \$out, '2>', \$err);
	$session->pump until $out =~ /^(\d+)\n/;
	my $pid = $1;
	my $log = -s $node->logfile;
	if ($form eq 'between_batches') {
		$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Extension'")
		  or die "no pause of the run in process $pid";
	}
	else { usleep(rand(1e6 * $seconds{$database}{$form})) }
	if ($is_server) { $node->stop('immediate') }
	else { kill 'KILL', $pid }
	$session->finish;
	$clients->finish if $clients;
	if ($is_server) { $node->start }
	else { $node->wait_for_log(qr/all server processes terminated; reinitializing.*ready to accept connections/s, $log) }
	$counts{moved} += placed() - $placed;
	return $out =~ /over/;
}
