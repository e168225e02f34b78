"""Which provider somebody signs in at: the route's own, the one they are known to, the domain's of their address, or
the one they choose."""

from urllib.parse import quote, urlencode

from aiohttp import web

from zt_proxy.control.identity.types import IdentityProvider
from zt_proxy.control.portal.answers import page
from zt_proxy.control.portal.call import Call
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.handoff import Handoff, Purpose
from zt_proxy.core.session import Session
from zt_proxy.pages.texts import text_of

MAX_ADDRESS = 320
"""Characters: RFC 5321 §4.5.3.1."""


def routes_own(call: Call, handoff: Handoff | None) -> str:
    """The provider that the route of a hand-off asks for; empty: it takes any."""
    return "" if handoff is None else call.portal.app(handoff.host).providers.get(handoff.route, "")


def of_the_right_provider(call: Call, handoff: Handoff | None, session: Session | None) -> Session | None:
    """The session, unless the route asks for people of another provider: it is then as good as none."""
    own = routes_own(call, handoff)
    return None if session is not None and own and session.principal.provider != own else session


def choose(call: Call, named: str | None, handoff: Handoff | None, session: Session | None) -> IdentityProvider | None:
    """The provider to go to; None if the person has to choose first.

    A route's own provider and, at a step-up, that of the session it is for (FIELD 13) come before what the link says.
    """
    providers = call.portal.providers
    if handoff is not None and session is not None and (named is None or handoff.purpose is Purpose.REAUTH):
        named = session.principal.provider
    named = routes_own(call, handoff) or named
    if named is not None:
        if named not in providers:
            raise ClientError(Reason.PROVIDER_INVALID, "no such provider is configured", status=400)
        return providers[named]
    if handoff is not None and len(providers) == 1:
        return next(iter(providers.values()))
    return None


def address_in(query: dict[str, str]) -> str | None:
    """What was given as an e-mail address, if it can be one. It decides where to ask and nothing else."""
    address = query.get("email", "").strip()
    local, _, domain = address.rpartition("@")
    usable = len(address) <= MAX_ADDRESS and address.isprintable() and " " not in address
    return address if local and domain and usable else None


def by_address(call: Call, address: str) -> str | None:
    """Name of the provider whose people have addresses of this domain."""
    domain = address.rpartition("@")[2].lower()
    found = (one.name for one in call.portal.settings.providers if domain in one.domains)
    return next((name for name in found if name in call.portal.providers), None)


def choice(call: Call, query: dict[str, str] | None = None, handoff: Handoff | None = None) -> web.Response:
    """The sign-in page. The hand-off travels on unopened, still sealed.

    With an address whose domain is known it leads on by itself. That is no redirect: browsers hold those after a form
    to the page's `form-action`, and a provider may send people on to anywhere.
    """
    query = query or {}
    to = {"to": query["to"]} if "to" in query else {}

    def link(name: str, **more: str) -> str:
        return "/.zt/sign-in?" + urlencode({"with": name} | more | to, quote_via=quote)

    domains = {one.name for one in call.portal.settings.providers if one.domains}
    address = address_in(query)
    known = None if address is None else by_address(call, address)
    everybody = {name: provider.display_name for name, provider in call.portal.providers.items()}
    if address is not None and known is not None:
        choices = [(everybody[known], link(known, email=address))]
    else:  # whose people are told by their domain needs no button, unless there is nothing else to press
        choices = [(shown, link(name)) for name, shown in everybody.items() if name not in domains]
    answer = page(
        call,
        "sign_in.html",
        choices=choices,
        asks_address=bool(domains) and known is None,
        address=query.get("email", "")[:MAX_ADDRESS] if "email" in query else "",
        unknown="email" in query and known is None,
        to=query.get("to"),
        destination=handoff.host if handoff is not None else None,
        displaced=text_of(Reason.SESSION_DISPLACED) if displaced(call) else None,
    )
    if known is not None:
        answer.headers["Refresh"] = f"0; url={choices[0][1]}"
    return answer


def displaced(call: Call) -> bool:
    """The session that this browser had here gave way to one elsewhere."""
    handle = call.handle_hash()
    return handle is not None and call.portal.sessions.why(handle, call.host) is Reason.SESSION_DISPLACED
