# SPDX-License-Identifier: MIT
"""programs.py - real programs as cases of the suite: what each works on, how it is run, and the proof of who served it.

A program is run by bench/suite/launch.c. Who serves it is proved by an extra run with one more preloaded library, which says whose
malloc is in force (bench/suite/witness.c), and under hakmem by the calls in its own report. What a program prints must be the same
in every run. glibc is preloaded, too, since a program may be linked with another allocator.
"""
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import contest
import lab

PATIENCE = 20  # seconds for a server to start or end


class Bench:
    """The compiled helpers, and where files go."""

    def __init__(self, directory):
        self.directory = directory
        self.launch, self.witness = self.path("launch"), self.path("witness.so")
        lab.compile_program("bench/suite/launch.c", self.launch)
        lab.compile_program("bench/suite/witness.c", self.witness, "-shared", "-fPIC")

    def path(self, name):
        return os.path.join(self.directory, name)


def variables_of(allocator):
    return allocator.environment or {"LD_PRELOAD": lab.libraries()["libc.so.6"]}


class Program(contest.Case):
    """A program that does its work and ends."""

    group, in_time_mean, unit = "programs", True, "ms"

    def __init__(self, name, about, command, variables=None):
        super().__init__(name, about, [])
        self.command, self.variables, self.digest = command, variables or {}, None

    def ns(self, name):
        return [run["ns"] / 1e6 for run in self.runs[name]]

    def execute(self, bench, variables):
        """One run: its figures and a digest of what it printed."""
        output = bench.path("output")
        assignments = [f"{name}={value}" for name, value in {**self.variables, **variables}.items()]
        result = json.loads(lab.run([bench.launch, output, *assignments, *self.command], {}))
        with open(output, "rb") as file:
            printed = file.read()
        if result["status"] != 0:
            raise lab.Failure(f"status {result['status']}: {printed[-200:].decode(errors='replace').strip()}")
        return result, hashlib.sha256(printed).hexdigest()

    def measure(self, bench, allocator, more=None):
        try:
            result, digest = self.execute(bench, {**variables_of(allocator), **(more or {})})
            self.digest = self.digest or digest
            if digest != self.digest:
                raise lab.Failure("it did not print what it printed in the first run")
        except (lab.Failure, ValueError, OSError) as failure:
            raise lab.Failure(f"{allocator.label}: {self.name}: {failure}") from None
        return result

    def prove(self, bench, allocator):
        """An extra run that shows who serves. Returns the calls that hakmem counted, 0 for others."""
        variables = dict(variables_of(allocator))
        variables["WITNESS"] = bench.path("testimony")
        variables["LD_PRELOAD"] = bench.witness + " " + variables["LD_PRELOAD"]
        if allocator.is_hakmem:
            os.makedirs(bench.path("reports"))
            variables["HAKMEM_SET"] += f";stats.exit=json;stats.file={bench.path('reports')}/%p"
        self.measure(bench, allocator, variables)
        try:
            testimony = lab.text_of(variables["WITNESS"]).splitlines()
            for found in testimony or [""]:
                lab.prove_object(allocator, found)
            return self.counted(bench) if allocator.is_hakmem else 0
        except lab.Failure as failure:
            raise lab.Failure(f"{allocator.label}: {self.name}: {failure}") from None
        finally:
            if os.path.exists(variables["WITNESS"]):
                os.unlink(variables["WITNESS"])
            shutil.rmtree(bench.path("reports"), ignore_errors=True)

    def counted(self, bench):
        reports = [json.loads(lab.text_of(os.path.join(bench.path("reports"), name))) for name in os.listdir(bench.path("reports"))]
        calls = sum(backend["allocs"] for report in reports for name, backend in report["backends"].items() if name != "boot")
        if calls == 0:
            raise lab.Failure("hakmem counted no allocs, expected some")
        return calls


# ---- a server ------------------------------------------------------------------------------------------------------------


