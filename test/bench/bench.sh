# shellcheck shell=bash
# What the benchmarks have in common.  Sourced by live.sh, memory.sh and speed.sh, which keep
# their results in tables of the database postgres, on a private server.
#
#   read_options OPTION…    into the variables of which $options has the names; or --help
#   check_number NAME…      that such a variable is a number above 0
#   check_picture           that the file $picture can be written
#   say TEXT…               to stderr, as stdout is for what was measured
#   sql OPTION…             psql, which stops at the first error
#   data_file NAME QUERY    the rows of a query for gnuplot
#   draw NAME [OPTION…]     the picture that NAME/picture.gp makes of them
#   print_machine, print_settings

# shellcheck source-path=SCRIPTDIR source=../private_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/../private_server.sh"

place=/var/tmp # /tmp may be in memory
tools=(gnuplot=gnuplot-nox)
options=()

# What a live server would have; the rest is as by default.  It has WAL files enough
# to use again, so a new server has to keep those that loading took.
server_settings=(
	'min_wal_size = 2GB'
	'max_wal_size = 4GB'
	'fsync = on'
	'synchronous_commit = on'
)

read_options() { # OPTION=VALUE…
	local option
	for option; do
		if [[ $option == --help ]]; then
			sed -n '/^#!/d; /^$/q; s/^# \{0,1\}//p' "$0"
			exit
		fi
		[[ $option == *=* && " ${options[*]} " == *" ${option%%=*} "* ]] || die "$option is no option of this"
		declare -g "$option"
	done
}

check_number() { # NAME…
	local name
	for name; do
		[[ ${!name} =~ ^[1-9][0-9]*$ ]] || die "$name=${!name} is not a number above 0"
	done
}

check_picture() {
	picture=$(realpath "$picture")
	[[ -w $picture || ! -e $picture && -w ${picture%/*} ]] || die "$picture cannot be written"
}

say() { printf '%s\n' "$*" >&2; }

sql() { # options of psql
	PGOPTIONS='-c client_min_messages=warning' as_owner psql -XqAt -v ON_ERROR_STOP=1 "$@"
}

print_machine() {
	echo "$(nproc) cores and $(awk '/^MemTotal/ { printf "%.0f", $2 / 2^20 }' /proc/meminfo) GB of RAM"
}

print_settings() {
	local names
	printf -v names '%s, ' "${server_settings[@]}"
	echo "${names%, }"
}

# gnuplot reads $workdir/NAME.dat
data_file() { # NAME QUERY
	sql -d postgres -F ' ' -c "$2" >"$workdir/$1.dat"
}

draw() { # NAME [options of gnuplot]
	local name=$1
	shift
	(cd "$workdir" && gnuplot "$@" "src/test/bench/$name/picture.gp" >picture.svg)
	cat "$workdir/picture.svg" >"$picture"
	say "The picture is in $picture"
}
