"""The link between processes: control listens on a unix socket (mode 0600, same user only), workers connect.

    LinkClient (each worker)                        LinkServer (control)
    client.py   lease, look-ups, caches dropped     server.py   who is there, `settled`, `ask`
    reports.py  activity on its way                 peer.py     one worker: its place in the history, its lease
    replica.py  what of control is in force here    ledger.py   numbered changes, what is in force
    frames.py   lengths and msgpack, the peer's user    messages.py   what is said, in which order

What holds, on both sides: a worker decides only while it has a lease; a lease is only given after every change before
it has been sent, on the same ordered stream; it counts from the worker's question. So a change is in force everywhere
when every worker has either said so (`Applied`) or got no lease for the length of one; `LinkServer.settled` waits for
that.
"""

from zt_proxy.link.client import LinkClient
from zt_proxy.link.server import LinkServer

__all__ = ["LinkClient", "LinkServer"]
