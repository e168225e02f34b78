"""What a platform profile says, in plain values: declared here by the consumer, made by `config.profiles`.

They travel to worker processes inside the settings: nothing here but text, numbers, enums and tuples.
"""

from enum import StrEnum

import msgspec

from zt_proxy.core.types import Action, Change, Sensitivity

BODY_LIMIT = 256 * 1024


class Format(StrEnum):
    """How a WebSocket message was sent (RFC 6455 §5.6)."""

    TEXT = "text"
    BINARY = "binary"
    ANY = "any"


class Encoding(StrEnum):
    """What the messages of a WebSocket are written in."""

    JSON = "json"
    JUPYTER = "jupyter"
    """Kernel messages, in either protocol of Jupyter Server."""
    STREAMLIT = "streamlit"
    """BackMsg, in protobuf."""


class FieldTest(msgspec.Struct, frozen=True):
    """About one query parameter, header, or field of a JSON body.

    `name` of a body field is a dotted path; a part of it may be an index, or `*` for every item of a list. With
    `values` one of them must fit (`*` is any run of characters); without, the field must be there, or with `absent`
    must not.
    """

    name: str
    values: tuple[str, ...] = ()
    absent: bool = False


class GraphQLTest(msgspec.Struct, frozen=True):
    """About one top-level field of a GraphQL operation. Empty means any; `*` is any run of characters."""

    types: tuple[str, ...] = ()
    """`query`, `mutation`, `subscription`."""
    operations: tuple[str, ...] = ()
    """Names that clients give to operations: they are free to give any."""
    fields: tuple[str, ...] = ()
    """Names in the platform's schema; aliases do not hide them."""


class ObjectSpec(msgspec.Struct, frozen=True):
    """What a request is about. `name` is text with `{capture}`, `{query.NAME}`, `{body.PATH}` or `{graphql.field}`;
    when one of them is not there, the object has no name."""

    kind: str
    name: str = ""
    owner: str = ""
    """Whose it is, made the same way."""


class MatcherSpec(msgspec.Struct, frozen=True):
    """Requests that mean one action. All that is given must fit; of the lists, one item is enough.

    `paths` are templates over the path below the route's: `{name}` is one segment or part of one, `{name**}` any number
    of segments, `*` and `**` the same without a name; a `/` at the end makes no difference. GET stands for HEAD too.
    """

    id: str
    action: Action | None
    """None: refused, whatever the rules say."""
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    query: tuple[FieldTest, ...] = ()
    headers: tuple[FieldTest, ...] = ()
    """Values are compared without regard to case."""
    body: tuple[FieldTest, ...] = ()
    """Of a JSON body."""
    graphql: GraphQLTest | None = None
    websocket: bool = False
    """Fits upgrades, and them alone; without it, everything else."""
    object: ObjectSpec | None = None
    sensitivity: Sensitivity | None = None
    changes: Change | None = None


class MessageSpec(msgspec.Struct, frozen=True):
    """Messages of the client in a WebSocket that mean one action."""

    id: str
    action: Action | None
    """None: refused."""
    on: tuple[str, ...] = ()
    """Ids of the matchers that let the WebSocket open; empty: any."""
    format: Format = Format.ANY
    fields: tuple[FieldTest, ...] = ()
    """Of the message as JSON, or as what `messages_as` makes of it."""
    object: ObjectSpec | None = None
    sensitivity: Sensitivity | None = None
    changes: Change | None = None


class SensitivitySpec(msgspec.Struct, frozen=True):
    """How sensitive objects are by their name, compared without regard to case."""

    objects: tuple[str, ...]
    """`KIND:NAME` with `*` for any run of characters."""
    level: Sensitivity


class OtherwiseSpec(msgspec.Struct, frozen=True):
    """What a request is that no matcher fits; None: refused."""

    safe: Action | None = Action.USE
    """GET, HEAD and OPTIONS."""
    unsafe: Action | None = None
    websocket: Action | None = None
    """An upgrade: nobody knows what will go through it."""
    message: Action | None = None
    """A message of the client, where the profile reads messages at all."""
    message_as_opened: bool = True
    """Such a message is what its upgrade was; `message` says nothing then."""


class ProfileSpec(msgspec.Struct, frozen=True):
    """One platform. The first matcher that fits a request says what it means."""

    name: str
    title: str
    written_against: str
    """Version of the platform."""
    verified: str
    """How anybody knows that it is right."""
    matchers: tuple[MatcherSpec, ...] = ()
    messages: tuple[MessageSpec, ...] = ()
    sensitivities: tuple[SensitivitySpec, ...] = ()
    otherwise: OtherwiseSpec = OtherwiseSpec()
    body_limit: int = BODY_LIMIT
    """Bytes of a body that is looked at; a longer one is refused."""
    messages_as: Encoding = Encoding.JSON
    case_insensitive: bool = False
    """The platform folds the ASCII case of paths."""
