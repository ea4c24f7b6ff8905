# META.json is what PGXN's specification asks for, and every file that names a version or
# the least PostgreSQL means the same.
#
# No SQL test can read the files.

use strict;
use warnings;

use FindBin;
use JSON::PP;
use Test::More;

my $top = "$FindBin::RealBin/../..";

sub contents
{
	my ($file) = @_;

	open my $handle, '<', "$top/$file" or die "$file: $!\n";
	local $/;
	return <$handle>;
}

# The first group of a pattern in a file
sub named_in
{
	my ($file, $pattern) = @_;

	return contents($file) =~ $pattern ? $1 : "none in $file";
}

my $meta = decode_json(contents('META.json'));
my $name = $meta->{name};
my $provided = $meta->{provides}->{$name};
my $version = named_in("$name.control", qr/^default_version *= *'(.+)'/m);
my $semantic = qr/^(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[0-9A-Za-z.-]+)?$/;

# Required, and strings of one line
foreach my $key (qw(name version abstract license))
{
	like($meta->{$key}, qr/^[^\n]+$/, "there is one line of $key");
}
like($name, qr{^[^\s/\\[:cntrl:]]{2,}$}, 'the name is a term');
is($meta->{license}, 'postgresql', 'the licence is one that PGXN knows');
is(ref $meta->{maintainer}, 'ARRAY', 'the maintainers are a list');
is($meta->{'meta-spec'}->{version}, '1.0.0', 'the version of the specification is named');
is_deeply([ grep { ref || !length || length > 255 || m{[/\\[:cntrl:]]} } @{ $meta->{tags} } ],
	[], 'the tags are terms');
is_deeply(
	[ sort keys %$meta ],
	[ sort qw(name version abstract description maintainer license prereqs provides
		  generated_by meta-spec tags) ],
	'no key is misspelt');

# The extension that it provides
is_deeply([ keys %{ $meta->{provides} } ], [$name], 'it provides the extension');
ok(-e "$top/$provided->{$_}", "its $_ is there") foreach qw(file docfile);
ok((grep { /--\Q$version\E\.sql$/ } glob "$top/src/$name--*.sql"),
	'a script leads to the default version');
is($provided->{abstract}, $meta->{abstract}, 'its abstract is that of the whole');

# Versions
like($meta->{version}, $semantic, 'the version is a semantic one');
is($meta->{version}, "$version.0", 'the version is that of the control file');
is($provided->{version}, $meta->{version}, 'so is that of what it provides');
is(named_in('CHANGELOG.md', qr/^## (\S+)/m), $version, 'so is the newest in the changelog');
is(named_in('src/debian/changelog', qr/\((\S+)-\d+\)/), $version,
	'so is the newest Debian package');
my $requires = $meta->{prereqs}->{runtime}->{requires}->{PostgreSQL};
like($requires, $semantic, 'the version of PostgreSQL is a semantic one');
is(named_in('src/debian/pgversions', qr/^(\d+)\+$/m) . '.0.0',
	$requires, 'Debian packages are for as many majors');

done_testing();
