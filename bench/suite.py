#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""suite.py - hakmem and other allocators on programs of all kinds, most of them with small objects, and on real programs.

    bench/suite.py [--quick] [--runs N] [--programs GLOB,...] [--allocators GLOB,...] [--hakmem 'NAME=INI[;key=value]...']...
                   [--instructions] [--soak SECONDS]

From the build directory, after make. Writes bench-report/suite.md, plots, and every single measurement as lines of JSON, and prints
how hakmem compares. Exit status 1 when a process fails or it cannot be proved who served it.

The own programs are in bench/suite, the real ones in bench/programs.py. Each run is a fresh process; a round runs every program
under every allocator, in a random order, and what one round measures of a program makes the pairs of the ratios.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # the source tree stays as it is

import contest  # noqa: E402
import lab  # noqa: E402
import programs  # noqa: E402
import stats  # noqa: E402

# The configurations of hakmem that are measured unless --hakmem names others: name, INI, settings.
CONFIGURATIONS = [("default", "etc/hakmem.ini", "")]
ENOUGH_RUNS, QUICK_RUNS, QUICK_PERCENT = 10, 3, 25
INSTRUCTIONS_PERCENT = (1, 3)  # of the work, whose difference is counted

# Name, what it does, its program and arguments.
OWN = [
    ("aligned", "aligned requests, 16 to 4096", ["aligned"]),
    ("fragment", "eight times filled and nine tenths freed at random", ["fragment"]),
    ("graph", "a graph of objects under constant change, threads that take turns", ["graph"]),
    ("graph-2", "the same, two threads at once in one graph", ["graph", "-j", "2"]),
    ("idle", "1 MiB live and nothing else", ["idle"]),
    ("medium", "a random one of 600 objects replaced, 1 to 64 KiB", ["sizes", "medium"]),
    ("mixed", "large blocks among small objects", ["mixed"]),
    ("order-fifo", "batches of 20000, freed in the order of allocation", ["order", "fifo"]),
    ("order-lifo", "batches of 20000, the last one freed first", ["order", "lifo"]),
    ("order-random", "batches of 20000, freed in a random order", ["order", "random"]),
    ("pair", "malloc(64) and free", ["pair"]),
    ("power", "a random one of 10000 objects replaced, sizes by a power law", ["sizes", "power"]),
    ("power-2", "the same in each of two threads", ["sizes", "power", "-j", "2"]),
    ("queue-mesh-2", "two threads, each frees what the other allocates", ["queue", "mesh", "-j", "2"]),
    ("queue-pipe-2", "one thread allocates, another frees", ["queue", "pipe", "-j", "2"]),
    ("scale", "a random one of 256 small objects replaced", ["scale", "alloc"]),
    ("scale-2", "the same in each of two threads", ["scale", "alloc", "-j", "2"]),
    ("server", "random replacement, each thread hands its objects to the next one", ["server"]),
    ("server-2", "the same, two threads at once", ["server", "-j", "2"]),
    ("sharing-active-2", "two threads count in objects of their own", ["sharing", "active", "-j", "2"]),
    ("sharing-passive-2", "the same, after the free of objects that were allocated side by side", ["sharing", "passive", "-j", "2"]),
    ("small", "a random one of 10000 objects replaced, 1 to 1000 bytes", ["sizes", "small"]),
    ("small-2", "the same in each of two threads", ["sizes", "small", "-j", "2"]),
    ("tiny", "8 to 64 bytes, freed after 32 more", ["tiny"]),
    ("tiny-2", "the same in each of two threads", ["tiny", "-j", "2"]),
    ("vector", "vectors that grow by realloc, up to 128 KiB", ["vector", "small"]),
    ("vector-large", "the same, 64 KiB to 32 MiB", ["vector", "large"]),
    ("control", "scale without an allocator: what the machine does", ["scale", "control"]),
    ("control-2", "the same in each of two threads", ["scale", "control", "-j", "2"]),
]
UNTIMED = ("idle",)  # too short to be timed


class Own(contest.Case):
    """One of the programs of bench/suite."""

    unit = "ns per operation"

    def __init__(self, name, about, arguments):
        super().__init__(name, about, arguments)
        self.is_control = name.startswith("control")
        self.group = "control" if self.is_control else "two threads" if self.threads > 1 else "one thread"
        self.in_time_mean = not self.is_control and name not in UNTIMED
        self.instructions = {}  # allocator name -> instructions of an operation

    def contestants(self, allocators):
        return allocators[:1] if self.is_control else allocators

    def command(self, bench, percent):
        return [bench.path(self.arguments[0]), *self.arguments[1:], "-n", str(percent)]

    def measure(self, bench, allocator, percent):
        result = lab.measure(allocator, self.command(bench, percent))
        if result["misaligned"] and allocator.is_hakmem:
            raise lab.Failure(f"{allocator.label}: {self.name}: {result['misaligned']} objects are not aligned as asked for")
        return result


