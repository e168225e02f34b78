"""Puts one session into the store of a configuration that nobody serves yet, and prints its Cookie header value.

python -m benchmarks.seed CONFIG HOST
"""

import asyncio
import contextlib
import hashlib
import sqlite3
import sys
from pathlib import Path

from zt_proxy.config import read
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.session.manager import open_sessions
from zt_proxy.control.settings import ControlSettings
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.keys import KeyRing, Secret
from zt_proxy.core.session import Principal


async def seed(settings: ControlSettings, host: str, count: int = 1, kept: int = 1) -> tuple[str, ...]:
    """Sessions of as many people in the group `staff`; the cookie pairs of the first `kept`.

    Beyond those a session has no cookie, and the store's rows are written many to a transaction.
    """
    clock = SystemClock()
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    ring = KeyRing.load_or_create(settings.state_dir / "worker.keys")
    sessions = await open_sessions(settings, ring, clock)
    cookies: list[str] = []
    try:
        for number in range(min(count, kept)):
            record = await sessions.create(_login(number, clock.now()))
            cookies.append(f"{settings.session_cookie}={await sessions.issue_handle(record.sid, host)}")
    finally:
        await sessions.close()
    _multiply(settings.state_dir / "sessions.db", count - len(cookies))
    return tuple(cookies)


def _login(number: int, now: float) -> VerifiedLogin:
    return VerifiedLogin(
        principal=Principal(
            f"u-{1001 + number}",
            "http://127.0.0.1:1/",
            "bench",
            email=f"bench-{number}@example.com",
            name="Benchmark",
            groups=frozenset(("staff", "makers")),
        ),
        acr="urn:mfa",
        amr=("pwd", "otp"),
        auth_time=now,
        mfa=True,
        id_token=Secret("none"),
        provider_sid=None,
        provider="bench",
    )


def _multiply(path: Path, missing: int) -> None:
    """Copies of a session and of its cookie's hash under other names, so that tables and indexes have their size."""
    if missing <= 0:
        return
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        session = list(db.execute("SELECT * FROM sessions LIMIT 1").fetchone())
        handle = list(db.execute("SELECT * FROM handles LIMIT 1").fetchone())
        columns = [row[1] for row in db.execute("PRAGMA table_info(sessions)")]
        sid, subject = columns.index("sid"), columns.index("subject")
        handle_columns = [row[1] for row in db.execute("PRAGMA table_info(handles)")]
        handle_sid, handle_hash = handle_columns.index("sid"), handle_columns.index("handle_hash")
        sessions, handles = [], []
        for number in range(missing):
            session[sid] = handle[handle_sid] = f"seeded-{number:016d}"
            session[subject] = handle[handle_hash] = hashlib.sha256(b"%d" % number).digest()
            sessions.append(tuple(session))
            handles.append(tuple(handle))
        db.executemany(f"INSERT INTO sessions VALUES ({','.join('?' * len(session))})", sessions)
        db.executemany(f"INSERT INTO handles VALUES ({','.join('?' * len(handle))})", handles)


if __name__ == "__main__":
    print(asyncio.run(seed(read(Path(sys.argv[1])).control, sys.argv[2]))[0])
