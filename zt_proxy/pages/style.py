"""The one style of all pages, inlined in each and admitted by its hash; and the headers every page carries."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

STYLE = Path(__file__).parent.joinpath("static/zt.css").read_text("utf-8").strip()
STYLE_HASH = "sha256-" + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

SHIELD = (
    '<svg viewBox="0 0 24 24" aria-hidden="true" focusable="false">'
    '<path d="M12 3l7.5 2.7v5.6c0 4.5-3 8.1-7.5 9.7-4.5-1.6-7.5-5.2-7.5-9.7V5.7z"/>{}</svg>'
)
TICK = SHIELD.format('<path d="M8.6 12.2l2.3 2.3 4.6-4.8"/>')
BAR = SHIELD.format('<path d="M8.5 12h7"/>')
KEY = SHIELD.format('<path d="M12 11v4"/><circle cx="12" cy="9.5" r="1.3"/>')


SCRIPT = "script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'; "


def content_security_policy(form_action: Sequence[str] = (), *, script: bool = False) -> str:
    """No frame, no foreign style; scripts only with `script`, and then this host's own files alone, none of which
    makes markup of text (Trusted Types). `form_action`: origins beside our own that a form's answer leads to
    (Chromium holds the redirects after a POST to the policy, too)."""
    targets = " ".join(("'self'", *form_action))
    return (
        f"default-src 'none'; style-src '{STYLE_HASH}'; {SCRIPT if script else ''}img-src 'self' data:; "
        f"form-action {targets}; frame-ancestors 'none'; base-uri 'none'"
    )


def guard_headers(form_action: Sequence[str] = (), *, script: bool = False) -> dict[str, str]:
    """Headers of every answer of the proxy's own, page or not. `script`: see `content_security_policy`."""
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": content_security_policy(form_action, script=script),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
