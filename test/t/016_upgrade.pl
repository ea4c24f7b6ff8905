# Who has installed the first version, and updates, has what a fresh installation has, and
# keeps what was decided, granted and remembered; before that, the new library works with
# the old script.
#
# A SQL test has one database, with one version of the extension in it.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

my $node = PostgreSQL::Test::Cluster->new('upgrade');
$node->init;
$node->start;
my $schema = slurp_file("$top/test/schema.sql") . slurp_file("$top/test/generate.sql");

# Every object of the extension: what it is, who may do what with it, what is said of it
my $objects = q{
	SELECT pg_describe_object(classid, objid, 0) AS object, concat_ws(E'\n',
		CASE classid
			WHEN 'pg_proc'::regclass THEN pg_get_functiondef(objid)
			WHEN 'pg_class'::regclass THEN concat_ws(E'\n',
				CASE WHEN relkind = 'v' THEN pg_get_viewdef(objid) END,
				(SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attacl,
						pg_get_expr(adbin, adrelid), col_description(objid, attnum)), E'\n' ORDER BY attnum)
					FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
					WHERE attrelid = objid AND attnum > 0 AND NOT attisdropped),
				(SELECT string_agg(pg_get_constraintdef(c.oid), E'\n' ORDER BY conname) FROM pg_constraint c WHERE conrelid = objid),
				(SELECT string_agg(pg_get_indexdef(indexrelid), E'\n' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = objid),
				(SELECT string_agg(pg_get_triggerdef(t.oid), E'\n' ORDER BY tgname) FROM pg_trigger t WHERE tgrelid = objid AND NOT tgisinternal))
		END,
		(SELECT array_agg(a::text ORDER BY a::text) FROM unnest(coalesce(relacl, acldefault('r', relowner), proacl, acldefault('f', proowner))) a),
		obj_description(objid, classid::regclass::name)) AS is,
		array_position(extconfig, objid) IS NOT NULL AS is_dumped
	FROM pg_extension JOIN pg_depend ON refclassid = 'pg_extension'::regclass AND refobjid = pg_extension.oid AND deptype = 'e'
		LEFT JOIN pg_class ON classid = 'pg_class'::regclass AND objid = pg_class.oid
		LEFT JOIN pg_proc ON classid = 'pg_proc'::regclass AND objid = pg_proc.oid
	WHERE extname = 'scheduled_deletion'
	ORDER BY 1};

# Whatever has to be kept; columns that are new are not
my $kept = q{
	SELECT md5(string_agg(r, E'\n' ORDER BY r)) FROM (
		SELECT (to_jsonb(t) - '{account_table_type,audit_table_type}'::text[])::text FROM deletion_policy t
		UNION ALL SELECT (to_jsonb(t) - '{step_table_type,via_type}'::text[])::text FROM deletion_step t
		UNION ALL SELECT (to_jsonb(t) - '{account_table_type,key_types}'::text[])::text FROM deletion_hold t
		UNION ALL SELECT (to_jsonb(t) - 'uncertain')::text FROM deletion_failure t
		UNION ALL SELECT (to_jsonb(t) - 'next_batch')::text FROM deletion_run t UNION ALL SELECT last_value::text FROM deletion_run_id
		UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal) AS rows (r)};
my $report = q{SELECT report - '{run_id,started_at,completed_at,duration_seconds}'::text[]
	FROM process_scheduled_deletions('built-in') report};

my ($first) = sort map { m{scheduled_deletion--(\d+\.\d+)\.sql$} } glob "$top/src/scheduled_deletion--*.sql";
my ($current) = slurp_file("$top/scheduled_deletion.control") =~ /^default_version = '(.*)'/m;
isnt($first, $current, "from $first to $current");

for my $database (qw(old fresh))
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, $schema);
}
$node->safe_psql('fresh', 'CREATE EXTENSION scheduled_deletion');
$node->safe_psql('old', "CREATE EXTENSION scheduled_deletion VERSION '$first'");
isnt($node->safe_psql('old', $objects), $node->safe_psql('fresh', $objects), 'they differ');

