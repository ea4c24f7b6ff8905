# Whatever ends a run while it is deleting an account, be it for that account, keeps the
# others from being deleted for that night only: the next run tries those whom it was
# deleting last, whether it could tell of them or not.
#
# A SQL test can neither lose its session nor see what another one does.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('suspects');
$node->init;
$node->append_conf('postgresql.conf', "restart_after_crash = on\nclient_min_messages = warning\nscheduled_deletion.batch_duration = '1h'\nscheduled_deletion.lock_timeout = 0\n");
$node->start;

# Sixty accounts are due, and some are slow to go: as long as a lock is held
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', q{
	CREATE EXTENSION scheduled_deletion;
	CREATE TABLE users (id int PRIMARY KEY, due timestamptz, is_slow boolean);
	CREATE TABLE audit_log (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);
	INSERT INTO users SELECT n, '2020-01-01'::timestamptz + n * interval '1 day', false FROM generate_series(1, 60) n;
	CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN PERFORM pg_advisory_xact_lock(1); RETURN OLD; END $$;
	CREATE TRIGGER be_slow BEFORE DELETE ON users FOR EACH ROW WHEN (OLD.is_slow) EXECUTE FUNCTION be_slow();
	SELECT add_deletion_policy('users', 'users', due_column => 'due', brake_share => 1);
	CREATE VIEW suspects AS SELECT count(*) || ' ' || coalesce(min(account::int), 0) || '-' || coalesce(max(account::int), 0)
		|| ' ' || count(*) FILTER (WHERE attempts > 0) FROM deletion_failure WHERE uncertain});

my $gate;

# Begin with a copy of the database, in which these accounts are slow
sub begin
{
	my ($database, $slow) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE shop");
	$node->safe_psql($database, "UPDATE users SET is_slow = true WHERE id IN ($slow)");
	$gate = $node->background_psql($database);
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	return;
}

