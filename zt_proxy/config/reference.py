"""The reference manual and the JSON Schema, both made from the schema."""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from zt_proxy.config import schema_guard, schema_watch, schema_when, units
from zt_proxy.config.load import inner
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_base import Model

_HEAD = """# Configuration reference

<!-- Made from zt_proxy/config/schema*.py by `python -m zt_proxy.config.reference`; a test keeps it current. -->

One YAML 1.2 file. Unknown and repeated keys are errors; so is a key whose enforcement is not built yet. Relative paths
start at the folder of the file.

- **Durations** carry a unit: `500ms`, `90s`, `30m`, `1h30m`, `7d`.
- **Sizes** too: `500B`, `64KiB`, `10MB`, `1GiB` (KiB = 1024 bytes, kB = 1000). **Rates** are sizes a second: `500B/s`.
- **Frequencies** are requests a time: `20/s`, `600/m`, `5000/h`. **Dates** are days (`2027-06-30`, to the end in UTC)
  or moments with a zone (`2027-06-30T12:00:00Z`).
- **Secrets** are references: `${env:NAME}` or `${file:PATH}` (one line; a newline at its end is dropped).
- **Path templates**: `*` is one segment or part of one, `**` any number of whole segments, also none: `/a/**` is `/a`,
  `/a/` and `/a/b/c`. Both ends are anchored. Methods are upper case and exact: `GET` does not mean `HEAD`.
- **Rules**: deny beats allow, what nothing allows is denied, an `allow` without `require` beats one with it.

`zt-proxy check FILE` names every problem with line and column, `zt-proxy schema` prints a JSON Schema for editors.
"""


_WITH_UNITS: dict[Any, str] = {
    units.duration: "duration",
    units.reauth: "duration or `once`",
    units.size: "size",
    units.rate: "rate",
    units.frequency: "frequency",
    units.end_of: "date",
    schema_watch.lasting: "duration or `until-reviewed`",
    schema_guard.bound: "number, or share such as `5%`",
    schema_when.one_or_list: "text or list of text",
    schema_when.one_or_list_in_each: "mapping of name to text or list of text",
}


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of the file."""
    schema = Schema.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        for written in model.get("properties", {}).values():
            _respell(written)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _respell(written: dict[str, Any]) -> None:
    """Defaults with units, as an operator would write them; those of whole mappings say nothing new."""
    default = written.get("default")
    if isinstance(default, dict) or default is None:
        written.pop("default", None)
    elif isinstance(default, list):
        written["default"] = [_spelled(item, str(written.get("items", {}).get("pattern", ""))) for item in default]
    else:
        written["default"] = _spelled(default, str(written.get("pattern", "")))


def _spelled(value: Any, pattern: str) -> Any:
    """A number, as it is written under a key whose values have this pattern."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not pattern:
        return value
    if pattern.startswith(units.DURATION_PATTERN.removesuffix("$")):
        return units.show_duration(value)
    return units.show_size(int(value)) + ("/s" if pattern.endswith("/s$") else "")


def markdown() -> str:
    """The text of docs/reference/configuration.md."""
    parts = [_HEAD]
    for paths, model in _models():
        path, *others = paths
        also = f"\n\nThe same at {', '.join(f'`{other}`' for other in others)}." if others else ""
        parts.append(f"\n## {f'`{path}`' if path else 'Top level'}\n\n{cleandoc(model.__doc__ or '')}{also}\n")
        parts.append("| key | value | default | meaning |\n|---|---|---|---|")
        for name, field in model.model_fields.items():
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            parts.append(f"| `{field.alias or name}` | {_type(field)} | {_default(field)} | {meaning} |")
        if model.later:
            later = ", ".join(f"`{key}`" for key in sorted(model.later))
            parts.append(f"\nNot built yet: {later}.")
    return "\n".join(parts) + "\n"


def _models() -> Iterator[tuple[list[str], type[Model]]]:
    """Every mapping, with the places where it may stand, in the order of the file."""
    waiting: list[tuple[str, type[Model]]] = [("", Schema)]
    places: dict[type[Model], list[str]] = {}
    while waiting:
        path, model = waiting.pop(0)
        if model in places:  # also a condition within a condition, which never ends
            places[model].append(path)
            continue
        places[model] = [path]
        below = []
        for name, field in model.model_fields.items():
            found = _model_in(field.annotation)
            if found is not None:
                suffix, child = found
                below.append((f"{path}.{field.alias or name}{suffix}".removeprefix("."), child))
        waiting = [*below, *waiting]
    return iter([(paths, model) for model, paths in places.items()])


def _model_in(annotation: Any) -> tuple[str, type[Model]] | None:
    annotation = inner(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return "", annotation
    if get_origin(annotation) in {list, dict}:
        suffix = "[]" if get_origin(annotation) is list else ".NAME"
        found = _model_in(get_args(annotation)[-1])
        return (suffix + found[0], found[1]) if found else None
    return None


def _type(field: FieldInfo) -> str:
    for metadata in field.metadata:
        function = getattr(metadata, "func", None)
        if function in _WITH_UNITS:
            return _WITH_UNITS[function]
    return _name(field.annotation)


def _name(annotation: Any) -> str:
    for unit, name in _WITH_UNITS.items():  # below `| None` pydantic leaves the annotation as it was
        if any(getattr(metadata, "func", None) is unit for metadata in _metadata(annotation)):
            return name
    annotation = inner(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{word}`" for word in arguments)
    if origin is list:
        return f"list of {_name(arguments[0])}"
    if origin is dict:
        return f"mapping of name to {_name(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return "mapping"
    names = {"str": "text", "int": "number", "bool": "`true` or `false`", "SecretReference": "secret"}
    return names.get(getattr(annotation, "__name__", ""), "value")


def _metadata(annotation: Any) -> tuple[Any, ...]:
    own = getattr(annotation, "__metadata__", ())
    return own + tuple(
        one for part in get_args(annotation) if get_origin(annotation) is not list for one in _metadata(part)
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    value = field.default
    kind = _type(field)
    if value is None or isinstance(value, Model):
        return ""
    if kind.startswith("duration") and isinstance(value, float):
        return f"`{units.show_duration(value)}`"
    if kind == "list of duration":
        return f"`{', '.join(map(units.show_duration, value))}`"
    if kind in {"size", "rate"}:
        return f"`{units.show_size(value)}{'/s' if kind == 'rate' else ''}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return f"`{', '.join(f'{name}: {item}' for name, item in value.items())}`" if value else "none"
    if isinstance(value, list):
        return f"`{', '.join(map(str, value))}`" if value else "none"
    return f"`{value}`"


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
