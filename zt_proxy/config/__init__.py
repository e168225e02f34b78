"""The operator's file: `load` → `check` → `build`, or `read` for all three.

`load` understands the YAML, `check` gathers every problem and changes nothing, `build` makes the plain settings that
`worker` and `control` declare.
"""

from pathlib import Path

from zt_proxy.config.build import Built, LogSettings, build
from zt_proxy.config.check import check
from zt_proxy.config.load import Loaded, load, load_text
from zt_proxy.config.problems import ConfigurationProblems, Mark, Problem, Severity

__all__ = [
    "Built",
    "ConfigurationProblems",
    "Loaded",
    "LogSettings",
    "Mark",
    "Problem",
    "Severity",
    "build",
    "check",
    "load",
    "load_text",
    "read",
]


def read(path: Path) -> Built:
    """Settings of the file at `path`. Raises ConfigurationProblems, with all of them, when there is any error."""
    loaded = load(path)
    problems = check(loaded)
    if any(problem.severity is Severity.ERROR for problem in problems):
        raise ConfigurationProblems(problems)
    return build(loaded, tuple(problems))