# Run it, until it waits; end it in that way, and tell who is left, and what it said
sub run_and_end
{
	my ($database, $how) = @_;
	my ($printed, $errors) = ('', '');
	my $run = IPC::Run::start(
		[ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr($database) . ' application_name=run',
			'-c', q{CALL run_scheduled_deletions('users', batch_size => 10, pause => '0')} ],
		'>', \$printed, '2>', \$errors, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	my $waits = q{FROM pg_stat_activity WHERE application_name = 'run' AND wait_event_type = 'Lock' AND wait_event = 'advisory'};
	$node->poll_query_until($database, "SELECT count(*) = 1 $waits") or die 'the run does not wait';
	my $pid = $node->safe_psql($database, "SELECT pid $waits");
	if ($how eq 'kill') { system_or_bail('pg_ctl', 'kill', 'KILL', $pid) }
	else { $node->safe_psql($database, "SELECT $how($pid)") }
	$run->finish;
	if ($how eq 'kill')
	{
		$node->poll_query_until($database, 'SELECT true') or die 'the server is gone';
		$gate->quit;
		$gate = $node->background_psql($database);
		$gate->query_safe('SELECT pg_advisory_lock(1)');
	}
	return ($node->safe_psql($database, 'SELECT count(*), min(id), max(id) FROM users'), $errors);
}

my %ends = (cancelled => 'pg_cancel_backend', terminated => 'pg_terminate_backend', killed => 'kill');
for my $name (sort keys %ends)
{
	my $how = $ends{$name};
	my $lives = $name eq 'cancelled';
	my ($left, $errors);

	# of the first batch, the first account
	begin($name, '1');
	($left, $errors) = run_and_end($name, $how);
	is($left, '60|1|60', "$name: nobody is deleted when the first batch is");
	is($node->safe_psql($name, 'TABLE suspects'), $lives ? '10 1-10 0' : '0 0-0 0', 'who was being deleted is on record, if the run could tell');
	like($errors, qr/HINT: .*Table deletion_failure has the accounts that were being deleted/, 'and its hint says so') if $lives;
	is($node->safe_psql($name, 'SELECT users_failing, blocked_by FROM deletion_status'), '0|', 'but not as failing');
	($left) = run_and_end($name, $how);
	is($left, '1|1|1', 'the next run deletes the others first');
	is($node->safe_psql($name, 'TABLE suspects'), $lives ? '1 1-1 1' : '10 1-10 0', 'now it is certain who it is, if the run could tell') if $lives;

	# while it is slow, it keeps nobody waiting who is due later
	$node->safe_psql($name, q{INSERT INTO users SELECT n, '2021-01-01', false FROM generate_series(100, 200) n});
	($left) = run_and_end($name, $how);
	is($left, '1|1|1', 'and those who are due later');
	$gate->quit;
	$node->safe_psql($name, 'CALL run_scheduled_deletions()');
	is($node->safe_psql($name, 'SELECT count(*), (SELECT count(*) FROM deletion_failure), (SELECT count(*) FROM deletion_run WHERE next_batch IS NOT NULL) FROM users'),
		'0|0|0', 'when it is not any more, it goes, and nothing is left on record');

	# in any place of any batch: not later than the third run, the others are gone
	begin("$name\_later", '25');
	($left) = run_and_end("$name\_later", $how);
	is($left, '40|21|60', 'what is committed before is done');
	run_and_end("$name\_later", $how);
	($left) = run_and_end("$name\_later", $how);
	is($left, '1|25|25', 'all others are gone after the third run');
	$gate->quit;
}

# The function has done nothing then, and does not know; but it tries those last whom the
# procedure knows
begin('function', '1');
my ($left) = run_and_end('function', 'pg_terminate_backend');
$gate->quit;
is($node->safe_psql('function', q{SELECT process_scheduled_deletions('users') ->> 'users_deleted'}), 60, 'the function goes on after the procedure');
is($node->safe_psql('function', 'SELECT count(*) FROM deletion_failure'), 0, 'and forgets who was suspected');

# A lock that was not to be had is on record, and counts as a failure the second time
$node->safe_psql('postgres', 'CREATE DATABASE locked TEMPLATE shop');
$node->safe_psql('locked', q{
	UPDATE users SET is_slow = id = 5;
	ALTER FUNCTION be_slow() SET lock_timeout = '10ms'});
$gate = $node->background_psql('locked');
$gate->query_safe('SELECT pg_advisory_lock(1)');
for my $attempts (0 .. 2)
{
	$node->safe_psql('locked', q{CALL run_scheduled_deletions(pause => '0')});
	is($node->safe_psql('locked', 'SELECT u.id, attempts, uncertain, sqlstate FROM users u JOIN deletion_failure ON account = id::text'),
		"5|$attempts|t|55P03", "$attempts: it is on record when it is put off");
}
$gate->quit;
$node->safe_psql('locked', q{CALL run_scheduled_deletions(pause => '0')});
is($node->safe_psql('locked', 'SELECT (SELECT count(*) FROM users), count(*) FROM deletion_failure'), '0|0', 'and gone in the end');

# A commit that fails cannot tell of whom it was
$node->safe_psql('postgres', 'CREATE DATABASE at_commit TEMPLATE shop');
$node->safe_psql('at_commit', q{
	CREATE SEQUENCE calls;
	CREATE FUNCTION fail_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF nextval('calls') % 2 = 0 THEN RAISE 'at commit'; END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER fail_at_commit AFTER DELETE ON users DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW WHEN (OLD.id = 3) EXECUTE FUNCTION fail_at_commit()});
$node->psql('at_commit', q{CALL run_scheduled_deletions(pause => '0', batch_size => 10)});
is($node->safe_psql('at_commit', 'SELECT count(*) FROM users'), 60, 'a commit fails');
$node->psql('at_commit', q{CALL run_scheduled_deletions(pause => '0')});
cmp_ok($node->safe_psql('at_commit', 'SELECT count(*) FROM users'), '<=', 10, 'the next run deletes the others first');
is($node->safe_psql('at_commit', 'SELECT count(*) FROM users WHERE id > 10'), 0, 'all of them');

$node->stop;
done_testing();
