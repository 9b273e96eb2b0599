# SPDX-License-Identifier: MIT
"""lab.py - what the benchmarks measure with: the build under test, the allocators to compare, one measured process, the machine.

A measurement counts only when it is proved who served it. Every measured program prints a line of JSON that says which object
malloc belongs to and, under hakmem, how many calls hakmem has counted; `measure` compares both with what must be.
"""
import collections
import datetime
import json
import os
import platform
import re
import shutil
import subprocess

SOURCE = os.path.abspath(os.environ.get("TOP_SRCDIR", os.path.join(os.path.dirname(__file__), "..")))
BUILD = os.path.abspath(os.environ.get("TOP_BUILDDIR", "."))
LIBRARY = os.path.join(BUILD, ".libs", "libhakmem.so")
PLUGINS = os.path.join(BUILD, "plugins", ".libs")
SECONDS = 300  # longest life of a measured process

# Other allocators: name, library, Debian package.
PEERS = [
    ("mimalloc", "libmimalloc.so.2", "libmimalloc2.0"),
    ("jemalloc", "libjemalloc.so.2", "libjemalloc2"),
    ("tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
]


class Failure(Exception):
    """A process that failed, or a proof that does not hold."""


# ---- tools ---------------------------------------------------------------------------------------------------------------


def find_tool(name):
    """A program, also where the path of an ordinary user does not look."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def output_of(*command):
    """What a command prints, without the last line break; nothing when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def text_of(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def compile_program(source, output, *more):
    """Compiles one measured program, so that no call of malloc or free is optimised away."""
    command = [*os.environ.get("CC", "cc").split(), "-std=c11", "-O2", "-fno-builtin", "-pthread"]
    command += ["-I" + os.path.join(SOURCE, "include"), "-o", output, os.path.join(SOURCE, source), *more, "-ldl"]
    if subprocess.run(command, check=False).returncode != 0:
        raise Failure(f"cannot compile {source}")


# ---- allocators ----------------------------------------------------------------------------------------------------------


class Allocator:
    """One competitor: its environment, and the file that malloc must come from."""

    def __init__(self, name, library, environment, is_hakmem, version):
        self.name, self.library, self.environment, self.is_hakmem, self.version = (
            name, library, environment, is_hakmem, version)

    @property
    def label(self):
        return "hakmem " + self.name if self.is_hakmem else self.name

    def with_settings(self, settings):
        """The environment with more of HAKMEM_SET."""
        return {**self.environment, "HAKMEM_SET": self.environment["HAKMEM_SET"] + ";" + settings}


def libraries():
    """What the dynamic linker knows: {name: path} of libraries for this machine."""
    found = {}
    for name, path in re.findall(r"^\s*(\S+) \(.*\) => (\S+)$", output_of(find_tool("ldconfig") or "ldconfig", "-p"), re.M):
        found.setdefault(name, path)
    return found


def peers():
    """The other allocators that are here, glibc first; and the names of those that are not."""
    known, present, absent = libraries(), [Allocator("glibc", "libc.so.6", {}, False, " ".join(platform.libc_ver()))], []
    for name, library, package in PEERS:
        if library not in known:
            absent.append(f"{name} ({library} is not installed)")
            continue
        version = output_of("dpkg-query", "-W", "-f", "${Version}", package)
        path = os.path.realpath(known[library])
        present.append(Allocator(name, path, {"LD_PRELOAD": known[library]}, False, version or os.path.basename(path)))
    return present, absent


def hakmem(name, ini, settings):
    """A configuration of the build under test. The INI is relative to the source tree unless it is a file here."""
    path = os.path.abspath(ini if os.path.exists(ini) else os.path.join(SOURCE, ini))
    if not os.path.exists(path):
        raise Failure(f"{name}: no {ini}")
    items = [f"core.plugin_path={PLUGINS}", "core.strict=on", *([settings] if settings else [])]
    environment = {"LD_PRELOAD": LIBRARY, "HAKMEM_CONF": path, "HAKMEM_SET": ";".join(items)}
    version = os.path.relpath(path, SOURCE) + (", " + settings if settings else "")
    return Allocator(name, os.path.realpath(LIBRARY), environment, True, version)


# ---- one process ---------------------------------------------------------------------------------------------------------


def environment(more):
    """Nothing of the caller's: variables of allocators and of the dynamic linker would change what is measured."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", **more}


def run(command, more):
    """What a process prints; its environment is nothing but the usual and `more`."""
    try:
        done = subprocess.run(command, env=environment(more), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Failure(f"no end after {SECONDS} s") from None
    if done.returncode != 0 or done.stderr:
        first = (done.stderr.strip() or "no message").splitlines()[0]
        raise Failure(f"status {done.returncode}: {first}")
    return done.stdout


def prove_object(allocator, found):
    """Raises Failure unless malloc belongs to this allocator."""
    expected = allocator.library
    same = os.path.realpath(found) == expected if os.path.isabs(expected) else os.path.basename(found) == expected
    if not same:
        raise Failure(f"malloc belongs to {found or 'an unknown object'}, expected {expected}")


def prove(allocator, result):
    """Raises Failure unless the process was served by this allocator.

    hakmem counts a realloc as a block and a free when the block moves to another backend or class, and else not as such.
    """
    prove_object(allocator, result["malloc"])
    if allocator.is_hakmem:
        blocks, moves = result["blocks"], result.get("reallocs", 0)
        expected = f"{blocks} to {blocks + moves}" if moves else f"{blocks}"
        for key in ("allocs", "frees"):
            if not blocks <= result.get(key, -1) <= blocks + moves:
                raise Failure(f"hakmem counted {result.get(key, 'no')} {key}, expected {expected}, the calls made")
        if result["allocs"] != result["frees"]:
            raise Failure(f"hakmem counted {result['allocs']} allocs and {result['frees']} frees, expected as many")


def measure(allocator, command, variables=None):
    """Runs a measured program under an allocator: its line of JSON, once it is proved who served it."""
    try:
        result = json.loads(run(command, allocator.environment if variables is None else variables))
        prove(allocator, result)
    except (Failure, ValueError) as failure:
        raise Failure(f"{allocator.label}: {os.path.basename(command[0])} {' '.join(command[1:])}: {failure}") from None
    return result


def report_of(allocator, command, path):
    """The statistics that hakmem reports at the end of an extra run, as a dictionary."""
    measure(allocator, command, allocator.with_settings(f"stats.exit=json;stats.file={path}"))
    try:
        report = json.loads(text_of(path))
        os.unlink(path)
    except (OSError, ValueError) as error:
        raise Failure(f"{allocator.label}: no usable report: {error}") from None
    return report


def system_calls(allocator, command, path):
    """System calls of an extra run by kind, threads included."""
    settings = [word for name, value in allocator.environment.items() for word in ("-E", f"{name}={value}")]
    run([find_tool("strace"), "-f", "-c", "-o", path, *settings, *command], {})
    calls = collections.Counter()
    for count, name in re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?([a-z_0-9]+)$", text_of(path), re.M):
        if name != "total":
            calls[name] = int(count)
    os.unlink(path)
    return calls


def instructions(allocator, command, path):
    """What callgrind counts in an extra run: instructions, and the line of JSON."""
    valgrind = [find_tool("valgrind"), "--log-file=/dev/null", "--tool=callgrind", "--soname-synonyms=somalloc=NONE",
                "--callgrind-out-file=" + path]
    result = measure(allocator, [*valgrind, *command])
    counted = re.search(r"^(?:totals|summary): (\d+)", text_of(path), re.M)
    os.unlink(path)
    if counted is None:
        raise Failure(f"{allocator.label}: no count from callgrind")
    return int(counted[1]), result


# ---- the machine ---------------------------------------------------------------------------------------------------------


def _field(path, pattern):
    found = re.search(pattern, text_of(path), re.M)
    return found[1] if found else "unknown"


def machine():
    """What a reader must know to compare the figures: a list of (name, value)."""
    huge = "/sys/kernel/mm/transparent_hugepage/"
    governor = text_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "not reported"
    virtual = output_of("systemd-detect-virt") or ("yes" if " hypervisor " in text_of("/proc/cpuinfo") else "not detected")
    commit = output_of("git", "-C", SOURCE, "describe", "--always", "--dirty")
    version = output_of(os.path.join(BUILD, "tools", "hakmem"), "--version").replace("hakmem ", "") or "unknown"
    return [
        ("date", datetime.datetime.now(datetime.timezone.utc).strftime("%F %T UTC")),
        ("processor", _field("/proc/cpuinfo", r"^model name\s*: (.*)$") + f", {os.cpu_count()} online"),
        ("governor; virtual machine", f"{governor}; {virtual}"),
        ("memory", str(int(_field("/proc/meminfo", r"^MemTotal: *(\d+)")) // 1024) + " MiB"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("transparent huge pages", f"{text_of(huge + 'enabled') or 'none'}; defrag {text_of(huge + 'defrag') or 'none'}"),
        ("load average", text_of("/proc/loadavg")),
        ("libc", " ".join(platform.libc_ver())),
        ("compiler", (output_of(*os.environ.get("CC", "cc").split(), "--version") or "unknown").splitlines()[0]),
        ("hakmem", version + (f", commit {commit}" if commit else "")),
    ]
