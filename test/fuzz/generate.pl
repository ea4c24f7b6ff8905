#!/usr/bin/env perl
# Print the SQL of a random schema with random data, of its policy and of what model.sql
# has to know of it: for psql, in a database with the extension and the model.
#
# usage: generate.pl SEED [many]
#
# The same seed prints the same each time; with "many", more rows.

use strict;
use warnings;

my $seed = shift // die "usage: $0 SEED [many]\n";
my $has_many = (shift // '') eq 'many';
srand($seed);

# ---- chance ------------------------------------------------------------------

sub chance { return rand(100) < shift }
sub one_of { return $_[ int(rand(@_)) ] }
sub number { my ($least, $most) = @_; return $least + int(rand($most - $least + 1)) }

# ---- types of keys -----------------------------------------------------------

# How the value of a number is written, in any of several ways that are equal; and the
# types of columns that can refer to it, with and without a foreign key.
my %types = (
	integer => { value => sub { $_[0] * 7 - 20 }, children => [qw(integer bigint smallint)] },
	bigint => { value => sub { $_[0] * 1_000_000_007 - 20 }, children => ['bigint'] },
	uuid => { value => sub { sprintf "%08x-0000-4000-8000-%012x", 2654435761 * ($_[0] + 1) % 2**32, $_[0] } },
	text => { value => sub { "it's \"$_[0]\"" }, children => [qw(text varchar)] },
	varchar => { value => sub { "k $_[0]" }, children => [ 'varchar', 'varchar(20)', 'text' ] },
	numeric => { value => sub { one_of("$_[0].5", "$_[0].50", "0$_[0].5") } },
	citext => { value => sub { one_of("Key$_[0]", "kEY$_[0]", "key$_[0]") } },
	'char(8)' => { value => sub { one_of("c$_[0]", "c$_[0]  ") }, children => [ 'char(8)', 'char(12)' ] },
	date => { value => sub { sprintf '2001-01-%02d', $_[0] + 1 } },
	timestamptz => { value => sub { sprintf '2001-01-%02d 12:00+00', $_[0] + 1 } },
	'double precision' => { value => sub { one_of($_[0] / 4, sprintf '%.3f', $_[0] / 4) } },
	'model.positive' => { value => sub { $_[0] + 1 }, children => [qw(model.positive integer)] },
	'text COLLATE model.lax' => { value => sub { one_of("Lax$_[0]", "lAX$_[0]") } },
);

sub children { my $type = shift; return @{ $types{$type}{children} // [$type] } }
sub value { my ($type, $n) = @_; return "'" . $types{$type}{value}->($n) =~ s/'/''/gr . "'" }

# ---- tables ------------------------------------------------------------------

# {name, keys: [[name, type]…], edges: […], rows: […], partitions, …}
my (@tables, @edges, @steps);
my $rows = 0;       # of all tables; each has its number in rid
my $follows = chance(40);
my $due_type = one_of(qw(timestamptz timestamptz timestamp date));
my $has_done = chance(40);

# Numbers of a row's key, from which its values follow
sub make_keys {
	my ($table, @types) = @_;
	my $n = 0;
	$table->{keys} = [ map { [ 'k' . ++$n, $_ ] } @types ];
	return;
}

sub make_account_table {
	my $account = { name => 'acct', edges => [] };
	make_keys($account, map { one_of(sort keys %types) } 1 .. (chance(20) ? 2 : 1));
	$account->{partitions} = chance(15) ? number(2, 3) : 0;
	$account->{code} = one_of(sort keys %types) if chance(20) && !$account->{partitions};
	push @tables, $account;
	return;
}

sub make_child_table {
	my $n = shift;
	my $table = { name => chance(15) ? "T $n" : "t$n", edges => [] };
	make_keys($table, chance(15) ? ('integer', 'text') : one_of('integer', 'integer', 'uuid', 'text'));
	$table->{partitions} = chance(12) ? number(2, 3) : 0;
	$table->{is_parent} = !$table->{partitions} && chance(6);
	my @parents = @tables;
	my $nedges = one_of(1, 1, 1, 2, 2, 3);
	push @tables, $table;
	for (1 .. $nedges) { make_edge($table, chance(55) ? $tables[0] : one_of(@parents)) }
	make_edge($table, $table) if chance(10);
	return;
}

# What accounts refer to, and take with them: their login, say
sub make_login_table {
	my $account = $tables[0];
	my $table = { name => 'login', edges => [], partitions => 0 };
	make_keys($table, 'integer');
	push @tables, $table;
	make_edge($account, $table, 'CASCADE', 'NO ACTION', 'SET NULL');
	my $edge = $edges[-1];
	push @edges,
	  {
		n => 1 + @edges,
		child => $table,
		parent => $account,
		columns => $edge->{parent_columns},
		parent_columns => $edge->{columns},
		effect => 'delete'
	  };
	push @steps, { edge => $edges[-1], action => 'delete', is_after => 1 };
	return;
}

# From one table to another, or to itself; with one of these actions, if they are given
sub make_edge {
	my ($child, $parent, @actions) = @_;
	my $is_self = $child == $parent;
	my $by_code = $parent->{code} && chance(50);
	my @keys = $by_code ? (['code', $parent->{code}]) : @{ $parent->{keys} };
	my $n = 1 + @edges;
	my $edge = {
		n => $n,
		child => $child,
		parent => $parent,
		parent_columns => [ map { $_->[0] } @keys ],
		columns => [ map { "r${n}_$_->[0]" } @keys ],
		key_types => [ map { $_->[1] } @keys ],
		types => [ map { one_of(children($_->[1])) } @keys ],
		is_key => @actions || $is_self || chance(80),
		not_null => !@actions && !$is_self && chance(40),
		later => @actions || $is_self,
		via => $parent->{name} eq 'acct' ? undef : $parent->{name},
	};
	# An inheritance parent's key is not unique over its children
	return if $parent->{is_parent} || $child->{is_kept} || $by_code && !$edge->{is_key};
	choose_effect($edge, $by_code, @actions);
	push @edges, $edge;
	push @{ $child->{edges} }, $edge;
	return;
}

sub choose_effect {
	my ($edge, $by_code, @actions) = @_;
	my $is_of_account = $edge->{child}{name} eq 'acct';
	if ($edge->{is_key}) {
		@actions = (('CASCADE') x 9, ('NO ACTION') x 4, 'RESTRICT', ('SET NULL') x 3, 'SET DEFAULT') if !@actions;
		my $action = one_of(@actions);
		$action = 'CASCADE' if $action eq 'RESTRICT' && $edge->{child} == $edge->{parent};
		$edge->{action} = $action;
		$edge->{deferrable} = one_of('', '', '', ' DEFERRABLE', ' DEFERRABLE INITIALLY DEFERRED');
		$edge->{effect} = {
			'CASCADE' => 'delete',
			'NO ACTION' => $follows && !$is_of_account ? 'delete' : 'block',
			'RESTRICT' => $follows && !$is_of_account ? 'delete' : 'block',
			'SET NULL' => 'null',
			'SET DEFAULT' => 'default'
		}->{$action};
		$edge->{defaults} = [ map { value($_, 0) } @{ $edge->{key_types} } ] if $action eq 'SET DEFAULT' && $edge->{parent}{name} eq 'acct' && chance(60);
	}
	else { $edge->{effect} = 'none' }

	# Only what is deleted from has steps that lead to it
	my $step = $edge->{is_key} ? chance(15) : chance(75);
	return if !$step || $by_code || $is_of_account || !is_deleted_from($edge->{parent});
	my $can_be_kept = !$edge->{is_key} && $edge->{child}{name} ne 'login' && !grep { $_->{effect} ne 'none' } @{ $edge->{child}{edges} };
	my $action = one_of('delete', 'delete', 'delete', $edge->{not_null} ? () : 'set null', $can_be_kept ? 'keep' : ());
	$edge->{effect} = { delete => 'delete', 'set null' => 'null', keep => 'keep' }->{$action};
	$edge->{child}{is_kept} = 1 if $action eq 'keep';
	$edge->{is_step} = 1;
	$edge->{kind} = 'a' if $action eq 'delete' && !$edge->{is_key} && chance(25);
	push @steps, { edge => $edge, action => $action };
	return;
}

sub is_deleted_from {
	my $table = shift;
	return 1 if $table->{name} =~ /^(acct|login)$/;
	return scalar grep { $_->{effect} eq 'delete' && $_->{parent} != $table && !$_->{later} && is_deleted_from($_->{parent}) }
	  @{ $table->{edges} };
}

# A key from a table to one that came later, or to itself
sub make_circle {
	my ($child, $parent) = map { $tables[$_] } sort { $a <=> $b } number(1, $#tables), number(1, $#tables);
	return if $child->{is_kept} || $child->{is_parent} || $parent->{is_parent};
	my $before = @edges;
	make_edge($child, $parent);
	return if @edges == $before;
	my $edge = $edges[-1];
	$edge->{not_null} = 0;
	$edge->{later} = 1;
	if ($edge->{is_key} && $edge->{action} =~ /NO ACTION|RESTRICT/) {
		$edge->{action} = 'NO ACTION';
		$edge->{deferrable} = ' DEFERRABLE INITIALLY DEFERRED';
	}
	return;
}

# ---- rows --------------------------------------------------------------------

sub make_rows {
	my ($table, $count) = @_;
	for my $n (0 .. $count - 1) {
		my $row = { n => $n, rid => ++$rows };
		$row->{kind} = one_of('a', 'a', 'b') if chance(90);
		$row->{bad} = one_of('raise', 'raise', 'keep', 'late') if $table->{trips} && chance(8);
		push @{ $table->{rows} }, $row;
	}
	return;
}

# To which rows each row refers; undef: to none
sub make_refs {
	my $table = shift;
	for my $row (@{ $table->{rows} }) {
		for my $edge (@{ $table->{edges} }) {
			my @targets = @{ $edge->{parent}{rows} };
			my $target = !@targets || (!$edge->{not_null} && chance(25)) ? undef : one_of(@targets);
			$row->{refs}{ $edge->{n} } = $target;
			$row->{dangling}{ $edge->{n} } = 1 if !$edge->{is_key} && chance(10);
		}
	}
	return;
}

# ---- SQL ---------------------------------------------------------------------

sub quote { my $name = shift; return $name =~ /^[a-z_0-9]+$/ ? $name : qq("$name") }
sub list { return join ', ', map { quote($_) } @_ }
sub literal { my $text = shift; return defined $text ? "'" . $text =~ s/'/''/gr . "'" : 'NULL' }
sub array { return "'{" . join(',', @_) . "}'" }

sub ref_values {
	my ($edge, $target, $is_dangling) = @_;
	my $i = 0;
	return map {
		my $n = $is_dangling ? 25 : defined $target ? $target->{n} : undef;
		my $type = $edge->{key_types}[ $i++ ];
		defined $n ? value($type, $n) : 'NULL'
	} @{ $edge->{columns} };
}

sub references {
	my $edge = shift;
	return sprintf 'FOREIGN KEY (%s) REFERENCES s.%s (%s) ON DELETE %s%s', list(@{ $edge->{columns} }),
	  quote($edge->{parent}{name}), list(@{ $edge->{parent_columns} }), $edge->{action}, $edge->{deferrable};
}

sub print_table {
	my $table = shift;
	my $name = quote($table->{name});
	my @columns = ('rid integer NOT NULL', map { "$_->[0] $_->[1] NOT NULL" } @{ $table->{keys} });
	push @columns, "due $due_type", $has_done ? 'done timestamptz' : () if $name eq 'acct';
	push @columns, "code $table->{code} UNIQUE" if $table->{code};
	push @columns, 'bad text', 'kind text';
	for my $edge (@{ $table->{edges} }) {
		my $i = 0;
		for my $column (@{ $edge->{columns} }) {
			my $default = $edge->{defaults} ? " DEFAULT $edge->{defaults}[$i]" : '';
			push @columns, "$column $edge->{types}[$i++]$default" . ($edge->{not_null} ? ' NOT NULL' : '');
		}
	}
	my @keys = map { $_->[0] } @{ $table->{keys} };
	push @columns, 'PRIMARY KEY (' . list(@keys) . ')';
	push @columns, map { references($_) } grep { $_->{is_key} && !$_->{later} } @{ $table->{edges} };
	print "CREATE TABLE s.$name (", join(', ', @columns), ')',
	  $table->{partitions} ? " PARTITION BY HASH ($keys[0])" : '', ";\n";
	print_partition($table, $_) for 0 .. $table->{partitions} - 1;
	print "CREATE TABLE s.", quote("$table->{name}_heir"), " () INHERITS (s.$name);\n" if $table->{is_parent};
	print "ALTER TABLE s.$name ENABLE ROW LEVEL SECURITY;\n" if chance(10);
	return;
}

# One has other columns at other places
sub print_partition {
	my ($table, $n) = @_;
	my ($name, $part) = (quote($table->{name}), quote("$table->{name}_$n"));
	my $bounds = "FOR VALUES WITH (MODULUS $table->{partitions}, REMAINDER $n)";
	if ($n == 1) {
		print "CREATE TABLE s.$part (gone integer, bad text, kind text);\nALTER TABLE s.$part DROP gone;\n";
		print "SELECT format('ALTER TABLE s.$part ADD %I %s%s', attname, format_type(atttypid, atttypmod), ",
		  "CASE WHEN attcollation NOT IN (0, 100, 950) THEN ' COLLATE ' || attcollation::regcollation ELSE '' END) ",
		  "FROM pg_attribute WHERE attrelid = 's.$name'::regclass AND attnum > 0 AND attname NOT IN ('bad', 'kind') ORDER BY attname \\gexec\n";
		print "SELECT format('ALTER TABLE s.$part ALTER %I SET NOT NULL', attname) ",
		  "FROM pg_attribute WHERE attrelid = 's.$name'::regclass AND attnum > 0 AND attnotnull \\gexec\n";
		print "SELECT format('ALTER TABLE s.$part ALTER %I SET DEFAULT %s', attname, pg_get_expr(adbin, adrelid)) ",
		  "FROM pg_attribute JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = 's.$name'::regclass \\gexec\n";
		print "ALTER TABLE s.$name ATTACH PARTITION s.$part $bounds;\n";
	}
	else { print "CREATE TABLE s.$part PARTITION OF s.$name $bounds;\n" }
	return;
}

sub print_rows {
	my $table = shift;
	my $name = $table->{name};
	for my $row (@{ $table->{rows} }) {
		my (@columns, @values);
		my $put = sub { push @columns, shift; push @values, shift; return };
		$put->('rid', $row->{rid});
		$put->($_->[0], value($_->[1], $row->{n})) for @{ $table->{keys} };
		if ($name eq 'acct') {
			$put->('due', literal($row->{due}));
			$put->('done', literal($row->{done})) if $has_done;
			$put->('code', value($table->{code}, $row->{n})) if $table->{code};
		}
		$put->('bad', literal($row->{bad})) if $row->{bad};
		$put->('kind', literal($row->{kind})) if $row->{kind};
		for my $edge (@{ $table->{edges} }) {
			next if $edge->{later};
			my @refs = ref_values($edge, $row->{refs}{ $edge->{n} }, $row->{dangling}{ $edge->{n} });
			$put->($_, shift @refs) for @{ $edge->{columns} };
		}
		my $into = $table->{is_parent} && chance(40) ? "${name}_heir" : $name;
		print 'INSERT INTO s.', quote($into), ' (', list(@columns), ') VALUES (', join(', ', @values), ");\n";
	}
	return;
}

# What refers to rows that are made later
sub print_circle {
	my $edge = shift;
	my $name = quote($edge->{child}{name});
	for my $row (@{ $edge->{child}{rows} }) {
		my @refs = ref_values($edge, $row->{refs}{ $edge->{n} }, 0);
		print "UPDATE s.$name SET ", join(', ', map { "$_ = " . shift @refs } @{ $edge->{columns} }), " WHERE rid = $row->{rid};\n";
	}
	print "ALTER TABLE s.$name ADD ", references($edge), ";\n" if $edge->{is_key};
	return;
}

sub print_index {
	my $edge = shift;
	print "CREATE INDEX ON s.", quote($edge->{child}{name}), ' (', list(@{ $edge->{columns} }), ");\n";
	return;
}

sub print_triggers {
	my $table = shift;
	my $name = quote($table->{name});
	print "CREATE TRIGGER trip BEFORE DELETE ON s.$name FOR EACH ROW EXECUTE FUNCTION model.trip();\n";
	print "CREATE CONSTRAINT TRIGGER late AFTER DELETE ON s.$name DEFERRABLE INITIALLY ",
	  one_of('DEFERRED', 'IMMEDIATE'), " FOR EACH ROW EXECUTE FUNCTION model.late();\n";
	return;
}

sub print_policy {
	my $account = $tables[0];
	print "CREATE TABLE s.audit_log (user_id text, action text, details jsonb, performed_by text, created_at timestamptz);\n";
	printf "SELECT add_deletion_policy('fuzz', 's.acct', due_column => 'due', done_column => %s, blocking_keys => %s, brake_share => 1);\n",
	  $has_done ? "'done'" : 'NULL', $follows ? "'delete'" : "'fail'";
	while (my $step = shift @steps) {
		my $edge = $step->{edge};
		my @columns = @{ $edge->{columns} };
		push @columns, @{ shift(@steps)->{edge}{columns} } while @steps && can_be_one($step, $steps[0]);
		my @arguments = map { literal($_) } 's.' . quote($edge->{child}{name}), '{' . join(',', @columns) . '}', $step->{action};
		push @arguments, "reason => 'law'" if $step->{action} eq 'keep';
		push @arguments, 'via => ' . literal('s.' . quote($edge->{via})) if $edge->{via};
		push @arguments, q(match => '{"kind": "a"}') if $edge->{kind};
		push @arguments, 'after_account => true' if $step->{is_after};
		print "SELECT add_deletion_step('fuzz', ", join(', ', @arguments), ");\n";
	}
	return;
}

# Can one step have the columns of both?
sub can_be_one {
	my ($step, $other) = @_;
	my @tells = map { join ' ', $_->{action}, map { $_ // '' } @{ $_->{edge} }{qw(child via kind)} } $step, $other;
	return $tells[0] eq $tells[1] && !$step->{is_after} && !$other->{is_after} && chance(70);
}

sub print_model {
	print "TRUNCATE model.edge, model.tab;\n";
	for my $table (@tables) {
		printf "INSERT INTO model.tab VALUES (%s, %s);\n", literal($table->{name}), $table->{is_parent} ? 'true' : 'false';
	}
	for my $edge (@edges) {
		my $i = 0;
		my $defaults = $edge->{defaults}
		  ? 'jsonb_build_object('
		  . join(', ', map { literal($_) . ', ' . $edge->{defaults}[$i] . "::$edge->{types}[$i++]" } @{ $edge->{columns} }) . ')'
		  : "'{}'";
		printf "INSERT INTO model.edge VALUES (%d, %s, %s, %s, %s, %s, %s, %s, %s);\n", $edge->{n}, literal($edge->{child}{name}),
		  array(@{ $edge->{columns} }), literal($edge->{parent}{name}), array(@{ $edge->{parent_columns} }),
		  literal($edge->{effect}), $edge->{is_key} && !$edge->{is_step} ? 'true' : 'false', $defaults, literal($edge->{kind});
	}
	my @keys = map { $_->[0] } @{ $tables[0]{keys} };
	my @held = map { $_->{rid} } grep { $_->{held} } @{ $tables[0]{rows} };
	printf "CREATE OR REPLACE VIEW model.account AS SELECT rid, %s COLLATE \"default\" AS key, %s AS due, rid = ANY ('{%s}') AS held FROM s.acct;\n",
	  @keys == 1 ? "format('%s', $keys[0])" : 'ROW(' . list(@keys) . ')::text',
	  "coalesce(due < '2020-01-01', false)" . ($has_done ? ' AND done IS NULL' : ''), join(',', @held);
	print "SELECT hold_account(key, 'case 1', policy => 'fuzz') FROM model.account WHERE held;\n";
	return;
}

# ---- all of it ---------------------------------------------------------------

make_account_table();
make_login_table() if chance(12);
make_child_table($_) for 1 .. number(1, 6);
make_edge($tables[0], $tables[0]) if chance(20);
make_circle() if @tables > 2 && chance(20);
if (chance(40)) {
	for my $table (@tables) { $table->{trips} = 1 if chance(35) && !$table->{is_parent} }
}

my $many = chance(20);
make_rows($tables[0], $has_many ? 20 : $many ? number(8, 20) : number(1, 8));
for my $row (@{ $tables[0]{rows} }) {
	my $state = $row->{n} == 0 ? 'not' : one_of(qw(due due due due due not later done));
	$row->{due} = { due => one_of('2019-12-01', '2001-01-01'), later => '2999-01-01', done => '2001-01-01' }->{$state};
	$row->{done} = '2001-02-01' if $state eq 'done' && $has_done;
	$row->{held} = 1 if chance(6);
}
make_rows($_, $has_many ? 24 : number(1, 14)) for @tables[ 1 .. $#tables ];
make_refs($_) for @tables;

print "DROP SCHEMA IF EXISTS s CASCADE;\nCREATE SCHEMA s;\n";
print_table($_) for @tables;
print_index($_) for grep { chance(70) } @edges;
print_rows($_) for @tables;
print_circle($_) for grep { $_->{later} } @edges;
print_triggers($_) for grep { $_->{trips} } @tables;
if (chance(30)) { print 'ANALYZE s.', quote($_->{name}), ";\n" for @tables }
print_policy();
print_model();
printf "\\set batch_size %d\n\\set role %s\n", one_of(1, 2, 3, 100000, 100000, 100000), one_of(qw(none none job));
