"""People who are asked why, who ask others, and who agree: with browsers, through the whole proxy."""

import json
from typing import Any
from urllib.parse import urlsplit

import jwt

from tests.lab.browser import Browser, Page
from tests.lab.proxy import APP, allow
from tests.lab.world import AUTH, HOME, World
from zt_proxy.control.settings import ApprovalSettings, BreakGlassSettings
from zt_proxy.policy.spec import Approve

WHY = "The customer asked for it in ticket 4711"
NAMED = Approve(groups=("admins",))
SHORT = Approve(groups=("admins",), valid=300.0)
RULES = (
    allow("export", paths=("/export", "/export/**"), justify=True),
    allow("deploy", paths=("/deploy", "/deploy/**"), approve=NAMED),
    allow("short", paths=("/short",), approve=SHORT),
    allow("both", paths=("/both",), justify=True, approve=NAMED),
    allow("staff", paths=("/", "/flows", "/edit")),
)
ROUTE: dict[str, Any] = {"break_glass": ("bob@example.test",)}
CONTROL: dict[str, Any] = {
    "approvals": (
        ApprovalSettings("app", "deploy", NAMED),
        ApprovalSettings("app", "both", NAMED),
        ApprovalSettings("app", "short", SHORT),
    ),
    "break_glass": BreakGlassSettings(("bob@example.test",), 1_800.0),
}


async def somebody(w: World, user: str = "bob") -> Browser:
    """Signed in at the app and at the portal. bob is staff; alice is one of the admins, too, who may agree."""
    w.idp.user = user
    browser = await w.person()
    assert (await browser.visit(AUTH + "/")).status == 200
    return browser


async def say(browser: Browser, page: Page, text: str = WHY, **more: str) -> Page:
    """Answer a page that has a field for words; gives where that leads."""
    address = urlsplit(page.url)
    form = {"token": page.input("token"), "said": text, **more}
    return await browser.submit(page, f"{address.path}?{address.query}", form)


async def decide(browser: Browser, answer: str = "approve", **replaced: str) -> Page:
    """What somebody does at the list of requests, with the first of them."""
    page = await browser.visit(AUTH + "/.zt/approvals")
    form = {"token": page.input("token"), "id": page.input("id"), "answer": answer, **replaced}
    return await browser.submit(page, "/.zt/approvals", form)


def stated(w: World) -> dict[str, Any]:
    """What the assertion of the last request says that reached the app."""
    token = w.lab.upstream.seen[-1].header(b"x-zt-assertion")
    assert token is not None
    claims: dict[str, Any] = jwt.decode(token.decode(), options={"verify_signature": False})
    return claims


async def lines(w: World, kind: str) -> list[dict[str, Any]]:
    """What is on record of this kind so far."""
    found = []
    for path in sorted((w.lab.directory / "audit").glob("*.jsonl")):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in found if line["type"] == kind]


__all__ = [
    "APP",
    "AUTH",
    "CONTROL",
    "HOME",
    "NAMED",
    "ROUTE",
    "RULES",
    "WHY",
    "decide",
    "lines",
    "say",
    "somebody",
    "stated",
]
