"""Descriptors run out before memory does, so clients never get the last ones.

At the limit libuv accepts a connection only to close it: nothing spins and nothing stops, but nothing else can be
opened either, neither a connection to a platform nor the next file of the audit log. The kernel gives the lowest free
number, so a connection whose number lies above `for_clients()` says that fewer than the reserve are left.
"""

import resource

RESERVE = 1024
"""Descriptors kept from clients: for platforms, the store, the audit log, the link. A quarter where there are few."""
_MOST = 1 << 20
"""What Linux lets a process have where the limit is infinite (fs.nr_open)."""


def limit() -> int:
    """How many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft


def raise_limit() -> int:
    """Raise the soft limit to the hard one, for this process and those it will start; gives the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def for_clients(most: int | None = None) -> int:
    """How many of `most` descriptors (None: the limit of this process) may be clients' connections."""
    most = limit() if most is None else most
    return most - min(RESERVE, most // 4)
