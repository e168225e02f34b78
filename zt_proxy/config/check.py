"""Everything that can be wrong beyond a single key. Reads files, changes nothing."""

from zt_proxy.config.load import Loaded
from zt_proxy.config.problems import Collector, Problem
from zt_proxy.core.clock import Clock


def check(loaded: Loaded, clock: Clock | None = None) -> list[Problem]:
    """Every problem of the file, those of `load` included, in the order of the file."""
    problems = Collector(loaded.path, loaded.problems)
    return problems.sorted()
