#!/usr/bin/env bash
# Measure how much memory a session needs at most to delete more and more due accounts
# of the built-in schema, by contenders of speed.sh.  On a private server (see
# ../private_server.sh), which takes 5 GB in /var/tmp.  Only on Linux.
#
# Prints a Markdown table, and draws a picture; what it is doing goes to stderr.
#
# usage: [PG_CONFIG=/path/to/pg_config] test/bench/memory.sh [OPTION=VALUE…]
#
#   due=100,1000,10000,100000,300000,1000000
#                 list; so many accounts there are, with some nine rows each, all due
#   contenders=function,checked,procedure,cascade
#                 list; those of speed.sh that are at work in a single session
#   picture=FILE  SVG; by default, test/bench/memory.svg
#
# The options can be in the environment, too.

# shellcheck source-path=SCRIPTDIR source=bench.sh
source "$(dirname "${BASH_SOURCE[0]}")/bench.sh"

options=(due contenders picture)
server_settings+=('shared_buffers = 16MB' 'autovacuum = off')
settings=("${server_settings[@]}" "shared_preload_libraries = ''")

set_options() { # OPTION=VALUE…
	local name
	read_options "$@"
	: "${due:=100,1000,10000,100000,300000,1000000}" "${contenders:=function,checked,procedure,cascade}"
	: "${picture:=$top/test/bench/memory.svg}"
	[[ $due =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || die "due=$due is not a list of numbers above 0"
	for name in ${contenders//,/ }; do
		[[ -e $top/test/bench/speed/contenders/$name.sql ]] || die "There is no contender $name"
	done
	check_picture
}

make_data() { # ACCOUNTS
	say "$1 accounts are made …"
	sql -d postgres -c 'DROP DATABASE IF EXISTS base' -c 'CREATE DATABASE base'
	sql -d base -o /dev/null -c 'CREATE EXTENSION scheduled_deletion' -f test/schema.sql \
		-c 'SELECT process_scheduled_deletions()' \
		-v accounts="$1" -v due="$1" -v check_ins=3 -v notes=2 -v consents=2 -f test/generate.sql
}

# A backend's memory is that of its own process, so it is asked when it has done the work.
measure() { # CONTENDER ACCOUNTS
	sql -d postgres -c 'DROP DATABASE IF EXISTS memory' \
		-c 'CREATE DATABASE memory TEMPLATE base STRATEGY file_copy'
	sql -d memory -v contender="$1" -v due="$2" -f test/bench/memory/measure.sql
	sql -d postgres -c "SELECT format('%s accounts, %s: %s MB', due, contender, megabytes) FROM memory
		WHERE (contender, due) = ('$1', $2)" >&2
}

measure_all() {
	local accounts contender
	for accounts in ${due//,/ }; do
		make_data "$accounts"
		for contender in ${contenders//,/ }; do measure "$contender" "$accounts"; done
	done
}

draw_picture() {
	local contender
	for contender in ${contenders//,/ }; do
		data_file "$contender" "SELECT due, megabytes FROM memory WHERE contender = '$contender' ORDER BY due"
	done
	draw memory -e "contenders = '${contenders//,/ }'"
}

set_options "$@"
prepare >&2
run_job build_extension
start_server postgres
sql -d postgres -c 'CREATE TABLE memory (contender text, due integer, megabytes integer)'
run_job measure_all
sql -d postgres -v contenders="$contenders" -v settings="$(print_settings)" -v machine="$(print_machine)" \
	-f test/bench/memory/report.sql
draw_picture
