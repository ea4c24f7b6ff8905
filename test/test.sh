#!/usr/bin/env bash
# Build the extension and run all its tests, in and against a private copy of
# PostgreSQL (see private_server.sh).  The last line is "N passed, N failed".
#
# usage: [PG_CONFIG=/path/to/pg_config] [PG_CFLAGS=…] test/test.sh [server]
#
# "server" stands for the tests that depend on its major: not those of test/deploy.

# shellcheck source-path=SCRIPTDIR source=private_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/private_server.sh"

export PG_CFLAGS=${PG_CFLAGS--Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare}
tools=(clang=clang faketime=faketime)
if [[ ${1:-} != server ]]; then tools+=(npm=npm); fi # for Deno

# gcc has compiled all of it; clang warns of other things.
compile_with_clang() {
	local flags status=0
	read -ra flags <<<"$(pg_config --cppflags) $PG_CFLAGS"
	(cd "$workdir/src" && printf '%s\0' src/*.c |
		xargs -0 -n 8 -P 2 clang -fsyntax-only -O2 "${flags[@]}" \
			-DSCHEDULED_DELETION_VERSION='""' -isystem "$(pg_config --includedir-server)") || status=1
	if ((status)); then
		((failed += 1))
		echo "test clang ... FAILED"
	else
		((passed += 1))
		echo "test clang ... ok"
	fi
}

prepare
if ! run_job build_extension; then
	echo "0 passed, 1 failed"
	exit 1
fi
compile_with_clang
start_server contrib_regression # the database that pg_regress makes
suite ISOLATION= TAP_TESTS=
suite REGRESS= TAP_TESTS=
suite REGRESS= ISOLATION=
if [[ ${1:-} != server ]]; then suite REGRESS= ISOLATION= PROVE_TESTS='test/deploy/*.pl'; fi
echo "$passed passed, $failed failed"
((passed && !failed))