# ---- measuring -----------------------------------------------------------------------------------------------------------


def compile_own(bench, cases):
    for name in {case.arguments[0] for case in cases}:
        lab.compile_program(f"bench/suite/{name}.c", bench.path(name))


def check_all(bench, own, real, allocators):
    """What cannot start, or is not served by whom it should be, is found before anything is measured."""
    calls = 0
    for case in own:
        for allocator in case.contestants(allocators):
            case.measure(bench, allocator, 1)
    for case in real:
        contest.progress(f"who serves {case.name}")
        calls += sum(case.prove(bench, allocator) for allocator in allocators)
    return calls


def measure_rounds(bench, cases, allocators, options, raw):
    for number, case, allocator in contest.rounds(cases, allocators, options):
        if isinstance(case, Own):
            result = case.measure(bench, allocator, options.percent)
        else:
            result = case.measure(bench, allocator)
        case.runs[allocator.name].append(result)
        raw.write(json.dumps({"round": number, "program": case.name, "allocator": allocator.name, **result}) + "\n")


def count_instructions(bench, own, allocators):
    """Of an operation: the difference of two runs, so that start and end drop out."""
    if lab.find_tool("valgrind") is None:
        contest.progress("no valgrind: instructions are not counted")
        return
    for case in own:
        if case.group == "one thread" and case.in_time_mean:
            contest.progress(f"counting instructions of {case.name}")
            for allocator in allocators:
                runs = [lab.instructions(allocator, case.command(bench, percent), bench.path("callgrind"))
                        for percent in INSTRUCTIONS_PERCENT]
                (few, short), (many, long) = runs
                case.instructions[allocator.name] = (many - few) / (long["operations"] - short["operations"])


# ---- figures -------------------------------------------------------------------------------------------------------------


def time_of(case, name):
    return stats.median(case.ns(name))


def cpu_of(case, name):
    return case.middle(name, "cpu_us")


def peak_of(case, name):
    return case.middle(name, "peak_kib")


def relative_mean(cases, value, name, reference):
    """The geometric mean over the cases of an allocator's value over that of the reference."""
    return stats.geometric_mean([value(case, name) / reference(case) for case in cases])


def timed(cases):
    return [case for case in cases if case.in_time_mean]


def best_by_mean(cases, peers):
    """The other allocator with the lowest geometric mean of times."""
    return min(peers, key=lambda peer: stats.geometric_mean([time_of(case, peer.name) for case in timed(cases)]))


def checks(own, real, peers, ours):
    """What is asked of each configuration of hakmem, one line each."""
    lines = []
    for allocator in ours:
        name = allocator.name
        for kind, cases in (("own", own), ("real", real)):
            ratios = []
            for case in timed(cases):
                best = contest.best_peer(case, peers)
                ratios.append((stats.paired_ratio(case.ns(name), case.ns(best.name)), case.name, best.name))
            if ratios:
                worst, case_name, best_name = max(ratios, key=lambda row: row[0].middle)
                lines.append(f"{allocator.label}: worst of the {kind} programs: {case_name}, {worst} of {best_name}'s time")
        if timed(own):
            best = best_by_mean(own, peers)
            mean = relative_mean(timed(own), time_of, name, lambda case, peer=best.name: time_of(case, peer))
            lines.append(f"{allocator.label}: geometric mean of time, own programs: {stats.number(mean)} of {best.name}'s,"
                         " the best peer by mean")
        if own and any(peer.name == "jemalloc" for peer in peers):
            mean = relative_mean(own, peak_of, name, lambda case: peak_of(case, "jemalloc"))
            lines.append(f"{allocator.label}: geometric mean of peak RSS, own programs: {stats.number(mean)} of jemalloc's")
    return lines


# ---- the report ----------------------------------------------------------------------------------------------------------

