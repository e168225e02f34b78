"""Read the file: YAML, schema, and every problem of both at once. Nothing outside the file is touched."""

import re
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from zt_proxy.config.problems import START, Collector, Mark, Problem, choice, nearest
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_base import Model
from zt_proxy.config.tree import Mapping, Sequence, parse, read_text

NOT_BUILT = "not built yet"
_ROUNDS = 50
_REFERENCE = re.compile(r"\$\{(env|file):")
_SECRET_KEYS = frozenset({"client_secret", "password", "secret", "value"})
_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "`true` or `false`",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


class Loaded(msgspec.Struct, frozen=True):
    """What the file says. `schema` holds what could be understood, also when there are problems; None: nothing."""

    path: Path
    problems: tuple[Problem, ...]
    schema: Schema | None

    @property
    def base(self) -> Path:
        """The folder relative paths start at."""
        return self.path.parent


def load(path: Path) -> Loaded:
    """Read `path`. Never raises for what the file holds or for its absence: see `Loaded.problems`."""
    problems = Collector(path)
    text = read_text(path, problems)
    return Loaded(path, tuple(problems.sorted()), None) if text is None else load_text(text, path)


def load_text(text: str, path: Path) -> Loaded:
    """The same for a text that stands, or would stand, at `path`."""
    problems = Collector(path)
    tree = parse(text, problems)
    schema = None if tree is None else _understand(tree, problems)
    return Loaded(path.absolute(), tuple(problems.sorted()), schema)


def _understand(tree: Mapping, problems: Collector) -> Schema | None:
    """Validate; on errors tell them all, take out what is wrong, and validate what is left.

    Only the first round speaks: what fails later fails because something was taken out.
    """
    _refuse_references(tree, problems)
    for number in range(_ROUNDS):
        try:
            return Schema.model_validate(tree)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
        if number == 0:
            for detail in details:
                _tell(tree, detail, problems)
            if not problems.has_errors():  # nothing may be taken out in silence
                problems.error(START, "the file does not fit the schema")
        # From the back, so that list indexes stay true while items go.
        for location in sorted({_target(detail) for detail in details}, key=_order, reverse=True):
            _take_out(tree, location)
        _stand_in(tree)
    return None


