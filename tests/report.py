#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""report.py - checks and reads hakmem's reports.

    report.py json FILE...         each is JSON that adds up
    report.py prometheus FILE      well-formed exposition text
    report.py sums FILE...         one word per backend with its allocations, summed over the files, and foreign=N
    report.py get FILE PATH...     one value per PATH, such as backends/mmap/allocs; nothing for what is missing

Checks are silent and exit 0; what does not hold is one line each, and exit 1.
"""
import json
import re
import sys

problems = []


def expect(good, text):
    if not good:
        problems.append(text)


def check_json(path):
    with open(path) as file:
        report = json.load(file)
    totals, backends = report["totals"], report["backends"]
    for key in ("allocs", "frees", "resizes", "allocated"):
        found = sum(backend[key] for backend in backends.values())
        expect(found == totals[key], f"{path}: {key} of backends: found {found}, expected {totals[key]}")
    for name, backend in backends.items():
        live = backend["allocs"] - backend["frees"]
        expect(backend["live"] == live, f"{path}: live of {name}: found {backend['live']}, expected {live}")
        expect(backend["mallocs_in_callbacks"] == 0, f"{path}: {name}: found mallocs in callbacks, expected none")
    expect(totals["active"] >= totals["allocated"], f"{path}: found active {totals['active']}, expected allocated or more")
    paged = sum(b["allocated"] for b in backends.values() if b["granularity"] == "page")
    expect(totals["mapped"] >= paged, f"{path}: found mapped {totals['mapped']}, expected {paged} of page backends or more")
    classes = sum(c["allocs"] for c in report["classes"])
    expect(classes <= totals["allocs"], f"{path}: found {classes} allocations in classes, expected at most all")
    for c in report["classes"]:
        name = f"{path}: class of {c['bytes']} bytes"
        live = c["allocs"] - c["frees"]
        expect(c["live"] == live, f"{name}: found live {c['live']}, expected {live}")
        expect(c["allocated"] == live * c["bytes"], f"{name}: found allocated {c['allocated']}, expected {live * c['bytes']}")
        held = (c["live"] + c["cached"]) * c["bytes"]
        expect(c["span"] >= held, f"{name}: found {c['span']} bytes in spans, expected {held} of objects or more")
        expect(c["unused"] == c["span"] - held, f"{name}: found {c['unused']} unused, expected {c['span'] - held}")
    small = [b for b in backends.values() if b["granularity"] == "class"]
    if small:
        for key in ("allocs", "frees", "live", "allocated"):
            found, expected = sum(c[key] for c in report["classes"]), sum(b[key] for b in small)
            expect(found == expected, f"{path}: {key} of classes: found {found}, expected {expected}")
    policy = report["policy"]
    for arm in policy["champions"]:
        expect(arm < len(policy["strategies"]), f"{path}: found strategy {arm}, expected below {len(policy['strategies'])}")


def check_prometheus(path):
    types, seen, current = {}, set(), None
    for number, line in enumerate(open(path), 1):
        line = line.rstrip("\n")
        head = re.fullmatch(r"# TYPE (hakmem_[a-z0-9_]+) (counter|gauge)", line)
        if head:
            current = head[1]
            expect(current not in types, f"{path}:{number}: found {current} again, expected one group each")
            counts = current.endswith("_total")
            expect((head[2] == "counter") == counts, f"{path}:{number}: found {line}, expected _total for counters only")
            types[current] = head[2]
            continue
        sample = re.fullmatch(r'((hakmem_[a-z0-9_]+)(\{[a-z]+="(?:[^"\\\n]|\\.)*"\})?) ([0-9]+)', line)
        expect(sample is not None, f"{path}:{number}: found {line!r}, expected a sample")
        if sample:
            expect(sample[2] == current, f"{path}:{number}: found {sample[2]}, expected it under its own type")
            expect(sample[1] not in seen, f"{path}:{number}: found {sample[1]} twice, expected once")
            seen.add(sample[1])
    for name in ("hakmem_allocs_total", "hakmem_resident_bytes", "hakmem_backend_allocs_total"):
        expect(name in types, f"{path}: found no {name}, expected it")


def sums(paths):
    total, foreign = {}, 0
    for path in paths:
        try:
            with open(path) as file:
                report = json.load(file)
        except (OSError, ValueError):
            continue  # a process that was killed while it wrote
        foreign += report["totals"]["foreign"]
        for name, backend in report["backends"].items():
            total[name] = total.get(name, 0) + backend["allocs"]
    print(" ".join(f"{name}={count}" for name, count in sorted(total.items())), f"foreign={foreign}", f"processes={len(paths)}")


def get(path, keys):
    with open(path) as file:
        report = json.load(file)
    for key in keys:
        value = report
        for part in key.split("/"):
            if isinstance(value, list):
                value = value[int(part)] if int(part) < len(value) else ""
            else:
                value = value.get(part, "") if isinstance(value, dict) else ""
        print(value)


def main():
    command, rest = sys.argv[1], sys.argv[2:]
    if command == "json":
        for path in rest:
            check_json(path)
    elif command == "prometheus":
        check_prometheus(rest[0])
    elif command == "sums":
        sums(rest)
    elif command == "get":
        get(rest[0], rest[1:])
    for problem in problems:
        print(problem)
    return 1 if problems else 0


sys.exit(main())
