"""What a request means to its platform: a profile, compiled once at load, and asked for each request.

A path is read twice when it may be read in two ways (upper case, escapes, parameters, empty segments, where the route
lets them in): once as it stands, once as a careless platform would read it. The answer is never weaker than either.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from zt_proxy.core.errors import ClientError
from zt_proxy.core.http import SAFE_METHODS
from zt_proxy.core.types import Act
from zt_proxy.policy import graphql
from zt_proxy.policy.bodies import (
    HeaderOf,
    JsonBody,
    graphql_of_body,
    graphql_of_query,
    json_body,
    no_query_beside,
    prepare,
    refused,
)
from zt_proxy.policy.message_readers import read_message
from zt_proxy.policy.profile_paths import ANYTHING, Entry, PathIndex, is_general, plain_reading, trimmed
from zt_proxy.policy.profile_spec import Format, MatcherSpec, ProfileSpec, SensitivitySpec
from zt_proxy.policy.profile_tests import (
    Ambiguous,
    act_of,
    fields_fit,
    joined,
    object_of,
    parameter_fits,
    segment_text,
    tests_of,
    text_test,
)

REMEMBERED = 4096
REMEMBERED_BYTES = 256


class NeedsBody(msgspec.Struct, frozen=True, gc=False):
    """The body decides: wait for all of it, then `classify_body`."""

    limit: int
    """Bytes; a longer body cannot be inspected."""


class _Later(Exception):
    """The header or the body decides, and was not given."""


class _Compiled:
    """One matcher with its tests and, where it names no object, its one answer."""

    __slots__ = (
        "about_body", "about_query", "act", "body", "bound", "captured", "general", "graphql", "headers", "query",
        "spec",
    )  # fmt: skip

    def __init__(self, spec: MatcherSpec, sensitivities: Sequence[SensitivitySpec]) -> None:
        self.spec = spec
        self.query = tuple((test, text_test(test.values)) for test in spec.query)
        self.headers = tuple((test, text_test(test.values, folded=True)) for test in spec.headers)
        self.body = tuple((test, text_test(test.values)) for test in spec.body)
        named = spec.object.name + spec.object.owner if spec.object is not None else ""
        self.graphql = (
            None
            if spec.graphql is None
            else tuple(
                text_test(values) for values in (spec.graphql.types, spec.graphql.operations, spec.graphql.fields)
            )
        )
        self.about_body = bool(self.body) or self.graphql is not None or "{body." in named
        self.about_query = bool(self.query) or "{query." in named
        self.bound = bool(self.query or self.headers or self.about_body)
        """Method and path alone do not tell whether it fits, or what it says."""
        self.captured = named[1:-1] if named[1:-1].isidentifier() and named == f"{{{named[1:-1]}}}" else ""
        """The object is called what this capture is, and nothing more is to be known for it."""
        self.general = not spec.paths or all(is_general(path) for path in spec.paths)
        self.act = None if "{" in named else act_of(spec, object_of(spec.object, {}, None, None, None), sensitivities)


class _Asked:
    """One request while it is being classified; None for what is not known yet."""

    __slots__ = ("blind", "body", "header", "part", "query", "websocket")

    def __init__(
        self,
        query: bytes | None,
        header: HeaderOf | None,
        websocket: bool,
        body: JsonBody | None = None,
        *,
        blind: bool = False,
    ) -> None:
        self.query = query
        self.blind = blind
        """Nobody knows the query; else None: there was none."""
        self.header = header
        self.websocket = websocket
        self.body = body
        self.part: graphql.Part | None = None


class Profile:
    """What requests of one route mean. `prefix` is the route's path: templates begin below it."""

    def __init__(self, spec: ProfileSpec, prefix: bytes = b"/") -> None:
        self.name = spec.name
        self.reads_messages = bool(spec.messages) or not spec.otherwise.message_as_opened
        self._spec = spec
        self._reads_graphql = any(matcher.graphql is not None for matcher in spec.matchers)
        self._prefix = b"" if prefix == b"/" else prefix
        self._exact: PathIndex[_Compiled] = PathIndex(folded=spec.case_insensitive)
        self._plain: PathIndex[_Compiled] = PathIndex(folded=True, decoded=True)
        for order, matcher in enumerate(spec.matchers):
            compiled = _Compiled(matcher, spec.sensitivities)
            methods = _methods(matcher.methods)
            for template in matcher.paths or ANYTHING:
                for index in (self._exact, self._plain):
                    index.add(template, methods, compiled, order)
        self._exact.freeze()
        self._plain.freeze()
        if spec.messages or any(matcher.body or matcher.graphql for matcher in spec.matchers):
            prepare()
        self._messages = tuple((message, tests_of(message.fields)) for message in spec.messages)
        otherwise = spec.otherwise
        self._safe, self._unsafe, self._upgrade, self._message = (
            Act(action, refused=action is None)
            for action in (otherwise.safe, otherwise.unsafe, otherwise.websocket, otherwise.message)
        )
        self._needs_body = NeedsBody(spec.body_limit)
        self._remembered = lru_cache(REMEMBERED)(self._by_target)

    def classify(
        self, method: bytes, path: bytes, query: bytes | None, header: HeaderOf, websocket: bool
    ) -> Act | NeedsBody:
        """What a request means. `path` is canonical, `header` takes a lower-case name. Never raises."""
        if len(path) + (0 if query is None else len(query)) <= REMEMBERED_BYTES:
            act = self._remembered(method, path, query, websocket)
            if act is not None:
                return act
        try:
            return self._classify(method, path, _Asked(query, header, websocket))
        except _Later:
            return self._needs_body

    def classify_body(
        self, method: bytes, path: bytes, query: bytes | None, header: HeaderOf, websocket: bool, body: bytes
    ) -> Act:
        """The same, once `classify` has said NeedsBody. Raises ClientError(BODY_NOT_INSPECTABLE), status 403."""
        if len(body) > self._spec.body_limit:
            raise refused("larger than the profile looks at")
        return self._classify(method, path, _Asked(query, header, websocket, json_body(header, body)))

    def message(self, payload: bytes, text: bool, opened: str = "") -> Act | None:
        """What a WebSocket message of the client means; None: the same as its upgrade. Never raises.

        `opened` is the id of the matcher that fitted the upgrade.
        """
        unread: JsonBody | None = None
        unreadable = False
        for spec, tests in self._messages:
            if (spec.on and opened not in spec.on) or (
                spec.format is not Format.ANY and text is not (spec.format is Format.TEXT)
            ):
                continue
            try:
                if (
                    (tests or (spec.object and "{body." in spec.object.name + spec.object.owner))
                    and unread is None
                    and not unreadable
                ):
                    if len(payload) > self._spec.body_limit:
                        return Act(matcher=spec.id, refused=True)
                    unread = read_message(self._spec.messages_as, payload, text)
                if tests and (unread is None or not fields_fit(unread, tests)):
                    continue
                called = object_of(spec.object, {}, None, unread, None)
            except (ClientError, Ambiguous):
                if unread is not None:  # it is JSON, and says what decides in two ways
                    return Act(matcher=spec.id, refused=True)
                unreadable = True
                continue
            return act_of(spec, called, self._spec.sensitivities)
        if unreadable:
            return Act(refused=True)
        return None if self._spec.otherwise.message_as_opened else self._message

    def by_path(self, method: bytes, path: bytes, websocket: bool) -> Act | None:
        """What method and path alone say of a request whose query, headers and body nobody has any more; None: they do
        not say it. Never raises."""
        try:
            return self._classify(method, path, _Asked(None, None, websocket, blind=True))
        except _Later:
            return None

    def remembered(self) -> int:
        """How many targets are known without looking: at most REMEMBERED."""
        return self._remembered.cache_info().currsize

    def _by_target(self, method: bytes, path: bytes, query: bytes | None, websocket: bool) -> Act | None:
        """What method and target alone say; None: they do not."""
        try:
            return self._classify(method, path, _Asked(query, None, websocket))
        except _Later:
            return None

    def _classify(self, method: bytes, path: bytes, asked: _Asked) -> Act:
        if self._prefix:
            path = path[len(self._prefix) :] if path.startswith(self._prefix) else path
        plain = plain_reading(path)
        exact = trimmed(path)
        found, general = self._read(self._exact, method, exact, asked)
        if plain is None or (plain == exact and self._spec.case_insensitive):
            return found
        other, other_general = self._read(self._plain, method, plain, asked)
        if other.matcher == found.matcher and other.action is found.action:
            same = other.object == found.object and other.owner == found.owner
            return found if same else Act(matcher=found.matcher, refused=True)
        return joined(found, general, other, other_general)

    def _read(self, index: PathIndex[_Compiled], method: bytes, path: bytes, asked: _Asked) -> tuple[Act, bool]:
        """The act under one reading of the path, and whether nothing but a general matcher knew it."""
        entries = index.find(method, path)
        if self._reads_graphql and not asked.websocket:
            fitting = [entry for entry in entries if entry.pattern is None or entry.pattern.fullmatch(path)]
            if any(entry.matcher.graphql is not None for entry in fitting):
                return self._graphql(fitting, method, path, asked)
        return self._first(entries, method, path, asked)

    def _graphql(
        self, entries: Sequence[Entry[_Compiled]], method: bytes, path: bytes, asked: _Asked
    ) -> tuple[Act, bool]:
        """One matcher for each top-level field; together they are the strongest."""
        if method in SAFE_METHODS:
            if asked.blind:
                raise _Later
            if not asked.query:  # a page to explore it by, perhaps
                return self._first(entries, method, path, asked)
            try:
                parts = graphql_of_query(asked.query)
            except ClientError:
                return Act(refused=True), False
        elif asked.body is None:
            raise _Later
        else:
            no_query_beside(asked.query)
            parts = graphql_of_body(asked.body)
        answers = []
        for part in parts:
            asked.part = part
            answers.append(self._first(entries, method, path, asked))
        asked.part = None
        found, general = answers[0]
        for other, other_general in answers[1:]:
            if other != found:
                found, general = joined(found, False, other, False), general and other_general
        return found, general

    def _first(
        self, entries: Iterable[Entry[_Compiled]], method: bytes, path: bytes, asked: _Asked
    ) -> tuple[Act, bool]:
        for entry in entries:
            matcher = entry.matcher
            if matcher.spec.websocket is not asked.websocket:
                continue
            place = None
            if entry.pattern is not None:
                place = entry.pattern.fullmatch(path)
                if place is None:
                    continue
            if matcher.act is not None and not matcher.bound:
                return matcher.act, matcher.general
            if asked.blind and matcher.about_query:
                raise _Later
            try:
                if matcher.bound and not _fits(matcher, asked):
                    continue
                if matcher.act is not None:
                    return matcher.act, matcher.general
                if place is not None and matcher.captured in place.re.groupindex:
                    called = segment_text(place[matcher.captured] or b""), ""
                else:
                    captured = place.groupdict(b"") if place is not None else {}
                    called = object_of(matcher.spec.object, captured, asked.query, asked.body, asked.part)
            except Ambiguous:
                return Act(matcher=matcher.spec.id, refused=True), False
            return act_of(matcher.spec, called, self._spec.sensitivities), matcher.general
        if asked.websocket:
            return self._upgrade, True
        return (self._safe if method in SAFE_METHODS else self._unsafe), True


def _methods(methods: tuple[str, ...]) -> frozenset[bytes]:
    named = {method.encode() for method in methods}
    return frozenset(named | {b"HEAD"} if b"GET" in named else named)


def _fits(matcher: _Compiled, asked: _Asked) -> bool:
    """All but the path. Raises _Later when something that decides is not there yet."""
    if matcher.query and not all(parameter_fits(asked.query, test, fits) for test, fits in matcher.query):
        return False
    for test, fits in matcher.headers:
        if asked.header is None:
            raise _Later
        value = asked.header(test.name.encode())
        if (value is None) is not test.absent:
            return False
        if value is not None and not fits(value.decode("latin-1").strip()):
            return False
    if matcher.graphql is not None:
        part = asked.part
        if part is None:
            return False
        of_type, of_operation, of_field = matcher.graphql
        if not (of_type(part.type) and of_operation(part.operation) and of_field(part.field)):
            return False
    if matcher.about_body and asked.body is None and (matcher.graphql is None or matcher.body):
        raise _Later
    return asked.body is None or fields_fit(asked.body, matcher.body)
