#!/usr/bin/env bash
# Build the Debian packages in a chroot, install and use them in another, that is clean.
# The last line is "N passed, N failed"; exit status 3 where no chroot can be made.
#
# usage: test/debian.sh [SUITE]

# shellcheck source-path=SCRIPTDIR source=private_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/private_server.sh"

suite=${1:-$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")}
status=0
passed=0
failed=0

workdir=$(mktemp -d "${TMPDIR:-/var/tmp}/sd.XXXXXX")
mkdir "$workdir/packages"
export SHARE=$workdir/packages
run_job "$top/test/chroot.sh" "$suite" test/debian/build.sh >"$workdir/build.log" 2>&1 || status=$?
if ((status)); then
	cat "$workdir/build.log"
	if ((status == 3)); then exit 3; fi
	echo "0 passed, 1 failed"
	exit 1
fi
echo "ok - Debian $suite: $(cd "$SHARE" && echo *.deb)"
run_job "$top/test/chroot.sh" "$suite" test/debian/use.sh >"$workdir/use.log" || status=$?
cat "$workdir/use.log"
passed=$((1 + $(grep -c '^ok ' "$workdir/use.log")))
failed=$(grep -c '^not ok ' "$workdir/use.log" || true)
if ((status && !failed)); then failed=1; fi
echo "$passed passed, $failed failed"
((!failed))
