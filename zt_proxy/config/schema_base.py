"""What every part of the schema shares: strictness, places, and the types that carry units."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)

from zt_proxy.config import secrets, units
from zt_proxy.config.problems import Mark
from zt_proxy.config.secrets import SecretReference
from zt_proxy.config.tree import Mapping, Sequence


def _text(value: object) -> object:
    """An unquoted `1.2` is a number to YAML and a version to people."""
    return str(value) if isinstance(value, float) else value


Duration = Annotated[
    float, BeforeValidator(units.duration), WithJsonSchema({"type": "string", "pattern": units.DURATION_PATTERN})
]
"""Seconds."""

Reauth = Annotated[
    float | Literal["once"],
    BeforeValidator(units.reauth),
    WithJsonSchema({"type": "string", "pattern": units.DURATION_PATTERN.removesuffix("$") + "$|^once$"}),
]
"""Seconds, or `once`."""

Size = Annotated[int, BeforeValidator(units.size), WithJsonSchema({"type": "string", "pattern": units.SIZE_PATTERN})]
"""Bytes."""

Rate = Annotated[
    int,
    BeforeValidator(units.rate),
    WithJsonSchema({"type": "string", "pattern": units.SIZE_PATTERN.removesuffix("$") + "/s$"}),
]
"""Bytes per second."""

SecretText = Annotated[
    SecretReference,
    BeforeValidator(secrets.parse),
    WithJsonSchema({"type": "string", "examples": ["${env:NAME}", "${file:/run/secrets/name}"]}),
]

TlsVersion = Annotated[Literal["1.2", "1.3"], BeforeValidator(_text)]


class Model(BaseModel):
    """A mapping of the file. Unknown keys are errors; `later` names keys whose enforcement is not built yet."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # once, as part of the whole: a third of the time of starting
    )
    later: ClassVar[frozenset[str]] = frozenset()
    _source: Mapping | None = PrivateAttr(None)

    @model_validator(mode="wrap")
    @classmethod
    def _remember(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        model = handler(data)
        if isinstance(data, Mapping):
            model._source = data
        return model

    @property
    def start(self) -> Mark | None:
        """Where the mapping begins."""
        return self._source.at if self._source is not None else None

    @property
    def damaged(self) -> bool:
        """Something inside was wrong and is missing now."""
        return self._source is not None and self._source.damaged

    def written(self, key: str) -> bool:
        """Whether the operator wrote the key (rather than leaving it to its default)."""
        return self._source is not None and key in self._source

    def at(self, key: str, index: int | str | None = None) -> Mark | None:
        """Where the value of `key` (or its item `index`) stands; where the mapping begins, if it was left out."""
        if self._source is None or key not in self._source:
            return self.start
        value = self._source[key]
        if isinstance(index, int) and isinstance(value, Sequence) and index < len(value.items_at):
            return value.items_at[index]
        if isinstance(index, str) and isinstance(value, Mapping) and index in value.keys_at:
            return value.keys_at[index]
        return self._source.values_at[key]

    def complete(self, key: str) -> bool:
        """False when something below `key` was wrong and has been told already."""
        value = self._source.get(key) if self._source is not None else None
        return not (isinstance(value, Mapping | Sequence) and value.damaged)
