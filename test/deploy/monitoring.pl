# What Prometheus is told by the queries of src/monitoring/postgres_exporter.yaml is true in
# every state of a policy, the role that README.md gives the exporter may do that and no
# more, and each rule of src/monitoring/alerts.yaml fires when it should, and only then.
#
# The exporter and promtool are Debian's, unpacked into a temporary directory.

use strict;
use warnings;

use FindBin;
use HTTP::Tiny;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $queries = "$top/src/monitoring/postgres_exporter.yaml";
my $rules = "$top/src/monitoring/alerts.yaml";
my $rules_test = "$top/test/deploy/alerts_test.yaml";
my $bin = unpack_packages('prometheus', 'prometheus-postgres-exporter') . '/usr/bin';

sub promtool_ok
{
	my ($name, $input, @arguments) = @_;
	my $output;
	my $ok = IPC::Run::run([ "$bin/promtool", @arguments ], '<', \$input, '>&', \$output);
	ok($ok, $name) or diag($output);
	return;
}

promtool_ok('promtool finds the rules right', '', 'check', 'rules', $rules);
promtool_ok('each alert fires when it should, and only then',
	'', 'test', 'rules', $rules_test);

my %is_tested = map { $_ => 1 } slurp_file($rules_test) =~ /alertname(?:: |=")(\w+)/g;
is(join(' ', grep { !$is_tested{$_} } slurp_file($rules) =~ /alert: (\w+)/g),
	'', 'no alert is without a test');

# Two databases, one exporter
my $node = PostgreSQL::Test::Cluster->new('monitoring');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
scheduled_deletion.batch_duration = '1h'
scheduled_deletion.lock_timeout = 0
});
$node->start;
my $readme = slurp_file("$top/README.md");
my ($grants) = $readme =~ /^```sql\n(CREATE ROLE prometheus .*?)^```/ms
  or die "README.md does not say what the exporter's role needs\n";
my ($arguments) = $readme =~ /^ARGS="(--extend\.query-path=.*)"$/m
  or die "README.md does not say how to start the exporter\n";

foreach my $database ('shop', 'branch')
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql(
		$database, slurp_file("$top/test/schema.sql") . q{
		CREATE EXTENSION scheduled_deletion;
		CREATE TABLE invoices (user_id uuid NOT NULL REFERENCES profiles);});
	$node->safe_psql($database, $grants);
	$grants =~ s/^CREATE ROLE.*\n//m;
}

my $port = PostgreSQL::Test::Cluster::get_free_port();
my @processes;
start_exporter();
my %has_been_seen;
my $all_text = '';

