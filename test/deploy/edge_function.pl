# The edge function, in real Deno, starts the job for whoever has the key and for nobody
# else, answers what has happened, and tells nothing of an account, the key or the password.
# What README.md has the clouds' schedulers send, is answered likewise.
#
# Deno comes from npm into a temporary directory, and the driver as Deno fetches it.

use strict;
use warnings;

use FindBin;
use HTTP::Tiny;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $readme = slurp_file("$top/README.md");
my $source = "$top/src/schedulers/edge_function/index.ts";
my $key = 'k3y-' . join '', map { ('a' .. 'z', 0 .. 9)[ rand 36 ] } 1 .. 36;
my $password = 'passw0rd-of-erasure';
my $home = PostgreSQL::Test::Utils::tempdir('deno');

local %ENV = (
	%ENV,
	HOME => $home,
	npm_config_cache => "$home/npm",
	DENO_DIR => "$home/cache",
	DENO_NO_UPDATE_CHECK => 1,
	DENO_TLS_CA_STORE => 'system,mozilla',
	NO_COLOR => 1);
my @install = qw(npm install --silent --no-fund --no-audit --ignore-scripts);
system_log(@install, '--prefix', $home, 'deno@2.9.6') == 0
  or BAIL_OUT('could not fetch Deno');
my ($deno) = glob "$home/node_modules/\@deno/*/deno"
  or BAIL_OUT('npm has no Deno for this machine');

foreach my $look ([qw(check --no-lock)], [qw(lint)], [qw(fmt --check --line-width 100)])
{
	my $ok = IPC::Run::run([ $deno, @$look, $source ], '>&', \my $found);
	ok($ok, "deno $look->[0] has nothing to say") or diag($found);
}

# The database, which is reached as it is from elsewhere: by TCP, with a password
my $node = PostgreSQL::Test::Cluster->new('edge_function');
$node->init;
$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'");
unlink $node->data_dir . '/pg_hba.conf';
append_to_file($node->data_dir . '/pg_hba.conf',
	"local all all trust\nhost all erasure 127.0.0.1/32 scram-sha-256\n");
$node->start;
my ($grants) = $readme =~ /^```sql\n(CREATE ROLE erasure LOGIN;.*?)^```/ms
  or die "README.md does not say what the job's role needs\n";
in_database(
	slurp_file("$top/test/schema.sql") . qq{
	CREATE EXTENSION scheduled_deletion;
	SELECT process_scheduled_deletions();
	CREATE TABLE invoices (user_id uuid NOT NULL REFERENCES profiles);
	$grants;
	ALTER ROLE erasure PASSWORD '$password'});

my @functions;
my $all_text = '';
my $url = 'postgres://erasure:' . $password . '@127.0.0.1:' . $node->port . '/postgres';
my $function = start_function();

# What it needs to start
foreach my $wrong (
	[ 'no key', SCHEDULED_DELETION_KEY => undef ],
	[ 'a short key', SCHEDULED_DELETION_KEY => substr($key, 0, 31) ],
	[ 'a key that no header can have', SCHEDULED_DELETION_KEY => "$key $key" ],
	[ 'no database', SCHEDULED_DELETION_DB_URL => undef ],
	[ 'no URL', SCHEDULED_DELETION_DB_URL => "host=127.0.0.1 password=$password" ],
	[ 'no number', SCHEDULED_DELETION_MAX_SECONDS => '1 minute' ],
	[ 'no time', SCHEDULED_DELETION_MAX_SECONDS => 0 ],
	[ 'a time without end', SCHEDULED_DELETION_MAX_SECONDS => 'Infinity' ])
{
	my ($name, $variable, $value) = @$wrong;
	my $process = deno_process(0, $variable => $value);
	eval { $process->{run}->finish };
	is($process->{run}->result, 1, "it does not start with $name");
	like(log_of($process), qr/^error: .*$variable is not/m, 'and says which variable it is');
}

