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
	SELECT to_jsonb(p) - '{account_table_type,audit_table_type}'::text[] FROM erasure.deletion_policy p ORDER BY policy;
	SELECT to_jsonb(s) - '{step_table_type,via_type}'::text[] FROM erasure.deletion_step s ORDER BY policy, position;
	SELECT * FROM erasure.deletion_failure;
	SELECT to_jsonb(h) - 'account_table_type' FROM erasure.deletion_hold h;
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

# Tables that were renamed, before a run has seen it and after, or dropped: a dump has the
# name of one that is there, and no OID of one that is not.
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach ('lost', 'copied', 'inserted', 'older');
$node->safe_psql(
	'lost', q{
	SET client_min_messages = warning;
	CREATE EXTENSION scheduled_deletion;
	CREATE TABLE audit_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
	CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at date);
	CREATE TABLE guests (LIKE users INCLUDING ALL);
	CREATE TABLE members (LIKE users INCLUDING ALL);
	CREATE TABLE patrons (LIKE users INCLUDING ALL);
	CREATE TABLE posts (id int PRIMARY KEY, user_id int);
	CREATE TABLE likes (id int, post_id int);
	CREATE TABLE sessions (id int PRIMARY KEY, user_id int);
	CREATE TABLE clicks (session_id int);
	CREATE TABLE orders (id int PRIMARY KEY, user_id int);
	INSERT INTO users VALUES (1, '2020-01-01'), (2, '2020-01-01');
	INSERT INTO posts VALUES (1, 1), (2, 2);
	INSERT INTO orders VALUES (1, 1), (2, 2);
	INSERT INTO guests VALUES (2, NULL);
	INSERT INTO members VALUES (2, NULL);
	INSERT INTO patrons VALUES (2, NULL);
	SELECT add_deletion_policy('users', 'users'), add_deletion_policy('guests', 'guests'),
		add_deletion_policy('members', 'members'), add_deletion_policy('patrons', 'patrons');
	SELECT add_deletion_step('users', 'posts', '{user_id}'), add_deletion_step('users', 'sessions', '{user_id}');
	SELECT add_deletion_step('users', 'likes', '{post_id}', via => 'posts'), add_deletion_step('users', 'clicks', '{session_id}', via => 'sessions');
	SELECT hold_account('2', 'case', policy => p) FROM unnest('{users,guests,members,patrons}'::text[]) p;
	ALTER TABLE users RENAME TO people;
	ALTER TABLE guests RENAME TO visitors;
	SELECT process_scheduled_deletions('guests');
	ALTER TABLE posts RENAME TO "Posts";
	DROP TABLE sessions, members, patrons;
});
my $registered = q{
	SET search_path = pg_catalog;
	SELECT policy, account_table, replace(account_table_name, '"', '') FROM public.deletion_policy ORDER BY 1;
	SELECT position, step_table, replace(step_table_name, '"', ''), via, replace(via_name, '"', '') FROM public.deletion_step ORDER BY 1;
	SELECT account_table, replace(account_table_name, '"', ''), account, reason FROM public.deletion_hold ORDER BY 2};
