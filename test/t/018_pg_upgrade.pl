# pg_upgrade takes along what was decided and remembered, and the extension works after it.
#
# From a major to itself, since a server has one; what pg_upgrade refuses, such as columns of
# types that hold an oid, it refuses then, too.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

my $old = PostgreSQL::Test::Cluster->new('old');
$old->init;
$old->start;
$old->safe_psql('postgres', slurp_file("$top/test/schema.sql"));
$old->safe_psql(
	'postgres', q{
	CREATE EXTENSION scheduled_deletion;
	INSERT INTO profiles (id, email, role, deletion_scheduled_at)
	SELECT md5(n::text)::uuid, 'a' || n, 'patient', now() - interval '1 day'
	FROM generate_series(1, 5) n;
	SELECT process_scheduled_deletions(max_accounts => 2);
	SELECT hold_account(id::text, 'a complaint') FROM profiles LIMIT 1});

my $kept = q{
	SELECT to_jsonb(p) FROM deletion_policy p;
	SELECT to_jsonb(s) FROM deletion_step s ORDER BY 1;
	SELECT to_jsonb(h) FROM deletion_hold h;
	SELECT to_jsonb(r) FROM deletion_run r};
my $before = $old->safe_psql('postgres', $kept);
$old->stop;

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
chomp(my $bindir = qx(pg_config --bindir));
chdir $PostgreSQL::Test::Utils::tmp_check;
command_ok(
	[
		'pg_upgrade', '--no-sync',
		'--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir,
		'--old-bindir', $bindir, '--new-bindir', $bindir,
		'--old-port', $old->port, '--new-port', $new->port,
		'--socketdir', $new->host
	],
	'pg_upgrade upgrades the server');
$new->start;

is($new->safe_psql('postgres', $kept), $before, 'all that was decided and remembered is there');
is($new->safe_psql('postgres', q{
	SELECT r -> 'users_deleted', r -> 'users_held', r -> 'run_id'
	FROM process_scheduled_deletions() r}), '2|1|2', 'the next run goes on');

done_testing();