METHOD = """\
Each run is a fresh process. Own programs read the clock before the first call and after the last; an operation is what the program
repeats, mostly malloc, writes and free, in ns of the thread that does it. Real programs are timed from start to end, redis by what
its benchmark waits for. Ratios are medians over the pairs of the rounds, with their 95 % bootstrap interval; below 1 is faster.
CPU is user and system time of all threads, faults are minor ones, both of the timed part. Peak is that of the whole process; live is
the resident set at the end of the timed part; then everything is freed, and malloc_trim(0) called, which some allocators do not
have. All are medians.
"""


def memory_table(cases, allocators, key):
    rows = []
    for case in cases:
        measured = [a for a in case.contestants(allocators) if key in case.runs[a.name][0]]
        values = {a: case.middle(a.name, key) / 1024 for a in measured}
        cells = [stats.number(values[a]) if a in values else "" for a in allocators]
        if measured:
            rows.append([case.name] + [f"**{c}**" if a in values and values[a] == min(values.values()) else c
                                       for a, c in zip(allocators, cells)])
    return stats.table(["program", *(a.label for a in allocators)], rows)


def means_table(cases, allocators):
    rows, known = [], {a.name for a in allocators}
    references = {"the best": lambda value: lambda case: min(value(case, a.name) for a in allocators)}
    if "mimalloc" in known:
        references["mimalloc"] = lambda value: lambda case: value(case, "mimalloc")
    for allocator in allocators:
        cells = []
        for those, value in ((timed(cases), time_of), (timed(cases), cpu_of), (cases, peak_of)):
            for reference in references.values():
                cells.append(stats.number(relative_mean(those, value, allocator.name, reference(value))))
        rows.append([allocator.label, *cells])
    return stats.table(["allocator", *(f"{what} over {name}" for what in ("time", "CPU", "peak RSS") for name in references)], rows)


def scaling_table(own, allocators):
    """What two threads get done in the time of one: 2 is perfect."""
    cases, rows = {case.name: case for case in own}, []
    for name in ("control", "graph", "power", "scale", "server", "small", "tiny"):
        one, two = cases.get(name), cases.get(name + "-2")
        if one and two:
            those = one.contestants(allocators)
            rows.append([name] + [str(stats.paired_ratio([2 * ns for ns in one.ns(a.name)], two.ns(a.name))) if a in those else ""
                                  for a in allocators])
    return stats.table(["program", *(a.label for a in allocators)], rows) if rows else ""


def instructions_table(own, allocators):
    rows = [[case.name] + [stats.number(case.instructions[a.name]) for a in allocators] for case in own if case.instructions]
    return stats.table(["program", *(a.label for a in allocators)], rows)


def case_section(case, peers, ours):
    best, rows = contest.best_peer(case, peers), []
    notes = ""
    for allocator in case.contestants(peers + ours):
        ns, runs = case.ns(allocator.name), case.runs[allocator.name]
        kib = [case.middle(allocator.name, key) / 1024 if key in runs[0] else None
               for key in ("peak_kib", "live_kib", "freed_kib", "trimmed_kib")]
        rows.append([
            allocator.label, stats.number(stats.median(ns)),
            "1" if allocator is best else stats.paired_ratio(ns, case.ns(best.name)),
            stats.number(case.middle(allocator.name, "cpu_us") / 1000),
            *("" if value is None else stats.number(value) for value in kib),
            f"{case.middle(allocator.name, 'faults'):.0f}",
        ])
        if runs[0].get("misaligned"):
            notes += f"\n{allocator.label}: {runs[0]['misaligned']} of {runs[0]['blocks']} objects were not aligned as asked for.\n"
    header = ["allocator", f"median {case.unit}", f"over {best.name}, the best peer", "CPU ms", "peak RSS MiB", "live MiB",
              "freed MiB", "trimmed MiB", "faults"]
    live = case.runs[best.name][0].get("live_bytes")
    if live:
        notes += f"\n{stats.number(live / 1024 / 1024)} MiB are live at the end.\n"
    return f"### {case.name}\n\n{case.about}.\n\n" + stats.table(header, rows) + notes


