"""Ends and restarts at moments that do not suit: nobody at a socket of control's may hold the rest up."""

import asyncio
import signal
from pathlib import Path

from tests.lab.fleet import Fleet


async def test_who_stalls_in_the_middle_of_an_order_does_not_keep_control_from_leaving_in_order(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "state" / "run" / "operator.sock"))
        writer.write(b"POST /sessions/revoke HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        assert await fleet.serves(), "whatever came was taken in by now"
        fleet.signal(signal.SIGTERM)
        assert await fleet.ended() == 0
        writer.close()
        assert not fleet.said("a process did not end in time; killing it")
