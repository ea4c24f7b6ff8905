# What README.md shows is true: each ```sql block works, in the order in which a
# reader meets them, and prints what the ```text block after it says.
#
# A SQL test cannot read the document, nor start a session for each block, nor
# have pg_cron at work in its own database.
#
# A block is given to psql as it is.  Its first line may be
#
#	-- in a session of its own as <role>
#	-- in a database of its own: <name>
#
# the latter with the tables of test/shapes/<name>.sql.
#
# Output is what psql prints, without NOTICEs; or the error in which the block ends,
# if the document shows one.  What differs each time is masked on both sides, and
# then the widths of psql's columns are, too.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
chomp(my $sharedir = qx(pg_config --sharedir));
plan skip_all => 'pg_cron is not installed'
  unless -e "$sharedir/extension/pg_cron.control";

# The ```sql blocks of a document: the line of each, its text, and that of the
# ```text block directly after it, if there is one.
sub sql_blocks
{
	my ($document) = @_;
	my @blocks;
	my $after_sql;
	my ($indent, $kind, $text);
	my $line_number = 0;

	foreach my $line (split /^/, $document)
	{
		$line_number++;
		if (!defined $kind)
		{
			next if $line =~ /^\s*$/;
			if ($line =~ /^(\s*)```(.*)$/)
			{
				($indent, $kind, $text) = ($1, $2, '');
				push @blocks, { line => $line_number } if $kind eq 'sql';
			}
			else
			{
				$after_sql = 0;
			}
		}
		elsif ($line =~ /^\s*```\s*$/)
		{
			$blocks[-1]->{sql} = $text if $kind eq 'sql';
			$blocks[-1]->{output} = $text if $kind eq 'text' && $after_sql;
			$after_sql = $kind eq 'sql';
			undef $kind;
		}
		else
		{
			$line =~ s/^$indent//;
			$text .= $line;
		}
	}
	die "a block of README.md does not end\n" if defined $kind;
	return @blocks;
}

# Output without what differs each time.
sub mask
{
	my ($output) = @_;
	my $zone = qr/Z|[+-]\d\d(?::\d\d)?/;
	my $hex = qr/[0-9a-f]/;
	my $masked = 0;

	$masked += $output =~
	  s/\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:$zone)?/<time>/g;
	$masked += $output =~ s/\b$hex{8}(?:-$hex{4}){3}-$hex{12}\b/<uuid>/g;
	$masked += $output =~ s/("run_id": )\d+/$1<number>/g;
	$masked += $output =~ s/("duration_seconds": )[\d.]+/$1<seconds>/g;

	# psql makes a column as wide as its widest value, and centers its name
	if ($masked)
	{
		$output =~ s/^ +| +(?=\+$)//mg;
		$output =~ s/ +/ /g;
		$output =~ s/--+/--/g;
	}
	$output =~ s/[ \t]+$//mg;
	$output =~ s/\n+\z/\n/;
	return $output;
}

my @blocks = sql_blocks(slurp_file("$top/README.md"));
if (!ok(@blocks > 0, 'README.md has sql blocks'))
{
	done_testing();
	exit 1;
}

my $node = PostgreSQL::Test::Cluster->new('readme');
$node->init;
$node->append_conf('postgresql.conf', "timezone = 'UTC'");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE readme');
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron'");
$node->append_conf('postgresql.conf', "cron.database_name = 'readme'");
$node->append_conf('postgresql.conf', "cron.host = '" . $node->host . "'");
$node->restart;
$node->safe_psql('readme',
		slurp_file("$top/test/schema.sql")
	  . slurp_file("$top/test/generate.sql"));

my %databases = (readme => 1);

foreach my $block (@blocks)
{
	my ($title) = $block->{sql} =~ /^(?!--)(.*\S)/m;
	my $name = "README.md:$block->{line}: " . ($title // '');
	my $file = "$PostgreSQL::Test::Utils::tmp_check/readme.sql";
	my $database =
	  $block->{sql} =~ /\A-- in a database of its own: (\w+)\s*$/m ? $1 : 'readme';

	if (!$databases{$database}++)
	{
		$node->safe_psql('postgres', "CREATE DATABASE $database");
		$node->safe_psql($database,
			slurp_file("$top/test/shapes/$database.sql"));
	}
	my @psql = (
		$node->installed_command('psql'),
		'-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database),
		'-f', $file);

	push @psql, '-U', $1
	  if $block->{sql} =~ /\A-- in a session of its own as (\w+)\s*$/m;

	unlink $file;
	append_to_file($file, $block->{sql});
	my $result = IPC::Run::run(
		\@psql,
		'<' => \'',
		'>' => \my $stdout,
		'2>' => \my $stderr);
	my $status = $? >> 8;
	my $fails = ($block->{output} // '') =~ /^ERROR:/m;
	if ($fails)
	{
		$stderr =~ s/^psql:\S+: (?=ERROR:)//m;
		$stderr =~ s/^CONTEXT:.*//ms;
		$stdout .= $stderr;
	}
	is($status, $fails ? 3 : 0, $name) or diag($stderr);
	is(mask($stdout), mask($block->{output}), "$name: its output")
	  if defined $block->{output};
}

$node->stop;
done_testing();
