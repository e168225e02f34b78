"""What `/readyz` and the operator ask, in one process and in several alike."""

from collections.abc import Callable
from typing import Any

from zt_proxy.control.operator.alerts import AlertList
from zt_proxy.control.operator.locks import LockOrders
from zt_proxy.control.operator.overview import Overview
from zt_proxy.control.operator.people import PeopleList
from zt_proxy.control.operator.reload import ReloadOrders
from zt_proxy.control.operator.server import Orders
from zt_proxy.link.status import FleetReport
from zt_proxy.processes.control import Control
from zt_proxy.processes.private import Check


def overview_of(control: Control[Any], fleet: Callable[[], FleetReport]) -> Overview:
    """The proxy as its operator sees it; `fleet` gives the FleetReport of the moment."""
    return Overview(control.sessions, control.audit, control.link, control.clock, fleet, control.notes)


def orders_of(control: Control[Any], overview: Overview) -> tuple[Orders, ...]:
    """What an operator orders and looks at; locks are checked against the configuration in force."""
    return (
        LockOrders(overview, control.locks, control.factors, lambda: control.settings),
        AlertList(control.watch, control.clock),
        PeopleList(control.judge.people, control.clock),
        ReloadOrders(overview, control.settings.runtime_dir),
    )


def checks_of(control: Control[Any], overview: Overview) -> list[Check]:
    """Without the first three nothing can be decided; the others are for the operator to see to."""
    return [
        Check("control", control.problem),
        Check("workers", overview.no_worker),
        Check("record", overview.no_record),
        Check("every-worker", overview.missing_worker, advisory=True),
        Check("configuration", overview.refused_file, advisory=True),
        Check("revocation-lists", lambda: "; ".join(control.revocation.problems()), advisory=True),
        Check("address-databases", lambda: "; ".join(control.judge.problems()), advisory=True),
        Check("providers", lambda: "; ".join(control.refresher.problems()), advisory=True),
    ]