# Who may
add_accounts(1);
foreach my $stranger (
	[ 'no key' ],
	[ 'another key', Authorization => 'Bearer ' . reverse($key) ],
	[ 'a part of the key', Authorization => 'Bearer ' . substr($key, 0, -1) ],
	[ 'more than the key', Authorization => "Bearer ${key}x" ],
	[ 'an empty key', Authorization => 'Bearer ' ],
	[ 'the key without its scheme', Authorization => $key ],
	[ 'another scheme', Authorization => "Basic $key" ],
	[ 'the key as a header of its own', apikey => $key ])
{
	my ($name, %headers) = @$stranger;
	my $answer = request($function, 'POST', headers => \%headers);
	is("$answer->{status} $answer->{headers}{'www-authenticate'}", '401 Bearer', "$name: 401");
	is($answer->{content}, '{"error":"not authorized"}', "$name: nothing else");
}
foreach my $method (qw(GET HEAD PUT DELETE OPTIONS))
{
	my $answer = request($function, $method);
	is("$answer->{status} $answer->{headers}{allow}", '405 POST', "$method with the key: 405");
}
is(in_database(q{SELECT (SELECT count(*) FROM profiles), (SELECT max(form) FROM deletion_run)}),
	'1|function', 'none of them has started a run');

# A clean run
my $answer = request($function, 'POST', content => '{"anything": 1}');
my $report = decode_json($answer->{content});
is($answer->{status}, 200, 'with the key: 200');
like($answer->{headers}{'content-type'}, qr{^application/json}, 'the answer is JSON');
is($answer->{headers}{'cache-control'}, 'no-store', 'and nobody is to keep it');
is($report->{users_deleted}, 1, 'the account is deleted');
is(in_database('SELECT count(*) FROM profiles'), 0, 'it is gone');
is(in_database('SELECT action FROM audit_log'), 'hard_deleted', 'and has its audit row');
is(in_database('SELECT form FROM deletion_run ORDER BY run_id DESC LIMIT 1'),
	'procedure', 'by the form that commits');
is_deeply($report, report_of_last_run(), 'the answer is the report');
add_accounts(1);
is(request($function, 'POST', headers => { authorization => "bearer $key" })->{status},
	200, 'names of headers and schemes are in any case');

# Accounts that fail, with a trigger that tells everything
in_database(q{
	CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
		RAISE WARNING 'this is %', OLD.email;
		IF OLD.email LIKE 'refused%' THEN RAISE 'not %', OLD.email USING DETAIL = OLD.id; END IF;
		RETURN OLD;
	END$$;
	CREATE TRIGGER tell BEFORE DELETE ON profiles FOR EACH ROW EXECUTE FUNCTION tell()});
add_accounts(3);
add_accounts(2, 'refused');
in_database(q{INSERT INTO invoices SELECT id FROM profiles WHERE email IN ('person2', 'person3')});
$answer = request($function, 'POST');
$report = decode_json($answer->{content});
is($answer->{status}, 500, 'accounts fail: 500');
is(join(' ', map { $report->{"users_$_"} } qw(processed deleted failed waiting)),
	'5 1 4 0', 'how many');
is_deeply(
	[ sort { $a->{sqlstate} cmp $b->{sqlstate} } @{ $report->{errors} } ],
	[
		{
			sqlstate => '23503',
			table_name => 'invoices',
			constraint_name => 'invoices_user_id_fkey',
			users_failed => 2
		},
		{
			sqlstate => 'P0001',
			table_name => 'profiles',
			constraint_name => undef,
			users_failed => 2
		}
	],
	'and why');
delete $report->{errors};
is_deeply($report, report_of_last_run(), 'else the answer is the report');

$answer = request($function, 'POST');
is($answer->{status}, 200, 'they wait: 200');
is(decode_json($answer->{content})->{users_waiting}, 4, 'how many');

# A policy that cannot run, beside one that can
in_database(q{
	CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
	CREATE TABLE users_log (user_id int, action text, details jsonb, performed_by int,
		created_at timestamptz);
	SELECT add_deletion_policy('users', 'users', audit_table => 'users_log')});
