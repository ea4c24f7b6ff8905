# shellcheck shell=bash
# A private copy of a PostgreSQL installation, and a server that runs from it.
#
# Sourced by the scripts beside it, and by bench/bench.sh.  PostgreSQL finds its files
# relative to its executables, so a copy of those, beside symbolic links to
# everything else, is an installation of its own: what its pg_config says to
# install goes there, and neither the system nor any other server ever sees it.
#
#   prepare                 install what is missing, make the copy, copy the sources
#   build_extension         build and install, in the copied sources and for the copy
#   make_extension TARGET…  make there
#   start_server DATABASE   with pg_cron at work in DATABASE, which need not exist yet
#   suite VARIABLE=…        make installcheck there, and count the tests in passed and failed
#   as_owner COMMAND…       as the user all this belongs to: postgres, if we are root
#   run_job COMMAND…        a long command, which a signal can interrupt
#
# PG_CONFIG in the environment says which installation is copied.  Without it, the
# newest of Debian's that is there, or else the one that Debian has by default.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
place=/tmp  # whoever sources this may change these five
tools=()    # PROGRAM=PACKAGE: what else is needed, and its package in Debian
preload=pg_cron # what the server loads when it starts
settings=() # last lines of postgresql.conf
also_clean_up=: # a command for the end, when no server is left
workdir=''  # everything is in here, and goes with it
drop_in=''  # the file that keeps Debian from making a cluster, while it exists
job=''      # the process group of run_job

die() {
	printf '%s\n' "$@" >&2
	exit 2
}

