"""How unusual a sign-in or a request looks: what counts, and how much."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import Annotated

from pydantic import Field

from zt_proxy.config.schema_base import Duration, Model
from zt_proxy.policy.risk import NETWORKS, WEIGHTS

Rating = Annotated[int, Field(ge=-100, le=100)]


class Weights(Model):
    """What each signal adds to the score of 0 to 100; `0` switches it off."""

    new_device: int = Field(WEIGHTS["new-device"], ge=0, le=100, alias="new-device")
    """The person has not signed in with this browser before."""
    new_country: int = Field(WEIGHTS["new-country"], ge=0, le=100, alias="new-country")
    """Nor from this country."""
    impossible_travel: int = Field(WEIGHTS["impossible-travel"], ge=0, le=100, alias="impossible-travel")
    """Too far from the last sign-in for the time in between."""
    unusual_hour: int = Field(WEIGHTS["unusual-hour"], ge=0, le=100, alias="unusual-hour")
    """A time of the week at which this person hardly ever signs in."""
    failed_attempts: int = Field(WEIGHTS["failed-attempts"], ge=0, le=100, alias="failed-attempts")
    """Five wrong codes or refused sign-ins within an hour; fewer count for less, and one for nothing."""
    address_changed: int = Field(WEIGHTS["address-changed"], ge=0, le=100, alias="address-changed")
    """A request comes from another country than the session's sign-in."""
    agent_changed: int = Field(WEIGHTS["agent-changed"], ge=0, le=100, alias="agent-changed")
    """A request comes from another browser than the session's sign-in."""
    dormant: int = Field(WEIGHTS["dormant"], ge=0, le=100)
    """The person has not signed in for as long as `dormant` says."""


class Thresholds(Model):
    """Scores at which levels begin and end. They begin at once and end late: a score that wavers changes nothing."""

    medium: int = Field(30, ge=1, le=100)
    """Medium from this score on."""
    high: int = Field(60, ge=1, le=100)
    """High from this score on."""
    low_again: int = Field(20, ge=0, le=99)
    """What was medium is low again at this score or below it."""
    medium_again: int = Field(50, ge=0, le=99)
    """What was high is medium again at this score or below it."""


class Risk(Model):
    """How unusual sign-ins and requests look, for `when: {risk: …}`."""

    weights: Weights = Weights()
    """What each signal adds."""
    networks: dict[str, Rating] = dict(NETWORKS)
    """What a network adds, by its name under `networks`; below zero it reassures. Of several the highest counts."""
    thresholds: Thresholds = Thresholds()
    """Where levels begin and end."""
    egress: list[str] = []
    """Names under `networks` of the company's own exits to the internet. Who comes from there may be anywhere: no
    country is new then, and no journey impossible."""
    dormant: Duration = 90 * 86_400.0
    """How long nobody has signed in, for an account to be dormant."""
