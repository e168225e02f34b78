"""Watching through the whole proxy: real requests, real records, a real receiver of webhooks, real locks."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.integration.test_operator import command
from tests.lab.fleet import Fleet
from tests.lab.hooks import HookServer, Message
from tests.lab.proxy import APP, ORIGIN, ProxyLab, allow, lab_route
from tests.lab.upstream import RecordingUpstream, Seen
from tests.lab.waiting import until
from zt_proxy.config.profiles import load_profile
from zt_proxy.control.settings import (
    FirstUseSettings,
    Respond,
    Response,
    VolumeSettings,
    WatchSettings,
    WebhookSettings,
)
from zt_proxy.control.watch.observer import Observer
from zt_proxy.core.clock import ManualClock, SystemClock
from zt_proxy.core.keys import Secret
from zt_proxy.core.types import Action
from zt_proxy.link.locks import LockEffect
from zt_proxy.link.records import Noted

SECRET = "a secret of the hook"
KB = 1_000
DAY = 86_400.0
OFF = FirstUseSettings(response=Response(Respond.OFF))
VOLUME = VolumeSettings(floor=50 * KB, requests_floor=10_000, learn=0.0)


def answer(seen: Seen) -> bytes:
    """`/N`: so many kilobytes."""
    size = int(seen.target.rpartition(b"/")[2] or b"0") * KB if seen.target.rpartition(b"/")[2].isdigit() else 2
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, b"x" * size)


def respond(to: Respond, effect: LockEffect = LockEffect.NO_EXPORT) -> Response:
    return Response(to, effect, 3_600.0)


@asynccontextmanager
async def watched(settings: WatchSettings, hook: HookServer | None = None, **lab: Any) -> AsyncIterator[ProxyLab]:
    """A proxy that watches by these settings, and tells the hook."""
    if hook is not None:
        settings = msgspec.structs.replace(settings, webhooks=(WebhookSettings(hook.url, Secret(SECRET)),))
    lab.setdefault("clock", ManualClock())
    async with ProxyLab(upstream=RecordingUpstream(answer), control={"watch": settings}, **lab) as proxy:
        yield proxy


async def at_work(lab: ProxyLab, cookie: bytes, minutes: int = 4, path: str = "/20") -> None:
    for _ in range(minutes):
        assert (await lab.get(path, cookie)).status == 200
        await lab.advance(61.0)


def verified(message: Message) -> dict[str, Any]:
    """The alert of a message whose signature is right."""
    stamp, _, code = message.headers["X-ZT-Signature"].partition(",")
    signed = stamp.removeprefix("t=").encode() + b"." + message.body
    assert code == "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    return message.alert


def alerts(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == "alert"]


async def test_ten_times_the_usual_is_told_on_the_record_by_webhook_and_on_the_command_line() -> None:
    async with HookServer() as hook, watched(WatchSettings(VOLUME, OFF), hook) as lab:
        cookie = await lab.sign_in()
        await at_work(lab, cookie)
        assert hook.messages == []
        assert (await lab.get("/210", cookie)).status == 200
        alert = verified(await hook.received())
        assert (alert["kind"], alert["email"], alert["route"]) == ("volume", "alice@example.com", "app")
        assert alert["seen"].startswith("210.0 kB")
        assert "20.0 kB" in alert["usual"]
        assert alert["respond"] == "report"
        assert alert["suggested"]["value"] == "alice"
        assert (await lab.get("/20", cookie)).status == 200, "a report has no effect"
        code, out, _ = await command(lab, "alerts", "--json")
        assert code == 0
        (listed,) = json.loads(out)["alerts"]
        assert listed["id"] == alert["id"]
        code, out, _ = await command(lab, "alerts", "--user", "Alice@example.com")
        assert "alice@example.com took 210.0 kB" in out
        assert "advised: no-export user until reviewed" in out
        log = await lab.log()
        (line,) = alerts(log)
        assert (line["alert"], line["about"]) == (alert["id"], "volume")
        assert line["requests"] in {record["id"] for record in log if record["type"] == "decision"}
        assert not [record for record in log if record["type"] == "lock"]


async def test_a_detector_that_may_locks_the_person_until_an_operator_lets_them_go() -> None:
    volume = msgspec.structs.replace(VOLUME, response=respond(Respond.ENFORCE, LockEffect.BLOCK))
    async with HookServer() as hook, watched(WatchSettings(volume, OFF), hook) as lab:
        cookie = await lab.sign_in()
        bobs = (await lab.new_session("bob"))[1]
        await at_work(lab, cookie)
        await lab.get("/210", cookie)
        alert = verified(await hook.received())
        assert (await lab.get("/20", cookie)).status in {401, 403}
        assert (await lab.get("/20", bobs)).status == 200
        code, out, _ = await command(lab, "locks", "--json")
        (lock,) = json.loads(out)["locks"]
        assert (lock["id"], lock["by"], lock["value"]) == (alert["lock"], "watch:volume", "alice")
        code, _, _ = await command(lab, "unlock", lock["id"], "--reason", "it was her")
        assert code == 0
        assert (await lab.get("/20", cookie)).status == 200
        log = await lab.log()
        assert alerts(log)[0]["lock"] == lock["id"]
        assert [line["action"] for line in log if line["type"] == "lock"] == ["lock"]


async def test_an_application_that_neither_the_person_nor_their_group_uses_is_told_once() -> None:
    first_use = FirstUseSettings(learn=DAY, response=respond(Respond.REPORT, LockEffect.STEP_UP))
    staff, leads = allow(groups=("staff",)), allow("leads", groups=("leads", "staff"))
    routes = (lab_route("app", APP, (staff,)), lab_route("payroll", "other.test", (leads,)))
    settings = WatchSettings(VOLUME, first_use)
    async with HookServer() as hook, watched(settings, hook, routes=routes) as lab:
        for lead in ("lea", "lou"):
            await lab.get("/", await lab.sign_in(lead, ("leads",), "other.test"), host="other.test")
        for person, groups in (("alice", ("staff",)), ("lisa", ("leads", "staff"))):
            await lab.get("/", await lab.sign_in(person, groups))
        people = lab.proxy.control.watch.observer.people  # type: ignore[union-attr]
        await until(lambda: len(people) == 4 and all(each.used for each in people.values()))
        await lab.advance(2 * DAY)
        for person, groups in (("alice", ("staff",)), ("lisa", ("leads", "staff"))):
            cookie = await lab.sign_in(person, groups, "other.test")
            for _ in range(3):
                assert (await lab.get("/", cookie, host="other.test")).status == 200
        alert = verified(await hook.received())
        assert (alert["kind"], alert["user"], alert["seen"], alert["usual"]) == ("first-use", "alice", "payroll", "app")
        log = await lab.log()
        assert [line["user"] for line in alerts(log)] == ["alice"], "lisa does what leads do"


async def test_each_change_of_a_sensitive_kind_is_told() -> None:
    rules = (allow(),)
    async with (
        HookServer() as hook,
        watched(WatchSettings(VOLUME, OFF), hook, rules=rules, route={"profile": load_profile("directus")}) as lab,
    ):
        cookie = await lab.sign_in()
        for path, method in (("/roles/7", "PATCH"), ("/items/orders", "GET"), ("/webhooks/3", "DELETE")):
            assert (await lab.get(path, cookie, ORIGIN, method=method)).status == 200
        await hook.received(2)
        told = sorted((verified(message) for message in hook.messages), key=lambda each: each["changes"])
        assert [(each["kind"], each["changes"], each["path"]) for each in told] == [
            ("change", "access-control", "/roles/7"),
            ("change", "integration", "/webhooks/3"),
        ]
        assert told[0]["action"] == Action.MANAGE_ACCESS.value
        assert told[0]["severity"] == "high"


async def test_a_receiver_that_hangs_or_fails_holds_nothing_up() -> None:
    async with HookServer(hold=asyncio.Event()) as hook:
        hooks = (
            WebhookSettings(hook.url, Secret(SECRET)),
            WebhookSettings("http://127.0.0.1:1/", Secret(SECRET)),
        )
        settings = WatchSettings(VOLUME, OFF, webhooks=hooks)
        async with watched(settings) as lab:
            cookie = await lab.sign_in()
            await at_work(lab, cookie)
            await lab.get("/210", cookie)
            await hook.received()
            for _ in range(5):
                assert (await lab.get("/1", cookie)).status == 200
            control = lab.proxy.control
            assert control is not None
            await until(lambda: any("webhook" in note for note in control.notes()))
            assert control.problem() == ""
            assert len(alerts(await lab.log())) == 1


async def test_a_mistake_in_watching_costs_no_record_and_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Observer, noted: Noted) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Observer, "read", fail)
    async with watched(WatchSettings(VOLUME, OFF)) as lab:
        cookie = await lab.sign_in()
        await at_work(lab, cookie, 2)
        watch = lab.proxy.control.watch  # type: ignore[union-attr]
        await until(lambda: watch.failures > 0)
        assert len(await lab.decisions()) == 2


async def test_the_history_outlives_control(tmp_path: Path) -> None:
    async with HookServer() as hook, watched(WatchSettings(VOLUME, OFF), hook) as lab:
        cookie = await lab.sign_in()
        await at_work(lab, cookie)
        await lab.stop()
        proxy = type(lab.proxy)(lab.proxy.built, lab.clock)
        lab.proxy = proxy
        lab.port = (await proxy.start())["web"]
        assert (await lab.get("/190", cookie)).status == 200
        assert (await lab.get("/20", cookie)).status == 200
        alert = verified(await hook.received())
        assert "20.0 kB" in alert["usual"], "of before the restart"
        assert (await command(lab, "alerts", "--since", "1h"))[1].count("alice@example.com") == 1


@pytest.mark.timeout(180)
async def test_several_workers_are_watched_together_and_a_lock_is_in_force_on_each(tmp_path: Path) -> None:
    async with HookServer() as hook:
        (tmp_path / "hook").write_text(SECRET)
        written = (
            "watch:\n"
            "  volume: {requests_floor: 20, learn: 0s, respond: enforce, effect: block, for: 1h}\n"
            "  first_use: {respond: off}\n"
            f'alerts: {{webhooks: [{{url: "{hook.url}", secret: "${{file:hook}}"}}]}}\n'
            "identity:\n"
        )
        async with Fleet(tmp_path, replace=(("identity:\n", written),)) as fleet:
            for _ in range(21):
                assert (await fleet.get("/", "alice")).status in {200, 403}
            alert = verified(await hook.received())
            assert (alert["kind"], alert["user"], alert["seen"]) == ("volume", "alice", "21 requests in up to 1 min")
            assert alert["lock"]
            refused = [(await fleet.get("/", "alice")).status for _ in range(8)]
            assert refused == [403] * 8
            assert (await fleet.get("/", "bob")).status == 200


async def test_what_is_counted_is_on_the_page_of_metrics() -> None:
    async with watched(WatchSettings(VOLUME, OFF), worker={"metrics": ("127.0.0.1", 0)}) as lab:
        cookie = await lab.sign_in()
        await at_work(lab, cookie)
        await lab.get("/210", cookie)
        control = lab.proxy.control
        assert control is not None
        await until(lambda: control.watch.alerts.counts.total() == 1)
        from zt_proxy.control.operator.alerts import WatchMetrics

        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for metric in WatchMetrics(control.watch)()
            for sample in metric.samples
        }
        assert samples["zt_alerts_total", "volume", "high"] == 1
        assert samples["zt_watch_observed_total",] == 5
        assert samples["zt_watch_dropped_total",] == 0
        assert samples["zt_watch_people",] == 0


async def test_a_download_that_goes_on_is_told_of_and_cut_before_its_end() -> None:
    def half(_: Seen) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + bytes(10_000_000)

    volume = VolumeSettings(floor=5_000 * KB, learn=0.0, response=respond(Respond.ENFORCE, LockEffect.BLOCK))
    async with watched(WatchSettings(volume=volume, first_use=OFF), clock=SystemClock()) as proxy:
        proxy.upstream.answer = half
        cookie = await proxy.sign_in()
        client = await proxy.connect()
        await client.write(b"GET /all HTTP/1.1\r\nHost: app.test\r\nCookie: " + cookie + b"\r\n\r\n")
        got = await client.ended()
        assert 5_000_000 < len(got) <= 10_001_000
        assert (await proxy.get("/", cookie)).problem["reason"] == "locked"
        lines = await proxy.log()
    assert [line["bytes_out"] for line in lines if line["type"] == "progress"] == [10_000_000]
    (alert,) = [line for line in lines if line["type"] == "alert"]
    assert alert["about"] == "volume"