def _refuse_references(value: Any, problems: Collector) -> None:
    """`${…}` anywhere but in a secret would be taken literally: refuse it."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            if isinstance(child, str) and key not in _SECRET_KEYS and _REFERENCE.search(child):
                problems.error(
                    value.values_at[key], f"`{key}` cannot refer to the environment or to files", "the value itself"
                )
            _refuse_references(child, problems)
    elif isinstance(value, Sequence):
        for index, child in enumerate(value):
            if isinstance(child, str) and _REFERENCE.search(child):
                problems.error(value.items_at[index], "only secrets can refer to the environment or to files")
            _refuse_references(child, problems)


def _tell(tree: Mapping, detail: ErrorDetails, problems: Collector) -> None:
    location, kind = detail["loc"], detail["type"]
    parent, key = _value(tree, location[:-1]), location[-1] if location else ""
    model = _model_at(location[:-1])
    if kind == "extra_forbidden" and model is not None:
        at = parent.keys_at.get(str(key)) if isinstance(parent, Mapping) else None
        if key in model.later:
            problems.error(at, f"`{key}` is {NOT_BUILT}")
        else:
            hint = nearest(str(key), keys(model)) or f"known here: {choice(keys(model))}"
            problems.error(at, f"unknown key `{key}`", hint=hint)
        return
    if kind == "missing" and isinstance(parent, Mapping) and parent.damaged:
        return  # a merge key or a strange key stood there, and has been told
    if kind == "missing":
        meant = {nearest(name, [str(key)]) for name in parent if name not in keys(model)} if model and parent else set()
        if not any(meant):
            problems.error(_key_mark(tree, location[:-1]), f"`{key}` is missing{_within(location[:-1])}")
        return
    value = _value(tree, location)
    if value is None:
        return  # `key:` with nothing after it has been told by the reader
    at, context = _value_mark(tree, location), detail.get("ctx", {})
    if kind == "value_error":
        problems.error(at, f"`{_name(location)}`: {context['error']}")
    elif kind == "literal_error":
        if kind == "literal_error" and isinstance(value, str) and str(context["expected"]).isdigit():
            problems.error(at, f"`{_name(location)}` is text", f"`{context['expected']}`, without quotes")
            return
        words = [word.strip("' ") for word in str(context["expected"]).replace(" or ", ", ").split(",")]
        said = f"`{value}`" if isinstance(value, str | int | float) else _kind(value)
        hint = nearest(str(value), words) if isinstance(value, str) else ""
        problems.error(at, f"`{_name(location)}` is {said}", choice(words), hint)
    elif kind in _KINDS:
        quote = kind == "string_type" and isinstance(value, int | float)
        item = "an item of " if isinstance(location[-1], int) else ""
        problems.error(
            at, f"{item}`{_name(location)}` is {_kind(value)}", _KINDS[kind], "put it in quotes" if quote else ""
        )
    elif kind == "greater_than_equal":
        problems.error(at, f"`{_name(location)}` is {value}", f"{context['ge']} or more")
    else:
        problems.error(at, f"`{_name(location)}`: {detail['msg'][0].lower()}{detail['msg'][1:]}")


def _target(detail: ErrorDetails) -> tuple[int | str, ...]:
    """What to take out: the bad value, or the mapping that lacks a key."""
    return detail["loc"][:-1] if detail["type"] == "missing" else detail["loc"]


def _order(location: tuple[int | str, ...]) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, part, "") if isinstance(part, int) else (1, 0, part) for part in location)


def _stand_in(tree: Mapping) -> None:
    """What the top level cannot be without, empty and marked as damaged, so that the rest can be checked."""
    for key in ("version", "listen", "portal", "identity", "routes"):
        if key in tree:
            continue
        value: Any = 1
        if key in {"listen", "routes"}:
            value = Sequence(START)
        elif key in {"portal", "identity"}:
            value = Mapping(START)
            inside = "url" if key == "portal" else "providers"
            value[inside] = "" if key == "portal" else Mapping(START)
            value.values_at[inside] = value.keys_at[inside] = START
        for part in (value, *(value.values() if isinstance(value, Mapping) else ())):
            if isinstance(part, Mapping | Sequence):
                part.damaged = True
        tree[key] = value
        tree.values_at[key] = tree.keys_at[key] = START
        tree.damaged = True


def _take_out(tree: Mapping, location: tuple[int | str, ...]) -> None:
    """Remove the value and mark everything above as damaged."""
    chain: list[Any] = [tree]
    for part in location:
        child = _child(chain[-1], part)
        if child is _NOTHING:
            break
        chain.append(child)
    while len(chain) > 1 and chain[-1] is chain[-2]:  # a single item is taken out with its key
        chain.pop()
    depth = len(chain) - 1
    if depth == 0:
        return
    for above in chain[:-1]:
        above.damaged = True
    parent, part = chain[-2], location[depth - 1]
    if isinstance(parent, Sequence):
        del parent[int(part)]
        del parent.items_at[int(part)]
    else:
        del parent[str(part)]


_NOTHING = object()


def _child(value: Any, part: int | str) -> Any:
    if isinstance(value, Mapping) and isinstance(part, int):
        return value  # one item where a list of them may stand
    if isinstance(value, Mapping) and isinstance(part, str) and part in value:
        return value[part]
    if isinstance(value, Sequence) and isinstance(part, int) and part < len(value):
        return value[part]
    return _NOTHING


def _value(tree: Mapping, location: tuple[int | str, ...]) -> Any:
    """The value at a place, or the nearest one above it (shorthands have keys that were never written)."""
    value: Any = tree
    for part in location:
        child = _child(value, part)
        if child is _NOTHING:
            break
        value = child
    return value


def _value_mark(tree: Mapping, location: tuple[int | str, ...]) -> Mark:
    value: Any = tree
    mark = START
    for part in location:
        child = _child(value, part)
        if child is _NOTHING:
            break
        if isinstance(value, Sequence):
            mark = value.items_at[int(part)]
        elif isinstance(part, str):
            mark = value.values_at[part]
        value = child
    return mark


def _key_mark(tree: Mapping, location: tuple[int | str, ...]) -> Mark:
    """The key under which a mapping stands, or where it begins in a list."""
    parent = _value(tree, location[:-1]) if location else None
    if isinstance(parent, Mapping) and location[-1] in parent.keys_at:
        return parent.keys_at[str(location[-1])]
    return _value_mark(tree, location)


def _name(location: tuple[int | str, ...]) -> str:
    """The innermost key of a place: `methods` for the second method of a list."""
    return next((part for part in reversed(location) if isinstance(part, str)), "file")


def _within(location: tuple[int | str, ...]) -> str:
    return f" in `{_name(location)}`" if location else ""


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text"}
    return "a mapping" if isinstance(value, dict) else kinds.get(type(value), "a list")


def keys(model: type[Model]) -> list[str]:
    """The keys of a mapping, as they are written."""
    return [field.alias or name for name, field in model.model_fields.items()]


def inner(annotation: Any) -> Any:
    """An annotation without `Annotated` and without `None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        choices = [choice for choice in get_args(annotation) if choice is not NoneType]
        if NoneType in get_args(annotation) and len(choices) == 1:
            annotation = choices[0]
            continue
        return annotation


def _model_at(location: tuple[int | str, ...]) -> type[Model] | None:
    """The part of the schema that judges the mapping at a place."""
    annotation: Any = Schema
    for part in location:
        annotation = inner(annotation)
        if isinstance(annotation, type) and issubclass(annotation, Model):
            fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
            if part not in fields:
                return None
            annotation = fields[str(part)].annotation
        else:
            annotation = get_args(annotation)[-1] if get_args(annotation) else None
    annotation = inner(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Model) else None
