"""docs/reference/bounds.md states what the code and the configuration say, and leaves no cache out."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from pydantic import BaseModel

from zt_proxy.config.schema import Schema

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "reference" / "bounds.md").read_text("utf-8")
UNITS = {"": 1, " KiB": 1024, " MiB": 1024**2, " GiB": 1024**3}
CACHES = re.compile(
    r"lru_cache\(|LRUCache\(|TTLCache\(|deque\(\)|\.clear\(\)  # full|^_?(?:REMEMBERED|CAPACITY|HEADS|BLOCKS|QUEUE|WAITING|CACHED|_?KEPT)\b",
    re.M,
)
ELSEWHERE = {
    "worker/wire/target.py": "parsed targets",
    "worker/wire/host.py": "normalised hosts",
    "worker/wire/cookies.py": "cut cookie headers",
    "worker/wire/h1.py": "requests pipelined",
    "worker/edge/connection.py": "bytes thrown away",
}
"""Files whose bounds have no name of their own, and the row that tells of them."""


class Row(NamedTuple):
    what: str
    bound: str
    key: str
    code: str


def rows() -> list[Row]:
    found = []
    for line in TEXT.splitlines():
        if line.startswith("| ") and not line.startswith("| what"):
            what, bound, _, key, code = (cell.strip() for cell in line.strip("|").split("|"))
            found.append(Row(what, bound, key.strip("`"), code.strip("`")))
    return found


def number(bound: str) -> int | None:
    """`64 KiB` → 65536; None for a bound in words."""
    parts = re.fullmatch(r"(\d+)( [KMG]iB)?", bound)
    return int(parts[1]) * UNITS[parts[2] or ""] if parts else None


def constant(name: str) -> Any:
    """The value of `package.module.NAME` or `package.module.Class.NAME` below zt_proxy."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            value: Any = import_module("zt_proxy." + ".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part)
        return value
    raise LookupError(name)


def default(key: str) -> Any:
    """The default of a configuration key, such as `routes[].upstream.max_connections`."""
    model: type[BaseModel] = Schema
    *path, last = key.replace("[]", "").split(".")
    for part in path:
        model = next(_models(model.model_fields[part].annotation))
    return model.model_fields[last].default


def _models(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


@pytest.mark.parametrize("row", [row for row in rows() if row.code], ids=lambda row: row.code)
def test_a_bound_is_the_constant_it_names(row: Row) -> None:
    assert constant(row.code) == number(row.bound)


@pytest.mark.parametrize("row", [row for row in rows() if row.key], ids=lambda row: row.key)
def test_a_bound_is_the_default_of_its_key(row: Row) -> None:
    assert default(row.key) == number(row.bound)


def test_every_file_with_a_cache_or_a_queue_is_told_of() -> None:
    named = {row.code.rpartition(".")[0].replace(".", "/") for row in rows()}
    for package in ("worker", "link", "control", "policy"):
        for path in (ROOT / "zt_proxy" / package).rglob("*.py"):
            if CACHES.search(path.read_text("utf-8")):
                name = path.relative_to(ROOT / "zt_proxy").with_suffix("").as_posix()
                row = ELSEWHERE.get(name + ".py", "")
                assert any(each.startswith(name) for each in named) or (row and row in TEXT), name
