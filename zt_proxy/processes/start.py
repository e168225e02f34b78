"""`zt-proxy run`: read the configuration, then serve it in one process or in several."""

import asyncio
import gc
import os
import sys
from pathlib import Path

import structlog

from zt_proxy.config import ConfigurationProblems, read
from zt_proxy.core import descriptors, logs

log = structlog.get_logger("zt_proxy")


def main(config: Path) -> int:
    """Serve `config` until SIGTERM or SIGINT; gives the exit code."""
    try:
        built = read(config)
    except ConfigurationProblems as problems:
        sys.stderr.write(f"{problems}\n")
        return 1
    logs.configure(built.log.format, built.log.level)
    for warning in built.warnings:
        log.warning("configuration", problem=str(warning))
    clients = descriptors.for_clients(descriptors.raise_limit())
    if built.worker.limits.connections > clients:
        log.warning(
            "fewer descriptors than connections", connections=built.worker.limits.connections, enough_for=clients
        )
    if os.geteuid() == 0:
        log.warning("running as root; nothing here needs it but ports below 1024 (CAP_NET_BIND_SERVICE gives those)")
    if built.workers:
        from zt_proxy.processes import supervisor

        structlog.contextvars.bind_contextvars(process="supervisor")
        return asyncio.run(supervisor.serve(config, built))

    import uvloop

    from zt_proxy.processes import single

    # The path makes little garbage in cycles; the default threshold costs 2 % of it.
    gc.set_threshold(50_000, 20, 20)
    return uvloop.run(single.serve(config, built))