def draw_plots(directory, cases, allocators):
    """Times of each group, and the peaks of all. Returns the Markdown that shows them."""
    if not stats.can_plot():
        contest.progress("no gnuplot: no plots")
        return ""
    pictures = [(f"{group}: time", unit, [case for case in timed(cases) if case.group == group], lambda case, name: case.ns(name))
                for group, unit in (("one thread", Own.unit), ("two threads", Own.unit), ("programs", programs.Program.unit))]
    pictures.append(("peak RSS", "MiB", [case for case in cases if case.group != "control"],
                     lambda case, name: [run["peak_kib"] / 1024 for run in case.runs[name]]))
    text = ""
    for title, unit, members, values in pictures:
        series = [(a.label, a.is_hakmem, {c.name: [stats.quantile(values(c, a.name), q) for q in (0.05, 0.5, 0.95)] for c in members})
                  for a in allocators]
        name = "suite-" + title.split(":")[0].replace(" ", "-").lower() + ".svg"
        if members:
            if not stats.plot(os.path.join(directory, name), title + ": median, 5th and 95th percentile", unit,
                              [c.name for c in members], series):
                raise lab.Failure(f"gnuplot cannot draw {name}")
            text += f"![{title}]({name})\n"
    return text


def written_report(options, own, real, peers, ours, absent, served, plots):
    everybody, cases = peers + ours, own + real
    compared = [case for case in own if not case.is_control]
    facts = lab.machine() + [("runs of each program and allocator", options.runs), ("part of the work", f"{options.percent} %"),
                             ("seed", options.seed)]
    parts = ["# Benchmark suite\n", stats.table(["", ""], facts)]
    if options.runs < ENOUGH_RUNS:
        parts.append(f"**Only {options.runs} runs: too few for conclusions ({ENOUGH_RUNS} are enough).**\n")
    parts += [
        stats.table(["allocator", "version or configuration"], [(a.label, a.version) for a in everybody]),
        *(f"Absent: {name}.\n" for name in absent), METHOD,
    ]
    blocks = sum(run["blocks"] for case in own for a in ours for run in case.runs[a.name])
    parts.append("Proof: in every process of an own program, and in an extra run of every real one, malloc belonged to the allocator"
                 f" named. Under hakmem {blocks} blocks of own programs were counted by hakmem itself, in each run as many as calls"
                 f" made, and {served} of real programs.\n")
    if ours:
        parts += ["## Checks\n", *(f"- {line}" for line in checks(compared, real, peers, ours)), ""]
    if compared:
        parts += ["## Geometric means, own programs\n", means_table(compared, everybody)]
    if real:
        parts += ["## Geometric means, real programs\n", means_table(real, everybody)]
    for title, those in (("own programs, ns per operation", own), ("real programs, ms", real)):
        if those:
            parts += [f"## Medians, {title}\n", contest.medians_table(those, everybody)]
    if ours and compared + real:
        parts += ["## hakmem over the best peer\n", contest.versus_table(compared + real, peers, ours)]
    parts += ["## Peak RSS, MiB\n", memory_table(compared + real, everybody, "peak_kib")]
    for title, key in (("after freeing everything", "freed_kib"), ("after malloc_trim(0)", "trimmed_kib")):
        if compared:
            parts += [f"## RSS {title}, MiB\n", memory_table(compared + real, everybody, key)]
    scaling = scaling_table(own, everybody)
    if scaling:
        parts += ["## What two threads get done in the time of one\n", scaling]
    if any(case.instructions for case in own):
        parts += ["## Instructions of an operation\n", instructions_table(own, everybody)]
    if plots:
        parts += ["## Plots\n", plots]
    return "\n".join(parts + ["## Programs\n", *(case_section(case, peers, ours) for case in cases)])


# ---- soak ----------------------------------------------------------------------------------------------------------------

SOAK_WARM, SOAK_EVERY, SOAK_WITHIN = 60, 5, 0.05  # seconds; seconds; part of the resident set


