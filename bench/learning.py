#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""learning.py - what the learning policies cost and gain, against every fixed strategy of etc/learn.ini.

    bench/learning.py [--quick] [--runs N] [--fixed N] [--scenarios GLOB,...] [--seed N] [--seconds N] [--output DIRECTORY]

From the build directory, after make. Prints the report, and writes it as bench-report/learning.md, with plots and every measurement
as lines of JSON. With --seconds it stops after about so long, status 3, and goes on where it was when it is called again with the
same options; the last call prints the report. Exit status 1 when a process fails, when it cannot be proved that hakmem served it, or when a learner played no
games where there was something to win.

bench/learning.c is the measured program. Each run is a fresh process; a round runs everything in a random order. The seed of a
policy is the number of the round.
"""
import argparse
import collections
import configparser
import fnmatch
import json
import os
import random
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # the source tree stays as it is

import lab  # noqa: E402
import stats  # noqa: E402

INI = "etc/learn.ini"
POLICIES = ["elo", "epsilon-greedy"]
SITES = 4  # rows of a size bin

CONTEST = 1.15  # of the best strategy's score, what the worst one must have at least
NEAR = 1.05  # of the best strategy's score: settled
WEIGHTS = {"cpu": 0.4, "faults": 0.3, "memory": 0.3}  # the defaults of the policies
TIMES = ["cpu", "faults"]
FLOOR_NS, NOTICED, MEMORY_LEAST = 400, 0.1, 0.25  # see plugins/policy/learn_cost.c

# Scenario: blocks of each phase; of them for fixed strategies, of which the last third counts; strategy to begin with. Where a block
# takes the program some 50 us with warm memory and a strategy's first one some milliseconds, a budget of 1 % needs as many.
SCENARIOS = {
    "reuse": ([60000], [3000], "default"),
    "queue": ([15000], [900], "huge-32M"),
    "half": ([20000], [3000], "huge-32M"),
    "sparse": ([60000], [6000], "default"),
    "stream": ([60000], [600], "default"),
    "thin": ([30000], [6000], "default"),
    "dense-wide": ([1500, 6000], [300, 3000], "default"),
    "few-many": ([3000, 6000], [600, 900], "huge-32M"),
    "reuse-stream": ([60000, 30000], [900, 600], "plain"),
}
RUNS, FIXED = 20, 5
TRACED = 50  # readings for a plot


def progress(text):
    print(f"learning: {text}", file=sys.stderr, flush=True)


class OutOfTime(Exception):
    """--seconds are over."""


class Record:
    """All measurements, as lines of a file. What is there already is not measured again."""

    def __init__(self, path, options):
        about = {"options": [options.runs, options.fixed, options.scenarios, options.seed]}
        self.end = time.monotonic() + options.seconds if options.seconds else None
        lines = [json.loads(line) for line in lab.text_of(path).splitlines()] if options.seconds else []
        fresh = not lines or lines[0] != about
        self.known = {} if fresh else {json.dumps(line["key"]): line["found"] for line in lines[1:]}
        self.file = open(path, "w" if fresh else "a", encoding="utf-8")
        if fresh:
            self.write(about)

    def write(self, line):
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()

    def get(self, key, measure):
        """The measurement of that name; measures it when there is none."""
        name = json.dumps(key)
        if name not in self.known:
            if self.end is not None and time.monotonic() > self.end:
                raise OutOfTime
            self.known[name] = measure()
            self.write({"key": key, "found": self.known[name]})
        return self.known[name]


# ---- one process -----------------------------------------------------------------------------------------------------------


def merged(early, late):
    """The sums of both parts of a phase."""
    return {size_bin: {key: early.get(size_bin, {}).get(key, 0) + late.get(size_bin, {}).get(key, 0)
                       for key in {**early.get(size_bin, {}), **late.get(size_bin, {})}} for size_bin in {**early, **late}}


class Bench:
    """The compiled program, and where files go."""

    def __init__(self, directory):
        self.directory = directory
        self.program = os.path.join(directory, "learning")
        lab.compile_program("bench/learning.c", self.program)
        self.about = dict(line.split("\t") for line in lab.output_of(self.program, "-l").splitlines())

    def run(self, name, ini, settings, scenario, blocks, more=()):
        """A run under hakmem: what it measured, and as "report" what hakmem says at its end."""
        path = os.path.join(self.directory, "report")
        allocator = lab.hakmem(name, ini, f"{settings};stats.exit=json;stats.file={path}")
        counts = [word for count in blocks for word in ("-n", str(count))]
        result = lab.measure(allocator, [self.program, scenario, *counts, *more])
        result["late"] = [late for _, late in result["phases"]]
        result["phases"] = [merged(early, late) for early, late in result["phases"]]
        result["report"] = json.loads(lab.text_of(path))
        os.unlink(path)
        return result

    def extra_plugin(self, name):
        """Compiles a plugin of the tests."""
        directory = os.path.join(self.directory, "plugins")
        os.makedirs(directory, exist_ok=True)
        command = [*os.environ.get("CC", "cc").split(), "-std=gnu11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden",
                   "-I" + os.path.join(lab.SOURCE, "include"), "-o", os.path.join(directory, name + ".so"),
                   os.path.join(lab.SOURCE, "tests", "plugins", name + ".c")]
        if subprocess.run(command, check=False).returncode != 0:
            raise lab.Failure(f"cannot compile {name}.c")
        return f"core.plugin_path={lab.PLUGINS},{directory}"

    def ini(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


def fixed(strategy):
    return f"core.policy=static;policy.static.strategy={strategy}"


def learner(policy, baseline, seed, more=""):
    return f"core.policy={policy};policy.{policy}.baseline={baseline};policy.{policy}.seed={seed}" + more


# ---- strategies ------------------------------------------------------------------------------------------------------------


def size_of(text):
    return int(text[:-1]) << 10 * (1 + "KMGT".index(text[-1])) if text[-1] in "KMGT" else int(text)


class Strategies:
    """What the strategies of the INI do with each size. Many do the same: their runs are put together, since the best of many equal
    and noisy ones would look better than any of them is."""

    def __init__(self):
        parser = configparser.ConfigParser(inline_comment_prefixes=(";",), strict=False, interpolation=None)
        parser.read([os.path.join(lab.SOURCE, "etc", "hakmem.ini"), os.path.join(lab.SOURCE, INI)])
        self.parts = {}  # name -> [(from, backend)], and its switches
        for section in (name for name in parser.sections() if name.startswith("strategy.")):
            values, name = parser[section], section.partition(".")[2]
            route = [part.strip().partition(" from ") for part in values["route"].split(",")]
            parts = [(size_of(size.strip()) if size else 0, backend) for backend, _, size in route]
            switches = (values.get("cache", "on"), values.get("reclaim", "on"))
            thresholds = [word.strip() for word in values.get("thresholds", "").split(",") if word.strip()]
            for threshold in thresholds:
                self.parts[f"{name}-{threshold}"] = ([*parts[:-1], (size_of(threshold), parts[-1][1])], switches)
            if not thresholds:
                self.parts[name] = (parts, switches)

    def behaviour(self, name, size_bin):
        """The same for two strategies that treat the sizes of a bin alike."""
        parts, switches = self.parts[name]
        low, high = 1 << int(size_bin), 2 << int(size_bin)
        first = [backend for size, backend in parts if size <= low][-1]
        inside = [(low, first)] + [part for part in parts if low < part[0] < high]
        # The cache and the reclaim plugin see page blocks only.
        return tuple(inside), switches if any(backend != "malloc" for _, backend in inside) else None


# ---- scores: as the policies reckon, from figures that were taken outside ----------------------------------------------------


def terms(sums):
    """The three terms of a mean block: ns in malloc and free, ns in the writes, bytes resident for each byte requested."""
    memory = (sums["used"] + sums["held"]) / sums["looked_size"] if sums["looked_size"] else 0
    return {"cpu": sums["call_ns"] / sums["blocks"], "faults": sums["touch_ns"] / sums["blocks"], "memory": memory}


def cost(term, reference):
    """1 for what is as the reference; plugins/policy/learn_cost.c says why so. The pass through the memory is in the writes here; `each`
    is the program's time for each block."""
    def time(terms):
        return sum(WEIGHTS[key] * terms[key] for key in TIMES)
    times = sum(WEIGHTS[key] for key in TIMES)
    memory = WEIGHTS["memory"] * (term["memory"] - reference["memory"]) / max(reference["memory"], MEMORY_LEAST)
    unit = max(time(reference), max(FLOOR_NS, NOTICED * reference["each"]) * times / 2)
    return 1 + times * (time(term) - time(reference)) / unit + memory


