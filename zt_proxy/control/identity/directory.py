"""Groups that no token carries: asked of the provider's own interface, at an origin that the configuration names.

What a token says about where to ask (`_claim_sources`) is never followed: the access token would go there.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import jwt
from cachetools import TTLCache

from zt_proxy.control.identity.discovery import check_issuer, check_url
from zt_proxy.control.identity.fetch import Fetcher, Reply, invalid, json_body, unreachable
from zt_proxy.control.identity.replies import error_code
from zt_proxy.control.identity.service_account import ServiceAccount, load_service_account
from zt_proxy.control.identity.strict import parse_object, printable
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ConfigurationError, ProviderError, Reason
from zt_proxy.core.keys import Secret

MAX_GROUPS = 5_000
GRAPH_PAGE = 999
GOOGLE_PAGE = 200
"""The most that each gives at once."""
REMEMBERED = 300.0
"""Seconds for which groups of Google's serve again: Google counts what is asked."""
REMEMBERED_PEOPLE = 10_000
QUOTA = frozenset(("quotaExceeded", "rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded"))
"""What Google says with 403, too, when it was asked too often: that is no word on the person."""
GOOGLE_SCOPE = "https://www.googleapis.com/auth/admin.directory.group.readonly"


class Directory(Protocol):
    """Knows the groups of a person."""

    always: bool
    """Whether to ask for everyone; else for those of whom the token says that it left groups out."""

    async def groups(self, subject: str, access_token: Secret) -> frozenset[str]:
        """All groups of `subject`, whole. Raises ProviderError: PROVIDER_UNREACHABLE, or LOGIN_GROUPS_OVERAGE when they
        cannot be had or are more than MAX_GROUPS: nobody is judged by some of their groups."""
        ...


def directory_of(settings: ProviderSettings, fetcher: Fetcher, clock: Clock) -> Directory | None:
    """Raises ConfigurationError for an address or a key that cannot be used."""
    if not settings.directory:
        return None
    loopback = check_issuer(settings.issuer)
    try:
        origin = check_url(settings.directory, loopback_http=loopback).rstrip("/")
        if settings.preset == "entra":
            return GraphGroups(fetcher, origin)
        if settings.preset == "google" and settings.service_account is not None:
            account = load_service_account(settings.service_account.key)
            check_url(account.token_uri, loopback_http=loopback)
            return GoogleGroups(fetcher, origin, account, settings.service_account.administrator, clock)
    except ValueError as error:
        raise ConfigurationError(f"provider {settings.name}: address of its directory: {error}") from None
    return None


