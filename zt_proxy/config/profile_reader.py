"""The file of a profile, key by key: what it means, and every mistake at its line and column."""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from zt_proxy.config import units
from zt_proxy.config.problems import Collector, Mark, choice, nearest
from zt_proxy.config.tree import Mapping, Sequence
from zt_proxy.core.types import Action, Change, Sensitivity
from zt_proxy.policy.profile_paths import ANYTHING, captures, fault
from zt_proxy.policy.profile_spec import (
    BODY_LIMIT,
    Encoding,
    FieldTest,
    Format,
    GraphQLTest,
    MatcherSpec,
    MessageSpec,
    ObjectSpec,
    OtherwiseSpec,
    ProfileSpec,
    SensitivitySpec,
)

DENY = "deny"
AS_OPENED = "as-opened"
PROFILE_KEYS = (
    *("name", "title", "written_against", "verified", "extends", "base", "case", "body_limit"),
    *("otherwise", "sensitivity", "matchers", "messages", "messages_as"),
)
_MEANS = ("id", "action", "object", "sensitivity", "changes")
MATCHER_KEYS = (*_MEANS, "methods", "paths", "query", "headers", "body", "graphql", "websocket")
_MESSAGE = (*_MEANS, "on", "format", "fields")
_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_SOURCE = re.compile(r"\{([^{}]*)\}")
_LARGEST = 16 * 1024 * 1024
Word = TypeVar("Word", bound=StrEnum)


