"""From requests on the record to a draft of a profile: alike requests become one matcher, ids become captures."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from zt_proxy.core.types import Action

_NUMBER = re.compile(r"[0-9]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"(?=.*[0-9])[0-9a-fA-F]{8,}")
_TOKEN = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_~-]{12,}")
_MIXED = re.compile(r"(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9]{8,}")
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_MANY = 8
"""So many different words in one place of otherwise like paths are names, not parts of the platform."""
_CAPTURE = "{}"
_GUESSES = (
    (re.compile(r"export|download|dump|\.csv|backup", re.IGNORECASE), Action.EXPORT),
    (re.compile(r"publish|deploy|release|activate|promote", re.IGNORECASE), Action.DEPLOY),
    (
        re.compile(r"user|role|permission|group|member|invit|share|access|sso|saml|oidc|ldap", re.IGNORECASE),
        Action.MANAGE_ACCESS,
    ),
    (
        re.compile(r"credential|connection|integration|webhook|datasource|data-source|plugin|secret", re.IGNORECASE),
        Action.MANAGE_INTEGRATIONS,
    ),
)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Source(msgspec.Struct, frozen=True):
    """Where to look, and what is known of the route."""

    log: Path
    prefix: str = ""
    """The route's path; profiles begin below it. Empty: the root, or not known."""
    profile: str = ""
    """Of the route; empty: none, or not known."""
    base: Path = Path()


class Seen(msgspec.Struct):
    """Requests alike. `shape` has `{}` where values differed."""

    method: str
    websocket: bool
    shape: tuple[str, ...]
    count: int
    people: set[str]
    example: str


def settings_of(config: Path | None, route: str, log: Path | None) -> Source:
    """What the configuration says of the route. Raises ValueError when it cannot be read or does not know the route."""
    if config is None:
        if log is None:
            raise ValueError("say where to look: --config FILE, or --log DIRECTORY")
        return Source(log)
    from zt_proxy.config import load

    loaded = load(config)
    if loaded.schema is None:
        raise ValueError(f"{config}: cannot be read; see `zt-proxy check {config}`")
    schema = loaded.schema
    named = {each.name: each for each in schema.routes}
    if route not in named:
        raise ValueError(f"{config}: no route is called `{route}`; there are: {', '.join(sorted(named)) or 'none'}")
    state = loaded.base / Path(schema.state_dir).expanduser()
    own = loaded.base / Path(schema.audit.directory).expanduser() if schema.audit.directory else state / "audit"
    prefix = named[route].path.rstrip("/")
    return Source(log or own, prefix, named[route].profile or "", loaded.base)


def requests_of(source: Source, route: str) -> list[Seen]:
    """Unmatched requests, the most frequent first. Raises OSError when there is no log."""
    known = _known(source)
    found: dict[tuple[str, bool, tuple[str, ...]], Seen] = {}
    for record in _records(source.log, route):
        method, path = str(record.get("method", "")), str(record.get("path", ""))
        websocket = record.get("protocol") == "websocket"
        if not path.startswith("/") or not re.fullmatch(r"[A-Z][A-Z-]{0,31}", method) or known(method, path, websocket):
            continue
        if source.prefix and path.startswith(source.prefix):
            path = path[len(source.prefix) :] or "/"
        shape = tuple(_CAPTURE if _is_name(segment) else segment for segment in path.rstrip("/").split("/")[1:])
        seen = found.setdefault((method, websocket, shape), Seen(method, websocket, shape, 0, set(), path))
        seen.count += 1
        seen.people.add(str(record.get("sub", "")))
    return sorted(_merged(list(found.values())), key=lambda seen: (-seen.count, seen.shape, seen.method))


def _known(source: Source) -> Any:
    """Whether the profile as it is now knows a request: the record may be older, or made before anyone signed in."""
    if not source.profile:
        return lambda *_: False
    from zt_proxy.config.profiles import load_profile
    from zt_proxy.policy.actions import NeedsBody, Profile

    profile = Profile(load_profile(source.profile, source.base), (source.prefix or "/").encode())

    def known(method: str, path: str, websocket: bool) -> bool:
        act = profile.classify(method.encode(), path.encode("latin-1", "replace"), None, lambda _: None, websocket)
        return isinstance(act, NeedsBody) or bool(act.matcher)

    return known


