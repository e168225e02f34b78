"""The other kind of "no": problem details for programs (RFC 9457)."""

import msgspec

from zt_proxy.core.errors import Reason
from zt_proxy.pages.texts import text_of

PROBLEM_TYPE = "https://zt-proxy.dev/reasons#"
CONTENT_TYPE = "application/problem+json"


def problem_body(*, status: int, reason: Reason, request_id: str, login_url: str | None = None) -> bytes:
    """JSON with `type`, `title`, `status`, `detail`, `reason`, `request_id`; `login_url` where that would help."""
    text = text_of(reason)
    body: dict[str, str | int] = {
        "type": PROBLEM_TYPE + reason.value,
        "title": text.title,
        "status": status,
        "detail": f"{text.sentence} {text.help}".strip(),
        "reason": reason.value,
        "request_id": request_id,
    }
    if login_url is not None:
        body["login_url"] = login_url
    return msgspec.json.encode(body)
