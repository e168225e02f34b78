"""What becomes of a finding: one alert for a while, a lock where it may, the record, webhooks."""

from typing import Any

import msgspec
import pytest

from zt_proxy.control.locks.types import LockOrder
from zt_proxy.control.settings import Respond, Response, WatchSettings
from zt_proxy.control.watch.alerts import REQUESTS, WAITING, Alert, Alerts
from zt_proxy.control.watch.detectors import Excess
from zt_proxy.control.watch.findings import Facts, Finding, change, volume
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.link.locks import Lock, LockEffect, LockKind

NOW = 1_800_000_000.0
ALICE = Facts(route="app", sub="alice", email="a@example.com", provider="corp", sid="s1", client="192.0.2.7")
EXCESS = Excess("bytes", 60e6, 5e6, 50e6, 60.0)
ENFORCE = Response(Respond.ENFORCE, LockEffect.NO_EXPORT, 3_600.0)


class Desk:
    """Alerts, and everybody who hears of them."""

    def __init__(self, *, locks: bool = True) -> None:
        self.clock = ManualClock(NOW)
        self.lines: list[dict[str, Any]] = []
        self.sent: list[Alert] = []
        self.kept: dict[str, Alert] = {}
        self.orders: list[LockOrder] = []
        self.in_force: dict[str, Lock] = {}
        self.broken = ""
        self.alerts = Alerts(WatchSettings(), self.clock, self, self, self.keep, self if locks else None)

    async def write(self, kind: str, **fields: str | int | float | bool) -> None:
        if self.broken == "record":
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, "disk full")
        self.lines.append({"type": kind, **fields})

    def put(self, alert: Alert) -> None:
        self.sent.append(alert)

    async def keep(self, alert: Alert) -> None:
        if self.broken == "store":
            raise UnavailableError(Reason.STORE_UNAVAILABLE, "locked")
        self.kept[alert.id] = alert

    async def lock(self, order: LockOrder) -> Lock:
        if self.broken == "locks":
            raise UnavailableError(Reason.STORE_UNAVAILABLE, "locks cannot be kept")
        self.orders.append(order)
        expires = None if order.lasts is None else self.clock.now() + order.lasts
        made = Lock("0000000a", order.kind, order.value, order.effect, order.cause, order.by, self.clock.now(), expires)
        self.in_force[made.id] = made
        return made

    async def lift(self, id: str, by: str, reason: str) -> Lock:
        return self.in_force.pop(id)

    def current(self) -> tuple[Lock, ...]:
        return tuple(self.in_force.values())

    async def find(self, *findings: Finding) -> Alert:
        """The last alert, after these."""
        for finding in findings:
            self.alerts.put(finding)
        await self.alerts.work_off()
        return self.sent[-1]


def too_much(response: Response = ENFORCE, request: str = "r1", facts: Facts = ALICE) -> Finding:
    return volume(facts, request, NOW, EXCESS, response)


async def test_an_alert_says_who_took_what_against_what_is_usual() -> None:
    desk = Desk()
    alert = await desk.find(too_much(Response(Respond.REPORT)))
    assert (alert.kind, alert.severity, alert.route, alert.user, alert.email) == (
        "volume", "high", "app", "alice", "a@example.com",
    )  # fmt: skip
    assert alert.seen == "60.0 MB in up to 1 min"
    assert "5.0 MB in 1 min (this person)" in alert.usual
    assert alert.requests == ("r1",)
    (line,) = desk.lines
    assert (line["type"], line["alert"], line["about"], line["requests"]) == ("alert", alert.id, "volume", "r1")
    assert desk.kept == {alert.id: alert}


async def test_a_report_says_what_would_have_been_locked_and_locks_nothing() -> None:
    desk = Desk()
    alert = await desk.find(too_much(Response(Respond.REPORT)))
    assert desk.orders == []
    assert alert.suggested is not None
    assert (alert.suggested.kind, alert.suggested.value, alert.suggested.effect) == ("user", "alice", "no-export")
    assert (desk.lines[0]["lock_effect"], desk.lines[0]["lock_for"]) == ("no-export", "until-reviewed")


