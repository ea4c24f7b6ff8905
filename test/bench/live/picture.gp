# The picture of live.sh: a gnuplot script for the directory with its data, which
# writes SVG.  Set before: accounts, due, rate, lead, and of each regime NAME_end.

grey = '#707070'
orange = '#d55e00'
blue = '#0072b2'

set terminal svg size 1000,430 font 'sans-serif,13' background rgb 'white' name 'live'
set multiplot
set label sprintf('%d transactions a second while %d of %d accounts are deleted', rate, due, accounts) \
    at screen 0.5, 0.95 center
set label '■ no deletion' at screen 0.16, 0.87 textcolor rgb grey
set label '■ process\_scheduled\_deletions()' at screen 0.34, 0.87 textcolor rgb orange
set label '■ run\_scheduled\_deletions()' at screen 0.65, 0.87 textcolor rgb blue
unset key
set border 3
set tics nomirror out
set grid ytics linecolor rgb '#dddddd'
set tmargin at screen 0.72
set bmargin at screen 0.17

# Percentiles: medians of the rounds as bars, and the least and the most as lines
set lmargin at screen 0.06
set rmargin at screen 0.47
set title 'latency, ms: median of the rounds, least and most'
set style data histogram
set style histogram errorbars gap 1 linewidth 1
set style fill solid noborder
set errorbars linecolor rgb 'black'
set xrange [-0.6:2.6]
set yrange [0:*]
set offsets 0, 0, graph 0.08, 0
number(x) = x < 9.95 ? sprintf('%.1f', x) : sprintf('%.0f', x)
plot 'percentile.dat' using 2:3:4:xtic(1) linecolor rgb grey, \
    '' using 5:6:7 linecolor rgb orange, \
    '' using 8:9:10 linecolor rgb blue, \
    '' using ($0 - 0.25):4:(number($2)) with labels offset 0,0.6, \
    '' using 0:7:(number($5)) with labels offset 0,0.6, \
    '' using ($0 + 0.25):10:(number($8)) with labels offset 0,0.6

# The deletion as it goes on
unset label
set lmargin at screen 0.55
set rmargin at screen 0.98
set title 'p99 of each second, ms; dotted: the deletion begins, and ends'
set xlabel 'seconds since the deletion began'
set offsets
set xtics auto
set xrange [-lead:ceil(function_end > procedure_end ? function_end : procedure_end) + lead - 1]
set logscale y
set format y '%g'
set yrange [*:*]
set arrow from 0, graph 0 to 0, graph 1 nohead linecolor rgb 'black' dashtype 3
set arrow from function_end, graph 0 to function_end, graph 1 nohead linecolor rgb orange dashtype 3
set arrow from procedure_end, graph 0 to procedure_end, graph 1 nohead linecolor rgb blue dashtype 3
plot 'alone.dat' using ($1 + 0.5):2 with lines linewidth 2 linecolor rgb grey, \
    'function.dat' using ($1 + 0.5):2 with lines linewidth 2 linecolor rgb orange, \
    'procedure.dat' using ($1 + 0.5):2 with lines linewidth 2 linecolor rgb blue
unset multiplot
