# On random schemas with random data, each form deletes just the accounts, and the rows of
# theirs, that a simple model says, and reports just that; leaving out foreign-key checks
# makes no difference.  If others move rows meanwhile, it is who was faster that decides;
# but what is left, and what was counted, is what the model says of those who are gone.
#
# SEEDS=1-10000 in the environment says which; each is the same every time.  In each
# tenth others move rows, too; in all with MOVED=1.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $fuzz = "$FindBin::RealBin/../fuzz";
my ($first, $last) = split /-/, $ENV{SEEDS} // '1-60';

my $node = PostgreSQL::Test::Cluster->new('model');
$node->init;
$node->append_conf('postgresql.conf', "client_min_messages = warning\ndeadlock_timeout = 20ms\n");
$node->start;
$node->safe_psql('postgres', q{CREATE DATABASE model ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0});
$node->safe_psql('model', slurp_file("$fuzz/$_.sql")) for qw(model moves);

my (%runs, %elided);
my $moved = 0;
for (my $from = $first; $from <= $last; $from += 20) {
	my $to = $from + 19 > $last ? $last : $from + 19;
	is(differences($from .. $to), '', "seeds $from to $to");
}
cmp_ok($elided{$_} // 0, '>', $runs{$_} / 10, "the $_ left out checks in $elided{$_} of $runs{$_} runs")
  for qw(function procedure);
cmp_ok($moved, '>', 0, "$moved rows were moved") if $last - $first > 9;
$node->stop;
done_testing();

# What is wrong; each run has to end with a line that says what it did
sub differences {
	my $wrong = '';
	# a catalog with the traces of many schemas is slow
	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS fuzz');
	$node->safe_psql('postgres', 'CREATE DATABASE fuzz TEMPLATE model');
	for my $seed (@_) {
		my ($out, $err) = ('', '');
		my ($schema, $errors);
		run_log([ $^X, "$fuzz/generate.pl", $seed ], '>', \$schema, '2>', \$errors);
		$node->psql('fuzz', "$schema\n\\i $fuzz/runs.sql\n", stdout => \$out, stderr => \$err, on_error_stop => 0);
		my %missing = map { $_ => 1 } 'function, elide off', 'function, elide on', 'procedure, elide on';
		for (split /\n/, $out) {
			if (/^((\w+), elide (\w+)): \d+ deleted, \d+ failed, elided: (\w+)$/) {
				delete $missing{$1};
				$runs{$2}++ if $3 eq 'on';
				$elided{$2}++ if $4 eq 'true';
			}
			elsif (/^(?:function|procedure), /) { $wrong .= "seed $seed: $_\n" }
		}
		$wrong .= "seed $seed: $_\n" for split /\n/, $errors . $err;
		$wrong .= "seed $seed: $_: no result\n" for sort keys %missing;
		$wrong .= moved_differences($seed) if $seed % 10 == 0 || $ENV{MOVED};
	}
	return $wrong;
}

# The same where two sessions move rows
sub moved_differences {
	my $seed = shift;
	my ($schema, $out, $err);
	run_log([ $^X, "$fuzz/generate.pl", $seed, 'many' ], '>', \$schema);
	my $settings = join "\n", grep { /^\\set/ } split /\n/, $schema;
	my $sql = sub { $node->psql('fuzz', shift, stdout => \$out, stderr => \$err, on_error_stop => 0); return "$out\n" };
	my ($wrong, $errors) = ('', '');
	$sql->("$schema\n\\i $fuzz/before_moved.sql\n");
	$wrong .= $err;
	my @movers = map {
		IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('fuzz'), '-c', "CALL model.move_rows($_)" ], '2>', \$errors)
	} qw(true false);
	$node->poll_query_until('fuzz', 'SELECT count(*) = 2 FROM model.mover') or die "nobody moves rows: $errors";
	$wrong .= $sql->("$settings\n\\i $fuzz/moved.sql\n") . $err;
	$_->finish for @movers;
	$wrong .= $sql->("\\i $fuzz/after_moved.sql\n") . $err;
	$moved += $1 if $wrong =~ s/^(\d+) moved$//m;
	return join '', map { "seed $seed, moved: $_\n" } grep { $_ ne '' } split /\n/, $wrong . $errors;
}
