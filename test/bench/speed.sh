#!/usr/bin/env bash
# Measure how long it takes to delete the due accounts of the built-in schema: by the
# extension, and by what people use instead, each of which is a file in
# speed/contenders/.  On a private server (see ../private_server.sh), which takes 5 GB
# in /var/tmp, and 40 kB for each account.
#
# Each run has an equal copy of the data, and is checked: the same accounts have to be
# gone, with the same rows, each with its audit row, and nothing else.  In each round
# every contender has one run, in another order each time.  A regime is what the runs
# have in common; those are measured that the lists below can be combined to.
#
# Prints Markdown tables, and draws a picture; what it is doing goes to stderr.
#
# usage: [PG_CONFIG=/path/to/pg_config] test/bench/speed.sh [OPTION=VALUE…]
#
#   accounts=6000    list; with some sixty rows each
#   due=1%,10%       list; so many of them, or percent
#   memory=all,third list; all: the data are in memory; third: the server is in a memory
#                    cgroup of a third of their size, and 16 MB for its processes, and no
#                    data are in memory when a run begins.  Left out where such a cgroup
#                    cannot be made: it takes root
#   failing=0        list; 0, or as in late:1%, so many of the due accounts, or percent,
#                    cannot be deleted; late:0% has the trigger, but none fails:
#                    blocked: a foreign key without an action stops them
#                    late: a trigger on the account table raises an error
#                    known: the same, and it did so last night
#   keys=yes         list; no: without foreign keys
#   order=scattered  list; scattered: one account's rows lie far apart, as they were
#                    written day by day; accounts: together, in the order of the accounts
#   runs=1           list; 2: two sessions at once, until both have ended
#   contenders=function,checked,procedure,cascade,loop,setwise,client,bare
#                    list; there is procedure_checked, too
#   base=function    the contender that others are compared with
#   rounds=3
#   picture=FILE     SVG, with the first four regimes; by default, test/bench/speed.svg
#
# The options can be in the environment, too.

# shellcheck source-path=SCRIPTDIR source=bench.sh
source "$(dirname "${BASH_SOURCE[0]}")/bench.sh"

options=(accounts due memory failing keys order runs contenders base rounds picture)
# Only the contenders are to be at work.
server_settings+=('autovacuum = off')
settings=("${server_settings[@]}" "shared_preload_libraries = ''")
processes=16 # MB that those of a server take beside the data
group=''    # the cgroup of a server with little memory, while there is one
limit=''    # the file that limits it
left_out='' # what could not be measured
made=''     # what the data that are there are like