$answer = request($function, 'POST');
$report = decode_json($answer->{content});
is($answer->{status}, 500, 'one of two policies cannot run: 500');
is($report->{policies_failed}, 1, 'how many');
is($report->{policies}{users}{sqlstate}, '42501', 'and why');
is($report->{policies}{'built-in'}{users_waiting}, 4, 'the other has run');
unlike($answer->{content}, qr/GRANT|privilege/, 'no message');
in_database(q{SELECT remove_deletion_policy('users')});

# A run that cannot begin
my $down = { error => 'the database is not available' };
my $failed = { error => 'the run has failed' };
in_database('REVOKE DELETE ON check_ins FROM erasure');
answer_is([ 500, { %$failed, sqlstate => '42501' } ], 'a privilege is missing');
in_database('GRANT DELETE ON check_ins TO erasure');
in_database(q{ALTER ROLE erasure PASSWORD 'another'});
answer_is([ 500, { %$failed, sqlstate => '28P01' } ], 'the password is wrong');
in_database("ALTER ROLE erasure PASSWORD '$password' CONNECTION LIMIT 0");
answer_is([ 503, { %$down, sqlstate => '53300' } ], 'there is no room for a session');
in_database('ALTER ROLE erasure CONNECTION LIMIT -1');

# A run that waits in its middle
in_database('DROP TRIGGER tell ON profiles; DELETE FROM invoices; DELETE FROM profiles');
in_database(slurp_file("$top/test/gate.sql") =~ s/SELECT format.*//rs);
in_database(q{CREATE TRIGGER wait_at_gate BEFORE DELETE ON profiles FOR EACH ROW
	WHEN (OLD.email = 'person1') EXECUTE FUNCTION wait_at_gate();
	ALTER ROLE erasure SET scheduled_deletion.lock_timeout = 0});
my $gate = $node->background_psql('postgres');

close_gate();
add_accounts(1);
my $first = begin_request($function);
wait_for_runs(1);
in_database(q{INSERT INTO profiles (email, deletion_scheduled_at)
	VALUES ('person2', '2020-01-01')});
$answer = request($function, 'POST');
$report = decode_json($answer->{content});
is($answer->{status}, 200, 'a second call, beside a run: 200');
is("$report->{users_deleted} $report->{users_skipped}", '1 1', 'it does what the run has left');
open_gate();
is(status_of($first), 200, 'and the first ends as if it had been alone');

close_gate();
add_accounts(1);
my $impatient = HTTP::Tiny->new(timeout => 1)
  ->post($function->{url}, { headers => { Authorization => "Bearer $key" } });
is($impatient->{status}, 599, 'a caller does not wait for the answer');
wait_for_runs(1);
open_gate();
wait_for_runs(0);
is(in_database('SELECT stop_reason, users_deleted FROM deletion_run ORDER BY run_id DESC LIMIT 1'),
	'drained|1', 'the run goes on to its end');

close_gate();
add_accounts(1);
$first = begin_request($function);
wait_for_runs(1);
in_database(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'erasure'});
is(status_of($first), 503, 'the session is ended by somebody: 503');
open_gate();
is(request($function, 'POST')->{status}, 200, 'the next call goes on');

# A run that takes long
my $hasty = start_function(SCHEDULED_DELETION_MAX_SECONDS => 1);
in_database(q{
	ALTER ROLE erasure SET scheduled_deletion.batch_size = 1;
	ALTER ROLE erasure SET scheduled_deletion.pause = '1h'});
add_accounts(2);
$answer = request($hasty, 'POST');
$report = decode_json($answer->{content});
is($answer->{status}, 200, 'more is due than there is time for: 200');
is("$report->{stop_reason} $report->{users_deleted}", 'max_runtime 1', 'which the answer tells');
is(decode_json(request($hasty, 'POST')->{content})->{users_deleted}, 1, 'the next call goes on');

