"""Webhooks against a real server: signature, TLS, retries, and that nobody waits."""

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trustme

from tests.lab.hooks import HookServer
from tests.lab.waiting import until
from zt_proxy.control.settings import WebhookSettings
from zt_proxy.control.watch.alerts import Alert
from zt_proxy.control.watch.webhooks import PAUSES, WAITING, Webhook, Webhooks, sign
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.core.keys import Secret

SECRET = Secret("a secret of the hook")
ALERT = Alert(1, "0123456789ab", 1.5, "volume", "high", "alice took much", "app", "report")


@asynccontextmanager
async def hook(url: str, *, ca: Path | None = None, timeout: float = 5.0) -> AsyncIterator[tuple[Webhook, list[float]]]:
    """A running webhook, and the pauses it made."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    webhook = Webhook(WebhookSettings(url, SECRET, ca, timeout), ManualClock(), pause=pause)
    task = asyncio.create_task(webhook.run())
    try:
        yield webhook, pauses
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_the_signature_is_an_hmac_over_time_and_body() -> None:
    body = b'{"v":1}'
    expected = hmac.new(b"a secret of the hook", b"1800000000." + body, hashlib.sha256).hexdigest()
    assert sign(SECRET, 1_800_000_000, body) == f"t=1800000000,v1={expected}"
    assert sign(SECRET, 1_800_000_001, body) != sign(SECRET, 1_800_000_000, body)
    assert sign(Secret("another secret, too"), 1_800_000_000, body) != sign(SECRET, 1_800_000_000, body)


async def test_a_message_carries_what_the_receiver_checks() -> None:
    async with HookServer() as server, hook(server.url + "?tenant=1") as (webhook, _):
        body = msgspec.json.encode(ALERT)
        webhook.put(ALERT.id, body)
        message = await server.received()
        await until(lambda: webhook.sent == 1)
        assert message.path == "/hook?tenant=1"
        assert message.body == body
        assert message.headers["Content-Type"] == "application/json"
        assert message.headers["X-ZT-Alert-Id"] == "0123456789ab"
        at = int(message.headers["X-ZT-Timestamp"])
        assert message.headers["X-ZT-Signature"] == sign(SECRET, at, body)
        assert "Cookie" not in message.headers


async def test_a_failing_receiver_is_asked_again_with_growing_pauses_and_a_fresh_signature() -> None:
    async with HookServer([503, 429, 200]) as server, hook(server.url) as (webhook, pauses):
        webhook.put("a", b"{}")
        await server.received(3)
        await until(lambda: webhook.sent == 1)
        assert pauses == list(PAUSES[:2])
        assert webhook.problem == ""


async def test_a_receiver_that_never_answers_well_is_given_up_and_the_next_message_is_tried() -> None:
    async with HookServer([503] * (len(PAUSES) + 1) + [200]) as server, hook(server.url) as (webhook, pauses):
        webhook.put("a", b"{}")
        webhook.put("b", b"{}")
        await until(lambda: webhook.sent == 1)
        assert webhook.failed == {"unreachable": 1}
        assert pauses == list(PAUSES)
        assert server.messages[-1].headers["X-ZT-Alert-Id"] == "b"


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410])
async def test_a_refusal_is_no_reason_to_ask_again(status: int) -> None:
    async with HookServer([status, 200]) as server, hook(server.url) as (webhook, pauses):
        webhook.put("a", b"{}")
        webhook.put("b", b"{}")
        await until(lambda: webhook.sent == 1)
        assert (webhook.failed, pauses, len(server.messages)) == ({"refused": 1}, [], 2)


async def test_a_redirect_is_not_followed() -> None:
    async with HookServer() as other, HookServer([302], {"Location": other.url}) as server:
        async with hook(server.url) as (webhook, _):
            webhook.put("a", b"{}")
            await until(lambda: webhook.failed.total() == 1)
        assert other.messages == []


async def test_nobody_there_is_a_reason_to_ask_again() -> None:
    async with HookServer() as server:
        url = server.url
    async with hook(url) as (webhook, pauses):
        webhook.put("a", b"{}")
        await until(lambda: webhook.failed.total() == 1)
        assert webhook.failed == {"unreachable": 1}
        assert len(pauses) == len(PAUSES)


async def test_a_receiver_that_says_nothing_is_waited_for_no_longer_than_the_time_out() -> None:
    async with HookServer(hold=asyncio.Event()) as server, hook(server.url, timeout=0.05) as (webhook, _):
        webhook.put("a", b"{}")
        await until(lambda: webhook.failed.total() == 1)


async def test_the_queue_is_bounded_and_what_finds_no_room_is_counted() -> None:
    async with HookServer(hold=asyncio.Event()) as server, hook(server.url) as (webhook, _):
        webhook.put("first", b"{}")
        await server.received()
        for number in range(WAITING + 9):
            webhook.put(str(number), b"{}")
        assert webhook.failed == {"full": 10}


def tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("name", "trusted", "sent"), [("127.0.0.1", True, 1), ("127.0.0.1", False, 0), ("a.test", True, 0)]
)
async def test_only_a_certificate_of_a_trusted_authority_for_that_very_name_gets_an_alert(
    tmp_path: Path, name: str, trusted: bool, sent: int
) -> None:
    authority, other = trustme.CA(), trustme.CA()
    (authority if trusted else other).cert_pem.write_to_path(tmp_path / "ca.pem")
    async with HookServer(tls=tls(authority, name)) as server, hook(server.url, ca=tmp_path / "ca.pem") as (webhook, _):
        webhook.put("a", b"{}")
        await until(lambda: webhook.sent + webhook.failed.total() == 1)
        assert (webhook.sent, len(server.messages)) == (sent, sent)


def test_authorities_that_cannot_be_read_are_a_problem_at_load(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Webhook(WebhookSettings("https://siem.test/", SECRET, tmp_path / "none.pem"), ManualClock())


async def test_a_reload_keeps_what_stays_and_what_waits_there_and_ends_what_goes() -> None:
    webhooks = Webhooks(ManualClock())
    async with HookServer(hold=asyncio.Event()) as slow, HookServer() as second:
        one, two = WebhookSettings(slow.url, SECRET), WebhookSettings(second.url, SECRET)
        webhooks.adopt((one,), webhooks.prepare((one,)))
        webhooks.put(ALERT)
        await slow.received()
        fresh = webhooks.prepare((one, two))
        assert [each.settings for each in fresh] == [two]
        webhooks.adopt((one, two), fresh)
        webhooks.put(ALERT)
        await second.received()
        assert slow.hold is not None
        slow.hold.set()
        await slow.received(2)
        webhooks.adopt((two,), webhooks.prepare((two,)))
        webhooks.put(ALERT)
        await second.received(2)
        assert len(slow.messages) == 2
        await webhooks.close()
