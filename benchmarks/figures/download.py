"""Bytes per CPU-second of 10 MiB downloads over TLS, over those of bare nginx."""

from benchmarks.bench import LARGE, Bench
from benchmarks.rounds import Gate, Outcome

GATE = Gate("download_ratio", 0.7, at_most=False)


def measure(bench: Bench) -> Outcome:
    """Rounds of downloads through the proxy and through nginx; the value is the median of the rounds' ratios."""
    seconds = bench.scale.download_seconds
    bench.progress.title("download: bytes of 10 MiB bodies per second of CPU time")
    proxy, nginx = bench.shared_proxy(), bench.shared_nginx()
    ratio, side = bench.compare(
        {
            "proxy": lambda: bench.wrk.measure(proxy, LARGE, seconds).megabytes_per_cpu_second,
            "nginx": lambda: bench.wrk.measure(nginx, LARGE, seconds).megabytes_per_cpu_second,
        },
        "proxy",
        "nginx",
        "proxy/nginx",
        "MB/s",
    )
    return Outcome(
        GATE, ratio.median, {"download_mb_s": side["proxy"].median, "nginx_download_mb_s": side["nginx"].median}
    )