# The metrics of this extension now, and whether a query failed
sub scrape
{
	my $response = HTTP::Tiny->new(timeout => 60)->get("http://127.0.0.1:$port/metrics");
	die "scrape: $response->{status} $response->{content}\n" if !$response->{success};
	my $text = $response->{content};
	my %metrics = $text =~ /^((?:scheduled_deletion|pg_exporter_last_scrape_error)\S*) (\S+)$/mg;

	$has_been_seen{s/\{.*//r} = 1 foreach keys %metrics;
	$all_text .= $text;
	return ($text, %metrics);
}

# In this state, the metrics of policy built-in are as given: a value, a function that knows
# it, or undef where there must be none
sub metrics_are
{
	my ($state, %expected) = @_;
	my (undef, %metrics) = scrape();

	foreach my $name (sort keys %expected)
	{
		my ($metric) = grep {
			/^scheduled_deletion_$name\{/ && /datname="shop"/ && /policy="built-in"/
		} keys %metrics;
		my $value = defined $metric ? $metrics{$metric} : undef;
		my $wanted = $expected{$name};
		my $test = "$state: $name";
		ref $wanted ? ok(defined $value && $wanted->($value), $test) || diag($value)
		  : is($value, $wanted, $test);
	}
	is($metrics{pg_exporter_last_scrape_error}, 0, "$state: no query failed");
	return;
}

# Within the minutes that this test may take
sub about
{
	my $wanted = shift;
	return sub { return abs(shift() - $wanted) < 600 };
}

my $some = sub { return shift() > 0 };

sub in_shop { return $node->safe_psql('shop', shift) }

# What holds in most states of the policy
my @calm = (
	enabled => 1, brake_pulled => 0, plan_failed => 0, overdue => 0,
	due_accounts => 0, held_accounts => 0, failing_accounts => 0,
	oldest_due_age_seconds => 0,
	run_started_timestamp_seconds => undef, run_due_accounts => undef,
	run_done_accounts => undef);

metrics_are(
	'nothing is due, and nothing has ever run',
	@calm, last_success_timestamp_seconds => 0,
	last_run_started_timestamp_seconds => undef, last_run_failed => undef);

in_shop(q{
	INSERT INTO profiles (id, email, deletion_scheduled_at)
	SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
		'person' || n || '@example.org', now() - n * interval '1 hour'
	FROM generate_series(1, 4) n});
metrics_are(
	'four are due',
	@calm, due_accounts => 4, oldest_due_age_seconds => about(4 * 3600));

in_shop(q{
	UPDATE profiles SET deletion_scheduled_at = '-infinity'
	WHERE email = 'person4@example.org'});
metrics_are('one has been for ever', @calm, due_accounts => 4, overdue => 1,
	oldest_due_age_seconds => '+Inf');

in_shop(q{
	UPDATE profiles SET deletion_scheduled_at = now() - interval '25 hours'
	WHERE email = 'person4@example.org'});
metrics_are('one is overdue', @calm, due_accounts => 4, overdue => 1,
	oldest_due_age_seconds => about(25 * 3600));

is(alerts_of_prometheus(), 'NeverSucceeded Overdue', 'Prometheus sees that, and that nothing ran');

in_shop(q{SELECT hold_account('00000000-0000-4000-8000-000000000004', 'case 1')});
metrics_are('it is on hold', @calm, due_accounts => 4, held_accounts => 1,
	oldest_due_age_seconds => about(3 * 3600));

in_shop(q{
	INSERT INTO invoices SELECT id FROM profiles WHERE email = 'person1@example.org';
	SELECT process_scheduled_deletions()});
my @has_run = (
	last_success_timestamp_seconds => about(time),
	last_run_started_timestamp_seconds => about(time),
	last_run_duration_seconds => $some, last_run_failed => 0);
metrics_are(
	'one of three has failed',
	@calm, @has_run, due_accounts => 2, held_accounts => 1, failing_accounts => 1,
	oldest_due_age_seconds => $some,
	last_run_deleted_accounts => 2, last_run_failed_accounts => 1,
	last_run_skipped_accounts => 0, last_run_deleted_rows => 2);

in_shop(q{
	DELETE FROM invoices;
	SELECT retry_account(), release_account('00000000-0000-4000-8000-000000000004');
	CALL run_scheduled_deletions()});
metrics_are('all are gone', @calm, @has_run, last_run_deleted_accounts => 2);

in_shop(q{
	INSERT INTO profiles (email, deletion_scheduled_at)
	SELECT 'person' || n || '@example.org', now() - interval '1 minute' FROM generate_series(5, 10) n;
	SELECT alter_deletion_policy('built-in', brake_accounts => 5)});
metrics_are(
	'the brake is pulled',
	@calm, @has_run, brake_pulled => 1, due_accounts => 6, oldest_due_age_seconds => $some);

in_shop(q{SELECT alter_deletion_policy('built-in', enabled => false)});
metrics_are(
	'the policy is disabled',
	@calm, @has_run, enabled => 0, due_accounts => 6, oldest_due_age_seconds => $some);

in_shop(q{SELECT alter_deletion_policy('built-in', enabled => true, brake_accounts => 0)});
switch_runs('off');
metrics_are(
	'the setting is off',
	@calm, @has_run, enabled => 0, due_accounts => 6, oldest_due_age_seconds => $some);
switch_runs('on');

in_shop('ALTER TABLE audit_log RENAME details TO specifics');
metrics_are(
	'no plan can be made',
	@calm, @has_run, plan_failed => 1, due_accounts => 6, held_accounts => 'NaN',
	oldest_due_age_seconds => $some);
in_shop('ALTER TABLE profiles RENAME deletion_scheduled_at TO deletion_wanted_at');
metrics_are(
	'nor is there a due column',
	@calm, @has_run, plan_failed => 1, overdue => 1, due_accounts => 'NaN', held_accounts => 'NaN',
	oldest_due_age_seconds => 'NaN');
in_shop(q{SELECT alter_deletion_policy('built-in', enabled => false)});
metrics_are(
	'a policy that is disabled may be broken',
	enabled => 0, plan_failed => 0, overdue => 1);
in_shop(q{
	ALTER TABLE audit_log RENAME specifics TO details;
	ALTER TABLE profiles RENAME deletion_wanted_at TO deletion_scheduled_at;
	SELECT alter_deletion_policy('built-in', enabled => true)});

# Beside a run that waits
in_shop(slurp_file("$top/test/gate.sql") =~ s/SELECT format.*//rs);
in_shop(q{CREATE TRIGGER wait_at_gate BEFORE DELETE ON profiles FOR EACH ROW
	WHEN (OLD.email = 'person7@example.org') EXECUTE FUNCTION wait_at_gate()});
in_shop(q{UPDATE profiles SET deletion_scheduled_at = deletion_scheduled_at
	+ interval '1 second' * substring(email FROM '\d+')::int});
my $gate = $node->background_psql('shop');
$gate->query_safe('SELECT pg_advisory_lock(1)');
my $run = IPC::Run::start(
	[
		$node->installed_command('psql'), '-Xq', '-d', $node->connstr('shop'),
		'-c', 'CALL run_scheduled_deletions(batch_size => 2)'
	],
	'>', \my $printed, '2>', \my $errors,
	IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
$node->poll_query_until('shop',
	q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE 'CALL%'})
  or die 'the run does not come to its middle';
metrics_are(
	'a run is at work',
	@calm, @has_run, due_accounts => 4, oldest_due_age_seconds => $some,
	run_started_timestamp_seconds => about(time),
	run_due_accounts => 6, run_done_accounts => 2);

is($node->safe_psql('shop', q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE a.usename = 'prometheus'}), 0, 'the exporter keeps no lock');

in_shop('SELECT pg_terminate_backend(pid) FROM deletion_progress');
$run->finish;
$gate->quit;
in_shop('DROP TRIGGER wait_at_gate ON profiles');
my @has_died = (
	run_started_timestamp_seconds => undef, due_accounts => 4, last_run_failed => 1,
	last_run_deleted_accounts => 2, last_run_duration_seconds => $some);
metrics_are('its session has died', @has_died);
in_shop(q{
	CREATE TABLE members (id uuid PRIMARY KEY, deletion_scheduled_at timestamptz);
	SELECT add_deletion_policy('members', 'members', audit_table => 'audit_log');
	GRANT SELECT ON members TO prometheus});
in_shop(q{CALL run_scheduled_deletions('members')});
metrics_are('the run of another policy has written that down', @has_died);
in_shop(q{CALL run_scheduled_deletions('built-in', max_accounts => 1)});
metrics_are('a run has left some',
	due_accounts => 3, last_run_deleted_accounts => 1, last_run_failed => 0);

in_shop('ALTER TABLE audit_log ADD CHECK (action IS NULL) NOT VALID');
$node->psql('shop', 'CALL run_scheduled_deletions()', stderr => \my $told);
like($told, qr/deletion run stopped/, 'a run fails');
metrics_are('a run has failed', due_accounts => 3, last_run_failed => 1);

# Beside a lock on a table of the plan
my $migration = $node->background_psql('shop');
$migration->query_safe('BEGIN; LOCK TABLE audit_log');
my ($text, %metrics) = scrape();
unlike($text, qr/^scheduled_deletion_due_accounts\{datname="shop"/m,
	'while a table of the plan is locked, nobody waits to count');
like($text, qr/^scheduled_deletion_last_run_failed\{datname="shop",\S* 1$/m,
	'the last run is still told');
like($text, qr/^scheduled_deletion_due_accounts\{datname="branch",\S* 0$/m,
	'and so is the other database');
is($metrics{pg_exporter_last_scrape_error}, 1, 'the exporter tells that a query failed');
$migration->query_safe('ROLLBACK');
$migration->quit;

foreach my $secret (
	'TABLE deletion_failure', 'SELECT report FROM deletion_run', 'SELECT email FROM profiles',
	'TABLE check_ins', 'SELECT process_scheduled_deletions()', 'CALL run_scheduled_deletions()',
	'SELECT retry_account()')
{
	$node->psql('shop', $secret, extra_params => [ '-U', 'prometheus' ], stderr => \my $refused);
	like($refused, qr/permission denied/, "the exporter's role may not: $secret");
}

unlike($all_text, qr/example\.org|[0-9a-f]{8}-[0-9a-f]{4}-/, 'no account is in any metric');

my %metric_of_queries;
my $key;
foreach my $line (split /\n/, slurp_file($queries))
{
	$key = $1 if $line =~ /^(\w+):/;
	$metric_of_queries{"${key}_$1"} = 1 if $line =~ /^    - (\w+):/ && $1 !~ /^(?:datname|policy)$/;
}
delete $has_been_seen{pg_exporter_last_scrape_error};
is_deeply([ sort keys %has_been_seen ], [ sort keys %metric_of_queries ],
	'each metric of the queries has been seen');
is(join(' ', grep { !$has_been_seen{$_} } slurp_file($rules) =~ /\b(scheduled_deletion_\w+)/g),
	'', 'the rules ask for no other');
promtool_ok('promtool finds the metrics right',
	join('', grep { /^(?:# \w+ )?scheduled_deletion_/ } $text =~ /^.*\n/mg), 'check', 'metrics');

$node->stop;
done_testing();

# Also if the test dies
END
{
	my $status = $?;
	$_->kill_kill foreach @processes;
	$? = $status;
}

sub switch_runs
{
	my $value = shift;
	$node->append_conf('postgresql.conf', "scheduled_deletion.enabled = $value");
	$node->reload;
	$node->poll_query_until('shop', 'SHOW scheduled_deletion.enabled', $value)
	  or die "the setting is not $value";
	return;
}

# Unpack Debian's packages, and return where they are.  Where nobody has asked what packages
# there are, as in a new container, the lists are fetched into the same directory.
sub unpack_packages
{
	my @packages = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir('packages');
	my @lists = ('-o', "Dir::State::Lists=$directory/lists", '-o', "Dir::Cache=$directory");
	my $run = sub { return system_log('sh', '-c', 'cd "$0" && exec "$@"', $directory, @_) == 0 };

	$run->('apt-get', '-qq', 'download', @packages)
	  or $run->('mkdir', '-p', 'lists/partial', 'archives/partial')
	  && $run->('apt-get', '-qq', @lists, 'update')
	  && $run->('apt-get', '-qq', @lists, 'download', @packages)
	  or BAIL_OUT("could not fetch Debian's packages @packages");
	system_or_bail('dpkg-deb', '-x', $_, $directory) foreach glob "$directory/*.deb";
	return $directory;
}

# Returns when the exporter answers.
sub start_exporter
{
	local $ENV{DATA_SOURCE_NAME} =
	  join ',', map { 'host=' . $node->host . ' port=' . $node->port . " user=prometheus dbname=$_" }
	  ('shop', 'branch');
	my $log = "$PostgreSQL::Test::Utils::log_path/exporter.log";
	push @processes, IPC::Run::start(
		[
			"$bin/prometheus-postgres-exporter",
			split(/ /, $arguments =~ s/(query-path=)\S+/$1$queries/r),
			"--web.listen-address=127.0.0.1:$port"
		],
		'>&', $log);
	wait_until(sub { HTTP::Tiny->new->get("http://127.0.0.1:$port/")->{success} })
	  or die "the exporter does not answer:\n" . slurp_file($log);
	return;
}

# Alerts that Prometheus has seen a reason for, with the rules and the exporter as they are.
# It waits until each rule was evaluated once with the metrics there.
sub alerts_of_prometheus
{
	my $directory = PostgreSQL::Test::Utils::tempdir('prometheus');
	my $its_port = PostgreSQL::Test::Cluster::get_free_port();
	my $http = HTTP::Tiny->new;
	my $log = "$PostgreSQL::Test::Utils::log_path/prometheus.log";
	my $answer;

	append_to_file("$directory/prometheus.yml", <<"END");
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: ['$rules']
scrape_configs:
  - job_name: exporter
    static_configs: [{targets: ['127.0.0.1:$port']}]
END
	push @processes, IPC::Run::start(
		[
			"$bin/prometheus", "--config.file=$directory/prometheus.yml",
			"--storage.tsdb.path=$directory/data", "--web.listen-address=127.0.0.1:$its_port"
		],
		'>&', $log);
	my $is_evaluated = wait_until(
		sub {
			$answer = $http->get("http://127.0.0.1:$its_port/api/v1/alerts")->{content};
			return $answer =~ /Overdue/ && $answer !~ /Unwatched/;
		});
	my $health = $http->get("http://127.0.0.1:$its_port/api/v1/rules")->{content};
	(pop @processes)->kill_kill;
	die "Prometheus: $answer\n" . slurp_file($log) if !$is_evaluated;
	unlike($health, qr/"health":"(?!ok)/, 'no rule has an error in Prometheus');
	return join ' ', sort $answer =~ /"alertname":"ScheduledDeletion(\w+)","datname":"shop"/g;
}

sub wait_until
{
	my $condition = shift;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $condition->();
		select undef, undef, undef, 0.1;
	}
	return 0;
}
