"""Masks: what not everybody may see in answers. Docstrings under the keys are the reference manual's text."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import Literal

from pydantic import Field

from zt_proxy.config.schema_base import Model, Size
from zt_proxy.config.schema_when import When


class Readers(Model):
    """Some readers. Any one of `groups`, `users`, `roles` or `integrations` is enough; `claims` and `when` must fit as
    well. Whoever is not known to be one of them is none."""

    groups: list[str] = []
    """Groups, exactly as the provider spells them."""
    users: list[str] = []
    """Verified e-mail addresses, or subjects (`sub`)."""
    roles: list[str] = []
    """Names under `roles`, or roles that the provider names."""
    integrations: list[str] = []
    """Names of integrations."""
    claims: dict[str, list[str]] = {}
    """ID-token claims and the values of which one is needed; name them in the provider's `claims` too."""
    when: When | None = None
    """Under which circumstances."""


class Mask(Model):
    """Values that not everybody may see. They are masked in every answer of JSON that the route gives, for whoever is
    not known to be spared; other answers with data in them are refused (`answers`)."""

    name: str | None = None
    """Name in records, and under which rules name it; left out: `mask-1` for the first, and so on."""
    fields: list[str]
    """What is masked: `$.customer.iban` (a member of a member), `$..iban` (of that name anywhere),
    `$.items[*].salary` (of every element), `$["a name.with dots"]`, `$.totals.*` (every member)."""
    unless: Readers | None = None
    """Who sees the values all the same; left out: nobody."""
    only: Readers | None = None
    """Who alone is masked, and whoever is not known not to be one of them; left out: everybody."""
    with_: Literal["remove", "fixed", "last4", "hash"] = Field("fixed", alias="with")
    """`fixed`: `value`, or else `****` for text, 0, false, null, or an empty list or mapping. `remove`: the member or
    element is left out. `last4`: the last four characters of texts and whole numbers of eight or more. `hash`: `#` and
    24 hexadecimal digits that are the same for the same value."""
    value: str | None = None
    """With `fixed`: the text that takes the place of values of every kind."""
    case: Literal["sensitive", "insensitive"] = "sensitive"
    """`insensitive`: ASCII letters of names count in either case."""
    only_by_rule: bool = False
    """Masked only where a rule that names it under `mask` allows the request. Where a rule names a mask, it counts for
    everyone, whatever `unless` and `only` say."""
    headers: list[str] = []
    """Response headers that are left out for the same readers."""


class Answers(Model):
    """What is done with answers of a route that has masks, for those who do not see everything. Such answers are whole
    (no ranges), are held until they are complete, and are kept by no cache."""

    limit: Size = 1024 * 1024
    """Largest answer, decoded, that is looked into; every request under way may hold as much."""
    uninspectable: Literal["refuse", "insecure_pass"] = "refuse"
    """What becomes of other answers with data: too large, no JSON, streams, parts. Refused with 502; errors of the
    platform keep their status and lose their body. `insecure_pass` lets them through unmasked."""
    pass_types: list[str] = [
        "image/*",
        "font/*",
        "text/css",
        "text/javascript",
        "application/javascript",
        "text/html",
        "application/wasm",
    ]
    """Media types that are no data and pass as they are, unless their body begins like JSON."""
    websocket: Literal["refuse", "pass"] = "refuse"
    """`pass`: WebSockets, into which nobody looks, are open to those who do not see everything, too."""
