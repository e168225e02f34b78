"""The page a worker answers with when it says no: self-contained, without jinja2, compiled at import."""

from html import escape
from string import Template

from zt_proxy.core.errors import Reason
from zt_proxy.pages.style import BAR, STYLE, guard_headers
from zt_proxy.pages.texts import text_of

PAGE_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/html; charset=utf-8"),
    *((name.lower().encode(), value.encode()) for name, value in guard_headers().items()),
)
"""Headers for `denial_page`, names in lower case; without Content-Length and X-Request-Id, which the caller adds."""

_PAGE = Template(
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
    '<meta name="robots" content="noindex">\n<title>$title · $host</title>\n<style>'
    + STYLE.replace("$", "$$")
    + '</style>\n</head>\n<body>\n<main class="no">\n<p class="site">'
    + BAR
    + "<span>$host</span></p>\n<h1>$title</h1>\n<p>$sentence</p>\n$note$help$action<dl>\n$facts</dl>\n</main>\n"
    "</body>\n</html>\n"
)


def denial_page(
    *,
    status: int,
    reason: Reason,
    request_id: str,
    host: str,
    who: str | None = None,
    rule: str = "",
    action: tuple[str, str] | None = None,
    quiet: bool = False,
    note: str = "",
) -> bytes:
    """A complete HTML document in UTF-8; everything that comes from outside is escaped (ZT-ADMIN-03).

    `who` is how the signed-in person is named to themselves, `rule` the id of the rule that decided, `action` the text
    and address (a path of this host, or an https URL the caller vouches for) of one thing to do next; `quiet` if it is
    possible rather than likely; `note` a sentence about this very case.
    """
    text = text_of(reason)
    facts = [("Reason", f"<code>{escape(reason.value)}</code>"), ("Status", str(status))]
    if rule:
        facts.append(("Rule", f"<code>{escape(rule)}</code>"))
    if who:
        facts.append(("Signed in as", escape(who)))
    facts.append(("Request", f"<code>{escape(request_id)}</code>"))
    return _PAGE.substitute(
        title=escape(text.title),
        host=escape(host),
        sentence=escape(text.sentence),
        note=f"<p>{escape(note)}</p>\n" if note else "",
        help=f'<p class="soft">{escape(text.help)}</p>\n' if text.help else "",
        action=f'<p><a class="go{" quiet" if quiet else ""}" href="{escape(action[1])}">{escape(action[0])}</a></p>\n'
        if action
        else "",
        facts="".join(f"<dt>{name}</dt><dd>{value}</dd>\n" for name, value in facts),
    ).encode()
