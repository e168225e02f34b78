"""A request that is on the record, as a question: what was known of it then, asked of the rules as they are now."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zt_proxy.config.questions import DEVICES, LEVELS, OUTSIDE, RISKS, Question
from zt_proxy.config.worlds import Estate
from zt_proxy.core.types import Act, Action, Change, Sensitivity

_SIGN_INS = frozenset({"signed-in", "person-changed"})


def recalled(estate: Estate, request: str, log: Path | None, socket: Path | None) -> tuple[Question, Act, list[str]]:
    """The question, what the request meant then, and notes. Raises ValueError when it cannot be found."""
    folder = log or _log_of(estate)
    record, sign_in = _find(folder, request)
    route = str(record.get("route", ""))
    if route not in estate.routes:
        raise ValueError(f"the request was for the route `{route}`, which {estate.path} does not have")
    notes = [f"as recorded {'in ' + str(folder)}; its query, headers and body are never on the record"]
    person = _person(estate, record, sign_in, notes, socket)
    level = str(sign_in.get("auth_level", "") if sign_in else "") or str(record.get("level", ""))
    proved = float(record["at"]) - float(sign_in["at"]) if sign_in and sign_in.get("type") == "signed-in" else 0.0
    if record.get("sid") and not proved:
        notes.append("when the person signed in is not on the record: taken as just then")
    risk = str(record.get("risk", "")).rpartition(" ")[2]
    device = record.get("device_known")
    question = Question(
        route=route,
        method=str(record.get("method", "GET")),
        path=_path(str(record.get("path", "/"))),
        websocket=record.get("protocol") == "websocket",
        integration=str(record.get("integration", "")) if str(record.get("sub", "")).startswith("integration:") else "",
        network=tuple(zone for zone in record.get("zones", ()) if zone in estate.schema.networks) or (OUTSIDE,),
        address=str(record.get("client", "")),
        country=str(record.get("country", "")),
        asn=record.get("asn"),
        device=next((word for word, known in DEVICES.items() if known is device), ""),
        level=level if level in LEVELS else "",
        proved_ago=max(0.0, proved),
        risk=risk if risk in RISKS else "",
        at=float(record["at"]),
        justified=str(record.get("justification", "")),
        approved_by=str(record.get("approved_by", "")),
        break_glass=bool(record.get("break_glass")),
        **person,
    )
    then = f"then it was: {record.get('effect')}, {record.get('reason')}"
    notes.append(then + (f" by rule {record['rule']}" if record.get("rule") else ""))
    return question, _act(record), notes


def _person(
    estate: Estate, record: dict[str, Any], sign_in: dict[str, Any] | None, notes: list[str], socket: Path | None
) -> dict[str, Any]:
    """Who it was, by the sign-in on the record, else as the running proxy knows them now."""
    subject, email = str(record.get("sub", "")), str(record.get("email", ""))
    if not subject or subject.startswith("integration:"):
        return {}
    found: dict[str, Any] = {
        "user": email or subject,
        "subject": subject,
        "provider": str(record.get("provider", "")),
    }
    source: dict[str, Any] | None = sign_in
    if source is None:
        from zt_proxy.cli.known_people import find

        person, why = find(estate.path, subject, found["provider"], socket)
        if person is None:
            notes.append(f"groups of {email or subject} are not known ({why})")
            return found
        notes.append("groups as the running proxy knows them now: the sign-in is not on this record")
        source = {"groups": person.groups, "roles": person.roles, "claims": person.claims}
    found["groups"] = tuple(source.get("groups", ()))
    found["roles"] = tuple(source.get("roles", ()))
    claims = source.get("claims", {})
    found["claims"] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in (claims.items() if isinstance(claims, dict) else ())
    }
    return found


def _act(record: dict[str, Any]) -> Act:
    """Of the record; of one made before anybody knew, nothing."""

    def word(key: str, kind: Any) -> Any:
        try:
            return kind(record[key]) if key in record else None
        except ValueError:
            return None

    return Act(
        action=word("action", Action),
        kind=str(record.get("kind", "")),
        object=str(record.get("object", "")),
        sensitivity=word("sensitivity", Sensitivity),
        changes=word("changes", Change),
        matcher=str(record.get("matcher", "")),
        refused="action" not in record and record.get("reason") == "action-unknown",
    )


def _find(folder: Path, request: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The first decision about the request, and what the record said last before it of who signed in."""
    people: dict[str, dict[str, Any]] = {}
    wanted = request.encode("ascii", "replace")
    for raw in _lines(folder):
        if wanted not in raw and b'"signed-in"' not in raw and b'"person-changed"' not in raw:
            continue
        try:
            record = json.loads(raw)
        except ValueError:
            continue
        if not isinstance(record, dict):
            continue
        if record.get("type") in _SIGN_INS and record.get("sid"):
            before = people.get(record["sid"], {})
            people[record["sid"]] = {**before, **record, "type": before.get("type", record["type"])}
            if before.get("type") == "signed-in":
                people[record["sid"]]["at"] = before["at"]
        elif record.get("type") == "decision" and record.get("id") == request:
            return record, people.get(str(record.get("sid", "")))
    raise ValueError(f"no request `{request}` is on the record in {folder}")


def _lines(folder: Path) -> Iterator[bytes]:
    from zt_proxy.control.audit.chain import log_files

    files = log_files(folder) if folder.is_dir() else [folder] if folder.is_file() else []
    if not files:
        raise ValueError(f"{folder}: no log files (audit-*.jsonl) here")
    for file in files:
        with file.open("rb") as lines:
            yield from lines


def _log_of(estate: Estate) -> Path:
    base, schema = estate.path.absolute().parent, estate.schema
    if schema.audit.directory:
        return base / Path(schema.audit.directory).expanduser()
    return base / Path(schema.state_dir).expanduser() / "audit"


def _path(text: str) -> str:
    """Records write bytes above 0x7F as U+0080 to U+00FF."""
    return "".join(char if char.isascii() else f"%{ord(char):02X}" for char in text)