set_options() { # OPTION=VALUE…
	local name number='[1-9][0-9]*' share='[0-9]+(\.[0-9]+)?%|[1-9][0-9]*'
	read_options "$@"
	: "${accounts:=6000}" "${due:=1%,10%}" "${memory:=all,third}" "${failing:=0}" "${keys:=yes}"
	: "${order:=scattered}" "${runs:=1}" "${base:=function}" "${rounds:=3}"
	: "${contenders:=function,checked,procedure,cascade,loop,setwise,client,bare}"
	: "${picture:=$top/test/bench/speed.svg}"
	check_number rounds
	check_list accounts "$number"
	check_list due "$share"
	check_list memory 'all|third'
	check_list failing "0|(blocked|late|known):($share)"
	check_list keys 'yes|no'
	check_list order 'scattered|accounts'
	check_list runs '1|2'
	for name in ${contenders//,/ }; do
		[[ -e $top/test/bench/speed/contenders/$name.sql ]] || die "There is no contender $name"
	done
	[[ ,$contenders, == *,$base,* ]] || die "base=$base is not among the contenders"
	check_picture
}

check_list() { # NAME PATTERN
	[[ ${!1} =~ ^($2)(,($2))*$ ]] || die "$1=${!1} is not a list of what it can be"
}

# ---- the server, and its memory ----------------------------------------------

# A cgroup of version 1 or 2; false if none can be made.
make_group() {
	local parent
	for parent in /sys/fs/cgroup/memory /sys/fs/cgroup; do
		group=$parent/${workdir##*/}
		if mkdir "$group" 2>/dev/null; then
			for limit in "$group"/memory.{limit_in_bytes,max}; do
				[[ ! -w $limit ]] || return 0
			done
			rmdir "$group"
		fi
	done
	group=''
	return 1
}

# Its last process may take a moment to be gone.
remove_group() {
	local tries
	for ((tries = 0; tries < 100; tries++)); do
		[[ -n $group ]] || return 0
		if rmdir "$group" 2>/dev/null; then group=''; else sleep 0.1; fi
	done
}
also_clean_up=remove_group

set_limit() { # [MB]
	[[ -z $group ]] || echo $((${1:-1 << 30} << 20)) >"$limit"
}

stop_server() {
	as_owner pg_ctl stop -s -D "$workdir/data"
}

# It is in the cgroup of the shell that starts it.
start_again() ( # MB of shared_buffers
	[[ -z $group ]] || echo "$BASHPID" >"$group/cgroup.procs"
	as_owner pg_ctl start -s -w -l "$workdir/server.log" -D "$workdir/data" -o "-c shared_buffers=${1}MB" || {
		tail -n 20 "$workdir/server.log" >&2
		return 1
	}
)

# ---- a run -------------------------------------------------------------------

# The same data each time, and nothing left to be written of what was before.
copy_data() {
	sql -d postgres -c 'DROP DATABASE IF EXISTS speed' \
		-c 'CREATE DATABASE speed TEMPLATE base STRATEGY file_copy' -c CHECKPOINT
	if [[ $memory == all ]]; then
		sql -d speed -o /dev/null -c "SELECT pg_prewarm(oid) FROM pg_class
			WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"
	else
		leave_memory
	fi
}

# The copy is in the page cache, where it would not count for the cgroup.
leave_memory() {
	local oid
	oid=$(sql -d postgres -c "SELECT oid FROM pg_database WHERE datname = 'speed'")
	stop_server
	find "$workdir/data/base/$oid" -type f -size +0 \
		-exec dd status=none oflag=nocache conv=notrunc,fdatasync count=0 of={} \;
	set_limit "$megabytes"
	start_again "$buffers"
}

# Each session says when it began and ended.  What a contender has to say is of
# interest only if it has not done what it should.
measure() { # CONTENDER ROUND
	local is=(-v regime="$regime" -v contender="$1" -v round="$2" -v memory="$memory") session sessions=()
	set_limit
	copy_data
	for ((session = 1; session <= runs; session++)); do
		sql -d speed "${is[@]}" -v session="$session" -v sessions="$runs" -f test/bench/speed/window.sql \
			2>"$workdir/said.$session" &
		sessions+=($!)
	done
	wait "${sessions[@]}"
	set_limit
	sql -d speed "${is[@]}" -f test/bench/speed/check.sql || {
		sort "$workdir"/said.* | uniq -c | sort -rn | head -n 20 >&2
		grep -E 'FATAL|PANIC|by signal' "$workdir/server.log" >&2
		return 1
	}
	sql -d postgres -c "SELECT line FROM progress WHERE (regime, contender, round) = ($regime, '$1', $2)" >&2
}

# ---- a regime ----------------------------------------------------------------

make_data() {
	sql -d postgres -c 'DROP DATABASE IF EXISTS base' -c 'CREATE DATABASE base'
	sql -d base -v accounts="$accounts" -v regime="$regime" -f test/bench/speed/data.sql
}

run_regime() { # REGIME MEMORY RUNS ACCOUNTS DATA
	local regime=$1 memory=$2 runs=$3 accounts=$4 megabytes buffers contender round
	if [[ $5 != "$made" ]]; then
		say "$accounts accounts are made …"
		run_job make_data
		made=$5
	fi
	megabytes=$(sql -d postgres -c "SELECT pg_database_size('base') >> 20")
	if [[ $memory == all ]]; then
		((buffers = megabytes * 3 / 2 + 128))
	else
		((buffers = megabytes / 12, megabytes = megabytes / 3 + processes))
		make_group
	fi
	stop_server
	start_again "$buffers"
	while read -r contender round; do
		run_job measure "$contender" "$round"
	done < <(sql -d postgres -c "SELECT contender, round FROM lineup WHERE regime = $regime ORDER BY turn" -F ' ')
	stop_server
	remove_group
	start_again 128
}

run_regimes() {
	local regimes line
	if ! make_group; then
		sql -d postgres -c "DELETE FROM regime WHERE memory = 'third'"
		left_out='With a third of the data in memory: not measured, as no memory cgroup can be made here.'
		say "$left_out"
	fi
	remove_group
	mapfile -t regimes < <(sql -d postgres -F ' ' -c "SELECT regime, memory, runs, accounts, data FROM regime ORDER BY regime")
	((${#regimes[@]})) || die "Nothing can be measured"
	for line in "${regimes[@]}"; do
		# shellcheck disable=SC2086
		run_regime $line
	done
}

report() {
	sql -d postgres -v rounds="$rounds" -v base="$base" -v left_out="$left_out" \
		-v settings="$(print_settings)" -v machine="$(print_machine)" -f test/bench/speed/report.sql
}

draw_picture() {
	local panel
	for panel in $(sql -d postgres -c 'SELECT panel FROM panel'); do
		data_file "panel$panel" "SELECT figures FROM bar WHERE panel = $panel"
	done
	data_file settings 'SELECT line FROM setting'
	draw speed
}

set_options "$@"
prepare >&2
run_job build_extension
start_server postgres
sql -d postgres -v accounts="$accounts" -v due="$due" -v memory="$memory" -v failing="$failing" -v keys="$keys" \
	-v order="$order" -v runs="$runs" -v contenders="$contenders" -v base="$base" -v rounds="$rounds" \
	-f test/bench/speed/results.sql
run_regimes
report
draw_picture
