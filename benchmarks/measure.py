"""CPU time and memory of a process tree from /proc, the load by `wrk`, and the checks that the answers were right.

CPU time is utime + stime of a process and of all its descendants, living or reaped (proc(5), fields 14 to 17 of
/proc/PID/stat): a helper process that dies during the measurement is counted through its parent. A process that was
orphaned to init would escape; servers under test are therefore started in the foreground.
"""

import hashlib
import http.client
import json
import os
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.servers import Server

CONNECTIONS = 16
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_REPORT_MARK = "zt-report "
# wrk counts only statuses above 399 as errors; `measure_load` finds a stray redirect by the upstream's own count.
_REPORT_SCRIPT = f"""
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{_REPORT_MARK}{{"requests":%d,"bytes":%d,"error_connect":%d,"error_read":%d,'
    .. '"error_write":%d,"error_status":%d,"error_timeout":%d}}\\n',
    summary.requests, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout))
end
"""
_COOKIES_SCRIPT = """
local cookies, turn = {%s}, 0
request = function()
  turn = turn %% #cookies + 1
  return wrk.format(nil, nil, {["Cookie"] = cookies[turn]})
end
"""


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """One line of /proc/PID/stat: CPU time in clock ticks with that of reaped children, resident memory in pages."""

    pid: int
    parent: int
    ticks: int
    resident_pages: int


def parse_stat(line: str) -> ProcessStat:
    """Read a /proc/PID/stat line; the command name may hold blanks and `)`, so fields count from its last one."""
    pid = int(line[: line.index(" ")])
    fields = line[line.rindex(")") + 2 :].split()
    ticks = sum(int(value) for value in fields[11:15])
    return ProcessStat(pid=pid, parent=int(fields[1]), ticks=ticks, resident_pages=int(fields[21]))


