"""A person's browser: keeps cookies by host under the rules of RFC 6265bis, follows redirects, visits the provider.

async with MockIdp() as idp, ProxyLab(providers=(provider_of(idp),)) as lab:
    browser = Browser(lab)
    page = await browser.visit("https://app.test/flows")       # to the portal, the provider, and back
    assert (page.status, page.url) == (200, "https://app.test/flows")
    assert [hop.host for hop in page.hops] == ["app.test", "auth.test", ...]
"""

import asyncio
import re
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import urlencode, urljoin, urlsplit

from tests.lab.idp import CLIENT_ID, CLIENT_SECRET, MockIdp
from tests.lab.proxy import Client, ProxyLab, Reply
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.keys import Secret

NAVIGATE = {
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "none",
    "Accept": "text/html,application/xhtml+xml",
}
FETCH = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin", "Accept": "*/*"}
SESSION = "__Host-zt"
LOGIN = "__Host-zt-login"


def provider_of(idp: MockIdp, **more: object) -> ProviderSettings:
    """The lab's provider, as the operator registered the proxy there."""
    return ProviderSettings("corp", "Corp", idp.issuer, CLIENT_ID, Secret(CLIENT_SECRET), **more)  # type: ignore[arg-type]


@dataclass
class Page:
    """The answer at the end of a visit."""

    url: str
    reply: Reply
    hops: list[str] = field(default_factory=list)
    """Every address on the way, the last one included."""

    @property
    def status(self) -> int:
        return self.reply.status

    @property
    def text(self) -> str:
        return self.reply.body.decode()

    @property
    def location(self) -> str:
        return self.reply.header("location") or ""

    @property
    def hosts(self) -> list[str]:
        return [urlsplit(hop).netloc for hop in self.hops]

    def input(self, name: str) -> str:
        """Value of a hidden field of the page's form."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.text)
        assert found is not None, self.text
        return unescape(found.group(1))


class Browser:
    """See the module."""

    def __init__(self, lab: ProxyLab) -> None:
        self.lab = lab
        self.jar: dict[str, dict[str, str]] = {}
        self.set_cookies: list[tuple[str, str]] = []
        """Host and line of every Set-Cookie that came."""
        self.blocks: set[str] = set()
        """Hosts whose session cookie this browser loses."""

    def cookies(self, host: str) -> dict[str, str]:
        return self.jar.setdefault(host, {})

    async def request(
        self, url: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Page:
        """One request, no redirect followed. `headers` replace those of a navigation."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = {"Host": parts.netloc, **(NAVIGATE if headers is None else headers)}
        if self.cookies(parts.netloc):
            lines["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies(parts.netloc).items())
        if body:
            lines["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        client = await self._connect(parts.scheme, parts.hostname or "", parts.port)
        await client.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        reply = await client.reply(method)
        await client.close()
        for line in reply.all("set-cookie"):
            self._keep(parts.netloc, line)
        return Page(url, reply, [url])

    async def visit(self, url: str, *, until: str = "\0") -> Page:
        """Navigate, following redirects; stop early in front of an address that contains `until`."""
        page = await self.request(url)
        hops = [url]
        while page.status in {301, 302, 303, 307, 308}:
            assert len(hops) < 25, hops
            url = urljoin(page.url, page.location)
            if until in url:
                break
            hops.append(url)
            page = await self.request(url)
        page.hops = hops
        return page

    async def fetch(self, url: str, method: str = "GET", **headers: str) -> Page:
        """A background request of the app's own page."""
        origin = {"Origin": f"https://{urlsplit(url).netloc}"} if method != "GET" else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.request(url, method, {**FETCH, **origin, **named})

    async def submit(self, page: Page, action: str, form: dict[str, str]) -> Page:
        """Send a form of this page, and follow where it leads."""
        url = urljoin(page.url, action)
        headers = {
            **NAVIGATE,
            "Sec-Fetch-Site": "same-origin",
            "Origin": f"https://{urlsplit(page.url).netloc}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        answer = await self.request(url, "POST", headers, urlencode(form).encode())
        if answer.status not in {302, 303}:
            return answer
        return await self.visit(urljoin(url, answer.location))

    async def _connect(self, scheme: str, host: str, port: int | None) -> Client:
        if scheme == "https":
            return await self.lab.connect(host)
        return Client(*await asyncio.open_connection(host, port))

    def _keep(self, host: str, line: str) -> None:
        """Store a cookie as browsers do (RFC 6265bis §5.7)."""
        self.set_cookies.append((host, line))
        pair, *attributes = (part.strip() for part in line.split(";"))
        name, _, value = pair.partition("=")
        given = {key.lower(): text for key, _, text in (each.partition("=") for each in attributes)}
        if name.startswith("__Host-") and not (
            "secure" in given and given.get("path") == "/" and "domain" not in given
        ):
            return
        if given.get("max-age") == "0" or (name == SESSION and host in self.blocks):
            self.cookies(host).pop(name, None)
        else:
            self.cookies(host)[name] = value
