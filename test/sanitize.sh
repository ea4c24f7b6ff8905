#!/usr/bin/env bash
# Run the tests with a module, or a server, that looks for what a test cannot see.  On a
# private server (see private_server.sh); what was found goes to stdout.
#
#   address   the module built for AddressSanitizer and UBSan, all tests
#   valgrind  the server under valgrind, some regress files (VALGRIND_TESTS), in an hour or so
#   coverage  the module built for gcov, all tests; prints how much of each file was
#             executed, and each line that was not
#
# usage: [PG_CONFIG=/path/to/pg_config] test/sanitize.sh address|valgrind|coverage

# shellcheck source-path=SCRIPTDIR source=private_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/private_server.sh"

mode=${1:-}
export PG_CFLAGS='' # of the module
link=''             # the same when it is linked
regress=${VALGRIND_TESTS:-install plan process batches commits failures failure_search holds key_types elision bad_input}

case $mode in
address)
	PG_CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined'
	link='-fsanitize=address,undefined'
	;;
valgrind)
	PG_CFLAGS='-O0 -g'
	tools=(valgrind=valgrind)
	;;
coverage)
	PG_CFLAGS='-O0 -g --coverage'
	link='--coverage'
	;;
*) die "usage: test/sanitize.sh address|valgrind|coverage" ;;
esac

check() { # VARIABLE=… of the kinds of tests that are left out
	make_extension installcheck SHLIB_LINK="-lm $link" "$@" || failed=yes
}

# The runtime has to be there before anything else is
preload_address() {
	export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:log_path=$workdir/found"
	export UBSAN_OPTIONS="print_stacktrace=1:abort_on_error=1:log_path=$workdir/found"
	LD_PRELOAD="$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)"
	export LD_PRELOAD
}

# A server that forks under valgrind; it takes long to start
start_valgrind() {
	start_server contrib_regression
	as_owner pg_ctl stop -s -D "$workdir/data"
	as_owner valgrind --quiet --trace-children=yes --leak-check=no --log-file="$workdir/found.%p" \
		postgres -D "$workdir/data" -c deadlock_timeout=60s >"$workdir/server.log" 2>&1 &
	until as_owner pg_isready -q; do
		kill -0 $! || die "$(cat "$workdir/server.log")"
		sleep 1
	done
}

# Errors in a stack that goes through the module; the server's own are not ours
print_valgrind() {
	cat "$workdir"/found.* | sed -E 's/^==[0-9]+== ?//' |
		awk -v RS= '/scheduled_deletion/ { print; print ""; found = 1 } END { exit found }'
}

print_coverage() {
	local file
	cd "$workdir/src"
	as_owner gcov -o src src/*.gcda >/dev/null
	for file in *.c.gcov; do
		awk -F: -v name="${file%.gcov}" '
			{ n = $2; line = $0; count = $1; gsub(/ /, "", count); sub(/^[^:]*:[^:]*:/, "", line) }
			count ~ /^#/ { missed = missed "  " n ": " line "\n"; lines++ }
			count ~ /^[0-9]/ { lines++; hit++ }
			END { if (lines) printf "%s: %d of %d lines\n%s", name, hit, lines, missed }' "$file"
	done
}

failed=''
prepare >&2
make_extension all install SHLIB_LINK="-lm $link" >"$workdir/build.log" 2>&1 || { cat "$workdir/build.log"; exit 1; }
case $mode in
address)
	preload_address
	start_server contrib_regression
	check ISOLATION= TAP_TESTS=
	check REGRESS= TAP_TESTS=
	check REGRESS= ISOLATION=
	if compgen -G "$workdir/found*" >/dev/null; then
		cat "$workdir"/found*
		failed=yes
	fi
	;;
valgrind)
	start_valgrind
	check REGRESS="$regress" ISOLATION= TAP_TESTS=
	as_owner pg_ctl stop -s -t 600 -D "$workdir/data"
	print_valgrind || failed=yes
	;;
coverage)
	start_server contrib_regression
	check ISOLATION= TAP_TESTS=
	check REGRESS= TAP_TESTS=
	check REGRESS= ISOLATION=
	as_owner pg_ctl stop -s -D "$workdir/data"
	print_coverage
	;;
esac
find "$workdir/src" -name regression.diffs -exec cat {} +
[[ -z $failed ]]
