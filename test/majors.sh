#!/usr/bin/env bash
# All tests on the major that is installed here, then on those of other Debian suites, at
# the same time and each in a chroot, beside them assert.sh; then the Debian packages.
# Where no chroot can be made, a line says so, and nothing is counted.  The last line is
# "N passed, N failed".
#
# usage: test/majors.sh [SUITE…]

# shellcheck source-path=SCRIPTDIR source=private_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/private_server.sh"

suites=("$@")
if ((!$#)); then
	here=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	for suite in bookworm trixie forky; do [[ $suite == "$here" ]] || suites+=("$suite"); done
fi
workdir=$(mktemp -d)
passed=0
failed=0

# Its output goes to a log of that name, too, and its exit status beside it.
logged() { # NAME COMMAND…
	local name=$1 status=0
	shift
	"$@" 2>&1 | tee "$workdir/$name" || status=$?
	echo $status >"$workdir/$name.status"
}

in_chroots() {
	local suite
	for suite in "${suites[@]}"; do
		logged "$suite" "$top/test/chroot.sh" "$suite" test/test.sh server >/dev/null &
	done
	logged assert env -u PG_CONFIG "$top/test/assert.sh" >/dev/null &
	wait
	for suite in "${suites[@]}"; do
		printf '\n# Debian %s\n' "$suite"
		cat "$workdir/$suite"
	done
	printf '\n# Assertions\n'
	cat "$workdir/assert"
}

# The sum of what last lines say; what did not come to one has failed, if it could begin.
count() { # NAME…
	local name
	for name; do
		if [[ $(tail -n 1 "$workdir/$name") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
			((passed += BASH_REMATCH[1], failed += BASH_REMATCH[2])) || true
		elif (($(<"$workdir/$name.status") != 3)); then
			((failed += 1))
		fi
	done
}

run_job logged here "$top/test/test.sh"
run_job in_chroots
run_job logged packages "$top/test/debian.sh"
count here "${suites[@]}" assert packages
echo
echo "$passed passed, $failed failed"
((passed && !failed))
