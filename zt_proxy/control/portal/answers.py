"""How the portal answers: pages, problems, redirects; nothing is ever cached or framed."""

import re
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from zt_proxy.control.identity.types import LoginRefused
from zt_proxy.control.portal.call import Call
from zt_proxy.core.errors import ClientError, Reason, ZtError
from zt_proxy.pages.problem import CONTENT_TYPE, problem_body
from zt_proxy.pages.render import render, render_error
from zt_proxy.pages.style import guard_headers

_TARGET = re.compile(r"/(?!/)[\x21-\x7e]*")
RETRY_AFTER = "5"
HSTS = "max-age=31536000"
"""RFC 6797, at the portal's own host name alone: whether an app's name is served by others over http, nobody knows."""


def check_target(target: str) -> str:
    """A target on the same host: exactly one leading slash, visible ASCII, nothing a browser turns into a host.

    Raises ClientError(HANDOFF_INVALID) (ZT-REDIR-01, ZT-REDIR-02, ZT-HDRS-03).
    """
    if _TARGET.fullmatch(target) is None or "\\" in target or "#" in target:
        raise ClientError(Reason.HANDOFF_INVALID, "the link does not lead to a path of its host")
    return target


def page(
    call: Call,
    template: str,
    *,
    status: int = 200,
    form_action: Sequence[str] = (),
    has_form: bool = False,
    script: bool = False,
    **values: Any,
) -> web.Response:
    """A page of ours. With `has_form`, the browser may tell our own origin where the form was: under `no-referrer`
    it would send `Origin: null` with the form, which is refused as foreign (Fetch §3.2). With `script` it may run
    the portal's own."""
    body = render(template, site=call.host, **values)
    response = _answer(call, status, body, "text/html", form_action, script=script)
    if has_form:
        response.headers["Referrer-Policy"] = "same-origin"
    return response


def redirect(call: Call, location: str) -> web.Response:
    """303 See Other: whatever the request was, the next one is a GET (RFC 9110 §15.4.4)."""
    response = _answer(call, 303, b"", "text/plain")
    response.headers["Location"] = location
    return response


def json_answer(call: Call, body: bytes, *, max_age: int | None = None) -> web.Response:
    response = _answer(call, 200, body, "application/json")
    if max_age is not None:
        response.headers["Cache-Control"] = f"public, max-age={max_age}"
    return response


def script_file(call: Call, body: bytes) -> web.Response:
    """A script of ours. Its address changes with its content, so a browser need never ask again."""
    response = _answer(call, 200, body, "text/javascript")
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def empty(call: Call) -> web.Response:
    """204 No Content."""
    response = _answer(call, 204, b"", "text/plain")
    del response.headers["Content-Type"]
    return response


def failure(call: Call, error: ZtError) -> web.Response:
    """The same reason as a page for people and as problem details for programs. The detail stays inside."""
    if call.navigation:
        body = render_error(
            status=error.status,
            reason=error.reason,
            request_id=call.request_id,
            host=call.host,
            said=error.description or error.error if isinstance(error, LoginRefused) else "",
            action=call.retry,
            note=call.note,
        )
        response = _answer(call, error.status, body, "text/html")
    else:
        response = problem(error.status, error.reason, call.request_id)
    for line in call.cookies:
        if line not in response.headers.getall("Set-Cookie", ()):
            response.headers.add("Set-Cookie", line)
    if call.allow and error.status == 405:
        response.headers["Allow"] = call.allow
    if error.retryable or error.status == 429:
        response.headers["Retry-After"] = RETRY_AFTER
    return response


def problem(status: int, reason: Reason, request_id: str) -> web.Response:
    body = problem_body(status=status, reason=reason, request_id=request_id)
    headers = guard_headers() | {"X-Request-Id": request_id}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="zt-proxy"'
    return web.Response(status=status, body=body, headers=headers, content_type=CONTENT_TYPE)


def _answer(
    call: Call, status: int, body: bytes, kind: str, form_action: Sequence[str] = (), *, script: bool = False
) -> web.Response:
    headers = guard_headers(form_action, script=script) | {"X-Request-Id": call.request_id}
    if call.host == call.portal.settings.portal_host:
        headers["Strict-Transport-Security"] = HSTS
    response = web.Response(status=status, body=body, headers=headers, content_type=kind, charset="utf-8")
    for line in call.cookies:
        response.headers.add("Set-Cookie", line)
    return response
