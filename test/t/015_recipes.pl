# The recipes of README.md do what it says: who was erased is erased again after a backup
# has been restored, and other services are told of each, though a worker fails.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my ($section) = slurp_file("$top/README.md") =~ /^## What "erased" means\n(.*?)^## /ms;
my ($export, $erase_again) = $section =~ /^```sh\n(.*?)^```/msg;
my ($outbox, $tell) = $section =~ /^```sql\n(.*?)^```/msg;

my $node = PostgreSQL::Test::Cluster->new('recipes');
$node->init;
$node->start;
$node->safe_psql('postgres',
	slurp_file("$top/test/schema.sql") . slurp_file("$top/test/generate.sql") . 'CREATE EXTENSION scheduled_deletion');
my $dir = PostgreSQL::Test::Utils::tempdir;
my $due = 'SELECT count(*) FROM profiles WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL';

# A backup from before the night, and one account on hold in it, and one that has failed
$node->safe_psql('postgres', qq{
	CREATE TABLE initial AS $due;
	CREATE TABLE invoices (user_id uuid REFERENCES profiles);
	INSERT INTO invoices SELECT id FROM profiles;
	SELECT process_scheduled_deletions(max_accounts => 1);
	TRUNCATE invoices;
	SELECT hold_account((SELECT id::text FROM profiles WHERE deletion_scheduled_at <= now() LIMIT 1), 'a claim')});
isnt($node->safe_psql('postgres', 'SELECT count(*) FROM deletion_failure WHERE next_attempt_at > now()'), 0,
	'accounts wait that have failed');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/backup", $node->connstr('postgres') ], 'a backup');
$node->safe_psql('postgres', 'SELECT release_account(account) FROM deletion_hold; SELECT retry_account(), process_scheduled_deletions()');
is($node->safe_psql('postgres', $due), 0, 'the night: all that are due are gone');
$node->safe_psql('postgres', q{
	INSERT INTO audit_log (user_id, action, created_at) VALUES (gen_random_uuid(), 'hard_deleted', now() - interval '1 year');
	INSERT INTO audit_log (user_id, action) SELECT user_id, 'hard_deleted' FROM audit_log WHERE action = 'hard_deleted' LIMIT 1});
is(run_shell($export, 'postgres'), 0, 'their keys are read');
my $nerased = $node->safe_psql('postgres', 'SELECT * FROM initial');
is(scalar(split /\n/, slurp_file("$dir/erased.csv")), $nerased, 'their keys are kept, each once, without the old ones');

# The file outlives a night in which the audit table cannot be read
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
isnt(run_shell($export, 'postgres', 'nobody'), 0, 'keys that cannot be read are an error');
is(scalar(split /\n/, slurp_file("$dir/erased.csv")), $nerased, 'which leaves those that were');

# The worst: in the backup, they do not even want to go
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), "$dir/backup" ], 'it is restored');
$node->safe_psql('restored', 'UPDATE profiles SET deletion_scheduled_at = NULL, deleted_at = now()');
# and somebody else has cancelled since
my $undecided = $node->safe_psql('postgres', 'SELECT id FROM profiles ORDER BY id LIMIT 1');
$node->safe_psql('restored', "UPDATE profiles SET deletion_scheduled_at = '2020-01-01', deleted_at = NULL WHERE id = '$undecided'");
my $others = $node->safe_psql('postgres', 'SELECT string_agg(id::text, chr(10) ORDER BY id) FROM profiles');
is(run_shell($erase_again, 'restored'), 0, 'erased again');
my $held = $node->safe_psql('restored', 'SELECT account FROM deletion_hold');
is($node->safe_psql('restored', "SELECT string_agg(id::text, chr(10) ORDER BY id) FROM profiles WHERE id <> '$held'"),
	$others, 'they are gone again, and nobody else');
is($node->safe_psql('restored', "SELECT count(*) FROM profiles WHERE id = '$held'"), 1, 'but for one on hold');
is($node->safe_psql('restored', q{SELECT count(*) FROM audit_log WHERE action = 'hard_deleted'}), $nerased - 1,
	'and audit rows tell of it');

# The outbox: two workers at once, of which the first fails
$node->safe_psql('postgres', q{
	DELETE FROM audit_log;
	INSERT INTO profiles (email, deletion_scheduled_at) SELECT 'number ' || n, '2020-01-01' FROM generate_series(1, 2) n;
	SELECT alter_deletion_policy('built-in', audit_details => '{email}');
	SELECT process_scheduled_deletions()});
$node->safe_psql('postgres', $outbox);
$tell =~ s/^-- here:.*\n/\\echo :account\n/m or die 'no place to tell';
my ($before, $after) = $tell =~ /^(.*:account\n)(.*)\z/s;
my $first = $node->background_psql('postgres');
my ($heard) = $first->query_safe($before) =~ /(number \d)/;
ok(defined $heard, 'a worker knows by what number a service knows the person');
my ($other) = $node->safe_psql('postgres', $tell) =~ /(number \d)/;
isnt($other, $heard, 'another does not wait for it, nor does the same');
$first->quit;
is($node->safe_psql('postgres', $tell) =~ /(number \d)/ ? $1 : '', $heard, 'when a worker fails, the next does it');
is($node->psql('postgres', $tell, stdout => \my $told, stderr => \my $errors), 0, 'when there is nothing to tell');
is("$told$errors", '', 'nothing is told');
is($node->safe_psql('postgres', "SELECT count(*) FROM erasure_told"), 2, 'all have been told');
is($node->safe_psql('postgres', q{SELECT count(*) FROM audit_log WHERE details::text LIKE '%number%'}), 0,
	'and the number is gone');

$node->stop;
done_testing();

sub run_shell
{
	my ($commands, $database, $user) = @_;
	$user //= getpwuid($>);
	local $ENV{DATABASE_URL} = "postgresql:///$database?user=$user&host=" . $node->host . '&port=' . $node->port;
	IPC::Run::run([ 'sh', '-e', '-c', "cd '$dir'; $commands" ], '<', \undef);
	return $?;
}
