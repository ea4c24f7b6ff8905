# The job as CALL run_scheduled_deletions(): if an account fails, pg_cron shows
# that the job has failed, though all others are gone by then, for good; and that
# the next one has succeeded, when the account is mended.  It is so in both ways
# that pg_cron has to run a job, over a connection and in a background worker,
# which executes the command by code of pg_cron's own.
#
# A SQL test knows neither what a procedure may do there, nor what pg_cron makes of
# an error.  That the clock starts a job, 001_pg_cron.pl has proved; here they start
# with the server, which takes no minute.

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

# Each job that runs in the background takes one of the workers.  Of nine accounts,
# at most two a batch, the procedure commits five times at least.
my $node = PostgreSQL::Test::Cluster->new('pg_cron');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron'");
$node->append_conf('postgresql.conf', "cron.host = '" . $node->host . "'");
$node->append_conf('postgresql.conf', 'max_worker_processes = 16');
$node->append_conf('postgresql.conf', 'scheduled_deletion.batch_size = 2');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron');

# Ten of 100 accounts are due, and one of the ten has an invoice
$node->safe_psql('postgres', 'CREATE DATABASE accounts');
$node->safe_psql('accounts',
		slurp_file("$top/test/schema.sql")
	  . slurp_file("$top/test/generate.sql"));
$node->safe_psql(
	'accounts', q{
	CREATE EXTENSION scheduled_deletion;
	CREATE TABLE initial AS
		SELECT id, deletion_scheduled_at <= now() AND deleted_at IS NULL AS due FROM profiles;
	CREATE TABLE invoices (user_id uuid REFERENCES profiles);
	INSERT INTO invoices SELECT id FROM initial WHERE due ORDER BY id LIMIT 1;
	ALTER TABLE audit_log ADD transaction xid8 DEFAULT pg_current_xact_id();
	CREATE VIEW outcome AS
		SELECT (SELECT count(*) FROM profiles JOIN initial USING (id) WHERE due) AS due,
			(SELECT count(*) FROM profiles JOIN initial USING (id) WHERE due IS NOT TRUE) AS others,
			(SELECT count(*) FROM audit_log WHERE action = 'hard_deleted') AS audit_rows,
			(SELECT count(*) FROM initial WHERE due AND id NOT IN (SELECT id FROM profiles)
				AND id IN (SELECT user_id FROM audit_log WHERE action = 'hard_deleted')) AS audited;
});
my $untouched   = '10|90|0|0';
my $all_but_one = '1|90|9|9';
my $all_gone    = '0|90|10|10';

is($node->safe_psql('accounts', 'TABLE outcome'),
	$untouched, '10 of 100 accounts are due');

my $transactions =
  q{SELECT count(DISTINCT transaction) FROM audit_log WHERE action = 'hard_deleted'};
my $ledger = q{
	SELECT form, users_due, users_deleted, users_failed, stop_reason
	FROM deletion_run ORDER BY run_id DESC LIMIT 1};
my $mend = 'DELETE FROM invoices; SELECT retry_account()';

# Each in a database of its own
my %command = (
	call           => 'CALL run_scheduled_deletions()',
	function       => 'SELECT process_scheduled_deletions()',
	'set and call' =>
	  q{SET lock_timeout = '1s'; CALL run_scheduled_deletions()});

# Let pg_cron run all jobs, by a restart of the server, until they have ended as
# expected.  That is the state to wait for: of two statements in a command, pg_cron
# shows for a moment that the first has succeeded.
sub run_jobs
{
	my ($expected, $name) = @_;

	$node->restart;
	ok( $node->poll_query_until(
			'postgres', q{
			SELECT string_agg(jobname || ': ' || coalesce(status, 'none'), ', ' ORDER BY jobname)
			FROM cron.job LEFT JOIN
				(SELECT DISTINCT ON (jobid) jobid, status FROM cron.job_run_details ORDER BY jobid, runid DESC) AS last
				USING (jobid)},
			$expected),
		"$name: $expected");
}

# What pg_cron tells of a job's last run
sub message
{
	my ($job) = @_;

	return $node->safe_psql(
		'postgres', qq{
		SELECT return_message FROM cron.job_run_details JOIN cron.job USING (jobid)
		WHERE jobname = '$job' ORDER BY runid DESC LIMIT 1});
}

# The text for success is pg_cron's: the number of rows that a connection has got,
# or the tag of the command
my %succeeded = (
	off => { call => '1 row', function => '1 row' },
	on  => { call => 'CALL',  function => 'SELECT 1' });