async def test_a_detector_that_may_lock_locks_whoever_it_was() -> None:
    desk = Desk()
    alert = await desk.find(too_much())
    (order,) = desk.orders
    assert (order.kind, order.value, order.provider, order.effect, order.lasts, order.by) == (
        LockKind.USER, "alice", "corp", LockEffect.NO_EXPORT, 3_600.0, "watch:volume",
    )  # fmt: skip
    assert "60.0 MB" in order.cause
    assert alert.lock == "0000000a"


async def test_an_integration_is_locked_as_one() -> None:
    desk = Desk()
    await desk.find(too_much(facts=Facts(route="app", sub="integration:crm", provider="", integration="crm")))
    assert (desk.orders[0].kind, desk.orders[0].value, desk.orders[0].provider) == (LockKind.INTEGRATION, "crm", "")


async def test_the_same_again_is_counted_and_told_once_more_at_the_end() -> None:
    desk = Desk()
    first = await desk.find(too_much())
    await desk.find(*(too_much(request=f"r{number}") for number in range(2, 30)))
    assert len(desk.sent) == 1
    assert desk.alerts.repeated == 28
    await desk.alerts.finish()
    assert len(desk.sent) == 1, "the quiet time is not over"
    desk.clock.advance(601.0)
    await desk.alerts.finish()
    again = desk.sent[-1]
    assert (again.id, again.count, len(again.requests)) == (first.id, 29, REQUESTS)
    await desk.find(too_much())
    assert desk.sent[-1].id != first.id


async def test_other_people_other_routes_and_other_objects_are_other_alerts() -> None:
    desk = Desk()
    replace = msgspec.structs.replace
    await desk.find(
        too_much(),
        too_much(facts=replace(ALICE, sub="bob")),
        too_much(facts=replace(ALICE, route="other")),
        change(replace(ALICE, changes="integration", kind="hook", object="a"), "r2", "/", NOW),
        change(replace(ALICE, changes="integration", kind="hook", object="b"), "r3", "/", NOW),
    )
    assert len({alert.id for alert in desk.sent}) == 5


async def test_a_lock_that_an_operator_lifted_is_not_made_again_at_once() -> None:
    desk = Desk()
    await desk.find(too_much())
    await desk.lift("0000000a", "root", "it was her")
    desk.clock.advance(601.0)
    alert = await desk.find(too_much())
    assert len(desk.orders) == 1
    assert (alert.lock, alert.not_locked) == ("", "an operator has lifted the lock 0000000a")
    desk.clock.advance(3_600.0)
    await desk.find(too_much())
    assert len(desk.orders) == 2


async def test_more_of_the_same_prolongs_the_lock() -> None:
    desk = Desk()
    await desk.find(too_much(), too_much())
    assert len(desk.orders) == 2


@pytest.mark.parametrize("broken", ["locks", "record", "store"])
async def test_whatever_fails_the_alert_goes_out_and_says_so(broken: str) -> None:
    desk = Desk()
    desk.broken = broken
    alert = await desk.find(too_much())
    assert len(desk.sent) == 1
    assert ("locks cannot be kept" in alert.not_locked) is (broken == "locks")
    assert desk.alerts.unrecorded == (broken == "record")
    desk.broken = ""
    desk.clock.advance(601.0)
    await desk.find(too_much())
    assert len(desk.sent) == 2


async def test_an_alert_that_cannot_be_made_does_not_keep_the_next_one_from_being_made() -> None:
    desk = Desk()

    def fail(alert: Alert) -> None:
        desk.alerts._webhooks = desk
        raise RuntimeError("a mistake")

    class Broken:
        put = staticmethod(fail)

    desk.alerts._webhooks = Broken()
    alert = await desk.find(too_much(), too_much(facts=msgspec.structs.replace(ALICE, sub="bob")))
    assert alert.user == "bob"
    assert desk.alerts.dropped == 1


async def test_a_flood_is_cut_off_and_counted() -> None:
    desk = Desk()
    for number in range(WAITING + 5):
        desk.alerts.put(too_much(request=str(number)))
    assert desk.alerts.dropped == 5


def test_names_that_platforms_and_clients_choose_are_cut_and_move_no_cursor() -> None:
    facts = msgspec.structs.replace(ALICE, changes="integration", kind="hook", object="a\x1b[2J\u202e" + "x" * 999)
    finding = change(facts, "r1", "/\x07" + "y" * 999, NOW)
    assert "\x1b" not in finding.summary
    assert "\u202e" not in finding.summary
    assert len(finding.summary) < 400
    assert len(finding.path) == 300