class Scenario:
    """What was measured of one scenario."""

    def __init__(self, name, about, strategies):
        self.name, self.about, self.strategies = name, about, strategies
        self.known = {}  # fixed scores, once computed
        self.blocks, self.short, self.baseline = SCENARIOS[name]
        self.fixed = {}  # strategy -> short runs, in the order of the INI
        self.runs = collections.defaultdict(list)  # policy, or "static" for the baseline -> long runs, one for each round
        self.phases = range(len(self.blocks))

    def alike(self, strategy, size_bin):
        """The short runs of all strategies that do the same with sizes of that bin."""
        own = self.strategies.behaviour(strategy, size_bin)
        return [run for name, runs in self.fixed.items() if self.strategies.behaviour(name, size_bin) == own for run in runs]

    def bins(self, phase):
        """Sums of a short run, for each size bin that the phase has."""
        return next(run for runs in self.fixed.values() for run in runs)["late"][phase]

    def alike_groups(self, sizes):
        """The strategies, those that do the same with all of these size bins together."""
        groups = collections.defaultdict(list)
        for name in self.fixed:
            groups[tuple(self.strategies.behaviour(name, b) for b in sizes)].append(name)
        return list(groups.values())

    def reference(self, phase, size_bin):
        """The terms of the baseline, medians over its runs."""
        runs = self.alike(self.baseline, size_bin)
        found = [terms(run["late"][phase][size_bin]) for run in runs]
        each = [run["late_ns"][phase] / sum(sums["blocks"] for sums in run["late"][phase].values()) for run in runs]
        return {"each": stats.median(each), **{key: stats.median([run[key] for run in found]) for key in WEIGHTS}}

    def score(self, run, phase, part="phases"):
        """Mean cost of a block in a phase of a run, or in the last third of the phase ("late")."""
        bins = run[part][phase]
        total = sum(sums["blocks"] * cost(terms(sums), self.reference(phase, b)) for b, sums in bins.items())
        return total / sum(sums["blocks"] for sums in bins.values())

    def fixed_score(self, strategy, phase, size_bin=None):
        """Of the last third of a phase, or of one size bin in it, where caches are warm and huge pages there: the median over the short
        runs of all strategies that do the same."""
        if (strategy, phase, size_bin) not in self.known:
            bins = self.bins(phase)
            if size_bin is None:
                total = sum(sums["blocks"] * self.fixed_score(strategy, phase, b) for b, sums in bins.items())
                self.known[strategy, phase, size_bin] = total / sum(sums["blocks"] for sums in bins.values())
            else:
                reference = self.reference(phase, size_bin)
                self.known[strategy, phase, size_bin] = stats.median(
                    [cost(terms(run["late"][phase][size_bin]), reference) for run in self.alike(strategy, size_bin)])
        return self.known[strategy, phase, size_bin]

    def table(self, phase):
        """Score of each strategy, best first."""
        return dict(sorted(((name, self.fixed_score(name, phase)) for name in self.fixed), key=lambda pair: pair[1]))

    def run_scores(self, strategy, phase):
        """Of the last third of a phase, in each short run of the strategies that do the same with all of its sizes."""
        group = next(names for names in self.alike_groups(sorted(self.bins(phase))) if strategy in names)
        return [self.score(run, phase, "late") for name in group for run in self.fixed[name]]

    def contest(self, phase):
        """Whether it matters which strategy is in force, beyond what one run differs from the next."""
        scores = self.table(phase)
        best, worst = list(scores)[0], list(scores)[-1]
        apart = stats.quantile(self.run_scores(worst, phase), 0.25) > NEAR * stats.quantile(self.run_scores(best, phase), 0.75)
        return apart and scores[worst] >= CONTEST * scores[best]

    def static_is_best(self):
        """Whether no strategy does better than the one that the scenario begins with."""
        return all(self.fixed_score(self.baseline, phase) <= NEAR * min(self.table(phase).values()) for phase in self.phases)

    def whole_score(self, run):
        return sum(self.score(run, phase) * self.blocks[phase] for phase in self.phases) / sum(self.blocks)

    def best_whole(self):
        """The strategy that would have been best from the first block to the last, and its score."""
        def whole(name):
            return sum(self.fixed_score(name, phase) * self.blocks[phase] for phase in self.phases) / sum(self.blocks)
        return min(((name, whole(name)) for name in self.fixed), key=lambda pair: pair[1])


