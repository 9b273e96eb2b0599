# SPDX-License-Identifier: MIT
"""stats.py - what the benchmarks compute and draw: order statistics, paired ratios with intervals, points, tables, plots.

Nothing here knows what was measured. All random numbers come from generators with a given seed, so that the same data give the
same report.
"""
import math
import os
import random
import shutil
import subprocess

RESAMPLES = 2000  # of the bootstrap
CONFIDENCE = 0.95
CROWDED = 9  # places of a plot above which their names are turned


# ---- order statistics ----------------------------------------------------------------------------------------------------


def quantile(values, fraction):
    """The quantile by linear interpolation between the two nearest values."""
    ordered = sorted(values)
    position = fraction * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median(values):
    return quantile(values, 0.5)


def geometric_mean(values):
    return math.exp(sum(math.log(value) for value in values) / len(values))


# ---- paired ratios -------------------------------------------------------------------------------------------------------


class Interval:
    """An estimate and the bounds of its confidence interval."""

    def __init__(self, low, middle, high):
        self.low, self.middle, self.high = low, middle, high

    def beyond(self, value):
        """-1: all of the interval is below the value; 1: all above; 0: the value is inside."""
        return -1 if self.high < value else 1 if self.low > value else 0

    def __str__(self):
        return f"{number(self.middle)} [{number(self.low)}, {number(self.high)}]"


_indices = {}  # (count, seed): the resamples, drawn once for all ratios of that many pairs


def _resamples(count, seed):
    if (count, seed) not in _indices:
        generator = random.Random(seed)
        _indices[count, seed] = [generator.choices(range(count), k=count) for _ in range(RESAMPLES)]
    return _indices[count, seed]


def paired_ratio(numerators, denominators, seed=1):
    """The median of the ratios of pairs that were measured together, and its bootstrap interval (percentiles)."""
    if len(numerators) != len(denominators) or not numerators:
        raise ValueError(f"found {len(numerators)} and {len(denominators)} values, expected pairs")
    ratios = [a / b for a, b in zip(numerators, denominators)]
    drawn = [median([ratios[i] for i in indices]) for indices in _resamples(len(ratios), seed)]
    tail = (1 - CONFIDENCE) / 2
    return Interval(quantile(drawn, tail), median(ratios), quantile(drawn, 1 - tail))


# ---- points --------------------------------------------------------------------------------------------------------------


def points(contests, names, most=5):
    """`most` points for the lowest value of each contest, one less for the next, none after that; equals get the same.

    contests: a list of {name: value}. Returns {name: points}.
    """
    total = dict.fromkeys(names, 0)
    for contest in contests:
        for name in names:
            lower = sum(contest[other] < contest[name] for other in names)
            total[name] += max(0, most - lower)
    return total


# ---- text ----------------------------------------------------------------------------------------------------------------


def number(value):
    """Three significant digits, and all of those before the point."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def table(header, rows):
    """A Markdown table: the first column to the left, all others to the right."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


# ---- plots ---------------------------------------------------------------------------------------------------------------


def can_plot():
    return shutil.which("gnuplot") is not None


def _quoted(text):
    """A string of gnuplot, with nothing in it that gnuplot would interpret."""
    return "'" + text.replace("'", "''") + "'"


def plot(path, title, label, places, series):
    """Draws points with error bars over named places, on a logarithmic scale, as SVG. False when gnuplot fails.

    series: a list of (name, is_ours, {place: (low, middle, high)}). Ours are filled, the others are hollow.
    """
    turned = " rotate by -40" if len(places) > CROWDED else ""
    commands = [
        "set terminal svg size 960,520 dynamic background rgb 'white' font 'sans-serif,13' noenhanced",
        f"set output {_quoted(os.path.abspath(path))}",
        f"set title {_quoted(title)}",
        f"set ylabel {_quoted(label)}",
        "set logscale y",
        "set format y '%.0f'",
        "set grid ytics linetype 1 linecolor rgb '#bbbbbb'",
        "set key outside right top",
        f"set xrange [-0.5:{len(places) - 0.5}]",
        "set xtics (" + ", ".join(f"{_quoted(place)} {i}" for i, place in enumerate(places)) + ") nomirror" + turned,
    ]
    colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f"]
    filled, hollow = [7, 5, 9, 13, 11, 15], [6, 4, 8, 12, 10, 14]
    curves, kinds = [], {True: 0, False: 0}
    for i, (name, ours, values) in enumerate(series):
        shapes = filled if ours else hollow
        shape, colour = shapes[kinds[ours] % len(shapes)], colours[i % len(colours)]
        kinds[ours] += 1
        offset = 0.7 * (i + 0.5) / len(series) - 0.35
        rows = [f"{x + offset} {values[p][1]} {values[p][0]} {values[p][2]}" for x, p in enumerate(places) if p in values]
        commands += [f"$data{i} << END", *rows, "END"]
        curves.append(
            f"$data{i} using 1:2:3:4 with yerrorbars pointtype {shape} pointsize 1 linewidth 1.2"
            f" linecolor rgb '{colour}' title {_quoted(name)}"
        )
    commands.append("plot " + ", ".join(curves))
    done = subprocess.run(["gnuplot"], input="\n".join(commands) + "\n", text=True, capture_output=True, check=False)
    return done.returncode == 0


def curves(path, title, across, up, series):
    """Draws lines as SVG. False when gnuplot fails.

    series: a list of (name, [(x, y), ...]).
    """
    commands = [
        "set terminal svg size 960,520 dynamic background rgb 'white' font 'sans-serif,13' noenhanced",
        f"set output {_quoted(os.path.abspath(path))}",
        f"set title {_quoted(title)}",
        f"set xlabel {_quoted(across)}",
        f"set ylabel {_quoted(up)}",
        "set grid linetype 1 linecolor rgb '#bbbbbb'",
        "set key outside right top",
    ]
    drawn = []
    for i, (name, points_of) in enumerate(series):
        commands += [f"$data{i} << END", *(f"{x} {y}" for x, y in points_of), "END"]
        drawn.append(f"$data{i} using 1:2 with linespoints pointsize 0.4 linetype {i + 1} title {_quoted(name)}")
    commands.append("plot " + ", ".join(drawn))
    done = subprocess.run(["gnuplot"], input="\n".join(commands) + "\n", text=True, capture_output=True, check=False)
    return done.returncode == 0