foreach (['copied'], [ 'inserted', '--inserts', '--quote-all-identifiers' ])
{
	my ($database, @options) = @$_;
	my $file = "$PostgreSQL::Test::Utils::tmp_check/$database.sql";

	$node->command_ok([ 'pg_dump', @options, '-f', $file, $node->connstr('lost') ],
		"$database: pg_dump @options");
	$node->command_ok(
		[ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-f', $file ],
		"$database: restored");
	is($node->safe_psql($database, $registered), q{guests|public.visitors|public.visitors
members|-|public.members
patrons|-|public.patrons
users|public.people|public.people
1|public."Posts"|public.Posts||
2|-|public.sessions||
3|public.likes|public.likes|public."Posts"|public.Posts
4|public.clicks|public.clicks|-|public.sessions
|public.members|2|case
|public.patrons|2|case
public.people|public.people|2|case
public.visitors|public.visitors|2|case},
		"$database: no policy, step or hold is left out, and no OID is there");
	is( $node->safe_psql(
			$database, q{
			SELECT policy, code, replace(object, '"', ''), regexp_replace(replace(remedy, '"', ''), '[1-9]\d*', 'OID')
			FROM check_deletion_policy() WHERE severity = 'error' ORDER BY 1, 3}),
		q{members|account_table|public.members|
patrons|account_table|public.patrons|
users|lost_step|clicks|SELECT public.remove_deletion_step('users', OID)
users|lost_step|public.sessions|SELECT public.remove_deletion_step('users', 0)},
		"$database: they are found, and how to mend them");
	is( $node->safe_psql($database, q{SELECT policy, replace(blocked_by, '"', '') FROM deletion_status ORDER BY 1}),
		q{guests|
members|account table public.members of deletion policy members does not exist any more
patrons|account table public.patrons of deletion policy patrons does not exist any more
users|step table public.sessions of deletion policy users does not exist any more},
		"$database: deletion_status tells, too");
	is( $node->safe_psql(
			$database, q{
			SET client_min_messages = warning;
			SELECT remove_deletion_step('users', 0), remove_deletion_step('users', 'clicks');
			SELECT process_scheduled_deletions('users') -> 'total_records_deleted';
			SELECT * FROM people;
			SELECT count(*) FROM orders;
			CREATE TABLE members (LIKE people INCLUDING ALL);
			INSERT INTO members VALUES (1, '2020-01-01'), (2, '2020-01-01');
			SELECT alter_deletion_policy('members', account_table => 'public.members');
			SELECT process_scheduled_deletions('members') -> 'users_held';
			SELECT * FROM members;
			SELECT account_table, replace(account_table_name, '"', '') FROM deletion_hold ORDER BY 2}),
		q{t|t
{"Posts": 1, "likes": 0, "people": 1}
2|2020-01-01
2
members
1
2|2020-01-01
members|public.members
|public.patrons
people|public.people
visitors|public.visitors},
		"$database: what is mended runs, and who was on hold still is");
}

# A dump of an older version has OIDs of lost tables, which others have in the new
# database: these are not touched.
$node->safe_psql(
	'older', q{
	SET client_min_messages = warning;
	CREATE EXTENSION scheduled_deletion;
	CREATE TABLE audit_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
	CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
	CREATE TABLE orders (id int PRIMARY KEY, user_id int, deletion_scheduled_at timestamptz);
	INSERT INTO users VALUES (1, '2020-01-01'), (2, '2020-01-01');
	INSERT INTO orders VALUES (1, 1, '2020-01-01'), (2, 2, '2020-01-01');
	SELECT add_deletion_policy('users', 'users')});
my $orders = $node->safe_psql('older', q{SELECT 'orders'::regclass::oid});
my $older = "$PostgreSQL::Test::Utils::tmp_check/older.sql";
append_to_file($older, <<"END");
COPY public.deletion_policy (policy, account_table, account_table_name, key_columns, due_column, grace, done_column, audit_table, audit_table_name, audit_columns, audit_details, blocking_keys, time_zone, overdue_after, enabled, brake_accounts, brake_share) FROM stdin;
members	$orders	public.members	{id}	deletion_scheduled_at	00:00:00	\\N	public.audit_log	public.audit_log	\\N	{}	fail	UTC	1 day	t	0	0.25
\\.
COPY public.deletion_step (policy, "position", step_table, step_table_name, columns, action, reason, after_account, via, via_name, via_columns, match) FROM stdin;
users	1	$orders	public.old_sessions	{user_id}	delete	\\N	f	\\N	\\N	\\N	\\N
\\.
COPY public.deletion_hold (account_table, account_table_name, key_columns, account, reason, held_by, held_at, held_until, refused_at) FROM stdin;
$orders	public.members	{id}	2	case	nobody	2020-01-01	\\N	\\N
\\.
END
$node->command_ok(
	[ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('older'), '-f', $older ],
	'older: restored');
is( $node->safe_psql(
		'older', q{SELECT policy, message FROM check_deletion_policy() WHERE severity = 'error' ORDER BY 1}),
	q{members|account table "public.members" of deletion policy "members" does not exist any more, and its OID is that of "orders" now
users|step table "public.old_sessions" does not exist any more, and its OID is that of "orders" now},
	'older: such tables are found');
my (undef, undef, $refused) = $node->psql('older', 'SELECT process_scheduled_deletions()');
like($refused,
	qr/account table "public.members" of deletion policy "members" does not exist any more, and its OID is that of "orders" now/,
	'older: and refused');
is($node->safe_psql('older', 'SELECT count(*) FROM users; SELECT count(*) FROM orders'),
	"2\n2", 'older: nothing was deleted');
is( $node->safe_psql(
		'older', qq{
		SET client_min_messages = warning;
		SELECT remove_deletion_step('users', $orders);
		SELECT process_scheduled_deletions('users') -> 'total_records_deleted';
		SELECT count(*) FROM orders}),
	"t\n{\"users\": 2}\n2",
	'older: mended, the policy does what it should');

$node->stop;
done_testing();
