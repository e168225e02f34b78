"""A mail server on a free port that keeps what it takes (RFC 5321, as much of it as smtplib speaks)."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Self

from tests.lab.waiting import until


class SmtpServer:
    """`async with SmtpServer() as server`. `refuse` is asked for each command and may answer in the server's place."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, implicit: bool = False) -> None:
        self._tls = tls
        self._implicit = implicit
        self.messages: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.envelopes: list[tuple[str, tuple[str, ...]]] = []
        self.logins: list[tuple[str, str]] = []
        self.encrypted: list[bool] = []
        self.connections = 0
        self._talks: set[asyncio.Task[None]] = set()
        self.refuse: Callable[[str], str | None] = lambda line: None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._tls if self._implicit else None
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._talks)

    async def received(self, count: int = 1) -> EmailMessage:
        """The last message, once so many have come."""
        await until(lambda: len(self.messages) >= count)
        return self.messages[-1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            with contextlib.suppress(OSError):  # the client may have broken off
                await writer.wait_closed()
            self._talks.discard(talk)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        encrypted, sender, to = self._implicit, "", list[str]()

        def say(line: str) -> None:
            writer.write(line.encode() + b"\r\n")

        say("220 lab.test ready")
        while line := (await reader.readline()).decode("latin-1").rstrip("\r\n"):
            verb = line.partition(" ")[0].upper()
            answer = self.refuse(line)
            if answer is not None:
                say(answer)
            elif verb in {"EHLO", "HELO"}:
                offers = ["lab.test", "AUTH PLAIN"] + ["STARTTLS"] * (self._tls is not None and not encrypted)
                for offer in offers[:-1]:
                    say(f"250-{offer}")
                say(f"250 {offers[-1]}")
            elif verb == "STARTTLS" and self._tls is not None:
                say("220 go ahead")
                await writer.drain()
                await writer.start_tls(self._tls)
                encrypted = True
            elif verb == "AUTH":
                _, name, word = base64.b64decode(line.split()[2]).decode().split("\0")
                self.logins.append((name, word))
                say("235 welcome")
            elif verb == "MAIL":
                sender, to = line.partition("<")[2].partition(">")[0], []
                say("250 ok")
            elif verb == "RCPT":
                to.append(line.partition("<")[2].partition(">")[0])
                say("250 ok")
            elif verb == "DATA":
                say("354 go on")
                body = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
                self.envelopes.append((sender, tuple(to)))
                self.encrypted.append(encrypted)
                self.raw.append(body)
                self.messages.append(message_from_bytes(body, policy=default))  # type: ignore[arg-type]
                say("250 taken")
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")
