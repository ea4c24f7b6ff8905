#!/usr/bin/env bash
# In a clean chroot: install the packages in /share with PostgreSQL beside them, use the
# extension, and remove it.  For debian.sh; prints TAP.

set -uo pipefail

number=0
is() { # NAME GOT EXPECTED
	((number += 1))
	if [[ $2 == "$3" ]]; then
		echo "ok $number - $1"
	else
		printf 'not ok %s\n# got: %s\n# expected: %s\n' "$number - $1" "$2" "$3"
	fi
}
sql() { setpriv --reuid=postgres --regid=postgres --init-groups psql -XAtq -d app "$@" 2>&1; }
ours() { find / -xdev -path /src -prune -o -path /proc -prune -o -name '*scheduled*deletion*' -print; }

apt-get -qq update
# Its only way in is the socket, in a directory that the chroot alone has.
mkdir -p /etc/postgresql-common/createcluster.d
echo "listen_addresses = ''" >/etc/postgresql-common/createcluster.d/local.conf

package=$(dpkg-deb -f /share/postgresql-*-scheduled-deletion_*.deb Package)
major=${package//[!0-9]/}
apt-get -qq install -y /share/"$package"_*.deb >/dev/null
is "its package brings the server" "$(dpkg-query -Wf '${db:Status-Status}' "postgresql-$major")" installed

pg_ctlcluster "$major" main start
setpriv --reuid=postgres --regid=postgres --init-groups createdb app
sql -c 'SET client_min_messages = warning' -f test/schema.sql -f test/generate.sql >/dev/null
is "a database takes the extension" "$(sql -c 'CREATE EXTENSION scheduled_deletion')" ''
is "the main job does its work" \
	"$(sql -c "SELECT r -> 'users_deleted', r -> 'users_failed' FROM process_scheduled_deletions() r")" '10|0'
is "the accounts are gone, and each has an audit row" "$(sql -c "
	SELECT (SELECT count(*) FROM profiles WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL),
		(SELECT count(*) FROM audit_log WHERE action = 'hard_deleted')")" '0|10'
is "so does the procedure" \
	"$(sql -c 'SET client_min_messages = warning' -c "CALL run_scheduled_deletions()" | grep -c users_deleted)" 1
is "the extension can be dropped" "$(sql -c 'DROP EXTENSION scheduled_deletion')" ''
is "nothing of it stays in the database" "$(sql -c "SELECT count(*) FROM pg_class WHERE relname ~ '^deletion_'")" 0

apt-get -qq purge -y "$package" >/dev/null
is "the package takes all its files along" "$(ours)" ''
is "the server goes on" "$(sql -c 'SELECT count(*) FROM profiles')" 90
pg_ctlcluster "$major" main stop -m fast
echo "1..$number"