class Course:
    """Who was champion when, in one run of a learner."""

    def __init__(self, scenario, run):
        self.scenario, self.run, self.report = scenario, run, run["report"]["policy"]
        self.first = [sum(scenario.blocks[:phase]) for phase in range(len(scenario.blocks) + 1)]
        self.complete = self.report["switches"] == sum(change["rows"] for change in self.report["changes"])

    def champion(self, size_bin, block):
        row, champion = int(size_bin) * SITES, self.scenario.baseline
        for change in self.report["changes"]:
            if change["row"] <= row < change["row"] + change["rows"] and change["block"] <= block:
                champion = change["to"]
        return champion

    def near(self, phase, size_bin, block):
        """Whether the champion is as good as the best strategy for that size: as a fixed one, or as the program saw it in the end."""
        scores = {name: self.scenario.fixed_score(name, phase, size_bin) for name in self.scenario.fixed}
        champion, last = self.champion(size_bin, block), self.champion(size_bin, self.first[phase + 1])
        return scores[champion] <= NEAR * min(scores.values()) or (champion == last and self.settled_scores(phase)[0] <= NEAR)

    def settled(self, phase):
        """Blocks of the phase until all champions were good, and stayed so; None: never. And the epoch."""
        last, epoch = 0, 0
        for size_bin in self.run["phases"][phase]:
            if not self.near(phase, size_bin, self.first[phase + 1]):
                return None, None
            moments = [change for change in self.report["changes"] if change["block"] > self.first[phase]]
            bad = not self.near(phase, size_bin, self.first[phase])
            for change in moments:
                if change["block"] > self.first[phase + 1]:
                    break
                good = self.near(phase, size_bin, change["block"])
                if good and bad:
                    last, epoch = max(last, change["block"] - self.first[phase]), max(epoch, change["epoch"])
                bad = not good
        return last, epoch

    def settled_scores(self, phase):
        """Of the last third of the phase, over that of the best strategies of each size: what the program saw itself, and what it would
        have seen had the champions of its end been in force from the beginning."""
        champions = best = blocks = 0
        for size_bin, sums in self.run["late"][phase].items():
            champion = self.champion(size_bin, self.first[phase + 1])
            champions += sums["blocks"] * self.scenario.fixed_score(champion, phase, size_bin)
            best += sums["blocks"] * min(self.scenario.fixed_score(name, phase, size_bin) for name in self.scenario.fixed)
            blocks += sums["blocks"]
        return self.scenario.score(self.run, phase, "late") * blocks / best, champions / best