close_gate();
add_accounts(1);
$answer = request($hasty, 'POST');
is("$answer->{status} $answer->{content}",
	'504 {"error":"the run is not over in time"}', 'a batch takes too long: 504');
open_gate();
wait_for_runs(0);
is(in_database('SELECT count(*) FROM profiles'), 0, 'and it commits when it can');
is(request($hasty, 'POST')->{status}, 200, 'the next call is as any other');
in_database(q{ALTER ROLE erasure RESET ALL});

# What the schedulers of the clouds send
my $arn = 'arn:aws:iam::123456789012:role/scheduler';
my ($google) = commands('gcloud', $readme =~ /^```sh\n(gcloud .*?)^```/ms);
my @amazon = commands('aws', $readme =~ /^```sh\n(connection=.*?)^```/ms);
my ($vercel) = $readme =~ /^```json\n(\{\s+"crons".*?)^```/ms;
my ($route) = $readme =~ /^```ts\n(.*?)^```/ms;

my %option = options(@$google);
is("@$google[0 .. 4]", 'scheduler jobs create http scheduled-deletion', 'Google: a job');
is("$option{schedule} $option{'time-zone'}", '0 2 * * * Etc/UTC', 'Google: at two');
is($option{'max-retry-attempts'}, 0, 'Google: no second try');
is_answered(
	'Google', $option{uri}, $option{'http-method'},
	{
		split(/=/, $option{headers}, 2),
		'User-Agent' => 'Google-Cloud-Scheduler',
		'X-CloudScheduler' => 'true',
		'Content-Type' => 'application/octet-stream'
	},
	'');

is(join(' ', map { $_->[1] } @amazon),
	'create-connection create-api-destination put-rule put-targets', 'Amazon: what it takes');
my %connection = options(@{ $amazon[0] });
my %destination = options(@{ $amazon[1] });
my %rule = options(@{ $amazon[2] });
my %target = options(@{ $amazon[3] });
is("$connection{'authorization-type'} $destination{'connection-arn'}",
	'API_KEY ConnectionArn', 'Amazon: the destination has the connection');
is($rule{'schedule-expression'}, 'cron(0 2 * * ? *)', 'Amazon: at two');
is($target{rule}, $rule{name}, 'Amazon: the rule has a target');
is($target{targets},
	"Id=1,Arn=ApiDestinationArn,RoleArn=$arn,Input='{}',RetryPolicy={MaximumRetryAttempts=0}",
	'Amazon: the destination, and no second try');
my @header = $connection{'auth-parameters'} =~
  /^ApiKeyAuthParameters=\{ApiKeyName=([^,]+),ApiKeyValue=([^,}]+)\}$/;
is_answered(
	'Amazon',
	$destination{'invocation-endpoint'},
	$destination{'http-method'},
	{
		@header,
		'User-Agent' => 'Amazon/EventBridge/ApiDestinations',
		'Content-Type' => 'application/json; charset=utf-8'
	},
	'{}');

is_deeply(decode_json($vercel)->{crons},
	[ { path => '/api/scheduled-deletion', schedule => '0 2 * * *' } ], 'Vercel: at two');
my $project = start_route();
is_answered('Vercel', $project->{url} . 'api/scheduled-deletion',
	'GET', { Authorization => "Bearer $key", 'User-Agent' => 'vercel-cron/1.0' }, '');
is(request($project, 'GET', headers => {})->{status},
	401, 'Vercel: whoever finds the route is refused');

# When the database is away, and back
my $sessions = q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'erasure'};
ok($node->poll_query_until('postgres', $sessions, 0), 'no session is left');
$node->stop;
answer_is([ 503, { %$down, code => 'ECONNREFUSED' } ], 'the database is down');
$node->start;
is(request($function, 'POST')->{status}, 200, 'it is back');

