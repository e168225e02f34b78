"""What a worker tells when control asks: how it is, what is open, what it has counted. See `link.status`."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from zt_proxy.core.errors import ZtError
from zt_proxy.link.status import METRICS, STATUS, STREAMS, Family, OpenStreams, WorkerReport
from zt_proxy.worker.gateway.exchange import Exchange
from zt_proxy.worker.identify.session import SessionCache
from zt_proxy.worker.metrics import Metrics
from zt_proxy.worker.record import Recorder


class Connected(Protocol):
    """A listener."""

    @property
    def connections(self) -> Iterable[object]: ...


class Reporter(Protocol):
    """The parts of a worker that are looked at."""

    @property
    def sessions(self) -> SessionCache: ...

    @property
    def recorder(self) -> Recorder: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def listeners(self) -> Iterable[Connected]: ...

    def exchanges(self) -> Iterator[Exchange]: ...


def answer(worker: Reporter, what: str) -> bytes:
    """msgpack of what is asked for; in the worker's own thread. Raises KeyError for what it does not know."""
    return msgspec.msgpack.encode(_ANSWERS[what](worker))


def _status(worker: Reporter) -> WorkerReport:
    requests = websockets = 0
    for exchange in worker.exchanges():
        requests += 1
        websockets += exchange.tunnel is not None
    return WorkerReport(
        problem=_problem(worker.recorder),
        connections=sum(1 for listener in worker.listeners for _ in listener.connections),
        requests=requests,
        websockets=websockets,
        sessions_cached=len(worker.sessions),
        ring_used=worker.recorder.used(),
    )


def _problem(recorder: Recorder) -> str:
    try:
        recorder.check()
    except ZtError as error:
        return error.detail
    return ""


def _streams(worker: Reporter) -> OpenStreams:
    sessions: dict[str, int] = {}
    integrations: dict[str, int] = {}
    for exchange in worker.exchanges():
        if exchange.route is None or exchange.done:
            continue
        if exchange.session is not None:
            sid = exchange.session.session.sid
            sessions[sid] = sessions.get(sid, 0) + 1
        elif exchange.machine is not None:
            name = exchange.machine.machine.principal.integration
            integrations[name] = integrations.get(name, 0) + 1
    return OpenStreams(sessions, integrations)


def _metrics(worker: Reporter) -> list[Family]:
    return list(worker.metrics.collect())


_ANSWERS: dict[str, Callable[[Reporter], object]] = {STATUS: _status, STREAMS: _streams, METRICS: _metrics}
