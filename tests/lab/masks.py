"""A proxy whose one route masks answers.

async with masked_lab(monkeypatch, mask("$..iban")) as lab:
    reply, seen = await lab.ask(json_answer({"iban": "DE89370400440532013000"}))
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.lab.proxy import APP, ProxyLab, Reply, allow, lab_route
from tests.lab.upstream import Seen
from zt_proxy.policy.spec import RuleSpec
from zt_proxy.worker.gateway import routes
from zt_proxy.worker.protect.mask import Masking, MaskRelay
from zt_proxy.worker.settings import AnswerSettings, MaskSpec

IBAN = "DE89370400440532013000"
STARS = "****"
KEY = bytes(32)
JSON = b"Content-Type: application/json\r\n"


def mask(*fields: str, name: str = "secrets", way: str = "fixed", **more: Any) -> MaskSpec:
    return MaskSpec(name, fields, way, **more)


def answer(body: bytes, headers: bytes = JSON, status: bytes = b"200 OK") -> bytes:
    """An answer with its length stated."""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(body), body)


def chunked(pieces: Sequence[bytes], headers: bytes = JSON, trailer: bytes = b"") -> bytes:
    """An answer in chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n%b0\r\n%b\r\n" % (headers, body, trailer)


def document(value: object) -> bytes:
    return answer(json.dumps(value).encode())


class MaskedLab:
    """The proxy, and the relays of its requests."""

    def __init__(self, proxy: ProxyLab, relays: list[MaskRelay]) -> None:
        self.proxy = proxy
        self.relays = relays

    async def ask(
        self,
        upstream: bytes | Callable[[Seen], bytes],
        headers: bytes = b"",
        method: str = "GET",
        path: str = "/data",
        groups: Sequence[str] = ("staff",),
    ) -> Reply:
        """One request of somebody who is signed in."""
        self.proxy.upstream.answer = upstream
        return await self.proxy.get(path, await self.proxy.sign_in(groups=groups), headers, method=method)

    @property
    def seen(self) -> Seen:
        """What the platform was asked last."""
        return self.proxy.upstream.seen[-1]


@asynccontextmanager
async def masked_lab(
    monkeypatch: pytest.MonkeyPatch,
    *masks: MaskSpec,
    rules: Sequence[RuleSpec] = (allow(),),
    route: dict[str, Any] | None = None,
    **answers: Any,
) -> AsyncIterator[MaskedLab]:
    """`answers` are fields of AnswerSettings, `route` of RouteSettings."""
    fields = {"masks": masks, "answers": AnswerSettings(**answers), **(route or {})}
    relays: list[MaskRelay] = []
    if "masking" not in routes.Route.__slots__:
        masking = Masking(lab_route("app", APP, rules, **fields), KEY)

        def make(*arguments: Any) -> MaskRelay:
            relay = masking.relay(masking._masks, *arguments)
            assert isinstance(relay, MaskRelay)
            relays.append(relay)
            return relay

        monkeypatch.setattr(routes, "Relay", make)
    async with ProxyLab(rules=rules, route=fields) as proxy:
        yield MaskedLab(proxy, relays)
