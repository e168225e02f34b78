"""From records to findings: what is read, what is matched, what is bounded."""

import json
from typing import Any

import pytest

from zt_proxy.control.settings import Respond, Response, VolumeSettings, WatchSettings
from zt_proxy.control.watch import observer as module
from zt_proxy.control.watch.observer import Observer
from zt_proxy.link.records import Noted

NOW = 1_800_000_000.0
EAGER = WatchSettings(volume=VolumeSettings(floor=1_000, requests_floor=5, learn=0.0))
ALICE = {
    "route": "app",
    "method": "GET",
    "effect": "allow",
    "sub": "alice",
    "provider": "corp",
    "email": "a@example.com",
}


class Records:
    """Notes of requests, as the record writer gives them."""

    def __init__(self, settings: WatchSettings = EAGER) -> None:
        self.observer = Observer(settings)
        self._texts: dict[str, bytes] = {}
        self._number = 0

    def request(self, sent: int = 0, *, at: float = NOW, ended: bool = True, path: str = "/", **facts: Any) -> str:
        """One request in a batch of its own; gives its id."""
        self._number += 1
        name = f"{self._number:020d}"
        text = json.dumps({**ALICE, **facts})[1:-1]
        noted = Noted()
        noted.decisions += (name.encode(), path.encode(), self._texts.setdefault(text, text.encode()), at)
        if ended:
            noted.ends += (name.encode(), sent, at + 0.1)
        self.observer.read(noted)
        return name

    @property
    def found(self) -> list[tuple[str, str]]:
        """Kind and request of each finding."""
        return [(each.kind, each.request) for each in self.observer.found]


def test_bytes_of_ended_requests_add_up_for_each_person_and_route() -> None:
    records = Records()
    records.request(900)
    records.request(900, sub="bob")
    records.request(900, route="other")
    assert records.found == []
    assert records.found == []
    assert records.request(900) == records.observer.found[0].request
    assert records.observer.found[0].facts.sub == "alice"


def test_somebody_of_the_same_name_at_another_provider_is_somebody_else() -> None:
    records = Records()
    records.request(900)
    records.request(900, provider="partner")
    assert records.found == []


def test_whoever_is_not_signed_in_has_no_history() -> None:
    records = Records()
    records.request(1_000_000, sub="", provider="", email="")
    assert records.observer.flows == {}
    assert records.found == []


def test_records_that_came_as_json_count_alike() -> None:
    records = Records()
    noted = Noted()
    line = {**ALICE, "type": "decision", "id": "odd", "path": "/\u00e9", "at": NOW, "worker": 0, "n": 1}
    noted.lines += [
        json.dumps(line).encode(),
        json.dumps({"type": "end", "id": "odd", "at": NOW, "bytes_out": 5_000, "status": 200}).encode(),
        b'{"type":"log","event":"gap"}',
        b"not json",
    ]
    records.observer.read(noted)
    assert records.found == [("volume", "odd")]
    assert records.observer.unreadable == 1


def test_what_a_request_has_sent_so_far_counts_once_and_not_again_at_its_end() -> None:
    records = Records()
    name = records.request(ended=False)

    def so_far(sent: int) -> None:
        noted = Noted()
        noted.lines.append(json.dumps({"type": "progress", "id": name, "at": NOW + 1, "bytes_out": sent}).encode())
        records.observer.read(noted)

    for sent in range(100, 1_000, 100):  # more of these than requests would be told of
        so_far(sent)
    assert records.found == []
    noted = Noted()
    noted.ends += (name.encode(), 950, NOW + 2)
    records.observer.read(noted)
    assert records.found == []
    name = records.request(ended=False)
    so_far(51)
    assert records.found == [("volume", name)]
    so_far(60)  # of nobody who is known
    name = "unknown"
    so_far(10_000)
    assert len(records.observer.found) <= 2