as_root() {
	if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

as_owner() {
	if ((EUID == 0)); then # PostgreSQL refuses to run as root
		local user=postgres
		id -u $user >/dev/null 2>&1 || user=nobody
		set -- setpriv --reuid=$user --regid="$(id -g $user)" --init-groups "$@"
	fi
	HOME=$workdir "$@"
}

# In a process group of its own: while bash waits for it, signals are handled at
# once, and cleanup can end everything that the command has started.
run_job() {
	local status=0
	set -m
	"$@" </dev/null &
	job=$!
	set +m
	wait "$job" || status=$?
	job=''
	return $status
}

cleanup() {
	local tries data
	trap '' INT TERM
	if [[ -n $job ]]; then
		for ((tries = 0; tries < 100; tries++)); do
			kill -- "-$job" 2>/dev/null || break
			sleep 0.1
		done
	fi
	[[ -z $drop_in ]] || as_root rm -f "$drop_in"
	[[ -n $workdir ]] || return 0
	cd /
	find "$workdir" -name postmaster.pid -printf '%h\n' | while read -r data; do
		as_owner pg_ctl stop -s -m immediate -D "$data" 2>/dev/null || true
	done
	$also_clean_up
	rm -rf "$workdir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- what has to be installed ------------------------------------------------

can_install() {
	command -v apt-get >/dev/null && { ((EUID == 0)) || command -v sudo >/dev/null; }
}

# One unreachable source of many is no reason to stop: the install will tell.
update_lists() {
	[[ -z ${lists_updated:-} ]] || return 0
	lists_updated=yes
	as_root apt-get -qq update || true
}

# Sets pg_config, and major where the server is Debian's and so ours to complete.
choose_server() {
	major=''
	if [[ -n ${PG_CONFIG:-} ]]; then
		pg_config=$PG_CONFIG
		command -v "$pg_config" >/dev/null || die "PG_CONFIG=$pg_config is not a program"
		return
	fi
	major=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres |
		sed -En 's,.*/(1[5-9]|[2-9][0-9])/bin/postgres$,\1,p' | sort -n | tail -n 1)
	if [[ -z $major ]] && can_install; then
		update_lists
		major=$(apt-cache depends postgresql | sed -En 's/^ *Depends: postgresql-([0-9]+)$/\1/p')
	fi
	if [[ -n $major ]]; then
		pg_config=/usr/lib/postgresql/$major/bin/pg_config
	else
		pg_config=$(command -v pg_config || true)
	fi
}

has_server() { [[ -x $("$pg_config" --bindir)/postgres ]]; }
has_headers() { [[ -e $("$pg_config" --includedir-server)/postgres.h && -e $("$pg_config" --pgxs) ]]; }
has_cron() { [[ $preload != pg_cron || -e $("$pg_config" --sharedir)/extension/pg_cron.control ]]; }
is_recent() { (($("$pg_config" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/') >= 15)); }

# The packages are missing unless the command succeeds.
need() { # "PACKAGE…" COMMAND…
	local packages
	read -ra packages <<<"$1"
	shift
	"$@" >/dev/null 2>&1 || missing+=("${packages[@]}")
}

find_missing() {
	local tool
	missing=()
	need "gcc libc6-dev" gcc -E -include stdlib.h -x c /dev/null
	need "make" make --version
	need "perl libipc-run-perl" perl -MIPC::Run -MTest::More -e 1
	for tool in "${tools[@]}"; do need "${tool#*=}" "${tool%%=*}" --version; done
	if [[ -n $major ]]; then
		need "postgresql-$major" has_server
		need "postgresql-server-dev-$major" has_headers
		need "postgresql-$major-cron" has_cron
	fi
}

# A server package makes and starts a cluster when it is first installed, unless
# it is told not to; this can be said before postgresql-common is there to read it.
install_missing() {
	local conf_d=/etc/postgresql-common/createcluster.d
	update_lists
	echo "Installing from Debian's packages: ${missing[*]}"
	if [[ " ${missing[*]} " == *" postgresql-$major "* ]]; then
		drop_in=$conf_d/zz-no-main-cluster.conf
		as_root mkdir -p $conf_d
		as_root tee "$drop_in" <<<'create_main_cluster = false' >/dev/null
	fi
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
	if [[ -n $drop_in ]]; then
		as_root rm "$drop_in"
		as_root rmdir --ignore-fail-on-non-empty $conf_d
		drop_in=''
	fi
}

install_packages() {
	choose_server
	find_missing
	if ((${#missing[@]})) && can_install; then
		install_missing
		find_missing
	fi
	if ((${#missing[@]})) ||
		! { is_recent && has_server && has_headers && has_cron; } 2>/dev/null; then
		die "Needed: gcc, make, perl with IPC::Run, and PostgreSQL 15 or later with the headers" \
			"for server extensions and pg_cron; PG_CONFIG=/path/to/pg_config says where that is." \
			"PostgreSQL looked for by: ${pg_config:-pg_config, which is not there}" \
			"Missing (Debian's names): ${missing[*]:-something of PostgreSQL}"
	fi
}

# ---- the private copy --------------------------------------------------------

# The executables for real, since they look for the rest from where they are;
# the rest as directories full of links, so that files can be added to them.
copy_installation() {
	local bindir dir
	bindir=$("$pg_config" --bindir)
	as_owner mkdir -p "$workdir/root$bindir"
	as_owner cp -L "$bindir"/{initdb,postgres,psql,createdb,dropdb,createuser,dropuser,vacuumdb,pg*} \
		"$workdir/root$bindir"
	for dir in pkglibdir sharedir pkgincludedir includedir-server; do
		dir=$("$pg_config" --$dir)
		as_owner mkdir -p "$workdir/root$dir"
		as_owner cp -Rsf "$dir/." "$workdir/root$dir"
	done
	export PATH="$workdir/root$bindir:$PATH" PG_CONFIG="$workdir/root$bindir/pg_config"
}

# A tar file of what git has or would add; without git, of everything.
archive_sources() {
	cd "$top"
	{
		git -c safe.directory='*' ls-files -z --cached --others --exclude-standard 2>/dev/null ||
			find . -name .git -prune -o -type f -print0
	} | while IFS= read -rd '' file; do
		if [[ -e $file ]]; then printf '%s\0' "$file"; fi
	done | tar -c --null -T -
}

copy_sources() {
	as_owner mkdir "$workdir/src"
	archive_sources | as_owner tar -x -C "$workdir/src"
	cd "$workdir/src"
}

make_extension() {
	# no bitcode: it needs the very clang that built the server
	as_owner make --no-print-directory -C "$workdir/src" PG_CONFIG="$PG_CONFIG" with_llvm=no "$@"
}

# Its output is only of interest when it fails.
build_extension() {
	local log=$workdir/build.log
	make_extension all install >"$log" 2>&1 || {
		cat "$log" >&2
		return 1
	}
}

prepare() {
	local name
	# Neither the caller's locale nor their own server has a say.
	export LC_ALL=C.UTF-8
	for name in $(compgen -e PG); do [[ $name == PG_* ]] || unset "$name"; done
	unset MAKEFLAGS MAKELEVEL

	install_packages
	workdir=$(mktemp -d "$place/sd.XXXXXX") # short: a socket's path has 107 bytes at most
	((EUID)) || chown "$(as_owner id -u)" "$workdir"
	export TMPDIR=$workdir # for what the tests make, too
	copy_sources
	copy_installation
}

# The server can be reached by its socket alone, and that by its owner alone.
start_server() { # DATABASE
	export PGHOST=$workdir PGPORT=5432 PGUSER=postgres
	as_owner initdb -N -A trust -U $PGUSER --no-locale -E UTF8 -D "$workdir/data" >/dev/null
	as_owner tee -a "$workdir/data/postgresql.conf" >/dev/null <<-EOF
		listen_addresses = ''
		unix_socket_directories = '$PGHOST'
		port = $PGPORT
		fsync = off
		timezone = 'UTC'
		shared_preload_libraries = '$preload'
		cron.database_name = '$1'
		cron.host = '$PGHOST'
		$(printf '%s\n' "${settings[@]}")
	EOF
	as_owner pg_ctl start -s -w -l "$workdir/server.log" -D "$workdir/data" || {
		cat "$workdir/server.log" >&2
		return 1
	}
}

# ---- tests ---------------------------------------------------------------------

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

# The next run of make deletes what this reads.
explain() {
	cd "$workdir"
	find src -name regression.diffs -exec cat {} +
	find src -name 'regress_log_*' -exec grep -lZE 'not ok |# Looks like|# Tests were run' {} + |
		xargs -0r tail -v -n 50
	grep -rhF --include='*.log' 'was terminated by signal' .
}
