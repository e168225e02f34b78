"""What a configuration rests on beyond its own text: the files it names, and how many cores there are."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from zt_proxy.config.schema_base import Model
from zt_proxy.config.secrets import SecretReference

_MADE_BY_THE_PROXY = frozenset({"socket", "state_dir", "runtime_dir", "directory"})
_WATCHED_BY_CONTROL = frozenset({"crl", "crls", "country_database", "asn_database"})
"""Revocation lists and address databases change without the configuration; control reads them on its own."""
_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def files(path: Path, schema: Model, *settings: msgspec.Struct) -> tuple[Path, ...]:
    """The YAML file, and every certificate, key, authority and secret that it names; sorted, each once."""
    found = {path}
    for each in settings:
        found |= set(_named(each))
    found |= {path.parent / each.name for each in references(schema) if each.kind == "file"}
    return tuple(sorted(found))


def _named(value: object, name: str = "") -> Iterator[Path]:
    """The paths in settings that somebody else writes."""
    if isinstance(value, Path):
        if name not in _MADE_BY_THE_PROXY | _WATCHED_BY_CONTROL:
            yield value
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from _named(getattr(value, field), field)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _named(item, name)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _named(item, name)


def references(value: object) -> Iterator[SecretReference]:
    """Every reference to a secret in a schema."""
    if isinstance(value, SecretReference):
        yield value
    elif isinstance(value, Model):
        for field in type(value).model_fields:
            yield from references(getattr(value, field))
    elif isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from references(item)


def cores() -> int:
    """Cores this process may use: by its CPU set, and by its control group's quota (a container's `--cpus`)."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = _CGROUP.read_text(encoding="ascii").split()
        return max(1, min(allowed, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        return allowed
