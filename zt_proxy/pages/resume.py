"""The two pages around a kept form: the one that leads to the portal meanwhile, and the one that sends the form on.

The second posts a token to where the form was meant to go, by itself or by a button.
"""

import base64
import hashlib
from html import escape
from importlib.resources import files

from zt_proxy.pages.style import KEY, STYLE, STYLE_HASH, TICK, guard_headers

_JS = files("zt_proxy.pages").joinpath("static/resume.js").read_text("utf-8").strip()
_HASH = "sha256-" + base64.b64encode(hashlib.sha256(_JS.encode()).digest()).decode()


def onward_headers(url: str) -> dict[str, str]:
    """Of `onward_page`. No redirect: Chromium holds the redirects after a form to the `form-action` of the page that
    sent it (CSP 3 §6.4.2), and an app's page may well say `'self'`; what a page leads on to is not the form's."""
    return {**guard_headers(), "Refresh": f"0; url={url}"}


def onward_page(host: str, url: str) -> bytes:
    """A complete HTML document in UTF-8, seen for a moment: what was sent waits, `url` asks for the proof."""
    return _document(
        host,
        "Please confirm that it is you",
        "no",
        "<p>What you sent is kept for ten minutes, and goes on when you have confirmed.</p>\n"
        f'<p><a class="go" href="{escape(url)}">Confirm</a></p>\n',
        KEY,
    )


def resume_headers() -> dict[str, str]:
    """Of `resume_page`: its one script and the style are admitted by their hashes, nothing else.

    No `form-action`: Chromium holds to it what the app's answer to the form leads to, and that is the app's to say.
    The referrer is our own origin's: under `no-referrer` the form would go out with `Origin: null` (Fetch §3.2).
    """
    policy = (
        f"default-src 'none'; script-src '{_HASH}'; style-src '{STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'"
    )
    return {**guard_headers(), "Content-Security-Policy": policy, "Referrer-Policy": "same-origin"}


def resume_page(host: str, target: str, token: str) -> bytes:
    """A complete HTML document in UTF-8. `target` is a path of `host`; the body of the form is `zt_resume=` and the
    token, and nothing else."""
    return _document(
        host,
        "Confirmed",
        "yes",
        "<p>What you sent before goes on now.</p>\n"
        f'<form method="post" action="{escape(target)}">\n'
        f'<input type="hidden" name="zt_resume" value="{escape(token)}">\n<button>Send it</button>\n</form>\n',
        TICK,
        f"<script>{_JS}</script>\n",
    )


def _document(host: str, title: str, kind: str, content: str, icon: str, script: str = "") -> bytes:
    """`content`, `icon` and `script` are our own markup."""
    name = escape(host)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n<meta name="robots" content="noindex">\n'
        f"<title>{title} · {name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<main class="{kind}">\n<p class="site">{icon}<span>{name}</span></p>\n<h1>{title}</h1>\n{content}</main>\n'
        f"{script}</body>\n</html>\n"
    ).encode()
