"""Pushed authorization requests (RFC 9126): the browser carries a reference, and what was asked for stays unread."""

import re

from zt_proxy.control.identity.client_auth import ClientAuthentication
from zt_proxy.control.identity.discovery import Metadata
from zt_proxy.control.identity.fetch import Fetcher, Reply, invalid
from zt_proxy.control.identity.replies import error_code
from zt_proxy.control.identity.strict import parse_object

MODES = ("auto", "require", "off")
WHAT = "pushed authorization request endpoint"
_REQUEST_URI = re.compile(r"[\x21-\x7e]{1,2048}")


def pushes(mode: str, metadata: Metadata) -> bool:
    """Whether to push. Raises ProviderError(PROVIDER_INVALID) where the configuration and the provider disagree."""
    if metadata.push_endpoint is None and mode == "require":
        raise invalid("`par: require`, and the provider offers no pushed authorization requests")
    if metadata.requires_push and mode == "off":
        raise invalid("`par: off`, and the provider requires pushed authorization requests")
    return metadata.push_endpoint is not None and mode != "off"


async def push(
    fetcher: Fetcher, client: ClientAuthentication, metadata: Metadata, request: dict[str, str]
) -> dict[str, str]:
    """Push `request`; gives the query that stands for it: `client_id` and `request_uri` (§4).

    Nothing falls back to the open request: a provider that refuses has said no to what was asked. Whoever follows
    the link later than it is good (`expires_in`) is told so by the provider.
    """
    assert metadata.push_endpoint is not None
    form, headers = dict(request), dict[str, str]()
    client.add(form, headers, token_endpoint=metadata.token_endpoint)
    reply = await fetcher.post_form(metadata.push_endpoint, WHAT, form, headers)
    return {"client_id": request["client_id"], "request_uri": _request_uri(reply)}


def _request_uri(reply: Reply) -> str:
    if 400 <= reply.status < 500:
        raise invalid(f"{WHAT}: refused with {error_code(reply)}")
    if reply.status not in {200, 201}:
        raise invalid(f"{WHAT}: status {reply.status}")
    try:
        answer = parse_object(reply.body)
    except ValueError as error:
        raise invalid(f"{WHAT}: {error}") from None
    uri, lifetime = answer.get("request_uri"), answer.get("expires_in")
    if not isinstance(uri, str) or not _REQUEST_URI.fullmatch(uri):
        raise invalid(f"{WHAT}: no usable request_uri")
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or lifetime <= 0:
        raise invalid(f"{WHAT}: expires_in is not a positive number")
    return uri
