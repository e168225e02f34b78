"""Listening sockets: one per listener and worker slot, made and kept by the supervisor, whoever serves them.

SO_REUSEPORT lets every slot have a queue of its own; the kernel spreads new connections over them by a hash of both
addresses and ports. A worker that closed the only descriptor of its socket would reset what is queued in it; here the
supervisor holds another, so that a replaced or restarted worker loses nothing.
"""

import socket
from collections.abc import Iterable, Mapping

from zt_proxy.worker.edge.sockets import BACKLOG, Key, bind, key_of
from zt_proxy.worker.settings import ListenerSettings


class Sockets:
    """The sockets of all slots. `rows[slot][key]`."""

    def __init__(self) -> None:
        self.rows: list[dict[Key, socket.socket]] = []
        self._ports: dict[Key, int] = {}

    def ports(self) -> dict[str, int]:
        """Port of each listener by name."""
        return {key[0]: port for key, port in self._ports.items()}

    def row(self, slot: int) -> Mapping[Key, socket.socket]:
        return self.rows[slot]

    def extend(self, listeners: Iterable[ListenerSettings], slots: int) -> "Addition":
        """Bind what is missing for these listeners in `slots` slots, without putting it in force.

        Raises OSError that names the address, nothing left behind.
        """
        addition = Addition(self)
        try:
            for listener in listeners:
                key = key_of(listener)
                port = self._ports.get(key)
                if port is None:
                    _probe(listener)
                for slot in range(slots):
                    if slot < len(self.rows) and key in self.rows[slot]:
                        continue
                    made = bind(listener.host, port or listener.port, shared=True)
                    made.listen(BACKLOG)
                    port = made.getsockname()[1]
                    addition.sockets[slot, key] = made
                    addition.ports[key] = port
        except OSError:
            addition.undo()
            raise
        return addition

    def reduce(self, listeners: Iterable[ListenerSettings], slots: int) -> None:
        """Close what these listeners and slots do not need any more."""
        wanted = {key_of(listener) for listener in listeners}
        for row in self.rows[slots:]:
            for gone in row.values():
                gone.close()
        del self.rows[slots:]
        for row in self.rows:
            for key in [key for key in row if key not in wanted]:
                row.pop(key).close()
        self._ports = {key: port for key, port in self._ports.items() if key in wanted}

    def close(self) -> None:
        self.reduce((), 0)


class Addition:
    """Sockets that are bound and not in force yet."""

    def __init__(self, owner: Sockets) -> None:
        self._owner = owner
        self.sockets: dict[tuple[int, Key], socket.socket] = {}
        self.ports: dict[Key, int] = {}

    def of(self, slot: int) -> dict[Key, socket.socket]:
        """The new sockets of one slot."""
        return {key: made for (owner, key), made in self.sockets.items() if owner == slot}

    def keep(self) -> None:
        """Put them in force."""
        for (slot, key), made in self.sockets.items():
            while len(self._owner.rows) <= slot:
                self._owner.rows.append({})
            self._owner.rows[slot][key] = made
        self._owner._ports.update(self.ports)

    def undo(self) -> None:
        for made in self.sockets.values():
            made.close()
        self.sockets.clear()


def _probe(listener: ListenerSettings) -> None:
    """Refuse an address that somebody else serves: with SO_REUSEPORT alone, two proxies of one user would share it,
    and with it whose policy answers. Raises OSError."""
    if listener.port:
        bind(listener.host, listener.port, shared=False).close()
