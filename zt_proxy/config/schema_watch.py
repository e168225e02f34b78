"""`watch` and `alerts`. Docstrings under the keys are the reference manual's text."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from zt_proxy.config import units
from zt_proxy.config.schema_base import Duration, Model, SecretText, Size

Responds = Literal["report", "enforce", "off"]
Effect = Literal["block", "step-up", "read-only", "no-export"]


def lasting(value: object) -> object:
    return value if value == "until-reviewed" else units.duration(value)


Lasting = Annotated[
    float | Literal["until-reviewed"],
    BeforeValidator(lasting),
    WithJsonSchema({"type": "string", "pattern": units.DURATION_PATTERN.removesuffix("$") + "$|^until-reviewed$"}),
]
"""Seconds, or `until-reviewed`."""


class Volume(Model):
    """More than somebody usually takes out of a route: bytes of answers, and requests. Windows begin with the first
    request after the one before, and are compared with closed ones of the same person at the same route; of somebody
    without a history there, with everybody's."""

    factor: float = Field(10.0, ge=1.5, le=1_000.0)
    """So many times the usual is too much."""
    floor: Size = 20_000_000
    """What goes out in one window up to this is never too much."""
    requests_floor: int = Field(500, ge=1)
    """Neither are so many requests."""
    learn: Duration = 3 * 86_400.0
    """How long somebody is watched before anything is too much. `0s`: from the first request on, with the floors alone
    at first."""
    windows: list[Duration] = [60.0, 600.0]
    """Lengths of the windows."""
    respond: Responds | None = None
    """Left out: as `watch.respond` says."""
    effect: Effect = "no-export"
    """What the lock does."""
    for_: Lasting = Field("until-reviewed", alias="for")
    """How long the lock lasts: a duration, or `until-reviewed`."""


class FirstUse(Model):
    """An application, or an action of it, that neither the person nor two others of their groups have used so far."""

    learn: Duration = 14 * 86_400.0
    """How long somebody is watched before anything is unusual."""
    respond: Responds | None = None
    """Left out: as `watch.respond` says."""
    effect: Effect = "step-up"
    """What the lock does."""
    for_: Lasting = Field(3_600.0, alias="for")
    """How long the lock lasts: a duration, or `until-reviewed`."""


class Changes(Model):
    """Requests that change configuration of a sensitive kind, as the route's profile reads them. Each is told."""

    kinds: list[Literal["access-control", "integration", "data-handling", "deployment"]] = [
        "access-control",
        "integration",
        "data-handling",
    ]
    """Which kinds."""


class Watch(Model):
    """What people and integrations do, against what they usually do. Rules with `notify` and every use of break-glass
    are told besides."""

    respond: Responds | None = None
    """`report`: it is told, with the lock that would follow. `enforce`: the lock follows. `off`: nothing is watched.
    Left out: `enforce` with `stage: monitor`, else `report`."""
    volume: Volume = Volume()
    """More than somebody usually takes."""
    first_use: FirstUse = FirstUse()
    """What somebody has never used."""
    changes: Changes = Changes()
    """Sensitive configuration."""


class Hook(Model):
    """One address that takes alerts. A message is signed; docs/how-to/watching.md shows how that is verified."""

    url: str
    """`https://…`. The certificate is verified, redirects are not followed."""
    secret: SecretText
    """`${env:NAME}` or `${file:PATH}`, 16 characters or more; signs every message with HMAC-SHA256."""
    ca: str | None = None
    """PEM file of the authorities that are trusted there; left out: the system's."""
    timeout: Duration = 10.0
    """Longest wait for an answer; nobody but further alerts waits for it."""
    insecure_http: bool = False
    """`http://` to another machine: alerts name people, and would be read on the way."""


class Alerts(Model):
    """Where alerts go, besides the audit log and the program's own."""

    webhooks: list[Hook] = []
    """Addresses that get every alert."""
    quiet: Duration = 600.0
    """In this time the same thing of the same person is counted on the alert there is, and not told again."""
