"""Forms that wait in control until their sender has proven who they are (DESIGN §7), as far as a request shows it.

    POST form ─► too little proven ─► control keeps it ─► the person proves ─► POST zt_resume=TOKEN ─► the form again

A form is kept only if the page that sent it was of the very same origin: a forged one would become an honest one on the
way. What comes back is decided like any other request; the token only says what was sent.
"""

import re

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.link.proofs import KeptForm
from zt_proxy.worker.gateway import browser
from zt_proxy.worker.wire.head import RequestHead
from zt_proxy.worker.wire.hygiene import Kind

URLENCODED = b"application/x-www-form-urlencoded"
KINDS = frozenset((URLENCODED, b"multipart/form-data", b"text/plain"))
"""What browsers send forms as (HTML §4.10.21)."""
RESUME = re.compile(rb"zt_resume=([A-Za-z0-9_-]{43})")
RESUME_BYTES = len(b"zt_resume=") + 43
_REPLACED = frozenset((b"content-type", b"origin", b"referer"))


def content_type(head: RequestHead) -> bytes:
    """The value of Content-Type; empty if it did not come exactly once."""
    values = [line.partition(b":")[2].strip() for line in head.lines if line[:13].lower() == b"content-type:"]
    return values[0] if len(values) == 1 else b""


def is_own_form(head: RequestHead) -> bool:
    """A person submitted a form of a page of this origin: the browser says so, and of exactly this origin."""
    return (
        head.method == b"POST"
        and head.noted[browser.FETCH_SITE] == b"same-origin"
        and not head.chunked
        and browser.is_navigation(head)
    )


def may_be_kept(head: RequestHead, limit: int) -> bool:
    """A form of this size and kind can wait. What no browser sends cannot: it would go on as something else."""
    if not 0 < head.content_length <= limit or not is_own_form(head):
        return False
    kind, referer = content_type(head), head.noted[int(Kind.REFERER)]
    return (
        kind.partition(b";")[0].strip().lower() in KINDS
        and kind.isascii()
        and (referer is None or referer.isascii())
        and not any(line[:17].lower() == b"content-encoding:" for line in head.lines)
    )


def may_be_resumed(head: RequestHead) -> bool:
    """It has the size of a token that releases a kept form; only its body tells whether it is one."""
    return (
        head.content_length == RESUME_BYTES
        and is_own_form(head)
        and content_type(head).partition(b";")[0].strip().lower() == URLENCODED
    )


def token_in(body: bytes) -> str | None:
    """The token, if the body is one and nothing else."""
    found = RESUME.fullmatch(body)
    return found[1].decode("ascii") if found is not None else None


def resumed(head: RequestHead, form: KeptForm, limit: int) -> RequestHead:
    """The head of the request as it was when the form was kept: the platform sees what the form said of itself.

    Raises ClientError(BODY_TOO_LARGE, 413) if the route takes no body of `limit` bytes any more.
    """
    if len(form.body) > limit:
        raise ClientError(Reason.BODY_TOO_LARGE, "the kept form is beyond the route's limit", status=413)
    lines = [line for line in head.lines if line.partition(b":")[0].lower() not in _REPLACED]
    named = ((b"Content-Type", form.content_type), (b"Origin", form.origin), (b"Referer", form.referer))
    lines += [b"%b: %b\r\n" % (name, value.encode("latin-1")) for name, value in named if value]
    noted = head.noted.copy()
    noted[browser.ORIGIN] = form.origin.encode("latin-1") or None
    noted[int(Kind.REFERER)] = form.referer.encode("latin-1") or None
    again = RequestHead(lines, noted)
    again.method, again.target, again.minor, again.keep_alive = head.method, head.target, head.minor, head.keep_alive
    again.content_length = len(form.body)
    return again
