"""Puts one session into the store of a configuration that nobody serves yet, and prints its Cookie header value.

python -m benchmarks.seed CONFIG HOST
"""

import asyncio
import sys
from pathlib import Path

from zt_proxy.config import read
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.session.manager import open_sessions
from zt_proxy.control.settings import ControlSettings
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.keys import KeyRing, Secret
from zt_proxy.core.session import Principal


async def seed(settings: ControlSettings, host: str) -> str:
    """The cookie pair of a new session of someone in the group `staff`."""
    clock = SystemClock()
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    ring = KeyRing.load_or_create(settings.state_dir / "worker.keys")
    sessions = await open_sessions(settings, ring, clock)
    try:
        principal = Principal(
            "u-1001",
            "http://127.0.0.1:1/",
            "bench",
            email="bench@example.com",
            name="Benchmark",
            groups=frozenset(("staff", "makers")),
        )
        login = VerifiedLogin(
            principal=principal,
            acr="urn:mfa",
            amr=("pwd", "otp"),
            auth_time=clock.now(),
            mfa=True,
            id_token=Secret("none"),
            provider_sid=None,
            provider="bench",
        )
        record = await sessions.create(login)
        return f"{settings.session_cookie}={await sessions.issue_handle(record.sid, host)}"
    finally:
        await sessions.close()


if __name__ == "__main__":
    print(asyncio.run(seed(read(Path(sys.argv[1])).control, sys.argv[2])))
