"""The guard of reloads: what it refuses, and that it refuses what it cannot judge."""

from pathlib import Path

import msgspec
import pytest

from tests.lab.logs import Log
from tests.unit.policy.test_replay import asks, deny, place, session
from zt_proxy.config import read
from zt_proxy.config.build import Built, GuardSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.demo.layout import lay_out, proxy_config
from zt_proxy.link import reload_order
from zt_proxy.policy.replay import Change, Report
from zt_proxy.policy.spec import Audience, RouteRules, RuleEffect, RuleSpec
from zt_proxy.processes.guard import refusal, verdict
from zt_proxy.processes.reload import Reloader

WEEK = 7 * 86_400.0
NONE = GuardSettings(0, 0.0, WEEK)
EVERYBODY = RuleSpec("all", RuleEffect.ALLOW, Audience.SIGNED_IN)


def built(folder: Path, *rules: RuleSpec, guard: GuardSettings | None = NONE) -> Built:
    layout = lay_out(folder / "state", "builtin", 0, 0)
    layout.config.write_text(proxy_config(layout, "http://127.0.0.1:1880"))
    found = read(layout.config)
    route = msgspec.structs.replace(
        found.worker.routes[0], name="app", host="app.test", prefix=b"/", rules=RouteRules("app", rules), profile=None
    )
    worker = msgspec.structs.replace(found.worker, routes=(route,))
    return msgspec.structs.replace(found, worker=worker, guard=guard)


def recorded(now: float, folder: Path) -> None:
    log, alice = Log(), session()
    log.signs_in(alice, at=now - 10)
    log.decides(place(EVERYBODY), asks(alice, now=now - 5))
    log.write(folder)


async def test_what_would_turn_is_refused_and_what_turns_nothing_is_not(tmp_path: Path) -> None:
    now = ManualClock().now()
    old, new = built(tmp_path, EVERYBODY), built(tmp_path, EVERYBODY, deny("no"), guard=None)
    assert await refusal(old, new, now) == "", "there is no log yet"
    recorded(now, old.control.audit.directory)
    said = await refusal(old, new, now)
    assert "1 of 1 decisions of the last 7d would turn, at most 0 may" in said
    assert "alice@example.com on app: allow → deny by rule no, 1 times" in said
    assert await refusal(old, built(tmp_path, EVERYBODY, deny("no", "others")), now) == ""
    assert await refusal(old, new, now + 8 * 86_400.0) == "", "older than the window"
    assert await refusal(msgspec.structs.replace(old, guard=None), new, now) == "", "nobody asks for it"


async def test_what_cannot_be_said_in_time_or_at_all_is_refused(tmp_path: Path) -> None:
    now = ManualClock().now()
    old, new = built(tmp_path, EVERYBODY), built(tmp_path, deny("no"))
    assert "could not replay the last 7d of the record within 0.001 s, and refuses it" in await refusal(
        old, new, now, 0.001
    )
    old.control.audit.directory.mkdir(parents=True, exist_ok=True)
    (old.control.audit.directory / "audit-000000000001.jsonl").mkdir()
    assert "could not replay the record, and refuses it: IsADirectoryError" in await refusal(old, new, now)


@pytest.mark.parametrize(
    ("settings", "turned", "refused"),
    [
        (GuardSettings(2, 0.0, WEEK), 2, False),
        (GuardSettings(2, 0.0, WEEK), 3, True),
        (GuardSettings(None, 0.05, WEEK), 5, False),
        (GuardSettings(None, 0.05, WEEK), 6, True),
    ],
)
def test_the_bound_is_a_number_or_a_share_of_what_can_be_compared(
    settings: GuardSettings, turned: int, refused: bool
) -> None:
    change = Change("alice", "app", "deploy", "allow", "deny", "a", "b", "rule-denied", turned, "id")
    report = Report(200, 100, turned, turned, (change,), {"proofs": 100}, 1.0, 2.0)
    said = verdict(settings, report)
    assert bool(said) is refused
    if refused:
        assert f"{turned} of 100" in said
        assert ("at most 2 may" in said) or ("at most 5% may" in said)


def test_an_order_counts_once_and_not_for_another_start(tmp_path: Path) -> None:
    one = built(tmp_path, EVERYBODY)
    folder = one.control.runtime_dir
    folder.mkdir(parents=True, exist_ok=True)
    reload_order.place(folder, reload_order.Order("t1", force=True))
    assert reload_order.take(folder) == reload_order.Order("t1", force=True)
    assert reload_order.take(folder) is None
    reload_order.place(folder, reload_order.Order("t2", force=True))

    async def apply(_built: Built, _epoch: int) -> None:
        raise AssertionError

    Reloader(tmp_path / "zt-proxy.yaml", one, apply, ManualClock())
    assert reload_order.take(folder) is None, "what was ordered of a proxy that is gone"
    (folder / reload_order.ORDER).write_text("{")
    assert reload_order.take(folder) is None
    assert not (folder / reload_order.ORDER).exists()


def test_an_answer_is_for_its_order_alone(tmp_path: Path) -> None:
    reload_order.reply(tmp_path, reload_order.Answer("t1", 3, "why not"))
    assert reload_order.answered(tmp_path, "t1") == reload_order.Answer("t1", 3, "why not")
    assert reload_order.answered(tmp_path, "t2") is None
