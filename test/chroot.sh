#!/usr/bin/env bash
# Run a command in a copy of these sources, as root in a fresh chroot of a Debian suite
# that has nothing but apt; leave nothing of it.  The exit status is the command's, or 3
# where no chroot can be made: then one line says why.
#
# usage: [SHARE=directory] test/chroot.sh SUITE COMMAND [ARGUMENT…]
#
# The sources are /src in there, and the directory is /share.  It needs root, or sudo, and
# Debian.  All mounts are in a namespace of their own, and so are processes and shared
# memory; the network is the machine's.

# shellcheck source-path=SCRIPTDIR source=private_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/private_server.sh"

suite=$1
shift
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# What private_server.sh does at the end is for servers on this side: a process id that is
# found in the chroot means some other process here.
cleanup() {
	trap '' INT TERM
	if [[ -n $job ]]; then
		while kill -KILL -- "-$job" 2>/dev/null; do sleep 0.1; done
	fi
	[[ -z $workdir ]] || rm -rf --one-file-system "$workdir"
}

no_chroot() {
	echo "No chroot of Debian $suite: $*." >&2
	exit 3
}

# mmdebstrap is a program in Perl, and takes ten seconds; nothing is installed for it.
get_mmdebstrap() {
	(cd "$workdir" && apt-get -qq -o APT::Sandbox::User=root download mmdebstrap &&
		dpkg-deb -x mmdebstrap_*.deb mmdebstrap) >"$workdir/log" 2>&1
}

# Where this machine gets its packages, and how, is where the chroot's come from.
find_mirror() {
	mirror=$(apt-get indextargets --format '$(SITE)' \
		'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
	mirror=${mirror:-http://deb.debian.org/debian}
	apt-config dump Acquire | grep -v '""' |
		grep -v '^Acquire::\(IndexTargets\|Changelogs\|cdrom\)' >"$workdir/apt.conf" || true
}

make_chroot() {
	"$workdir/mmdebstrap/usr/bin/mmdebstrap" --variant=apt --aptopt="$workdir/apt.conf" \
		--aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
		"$suite" "$root" "deb [signed-by=$keyring] $mirror $suite main"
	mount -t proc proc "$root/proc"
	mount -t tmpfs tmpfs "$root/dev/shm"
	mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
	mkdir "$root/src" "$root/share"
	[[ -z ${SHARE:-} ]] || mount --bind "$SHARE" "$root/share"
	archive_sources | tar -x --no-same-owner -C "$root/src"
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # packages start no services
	chmod +x "$root/usr/sbin/policy-rc.d"
}

# The log is there as long as the chroot is not.
use_chroot() {
	make_chroot >"$workdir/log" 2>&1
	rm "$workdir/log"
	exec chroot "$root" env -u PG_CONFIG -C /src TMPDIR=/tmp HOME=/root \
		DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

isolate() {
	unshare --mount --pid --ipc --fork --kill-child "$@"
}

if ((EUID)); then
	sudo true 2>/dev/null || no_chroot "that needs root"
	exec sudo --preserve-env=SHARE,TMPDIR,PG_CFLAGS "$0" "$suite" "$@"
fi
can_install || no_chroot "that needs apt-get"
isolate true 2>/dev/null || no_chroot "this system lets root have no namespace of its own"
workdir=$(mktemp -d "${TMPDIR:-/var/tmp}/sd.XXXXXX")
root=$workdir/root
update_lists
get_mmdebstrap || no_chroot "mmdebstrap cannot be downloaded"
find_mirror

export suite root workdir mirror keyring top
export -f use_chroot make_chroot archive_sources
status=0
run_job isolate bash -euo pipefail -c 'use_chroot "$@"' bash "$@" || status=$?
if [[ -e $workdir/log ]]; then
	no_chroot "$({ grep -m 1 '^E: ' "$workdir/log" || tail -n 1 "$workdir/log"; } |
		sed 's/^E: //; s/[. ]*$//')"
fi
exit $status
