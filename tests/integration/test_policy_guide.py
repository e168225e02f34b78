"""The policy guide, taken at its word: each of its examples is loaded and checked, and each row of its tables decided.

An example is a block ```yaml example=N; what it says stands below the head that all share, ```yaml example=head. A
warning that belongs to it is named: warns="PART OF IT". The table after it has a row for each request: who asks, under
which circumstances, what, and what comes of it. What words mean in it is written here, in `CIRCUMSTANCES` and `said`.
"""

import datetime
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trustme
from msgspec.structs import replace

from zt_proxy.config import check, load_text
from zt_proxy.config.build import Built, build
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.session import Approval, Level, Principal, Proof, Risk, RiskLevel, Session, unlock_key
from zt_proxy.core.types import NO_ACT, Act, ChallengeKind, Decision, Effect, Facts
from zt_proxy.policy.actions import NeedsBody, Profile
from zt_proxy.policy.compile import compile_machines, compile_rules
from zt_proxy.policy.engine import BREAK_GLASS
from zt_proxy.policy.geo import Origins
from zt_proxy.worker.protect.mask import Masking
from zt_proxy.worker.settings import RouteSettings

PAGE = Path(__file__).parents[2] / "docs/how-to/policy.md"
BLOCK = re.compile(r'^```yaml example=(?P<name>\w+)(?: warns="(?P<warns>[^"]*)")?\n(?P<text>.*?)^```$', re.M | re.S)
ZONE = ZoneInfo("Europe/Berlin")
MONDAY = datetime.datetime(2027, 1, 11, tzinfo=ZONE)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
UNITS = {"min": 60.0, "h": 3_600.0}
NOTHING_UNUSUAL = Risk(0, RiskLevel.LOW)
ADDRESSES = {
    "the office": "192.0.2.10",
    "home": "198.51.100.20",
    "a data centre": "203.0.113.30",
    "the machine room": "198.51.100.200",
}


@dataclass
class Case:
    """One request, as a row of a table tells it."""

    route: RouteSettings
    who: Principal
    now: float = (MONDAY + datetime.timedelta(days=1, hours=10)).timestamp()
    address: str = ADDRESSES["home"]
    country: str | None = "DE"
    proved: Proof | None = None
    session: dict[str, Any] = field(default_factory=dict)
    risk: Risk | None = NOTHING_UNUSUAL
    signed_in_ago: float = 3_600.0
    level: Level = Level.MULTI
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        return [unlock_key(self.route.name, rule.id) for rule in self.route.rules.rules]


def _from(case: Case, place: str) -> None:
    case.address, case.country = ADDRESSES.get(place, "198.51.100.77"), "DE"
    if place not in ADDRESSES:
        assert re.fullmatch("[A-Z]{2}|anywhere", place), place
        case.country = None if place == "anywhere" else place


def _at(case: Case, day: str, hour: str, minute: str) -> None:
    at = datetime.timedelta(days=DAYS.index(day), hours=int(hour), minutes=int(minute))
    case.now = (MONDAY + at).timestamp()


def _signed_in(case: Case, how: str | None, number: str, unit: str) -> None:
    case.signed_in_ago = float(number) * UNITS[unit]
    case.level = Level.PHISHING_RESISTANT if how else Level.MULTI


def _confirmed(case: Case, how: str, number: str, unit: str) -> None:
    level = Level.PHISHING_RESISTANT if how == "passkey" else Level.MULTI
    proof = Proof(case.now - float(number) * UNITS[unit], level)
    case.session["proofs"] = dict.fromkeys(case.keys, proof)


def _agreed(case: Case, who: str, number: str, unit: str) -> None:
    at = case.now - float(number) * UNITS[unit]
    case.session["approved"] = {
        unlock_key(case.route.name, rule.id): Approval(f"{who}@example.com", at + rule.approve.valid)
        for rule in case.route.rules.rules
        if rule.approve is not None
    }


def _risk(case: Case, word: str) -> None:
    case.risk = None if word == "unknown" else Risk(0, RiskLevel[word.upper()])


def _reason(case: Case) -> None:
    case.session["justified"] = dict.fromkeys(case.keys, "Audit of 2026, ticket 4711")


def _device(case: Case, known: str) -> None:
    case.session["device_known"] = {"new": False, "unknown": None}[known]