# All that users leave in it, by the new library
for my $database (qw(old fresh))
{
	$node->safe_psql($database, q{
		CREATE TABLE invoices (user_id uuid REFERENCES profiles);
		INSERT INTO invoices SELECT id FROM profiles WHERE deletion_scheduled_at <= now() ORDER BY id LIMIT 1;
		SELECT process_scheduled_deletions();
		CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
		CREATE TABLE posts (user_id int);
		CREATE TABLE users_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
		SELECT add_deletion_policy('users', 'users', audit_table => 'users_log');
		SELECT add_deletion_step('users', 'posts', '{user_id}');
		SELECT hold_account((SELECT id::text FROM profiles ORDER BY id DESC LIMIT 1), 'a claim', policy => 'built-in');
		SELECT guard_held_accounts('built-in');
		UPDATE profiles SET deletion_scheduled_at = now() WHERE email LIKE '%5@%'});
}
$node->safe_psql('old', q{
	CREATE ROLE watcher;
	GRANT SELECT ON deletion_status TO watcher;
	GRANT EXECUTE ON FUNCTION deletion_policy_status TO watcher});
my $before = $node->safe_psql('old', $kept);
my $granted = q{SELECT has_table_privilege('watcher', 'deletion_status', 'SELECT'), has_function_privilege('watcher', 'deletion_policy_status()', 'EXECUTE')};

# The first script follows a rename; whether it was one cannot be told from what it remembers
is($node->safe_psql('old', q{
	BEGIN;
	ALTER TABLE posts RENAME TO articles;
	SELECT step_table FROM deletion_plan('users') WHERE position = 1}), 'articles', 'by the old script a rename is followed');
my (undef, undef, $told) = $node->psql('old', q{
	BEGIN;
	ALTER TABLE posts RENAME TO articles;
	ALTER EXTENSION scheduled_deletion UPDATE;
	SELECT * FROM deletion_plan('users')});
like($told, qr/WARNING:  step table of deletion policy "users" was registered as public\.posts, and its OID is that of articles now/,
	'the update tells of one before it');
like($told, qr/ERROR:  step table "public\.posts" of deletion policy "users" does not exist any more, and its OID is that of "articles" now/,
	'which has to be confirmed');

$node->safe_psql('old', 'ALTER EXTENSION scheduled_deletion UPDATE');
is($node->safe_psql('old', q{
	SELECT DISTINCT type = (SELECT reltype FROM pg_class WHERE oid = number) FROM (
		SELECT account_table, account_table_type FROM deletion_policy UNION ALL SELECT audit_table, audit_table_type FROM deletion_policy
		UNION ALL SELECT step_table, step_table_type FROM deletion_step UNION ALL SELECT account_table, account_table_type FROM deletion_hold
	) t (number, type)}), 't', 'the types of all tables are remembered');
is($node->safe_psql('old', q{
	BEGIN;
	ALTER TABLE posts RENAME TO articles;
	SELECT step_table FROM deletion_plan('users') WHERE position = 1}), 'articles', 'so a rename is followed');
is($node->safe_psql('old', q{SELECT extversion FROM pg_extension WHERE extname = 'scheduled_deletion'}), $current, 'it is updated');
is($node->safe_psql('old', $kept), $before, 'what was decided and remembered is kept');
is($node->safe_psql('old', $granted), 't|t', 'what was granted, too');
$node->safe_psql('old', 'DROP OWNED BY watcher');
is($node->safe_psql('old', $objects), $node->safe_psql('fresh', $objects), 'its objects are those of a fresh installation');
is($node->safe_psql('old', $report), $node->safe_psql('fresh', $report), 'so is what it does');
is($node->safe_psql('old', "SELECT count(*) FROM deletion_plan('users')"), 2, 'and a policy that was registered before');

$node->safe_psql('old', 'DROP EXTENSION scheduled_deletion');
is($node->safe_psql('old', q{SELECT count(*) FROM pg_proc WHERE proname LIKE '%deletion%'}), 0, 'nothing of it is left when it is dropped');

$node->stop;
done_testing();