class GraphGroups:
    """Microsoft Graph, with the person's own access token (scope `User.Read`): groups they are in, also through others.

    Gives object ids, as the token's own `groups` does.
    """

    always = False
    _WHAT = "Microsoft Graph"

    def __init__(self, fetcher: Fetcher, origin: str) -> None:
        self._fetcher = fetcher
        self._origin = origin

    async def groups(self, subject: str, access_token: Secret) -> frozenset[str]:
        """See Directory."""
        found: set[str] = set()
        url: object = f"{self._origin}/v1.0/me/transitiveMemberOf?" + urlencode({"$select": "id", "$top": GRAPH_PAGE})
        for _ in range(MAX_GROUPS // GRAPH_PAGE + 2):
            page = _page(await self._fetcher.get(self._same_origin(url), self._WHAT, _bearer(access_token)), self._WHAT)
            found |= _items(page.get("value"), "id", self._WHAT, kind="#microsoft.graph.group")
            url = page.get("@odata.nextLink")
            if url is None:
                return _whole(found)
        raise _overage("the pages of Microsoft Graph do not end")

    def _same_origin(self, url: object) -> str:
        """A page that is elsewhere would get the access token."""
        if not isinstance(url, str) or not url.startswith(self._origin + "/v1.0/") or len(url) > 8_192:
            raise invalid(f"{self._WHAT}: the next page is not at {urlsplit(self._origin).hostname}")
        return url


class GoogleGroups:
    """The Directory API of Google Workspace, as a service account in an administrator's name (RFC 7523 §2.1).

    Gives the groups' addresses, in lower case. Direct membership only: that is all the interface says.
    """

    always = True
    _WHAT = "Google's Directory API"

    def __init__(
        self, fetcher: Fetcher, origin: str, account: ServiceAccount, administrator: str, clock: Clock
    ) -> None:
        self._fetcher = fetcher
        self._origin = origin
        self._account = account
        self._administrator = administrator
        self._clock = clock
        self._remembered: TTLCache[str, frozenset[str]] = TTLCache(REMEMBERED_PEOPLE, REMEMBERED, timer=clock.monotonic)
        self._token: Secret | None = None
        self._token_ends = 0.0
        self._lock = asyncio.Lock()

    async def groups(self, subject: str, access_token: Secret) -> frozenset[str]:
        """See Directory. The person's own token cannot ask."""
        known = self._remembered.get(subject)
        if known is None:
            known = self._remembered[subject] = await self._fetch(subject)
        return known

    async def _fetch(self, subject: str) -> frozenset[str]:
        found: set[str] = set()
        query = {"userKey": subject, "maxResults": str(GOOGLE_PAGE)}
        headers = _bearer(await self._own_token())
        for _ in range(MAX_GROUPS // GOOGLE_PAGE + 2):
            url = f"{self._origin}/admin/directory/v1/groups?{urlencode(query)}"
            page = _page(await self._fetcher.get(url, self._WHAT, headers), self._WHAT)
            found |= {address.lower() for address in _items(page.get("groups", []), "email", self._WHAT)}
            following = page.get("nextPageToken")
            if following is None:
                return _whole(found)
            if printable(following, 2_048) is None:
                raise invalid(f"{self._WHAT}: nextPageToken is no short text")
            query["pageToken"] = str(following)
        raise _overage("the pages of Google's Directory API do not end")

    async def _own_token(self) -> Secret:
        """An access token of the service account, the same until shortly before its end."""
        async with self._lock:
            if self._token is None or self._clock.monotonic() >= self._token_ends:
                self._token, lifetime = await self._ask_token()
                self._token_ends = self._clock.monotonic() + lifetime - 60
            return self._token

    async def _ask_token(self) -> tuple[Secret, float]:
        now, what = int(self._clock.now()), "Google's token endpoint"
        account = self._account
        claims = {
            "iss": account.email,
            "sub": self._administrator,
            "scope": GOOGLE_SCOPE,
            "aud": account.token_uri,
            "iat": now,
            "exp": now + 300,
        }
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": jwt.encode(claims, account.key, algorithm="RS256", headers={"kid": account.key_id}),
        }
        reply = await self._fetcher.post_form(account.token_uri, what, form, {})
        if 400 <= reply.status < 500:
            raise _overage(f"{what} refused the service account: {error_code(reply)}")
        answer = _page(reply, what)
        token, lifetime = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise invalid(f"{what}: no access_token")
        if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or lifetime <= 0:
            lifetime = 0
        return Secret(token), float(lifetime)


def _bearer(token: Secret) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.reveal()}"}


def _page(reply: Reply, what: str) -> Mapping[str, Any]:
    if reply.status == 404:
        raise unreachable(f"{what}: does not know the person yet")
    if reply.status == 403 and _too_often(reply):
        raise unreachable(f"{what}: asked too often")
    if 400 <= reply.status < 500:
        raise _overage(f"{what}: status {reply.status}; has the proxy been given the permission?")
    try:
        return parse_object(json_body(reply, what))
    except ValueError as error:
        raise invalid(f"{what}: {error}") from None


def _too_often(reply: Reply) -> bool:
    try:
        error = parse_object(reply.body).get("error")
    except ValueError:
        return False
    errors = error.get("errors") if isinstance(error, dict) else None
    return isinstance(errors, list) and any(isinstance(one, dict) and one.get("reason") in QUOTA for one in errors)


def _items(items: object, member: str, what: str, kind: str | None = None) -> set[str]:
    """One member of each item, of one `@odata.type` where asked for. Anything of another shape spoils the whole."""
    if not isinstance(items, list):
        raise invalid(f"{what}: no list of groups")
    names = set[str]()
    for item in items:
        if not isinstance(item, dict):
            raise invalid(f"{what}: a group is no object")
        if kind is not None and item.get("@odata.type") != kind:
            continue
        name = printable(item.get(member), 320)
        if name is None:
            raise invalid(f"{what}: a group without {member}")
        names.add(name)
    return names


def _whole(found: set[str]) -> frozenset[str]:
    if len(found) > MAX_GROUPS:
        raise _overage(f"more than {MAX_GROUPS} groups")
    return frozenset(found)


def _overage(detail: str) -> ProviderError:
    return ProviderError(Reason.LOGIN_GROUPS_OVERAGE, detail, status=403)
