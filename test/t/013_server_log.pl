# The server's log has a line for the beginning of each run, one for its end, and one for
# each account that failed, and nothing of a person in any of them, not even the key.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

my $node = PostgreSQL::Test::Cluster->new('log');
$node->init;
$node->append_conf('postgresql.conf', "log_statement = none\nlog_error_verbosity = default");
$node->start;
$node->safe_psql(
	'postgres',
	slurp_file("$top/test/schema.sql") . q{
	CREATE EXTENSION scheduled_deletion;
	CREATE TABLE invoices (user_id uuid NOT NULL REFERENCES profiles);
	INSERT INTO profiles (id, email, deletion_scheduled_at)
	SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'person' || n || '@example.com',
		now() - interval '1 day' * n
	FROM generate_series(1, 4) n;
	INSERT INTO invoices SELECT id FROM profiles WHERE email IN ('person1@example.com', 'person2@example.com');
});

my $failed = qr/could not delete an account: SQLSTATE 23503, constraint "invoices_user_id_fkey", table "invoices"/;
my $counts = sub {
	my ($deleted, $failed, $waiting, $rows) = @_;
	return qr/after \d+\.\d{3} s: accounts deleted $deleted, failed $failed, skipped 0, held 0, waiting $waiting; rows deleted $rows/;
};

is_logged(
	'SELECT process_scheduled_deletions(dry_run => true)',
	'a dry run leaves no line');
is_logged(
	'SELECT process_scheduled_deletions()',
	'the function tells each failure',
	qr/begins \(function\)/, $failed, $failed,
	qr/ends \(drained\) ${\ $counts->(2, 2, 0, 2)}/);
is_logged(
	'CALL run_scheduled_deletions()',
	'the procedure tells that they wait',
	qr/begins \(procedure\)/,
	qr/ends \(drained\) ${\ $counts->(0, 0, 2, 0)}/);

$node->safe_psql('postgres', 'SELECT retry_account()');
is_logged(
	'CALL run_scheduled_deletions()',
	'the procedure tells each failure, before its error',
	qr/begins \(procedure\)/, $failed, $failed,
	qr/ends \(drained\) ${\ $counts->(0, 2, 0, 0)}/);

$node->safe_psql('postgres', q{SELECT alter_deletion_policy('built-in', brake_accounts => 1)});
$node->safe_psql('postgres', q{
	INSERT INTO profiles (email, deletion_scheduled_at)
	SELECT 'person' || n || '@example.com', now() FROM generate_series(5, 9) n});
is_logged(
	'SELECT process_scheduled_deletions()',
	'a function that raises an error has come to no end, which is told',
	qr/begins \(function\)/,
	qr/ends \(failed, SQLSTATE 54000\)$/);
is_logged(
	'CALL run_scheduled_deletions()',
	'a procedure that could not run tells why',
	qr/begins \(procedure\)/,
	qr/ends \(failed, SQLSTATE 54000\) ${\ $counts->(0, 0, 0, 0)}/);

# Whoever may create a table that refers to accounts chooses its name
my $name = qq{"t\nLOG:  scheduled deletion: run 9 of policy ""built-in"" ends"};
$node->safe_psql('postgres', qq{
	SELECT alter_deletion_policy('built-in', brake_accounts => 0);
	TRUNCATE invoices;
	CREATE TABLE $name (user_id uuid NOT NULL REFERENCES profiles);
	INSERT INTO $name SELECT id FROM profiles WHERE email = 'person5\@example.com'});
is_logged(
	'SELECT process_scheduled_deletions()',
	'no name begins a line',
	qr/begins \(function\)/,
	qr/could not delete an account: SQLSTATE 23503, constraint "t\?LOG:  scheduled .*", table "t\?LOG:  .* ends"/,
	qr/ends \(drained\) ${\ $counts->(6, 1, 0, 6)}/);
$node->safe_psql('postgres', "DROP TABLE $name");
is_logged(
	'TABLE deletion_status; SELECT * FROM check_deletion_policy()',
	'looking at a policy leaves no line');
is_logged(
	q{SELECT process_scheduled_deletions('nobody')},
	'a call that begins no run leaves no line');

is($node->psql('postgres', 'SET client_min_messages = debug5; SELECT process_scheduled_deletions(release_brake => true)',
		stderr => \my $told), 0, 'a session that is told all');
unlike($told, qr/scheduled deletion: run/, 'is not told those lines');

unlike(slurp_file($node->logfile), qr/person\d@|00000000-0000-4000/, 'no account is in the log');

$node->stop;
done_testing();

# Our own lines of the log, after a statement, are these and no others
sub is_logged
{
	my ($statement, $name, @lines) = @_;
	my $before = -s $node->logfile;
	$node->psql('postgres', $statement, stderr => \my $ignored);
	my @logged = slurp_file($node->logfile, $before) =~ /LOG:  scheduled deletion: (.*)$/mg;
	my $is_as_expected = @logged == @lines;
	for my $i (0 .. $#lines)
	{
		$is_as_expected &&= $logged[$i] =~ /^run \d+ of policy "built-in" $lines[$i]$/;
	}
	ok($is_as_expected, $name) or diag(join "\n", @logged);
	return;
}
