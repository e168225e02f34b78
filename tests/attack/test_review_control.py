"""A second look at control: what plants cookies, reads key files, or outlives a sign-out."""

import pytest

from tests.lab.proxy import APP, PORTAL, ProxyLab

NAVIGATION = b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nAccept: text/html\r\n"
LOOK_ALIKES = [space.encode() for space in "\u00a0\u2000\u3000\u0085\u2028"] + [b"\x1c", b"\x0b", b"\x0c"]


@pytest.mark.parametrize("padding", LOOK_ALIKES, ids=ascii)
@pytest.mark.case("ZT-SESS-01")
async def test_a_cookie_whose_name_only_looks_like_ours_is_never_ours(padding: bytes) -> None:
    # A browser applies the rules of `__Host-` to names that begin with it, and these do not: any neighbour under the
    # same registrable domain may set them for the portal, with `Domain=`.
    async with ProxyLab() as lab:
        for host in (PORTAL, APP):
            own = await lab.sign_in(host=host)
            for planted in (padding + own, own.replace(b"=", padding + b"=", 1)):
                reply = await lab.get("/.zt/session", planted, host=host)
                assert reply.status in {200, 400}
                assert b'"signed_in":true' not in reply.body, (host, planted)