foreach my $background ('off', 'on')
{
	my $how      = "use_background_workers = $background";
	my %database = map { $_ => "$_, $background" } keys %command;

	$node->append_conf('postgresql.conf',
		"cron.use_background_workers = $background");
	foreach my $job (sort keys %command)
	{
		$node->safe_psql('postgres',
			qq{CREATE DATABASE "$database{$job}" TEMPLATE accounts});
		$node->safe_psql('postgres',
			"SELECT cron.schedule_in_database('$job', '\@reboot', \$\$$command{$job}\$\$, '$database{$job}')"
		);
	}
	run_jobs('call: failed, function: succeeded, set and call: failed', $how);
	is($node->safe_psql('postgres', 'SHOW cron.use_background_workers'),
		$background, "$how: so they have run");

	# The procedure: an error, at the end
	like(
		message('call'),
		qr/^ERROR: +1 of 10 accounts could not be deleted$/m,
		"$how: pg_cron tells how many accounts have failed");
	is($node->safe_psql($database{call}, 'TABLE outcome'),
		$all_but_one,
		"$how: and the others are gone, with an audit row each");
	cmp_ok($node->safe_psql($database{call}, $transactions),
		'>=', 5, "$how: in several transactions");
	is($node->safe_psql($database{call}, $ledger),
		'procedure|10|9|1|drained', "$how: as the ledger says");

	# The function: nobody is told, which is why there is a procedure
	is($node->safe_psql($database{function}, 'TABLE outcome'),
		$all_but_one, "$how: the function deletes the same");
	is($node->safe_psql($database{function}, $transactions),
		1, "$how: in one transaction");
	is( message('function'),
		$succeeded{$background}{function},
		"$how: and pg_cron tells nothing of the one that failed");

	# With another statement before it, which is how people set a timeout: over a
	# connection, the server makes one transaction of what comes in one string; in a
	# worker, pg_cron has the transaction, and lets no statement of several commit.
	like(
		message('set and call'),
		qr/^ERROR: +run_scheduled_deletions\(\) cannot run inside a transaction block$/m,
		"$how: the procedure does not run as one statement of several");
	is($node->safe_psql($database{'set and call'}, 'TABLE outcome'),
		$untouched, "$how: and has deleted nobody");
	is( $node->safe_psql(
			$database{'set and call'},
			'SELECT count(*) FROM deletion_run'),
		0,
		"$how: and was no run");

	# Mended
	$node->safe_psql('postgres',
		q{SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname <> 'call'}
	);
	is($node->safe_psql($database{call}, $mend), 1, "$how: one has waited");
	run_jobs('call: succeeded', "$how, mended");
	is( message('call'),
		$succeeded{$background}{call},
		"$how, mended: pg_cron tells of no error");
	is($node->safe_psql($database{call}, 'TABLE outcome'),
		$all_gone, "$how, mended: all that were due are gone");
	is($node->safe_psql($database{call}, $ledger),
		'procedure|1|1|0|drained', "$how, mended: as the ledger says");
	$node->safe_psql('postgres',
		'SELECT cron.unschedule(jobid) FROM cron.job');
}

# As README.md has it: in another database, by a role that can do nothing else
my $readme = slurp_file("$top/README.md");
my ($role) = $readme =~ /^(CREATE ROLE erasure LOGIN;.*?)^```/ms;
my ($in_database) = $readme =~ /^(SELECT cron\.schedule_in_database\(.*?;)$/ms;
my ($prune) = $readme =~ /^(SELECT cron\.schedule\('prune-job-run-details',.*?;)$/ms;
$node->safe_psql('postgres', 'CREATE DATABASE app TEMPLATE accounts');
$node->safe_psql('app', $role);
$node->safe_psql('postgres', $in_database =~ s/0 2 \* \* \*/\@reboot/r);
run_jobs('hard-delete-in-app: failed', 'in a database of its own');
is($node->safe_psql('app', 'TABLE outcome'), $all_but_one, 'all but one are gone');
is($node->safe_psql('app', 'SELECT started_by FROM deletion_run'), 'erasure', 'by the role of the job');

# What pg_cron remembers of it goes, when it is old
$node->safe_psql('postgres', q{
	SELECT cron.unschedule(jobid) FROM cron.job;
	DELETE FROM cron.job_run_details;
	INSERT INTO cron.job_run_details (jobid, runid, job_pid, database, username, command, start_time)
	SELECT 0, -n, 0, 'app', 'erasure', '', now() - interval '10 days' * n FROM generate_series(1, 5) n});
$node->safe_psql('postgres', $prune =~ s/0 3 \* \* \*/\@reboot/r);
run_jobs('prune-job-run-details: succeeded', 'pruning');
is($node->safe_psql('postgres', 'SELECT count(*) FROM cron.job_run_details WHERE runid < 0'), 2,
	'what is older than 30 days is gone');

# Other schedulers run psql, and look at its exit status
my @psql = (
	'psql', '-X', '-d', $node->connstr('accounts'),
	'-c',   'CALL run_scheduled_deletions()');
$node->command_checks_all(
	\@psql, 1, [qr/^$/],
	[qr/^ERROR:  1 of 10 accounts could not be deleted$/m],
	'psql fails if an account did');
is($node->safe_psql('accounts', 'TABLE outcome'),
	$all_but_one, 'and the others are gone');
$node->safe_psql('accounts', $mend);
$node->command_checks_all(\@psql, 0, [qr/"users_deleted": 1,/],
	[qr/^$/], 'and succeeds when it is mended');
is($node->safe_psql('accounts', 'TABLE outcome'), $all_gone, 'and all are');

$node->stop;
done_testing();
