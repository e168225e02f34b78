"""Mail on its way: a bounded queue, one letter at a time, tried again for a while. Who puts one in never waits.

Nothing that a stranger wrote can become a header: addresses are taken only where they are plain `local@domain`, and
`EmailMessage` refuses line breaks.
"""

import asyncio
import contextlib
import re
import smtplib
import ssl
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid

import msgspec
import structlog

from zt_proxy.control.devices.times import utc
from zt_proxy.control.settings import MailSettings, MailTls
from zt_proxy.core.clock import Clock

WAITING = 1_000
"""Letters in the queue; the next one is dropped, and the log says so."""
PER_ADDRESS = 10
"""Of them to one address: who signs in again and again must not keep others from hearing of a sign-in."""
PAUSES = (5.0, 30.0, 120.0, 600.0, 1_800.0)
"""Seconds before each further attempt; after the last one the letter is dropped."""
LONGEST_ADDRESS = 254
"""RFC 5321 §4.5.3.1.3, less the angle brackets."""

_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}")

log = structlog.get_logger(__name__)


class Letter(msgspec.Struct, frozen=True):
    """One mail. `to` is a plain address; what is in the texts is the sender's business."""

    to: str
    subject: str
    text: str
    html: str

    def __repr__(self) -> str:
        """Without the texts: a link in them is good once."""
        return f"Letter(to={self.to!r}, subject={self.subject!r})"


Send = Callable[[MailSettings, EmailMessage], None]
"""Hands a message to the server. Blocks; raises OSError or smtplib.SMTPException (which is one)."""


def plain_address(text: str) -> bool:
    """Whether it is one ASCII address without display name, quotes, comments or white space (RFC 5321 §4.1.2).

    What a mail program could read as a coded word (RFC 2047) is none: `email` reads it, and may fail over it.
    """
    if len(text) > LONGEST_ADDRESS or _ADDRESS.fullmatch(text) is None or "=?" in text:
        return False
    local = text.partition("@")[0]
    return not (local.startswith(".") or local.endswith(".") or ".." in local)


def message_of(letter: Letter, sender: str, now: float) -> EmailMessage:
    """As it goes over the wire. Raises ValueError for an address or a subject that would be more than that."""
    if not plain_address(letter.to) or not plain_address(sender):
        raise ValueError("not a plain mail address")
    message = EmailMessage(policy=SMTP)
    message["From"] = Address("Sign-in notices", addr_spec=sender)
    message["To"] = Address(addr_spec=letter.to)
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(utc(now))
    message["Message-ID"] = make_msgid(domain=sender.partition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: no out-of-office answer, please
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    return message


def deliver(settings: MailSettings, message: EmailMessage) -> None:
    """Over one connection of its own. Blocks. Raises OSError, of which smtplib's errors are a kind."""
    context = None
    if settings.tls is not MailTls.INSECURE_NONE:
        context = ssl.create_default_context(cafile=settings.ca)
    if settings.tls is MailTls.IMPLICIT:
        server: smtplib.SMTP = smtplib.SMTP_SSL(settings.host, settings.port, timeout=settings.timeout, context=context)
    else:
        server = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout)
    with server:
        if settings.tls is MailTls.STARTTLS:
            server.starttls(context=context)  # raises where the server does not offer it: never without
        if settings.username and settings.password is not None:
            server.login(settings.username, settings.password.reveal())
        server.send_message(message)


class Outbox:
    """Letters that wait. `run()` is a task beside it; `configure` may come at any time."""

    def __init__(
        self,
        clock: Clock,
        settings: MailSettings | None = None,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        send: Send = deliver,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._pause = pause
        self._send = send
        self._letters: deque[tuple[Letter, int]] = deque()
        self._later: set[asyncio.Task[None]] = set()
        self._to: Counter[str] = Counter()
        """Letters on their way, by address."""
        self._wake = asyncio.Event()

    def configure(self, settings: MailSettings | None) -> None:
        """What is still waiting goes out by the new settings; without any, nowhere."""
        self._settings = settings

    @property
    def active(self) -> bool:
        """Whether mail is sent at all."""
        return self._settings is not None

    def put(self, letter: Letter) -> bool:
        """Queue a letter. False, and a line in the log, if there is no room for it or it is no letter."""
        if self._settings is None:
            return False
        if not plain_address(letter.to):
            log.warning("mail not sent", reason="not a plain address")
            return False
        if len(self._letters) + len(self._later) >= WAITING:
            log.error("mail not sent", reason="too many letters are waiting")
            return False
        if self._to[letter.to.casefold()] >= PER_ADDRESS:
            log.error("mail not sent", reason="too many letters to one address are waiting")
            return False
        self._to[letter.to.casefold()] += 1
        self._queue(letter, 0)
        return True

    async def run(self) -> None:
        """Send until cancelled, one letter at a time."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._letters:
                    letter, attempt = self._letters.popleft()
                    if await self._try(letter, attempt):
                        self._settled(letter)
        finally:
            for task in tuple(self._later):
                task.cancel()

    async def _try(self, letter: Letter, attempt: int) -> bool:
        """Whether that was the last of it: sent, or given up."""
        settings = self._settings
        if settings is None:
            return True
        try:
            message = message_of(letter, settings.sender, self._clock.now())
            await _aside(self._send, settings, message)
        except (OSError, ValueError) as error:
            if _for_good(error) or attempt >= len(PAUSES):
                log.error("mail not sent", detail=_detail(error), attempts=attempt + 1)
                return True
            log.warning("mail will be tried again", detail=_detail(error), seconds=PAUSES[attempt])
            task = asyncio.create_task(self._again(letter, attempt))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
            return False
        except Exception as error:  # whatever a library makes of this letter, the next one goes out
            log.error("mail not sent", detail=_detail(error), attempts=attempt + 1)
            return True
        log.info("mail sent", subject=letter.subject)
        return True

    def _settled(self, letter: Letter) -> None:
        to = letter.to.casefold()
        self._to[to] -= 1
        if self._to[to] <= 0:
            del self._to[to]

    async def _again(self, letter: Letter, attempt: int) -> None:
        await self._pause(PAUSES[attempt])
        self._queue(letter, attempt + 1)

    def _queue(self, letter: Letter, attempt: int) -> None:
        self._letters.append((letter, attempt))
        self._wake.set()


async def _aside(send: Send, settings: MailSettings, message: EmailMessage) -> None:
    """In a thread that nobody waits for at the end of the process: a server may take long to say nothing."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def work() -> None:
        failure: BaseException | None = None
        try:
            send(settings, message)
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, failure)

    threading.Thread(target=work, name="mail", daemon=True).start()
    await done


def _for_good(error: Exception) -> bool:
    """Whether trying again cannot help: the address is none, or the server knows it not (RFC 5321 §4.2.1)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, ValueError) and not isinstance(error, OSError)  # a bad certificate is both


def _detail(error: Exception) -> str:
    """What went wrong, without what the server said: it may quote the address."""
    code = getattr(error, "smtp_code", None)
    return f"{type(error).__name__} {code}" if code is not None else type(error).__name__
