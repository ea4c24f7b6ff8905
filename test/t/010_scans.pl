# How a run finds its rows, as its plans tell that auto_explain logs: by a bitmap of an
# index, whatever the settings of the session; by the rows that an index finds, one by one,
# where a bitmap that forgets which would be compared with every key; and by a scan of the
# table where no index finds a single value.  No plan is compiled for it.  Of an index, just
# the leaf pages on which there are rows of accounts are asked for before the first is read,
# and of a table as long as they are few.

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

# 40,000 accounts; their rows are in tables whose indexes have some hundred leaf pages
$node->append_conf('postgresql.conf', "session_preload_libraries = ''");
$node->reload;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION pageinspect;
	SELECT remove_deletion_policy('users');
	DROP TABLE users, same, crossed, bloomed, inherited, inherited_child;
	CREATE TABLE users (id int PRIMARY KEY, deletion_scheduled_at timestamptz);
	CREATE TABLE sorted (user_id int REFERENCES users ON DELETE CASCADE);
	CREATE TABLE scattered (user_id int REFERENCES users ON DELETE CASCADE);
	CREATE TABLE reverse (user_id int REFERENCES users ON DELETE CASCADE);
	CREATE TABLE paged (user_id int REFERENCES users ON DELETE CASCADE, other text);
	CREATE TABLE pair (user_id int REFERENCES users ON DELETE CASCADE, other text);
	CREATE TABLE heavy (user_id int REFERENCES users ON DELETE CASCADE);
	CREATE TABLE small (user_id int REFERENCES users ON DELETE CASCADE);
	CREATE TABLE empty (user_id int REFERENCES users ON DELETE CASCADE);
	CREATE TABLE parts (user_id int REFERENCES users ON DELETE CASCADE) PARTITION BY RANGE (user_id);
	CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (1) TO (20001);
	CREATE TABLE part2 PARTITION OF parts FOR VALUES FROM (20001) TO (40001);
	INSERT INTO users SELECT n FROM generate_series(1, 40000) n;
	CREATE INDEX ON scattered (user_id);
	INSERT INTO sorted SELECT id FROM users;
	INSERT INTO scattered SELECT id FROM users ORDER BY md5(id::text);
	INSERT INTO reverse SELECT id FROM users UNION ALL SELECT NULL FROM generate_series(1, 5000);
	INSERT INTO paged SELECT id, repeat('ten of them are a page ', 30) FROM users;
	INSERT INTO pair SELECT id, md5(n::text) FROM users, generate_series(1, 2) n;
	INSERT INTO heavy SELECT 1 FROM generate_series(1, 20000);
	INSERT INTO small SELECT id FROM users WHERE id <= 100;
	INSERT INTO parts SELECT id FROM users;
	CREATE INDEX ON sorted (user_id);
	CREATE INDEX ON reverse (user_id DESC);
	CREATE INDEX ON paged (user_id);
	CREATE INDEX ON pair (user_id, other);
	CREATE INDEX ON heavy (user_id);
	CREATE INDEX ON small (user_id);
	CREATE INDEX ON empty (user_id);
	CREATE INDEX ON parts (user_id);
	CREATE VIEW leaves AS
	SELECT relname AS name, count(*) FILTER (WHERE type = 'l' AND EXISTS (
			SELECT FROM bt_page_items(relname, page) WHERE NOT nulls AND (btpo_next = 0 OR itemoffset > 1))) AS leaves
	FROM pg_class, generate_series(1, pg_relation_size(oid) / 8192 - 1) AS page, bt_page_stats(relname, page)
	WHERE relname ~ '_user_id_(other_)?idx$' AND relkind = 'i'
	GROUP BY relname;
	SELECT add_deletion_policy('users', 'users', brake_share => 1);
	VACUUM ANALYZE;
});
my %leaves = map { split /\|/ } split /\n/, $node->safe_psql('postgres', "SELECT regexp_replace(name, '_user.*', ''), leaves FROM leaves");
cmp_ok($leaves{$_}, '>', 10, "the index of $_ has leaf pages") for grep { $_ ne 'small' } sort keys %leaves;

# An index that consists of one page, or of none, has nothing above its leaves.
my %none = (small => 0, empty => 0);
my %both = (%none, map({ $_ => 2 } qw(sorted scattered reverse paged pair part1 part2)), heavy => $leaves{heavy});
my $function = 'BEGIN; SELECT process_scheduled_deletions($$users$$); ROLLBACK';
is_deeply({ read_ahead('1, 40000', $function) }, \%both, 'keys far apart: the leaf page of each, and all on which one has rows');
is_deeply({ read_ahead('20000', $function) }, { %none, map { $_ => 1 } qw(sorted scattered reverse paged pair part1 heavy) },
	'one key: one leaf page');
is_deeply({ read_ahead('SELECT id FROM users', $function) }, { %leaves, %none }, 'all keys: all leaf pages on which there is one, once');
is_deeply({ read_ahead('20000', "SET effective_io_concurrency = 0; $function") }, {}, 'none, if nothing is to be read ahead');
is_deeply({ read_ahead('1, 40000', 'CALL run_scheduled_deletions($$users$$)') }, \%both,
	'the procedure, whose plans are made before the keys are known');

# Where most pages of a table are wanted, the operating system sees that, if it is let alone.
SKIP: {
	skip 'a scan asks for many pages at once', 3 if $node->pg_version >= 18;
	is_deeply([ switched('id % 10 = 0') ], [0], 'every page: none is asked for after the first ones');
	is_deeply([ switched('id % 100 = 0') ], [], 'every tenth page: all are asked for');
	is_deeply([ switched('id % 10 = 0 AND id < 20000 OR id % 100 = 0') ], [ 0, 128 ],
		'first every page, then every tenth: they are asked for anew');
}

# What is read first must not be driven out by what is read last.
$node->append_conf('postgresql.conf', 'shared_buffers = 128');
$node->restart;
my %few = read_ahead('SELECT id FROM users', $function);
is($few{pair}, 128, 'of a large index, as many as there are shared buffers');
$node->stop;
done_testing();

# How many pages of the index of each table are read ahead when these accounts are deleted
sub read_ahead {
	my %read;
	my $messages = debug_messages(@_);
	$read{$2} += $1 while $messages =~ /(\d+) pages of index "(\w+?)_user_id_(?:other_)?idx" are read ahead/g;
	return %read;
}

# How many pages of a table of ten accounts a page are read ahead, each time that it changes
sub switched {
	return debug_messages("SELECT id FROM users WHERE $_[0]", $function) =~ /table "paged": (\d+) pages are read ahead/g;
}

sub debug_messages {
	my ($accounts, $form) = @_;
	my $stderr;
	$node->safe_psql('postgres', "UPDATE users SET deletion_scheduled_at = '2020-01-01' WHERE id IN ($accounts)");
	$node->psql('postgres', "SET client_min_messages = debug1; $form", stderr => \$stderr, on_error_die => 1);
	$node->safe_psql('postgres', 'UPDATE users SET deletion_scheduled_at = NULL WHERE deletion_scheduled_at IS NOT NULL');
	return $stderr;
}

# The plan of the statement that deletes from each table
sub plans {
	my %plans;
	for (split /^(?=\d{4}-)/m, shift) {
		$plans{$1} = $_ if /plan:\n.*DELETE FROM (?:ONLY )?public\.(\w+)/;
	}
	return %plans;
}
