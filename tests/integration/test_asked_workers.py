"""Reasons, approvals and the broken glass over several processes, their restarts, and what is open."""

import asyncio
import re
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from tests.lab.asked import ROUTE, RULES, SHORT, decide, say, somebody
from tests.lab.browser import Browser
from tests.lab.fleet import AUTH, Fleet
from tests.lab.proxy import Reply, allow
from tests.lab.waiting import until
from tests.lab.world import AUTH as PORTAL
from tests.lab.world import HOME, MINUTE, World, world
from tests.lab.ws import TEXT, EchoPlatform, Frame, close_code, frame, handshake, read_frame, remaining_frames
from zt_proxy.control.settings import ApprovalSettings
from zt_proxy.core.session import Approval, unlock_key

NAVIGATION = b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nAccept: text/html\r\n"
DEPLOY = '{id: deploy, allow: [{paths: ["/deploy"]}], to: {groups: [staff]}, require: {approve: {users: [bob]}}}'
STAFF = '{id: staff, allow: [{paths: ["/", "/stream"]}], to: {groups: [staff]}}'


async def portal(fleet: Fleet, who: str, target: str, form: dict[str, str] | None = None) -> Reply:
    """What somebody does at the portal's host."""
    host = f"{AUTH}:{fleet.port}"
    head = f"{'GET' if form is None else 'POST'} {target} HTTP/1.1\r\nHost: {host}\r\n".encode() + NAVIGATION
    body = b""
    if form is not None:
        body = urlencode(form).encode()
        head += f"Origin: https://{host}\r\nSec-Fetch-Site: same-origin\r\nContent-Length: {len(body)}\r\n".encode()
        head += b"Content-Type: application/x-www-form-urlencoded\r\n"
    client = await fleet.connect(AUTH)
    await client.write(head + b"Cookie: " + fleet.portal_cookies[who] + b"\r\n\r\n" + body)
    reply = await client.reply()
    await client.close()
    return reply


def found(reply: Reply, name: str) -> str:
    match = re.search(rf'name="{name}" value="([^"]*)"'.encode(), reply.body)
    assert match is not None, reply
    return match[1].decode()


async def everywhere(fleet: Fleet, status: int) -> bool:
    """Many new connections: some to each worker."""
    return {(await fleet.get("/deploy")).status for _ in range(12)} == {status}


def on_record(folder: Path) -> str:
    return "".join(path.read_text() for path in (folder / "state").rglob("*.jsonl"))


async def test_what_is_agreed_to_counts_on_every_worker_and_survives_them_all(tmp_path: Path) -> None:
    async with Fleet(tmp_path, workers=2, rules=(DEPLOY, STAFF)) as fleet:
        assert await everywhere(fleet, 401)
        problem = (await fleet.get("/deploy")).problem
        assert problem["reason"] == "approval-required"
        sealed = urlsplit(problem["login_url"]).query
        asked = await portal(fleet, "alice", f"/.zt/approval?{sealed}")
        form = {"token": found(asked, "token"), "said": "before control dies"}
        waits = await portal(fleet, "alice", f"/.zt/approval?{sealed}", form)
        assert waits.status == 303, waits
        (control,) = fleet.children("control")
        control.kill()
        await until(lambda: [each.pid for each in fleet.children("control")] not in ([], [control.pid]), 30)
        async with asyncio.timeout(30):
            while (shown := await portal(fleet, "bob", "/.zt/approvals")).status != 200:
                await asyncio.sleep(0.05)
        await fleet.back()  # every worker has found the new control
        assert b"before control dies" in shown.body
        form = {"token": found(shown, "token"), "id": found(shown, "id"), "answer": "approve"}
        async with asyncio.timeout(30):
            while (agreed := await portal(fleet, "bob", "/.zt/approvals", form)).status == 503:
                await asyncio.sleep(0.05)  # a worker that has not found the new control has done nothing
        assert agreed.status == 303, agreed.body
        assert await everywhere(fleet, 200), "at once, on all"
        for worker in fleet.children("worker"):
            worker.kill()
        await fleet.back()
        assert await everywhere(fleet, 200)
        await until(lambda: '"approved_by":"bob"' in on_record(tmp_path), 10)
        assert '"type":"approval"' in on_record(tmp_path)


async def test_a_socket_that_somebody_agreed_to_ends_with_the_approval() -> None:
    rules = (allow("live", paths=("/ws",), approve=SHORT), *RULES)
    settings = {"approvals": (ApprovalSettings("app", "live", SHORT),)}
    async with world(rules, route=ROUTE, control=settings, upstream=EchoPlatform()) as w:
        control = w.lab.proxy.control
        assert control is not None
        sid, cookie = await w.lab.new_session()
        client = await w.lab.connect()
        await client.write(handshake(cookie))
        assert (await client.reply()).status == 401, "nobody agreed"
        approval = Approval("bob@example.com", w.clock.now() + 5 * MINUTE)
        await control.sessions.grants.approve(sid, unlock_key("app", "live"), approval)
        client = await w.lab.connect()
        await client.write(handshake(cookie))
        assert (await client.reply()).status == 101
        await client.write(frame(TEXT, b"while it holds"))
        assert await read_frame(client.reader) == Frame(TEXT, b"while it holds")
        await w.lab.advance(5 * MINUTE + 1)
        async with asyncio.timeout(20):
            (last,) = await remaining_frames(client.reader)
        assert close_code(last) == 4403


async def test_who_left_the_group_agrees_no_more_and_who_joined_it_does() -> None:
    settings = {"approvals": (ApprovalSettings("app", "deploy", SHORT),)}
    async with world(RULES, control=settings) as w:
        bob = await somebody(w)
        waits = await say(bob, await bob.visit(HOME + "/deploy"), "")
        assert waits.status == 200
        w.idp.users["alice"]["groups"] = ["staff"]  # alice leaves the admins
        alice = await somebody(w, "alice")
        assert "Nobody waits" in (await alice.visit(PORTAL + "/.zt/approvals")).text
        w.idp.users["alice"]["groups"] = ["admins"]
        assert (await decide(await somebody_at_the_portal(w, "alice"))).url.endswith("done=approved")


async def somebody_at_the_portal(w: World, user: str) -> Browser:
    """Who has no access to the app may agree all the same."""
    w.idp.user = user
    browser = w.browser()
    page = await browser.visit(PORTAL + "/.zt/sign-in?with=corp")
    assert page.status == 200, page
    return browser
