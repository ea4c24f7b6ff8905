# No account keeps the others from being deleted, tonight or the next night, by whatever
# error: each condition of the server's errcodes.txt, raised by one account's trigger or
# passed on from another session, and errors of the server itself, in either form.  The
# account is on record; what is really everybody's, or the session's own cancel, still
# ends the run.
#
# A SQL test cannot connect to its server as another session, nor has it the list.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('sqlstates');
$node->init;
$node->append_conf('postgresql.conf', "client_min_messages = error\nlog_min_messages = panic\n");
$node->start;

my $share = $node->config_data('--sharedir');
my %conditions;
for (split /\n/, slurp_file("$share/errcodes.txt"))
{
	# successful_completion cannot be raised: the server takes it for another
	$conditions{$1} = $2 if /^(\w{5})\s+[EWS]\s+\w+\s+(\w+)\s*$/ && $1 ne '00000';
}
cmp_ok(scalar keys %conditions, '>', 200, 'conditions in errcodes.txt');

my $has_dblink = -e "$share/extension/dblink.control";
my $has_fdw = -e "$share/extension/postgres_fdw.control";

# An account fails as column "how" says: by "raise" or "dblink" with a SQLSTATE, or by
# the statement
$node->safe_psql('postgres', q{
	CREATE EXTENSION scheduled_deletion;
	CREATE TABLE users (id int PRIMARY KEY, due timestamptz, how text, what text);
	CREATE TABLE kept (id int PRIMARY KEY);
	CREATE TABLE audit_log (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);

	CREATE FUNCTION fail(state text) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN RAISE EXCEPTION 'no' USING ERRCODE = state; END $$;
	CREATE FUNCTION assert() RETURNS int LANGUAGE plpgsql AS $$
	BEGIN ASSERT false; RETURN 1; END $$;
	CREATE FUNCTION recurse() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN recurse(); END $$;
	CREATE FUNCTION object_to() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		CASE OLD.how
			WHEN 'raise' THEN PERFORM fail(OLD.what);
			WHEN 'dblink' THEN
				IF dblink_get_connections() IS NULL THEN
					PERFORM dblink_connect('other', current_setting('test.other'));
				END IF;
				PERFORM * FROM dblink('other', format('SELECT fail(%L)', OLD.what)) AS t (x int);
			ELSE EXECUTE OLD.how;
		END CASE;
		RETURN OLD;
	END $$;
	CREATE TRIGGER object_to BEFORE DELETE ON users FOR EACH ROW WHEN (OLD.how IS NOT NULL) EXECUTE FUNCTION object_to();
	SELECT add_deletion_policy('users', 'users', due_column => 'due', brake_share => 1);

	-- Twenty due accounts, of which the first fails
	CREATE PROCEDURE let_be_due(how text, what text) LANGUAGE sql AS $$
		TRUNCATE users, deletion_failure, audit_log;
		INSERT INTO users SELECT n, '2020-01-01'::timestamptz + n * interval '1 day',
			CASE n WHEN 1 THEN how END, CASE n WHEN 1 THEN what END FROM generate_series(1, 20) n;
	$$;
	CREATE TABLE wrong (how text, what text, form text, said text, outcome text);

	-- Run the policy in a form, twice; then the one is left, and on record, though
	-- more are due in the second night
	CREATE PROCEDURE try(how text, what text, form text) LANGUAGE plpgsql AS $$
	DECLARE
		said text;
		report jsonb;
		outcome text;
	BEGIN
		CALL let_be_due(how, what);
		COMMIT;
		FOR night IN 1 .. 2 LOOP
			IF form = 'function' THEN
				BEGIN
					report := process_scheduled_deletions('users');
				EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
					said := concat_ws('; ', said, SQLSTATE || ' ' || SQLERRM);
				END;
			ELSE
				CALL run_scheduled_deletions('users', pause => '0', raise_on_failure => false, report => report);
			END IF;
			COMMIT;
			SELECT concat_ws(' ', 'left', string_agg(id::text, ','),
				'recorded', (SELECT string_agg(account, ',') FROM deletion_failure)) INTO outcome FROM users;
			IF outcome <> 'left 1 recorded 1' OR said IS NOT NULL OR report ->> 'stop_reason' <> 'drained' THEN
				INSERT INTO wrong VALUES (how, what, form, concat_ws('; ', said, report ->> 'stop_reason', night), outcome);
			END IF;
			INSERT INTO users SELECT n, '2019-01-01' FROM generate_series(100, 105) n;
			UPDATE deletion_failure SET next_attempt_at = now();
			COMMIT;
		END LOOP;
	END $$;
	-- in both forms where the class alone does not make it the account's
	CREATE PROCEDURE try_both(how text, what text) LANGUAGE plpgsql AS $$
	BEGIN
		IF what = '' OR what ~ '^(08|0A|25|3F|40|42|53|55|57|58|P0|XX)' THEN
			CALL try(how, what, 'procedure');
		END IF;
		CALL try(how, what, 'function');
	END $$});

