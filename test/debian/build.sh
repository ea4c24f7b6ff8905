#!/usr/bin/env bash
# In a chroot: build the zip file and the Debian packages as an ordinary user would, from a
# commit of these sources, with nothing but what they say they need; leave the packages in
# /share.  For debian.sh.

set -euo pipefail

as_user() { setpriv --reuid=1000 --regid=1000 --clear-groups env HOME=/tmp "$@"; }
install() { apt-get -qq install -y "$@" >/dev/null; }

mkdir -p /tmp/needs/debian
cp src/debian/control.in /tmp/needs/debian/control
apt-get -qq update
apt-get -qq build-dep -y /tmp/needs >/dev/null
install git unzip lintian

cp -R /src /tmp/source
chown -R 1000:1000 /tmp/source
cd /tmp/source
as_user git init -q
as_user git add -A
as_user git -c user.name=nobody -c user.email=nobody commit -qm packages

as_user make -s dist
as_user unzip -q scheduled_deletion-*.zip -d /tmp
cd /tmp/scheduled_deletion-*/
as_user make -s with_llvm=no
as_user make -s with_llvm=no install DESTDIR=/tmp/installed

cd /tmp/source
as_user make -s deb
# Two tags are for what is uploaded to Debian.
as_user lintian --fail-on error,warning \
	--suppress-tags unreleased-changes,initial-upload-closes-no-bugs deb/*.changes
cp deb/*.deb /share
