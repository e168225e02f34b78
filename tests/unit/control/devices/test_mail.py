"""Letters leave the proxy over a real server: encrypted, tried again, bounded, and never as anybody else's header."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from structlog.testing import capture_logs

from tests.lab.smtp import SmtpServer
from tests.lab.waiting import until
from zt_proxy.control.devices import mail
from zt_proxy.control.devices.mail import Letter, Outbox, message_of, plain_address
from zt_proxy.control.settings import MailSettings, MailTls
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.keys import Secret

SENDER = "zt@example.com"
LETTER = Letter("alice@example.com", "New sign-in at auth.example.com", "Somebody signed in.\n", "<p>Somebody</p>")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def settings(server: SmtpServer, kind: MailTls = MailTls.INSECURE_NONE, **more: object) -> MailSettings:
    return MailSettings("127.0.0.1", server.port, SENDER, kind, timeout=5.0, **more)  # type: ignore[arg-type]


class Paused:
    """Notes how long the outbox wants to wait, and lets it go on at once."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(outbox: Outbox) -> AsyncIterator[Outbox]:
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_letter_arrives_as_text_and_as_html() -> None:
    async with SmtpServer() as server, running(Outbox(ManualClock(), settings(server))) as outbox:
        assert outbox.put(LETTER)
        message = await server.received()
    assert server.envelopes == [(SENDER, ("alice@example.com",))]
    assert message["Subject"] == LETTER.subject
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"] == "Fri, 15 Jan 2027 08:00:00 +0000"
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "text/html"]


@pytest.mark.parametrize("kind", [MailTls.STARTTLS, MailTls.IMPLICIT])
async def test_a_letter_and_the_password_go_encrypted_to_a_server_that_proves_itself(
    tmp_path: Path, authority: trustme.CA, tls: ssl.SSLContext, kind: MailTls
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    async with SmtpServer(tls, implicit=kind is MailTls.IMPLICIT) as server:
        sent = settings(server, kind, username="zt", password=Secret("hidden"), ca=ca)
        async with running(Outbox(ManualClock(), sent)) as outbox:
            outbox.put(LETTER)
            await server.received()
    assert server.encrypted == [True]
    assert server.logins == [("zt", "hidden")]


async def test_nothing_is_told_to_a_server_that_does_not_prove_itself(tls: ssl.SSLContext) -> None:
    pause = Paused()
    async with SmtpServer(tls) as server:
        sent = settings(server, MailTls.STARTTLS, username="zt", password=Secret("hidden"))
        async with running(Outbox(ManualClock(), sent, pause=pause)) as outbox:
            outbox.put(LETTER)
            await until(lambda: server.connections > len(mail.PAUSES))
    assert (server.messages, server.logins) == ([], [])


async def test_a_server_without_starttls_gets_no_letter_in_the_clear() -> None:
    pause = Paused()
    async with (
        SmtpServer() as server,
        running(Outbox(ManualClock(), settings(server, MailTls.STARTTLS), pause=pause)) as outbox,
    ):
        outbox.put(LETTER)
        await until(lambda: server.connections > len(mail.PAUSES))
    assert server.messages == []


async def test_a_server_that_is_busy_is_asked_again_after_a_while() -> None:
    pause = Paused()
    async with SmtpServer() as server:
        server.refuse = lambda line: "450 later" if line.lower().startswith("rcpt") and server.connections < 3 else None
        async with running(Outbox(ManualClock(), settings(server), pause=pause)) as outbox:
            outbox.put(LETTER)
            await server.received()
    assert tuple(pause.seconds) == mail.PAUSES[:2]


async def test_a_letter_is_dropped_when_the_server_stays_away_and_the_log_says_so_without_the_address() -> None:
    pause, attempts = Paused(), 0

    def send(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        raise ConnectionRefusedError("alice@example.com")

    with capture_logs() as logs:
        outbox = Outbox(ManualClock(), MailSettings("127.0.0.1", 1, SENDER), pause=pause, send=send)
        async with running(outbox):
            outbox.put(LETTER)
            await until(lambda: any(line["log_level"] == "error" for line in logs))
    assert attempts == len(mail.PAUSES) + 1
    assert tuple(pause.seconds) == mail.PAUSES
    assert "alice" not in repr(logs)


async def test_an_address_that_the_server_does_not_know_is_not_tried_again() -> None:
    pause = Paused()
    async with SmtpServer() as server:
        server.refuse = lambda line: "550 nobody" if "alice" in line else None
        async with running(Outbox(ManualClock(), settings(server), pause=pause)) as outbox:
            outbox.put(LETTER)
            outbox.put(Letter("bob@example.com", "x", "x", "x"))
            await server.received()
    assert pause.seconds == []


async def test_a_full_queue_drops_the_letter_and_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "WAITING", 3)
    outbox = Outbox(ManualClock(), MailSettings("127.0.0.1", 1, SENDER))
    assert [outbox.put(LETTER) for _ in range(4)] == [True, True, True, False]


async def test_without_settings_nothing_is_queued() -> None:
    outbox = Outbox(ManualClock())
    assert not outbox.active
    assert not outbox.put(LETTER)


INJECTED = [
    "alice@example.com\r\nBcc: all@example.com",
    "alice@example.com\nBcc: all@example.com",
    "alice@example.com, bob@example.com",
    "Alice <alice@example.com>",
    '"a b"@example.com',
    "alice@example.com ",
    "alice@[127.0.0.1]",
    "@example.com",
    "alice",
    "a..b@example.com",
    "älice@example.com",
    "alice@example.com\u2028",
    "a" * 65 + "@example.com",
    "alice@" + "a." * 130 + "com",
]


@pytest.mark.parametrize("address", INJECTED)
async def test_an_address_that_is_more_than_one_gets_no_mail(address: str) -> None:
    assert not plain_address(address)
    outbox = Outbox(ManualClock(), MailSettings("127.0.0.1", 1, SENDER))
    assert not outbox.put(Letter(address, "x", "x", "x"))
    with pytest.raises(ValueError, match="plain"):
        message_of(Letter(address, "x", "x", "x"), SENDER, 0.0)


@pytest.mark.parametrize("subject", ["x\r\nBcc: all@example.com", "x\nBcc: all@example.com", "x\rBcc: y"])
async def test_a_subject_cannot_become_another_header(subject: str) -> None:
    with pytest.raises(ValueError, match=r"linefeed|newline|header"):
        message_of(Letter("alice@example.com", subject, "x", "x"), SENDER, 0.0)