# ---- measuring -------------------------------------------------------------------------------------------------------------


def strategies_of(bench):
    run = bench.run("static", INI, fixed("default"), "reuse", [1])
    return [strategy["name"] for strategy in run["report"]["policy"]["strategies"]]


def measure_fixed(bench, scenarios, options, record):
    """Of strategies that do the same with all sizes of a scenario one runs for all in each round."""
    names = record.get(["strategies"], lambda: strategies_of(bench))
    generator = random.Random(options.seed)
    for number in range(1, options.fixed + 1):
        for scenario in generator.sample(scenarios, len(scenarios)):
            def measured(name):
                return record.get(["fixed", number, scenario.name, name],
                                  lambda: bench.run(name, INI, fixed(name), scenario.name, scenario.short))
            if not scenario.fixed:
                scenario.fixed = {name: [] for name in names}
            sizes = sorted({b for phase in measured(scenario.baseline)["phases"] for b in phase})
            groups = scenario.alike_groups(sizes)
            for group in generator.sample(groups, len(groups)):
                name = scenario.baseline if scenario.baseline in group else group[number % len(group)]
                scenario.fixed[name].append(measured(name))
        progress(f"fixed strategies, round {number} of {options.fixed}")


def measure_learners(bench, scenarios, options, record):
    generator = random.Random(options.seed)
    for number in range(1, options.runs + 1):
        for scenario in generator.sample(scenarios, len(scenarios)):
            for name in generator.sample(["static", *POLICIES], 1 + len(POLICIES)):
                if name == "static" and number > options.fixed and not scenario.static_is_best():
                    continue  # nothing is judged by it
                settings = fixed(scenario.baseline) if name == "static" else learner(name, scenario.baseline, number)
                scenario.runs[name].append(record.get(
                    ["learner", number, scenario.name, name],
                    lambda: bench.run(name, INI, settings, scenario.name, scenario.blocks)))
        progress(f"learning, round {number} of {options.runs}")


