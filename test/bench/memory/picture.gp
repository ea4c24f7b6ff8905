# The picture of memory.sh: a gnuplot script for the directory with its data, which
# writes SVG.  Set before: contenders, each of which is a file.

set terminal svg size 800,380 font 'sans-serif,13' background rgb 'white' name 'memory'
set title 'most memory of the session, MB, by the number of due accounts'
set key left top Left reverse noenhanced
set border 3
set tics nomirror out
set grid ytics linecolor rgb '#dddddd'
set logscale x
set format x '%.0f'
set yrange [0:*]
colour(name) = name eq 'function' ? 0x0072b2 : name eq 'checked' ? 0x56b4e9 : name eq 'procedure' ? 0x009e73 : 0xd55e00
plot for [name in contenders] name . '.dat' with linespoints linewidth 2 pointtype 7 pointsize 0.6 \
    linecolor rgb colour(name) title name