def test_circumstances_that_make_no_sense_are_counted_and_skipped() -> None:
    records = Records()
    noted = Noted()
    noted.decisions += (b"a", b"/", b'"route":7', NOW)
    noted.decisions += (b"b", b"/", b"[" * 100_000, NOW)
    noted.ends += (b"a", 10, NOW)
    records.observer.read(noted)
    assert records.observer.unreadable == 2


@pytest.mark.parametrize(
    ("facts", "kinds"),
    [
        ({"changes": "access-control"}, ["change"]),
        ({"changes": "integration", "notify": True}, ["change", "notify"]),
        ({"changes": "deployment"}, []),
        ({"break_glass": True}, ["break-glass"]),
        ({"changes": "access-control", "effect": "deny"}, []),
        ({"changes": "access-control", "effect": "challenge", "notify": True}, []),
        ({"changes": "access-control", "sub": "", "provider": ""}, ["change"]),
    ],
)
def test_each_request_that_calls_for_it_is_told_and_none_that_was_refused(
    facts: dict[str, Any], kinds: list[str]
) -> None:
    records = Records()
    first, second = records.request(**facts, path="/users/7"), records.request(**facts)
    assert records.found == [(kind, name) for name in (first, second) for kind in kinds]


def test_a_lone_surrogate_in_a_name_hides_nobody() -> None:
    records = Records()
    for _ in range(2):
        records.request(900, sub="al\ud800ice", changes="access-control")
    assert [kind for kind, _ in records.found] == ["change", "change", "volume"]
    assert records.observer.unreadable == 0
    assert records.observer.found[0].facts.sub == "al?ice"


def test_a_first_use_is_news_once_for_each_session() -> None:
    records = Records()
    for _ in range(3):
        records.request(sid="one", action="view")
    assert [each.facts.action for each in records.observer.news] == ["view"]
    records.observer.keep(records.observer.people["corp\x1falice"], ("app", "view"), NOW)
    records.request(sid="one", action="view", client="192.0.2.9")
    assert len(records.observer.news) == 1, "a habit by now"
    records.request(sid="two", action="view")
    assert len(records.observer.news) == 2, "the groups of a new session are not known"


def test_what_is_refused_makes_no_habit() -> None:
    records = Records()
    records.request(action="export", effect="deny")
    assert records.observer.news == []


def test_detectors_that_are_off_keep_nothing() -> None:
    off = Response(Respond.OFF)
    settings = WatchSettings(VolumeSettings(response=off), changes=frozenset())
    records = Records(settings)
    records.request(10**9, changes="access-control")
    assert (records.found, records.observer.flows) == ([], {})


def test_requests_that_never_end_give_way_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN", 10)
    records = Records()
    for _ in range(50):
        records.request(ended=False)
    assert len(records.observer._open) + len(records.observer._older) <= 22
    assert records.observer.dropped >= 28


def test_memory_is_bounded_in_every_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLOWS", "PEOPLE", "TEXTS", "NEWS", "SIDS", "USES"):
        monkeypatch.setattr(module, name, 20)
    records = Records()
    for number in range(200):
        records.request(10, sub=f"p{number}", sid=f"s{number}", route=f"r{number}", at=NOW + number)
        records.request(10, sid=f"s{number}", action=f"a{number}", at=NOW + number)
    observer = records.observer
    assert len(observer.flows) <= 22
    assert len(observer.people) <= 20
    assert len(observer.news) <= 20
    assert len(observer._texts) <= 20
    assert len(observer._sids) <= 20
    assert observer.dropped > 0
    person = observer.person("somebody", NOW)
    for number in range(100):
        observer.keep(person, ("r", str(number)), NOW)
    assert len(person.used) == 20


def test_new_settings_count_from_the_next_request_on() -> None:
    records = Records()
    records.request(900)
    records.observer.configure(WatchSettings(volume=VolumeSettings(floor=10_000, learn=0.0)))
    records.request(900)
    assert records.found == []
    records.request(9_000)
    assert len(records.found) == 1
