#!/usr/bin/env bash
# Run the tests with a module, or a server, that looks for what a test cannot see.  On a
# private server (see private_server.sh); what was found goes to stdout, and makes the
# exit status 1.
#
#   address   the module built for AddressSanitizer and UBSan, all tests of a server (not
#             those of deploy); ten minutes
#   valgrind  the server under valgrind, core tests (REGRESS says which); an hour
#   coverage  the module built for gcov, the same tests: how many lines of each file were
#             executed, and those that were not; five minutes
#
# usage: [PG_CONFIG=/path/to/pg_config] [REGRESS="FILE…"] test/sanitize.sh address|valgrind|coverage

# shellcheck source-path=SCRIPTDIR source=private_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/private_server.sh"

core=${REGRESS:-install plan process batches commits failures failure_search holds key_types elision bad_input}
unset REGRESS
link='' # flags of the module when it is linked
failed=''

build() { # FLAGS, when it is compiled and linked
	export PG_CFLAGS="-g $1"
	link="SHLIB_LINK=-lm $1"
	make_extension all install "$link" >"$workdir/build.log" 2>&1 || die "$(cat "$workdir/build.log")"
}

check() { # VARIABLE=VALUE… for make
	run_job make_extension installcheck "$link" "$@" || failed=yes
}

# One kind after the other, whatever fails
check_all() {
	check ISOLATION= TAP_TESTS=
	check REGRESS= TAP_TESTS=
	check REGRESS= ISOLATION=
}

# The runtime must be there before anything else is, and begin before anything else
# does: a library of Debian's server holds a lock of gettext while it allocates for the
# first time, and the runtime would wait for that lock to say what it does not find.
preload_runtime() {
	as_owner gcc -shared -fPIC -Wl,-z,initfirst -x c -o "$workdir/first.so" - <<-'EOF'
		#include <stdlib.h>
		__attribute__((constructor)) static void first(void) { free(malloc(1)); }
	EOF
	# what palloc() gets is freed with the process, which is no leak
	export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:abort_on_error=1:log_path=$workdir/found"
	export UBSAN_OPTIONS="print_stacktrace=1:abort_on_error=1:log_path=$workdir/found"
	LD_PRELOAD="$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so):$workdir/first.so"
	export LD_PRELOAD
}

check_address() {
	build '-O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined'
	preload_runtime
	start_server contrib_regression
	check_all
	unset LD_PRELOAD
	if compgen -G "$workdir/found.*" >/dev/null; then
		cat "$workdir"/found.*
		failed=yes
	fi
}

check_valgrind() {
	build -O0
	start_server contrib_regression
	as_owner pg_ctl stop -s -D "$workdir/data"
	as_owner tee "$workdir/known" <<<"$known" >/dev/null
	as_owner valgrind --quiet --trace-children=yes --leak-check=no --num-callers=50 \
		--suppressions="$workdir/known" --log-file="$workdir/found.%p" \
		postgres -D "$workdir/data" -c scheduled_deletion.batch_duration=1min >"$workdir/server.log" 2>&1 &
	until as_owner pg_isready -q; do
		kill -0 $! || die "$(cat "$workdir/server.log")"
		sleep 1
	done
	check REGRESS="$core" ISOLATION= TAP_TESTS=
	as_owner pg_ctl stop -s -t 600 -D "$workdir/data"
	print_errors || failed=yes
}

# Errors in whose stack the module is; those of the server alone are not ours
print_errors() {
	cat "$workdir"/found.* | sed -E 's/^==[0-9]+== ?//' |
		awk -v RS= '/ sd_|scheduled_deletion/ { print; print ""; found = 1 } END { exit found }'
}

# What the server does by itself, also when the module has called it: it writes the gaps
# between WAL records, hashes the gaps of messages, and moves a regular expression onto
# itself
known='
{
	wal
	Memcheck:Param
	pwrite64(buf)
	fun:pwrite
	...
}
{
	messages
	Memcheck:Cond
	...
	fun:smgrclosenode
}
{
	messages
	Memcheck:Value8
	...
	fun:smgrclosenode
}
{
	regular_expression
	Memcheck:Overlap
	fun:__memcpy_chk
	fun:RE_compile_and_cache
}'

check_coverage() {
	build '-O0 --coverage'
	start_server contrib_regression
	check_all
	as_owner pg_ctl stop -s -D "$workdir/data"
	print_coverage
}

print_coverage() {
	local file
	cd "$workdir/src"
	as_owner gcov -o src src/*.gcda >/dev/null
	for file in *.c.gcov; do
		awk -F: -v name="${file%.gcov}" '
			{ count = $1; n = $2; line = $0; sub(/^[^:]*:[^:]*:/, "", line) }
			count ~ /#/ { missed = missed "  " n ": " line "\n"; lines++ }
			count ~ /[0-9]/ { lines++; hit++ }
			END { if (lines) printf "%s: %d of %d lines\n%s", name, hit, lines, missed }' "$file"
	done
}

case ${1:-} in
address | coverage) ;;
valgrind) tools=(valgrind=valgrind) ;;
*) die "usage: test/sanitize.sh address|valgrind|coverage" ;;
esac
prepare >&2
"check_$1"
find "$workdir/src" -name regression.diffs -exec cat {} +
[[ -z $failed ]]
