"""The mail about a request for approval. None of the requester's own words are in it, and nobody decides by it."""

from collections.abc import Iterator

from zt_proxy.control.approvals.types import Request, name_of
from zt_proxy.control.devices.mail import Letter
from zt_proxy.control.devices.times import written
from zt_proxy.pages.render import render
from zt_proxy.policy.spec import Approve

SUBJECT = "A request waits for your word"
MOST = 20
"""Letters about one request."""


def letters(request: Request, named: Approve, *, portal_host: str, portal_origin: str) -> Iterator[Letter]:
    """To those whom the rule names by an address; nobody here knows the members of a group."""
    own = {each.casefold() for each in (request.who.email, request.who.subject) if each}
    values = {
        "site": portal_host,
        "who": name_of(request.who),
        "host": request.handoff.host,
        "rule": request.handoff.rule,
        "action": request.handoff.action,
        "until": written(request.expires),
        "link": f"{portal_origin}/.zt/approvals",
    }
    for to in [each for each in named.users if "@" in each and each.casefold() not in own][:MOST]:
        yield Letter(
            to=to,
            subject=f"{SUBJECT} at {portal_host}",
            text=render("mail_approval.txt", **values).decode(),
            html=render("mail_approval.html", **values).decode(),
        )