def _glass(case: Case, number: str, unit: str) -> None:
    case.session["break_glass"] = case.now - float(number) * UNITS[unit] + 3_600.0
    case.session["justified"] = {BREAK_GLASS: "Line 3 stands still"}


CIRCUMSTANCES: dict[str, Callable[..., None]] = {
    r"from (the office|home|a data centre|the machine room|[A-Z]{2}|anywhere)": _from,
    rf"({'|'.join(DAYS)}) (\d\d):(\d\d)": _at,
    r"signed in (by passkey )?(\d+) (min|h) ago": _signed_in,
    r"(passkey|code) (\d+) (min|h) ago": _confirmed,
    r"(\w+) agreed (\d+) (min|h) ago": _agreed,
    r"risk (low|medium|high|unknown)": _risk,
    r"reason given": _reason,
    r"(new|unknown) device": _device,
    r"glass broken (\d+) (min|h) ago": _glass,
}
"""What may stand in the second column, separated by commas. `—` is the usual case: Tuesday at ten, from home in Germany,
by a known device, signed in with two factors an hour ago, nothing unusual."""


def set_up(case: Case, text: str) -> None:
    """The moment comes first: times before now are counted from it."""
    words = [] if text == "—" else text.split(", ")
    for word in sorted(words, key=lambda one: not one.startswith(DAYS)):
        fitting = [(found, act) for pattern, act in CIRCUMSTANCES.items() if (found := re.fullmatch(pattern, word))]
        assert len(fitting) == 1, f"no such circumstance: {word}"
        fitting[0][1](case, *fitting[0][0].groups())


def said(decision: Decision, masks: list[str]) -> str:
    """A decision in the words of the last column."""
    if decision.effect is Effect.ALLOW:
        duties = decision.obligations
        text = f"allowed by {decision.rule}" if decision.rule else "allowed"
        text += ", with the glass broken" if duties and duties.break_glass else ""
        text += f", masked: {' '.join(masks)}" if masks else ""
        text += ", counted" if duties and duties.limit else ""
        text += ", told" if duties and duties.notify else ""
    elif decision.effect is Effect.CHALLENGE:
        proofs = {Level.SINGLE: "a fresh proof", Level.MULTI: "two factors", Level.PHISHING_RESISTANT: "a passkey"}
        asked = {
            ChallengeKind.LOGIN: "to sign in",
            ChallengeKind.REAUTH: f"for {proofs[decision.level]}",
            ChallengeKind.JUSTIFY: "why",
            ChallengeKind.APPROVE: "for somebody's word",
        }
        assert decision.challenge is not None
        text = f"asked {asked[decision.challenge]}" + (f" by {decision.rule}" if decision.rule else "")
    else:
        text = f"refused: {decision.reason.value}" + (f" by {decision.rule}" if decision.rule else "")
        text += f", not known: {' '.join(decision.missing)}" if decision.missing else ""
    return text + (f"; would: {' '.join(sorted(decision.reported))}" if decision.reported else "")


# ---- the page ----


