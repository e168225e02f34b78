"""What every answer on the operator's socket shares."""

import pwd
from typing import TypeVar

import msgspec
from aiohttp import web

from zt_proxy.core.errors import ClientError, Reason

UID = web.RequestKey("uid", int)
"""Who asks, as the kernel says."""

T = TypeVar("T")


async def order(request: web.Request, decoder: "msgspec.json.Decoder[T]") -> T:
    """The body. Raises ClientError(MALFORMED)."""
    try:
        return decoder.decode(await request.read())
    except msgspec.MsgspecError as error:
        raise ClientError(Reason.MALFORMED, f"not an order: {error}") from error


def name_of(uid: int) -> str:
    """Of a user of this machine; empty for one without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def json(body: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
    )
