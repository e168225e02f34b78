"""`guard`. Docstrings under the keys are the reference manual's text."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from zt_proxy.config.schema_base import Duration, Model

SHARE_PATTERN = r"^(100|[0-9]{1,2}(\.[0-9]{1,3})?)%$"


def bound(value: object) -> float | int:
    """A number of decisions as it is; a share such as `5%` as the negative of its fraction, so that one number holds
    either. Raises ValueError with what was expected."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and re.fullmatch(SHARE_PATTERN, value):
        return -float(value[:-1]) / 100.0 or 0
    raise ValueError("not a bound; expected a number of decisions such as `100`, or a share such as `5%`")


Bound = Annotated[
    float | int,
    BeforeValidator(bound),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": SHARE_PATTERN}]}),
]


class Guard(Model):
    """A changed file is not taken over if it would turn too many of the requests on record: from allowed to not
    allowed, or the other way round. `zt-proxy reload --force` takes it over all the same."""

    max_changed: Bound
    """Most decisions that may turn: a number, or a share of those that can be compared, such as `5%`."""
    window: Duration = Field(7 * 86_400.0)
    """How far back the record is read."""