def rows(text: str) -> list[list[str]]:
    """The first table in a text, without its head."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    table: list[list[str]] = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table[2:]


@cache
def examples() -> dict[str, tuple[str, str, list[list[str]]]]:
    """Name → what it says, the warnings that belong to it, the rows of its table."""
    page = PAGE.read_text("utf-8")
    found = list(BLOCK.finditer(page))
    ends = [*(block.start() for block in found[1:]), len(page)]
    return {
        block["name"]: (block["text"], block["warns"] or "", rows(page[block.end() : end]))
        for block, end in zip(found, ends, strict=True)
    }


@cache
def people() -> dict[str, Principal]:
    """The table of who is who, which follows the head."""
    found = {}
    for name, _, groups, claims in examples()["head"][2]:
        held = dict(claim.split(": ") for claim in claims.strip("`").split(", ")) if claims != "—" else {}
        found[name] = Principal(
            name,
            "https://sso.example.com",
            "corp",
            email=f"{name}@example.com",
            groups=frozenset(groups.split(", ")) if groups != "—" else frozenset(),
            claims=held,
        )
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files are that the head names."""
    place = tmp_path_factory.mktemp("guide")
    (place / "certs").mkdir()
    ca = trustme.CA()
    now = datetime.datetime.fromtimestamp(ManualClock().now(), datetime.UTC)
    hosts = ("*.example.com",)
    leaf = ca.issue_cert(
        *hosts, not_before=now - datetime.timedelta(days=1), not_after=now + datetime.timedelta(days=90)
    )
    (place / "certs/site.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(place / "certs/site.key")
    ca.cert_pem.write_to_path(place / "certs/machines.pem")
    (place / "certs/secret").write_text("the-client-secret\n")
    return place


_BUILT: dict[str, Built] = {}


def built(name: str, folder: Path) -> Built:
    """An example, through loader and checker."""
    if name not in _BUILT:
        text, warns, _ = examples()[name]
        loaded = load_text(examples()["head"][0] + text, folder / "zt-proxy.yaml")
        problems = [str(one) for one in check(loaded, ManualClock())]
        assert [one for one in problems if not warns or "warning" not in one or warns not in one] == []
        assert bool(warns) == bool(problems), f"the warning does not come: {warns}"
        _BUILT[name] = build(loaded)
    return _BUILT[name]


def numbered() -> list[str]:
    return [name for name in examples() if name != "head"]


def cases() -> list[Any]:
    return [
        pytest.param(name, *row, id=f"{name}-{'-'.join(row[:3])}") for name in numbered() for row in examples()[name][2]
    ]


# ---- the tests ----


def test_the_guide_has_ten_examples_of_five_rows_that_say_yes_and_no() -> None:
    assert numbered() == [str(number) for number in range(1, 11)]
    for name in numbered():
        outcomes = [row[3] for row in examples()[name][2]]
        assert len(outcomes) >= 5, name
        assert any(one.startswith("allowed") for one in outcomes), name
        assert any(not one.startswith("allowed") or "; would" in one for one in outcomes), name


@pytest.mark.parametrize("name", numbered())
def test_an_example_loads_without_a_problem_it_does_not_speak_of(name: str, folder: Path) -> None:
    assert built(name, folder).worker.routes


@pytest.mark.parametrize(("name", "who", "circumstances", "request_line", "outcome"), cases())
def test_a_row_says_what_is_decided(
    name: str, who: str, circumstances: str, request_line: str, outcome: str, folder: Path
) -> None:
    settings = built(name, folder).worker
    found = re.fullmatch(r"(?:(\w+): )?`([A-Z]+) (\S+)(?: (\{.*\}))?`", request_line)
    assert found is not None, request_line
    routes = {route.name: route for route in settings.routes}
    route = routes[found[1]] if found[1] else next(iter(routes.values()))
    method, (path, _, query) = found[2].encode(), found[3].encode().partition(b"?")
    machine = any(one.name == who for one in settings.integrations)
    principal = Principal(f"integration:{who}", "", "", integration=who) if machine else people()[who]
    case = Case(route, principal)
    set_up(case, circumstances)
    origin = replace(Origins(settings.origins).of(case.address), country=case.country)
    session = None if machine else _session(case)
    facts = Facts(
        now=case.now,
        route=route.name,
        method=method,
        path=path,
        client=case.address,
        principal=principal,
        session=session,
        act=_act(route, method, path, query or None, (found[4] or "").encode()),
        origin=origin,
        risk=None if machine else case.risk,
    )
    rules = route.rules
    decision = compile_machines(rules).decide(who, facts) if machine else compile_rules(rules).decide(facts)
    masks = []
    if decision.effect is Effect.ALLOW and route.masks:
        masks = [mask.name for mask in Masking(route, bytes(32)).masks_for(facts, decision.obligations)]
    assert said(decision, masks) == outcome


def _session(case: Case) -> Session:
    known = {"device_known": True, **case.session}
    signed_in = case.now - case.signed_in_ago
    return Session(
        "sid", case.route.host, case.who, "", (), True, signed_in, signed_in, case.now, 1_800.0, case.now + 3_600.0,
        level=case.level, address=case.address, risk=case.risk, **known,
    )  # fmt: skip


def _act(route: RouteSettings, method: bytes, path: bytes, query: bytes | None, body: bytes) -> Act:
    """What the request means to the route's profile."""
    if route.profile is None:
        return NO_ACT
    profile = Profile(route.profile, route.prefix)
    kind = {b"content-type": b"application/json"} if body else {}
    found = profile.classify(method, path, query, kind.get, False)
    if isinstance(found, NeedsBody):
        json.loads(body)
        return profile.classify_body(method, path, query, kind.get, False, body)
    return found
