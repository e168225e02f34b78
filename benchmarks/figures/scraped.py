"""What the proxy says of itself: values of its metrics, and the commands of its processes."""

import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.proxy import RunningProxy


def values(proxy: RunningProxy, name: str) -> list[tuple[dict[str, str], float]]:
    """Labels and value of each sample of a metric."""
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.metrics_port}/metrics", timeout=10) as answer:
        text = answer.read().decode("utf-8")
    return [
        (dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]


def command(pid: int) -> bytes:
    """The command line of a process, its words apart by blanks."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