class Reader:
    """Reads one file. What is wrong is told, and replaced by something harmless so that the rest can be read."""

    def __init__(self, problems: Collector) -> None:
        self._problems = problems
        self.unclear: set[str] = set()
        """Ids of matchers with a problem."""
        self._read_from = Format.TEXT

    def profile(self, tree: Mapping, parent: ProfileSpec | None) -> ProfileSpec:
        self._known(tree, PROFILE_KEYS)
        extends = "extends" in tree
        for key in ("name",) if extends else ("name", "title", "written_against", "verified"):
            if key not in tree:
                self._problems.error(tree.at, f"`{key}` is missing")
        name = self._text(tree, "name", "")
        if name and not _ID.fullmatch(name):
            self._problems.error(tree.values_at["name"], f"`{name}` is no name", "lower-case letters, digits and `-`")
        matchers = self._list(tree, "matchers", self._matcher)
        messages_as = self._enum(tree, "messages_as", Encoding) or (parent.messages_as if parent else Encoding.JSON)
        self._read_from = Format.TEXT if messages_as is Encoding.JSON else Format.ANY
        messages = self._list(tree, "messages", lambda item: self._message(item, matchers, parent))
        self._unique(tree, "matchers")
        self._unique(tree, "messages")
        inherited = _below(parent.matchers, self._base(tree)) if parent else ()
        replaced = {matcher.id for matcher in matchers}
        said = {message.id for message in messages}
        case = self._word(tree, "case", ("sensitive", "insensitive"))
        return ProfileSpec(
            name=name,
            title=self._text(tree, "title", parent.title if parent else ""),
            written_against=self._text(tree, "written_against", parent.written_against if parent else ""),
            verified=self._text(tree, "verified", f"extends {parent.name}: {parent.verified}" if parent else ""),
            matchers=(*matchers, *(matcher for matcher in inherited if matcher.id not in replaced)),
            messages=(*messages, *(each for each in (parent.messages if parent else ()) if each.id not in said)),
            sensitivities=(
                *self._list(tree, "sensitivity", self._sensitivity),
                *(parent.sensitivities if parent else ()),
            ),
            otherwise=self._otherwise(tree, parent.otherwise if parent else OtherwiseSpec()),
            body_limit=self._body_limit(tree, parent.body_limit if parent else BODY_LIMIT),
            messages_as=messages_as,
            case_insensitive=case == "insensitive" if case else bool(parent and parent.case_insensitive),
        )

    def _base(self, tree: Mapping) -> str:
        base = self._text(tree, "base", "").rstrip("/")
        if base:
            said = fault(base) or ("" if not captures(base) and "*" not in base else f"`{base}` holds a wild card")
            if said or "extends" not in tree:
                self._problems.error(tree.values_at["base"], said or "`base` without `extends`: write the paths out")
                return ""
        return base

    def _matcher(self, item: Mapping) -> MatcherSpec:
        before = len(self._problems.sorted())
        self._known(item, MATCHER_KEYS)
        paths = self._paths(item)
        graphql = self._graphql(item)
        spec = MatcherSpec(
            id=self._id(item),
            action=self._action(item),
            methods=self._methods(item),
            paths=paths,
            query=self._fields(item, "query"),
            headers=self._fields(item, "headers", lower=True),
            body=self._fields(item, "body"),
            graphql=graphql,
            websocket=self._flag(item, "websocket"),
            object=self._object(item, _sources(paths, graphql is not None)),
            sensitivity=self._enum(item, "sensitivity", Sensitivity),
            changes=self._enum(item, "changes", Change),
        )
        if spec.websocket and (spec.body or graphql or set(spec.methods) - {"GET"}):
            self._problems.error(item.at, "an upgrade is a GET without a body: this fits nothing")
        if not (spec.paths or spec.methods or spec.query or spec.headers or spec.body or graphql or spec.websocket):
            self._problems.error(
                item.at, "it says nothing about requests and would fit all of them", hint="see `otherwise`"
            )
        if len(self._problems.sorted()) > before:
            self.unclear.add(spec.id)
        return spec

    def _message(self, item: Mapping, matchers: Iterable[MatcherSpec], parent: ProfileSpec | None) -> MessageSpec:
        self._known(item, _MESSAGE)
        opened = self._words(item, "on")
        sockets = [each.id for each in (*matchers, *(parent.matchers if parent else ())) if each.websocket]
        for word in opened:
            if word not in sockets:
                self._problems.error(
                    item.values_at["on"],
                    f"no matcher with `websocket: true` is called `{word}`",
                    hint=nearest(word, sockets),
                )
        fields = self._fields(item, "fields")
        return MessageSpec(
            id=self._id(item),
            action=self._action(item),
            on=opened,
            format=self._enum(item, "format", Format) or (self._read_from if fields else Format.ANY),
            fields=fields,
            object=self._object(item, {"body."}),
            sensitivity=self._enum(item, "sensitivity", Sensitivity),
            changes=self._enum(item, "changes", Change),
        )

    def _otherwise(self, tree: Mapping, default: OtherwiseSpec) -> OtherwiseSpec:
        value = tree.get("otherwise")
        if value is None:
            return default
        if not isinstance(value, Mapping):
            self._problems.error(
                tree.values_at["otherwise"], "`otherwise` is no mapping", "`{safe: use, unsafe: deny}`"
            )
            return default
        self._known(value, ("safe", "unsafe", "websocket", "message"))
        as_opened = value.get("message") == AS_OPENED if "message" in value else default.message_as_opened
        return OtherwiseSpec(
            safe=self._action(value, "safe") if "safe" in value else default.safe,
            unsafe=self._action(value, "unsafe") if "unsafe" in value else default.unsafe,
            websocket=self._action(value, "websocket") if "websocket" in value else default.websocket,
            message=self._action(value, "message") if "message" in value and not as_opened else default.message,
            message_as_opened=as_opened,
        )

    def _sensitivity(self, item: Mapping) -> SensitivitySpec:
        self._known(item, ("objects", "level"))
        objects = self._words(item, "objects")
        for word in objects:
            if ":" not in word:
                self._problems.error(
                    item.values_at["objects"], f"`{word}` is no object", f"`KIND:NAME`, such as `{word}:*`"
                )
        for key in ("objects", "level"):
            if key not in item:
                self._problems.error(item.at, f"`{key}` is missing")
        return SensitivitySpec(objects, self._enum(item, "level", Sensitivity) or Sensitivity.RESTRICTED)

    def _id(self, item: Mapping) -> str:
        name = self._text(item, "id", "")
        if "id" not in item:
            self._problems.error(item.at, "`id` is missing")
        elif not _ID.fullmatch(name):
            self._problems.error(
                item.values_at["id"], f"`{name}` is no id", "lower-case letters, digits, `-`, `_`, `.`"
            )
        return name

    def _action(self, item: Mapping, key: str = "action") -> Action | None:
        """None for `deny`, and for what is wrong."""
        words = [*(action.value for action in Action), DENY]
        if key == "message":
            words.append(AS_OPENED)
        if key not in item:
            self._problems.error(item.at, f"`{key}` is missing", choice(words))
            return None
        word = self._word(item, key, words)
        return None if word in {"", DENY, AS_OPENED} else Action(word)

    def _methods(self, item: Mapping) -> tuple[str, ...]:
        methods = self._words(item, "methods")
        for method in methods:
            if not _METHOD.fullmatch(method):
                hint = f"did you mean `{method.upper()}`?" if _METHOD.fullmatch(method.upper()) else ""
                self._problems.error(item.values_at["methods"], f"`{method}` is no method", hint=hint)
        return methods

    def _paths(self, item: Mapping) -> tuple[str, ...]:
        paths = self._words(item, "paths")
        for index, path in enumerate(paths):
            said = fault(path)
            if said:
                at = item["paths"].items_at[index] if isinstance(item["paths"], Sequence) else item.values_at["paths"]
                self._problems.error(at, said)
        return paths

    def _fields(self, item: Mapping, key: str, *, lower: bool = False) -> tuple[FieldTest, ...]:
        """`NAME: value`, `NAME: [values]` or `NAME: {present: true}`."""
        value = item.get(key)
        if value is None:
            return ()
        if not isinstance(value, Mapping):
            self._problems.error(item.values_at[key], f"`{key}` is no mapping", "`{NAME: value}` or `{NAME: [values]}`")
            return ()
        tests = []
        for name, wanted in value.items():
            spelled = name.lower() if lower else name
            if lower and not _HEADER.fullmatch(spelled):
                self._problems.error(value.keys_at[name], f"`{name}` is no header name")
            if not isinstance(wanted, Mapping):
                tests.append(FieldTest(spelled, self._words(value, name)))
                continue
            self._known(wanted, ("present",))
            if not isinstance(wanted.get("present"), bool):
                self._problems.error(value.values_at[name], "expected values, or `{present: true}`")
            tests.append(FieldTest(spelled, absent=wanted.get("present") is False))
        return tuple(tests)

    def _graphql(self, item: Mapping) -> GraphQLTest | None:
        value = item.get("graphql")
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self._problems.error(item.values_at["graphql"], "`graphql` is no mapping", "`{type, operation, field}`")
            return None
        self._known(value, ("type", "operation", "field"))
        types = self._words(value, "type")
        for word in types:
            if word not in {"query", "mutation", "subscription"}:
                self._problems.error(
                    value.values_at["type"],
                    f"`{word}` is no type of operation",
                    choice(("query", "mutation", "subscription")),
                    nearest(word, ("query", "mutation", "subscription")),
                )
        return GraphQLTest(types, self._words(value, "operation"), self._words(value, "field"))

    def _object(self, item: Mapping, sources: set[str]) -> ObjectSpec | None:
        """`KIND`, `KIND:NAME`, or `{kind, name, owner}`."""
        value = item.get("object")
        if value is None:
            return None
        at = item.values_at["object"]
        if isinstance(value, Mapping):
            self._known(value, ("kind", "name", "owner"))
            kind, name, owner = (self._text(value, key, "") for key in ("kind", "name", "owner"))
        else:
            (kind, _, name), owner = self._text(item, "object", "").partition(":"), ""
        if not _ID.fullmatch(kind):
            self._problems.error(at, f"`{kind}` is no kind of object", "a word such as `flow`")
        for source in _SOURCE.findall(name + owner):
            if source.partition(".")[0] + "." * ("." in source) not in sources and source not in sources:
                known = sorted(each.rstrip(".") for each in sources)
                self._problems.error(
                    at, f"`{{{source}}}` is nothing that it has", choice(known), nearest(source, known)
                )
        return ObjectSpec(kind, name, owner)

    # --- plain values -----------------------------------------------------------------------------------------------

    def _known(self, mapping: Mapping, keys: Iterable[str]) -> None:
        for key in mapping:
            if key not in keys:
                hint = nearest(key, keys) or f"known here: {choice(keys)}"
                self._problems.error(mapping.keys_at[key], f"unknown key `{key}`", hint=hint)

    def _text(self, mapping: Mapping, key: str, default: str) -> str:
        value = mapping.get(key, default)
        if isinstance(value, str):
            return value
        if value is not None:
            self._problems.error(mapping.values_at[key], f"`{key}` is not text", "text", "put it in quotes")
        return default

    def _flag(self, mapping: Mapping, key: str) -> bool:
        value = mapping.get(key, False)
        if not isinstance(value, bool):
            self._problems.error(mapping.values_at[key], f"`{key}` is not `true` or `false`")
        return value is True

    def _word(self, mapping: Mapping, key: str, words: Iterable[str]) -> str:
        word = self._text(mapping, key, "")
        if key in mapping and word not in words:
            self._problems.error(mapping.values_at[key], f"`{key}` is `{word}`", choice(words), nearest(word, words))
            return ""
        return word

    def _enum(self, mapping: Mapping, key: str, kind: type[Word]) -> Word | None:
        word = self._word(mapping, key, [member.value for member in kind])
        return kind(word) if word else None

    def _words(self, mapping: Mapping, key: str) -> tuple[str, ...]:
        """One scalar or a list of them, as text."""
        value: Any = mapping.get(key)
        if value is None:
            return ()
        items = value if isinstance(value, Sequence) else [value]
        words = []
        for index, each in enumerate(items):
            at: Mark = value.items_at[index] if isinstance(value, Sequence) else mapping.values_at[key]
            if isinstance(each, bool):
                words.append("true" if each else "false")
            elif isinstance(each, str | int | float):
                words.append(str(each))
            elif each is not None:
                self._problems.error(at, f"an item of `{key}` is not text", "text")
        if not words and not (isinstance(value, Sequence) and value.damaged):
            self._problems.error(mapping.values_at[key], f"`{key}` is empty", "at least one item, or no key at all")
        return tuple(words)

    def _list(self, tree: Mapping, key: str, read: Any) -> tuple[Any, ...]:
        value = tree.get(key)
        if value is None:
            return ()
        if not isinstance(value, Sequence):
            self._problems.error(tree.values_at[key], f"`{key}` is not a list", "a list")
            return ()
        found = []
        for item, at in zip(value, value.items_at, strict=True):
            if isinstance(item, Mapping):
                found.append(read(item))
            elif item is not None:
                self._problems.error(at, f"an item of `{key}` is no mapping")
        return tuple(found)

    def _body_limit(self, tree: Mapping, default: int) -> int:
        if "body_limit" not in tree:
            return default
        try:
            size = units.size(tree["body_limit"])
        except ValueError as error:
            self._problems.error(tree.values_at["body_limit"], f"`body_limit`: {error}")
            return default
        if not 0 < size <= _LARGEST:
            self._problems.error(tree.values_at["body_limit"], "`body_limit` is out of bounds", "1B to 16MiB")
        return size

    def _unique(self, tree: Mapping, key: str) -> None:
        value = tree.get(key)
        first: dict[str, Mark] = {}
        for item in value if isinstance(value, Sequence) else ():
            if not isinstance(item, Mapping) or not isinstance(item.get("id"), str):
                continue
            name, at = item["id"], item.values_at["id"]
            if name in first:
                self._problems.error(at, f"the id `{name}` is used twice", hint=f"first at line {first[name].line}")
            first.setdefault(name, at)


def _below(matchers: tuple[MatcherSpec, ...], base: str) -> tuple[MatcherSpec, ...]:
    """Inherited matchers, with their paths below `base`."""
    if not base:
        return matchers
    return tuple(
        msgspec.structs.replace(matcher, paths=tuple(base + path for path in matcher.paths or ANYTHING))
        for matcher in matchers
    )


def _sources(paths: tuple[str, ...], graphql: bool) -> set[str]:
    """What an object's name may be made of: captures of its paths, and parts of the request."""
    captured = {name for path in paths for name in captures(path)}
    return captured | {"query.", "body."} | ({"graphql.field"} if graphql else set())
