# SPDX-License-Identifier: MIT
"""contest.py - what every benchmark that compares allocators does: cases, who takes part, rounds in random order, the tables that say
who was faster.
"""
import collections
import fnmatch
import random
import sys
import time

import lab
import stats

PROGRESS_SECONDS = 10  # between two lines about a round


class Case:
    """One measured program with its arguments, and what was measured of it."""

    def __init__(self, name, about, arguments):
        self.name, self.about, self.arguments = name, about, arguments
        self.threads = int(arguments[arguments.index("-j") + 1]) if "-j" in arguments else 1
        self.runs = collections.defaultdict(list)  # allocator name -> results, one for each round

    def ns(self, name):
        """Of each round: nanoseconds that one operation took its thread."""
        return [run["ns"] * self.threads / run["operations"] for run in self.runs[name]]

    def middle(self, name, key):
        return stats.median([run[key] for run in self.runs[name]])

    def contestants(self, allocators):
        """Who is measured on this case."""
        return allocators


# ---- who takes part ------------------------------------------------------------------------------------------------------


def chosen(things, patterns):
    return [thing for thing in things if any(fnmatch.fnmatch(thing.name, p) for p in patterns.split(","))]


def configurations(texts, usual):
    """Configurations of hakmem: those of the command line, NAME=INI[;key=value]..., or else the usual ones."""
    for text in texts or []:
        name, equals, rest = text.partition("=")
        ini, _, settings = rest.partition(";")
        if not (name and equals and ini):
            raise lab.Failure(f"--hakmem {text}: expected NAME=INI or NAME=INI;key=value")
        yield lab.hakmem(name, ini, settings)
    if not texts:
        yield from (lab.hakmem(*row) for row in usual)


def contestants(options, usual):
    """The other allocators, the configurations of hakmem, and the names of those that are not here."""
    present, absent = lab.peers()
    peers, ours = chosen(present, options.allocators), chosen(configurations(options.hakmem, usual), options.allocators)
    if len({a.name for a in peers + ours}) < len(peers + ours):
        raise lab.Failure("two allocators of the same name")
    return peers, ours, absent


# ---- rounds --------------------------------------------------------------------------------------------------------------


def progress(text):
    print(f"{sys.argv[0].rsplit('/', 1)[-1].removesuffix('.py')}: {text}", file=sys.stderr, flush=True)


def rounds(cases, allocators, options):
    """Every round takes the cases, and the allocators of each case, in a new order. Yields round, case, allocator."""
    generator, began = random.Random(options.seed), time.monotonic()
    told, done = began, 0
    for number in range(1, options.runs + 1):
        for case in generator.sample(cases, len(cases)):
            those = case.contestants(allocators)
            for allocator in generator.sample(those, len(those)):
                yield number, case, allocator
            done += 1
            now = time.monotonic()
            if now - told > PROGRESS_SECONDS or done % len(cases) == 0:
                left = (now - began) / done * (options.runs * len(cases) - done)
                progress(f"round {number} of {options.runs}, {(done - 1) % len(cases) + 1} of {len(cases)}, {left:.0f} s left")
                told = now


# ---- tables --------------------------------------------------------------------------------------------------------------


def medians_table(cases, allocators):
    rows = []
    for case in cases:
        those = case.contestants(allocators)
        values = {a.name: stats.median(case.ns(a.name)) for a in those}
        best = min(values.values())
        cells = [stats.number(values[a.name]) if a in those else "" for a in allocators]
        rows.append([case.name] + [f"**{c}**" if a in those and values[a.name] == best else c for a, c in zip(allocators, cells)])
    return stats.table(["case", *(a.label for a in allocators)], rows)


def best_peer(case, peers):
    return min(case.contestants(peers), key=lambda peer: stats.median(case.ns(peer.name)))


def versus_table(cases, peers, ours):
    rows = []
    for case in cases:
        best = best_peer(case, peers)
        cells = []
        for allocator in ours:
            ratio = stats.paired_ratio(case.ns(allocator.name), case.ns(best.name))
            cells.append(f"{ratio} " + {-1: "faster", 0: "no difference", 1: "slower"}[ratio.beyond(1)])
        rows.append([case.name, best.name, *cells])
    return stats.table(["case", "best peer", *(a.label for a in ours)], rows)
