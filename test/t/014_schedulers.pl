# Whatever starts the job can trust its exit status: the command lines of README.md, and
# those in the files of src/schedulers, run as they stand there.
#
# None of these programs is at work here. A file is read as its program does, and the
# command is given to what that would give it to.

use strict;
use warnings;

use CPAN::Meta::YAML;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

my $node = PostgreSQL::Test::Cluster->new('schedulers');
$node->init;
$node->start;
$node->safe_psql(
	'postgres',
	slurp_file("$top/test/schema.sql") . q{
	CREATE EXTENSION scheduled_deletion;
	SELECT process_scheduled_deletions();
	CREATE TABLE invoices (user_id uuid NOT NULL REFERENCES profiles);
	CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
	CREATE TABLE users_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
	SELECT add_deletion_policy('users', 'users', audit_table => 'users_log', enabled => false);
});

# What psql connects to, as the environment of each program says it
my $url = 'postgresql:///postgres?user=' . getpwuid($>) . '&host=' . $node->host . '&port=' . $node->port;
my %connection = (
	PGHOST => $node->host,
	PGPORT => $node->port,
	PGDATABASE => 'postgres',
	PGUSER => scalar getpwuid($>));

# Each program's command, its environment, and which form it is
my @jobs = (
	(map { [ "by hand: $_", [ 'sh', '-c', $_ ], { DATABASE_URL => $url } ] } by_hand()),
	[ 'GitHub Actions', github_actions() ],
	[ 'systemd', systemd() ],
	[ 'cron', cron() ]);
is(scalar(@jobs), 6, 'three command lines of README.md, and three files');

for my $job (@jobs)
{
	my ($name, $command, $environment) = @$job;
	my $form = "@$command" =~ /CALL/ ? 'procedure' : 'function';
	my $tells_failures = "@$command" !~ /^sh -c \S+ \S+ -c 'SELECT/;

	add_accounts('', '');
	is(status($command, $environment), 0, "$name: nothing fails") or next;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM profiles WHERE deletion_scheduled_at IS NOT NULL'),
		0, "$name: all that are due are gone");
	is($node->safe_psql('postgres', 'SELECT form FROM deletion_run ORDER BY run_id DESC LIMIT 1'),
		$form, "$name: by the $form");

	add_accounts('', 'stays');
	my $status = status($command, $environment);
	if ($tells_failures) { isnt($status, 0, "$name: one of two fails") }
	else { is($status, 0, "$name: one of two fails, which the report tells") }
	is($node->safe_psql('postgres', 'SELECT email FROM profiles WHERE deletion_scheduled_at IS NOT NULL'),
		'stays', "$name: the other is gone");

	$node->safe_psql('postgres', q{
		TRUNCATE invoices;
		SELECT process_scheduled_deletions(), retry_account();
		SELECT process_scheduled_deletions();
		SELECT alter_deletion_policy('users', enabled => true);
		ALTER TABLE users_log RENAME action TO done});
	$status = status($command, $environment);
	if ($tells_failures) { isnt($status, 0, "$name: one of two policies cannot run") }
	else { is($status, 0, "$name: one of two policies cannot run, which the report tells") }
	$node->safe_psql('postgres', q{
		SELECT alter_deletion_policy('users', enabled => false);
		ALTER TABLE users_log RENAME done TO action});

	isnt(status($command, { %$environment, PGPORT => 1, DATABASE_URL => $url =~ s/&port=\d+/&port=1/r }),
		0, "$name: nobody answers");
}

# Cron's mail tells of a failure, and not of a run that took its time
{
	my (undef, $command, $environment) = @{ $jobs[-1] };
	add_accounts('', '');
	$node->safe_psql('postgres', q{ALTER ROLE CURRENT_USER SET scheduled_deletion.progress_interval = 1});
	is(status($command, $environment, \my $output), 0, 'cron: nothing fails');
	is($output, '', 'cron: so nothing is printed');
	$node->safe_psql('postgres', q{ALTER ROLE CURRENT_USER RESET scheduled_deletion.progress_interval});
}