my $other = $node->connstr('postgres');
my $set = qq{SET test.other = '} . ($other =~ s/'/''/gr) . q{'; SET lock_timeout = 0;};

# Run accounts that fail in these ways, and tell which went wrong
sub try_all
{
	my ($name, @ways) = @_;
	my $calls = join '', map { "CALL try_both(\$x\$$_->[0]\$x\$, '$_->[1]');\n" } @ways;
	my ($result, $out, $err) = $node->psql('postgres', "TRUNCATE wrong;\n$set\n$calls", on_error_stop => 0);
	is($err, '', "$name: no error ends a run");
	is($node->safe_psql('postgres', 'SELECT how, what, form, said, outcome FROM wrong'), '', "$name: the others go");
	return;
}

try_all('raised by PL/pgSQL', map { [ 'raise', $_ ] } sort keys %conditions);
try_all('errors of the server',
	map { [ $_, '' ] } (
		'SELECT 1 / 0', 'SELECT 1000000 * 1000000', q{SELECT repeat('x', 1073741823) || repeat('x', 1073741823)},
		'SELECT recurse()', q{SELECT 'a' ~ '('}, 'SELECT 10::numeric ^ 200000', q{SELECT 'x'::int}, 'SELECT amvalidate(0)',
		'SELECT assert()', 'SELECT * FROM no_such_table', 'DROP TABLE users', 'COMMIT', 'SET TRANSACTION READ ONLY; INSERT INTO kept VALUES (1)',
		'SELECT set_config(\'role\', \'nobody\', true)', 'INSERT INTO kept VALUES (1), (1)', 'SELECT lo_get(1)',
		'SELECT pg_read_file(\'no such file\')', 'SELECT now() + interval \'1000000 years\'', 'SELECT xml \'<\'', 'SELECT jsonb \'{\''));

SKIP:
{
	skip 'no dblink', 1 if !$has_dblink;
	$node->safe_psql('postgres', 'CREATE EXTENSION dblink');
	try_all('passed on by dblink', map { [ 'dblink', $_ ] } sort keys %conditions);
	my $blocker = $node->background_psql('postgres');
	$blocker->query_safe('BEGIN; INSERT INTO kept VALUES (7)');
	try_all('what another session meets',
		map { [ "SELECT * FROM dblink(current_setting('test.other') || \$\$ $_->[0] \$\$, \$\$ $_->[1] \$\$) AS t (x text)", '' ] } (
			[ q{options='-c statement_timeout=20'}, 'SELECT pg_sleep(60)' ],
			[ '', 'SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)' ],
			[ '', 'SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)' ],
			[ q{options='-c lock_timeout=20'}, q{INSERT INTO kept VALUES (7) RETURNING 'x'} ],
			[ '', 'SELECT assert()' ],
			[ '', 'SELECT amvalidate(0)' ],
			[ 'dbname=no_such_database', 'SELECT 1' ]));
	$blocker->query_safe('ROLLBACK');
	$blocker->quit;
}

SKIP:
{
	skip 'no postgres_fdw', 1 if !$has_fdw;
	my ($host, $port) = ($node->host, $node->port);
	$node->safe_psql('postgres', qq{
		CREATE EXTENSION postgres_fdw;
		CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres', options '-c statement_timeout=50');
		CREATE USER MAPPING FOR CURRENT_USER SERVER other;
		CREATE VIEW slow AS SELECT x::text FROM pg_sleep(60) x;
		CREATE FUNCTION fail_there(state text) RETURNS text LANGUAGE plpgsql AS
			'BEGIN RAISE ''no'' USING ERRCODE = state; END';
		CREATE VIEW asserts AS SELECT assert() AS x;
		CREATE FOREIGN TABLE slow_there (x text) SERVER other OPTIONS (table_name 'slow');
		CREATE FOREIGN TABLE asserts_there (x int) SERVER other OPTIONS (table_name 'asserts');});
	my @tables;
	for my $state (qw(08006 25P02 40001 40P01 42501 53100 55P03 57014 57P01 58030 0A000 3F000 XX000 XX001))
	{
		$node->safe_psql('postgres', qq{
			CREATE VIEW fails_$state AS SELECT fail_there('$state') AS x;
			CREATE FOREIGN TABLE fails_there_$state (x text) SERVER other OPTIONS (table_name 'fails_\L$state');});
		push @tables, "fails_there_$state";
	}
	try_all('passed on by postgres_fdw', map { [ "SELECT * FROM $_", '' ] } 'slow_there', 'asserts_there', @tables);
}

# All of them at once keep nobody waiting, either
my $all = join ',', sort keys %conditions;
$node->safe_psql('postgres', qq(
	TRUNCATE users, deletion_failure;
	INSERT INTO users SELECT row_number() OVER (), '2020-01-01', 'raise', state FROM unnest('{$all}'::text[]) state;
	INSERT INTO users SELECT 10000 + n, '2021-01-01' FROM generate_series(1, 50) n));
$node->safe_psql('postgres', 'CALL run_scheduled_deletions(pause => \'0\', raise_on_failure => false)');
is($node->safe_psql('postgres', 'SELECT count(*) FILTER (WHERE how IS NULL), count(*), (SELECT count(*) FROM deletion_failure) FROM users'),
	join('|', 0, (scalar keys %conditions) x 2), 'all conditions at once');

# What is really the session's own, or everybody's, ends the run with one error, and is
# charged to nobody
for my $case (
	[ 'a cancel', q{how = 'SELECT pg_sleep(60)' WHERE id = 1}, 'SET statement_timeout = 300', '57014' ],
	[ 'a broken schema', q{how = 'SELECT FROM no_such_table'}, 'SELECT', '42P01' ],
	[ 'a broken server', q{how = 'SELECT amvalidate(0)'}, 'SELECT', 'XX000' ],
	$has_dblink ? [ 'what others meet for all', q{how = 'dblink', what = '40P01'}, 'SELECT', '40P01' ] : ())
{
	my ($name, $change, $before, $state) = @$case;
	for my $statement ("SELECT process_scheduled_deletions('users')", "CALL run_scheduled_deletions('users')")
	{
		# of internal errors, a transaction that has only a few is committed
		next if $state eq 'XX000' && $statement =~ /CALL/;

		$node->safe_psql('postgres', "CALL let_be_due(NULL, NULL); UPDATE users SET $change");
		my ($result, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$set\n$before;\n$statement;", on_error_stop => 0);
		like($err, qr/ERROR:  $state: deletion run stopped: /, "$name ends $statement");
		is($node->safe_psql('postgres', 'SELECT count(*) FROM users'), 20, 'nobody is deleted');
		is($node->safe_psql('postgres', 'SELECT count(*) FROM deletion_failure WHERE attempts > 0'), 0, 'or charged');
	}
}

$node->stop;
done_testing();
