# What the operator has decided survives a dump: policies, steps and holds are there in
# the restored database, also under another owner and under other OIDs, and the
# next run follows them.
#
# A SQL test can neither call pg_dump nor have a second database.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

# Registered as what the table names mean at the time, so OIDs must not be dumped
$node->safe_psql(
	'postgres', q{
	CREATE DATABASE old;
	CREATE DATABASE new;
	CREATE DATABASE owned;
	CREATE ROLE keeper SUPERUSER LOGIN;
});
$node->safe_psql(
	'old', q{
	SET client_min_messages = warning;
	CREATE SCHEMA erasure;
	CREATE EXTENSION scheduled_deletion SCHEMA erasure;
	CREATE SCHEMA "The App";
	SET search_path = "The App", erasure;
	CREATE TABLE audit_log ("userId" int, action text, details jsonb, performed_by int, created_at timestamptz);
	CREATE TABLE "Users" (id int PRIMARY KEY, plan text, "deletedAt" date);
	CREATE TABLE orders (id int PRIMARY KEY, user_id int);
	CREATE TABLE items (order_id int, kind text);
	CREATE TABLE invoices (user_id int);
	INSERT INTO "Users" VALUES (1, 'gold', '2020-01-01'), (2, 'free', NULL), (3, 'held', '2020-01-01');
	INSERT INTO orders VALUES (1, 1), (2, 2);
	INSERT INTO items VALUES (1, 'a'), (1, 'b'), (2, 'a');
	INSERT INTO invoices VALUES (1), (2);
	SELECT add_deletion_policy('the users', '"Users"', due_column => 'deletedAt', grace => '14 days',
		audit_columns => '{"user_id": "userId"}', audit_details => '{plan}', blocking_keys => 'delete',
		time_zone => 'Asia/Tokyo', overdue_after => '2 days');
	SELECT add_deletion_step('the users', 'orders', '{user_id}');
	SELECT add_deletion_step('the users', 'items', '{order_id}', via => 'orders', match => '{"kind": "a"}');
	SELECT add_deletion_step('the users', 'invoices', '{user_id}', action => 'keep', reason => 'tax');
	SELECT add_deletion_policy('off', '"Users"', due_column => 'deletedAt', enabled => false,
		audit_columns => '{"user_id": "userId"}');
	SELECT process_scheduled_deletions(dry_run => true);
	SELECT hold_account('3', 'case 1', policy => 'the users'), guard_held_accounts('the users');
	DELETE FROM audit_log;
	INSERT INTO erasure.deletion_run (run_id, policy, form, started_by, arguments, pid, started_at, updated_at, completed_at,
		users_deleted, users_failed, users_skipped, users_held, users_waiting, records_deleted, stop_reason, report)
	SELECT n, 'the users', 'procedure', 'nobody', '{}', 0, now(), now(), t, n, 0, 0, 0, 0, 7 * n, r, '{"users_deleted": 1}'
	FROM (VALUES (-2, now(), 'drained'), (-1, NULL, NULL)) run (n, t, r);
	INSERT INTO erasure.deletion_failure VALUES ('the users', '2', 3, '2026-01-01', '2026-01-02', '2026-01-03', '23503', 'x', 'y', 'z');
});

my $decided = q{
	SET search_path = '';
	SELECT * FROM erasure.deletion_policy ORDER BY policy;
	SELECT * FROM erasure.deletion_step ORDER BY policy, position;
	SELECT * FROM erasure.deletion_failure;
	SELECT * FROM erasure.deletion_hold;
	SELECT * FROM erasure.deletion_run ORDER BY run_id;
	SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname;
};
my $before = $node->safe_psql('old', $decided);
like($before, qr/Asia\/Tokyo/, 'policies are registered');

my $dump = "$PostgreSQL::Test::Utils::tmp_check/old.sql";
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('old') ],
	'pg_dump');

# A table more, so that no OID is what it was
$node->safe_psql($_, 'CREATE TABLE first (); DROP TABLE first')
  foreach ('new', 'owned');
$node->command_ok(
	[ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('new'), '-f', $dump ],
	'restored by the owner');

# The role of another name owns everything that is restored without owners
my $without_owner = "$PostgreSQL::Test::Utils::tmp_check/without_owner.sql";
$node->command_ok(
	[ 'pg_dump', '--no-owner', '--no-privileges', '-f', $without_owner, $node->connstr('old') ],
	'pg_dump --no-owner');
$node->command_ok(
	[
		'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-U', 'keeper', '-d',
		$node->connstr('owned'), '-f', $without_owner
	],
	'restored by another');
is( $node->safe_psql(
		'owned',
		q{SELECT DISTINCT relowner::regrole FROM pg_class WHERE relname LIKE 'deletion_%'}),
	'keeper',
	'which owns the tables');

foreach my $database ('new', 'owned')
{
	is($node->safe_psql($database, $decided), $before,
		"$database: policies, steps and the ledger are as they were");
	is( $node->safe_psql(
			$database, q{
			SELECT r -> 'users_deleted', r -> 'users_held', r ->> 'policy', (r ->> 'run_id')::int > 1
			FROM erasure.process_scheduled_deletions() r}),
		'1|1|the users|t',
		"$database: the next run follows them, and goes on counting");
	is( $node->safe_psql(
			$database, q{
			SELECT details - 'run_id' FROM "The App".audit_log WHERE action = 'hard_deleted'}),
		'{"policy": "the users", "account": {"plan": "gold"}, '
		  . '"deleted_records": {"The App.Users": 1, "The App.items": 1, "The App.orders": 1}, '
		  . '"retained_records": {"The App.invoices": {"rows": 1, "reason": "tax"}}, '
		  . '"deletion_scheduled_at": "2020-01-01"}',
		"$database: to the letter");
	is( $node->safe_psql(
			$database, 'SELECT stop_reason FROM erasure.deletion_run ORDER BY run_id'),
		"drained\ninterrupted\ndrained",
		"$database: a run that was under way has been interrupted");
	my (undef, undef, $error) =
	  $node->psql($database, q{DELETE FROM "The App"."Users" WHERE id = 3});
	like($error, qr/is on hold/, "$database: accounts on hold are guarded");
}

$node->stop;
done_testing();
