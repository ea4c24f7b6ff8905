#!/usr/bin/env bash
# Measure what the clients of a live database notice of a deletion: the latency of
# reads, inserts and updates that concern the accounts which stay, without a
# deletion, beside process_scheduled_deletions(), and beside
# run_scheduled_deletions().  On a private server (see ../private_server.sh), which
# takes 5 GB in /var/tmp, and 20 kB for each account.
#
# The clients begin transactions at a fixed rate, however long the server takes, and
# a latency counts from when a transaction was to begin.  Each round has every
# regime once, on equal copies of the data.  Only what happens while the deletion is
# at work counts; without one, as long a time as run_scheduled_deletions() last took.
#
# Prints a Markdown table, and draws a picture; what it is doing goes to stderr.
#
# usage: [PG_CONFIG=/path/to/pg_config] test/bench/live.sh [OPTION=VALUE…]
#
#   accounts=100000   with some sixty rows each
#   due=10000         of these
#   clients=2
#   rate=             transactions a second; by default, a quarter of what is possible
#   rounds=3
#   lead=10           seconds for which the clients are at work before and after
#   seconds=30        for which they are measured without a deletion, at least
#   picture=FILE      SVG; by default, test/bench/live.svg
#
# The options can be in the environment, too.

# shellcheck source-path=SCRIPTDIR source=bench.sh
source "$(dirname "${BASH_SOURCE[0]}")/bench.sh"

options=(accounts due clients rate rounds lead seconds picture)
server_settings=('shared_buffers = 1GB' "${server_settings[@]}")
# Whoever has waited for a lock for longer than deadlock_timeout is logged.
settings=(
	"${server_settings[@]}"
	'deadlock_timeout = 10ms'
	'log_lock_waits = on'
	'log_checkpoints = on'
	"log_line_prefix = '%n %a '"
	"shared_preload_libraries = ''"
)

# In another order each round, so that none is always first.
regimes=(procedure alone function)

set_options() { # OPTION=VALUE…
	read_options "$@"
	: "${accounts:=100000}" "${due:=10000}" "${clients:=2}" "${rate:=}"
	: "${rounds:=3}" "${lead:=10}" "${seconds:=30}" "${picture:=$top/test/bench/live.svg}"
	check_number accounts due clients rounds lead seconds ${rate:+rate}
	((due < accounts)) || die "Somebody has to stay: $due of $accounts accounts are due"
	check_picture
}

# The same data each time, in memory as far as there is room, and nothing left to be
# written of what was before.
copy_data() {
	sql -d postgres -c 'DROP DATABASE IF EXISTS live' \
		-c 'CREATE DATABASE live TEMPLATE base STRATEGY file_copy' -c CHECKPOINT
	sql -d live -o /dev/null -c "SELECT pg_prewarm(oid) FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') ORDER BY relkind DESC"
}

# The clients, whose process is known by $workdir/clients.pid.
run_clients() { # options of pgbench
	local living
	living=$(sql -d live -c 'SELECT max(n) FROM living')
	# shellcheck disable=SC2016
	as_owner bash -c 'echo $$ >"$HOME/clients.pid" && exec pgbench "$@"' bash \
		-n -M prepared -c "$clients" -D living="$living" -f test/bench/live/read.sql@6 \
		-f test/bench/live/insert.sql@2 -f test/bench/live/update.sql@2 "$@" live
}

find_rate() {
	say "How many transactions a second are possible?"
	run_job copy_data
	run_job run_clients -T "$lead" >"$workdir/possible"
	rate=$(awk '$1 == "tps" { print int($3 / 4) + 1 }' "$workdir/possible")
	say "$((rate * 4)), so the rate is a quarter: $rate"
}

# Without a deletion, as long as run_scheduled_deletions() last took.
pause_seconds() {
	sql -d postgres -c "SELECT greatest($seconds, extract(epoch FROM ended - started)) FROM run
		WHERE regime = 'procedure' ORDER BY round DESC LIMIT 1"
}

# pgbench takes SIGALRM for the end of its time, and finishes what it has begun.
measure() { # REGIME ROUND
	local is=(-v regime="$1" -v round="$2") what clients_job
	case $1 in
	alone) what=(-v pause="$(pause_seconds)") ;;
	function) what=(-v call='SELECT process_scheduled_deletions(release_brake => true)') ;;
	procedure) what=(-v call='CALL run_scheduled_deletions(release_brake => true)') ;;
	esac
	copy_data
	rm -f "$workdir"/transactions.*
	run_clients -T 86400 -R "$rate" --log --log-prefix="$workdir/transactions" >/dev/null &
	clients_job=$!
	sleep "$lead"
	PGAPPNAME=deletion sql -d live "${is[@]}" "${what[@]}" -f test/bench/live/window.sql
	sleep "$lead"
	kill -ALRM "$(<"$workdir/clients.pid")"
	wait "$clients_job"
	sql -d live "${is[@]}" -v log="$(echo "$workdir"/transactions.*)" -f test/bench/live/collect.sql
}

# A line for each run: what the medians are of.
run_rounds() {
	local round regime
	for ((round = 1; round <= rounds; round++)); do
		for regime in "${regimes[@]}"; do
			run_job measure "$regime" "$round"
			read_server_log
			sql -d postgres -c "SELECT line FROM progress WHERE (regime, round) = ('$regime', $round)" >&2
		done
		regimes=("${regimes[@]:1}" "${regimes[0]}")
	done
}

# What the clients have waited for, and when there was a checkpoint.
read_server_log() {
	sed -nE 's/^([0-9.]+) pgbench LOG:  process [0-9]+ acquired .* after ([0-9.]+) ms$/\1\t\2/p' \
		"$workdir/server.log" | sql -d postgres -c 'TRUNCATE lock_wait' -c 'COPY lock_wait FROM stdin'
	sed -nE 's/^([0-9.]+)  LOG:  checkpoint starting: .*/\1/p' "$workdir/server.log" |
		sql -d postgres -c 'TRUNCATE checkpoint' -c 'COPY checkpoint FROM stdin'
}

report() {
	sql -d postgres -v accounts="$accounts" -v due="$due" -v clients="$clients" -v rate="$rate" -v rounds="$rounds" \
		-v settings="$(print_settings)" -v machine="$(print_machine)" -f test/bench/live/report.sql
}

draw_picture() {
	local regime ends
	data_file percentile 'SELECT name, figures FROM percentile ORDER BY name'
	for regime in alone function procedure; do
		data_file "$regime" "SELECT second, p99 FROM by_second WHERE regime = '$regime' ORDER BY second"
	done
	ends=$(sql -d postgres -c "SELECT format('%s_end = %s; ', regime, median_round_seconds) FROM summary")
	draw live -e "rate = $rate; due = $due; accounts = $accounts; lead = $lead; $ends"
}

set_options "$@"
prepare >&2
run_job build_extension
say "$accounts accounts are made …"
start_server postgres
sql -d postgres -f test/bench/live/results.sql -c 'CREATE DATABASE base'
run_job sql -d base -v accounts="$accounts" -v due="$due" -f test/bench/live/data.sql
[[ -n $rate ]] || find_rate
run_rounds
report
draw_picture