# What is by hand today has a log tomorrow
for my $command (by_hand())
{
	my $log = PostgreSQL::Test::Utils::tempdir . '/log';
	append_to_file($log, "yesterday\n");
	local $ENV{DATABASE_URL} = $url;
	IPC::Run::run([ 'sh', '-c', $command ], '<', \undef, '>>', $log, '2>&1');
	like(slurp_file($log), qr/^yesterday\n[^\0]*"errors": \[\]/, "by hand: a log is added to: $command");
}

# What the unit says stops it, stops the run
like(slurp_file("$top/src/schedulers/scheduled-deletion.service"), qr/^KillSignal=SIGINT$/m, 'systemd stops it by SIGINT');
add_accounts(('') x 3);
$node->safe_psql('postgres', q{
	ALTER ROLE CURRENT_USER SET scheduled_deletion.batch_size = 1;
	ALTER ROLE CURRENT_USER SET scheduled_deletion.pause = '1h'});
my $session = IPC::Run::start([ systemd_arguments() ], init => sub { %ENV = (%ENV, %connection) }, '>&', \my $output);
$node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM deletion_progress WHERE users_done = 1') or die 'no run';
$session->signal('INT');
$session->finish;
isnt($session->result(0), 0, 'it fails then');
is($node->safe_psql('postgres', 'SELECT stop_reason, users_deleted FROM deletion_run ORDER BY run_id DESC LIMIT 1'),
	'cancelled|1', 'which ends the run in the server, too');

$node->stop;
done_testing();

# Accounts that are due, each with its e-mail; those with one fail
sub add_accounts
{
	my @emails = @_;
	$node->safe_psql('postgres', "INSERT INTO profiles (email, deletion_scheduled_at) VALUES ('$_', '2020-01-01')") for @emails;
	$node->safe_psql('postgres', "INSERT INTO invoices SELECT id FROM profiles WHERE email <> ''");
	return;
}

sub status
{
	my ($command, $environment, $output) = @_;
	local %ENV = (%ENV, %$environment);
	$output //= \my $ignored;
	IPC::Run::run($command, '<', \undef, '>&', $output);
	note($$output);
	return $? >> 8;
}

# The commands by which README.md has it done by hand
sub by_hand
{
	my ($section) = slurp_file("$top/README.md") =~ /^### By hand\n(.*?)^###/ms;
	return map { /^psql.*?(?=^psql|\z)/msg } $section =~ /^```sh\n(.*?)^```/msg;
}

# A step is given to bash, in an environment of its own; a secret is what it is called after
sub github_actions
{
	my $workflow = CPAN::Meta::YAML->read_string(slurp_file("$top/src/schedulers/github-actions.yml"))->[0];
	is_deeply([ sort keys %{ $workflow->{on} } ], [qw(schedule workflow_dispatch)], 'GitHub Actions: daily, and by hand');
	like($workflow->{on}{schedule}[0]{cron}, qr/^\d+ 2 \* \* \*$/, 'GitHub Actions: at night');
	my @steps = @{ $workflow->{jobs}{delete}{steps} };
	is(scalar(@steps), 1, 'GitHub Actions: nothing but psql');
	is_deeply($steps[0]{env}, { DATABASE_URL => '${{ secrets.DATABASE_URL }}' }, 'GitHub Actions: nothing but a secret');
	return ([ qw(bash --noprofile --norc -eo pipefail -c), $steps[0]{run} ], { DATABASE_URL => $url });
}

sub systemd { return ([ systemd_arguments() ], \%connection) }

# Words are separated, and quoted, as in a shell; nothing is expanded that is not there
sub systemd_arguments
{
	my ($line) = slurp_file("$top/src/schedulers/scheduled-deletion.service") =~ /^ExecStart=(.*)$/m;
	unlike($line, qr/[%\$\\]/, 'systemd expands nothing');
	my @words;
	push @words, $2 // $1 while $line =~ /\G\s*("([^"]*)"|\S+)/g;
	return @words;
}

# A line is given to sh; what the file sets to connect is for an example
sub cron
{
	my $crontab = slurp_file("$top/src/schedulers/crontab");
	my ($line) = $crontab =~ /^0 2 \* \* \* +(.*)$/m;
	unlike($line, qr/%/, 'cron takes no part of the line for input');
	return ([ 'sh', '-c', $line ], { $crontab =~ /^([A-Z]+)=(.*)$/mg, %connection });
}