def _records(log: Path, route: str) -> Iterator[dict[str, Any]]:
    from zt_proxy.control.audit.chain import log_files

    files = log_files(log) if log.is_dir() else [log]
    if not files:
        raise FileNotFoundError(f"{log}: no log files (audit-*.jsonl) here")
    wanted = f'"route":{json.dumps(route)}'.encode()
    for file in files:
        with file.open("rb") as lines:
            for raw in lines:
                if wanted not in raw:
                    continue
                try:
                    record = json.loads(raw)
                except ValueError:
                    continue  # a line that is being written
                if record.get("type") == "decision" and record.get("route") == route and not record.get("matcher"):
                    yield record


def _is_name(segment: str) -> bool:
    patterns = (_NUMBER, _UUID, _HEX, _TOKEN, _MIXED)
    return "@" in segment or "*" in segment or any(pattern.fullmatch(segment) for pattern in patterns)


def _merged(seen: list[Seen]) -> list[Seen]:
    """Paths that differ in one place, in many ways, are one with a capture there."""
    for place in range(max((len(each.shape) for each in seen), default=0)):
        groups: dict[Any, list[Seen]] = defaultdict(list)
        for each in seen:
            if place < len(each.shape):
                rest = (*each.shape[:place], _CAPTURE, *each.shape[place + 1 :])
                groups[each.method, each.websocket, rest].append(each)
        for (_, _, rest), alike in groups.items():
            if len(alike) >= _MANY:
                first = alike[0]
                first.shape = rest
                for other in alike[1:]:
                    first.count += other.count
                    first.people |= other.people
                    seen.remove(other)
    return seen


def draft(seen: Sequence[Seen], route: str, profile: str) -> str:
    """A profile's file, which `zt-proxy profile check` finds nothing wrong with."""
    together: dict[tuple[bool, tuple[str, ...], Action], list[Seen]] = {}
    for each in seen:
        together.setdefault((each.websocket, each.shape, _guess(each)), []).append(each)
    total = sum(each.count for each in seen)
    lines = [
        f"# Draft from {total} requests of the route `{route}` that no matcher fits. Every action here is a guess."
    ]
    lines.append(f"name: {_slug(route)}-draft")
    if profile:
        lines.append(f"extends: {json.dumps(profile)}")
    else:
        lines += [f"title: {json.dumps('Draft for ' + route)}", "written_against: unknown"]
    lines += ['verified: "not at all: drafted from the record"', "", "matchers:"]
    used: set[str] = set()
    # Paths with more words in them first, so that none hides another.
    for (websocket, shape, action), alike in sorted(
        together.items(), key=lambda item: (item[0][1].count(_CAPTURE), -len(item[0][1]), item[0][1])
    ):
        count = sum(each.count for each in alike)
        people = len(set().union(*(each.people for each in alike)))
        methods = sorted({each.method for each in alike})
        path = _template(shape)
        example = json.dumps(f"{alike[0].method} {alike[0].example}")[1:-1]
        lines.append(f"  # {_count(count, 'request', 'requests')}, {_count(people, 'person', 'people')}: {example}")
        parts = [f"id: {_id(methods, shape, used)}"]
        parts.append("websocket: true" if websocket else f"methods: [{', '.join(methods)}]")
        parts += [f"paths: [{json.dumps(path)}]", f"action: {action.value}"]
        lines.append(f"  - {{{', '.join(parts)}}}")
    return "\n".join(lines) + "\n"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _guess(seen: Seen) -> Action:
    text = "/".join(seen.shape)
    for pattern, action in _GUESSES:
        if pattern.search(text) and (action is Action.EXPORT or seen.method not in _SAFE):
            return action
    return Action.USE if seen.method in _SAFE else Action.BUILD


def _template(shape: tuple[str, ...]) -> str:
    """`/orders/{order}`: a capture is called after the word before it."""
    names: list[str] = []
    segments = []
    for place, segment in enumerate(shape):
        if segment != _CAPTURE:
            segments.append(segment)
            continue
        before = shape[place - 1] if place else ""
        name = before.lower().replace("-", "_").removesuffix("s") if before != _CAPTURE else ""
        name = name if _WORD.fullmatch(name) else "id"
        while name in names:
            name += "_"
        names.append(name)
        segments.append(f"{{{name}}}")
    return "/" + "/".join(segments)


def _id(methods: list[str], shape: tuple[str, ...], used: set[str]) -> str:
    words = [word for word in shape if word != _CAPTURE]
    base = _slug("-".join([methods[0].lower(), *words]))[:48].strip("-")
    name, number = base, 2
    while name in used:
        name, number = f"{base}-{number}", number + 1
    used.add(name)
    return name


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "draft"
