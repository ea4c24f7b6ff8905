# How a run finds its rows, as its plans tell that auto_explain logs: by a bitmap of an
# index, whatever the settings of the session; by the rows that an index finds, one by one,
# where a bitmap that forgets which would be compared with every key; and by a scan of the
# table where no index finds a single value.  No plan is compiled for it.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('scans');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
session_preload_libraries = 'auto_explain'
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
client_min_messages = warning
log_min_messages = log
jit = on
});
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION scheduled_deletion;
	CREATE EXTENSION bloom;
	CREATE TABLE audit_log (user_id int, action text, details jsonb, performed_by int, created_at timestamptz);
	CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
	CREATE TABLE same (user_id int REFERENCES users ON DELETE CASCADE);
	CREATE INDEX ON same (user_id);
	CREATE TABLE crossed (user_id bigint REFERENCES users ON DELETE CASCADE);
	CREATE INDEX ON crossed (user_id);
	CREATE TABLE bloomed (user_id int REFERENCES users ON DELETE CASCADE);
	CREATE INDEX ON bloomed USING bloom (user_id);
	CREATE TABLE inherited (user_id int);
	CREATE INDEX ON inherited (user_id);
	CREATE TABLE inherited_child () INHERITS (inherited);
	SELECT add_deletion_policy('users', 'users', brake_share => 1);
	SELECT add_deletion_step('users', 'inherited', '{user_id}');
	INSERT INTO users SELECT n, '2020-01-01' FROM generate_series(1, 3000) n;
	INSERT INTO same SELECT id FROM users;
	INSERT INTO crossed SELECT id FROM users ORDER BY md5(id::text);
	INSERT INTO bloomed SELECT id FROM users;
	INSERT INTO inherited_child SELECT id FROM users;
	ANALYZE;
});

for my $form (
	"SELECT process_scheduled_deletions('users', max_accounts => 1000)",
	"SET enable_bitmapscan = off; SELECT process_scheduled_deletions('users', max_accounts => 1000)",
	"CALL run_scheduled_deletions('users', max_accounts => 10)")
{
	my ($name) = $form =~ /(.*\w+)\(/;
	my $log = -s $node->logfile;
	$node->safe_psql('postgres', $form);
	my %plans = plans(slurp_file($node->logfile, $log));
	like($plans{same}, qr/Bitmap Heap Scan on same/, "$name: a bitmap for a column of the key's type");
	like($plans{crossed}, qr/Index Scan using crossed_user_id_idx/, "$name: no bitmap for one of another type");
	like($plans{bloomed}, qr/Seq Scan on bloomed/, "$name: no index that is read whole for each value");
	like($plans{inherited}, qr/Seq Scan on inherited_child/, "$name: a table without an index among others");
	unlike(join('', values %plans), qr/JIT:/, "$name: nothing is compiled");
}
$node->stop;
done_testing();

# The plan of the statement that deletes from each table
sub plans {
	my %plans;
	for (split /^(?=\d{4}-)/m, shift) {
		$plans{$1} = $_ if /plan:\n.*DELETE FROM (?:ONLY )?public\.(\w+)/;
	}
	return %plans;
}
