# A backend that is killed, or a server that stops at once, at any moment of a run of
# either form: no promise is broken, and the next run goes on.
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

my %statements = (
	function => "SELECT process_scheduled_deletions(release_brake => true)",
	procedure => "CALL run_scheduled_deletions(release_brake => true, pause => '0')",
	between_batches => "CALL run_scheduled_deletions(release_brake => true, batch_size => 20, pause => '1 hour')");

# How long a run takes that nobody kills
my %seconds;
for my $form (qw(function procedure)) {
	let_some_be_due();
	my $started = time;
	$node->safe_psql('postgres', $statements{$form});
	$seconds{$form} = time - $started;
}

my %counts = map { $_ => 0 } qw(interrupted committed);
srand(1);
for my $n (1 .. $kills) {
	# the first kill of each kind comes between two batches, whatever the machine's speed
	my $form = $n <= 2 ? 'between_batches' : (qw(function procedure))[ $n % 2 ];
	let_some_be_due();
	my $deleted = deleted();
	my $is_over = run_and_kill($form, $n % 4 < 2);
	my $left = $node->safe_psql('postgres', "SELECT promise, id FROM broken_promises");
	is($left, '', "kill $n keeps promises") if $left ne '';
	$counts{interrupted}++ if !$is_over;
	$counts{committed}++ if !$is_over && deleted() > $deleted;
}
is($node->safe_psql('postgres', "$statements{function} -> 'users_failed'"), 0, 'the next run does the rest');
is($node->safe_psql('postgres', "SELECT promise, id FROM broken_promises"), '', "no promise is broken by $kills kills");
cmp_ok($counts{interrupted}, '>=', 2, "$counts{interrupted} runs were interrupted");
cmp_ok($counts{committed}, '>=', 2, "$counts{committed} of them had committed batches");
is($node->safe_psql('postgres', "SELECT count(*) FROM deletion_run WHERE completed_at IS NULL AND stop_reason IS NULL"),
	0, 'the ledger knows that none is at work');
$node->stop;
done_testing();

sub deleted {
	return $node->safe_psql('postgres', "SELECT count(*) FROM audit_log WHERE action = 'hard_deleted'");
}

# New accounts, with rows that they share with others
sub let_some_be_due {
	$node->safe_psql('postgres', q{
		SELECT count(add_account()) FROM generate_series(1, 60);
		SELECT count(add_rows(some_account(n / 60.0), some_account((n + 7) % 60 / 60.0))) FROM generate_series(0, 59) n;
		SELECT count(say(id, id, '2020-01-01')) FROM (SELECT id FROM profiles ORDER BY created_at DESC LIMIT 60) p;});
	return;
}

# Kill the run, or the whole server, at a moment that is any of those that it takes; was
# it over by then?
sub run_and_kill {
	my ($form, $is_server) = @_;
	my ($out, $err) = ('', '');
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', '-' ],
		'<', \"SELECT pg_backend_pid();\n$statements{$form};\n\\echo over\nSELECT pg_sleep(600);\n", '>', \$out, '2>', \$err);
	$session->pump until $out =~ /^(\d+)\n/;
	my $pid = $1;
	my $log = -s $node->logfile;
	if ($form eq 'between_batches') {
		$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Extension'")
		  or die "no pause of the run in process $pid";
	}
	else { usleep(rand(1e6 * $seconds{$form})) }
	if ($is_server) { $node->stop('immediate') }
	else { kill 'KILL', $pid }
	$session->finish;
	if ($is_server) { $node->start }
	else { $node->wait_for_log(qr/all server processes terminated; reinitializing.*ready to accept connections/s, $log) }
	return $out =~ /over/;
}
