# The picture of speed.sh: a gnuplot script for the directory with its data, which
# writes SVG.  settings.dat sets panels, bars, labels, titles, limits.

grey = '#a0a0a0'
orange = '#d55e00'
blue = '#0072b2'
load 'settings.dat'

# Two panels in a row, with the names of the bars at the left
rows = (panels + 1) / 2
row_height = bars * 24.0 + 70
height = rows * row_height + 72
from_top(y) = 1 - y / height

set terminal svg size 1000,height font 'sans-serif,13' background rgb 'white' name 'speed'
set multiplot
set label 'seconds until the due accounts are deleted: median of the rounds, least and most' \
    at screen 0.5, screen from_top(20) center
set label '■ this extension' at screen 0.29, screen from_top(46) textcolor rgb blue
set label '■ others, which count what they delete' at screen 0.44, screen from_top(46) textcolor rgb orange
set label '■ others, which do not' at screen 0.77, screen from_top(46) textcolor rgb grey
unset key
set border 3
set tics nomirror out
set ytics scale 0 noenhanced
set xtics scale 0.4 offset 0,0.3
set grid xtics back linecolor rgb '#dddddd'
set style fill solid noborder
set errorbars linecolor rgb 'black'
set yrange [bars + 0.6:0.4]
round_up(x) = x <= 1 ? 1 : x <= 2 ? 2 : x <= 5 ? 5 : 10
step(x) = 10 ** floor(log10(x)) * round_up(x / 10 ** floor(log10(x)))
colour(kind) = kind == 1 ? 0x0072b2 : kind == 2 ? 0xd55e00 : 0xa0a0a0

do for [panel = 1:panels] {
    row = (panel - 1) / 2
    left = panel % 2
    limit = real(word(limits, panel))
    within(x) = x <= limit ? x : NaN
    cut(x) = x > limit ? limit : -1 # out of the picture; gnuplot cannot bear none at all
    set tmargin at screen from_top(72 + row * row_height + 22)
    set bmargin at screen from_top(72 + (row + 1) * row_height - 40)
    set lmargin at screen left ? 0.29 : 0.655
    set rmargin at screen left ? 0.62 : 0.985
    set title word(titles, panel) offset 0,-0.5
    set xrange [0:limit]
    set xtics step(limit / 6)
    if (left) { set ytics (@labels) } else { set ytics ('' 0) }
    bar = sprintf('panel%d.dat', panel)
    plot bar using ($2 / 2):1:($2 / 2):(0.36):(colour($5)) with boxxyerror linecolor rgb variable, \
        '' using (within($4)):1:3:4 with xerrorbars pointtype 0 linecolor rgb 'black', \
        '' using (within($4)):1:6 with labels left offset 1,0, \
        '' using (cut($4)):1:(stringcolumn(6) . ' →') with labels right offset -1,0 textcolor rgb 'white'
    unset label
}
unset multiplot
