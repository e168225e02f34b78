"""A proxy whose one route masks answers.

async with masked_lab(mask("$..iban")) as lab:
    reply, seen = await lab.ask(json_answer({"iban": "DE89370400440532013000"}))
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tests.lab.proxy import ProxyLab, Reply, allow
from tests.lab.upstream import Seen
from zt_proxy.policy.spec import Not, RuleSpec, Test
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
    """The proxy, with somebody who is signed in."""

    def __init__(self, proxy: ProxyLab) -> None:
        self.proxy = proxy

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
    *masks: MaskSpec,
    rules: Sequence[RuleSpec] = (allow(),),
    route: dict[str, Any] | None = None,
    spared: bool = False,
    **answers: Any,
) -> AsyncIterator[MaskedLab]:
    """`answers` are fields of AnswerSettings, `route` of RouteSettings. `spared`: nobody who asks is masked."""
    if spared:
        masks = tuple(msgspec.structs.replace(each, applies=Not(Test("group", "in", ("staff",)))) for each in masks)
    fields = {"masks": masks, "answers": AnswerSettings(**answers), **(route or {})}
    async with ProxyLab(rules=rules, route=fields) as proxy:
        yield MaskedLab(proxy)
