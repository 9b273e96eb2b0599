#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scenarios.py - hakmem, each of its plugins switched off in turn, and other allocators, on scenarios of large blocks.

    bench/scenarios.py [--quick] [--runs N] [--cases GLOB,...] [--allocators GLOB,...] [--hakmem 'NAME=INI[;key=value]...']...

From the build directory, after make. Writes bench-report/scenarios.md, plots, and every single measurement as lines of JSON.
Exit status 1 when a process fails or it cannot be proved who served it.

bench/scenario.c is the measured program. Each run is a fresh process; a round runs every case under every allocator, in a random
order, and what one round measures of a case makes the pairs of the ratios.
"""
import argparse
import json
import os
import sys
import tempfile

sys.dont_write_bytecode = True  # the source tree stays as it is

import contest  # noqa: E402
import lab  # noqa: E402
import stats  # noqa: E402

# The configurations of hakmem that are measured unless --hakmem names others: name, INI, settings.
CONFIGURATIONS = [
    ("static", "etc/hakmem.ini", ""),
    ("epsilon-greedy", "etc/learn.ini", "core.policy=epsilon-greedy"),
    ("elo", "etc/learn.ini", "core.policy=elo"),
    ("no-cache", "etc/hakmem.ini", "core.cache=none"),
    ("no-reclaim", "etc/hakmem.ini", "core.reclaim=none"),
    ("no-hugepage", "etc/hakmem.ini", "strategy.default.route=malloc, mmap from 512K"),
]

SCENARIOS = {
    "json": "64 KiB x 1000",
    "mir": "256 KiB x 100",
    "vm": "2 MiB x 10",
    "mixed": "json, mir and vm interleaved",
}
STREAMING = "a queue of up to 64 live blocks of 1 to 8 MiB, three times grown to 64, kept there for 128 turns, shrunk to 8"
STEADY = 100  # iterations of a steady case to one of a cold one

# Suffix of the case, what it means, arguments of the measured program.
VARIANTS = [
    ("cold", "one byte of each page", []),
    ("steady", f"one byte of each page, {STEADY} times the iterations", ["-n", str(STEADY)]),
    ("sparse", "one page only", ["-t", "first"]),
    ("sparse-steady", f"one page only, {STEADY} times the iterations", ["-t", "first", "-n", str(STEADY)]),
    ("filled", "every byte", ["-t", "all"]),
    ("filled-steady", f"every byte, {STEADY} times the iterations", ["-t", "all", "-n", str(STEADY)]),
    ("2threads", "two threads, one byte of each page", ["-j", "2"]),
    ("2threads-steady", f"two threads, one byte of each page, {STEADY} times the iterations", ["-j", "2", "-n", str(STEADY)]),
]
STREAMS = [
    ("streaming", "one byte of each page", []),
    ("streaming-sparse", "one page only", ["-t", "first"]),
    ("streaming-sparse-steady", f"one page only, {STEADY} times the iterations", ["-t", "first", "-n", str(STEADY)]),
]
QUICK = ",".join(f"{name}-{suffix}" for suffix in ("cold", "steady") for name in SCENARIOS) + ",streaming"
ENOUGH_RUNS = 30
CONTROLS = {"control": "small", "control-huge": "huge"}  # measured beside glibc: the same writes without malloc and free

# Counters of cache and reclaim plugins that the report shows, where there are such.
PLUGIN_COUNTERS = ("hits", "misses", "batches")


class Case(contest.Case):
    """A scenario in one variant."""

    def __init__(self, name, group, about, arguments):
        super().__init__(name, about, arguments)
        self.group = group
        self.has_control = self.threads == 1 and (arguments[0] in SCENARIOS or "-n" not in arguments)
        self.calls = {}  # allocator name -> {system call: number}
        self.served = {}  # hakmem configuration -> what its plugins counted


def all_cases():
    cases = [
        Case(f"{scenario}-{suffix}", suffix, f"{shape}; {about}", [scenario, *arguments])
        for suffix, about, arguments in VARIANTS
        for scenario, shape in SCENARIOS.items()
    ]
    return cases + [Case(name, "streaming", f"{STREAMING}; {about}", ["streaming", *arguments]) for name, about, arguments in STREAMS]


# ---- measuring -----------------------------------------------------------------------------------------------------------


def measure_rounds(program, cases, allocators, options, raw):
    """Fresh processes, interleaved: every round takes the cases, and the allocators of each case, in a new order."""
    for number, case, allocator in contest.rounds(cases, allocators, options):
        these = {allocator.name: case.arguments}
        if allocator is allocators[0] and case.has_control:
            these |= {name: [*case.arguments, "-c", pages] for name, pages in CONTROLS.items()}
        for name, arguments in these.items():
            result = lab.measure(allocator, [program, *arguments])
            result["operations"] = result["blocks"]
            case.runs[name].append(result)
            raw.write(json.dumps({"round": number, "case": case.name, "allocator": name, **result}) + "\n")


def count_calls(program, cases, allocators, scratch):
    """System calls of the loop: those of an extra run, less those of one that does everything but the loop."""
    if lab.find_tool("strace") is None:
        contest.progress("no strace: system calls are not counted")
        return
    contest.progress("counting system calls")
    idle = {}
    path = os.path.join(scratch, "calls")
    for case in cases:
        for allocator in allocators:
            key = (allocator.name, case.threads)
            if key not in idle:
                command = [program, "vm", "-n", "0", "-j", str(case.threads)]
                idle[key] = lab.system_calls(allocator, command, path)
            calls = lab.system_calls(allocator, [program, *case.arguments], path)
            calls.subtract(idle[key])
            case.calls[allocator.name] = {name: n for name, n in sorted(calls.items()) if n > 0}


def ask_hakmem(program, cases, allocators, scratch):
    """What the plugins of each configuration counted in an extra run of each case."""
    contest.progress("reading reports of hakmem")
    for case in cases:
        for allocator in allocators:
            if not allocator.is_hakmem:
                continue
            report = lab.report_of(allocator, [program, *case.arguments], os.path.join(scratch, "report"))
            served = {f"{name} blocks": backend["allocs"] for name, backend in report["backends"].items() if backend["allocs"]}
            for section, counters in report["counters"].items():
                for key in PLUGIN_COUNTERS:
                    if key in counters:
                        served[f"{section.split('.')[-1]} {key}"] = counters[key]
            case.served[allocator.name] = served


# ---- the report ----------------------------------------------------------------------------------------------------------

METHOD = """\
An operation is malloc, the writes, and free, in ns of the thread that does it. Each run is a fresh process; the clock is read
before the first call and after the last. Ratios are medians over the pairs of the rounds, with their 95 % bootstrap interval;
below 1 is faster, and "no difference" says that 1 is in the interval. Faults are minor ones inside the loop; those before it are
apart. Faults, peak and shootdowns are medians; shootdowns are those of the whole machine. The controls write the same to one place
that stays, on small pages or a huge one, and call nobody: what they take is the program's and the machine's. That of a queue has its
blocks one behind the other in a ring that is no longer than they need.
"""


def listed(counts):
    return ", ".join(f"{name} {n}" for name, n in counts.items()) or "none"


def points_table(cases, peers, ours):
    """Each configuration alone among the peers: so many configurations would only take points from each other."""
    rows = []
    contests = [{a.name: stats.median(case.ns(a.name)) for a in peers + ours} for case in cases]
    for allocator in ours:
        points = stats.points(contests, [allocator.name, *(peer.name for peer in peers)])
        rows.append([allocator.label, points[allocator.name], *(points[peer.name] for peer in peers)])
    return stats.table(["with", "its points", *(peer.name for peer in peers)], rows)


def control_table(cases, peers, ours):
    """How much of the best peer's time is no allocator's, and how far ours are from none."""
    rows = []
    for case in cases:
        if case.has_control:
            best, row = contest.best_peer(case, peers), []
            for name in CONTROLS:
                row += [stats.number(stats.median(case.ns(name))), stats.paired_ratio(case.ns(name), case.ns(best.name))]
            least = min(map(case.ns, CONTROLS), key=stats.median)
            rows.append([case.name, best.name, *row, *(stats.paired_ratio(case.ns(a.name), least) for a in ours)])
    head = ["case", "best peer", "on small pages, ns", "over the best peer", "on huge pages, ns", "over the best peer",
            *(f"{a.label} over the faster control" for a in ours)]
    return stats.table(head, rows) if rows else "None of these cases has one.\n"


def case_section(case, peers, ours):
    best, glibc = contest.best_peer(case, peers), peers[0]
    rows = []
    for name, label in [(a.name, a.label) for a in peers + ours] + [(name, name) for name in CONTROLS if case.has_control]:
        ns = case.ns(name)
        shootdowns = case.middle(name, "shootdowns")
        rows.append([
            label,
            *(stats.number(value) for value in (stats.median(ns), stats.quantile(ns, 0.95), stats.quantile(ns, 0.99))),
            "1" if name == best.name else stats.paired_ratio(ns, case.ns(best.name)),
            "1" if name == glibc.name else stats.paired_ratio(ns, case.ns(glibc.name)),
            *(f"{case.middle(name, key):.0f}" for key in ("faults", "startup_faults")),
            stats.number(case.middle(name, "peak_kib") / 1024),
            f"{shootdowns:.0f}" if shootdowns >= 0 else "unknown",
        ])
    header = ["allocator", "median ns", "P95", "P99", f"over {best.name}, the best peer", f"over {glibc.name}", "faults",
              "faults at start", "peak RSS MiB", "TLB shootdowns"]
    text = f"### {case.name}\n\n{case.about}.\n\n" + stats.table(header, rows)
    if case.calls:
        text += "\nSystem calls of the loop:\n\n" + "".join(
            f"- {a.label}: {listed(case.calls[a.name])}\n" for a in peers + ours)
    if case.served:
        text += "\nCounted by hakmem in an extra run, start and end of the process included:\n\n" + "".join(
            f"- {a.label}: {listed(case.served[a.name])}\n" for a in ours)
    return text


def draw_plots(directory, cases, allocators):
    """One for each variant, the scenarios side by side. Returns the Markdown that shows them."""
    if not stats.can_plot():
        contest.progress("no gnuplot: no plots")
        return ""
    text = ""
    for group in dict.fromkeys(case.group for case in cases):
        members = [case for case in cases if case.group == group]
        series = [
            (a.label, a.is_hakmem, {c.name: [stats.quantile(c.ns(a.name), q) for q in (0.05, 0.5, 0.95)] for c in members})
            for a in allocators
        ]
        name = f"scenarios-{group}.svg"
        title = f"{group}: median, 5th and 95th percentile"
        if not stats.plot(os.path.join(directory, name), title, "ns per operation", [c.name for c in members], series):
            raise lab.Failure(f"gnuplot cannot draw {name}")
        text += f"![{group}]({name})\n"
    return text


def written_report(options, cases, peers, ours, absent, plots):
    everybody = peers + ours
    blocks = sum(run["allocs"] for case in cases for a in ours for run in case.runs[a.name])
    facts = lab.machine() + [("runs of each case and allocator", options.runs), ("seed", options.seed)]
    parts = ["# Scenarios of large blocks\n", stats.table(["", ""], facts)]
    if options.runs < ENOUGH_RUNS:
        parts.append(f"**Only {options.runs} runs: too few for conclusions ({ENOUGH_RUNS} are enough).**\n")
    parts += [
        stats.table(["allocator", "version or configuration"], [(a.label, a.version) for a in everybody]),
        *(f"Absent: {name}.\n" for name in absent),
        METHOD,
        f"Proof: in every process malloc belonged to the allocator named. Under hakmem {blocks} allocations and as many frees were"
        " counted by hakmem itself, in each run exactly the calls made.\n",
        "## Medians, ns per operation\n", contest.medians_table(cases, everybody),
        "## hakmem over the best peer\n", contest.versus_table(cases, peers, ours),
        "## Without an allocator\n", control_table(cases, peers, ours),
    ]
    for group in ("cold", "steady"):
        members = [case for case in cases if case.group == group]
        if len(members) == len(SCENARIOS):
            parts += [f"## Points, {group}\n", "5-4-3-2-1 for each of the four scenarios; each configuration of hakmem alone"
                      " among the peers.\n", points_table(members, peers, ours)]
    if plots:
        parts += ["## Plots\n", plots]
    parts += ["## Cases\n", *(case_section(case, peers, ours) for case in cases)]
    return "\n".join(parts)


# ---- the command ---------------------------------------------------------------------------------------------------------


def arguments():
    parser = argparse.ArgumentParser(description="Times hakmem and other allocators on scenarios of large blocks.")
    parser.add_argument("--runs", type=int, help=f"processes of each case and allocator ({ENOUGH_RUNS}; quick: 5)")
    parser.add_argument("--cases", help="comma-separated patterns, such as vm-*,streaming")
    parser.add_argument("--allocators", default="*", help="comma-separated patterns, such as glibc,static")
    parser.add_argument("--hakmem", action="append", metavar="NAME=INI[;key=value]...", help="a configuration, instead of"
                        " the usual ones: " + ", ".join(name for name, _, _ in CONFIGURATIONS))
    parser.add_argument("--quick", action="store_true", help="5 runs of the cold and the steady cases and of streaming,"
                        " without system calls")
    parser.add_argument("--seed", type=int, default=1, help="of the order of runs (1)")
    parser.add_argument("--output", default=os.path.join(lab.BUILD, "bench-report"), help="directory (bench-report)")
    parser.add_argument("--list", action="store_true", help="name the cases")
    options = parser.parse_args()
    options.runs = options.runs or (5 if options.quick else ENOUGH_RUNS)
    options.cases = options.cases or (QUICK if options.quick else "*")
    if options.runs < 1:
        parser.error("--runs: expected 1 or more")
    return options


def run(options):
    cases = contest.chosen(all_cases(), options.cases)
    peers, ours, absent = contest.contestants(options, CONFIGURATIONS)
    if not cases or not ours or not peers or peers[0].name != "glibc":
        raise lab.Failure("expected at least one case, one configuration of hakmem, and glibc")
    for name in absent:
        contest.progress(f"absent: {name}")
    contest.progress(f"{len(cases)} cases, {len(peers + ours)} allocators, {options.runs} rounds, seed {options.seed}")
    os.makedirs(options.output, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hakmem-bench-") as scratch:
        program = os.path.join(scratch, "scenario")
        lab.compile_program("bench/scenario.c", program)
        for allocator in peers + ours:  # what cannot start is found before hours have gone by
            lab.measure(allocator, [program, "vm"])
        with open(os.path.join(options.output, "scenarios.jsonl"), "w", encoding="utf-8") as raw:
            measure_rounds(program, cases, peers + ours, options, raw)
            ask_hakmem(program, cases, ours, scratch)
            if not options.quick:
                count_calls(program, cases, peers + ours, scratch)
            for case in cases:
                raw.write(json.dumps({"case": case.name, "system_calls": case.calls, "served": case.served}) + "\n")
    plots = draw_plots(options.output, cases, peers + ours)
    path = os.path.join(options.output, "scenarios.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write(written_report(options, cases, peers, ours, absent, plots))
    print(path)


if __name__ == "__main__":
    chosen_options = arguments()
    if chosen_options.list:
        print("\n".join(f"{case.name:24} {case.about}" for case in all_cases()))
        sys.exit(0)
    try:
        run(chosen_options)
    except lab.Failure as problem:
        sys.exit(f"scenarios: {problem}")