def games(run, policy):
    return run["report"]["counters"]["policy." + policy]["games"]


def count_games(scenarios, verdicts):
    """A line for each contest. The learners that never played."""
    idle = []
    for scenario in scenarios:
        if any(scenario.contest(phase) for phase in scenario.phases):
            for policy in POLICIES:
                played = [games(run, policy) for run in scenario.runs[policy]]
                idle += [f"{policy} in {scenario.name}"] if not any(played) else []
                verdicts.add(f"{scenario.name}: games, fewest in a run", policy, min(played), "some", min(played) > 0)
    return idle


# ---- extra runs --------------------------------------------------------------------------------------------------------------


class Verdicts:
    """What must hold, and whether it does."""

    def __init__(self):
        self.rows = []

    def add(self, what, who, found, needed, holds):
        self.rows.append([what, who, found, needed, "holds" if holds else "**misses**"])


def slow_arm(bench, options, verdicts, record):
    """A strategy that takes 20 times as long for each block."""
    static = record.get(["slow", "static"], lambda: bench.run("static", INI, fixed("default"), "stream", [500]))
    sums = [s for phase in static["phases"] for s in phase.values()]
    mean = sum(s["call_ns"] + s["touch_ns"] for s in sums) // sum(s["blocks"] for s in sums)
    path = bench.extra_plugin("slow")
    ini = bench.ini("slow.ini", f"[backend.slow]\nns = {19 * mean}\n[strategy.slow]\nroute = malloc, slow from 1M\ncache = off\n")
    for policy in POLICIES:
        used, blocks = [], []
        for seed in range(1, options.extra + 1):
            run = record.get(["slow", policy, seed], lambda: bench.run(
                policy, ini, learner(policy, "default", seed, ";" + path), "stream", [20000]))
            used.append(run["report"]["counters"]["policy." + policy]["budget_used"] / 1e4)
            blocks += [s["blocks"] for s in run["report"]["policy"]["strategies"] if s["name"] == "slow"]
        found = f"{max(used):.2f} % of the cost, {max(blocks)} blocks"
        verdicts.add("a strategy 20 times slower: its loss, as reported, worst run", policy, found, "at most 1 %, and some",
                     0 < max(used) <= 1)


def identical_arms(bench, options, verdicts, record):
    # They differ in sizes that the scenario does not have: strategies that are alike in all sizes of a bin play no games.
    text = "".join(f"[strategy.same{i}]\nroute = malloc, hugepage from 1M, mmap from {3000 + 100 * i}K\n" for i in range(4))
    ini = bench.ini("same.ini", text)
    for policy in POLICIES:
        runs = [record.get(["identical", policy, seed], lambda: bench.run(
            policy, ini, learner(policy, "default", seed), "reuse", [100000])) for seed in range(1, options.extra + 1)]
        changes = max(run["report"]["counters"]["policy." + policy]["changes"] for run in runs)
        fewest = min(games(run, policy) for run in runs)
        verdicts.add("identical strategies: changes in 100,000 blocks, worst run; games, fewest", policy, f"{changes}; {fewest}",
                     "at most 2; some", changes <= 2 and fewest > 0)


def champions(run):
    """Of each row at the end of a run."""
    policy = run["report"]["policy"]
    return [policy["strategies"][index]["name"] for index in policy["champions"]]


