# On random schemas with random data, each form deletes just the accounts, and the rows of
# theirs, that a simple model says, and reports just that; leaving out foreign-key checks
# makes no difference.
#
# SEEDS=1-10000 in the environment says which; each is the same every time.

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
$node->append_conf('postgresql.conf', "client_min_messages = warning\n");
$node->start;
$node->safe_psql('postgres', q{CREATE DATABASE model ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0});
$node->safe_psql('model', slurp_file("$fuzz/model.sql"));

my (%runs, %elided);
for (my $from = $first; $from <= $last; $from += 20) {
	my $to = $from + 19 > $last ? $last : $from + 19;
	is(differences($from .. $to), '', "seeds $from to $to");
}
cmp_ok($elided{$_} // 0, '>', $runs{$_} / 10, "the $_ left out checks in $elided{$_} of $runs{$_} runs")
  for qw(function procedure);
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
	}
	return $wrong;
}
