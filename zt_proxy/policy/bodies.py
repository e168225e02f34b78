"""JSON that platforms steer by, read so that no second reader can understand it differently.

What two parsers may take for different things is refused where somebody asks for it: repeated keys, keys that differ
in case alone (Go folds it), what is no strict JSON, another content type, a compressed body.
"""

import json
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import parse_qsl, unquote_to_bytes

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.policy import graphql

HeaderOf = Callable[[bytes], bytes | None]
_MAX_ITEMS = 4096
_MAX_BATCH = 64


def refused(detail: str) -> ClientError:
    """The body decides what the request means, and cannot be read for certain."""
    return ClientError(Reason.BODY_NOT_INSPECTABLE, detail, status=403)


def prepare() -> None:
    """Have the strict reader at hand: for profiles that read bodies. Who has none is spared three megabytes."""
    import orjson  # noqa: F401


Pairs = tuple[tuple[str, Any], ...]
"""A JSON object as it was written: built in C, without a look at its keys, where a dict would forget the repeated ones.
Lists are lists, so that the two can be told apart."""


class JsonBody:
    """A body as JSON; `fields` walks it."""

    __slots__ = ("_root",)

    def __init__(self, payload: bytes) -> None:
        """Raises ClientError(BODY_NOT_INSPECTABLE) unless it is empty, or strict JSON in UTF-8.

        Some 30 ms for 256 KiB of the worst there is; what is usual takes a tenth.
        """
        self._root: Any = ()
        if not payload:
            return
        import orjson

        try:
            # orjson is the strict one (UTF-8, no NaN, bounded depth); the other one shows repeated keys.
            orjson.loads(payload)
            self._root = json.loads(payload, object_pairs_hook=tuple)
        except (ValueError, RecursionError) as error:
            raise refused("not strict JSON") from error

    @classmethod
    def of(cls, pairs: list[tuple[str, Any]]) -> Self:
        """As if these were the keys and values of an object."""
        body = cls(b"")
        body._root = tuple(pairs)
        return body

    @property
    def root(self) -> Any:
        return self._root

    def fields(self, path: str) -> list[Any]:
        """All values at a dotted path; none: it is not there. Raises ClientError for an ambiguous one."""
        values = [self._root]
        for part in path.split("."):
            values = [inner for value in values for inner in _step(value, part)]
            if len(values) > _MAX_ITEMS:
                raise refused("too many items to look at")
        return values


def _step(value: Any, part: str) -> list[Any]:
    if isinstance(value, tuple):
        if part == "*":
            return [inner for _, inner in value]
        if len(value) > _MAX_ITEMS:
            raise refused("too many keys to look at")
        folded = part.casefold()
        found = [pair for pair in value if pair[0] == part or pair[0].casefold() == folded]
        if not found:
            return []
        if len(found) > 1:
            raise refused("a key that decides is repeated")
        if found[0][0] != part:
            raise refused("a key that decides is spelled in another case")
        return [found[0][1]]
    if isinstance(value, list):
        if part == "*":
            return value
        if part.isdecimal() and len(part) < 6 and int(part) < len(value):
            return [value[int(part)]]
    return []


def text_of(value: Any) -> str | None:
    """A scalar as text, `true` and `1` as JSON writes them; None for lists and objects."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else None


def json_body(header: HeaderOf, payload: bytes) -> JsonBody:
    """The body of a request. Raises ClientError(BODY_NOT_INSPECTABLE) unless it is plain JSON and says so."""
    if not payload:
        return JsonBody(b"")
    encoding = header(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in {b"", b"identity"}:
        raise refused("a content encoding")
    said = (header(b"content-type") or b"").lower()
    kind, *parameters = b"".join(said.replace(b'"', b"").split()).split(b";")
    if b"," in said:
        raise refused("several content types")
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise refused("not declared as JSON")
    # Each of several, since some platforms take the last, and some of those know UTF-7.
    if any(each.startswith(b"charset") and each != b"charset=utf-8" for each in parameters):
        raise refused("not declared as UTF-8")
    return JsonBody(payload)


def graphql_of_body(body: JsonBody) -> tuple[graphql.Part, ...]:
    """What a GraphQL request asks for, or several in one batch. Raises ClientError(BODY_NOT_INSPECTABLE)."""
    requests = body.root if isinstance(body.root, list) else [body.root]
    if len(requests) > _MAX_BATCH:
        raise refused("a GraphQL batch of too many requests")
    parts: dict[graphql.Part, None] = {}
    budget = graphql.Budget()
    for request in requests:
        if not isinstance(request, tuple):
            raise refused("a GraphQL batch of something else")
        documents = _step(request, "query")
        if len(documents) != 1 or not isinstance(documents[0], str):
            raise refused("GraphQL without a query, perhaps a stored one")
        parts.update(dict.fromkeys(_read(documents[0], budget)))
        if len(parts) > 256:
            raise refused("a GraphQL batch of too many fields")
    if not parts:
        raise refused("an empty GraphQL batch")
    return tuple(parts)


def no_query_beside(query: bytes | None) -> None:
    """Some servers take a document in the address before the one in the body. Raises ClientError."""
    for piece in (query or b"").split(b"&"):
        name = unquote_to_bytes(piece.partition(b"=")[0].replace(b"+", b" "))
        if name.partition(b"[")[0].strip().lower() == b"query":
            raise refused("GraphQL in the address, beside a body")


def graphql_of_query(query: bytes | None) -> tuple[graphql.Part, ...]:
    """The same for a GET request."""
    try:
        pairs = parse_qsl((query or b"").decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=64)
    except ValueError as error:
        raise refused("a query string that cannot be read") from error
    documents = [value for name, value in pairs if name.partition("[")[0] == "query"]
    if len(documents) != 1:
        raise refused("GraphQL without a query, perhaps a stored one, or with several")
    return _read(documents[0])


def _read(document: str, budget: graphql.Budget | None = None) -> tuple[graphql.Part, ...]:
    try:
        return graphql.read(document, budget)
    except graphql.Unreadable as error:
        raise refused(f"GraphQL that cannot be read: {error}") from error