def tree(root: int) -> list[ProcessStat]:
    """The process and all its living descendants; `BenchmarkError` when the process is gone."""
    found: dict[int, ProcessStat] = {}
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = parse_stat((entry / "stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended between the listing and the reading
        found[stat.pid] = stat
        children.setdefault(stat.parent, []).append(stat.pid)
    if root not in found:
        raise BenchmarkError(f"process {root} is gone")
    members, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        members.append(found[pid])
        waiting.extend(children.get(pid, []))
    return members


def cpu_seconds(root: int) -> float:
    """CPU time that the tree has used since its start, in seconds, at the kernel's tick (10 ms)."""
    return sum(stat.ticks for stat in tree(root)) / _TICKS_PER_SECOND


def resident_mib(pid: int) -> float:
    """Resident memory of one process in MiB."""
    stat = next(stat for stat in tree(pid) if stat.pid == pid)
    return stat.resident_pages * _PAGE_BYTES / 1024**2


def resident_kib(root: int) -> float:
    """Resident memory of the tree in KiB; pages shared between its processes count in each, so compare growth only."""
    return sum(stat.resident_pages for stat in tree(root)) * _PAGE_BYTES / 1024


def settled_cpu_seconds(root: int, *, limit: float = 2.0) -> float:
    """CPU time once the tree has come to rest, so that the end of a load's connections is counted with it."""
    deadline = time.monotonic() + limit
    seen = cpu_seconds(root)
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = cpu_seconds(root)
        if now == seen:
            break
        seen = now
    return seen


@dataclass(frozen=True, slots=True)
class Load:
    """What `wrk` received, and the CPU time in seconds that the server's tree spent on it."""

    requests: int
    bytes: int
    cpu: float

    @property
    def microseconds_per_request(self) -> float:
        """CPU time per answered request in µs."""
        return self.cpu / self.requests * 1e6

    @property
    def megabytes_per_cpu_second(self) -> float:
        """Bytes received per second of CPU time, in MB (10^6)."""
        return self.bytes / self.cpu / 1e6


@dataclass(frozen=True, slots=True)
class Resource:
    """A path of the upstream with the length and SHA-256 of its body."""

    path: str
    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Wrk:
    """Where and how the load is made: a folder for the report script, the core to run on, the upstream that counts."""

    workdir: Path
    core: int
    upstream: Server

    def measure(
        self,
        server: Server,
        resource: Resource,
        seconds: int,
        *,
        through: Server | None = None,
        connections: int = CONNECTIONS,
        cookies: Sequence[str] = (),
    ) -> Load:
        """Load the server with keep-alive TLS connections for whole seconds; the CPU time is the server's alone.

        `through` is what is asked in its place and passes everything on to it. With `cookies` each request bears the
        next one. `BenchmarkError` when an answer failed, when a request did not reach the upstream, or when nothing
        came.
        """
        asked = through or server
        probe(asked, resource)
        served = requests_served(self.upstream)
        before = cpu_seconds(server.pid)
        report = self._run(asked, resource, seconds, connections, cookies)
        cpu = settled_cpu_seconds(server.pid) - before
        check_report(report, resource, requests_served(self.upstream) - served - 1, server.name, connections)
        if cpu <= 0:
            raise BenchmarkError(f"{server.name} used no CPU time under load: its process tree was not found whole")
        return Load(requests=report["requests"], bytes=report["bytes"], cpu=cpu)

    def _run(
        self, server: Server, resource: Resource, seconds: int, connections: int, cookies: Sequence[str]
    ) -> dict[str, int]:
        script = self.workdir / "report.lua"
        script.write_text(
            _REPORT_SCRIPT + (_COOKIES_SCRIPT % ",".join(f"'{each}'" for each in cookies) if cookies else "")
        )
        command = [
            "taskset",
            "-c",
            str(self.core),
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "30s",
        ]
        command += ["-s", str(script)]
        if server.cookie and not cookies:
            command += ["-H", f"Cookie: {server.cookie}"]
        command.append(server.url(resource.path))
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        if done.returncode != 0:
            raise BenchmarkError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
        return parse_report(done.stdout)


def parse_report(output: str) -> dict[str, int]:
    """The report line of `wrk`'s output as counts: requests, bytes and `error_*` for each kind."""
    for line in output.splitlines():
        if line.startswith(_REPORT_MARK):
            report: dict[str, int] = json.loads(line.removeprefix(_REPORT_MARK))
            return report
    raise BenchmarkError(f"wrk printed no report: {output.strip()}")


def check_report(
    report: dict[str, int], resource: Resource, served: int, name: str, connections: int = CONNECTIONS
) -> None:
    """Refuse a load in which something went wrong: `served` is how many requests the upstream counted meanwhile.

    Every answer must have come from the upstream: the counts may differ by what was in flight when the load stopped. A
    denial, a redirect to a sign-in or an answer from a cache is found by that without reading each answer.
    """
    errors = {kind: count for kind, count in report.items() if kind.startswith("error_") and count}
    if errors:
        raise BenchmarkError(f"{name} answered wrongly under load: {errors} of {report['requests']} requests")
    if report["requests"] == 0:
        raise BenchmarkError(f"{name} answered no request in the time given")
    if abs(served - report["requests"]) > 2 * connections:
        raise BenchmarkError(f"{name} answered {report['requests']} requests, but {served} reached the upstream")
    if report["bytes"] < report["requests"] * resource.length:
        raise BenchmarkError(
            f"{name} sent {report['bytes']} bytes in {report['requests']} answers of {resource.length}"
        )


def probe(server: Server, resource: Resource) -> None:
    """Ask once and compare status, length and content with the upstream's; `BenchmarkError` when they differ."""
    if server.authority:
        context = ssl.create_default_context(cafile=server.authority)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            server.host, server.port, context=context, timeout=30
        )
    else:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("GET", resource.path, headers={"Cookie": server.cookie} if server.cookie else {})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchmarkError(
            f"{server.name} does not answer {resource.path}: {error!r}\n{server.log_tail()}"
        ) from error
    finally:
        connection.close()
    if response.status != 200:
        raise BenchmarkError(f"{server.name} answered {response.status} to {resource.path}\n{server.log_tail()}")
    if len(body) != resource.length or hashlib.sha256(body).hexdigest() != resource.sha256:
        raise BenchmarkError(f"{server.name} changed {resource.path}: {len(body)} bytes for {resource.length}")


def requests_served(upstream: Server) -> int:
    """How many requests the upstream has counted so far, this one included (nginx's stub_status)."""
    with urllib.request.urlopen(upstream.url("/status"), timeout=10) as response:
        lines = response.read().decode("ascii").splitlines()
    return int(lines[2].split()[2])