def restart(bench, options, scenarios, verdicts, record):
    """Learns, ends, and starts again with the state file."""
    def starts_settled(policy, scenario, seed):
        path = os.path.join(bench.directory, "state")
        settings = learner(policy, scenario.baseline, seed, f";policy.{policy}.state_file={path}")
        first = bench.run(policy, INI, settings, scenario.name, scenario.blocks)
        again = bench.run(policy, INI, settings, scenario.name, [scenario.blocks[0] // 10])
        os.unlink(path)
        # It may change its mind between equals later, but begins with what was learned.
        began = champions(again)
        names = {}
        for change in reversed(again["report"]["policy"]["changes"]):
            names.update({row: change["from"] for row in range(change["row"], change["row"] + change["rows"])})
        return champions(first) == [names.get(row, name) for row, name in enumerate(began)]

    for scenario in (s for s in scenarios if len(s.blocks) == 1 and s.contest(0)):
        for policy in POLICIES:
            same = [record.get(["restart", policy, scenario.name, seed], lambda: starts_settled(policy, scenario, seed))
                    for seed in range(1, options.extra + 1)]
            verdicts.add(f"{scenario.name}: a restart with saved state starts settled", policy,
                         f"{sum(same)} of {len(same)} runs", "all", all(same))


def trace(bench, scenario, policy):
    """[(block, {strategy: (rating, score)})]"""
    path, every = os.path.join(bench.directory, "trace"), max(1, sum(scenario.blocks) // TRACED)
    bench.run(policy, INI, learner(policy, scenario.baseline, 1), scenario.name, scenario.blocks, ("-t", path, "-e", str(every)))
    text, decoder, at, readings = lab.text_of(path), json.JSONDecoder(), 0, []
    os.unlink(path)
    while at < len(text):
        report, at = decoder.raw_decode(text, at)
        at += len(text[at:]) - len(text[at:].lstrip())
        readings.append((report["policy"]["blocks"], {
            s["name"]: (s["rating_thousandths"] / 1000, s["score_thousandths"] / 1000)
            for s in report["policy"]["strategies"] if s["trials"]}))
    return readings


def traces(bench, scenarios, record):
    """Readings during one more run of each policy."""
    return {(scenario.name, policy): record.get(["trace", scenario.name, policy], lambda: trace(bench, scenario, policy))
            for scenario in scenarios for policy in POLICIES}


# ---- the report ----------------------------------------------------------------------------------------------------------------

METHOD = f"""\
Each run is a fresh process. A score is what the policies reckon by, 40 % time in malloc and free, 30 % time in first touches, 30 %
resident memory, each as the ratio to the baseline, where times count as at least a twentieth of the program's time for each block. It
is taken by the program itself, of every block, so that fixed strategies have one, too: theirs is that of the last third of a phase.
Lower is better. A phase is a contest when the worst strategy scores at least {CONTEST:.2f} times the best, and the middle halves of their
runs are more than {NEAR:.2f} apart; the others do not count.
The table of settled scores has that of the last third of a phase in the learner's own run, measuring and challengers included, and
beside it the champion's as a fixed strategy: what a strategy has kept from an earlier phase makes it dearer or cheaper as a fixed one
than where it comes later. A champion is settled when either of the two is within {NEAR:.2f} of the best, and what must hold is said of
the lower one of each run. Strategies that do the same with a size share their runs. Regret is the score of the whole run over that of
the best single strategy in hindsight, less 1; below 0 when a change of strategy paid. Spans are medians with 5th and 95th percentile.
"""


def span(values, form=stats.number):
    return f"{form(stats.median(values))} ({form(stats.quantile(values, 0.05))} to {form(stats.quantile(values, 0.95))})"


def percent(value):
    return f"{100 * value:.1f} %"


def phase_name(scenario, phase):
    return scenario.name if len(scenario.blocks) == 1 else f"{scenario.name}, phase {phase + 1}"


def scores_table(scenarios):
    names = list(scenarios[0].fixed)
    rows = []
    for scenario in scenarios:
        for phase in scenario.phases:
            scores = scenario.table(phase)
            best = min(scores.values())
            cells = [f"**{scores[n]:.2f}**" if scores[n] <= NEAR * best else f"{scores[n]:.2f}" for n in names]
            rows.append([phase_name(scenario, phase), "yes" if scenario.contest(phase) else "no contest", *cells])
    return stats.table(["phase", "contest", *names], rows)


def settled_table(scenarios, verdicts):
    rows = []
    for scenario in scenarios:
        for phase in scenario.phases:
            for policy in POLICIES:
                courses = [Course(scenario, run) for run in scenario.runs[policy]]
                settled = [course.settled(phase) for course in courses]
                scores, champions = zip(*(course.settled_scores(phase) for course in courses))
                better = [min(pair) for pair in zip(scores, champions)]
                never = sum(1 for blocks, _ in settled if blocks is None)
                blocks = [scenario.blocks[phase] if b is None else b for b, _ in settled]
                rows.append([phase_name(scenario, phase), "yes" if scenario.contest(phase) else "no contest", policy,
                             span(blocks, lambda v: f"{v:.0f}"),
                             span([0 if e is None else e for _, e in settled], lambda v: f"{v:.0f}"), never, span(scores), span(champions)])
                if not scenario.contest(phase):
                    continue
                verdicts.add(f"{phase_name(scenario, phase)}: settled score over the best, median", policy,
                             f"{stats.median(better):.3f}", "at most 1.05", stats.median(better) <= NEAR)
                if phase > 0:
                    verdicts.add(f"{phase_name(scenario, phase)}: blocks until settled again", policy,
                                 f"median {stats.median(blocks):.0f}, worst {max(blocks):.0f}, never {never} of {len(blocks)}",
                                 "median 1000, worst 5000", stats.median(blocks) <= 1000 and max(blocks) <= 5000 and never == 0)
    return stats.table(["phase", "contest", "policy", "blocks until settled", "epoch", "never", "settled score over the best",
                        "the champion's as a fixed strategy"], rows)


def regret_table(scenarios):
    rows = []
    for scenario in scenarios:
        name, best = scenario.best_whole()
        for policy in ["static", *POLICIES]:
            regrets = [scenario.whole_score(run) / best - 1 for run in scenario.runs[policy]]
            row = [scenario.name, policy, name, span(regrets, percent)]
            if policy != "static":
                counters = [run["report"]["counters"]["policy." + policy] for run in scenario.runs[policy]]
                row += [f"{stats.median([c[key] for c in counters]):.0f}" for key in ("games", "trials", "changes", "phases")]
                row.append(percent(stats.median([c["budget_used"] for c in counters]) / 1e6))
            rows.append(row + [""] * (9 - len(row)))
    return stats.table(["scenario", "policy", "best single strategy", "regret", "games", "trials", "changes", "phases",
                        "budget used"], rows)


WHOLE = [("wall time", "ns"), ("processor time", "cpu_us"), ("faults", "faults"), ("peak RSS", "peak_kib")]


def whole_table(scenarios, verdicts):
    rows = []
    for scenario in scenarios:
        stays = scenario.static_is_best()
        static = scenario.runs["static"]
        for policy in POLICIES:
            runs = scenario.runs[policy][:len(static)]
            row = [scenario.name, "yes" if stays else "", policy]
            for what, key in WHOLE:
                ratio = stats.paired_ratio([run[key] + 1 for run in runs], [run[key] + 1 for run in static])
                row.append(str(ratio))
                if stays and key == "cpu_us":
                    verdicts.add(f"{scenario.name}: {what} over static, which is best already", policy, str(ratio),
                                 "at most 1.02, not beyond noise", ratio.low <= 1.02)
            row.append(str(stats.paired_ratio([scenario.whole_score(r) for r in runs],
                                              [scenario.whole_score(r) for r in static])))
            rows.append(row)
    return stats.table(["scenario", "static is best", "policy", *(what for what, _ in WHOLE), "score"], rows)


def decision_log(scenarios):
    """Of the first round."""
    text = ""
    for scenario in scenarios:
        for policy in POLICIES:
            report = scenario.runs[policy][0]["report"]["policy"]
            text += f"### {scenario.name}, {policy}\n\n"
            rows = [[s["name"], s["blocks"], s["trials"], s["games"], s["wins"], s["losses"], s["draws"],
                     f"{s['score_thousandths'] / 1000:.3f} +- {s['spread_thousandths'] / 1000:.3f}",
                     f"{s['rating_thousandths'] / 1000:.0f}"] for s in report["strategies"] if s["trials"]]
            text += stats.table(["strategy", "blocks", "trials", "games", "won", "lost", "drawn", "own score", "rating"], rows)
            for change in report["changes"]:
                low, high = change["row"] // SITES, (change["row"] + change["rows"] - 1) // SITES
                text += (f"- block {change['block']}, epoch {change['epoch']}, sizes from 2^{low} to 2^{high + 1}:"
                         f" {change['from']} to {change['to']} ({change['reason']})\n")
            text += "\n"
    return text


def draw(directory, found):
    if not stats.can_plot():
        progress("no gnuplot: no plots")
        return "No gnuplot here, so no plots.\n"
    text = ""
    for (scenario, policy), readings in found.items():
        for index, what in enumerate(("rating", "score")):
            names = sorted({name for _, values in readings for name, pair in values.items() if name in values and pair[index]})
            series = [(n, [(block, values[n][index]) for block, values in readings if n in values and values[n][index]])
                      for n in names]
            if not series:
                continue  # epsilon-greedy has no ratings
            name = f"learning-{scenario}-{policy}-{what}.svg"
            title = f"{scenario}, {policy}: {'rating' if index == 0 else 'mean score, lower is better'}"
            if not stats.curves(os.path.join(directory, name), title, "large blocks", what, series):
                raise lab.Failure(f"gnuplot cannot draw {name}")
            text += f"![{scenario}, {policy}: {what}]({name})\n"
    return text


def written_report(options, scenarios, verdicts, plots):
    facts = lab.machine() + [("runs of each learner", options.runs), ("runs of each fixed strategy", options.fixed),
                             ("seed", options.seed)]
    settled, whole = settled_table(scenarios, verdicts), whole_table(scenarios, verdicts)
    return "\n".join([
        "# Learning\n", stats.table(["", ""], facts),
        *([f"**Only {options.runs} runs: too few for conclusions ({RUNS} are enough).**\n"] if options.runs < RUNS else []),
        "".join(f"- {s.name}: {s.about}; {' and '.join(map(str, s.blocks))} blocks, beginning with {s.baseline}\n"
                for s in scenarios),
        METHOD,
        "That the same seed and samples give the same decisions is shown in `tests/test_learn.c`: two runs never have the same"
        " times.\n",
        "## What must hold\n", stats.table(["what", "policy", "found", "needed", ""], verdicts.rows),
        "## Scores of the fixed strategies\n", scores_table(scenarios),
        "## Until settled\n", settled,
        "## Regret and budget\n", regret_table(scenarios),
        "## Whole runs, learning over static with the baseline\n", whole,
        "## Decisions of the first round\n", decision_log(scenarios), "## Plots\n", plots])


# ---- the command -----------------------------------------------------------------------------------------------------------------


def arguments():
    parser = argparse.ArgumentParser(description="What learning costs and gains, against every fixed strategy.")
    parser.add_argument("--runs", type=int, help=f"processes of each learner and scenario ({RUNS}; quick: 3)")
    parser.add_argument("--fixed", type=int, help=f"processes of each fixed strategy and scenario ({FIXED}; quick: 1)")
    parser.add_argument("--scenarios", default="*", help="comma-separated patterns, such as stream*,thin")
    parser.add_argument("--quick", action="store_true", help="few runs")
    parser.add_argument("--seed", type=int, default=1, help="of the order of runs (1)")
    parser.add_argument("--seconds", type=int, help="stop after about so many; the next call goes on")
    parser.add_argument("--output", default=os.path.join(lab.BUILD, "bench-report"), help="directory (bench-report)")
    options = parser.parse_args()
    options.runs = options.runs or (3 if options.quick else RUNS)
    options.fixed = options.fixed or (1 if options.quick else FIXED)
    options.extra = min(options.runs, 5)
    if options.runs < 1 or options.fixed < 1:
        parser.error("--runs, --fixed: expected 1 or more")
    return options


def run_all(options):
    with tempfile.TemporaryDirectory(prefix="hakmem-bench-") as directory:
        bench, verdicts, strategies = Bench(directory), Verdicts(), Strategies()
        scenarios = [Scenario(name, bench.about[name], strategies) for name in SCENARIOS
                     if any(fnmatch.fnmatch(name, pattern) for pattern in options.scenarios.split(","))]
        if not scenarios:
            raise lab.Failure(f"--scenarios {options.scenarios}: expected some of {', '.join(SCENARIOS)}")
        os.makedirs(options.output, exist_ok=True)
        record = Record(os.path.join(options.output, "learning.jsonl"), options)
        measure_fixed(bench, scenarios, options, record)
        measure_learners(bench, scenarios, options, record)
        idle = count_games(scenarios, verdicts)
        progress("a slow strategy, identical strategies, restarts")
        slow_arm(bench, options, verdicts, record)
        identical_arms(bench, options, verdicts, record)
        restart(bench, options, scenarios, verdicts, record)
        plots = draw(options.output, traces(bench, scenarios, record))
    text = written_report(options, scenarios, verdicts, plots)
    with open(os.path.join(options.output, "learning.md"), "w", encoding="utf-8") as file:
        file.write(text)
    print(text)
    if idle:
        raise lab.Failure(f"no games in any run: {', '.join(idle)}")


if __name__ == "__main__":
    try:
        run_all(arguments())
    except OutOfTime:
        sys.exit(3)
    except lab.Failure as problem:
        sys.exit(f"learning: {problem}")