def soak(bench, allocator, seconds):
    """The server for so long. True when its resident set, once it is warm, stays within a band."""
    samples, began = [], time.monotonic()
    warm, every = min(SOAK_WARM, seconds / 2), min(SOAK_EVERY, seconds / 10)
    command = [bench.path("server"), "-j", "2", "-t", str(seconds)]
    with subprocess.Popen(command, env=lab.environment(allocator.environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          text=True) as process:
        while process.poll() is None:
            time.sleep(every)
            at = time.monotonic() - began
            if at < seconds:
                samples.append((at, programs.kib_of(process.pid, "smaps_rollup", "Rss:")))
                contest.progress(f"{allocator.label}: {at:.0f} s, {samples[-1][1]} KiB")
        output = process.stdout.read()
    if process.returncode != 0:
        raise lab.Failure(f"{allocator.label}: server: status {process.returncode}")
    result = json.loads(output)
    lab.prove(allocator, result)
    later = [kib for at, kib in samples if at >= warm]
    if not later:
        raise lab.Failure(f"{allocator.label}: no sample after {warm:.0f} s")
    band = max(later) / min(later) - 1
    stays = band <= SOAK_WITHIN
    print(f"{allocator.label}: after {warm:.0f} s {later[0]} KiB, then {min(later)} to {max(later)} KiB in {seconds - warm:.0f} s, a band"
          f" of {band * 100:.1f} %: {'stays' if stays else 'does not stay'} within {SOAK_WITHIN * 100:.0f} %;"
          f" {result['operations']} replacements")
    return stays


# ---- the command ---------------------------------------------------------------------------------------------------------


def arguments():
    parser = argparse.ArgumentParser(description="Times hakmem and other allocators on programs of all kinds.")
    parser.add_argument("--runs", type=int, help=f"processes of each program and allocator ({ENOUGH_RUNS}; quick: {QUICK_RUNS})")
    parser.add_argument("--programs", default="*", help="comma-separated patterns, such as order-*,server*,sqlite3")
    parser.add_argument("--allocators", help="comma-separated patterns, such as glibc,default (all; for --soak hakmem's)")
    parser.add_argument("--hakmem", action="append", metavar="NAME=INI[;key=value]...", help="a configuration, instead of"
                        " the usual one: " + ", ".join(name for name, _, _ in CONFIGURATIONS))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs, own programs with {QUICK_PERCENT} %% of the work")
    parser.add_argument("--percent", type=int, help="of the work of own programs (100)")
    parser.add_argument("--instructions", action="store_true", help="count those of the own programs with one thread; needs valgrind")
    parser.add_argument("--soak", type=int, metavar="SECONDS", help="instead: run the server for so long and watch its resident set")
    parser.add_argument("--seed", type=int, default=1, help="of the order of runs (1)")
    parser.add_argument("--output", default=os.path.join(lab.BUILD, "bench-report"), help="directory (bench-report)")
    parser.add_argument("--list", action="store_true", help="name the programs that are here")
    options = parser.parse_args()
    options.runs = options.runs or (QUICK_RUNS if options.quick else ENOUGH_RUNS)
    options.percent = options.percent or (QUICK_PERCENT if options.quick else 100)
    if options.runs < 1 or not 1 <= options.percent <= 100 or (options.soak is not None and options.soak < 2):
        parser.error("--runs: 1 or more; --percent: 1 to 100; --soak: 2 or more")
    return options


def run_soak(options):
    options.allocators = options.allocators or "*"
    peers, ours, _ = contest.contestants(options, CONFIGURATIONS)
    everybody = ours if options.allocators == "*" else peers + ours
    with tempfile.TemporaryDirectory(prefix="hakmem-bench-") as scratch:
        bench = programs.Bench(scratch)
        lab.compile_program("bench/suite/server.c", bench.path("server"))
        return all([soak(bench, allocator, options.soak) for allocator in everybody])


def run(options):
    options.allocators = options.allocators or "*"
    peers, ours, absent = contest.contestants(options, CONFIGURATIONS)
    os.makedirs(options.output, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hakmem-bench-") as scratch:
        bench = programs.Bench(scratch)
        present, missing = programs.all_programs(bench)
        own, real = (contest.chosen(those, options.programs) for those in ([Own(*row) for row in OWN], present))
        if options.list:
            print("\n".join(f"{case.name:18} {case.about}" for case in own + real))
            return
        if not own + real or not peers:
            raise lab.Failure("expected at least one program and one allocator other than hakmem")
        absent += missing
        for name in absent:
            contest.progress(f"absent: {name}")
        contest.progress(f"{len(own)} own and {len(real)} real programs, {len(peers + ours)} allocators, {options.runs} rounds")
        compile_own(bench, own)
        served = check_all(bench, own, real, peers + ours)
        with open(os.path.join(options.output, "suite.jsonl"), "w", encoding="utf-8") as raw:
            measure_rounds(bench, own + real, peers + ours, options, raw)
            if options.instructions:
                count_instructions(bench, own, peers + ours)
    plots = draw_plots(options.output, own + real, peers + ours)
    path = os.path.join(options.output, "suite.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write(written_report(options, own, real, peers, ours, absent, served, plots))
    print("\n".join([*checks([case for case in own if not case.is_control], real, peers, ours), path]))


if __name__ == "__main__":
    chosen_options = arguments()
    try:
        if chosen_options.soak:
            sys.exit(0 if run_soak(chosen_options) else 1)
        run(chosen_options)
    except lab.Failure as problem:
        sys.exit(f"suite: {problem}")
