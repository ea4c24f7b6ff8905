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
passed=0
failed=0

# pg_regress says "test name ... ok" in PostgreSQL 15 and TAP, as prove does, from
# 16 on.  A skipped test has not passed, and one that is known to fail has not failed.
count() { # LOG STATUS
	local ok not_ok
	ok=$(grep -E '^(test|    ) .* \.\.\. ok|^ok [0-9]' "$1" | grep -ciEv '# (skip|todo)' || true)
	not_ok=$(grep -E '^(test|    ) .* \.\.\. FAILED|^not ok [0-9]' "$1" | grep -ciEv '# todo' || true)
	# What broke before it could count is one failure too.
	if (($2 != 0 && not_ok == 0)); then not_ok=1; fi
	((passed += ok, failed += not_ok)) || true
}

# make stops at the first kind of test that fails, so each is a run of its own.
# prove is to name each test, as pg_regress does.
suite() { # VARIABLE=… of the other kinds
	local log=$workdir/suite.log status=0 failed_before=$failed
	installcheck() { make_extension installcheck PROVE_FLAGS=--verbose "$@" 2>&1 | tee "$log"; }
	run_job installcheck "$@" || status=$?
	count "$log" $status
	if ((failed > failed_before)); then (explain) || true; fi
}

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

# The next run of make deletes what this reads.
explain() {
	cd "$workdir"
	find src -name regression.diffs -exec cat {} +
	find src -name 'regress_log_*' -exec grep -lZE 'not ok |# Looks like|# Tests were run' {} + |
		xargs -0r tail -v -n 50
	grep -rhF --include='*.log' 'was terminated by signal' .
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
