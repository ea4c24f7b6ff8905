#!/usr/bin/env bash
# Tests on a server with assertions, which overwrites memory when it is freed: regress and
# isolation; and that plan, check and a run say and do the same while the server forgets all
# that it knows of the catalog whenever it may (debug_discard_caches).  Without PG_CONFIG
# the server is built from Debian's sources, in a chroot.  The last line is "N passed, N
# failed"; exit status 3 where there are no chroots or sources.
#
# usage: [PG_CONFIG=/path/to/pg_config] test/assert.sh [SUITE]

# shellcheck source-path=SCRIPTDIR source=private_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/private_server.sh"

if [[ -z ${PG_CONFIG:-} ]]; then
	suite=${1:-$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")}
	exec "$top/test/chroot.sh" "$suite" test/assert/build.sh
fi

preload=                      # nobody needs pg_cron here
settings=('autovacuum = off') # statistics stay as they are
schemas=(rails django prisma supabase built_in partitioned referring)

# What the README says to try a schema with, as far as the steps
registration() { # SCHEMA
	awk -v first="-- in a database of its own: $1" '
		$0 == first { on = 1 }
		on && (/^```/ || /deletion_plan/) { exit }
		on' README.md
}

schema() { # SCHEMA
	case $1 in
	built_in)
		echo '\set held yes'
		cat test/schema.sql test/generate.sql
		echo "CREATE EXTENSION scheduled_deletion; SELECT alter_deletion_policy('built-in', brake_share => 1);"
		;;
	partitioned | referring)
		echo '\set held yes'
		cat "test/assert/$1.sql"
		;;
	*) cat "test/shapes/$1.sql" && registration "$1" ;;
	esac
	cat test/assert/due.sql
}

# What is shown of a copy of the database, by a server that forgets and by one that does not
show() { # SCHEMA DISCARD
	as_owner createdb -T "$1" "$1_$2"
	as_owner psql -Xq -d "$1_$2" -v discard="$2" -f test/assert/show.sql 2>&1
}

show_both() { # SCHEMA
	local name=$1
	as_owner createdb "$name"
	schema "$name" | as_owner psql -Xq -v ON_ERROR_STOP=1 -d "$name" >/dev/null
	show "$name" 0 >"$workdir/$name.0"
	show "$name" 1 >"$workdir/$name.1"
	touch "$workdir/$name.shown"
}

# At the same time; whatever is said of an error, is said there, too.
show_all() {
	local name
	for name in "${schemas[@]}"; do
		show_both "$name" >"$workdir/$name.log" 2>&1 &
	done
	wait
}

compare() { # SCHEMA
	if [[ -e $workdir/$1.shown ]] && diff -u "$workdir/$1.0" "$workdir/$1.1" &&
		grep -q '^hard_deleted' "$workdir/$1.0"; then
		((passed += 1))
		echo "test $1 ... ok"
	else
		((failed += 1))
		cat "$workdir/$1.log"
		echo "test $1 ... FAILED"
	fi
}

prepare
if ! run_job build_extension; then
	echo "0 passed, 1 failed"
	exit 1
fi
start_server contrib_regression
[[ $(as_owner psql -XAtc 'SHOW debug_assertions' postgres) == on ]] ||
	die "PG_CONFIG=$PG_CONFIG is of a server without assertions"
suite ISOLATION= TAP_TESTS=
suite REGRESS= TAP_TESTS=
run_job show_all
for name in "${schemas[@]}"; do compare "$name"; done
if grep -F TRAP: "$workdir/server.log"; then ((failed += 1)); fi
echo "$passed passed, $failed failed"
((passed && !failed))
