#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""latency.py - how long single calls of malloc(64) take while another thread frees gigabytes, under each allocator.

    bench/latency.py [--runs N] [--mib N] [--output DIRECTORY]

From the build directory, after make. Prints the report, and writes it as bench-report/latency.md. bench/latency.c is the measured
program. Each run is a fresh process; a round runs every allocator once, in a random order. Exit status 1 when a process fails,
or when it cannot be proved who served it.
"""
import argparse
import os
import random
import sys
import tempfile

sys.dont_write_bytecode = True  # the source tree stays as it is

import lab  # noqa: E402
import stats  # noqa: E402

SIZES = {"1 MiB": 1 << 20, "64 KiB": 64 << 10, "1 KiB": 1 << 10}  # of the blocks that the other thread frees
QUANTILES = ["p50", "p99", "p99.9", "p99.99", "longest"]


def measure(allocators, program, options):
    """{size: {allocator: [result of each round]}}"""
    generator, found = random.Random(1), {size: {a.label: [] for a in allocators} for size in SIZES}
    for number in range(1, options.runs + 1):
        for size, results in found.items():
            for allocator in generator.sample(allocators, len(allocators)):
                command = [program, "-m", str(options.mib), "-s", str(SIZES[size])]
                results[allocator.label].append(lab.measure(allocator, command))
        print(f"latency: round {number} of {options.runs}", file=sys.stderr, flush=True)
    return found


def report(found, absent, options):
    text = ["# Latency", "", stats.table(["", ""], [list(pair) for pair in lab.machine()]), "",
            f"One thread frees {options.mib} MiB in blocks of one size; another allocates 64 bytes at a time. ns of each malloc, with two "
            f"reads of the clock; medians of {options.runs} processes. The last column: p99.99 of hakmem over that of the best other "
            "allocator in each round, with a 95 % interval.", ""]
    if absent:
        text += ["Not measured: " + ", ".join(absent) + ".", ""]
    for size, results in found.items():
        ours = next(label for label in results if label.startswith("hakmem"))
        others = [label for label in results if label != ours]
        best = min(others, key=lambda label: stats.median([run["p99.99"] for run in results[label]]))
        ratio = stats.paired_ratio([run["p99.99"] for run in results[ours]], [run["p99.99"] for run in results[best]])
        rows = [[label, *(stats.number(stats.median([run[key] for run in runs])) for key in QUANTILES),
                 f"{ratio} of {best}" if label == ours else ""] for label, runs in results.items()]
        text += [f"## Blocks of {size}", "", stats.table(["allocator", *QUANTILES, "p99.99"], rows), ""]
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(description="How long single calls take while another thread frees much.")
    parser.add_argument("--runs", type=int, default=10, help="processes of each allocator and size (10)")
    parser.add_argument("--mib", type=int, default=4096, help="that the other thread frees (4096)")
    parser.add_argument("--output", default="bench-report", help="directory (bench-report)")
    options = parser.parse_args()
    peers, absent = lab.peers()
    with tempfile.TemporaryDirectory(prefix="hakmem-bench-") as directory:
        program = os.path.join(directory, "latency")
        lab.compile_program("bench/latency.c", program)
        text = report(measure([lab.hakmem("default", "etc/hakmem.ini", ""), *peers], program, options), absent, options)
    os.makedirs(options.output, exist_ok=True)
    with open(os.path.join(options.output, "latency.md"), "w", encoding="utf-8") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    try:
        main()
    except lab.Failure as failure:
        sys.exit(f"latency: {failure}")