# What was told, in all answers and logs
$all_text .= log_of($_) foreach @functions;
like($all_text, qr/^\{"status":500,.*"users_failed":4/m, 'the log has the answers');
my %secret = (
	key => $key,
	'part of the key' => substr($key, 0, 20),
	password => $password,
	'name of the role' => 'erasure',
	'port of the database' => $node->port,
	'key of an account' => qr/[0-9a-f]{8}-[0-9a-f]{4}-/,
	'e-mail' => qr/person\d|refused\d/);
unlike($all_text, qr/$secret{$_}/, "no $_ is told") foreach sort keys %secret;

$gate->quit;
$node->stop;
done_testing();

# Also if the test dies
END
{
	my $status = $?;
	$_->{run}->kill_kill foreach @functions;
	$? = $status;
}

sub in_database { return $node->safe_psql('postgres', shift) }

# Accounts that are due, each with its e-mail
sub add_accounts
{
	my ($number, $name) = (@_, 'person');
	in_database(qq{
		INSERT INTO profiles (email, deletion_scheduled_at)
		SELECT '$name' || n, '2020-01-01' FROM generate_series(1, $number) n});
	return;
}

# What the function says of it
sub report_of_last_run
{
	my $told = in_database(q{SELECT report FROM deletion_run ORDER BY run_id DESC LIMIT 1});
	my $of = decode_json($told);
	delete $of->{errors} if @{ $of->{errors} };
	return $of;
}

# Deno with this program and environment, as README.md starts it
sub deno_process
{
	my ($its_port, %environment) = @_;
	my ($command) = $readme =~ /^(deno run .*?index\.ts)$/ms;
	my $log = "$PostgreSQL::Test::Utils::log_path/deno" . @functions . '.log';
	my $reached = "127.0.0.1:$its_port,127.0.0.1:" . $node->port;

	$command =~ s/0\.0\.0\.0:8000,db\.example\.com:5432/$reached/
	  or die "README.md lets the function reach something else\n";
	$command =~ s/^deno/'$deno'/;
	%environment = (
		SCHEDULED_DELETION_KEY => $key,
		SCHEDULED_DELETION_DB_URL => $url,
		DENO_SERVE_ADDRESS => "tcp:127.0.0.1:$its_port",
		%environment);
	local %ENV = %ENV;
	foreach (keys %environment)
	{
		if (defined $environment{$_}) { $ENV{$_} = $environment{$_} }
		else { delete $ENV{$_} }
	}
	push @functions,
	  {
		run => IPC::Run::start(
			[ 'sh', '-c', "cd '$top' && exec $command" ], '<', \undef, '>&', $log),
		log => $log,
		url => "http://127.0.0.1:$its_port/"
	  };
	return $functions[-1];
}

sub log_of { return slurp_file(shift->{log}) }

# The function, when it answers
sub start_function
{
	my %environment = @_;
	my $its_port = PostgreSQL::Test::Cluster::get_free_port();
	return when_it_answers(deno_process($its_port, %environment));
}

sub when_it_answers
{
	my $process = shift;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return $process if HTTP::Tiny->new->head($process->{url})->{status} != 599;
		select undef, undef, undef, 0.1;
	}
	die "the function does not answer:\n" . log_of($process);
}

# The route of README.md, as Vercel has it
sub start_route
{
	my $its_port = PostgreSQL::Test::Cluster::get_free_port();
	my $log = "$PostgreSQL::Test::Utils::log_path/deno" . @functions . '.log';

	append_to_file("$home/route.ts", $route);
	append_to_file("$home/project.ts", qq{import { GET } from "./route.ts"; Deno.serve(GET);});
	local $ENV{SCHEDULED_DELETION_URL} = $function->{url};
	local $ENV{DENO_SERVE_ADDRESS} = "tcp:127.0.0.1:$its_port";
	push @functions,
	  {
		run => IPC::Run::start(
			[ $deno, qw(run --no-prompt --allow-net --allow-env --check), "$home/project.ts" ],
			'<', \undef, '>&', $log),
		log => $log,
		url => "http://127.0.0.1:$its_port/"
	  };
	return when_it_answers($functions[-1]);
}

