"""What processes tell about themselves when somebody asks: plain values that travel as msgpack.

A worker answers `ask` with what it was asked for, by one of the names here; control and supervisor add their own part.
Nothing in a report is a secret, and nothing is decided from one.
"""

from typing import Literal

import msgspec

STATUS = "status"
"""Ask for a `WorkerReport`."""
STREAMS = "streams"
"""Ask for an `OpenStreams`."""
METRICS = "metrics"
"""Ask for a list of `Family`."""


class WorkerReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """A worker as it sees itself."""

    problem: str = ""
    """Why it denies everything at the moment; empty when it does not."""
    connections: int = 0
    requests: int = 0
    """Under way, open streams among them."""
    websockets: int = 0
    sessions_cached: int = 0
    """Sessions it need not ask control about."""
    ring_used: float = 0.0
    """Share of its record ring that control has not read, 0 to 1."""
    draining: bool = False


class OpenStreams(msgspec.Struct, frozen=True):
    """What is under way right now, by who asked for it."""

    sessions: dict[str, int]
    """Session id → requests, streams and WebSockets under way."""
    integrations: dict[str, int] = {}
    """Name of the integration → the same."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """A metric family as Prometheus draws it."""

    name: str
    help: str
    kind: str
    samples: list[Sample]


class ProcessReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process as the supervisor sees it. `started` is seconds since the epoch."""

    name: str
    """`supervisor`, `control`, `worker-0`, …; with `workers: 0` the one process is `proxy`."""
    pid: int
    started: float
    restarts: int = 0
    """How often it had to be started again since the supervisor began."""
    state: Literal["running", "starting", "draining", "down"] = "running"


class ListenerReport(msgspec.Struct, frozen=True):
    name: str
    address: str
    """Host and port, as bound."""


class FleetReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What only the supervisor knows: the processes, and which configuration is in force."""

    processes: tuple[ProcessReport, ...] = ()
    listeners: tuple[ListenerReport, ...] = ()
    workers: int = 0
    """How many there should be."""
    epoch: int = 1
    """Raised by each configuration that was taken over; 1 is the one the program started with."""
    loaded: float = 0.0
    """When the configuration in force was taken over."""
    problem: str = ""
    """Why the last reload was refused; empty when the file as it stands is in force."""
    path: str = ""
    """The file."""
