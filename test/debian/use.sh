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
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
sql() { # STATEMENT, or other arguments of psql
	if (($# == 1)); then set -- -c "$1"; fi
	as_postgres env PGOPTIONS='-c client_min_messages=warning' psql -XAtq -d app "$@" 2>&1
}

apt-get -qq update
# Its only way in is the socket, in a directory that the chroot alone has.
mkdir -p /etc/postgresql-common/createcluster.d
echo "listen_addresses = ''" >/etc/postgresql-common/createcluster.d/local.conf

package=$(dpkg-deb -f /share/postgresql-*-scheduled-deletion_*.deb Package)
major=${package//[!0-9]/}
apt-get -qq install -y /share/"$package"_*.deb >/dev/null
is "its package brings the server" \
	"$(dpkg-query -Wf '${db:Status-Status}' "postgresql-$major")" installed

pg_ctlcluster "$major" main start
as_postgres createdb app
sql -f test/schema.sql -f test/generate.sql >/dev/null
is "a database takes the extension" "$(sql 'CREATE EXTENSION scheduled_deletion')" ''
is "the main job does its work" "$(sql "
	SELECT r -> 'users_deleted', r -> 'users_failed' FROM process_scheduled_deletions() r")" '10|0'
is "the accounts are gone, and each has an audit row" "$(sql "
	SELECT (SELECT count(*) FROM profiles WHERE deletion_scheduled_at <= now() AND deleted_at IS NULL),
		(SELECT count(*) FROM audit_log WHERE action = 'hard_deleted')")" '0|10'
is "the procedure works, too" \
	"$(sql "CALL run_scheduled_deletions()" | grep -o '"stop_reason": "drained"')" \
	'"stop_reason": "drained"'
is "the extension can be dropped" "$(sql 'DROP EXTENSION scheduled_deletion')" ''
is "nothing of it stays in the database" "$(sql "
	SELECT count(*) FROM pg_class WHERE relname ~ '^deletion_'")" 0

apt-get -qq purge -y "$package" >/dev/null
is "the package takes all its files along" \
	"$(find / -xdev \( -path /src -o -path /share \) -prune -o -name '*scheduled*deletion*' -print)" ''
is "the server goes on" "$(sql 'SELECT count(*) FROM profiles')" 90
pg_ctlcluster "$major" main stop -m fast
echo "1..$number"