# With the key, unless other headers are given
sub request
{
	my ($its_function, $method, %options) = @_;
	$options{headers} //= { Authorization => "Bearer $key" };
	my $response = HTTP::Tiny->new(timeout => $PostgreSQL::Test::Utils::timeout_default)
	  ->request($method, $its_function->{url}, \%options);
	$all_text .= "$response->{content}\n";
	return $response;
}

sub answer_is
{
	my ($expected, $name) = @_;
	my $response = request($function, 'POST');
	is_deeply([ $response->{status}, decode_json($response->{content}) ], $expected, $name);
	return;
}

# A request that is waited for later, by a process of its own
sub begin_request
{
	my $its_function = shift;
	my $program = q{
		my %options = (headers => { Authorization => $ARGV[1] });
		print HTTP::Tiny->new->post($ARGV[0], \%options)->{status}};
	my %client = (output => '');
	$client{run} = IPC::Run::start(
		[ $^X, '-MHTTP::Tiny', '-e', $program, $its_function->{url}, "Bearer $key" ],
		'>', \$client{output}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return \%client;
}

sub status_of
{
	my $client = shift;
	$client->{run}->finish;
	return $client->{output};
}

sub close_gate { return $gate->query_safe('SELECT pg_advisory_lock(1)') }
sub open_gate { return $gate->query_safe('SELECT pg_advisory_unlock(1)') }

# So many are at the gate; or, if none, there is none at all
sub wait_for_runs
{
	my $number = shift;
	my $where = q{usename = 'erasure'};
	$where .= q{ AND wait_event = 'advisory'} if $number;
	$node->poll_query_until('postgres',
		"SELECT count(*) = $number FROM pg_stat_activity WHERE $where")
	  or die "there are not $number runs";
	return;
}

# The arguments of each call of a program by these lines of README.md.  In its place stands
# one that writes them down, and prints what it is asked to query.
sub commands
{
	my ($program, $lines) = @_;
	my $bin = PostgreSQL::Test::Utils::tempdir('bin');
	append_to_file("$bin/$program", <<'END');
#!/bin/sh
{ for argument; do printf '%s\0' "$argument"; done; printf '\n'; } >>"$0.calls"
while [ $# -gt 0 ]; do
	if [ "$1" = --query ]; then echo "$2"; fi
	shift
done
END
	chmod 0755, "$bin/$program";
	local %ENV = (
		%ENV,
		PATH => "$bin:$ENV{PATH}",
		URL => $function->{url},
		KEY => $key,
		ROLE => $arn);
	system_or_bail('sh', '-euc', $lines);
	return map { [ split /\0/ ] } split /\n/, slurp_file("$bin/$program.calls");
}

# --name=value, or --name value
sub options
{
	my %value;
	while (defined(my $argument = shift))
	{
		my ($name, $value) = $argument =~ /^--([\w-]+)(?:=(.*))?$/s or next;
		$value{$name} = $value // shift;
	}
	return %value;
}

# That request starts a run, and is answered as it should be when an account fails, and when
# the key is another one.
sub is_answered
{
	my ($name, $its_url, $method, $headers, $content) = @_;
	my %options = (headers => $headers, content => $content);
	my $its_function = { url => $its_url };

	add_accounts(2);
	is(request($its_function, $method, %options)->{status}, 200, "$name: 200");
	is(in_database('SELECT count(*) FROM profiles'), 0, "$name: a run has been");

	add_accounts(2);
	in_database(q{INSERT INTO invoices SELECT id FROM profiles WHERE email = 'person1'});
	my $response = request($its_function, $method, %options);
	is($response->{status}, 500, "$name: an account fails: 500");
	is(decode_json($response->{content})->{users_failed}, 1, "$name: how many");
	in_database('DELETE FROM invoices; DELETE FROM profiles');

	$options{headers} = { %$headers, Authorization => 'Bearer ' . reverse $key };
	is(request($its_function, $method, %options)->{status}, 401, "$name: another key: 401");
	return;
}
