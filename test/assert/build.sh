#!/usr/bin/env bash
# In a chroot: build Debian's sources of its default PostgreSQL with assertions, and run
# test/assert.sh with it.  Exit status 3 where there are no sources.

set -euo pipefail

prefix=/usr/local/pgsql
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
cd "$(mktemp -d)"
chmod a+rx .

install() {
	apt-get -qq install -y --no-install-recommends "$@" >log 2>&1 || {
		cat log >&2
		exit 1
	}
}

sed 's/^deb /deb-src /' /etc/apt/sources.list >/etc/apt/sources.list.d/sources.list
apt-get -qq update
install gcc libc6-dev make bzip2 bison flex perl libipc-run-perl pkg-config \
	libreadline-dev zlib1g-dev libicu-dev libxml2-dev
major=$(apt-cache depends postgresql | sed -En 's/^ *Depends: postgresql-([0-9]+)$/\1/p')
apt-get -qq source --download-only "postgresql-$major" >log 2>&1 || {
	echo "No assertions: $(grep -m 1 '^E: ' log | sed 's/^E: //; s/[. ]*$//')." >&2
	exit 3
}
tar -x -f "postgresql-$major"_*.orig.tar.*z* --strip-components 1

{
	./configure -q --prefix=$prefix --enable-cassert --enable-debug --enable-tap-tests \
		--with-icu --with-libxml CFLAGS=-O1
	make -s -j "$(nproc)" install
	make -s -C contrib/citext install
} >log 2>&1 || {
	tail -n 30 log >&2
	exit 1
}
PG_CONFIG=$prefix/bin/pg_config exec /src/test/assert.sh
