"""Any order of use, waiting, step-ups, new handles and restarts: the two deadlines of a session hold (FIELD 15).

A model of four numbers stands beside the manager over its real store; after each step both must agree.
"""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.session.manager import SessionManager, open_sessions
from zt_proxy.control.settings import AuditSettings, ControlSettings, SessionSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.keys import CookieMac, KeyRing, Secret
from zt_proxy.core.session import Level, Principal, Proof, Session

IDLE, ABSOLUTE = 900.0, 7_200.0
HOST = "flows.example.com"


class Deadlines(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        self.clock = ManualClock()
        self.ring = KeyRing({1: b"w" * 32})
        self.settings = ControlSettings(
            portal_origin="https://auth.example.com",
            portal_host="auth.example.com",
            socket=path / "s",
            state_dir=path,
            runtime_dir=path,
            providers=(),
            apps={},
            audit=AuditSettings(path),
            session=SessionSettings(idle=IDLE, absolute=ABSOLUTE),
        )
        self.manager = self.open()
        login = VerifiedLogin(
            principal=Principal(subject="alice", issuer="https://idp.example", provider="corp"),
            acr="",
            amr=("otp",),
            auth_time=self.clock.now(),
            mfa=True,
            id_token=Secret("t"),
            provider_sid=None,
            provider="corp",
        )
        self.sid = self.runner.run(self.manager.create(login)).sid
        self.cookie = self.runner.run(self.manager.issue_handle(self.sid, HOST))
        self.end = self.clock.now() + ABSOLUTE
        self.auth_time = self.last = self.clock.now()
        self.alive = True

    def open(self) -> SessionManager:
        return self.runner.run(open_sessions(self.settings, self.ring, self.clock))

    def found(self) -> Session | None:
        return self.runner.run(self.manager.session(CookieMac(self.ring).handle_hash(self.cookie), HOST))

    def judge(self) -> None:
        now = self.clock.now()
        self.alive = self.alive and now < self.end and now < self.last + IDLE

    @rule(seconds=st.sampled_from([0.5, 60.0, 450.0, 899.0, 900.0, 901.0, 3_600.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(ago=st.sampled_from([0.0, 0.0, 1.0, 500.0, 5_000.0, -10.0, -10_000.0]))
    def use(self, ago: float) -> None:
        at = self.clock.now() - ago
        self.manager.activity(self.sid, at)
        counted = min(at, self.clock.now())
        if ago > -60 and counted > self.last and counted < self.last + IDLE and counted < self.end:
            self.last = counted

    @precondition(lambda self: self.alive)
    @rule()
    def step_up(self) -> None:
        if self.found() is not None:
            self.runner.run(self.manager.unlock(self.sid, "builder", "deploy", Proof(self.clock.now(), Level.MULTI)))

    @precondition(lambda self: self.alive)
    @rule()
    def new_handle(self) -> None:
        if self.found() is not None:
            self.cookie = self.runner.run(self.manager.issue_handle(self.sid, HOST))

    @rule()
    def flush(self) -> None:
        self.runner.run(self.manager.flush())

    @rule()
    def sweep(self) -> None:
        self.runner.run(self.manager.sweep())

    @rule()
    def restart(self) -> None:
        self.runner.run(self.manager.close())
        self.manager = self.open()

    @rule()
    def look(self) -> None:
        self.found()

    @invariant()
    def the_manager_agrees_with_the_model(self) -> None:
        self.judge()
        session = self.found()
        assert (session is not None) == self.alive
        if session is not None:
            assert session.absolute_deadline == self.end
            assert session.last_activity == self.last
            assert session.auth_time == self.auth_time

    def teardown(self) -> None:
        self.runner.run(self.manager.close())
        self.runner.close()
        self.folder.cleanup()


Deadlines.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@pytest.mark.case("ZT-SESS-08")
@pytest.mark.case("ZT-SESS-09")
class TestDeadlines(Deadlines.TestCase):  # type: ignore[misc]
    """Runs the machine."""