class Redis(Program):
    """redis-server, driven over a Unix socket by redis-benchmark, which is measured only as far as it waits."""

    WORK = ["-t", "set,lpush,rpop,hset", "-n", "50000", "-r", "50000", "-d", "150", "-c", "20", "-P", "8", "-q"]

    def execute(self, bench, variables):
        path = bench.path("redis")
        command = [*self.command, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", bench.directory]
        with subprocess.Popen(command, env=lab.environment(variables), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as server:
            try:
                result = self.drive(path, server)
            finally:
                server.terminate()
                status = server.wait(PATIENCE)
        if status != 0:
            raise lab.Failure(f"status {status}")
        return result, "intact"

    def drive(self, path, server):
        value = "".join(str(i) for i in range(3000))
        with connected(path, server) as client:
            ask(client, f"SET suite:kept {value}", "+OK")
            cpu, faults = used(server.pid)
            start = time.monotonic_ns()
            lab.run([lab.find_tool("redis-benchmark"), "-s", path, *self.WORK], {})
            ns = time.monotonic_ns() - start
            after_cpu, after_faults = used(server.pid)
            result = {"ns": ns, "cpu_us": after_cpu - cpu, "faults": after_faults - faults,
                      "peak_kib": kib_of(server.pid, "status", "VmHWM:"), "live_kib": kib_of(server.pid, "smaps_rollup", "Rss:")}
            ask(client, "GET suite:kept", f"${len(value)}\r\n{value}")
            ask(client, "FLUSHALL SYNC", "+OK")
            result["freed_kib"] = kib_of(server.pid, "smaps_rollup", "Rss:")
        return result


def connected(path, server):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        try:
            client.connect(path)
            ask(client, "PING", "+PONG")
            return client
        except (OSError, lab.Failure):
            client.close()
            time.sleep(0.01)
    raise lab.Failure("the server does not answer")


def ask(client, request, expected):
    client.sendall(request.encode() + b"\r\n")
    answer = b""
    while len(answer) < len(expected) + 2:
        part = client.recv(65536)
        if not part:
            break
        answer += part
    if answer.decode(errors="replace") != expected + "\r\n":
        raise lab.Failure(f"{request[:20]}: found {answer[:40]!r}")


def used(pid):
    """User and system time in us, minor faults."""
    fields = lab.text_of(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000000 // os.sysconf("SC_CLK_TCK"), int(fields[7])


def kib_of(pid, file, key):
    for line in lab.text_of(f"/proc/{pid}/{file}").splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise lab.Failure(f"no {key} of process {pid}")


# ---- which there are -----------------------------------------------------------------------------------------------------


def compiler(bench):
    """cc1 and a preprocessed file, or None."""
    cc1 = lab.output_of("gcc", "-print-prog-name=cc1")
    if not os.path.isabs(cc1):
        return None
    source = bench.path("large.i")
    backends = os.path.join(lab.SOURCE, "plugins", "backend")
    lab.run(["gcc", "-E", "-I" + os.path.join(lab.SOURCE, "include"), "-o", source, os.path.join(backends, "extent.c")], {})
    return [cc1, "-quiet", "-fpreprocessed", "-O2", source, "-o", "-"]


def all_programs(bench):
    """The programs that are here, and the names of those that are not."""

    def found(tool, *arguments):
        path = lab.find_tool(tool)
        return [path, *arguments] if path else None

    def work(suffix):
        return os.path.join(lab.SOURCE, "bench", "suite", "work." + suffix)

    here = [sys.executable, "-B", "-S", work("py")]
    seeded = {"PYTHONHASHSEED": "0"}
    both = found("redis-server") if lab.find_tool("redis-benchmark") else None
    rows = [
        Program("gcc", "cc1 -O2 of plugins/backend/extent.c", compiler(bench) if lab.find_tool("gcc") else None),
        Program("lua", "tables, strings and a sort", found("lua", work("lua"))),
        Program("node", "JSON, buffers, digests, compression", found("node", work("js"))),
        Program("perl", "hashes, records, joins and substitutions", found("perl", work("pl")), {"PERL_HASH_SEED": "0"}),
        Program("python3", "trees, dictionaries, JSON; its own allocator in front", here, seeded),
        Program("python3-malloc", "the same, every object from malloc", here, {**seeded, "PYTHONMALLOC": "malloc"}),
        Redis("redis", "a server, 50000 each of set, lpush, rpop and hset", both),
        Program("sqlite3", "a table in memory: insert, index, sort, join, delete", found("sqlite3", ":memory:", ".read " + work("sql"))),
    ]
    return [row for row in rows if row.command], [row.name for row in rows if not row.command]
