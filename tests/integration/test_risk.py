"""A person signs in from the office and from abroad: through the proxy, the portal and the provider, onto the record."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from tests.lab.browser import NAVIGATE, Browser, Page
from tests.lab.waiting import until
from tests.lab.world import HOME, HOUR, World, world
from zt_proxy.control.operator.server import SOCKET
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.keys import CookieMac
from zt_proxy.core.session import Risk, RiskLevel, Session
from zt_proxy.policy.geo import OriginSettings
from zt_proxy.policy.risk import agent_mark

OFFICE, ABROAD = "81.2.69.1", "5.5.5.5"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def database(path: Path, **countries: str) -> Path:
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="Test-Country")
    for code, network in countries.items():
        writer.insert_network(IPSet([network]), {"country": {"iso_code": code}})
    writer.to_db_file(str(path) + ".new")
    os.rename(str(path) + ".new", path)
    return path


class Traveller(Browser):
    """A browser at an address of its own: the lab's balancer, which is trusted, says so."""

    def __init__(self, of: World, address: str) -> None:
        super().__init__(of.lab)
        self.world = of
        self.address = address
        self.agent = FIREFOX

    async def request(
        self, url: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Page:
        lines = {**(headers or NAVIGATE), "X-Forwarded-For": self.address, "User-Agent": self.agent}
        return await super().request(url, method, lines, body)

    async def signed_in(self) -> Session:
        """Signs in, or once more; gives the session at the app."""
        for cookies in self.jar.values():
            cookies.pop("__Host-zt", None)
        page = await self.visit(HOME + "/")
        assert page.status == 200, page.text
        control = self.world.lab.proxy.control
        assert control is not None
        handle = CookieMac(control.ring).handle_hash(self.cookies("app.test")["__Host-zt"])
        session = await control.sessions.session(handle, "app.test")
        assert session is not None
        return session


@asynccontextmanager
async def travelling(folder: Path) -> AsyncIterator[World]:
    origins = OriginSettings(
        (("office", ("81.2.69.0/24",)),), database(folder / "c.mmdb", DE="81.2.69.0/24", BR="5.5.5.0/24")
    )
    worker: dict[str, Any] = {"trusted_proxies": ("127.0.0.0/8",), "origins": origins}
    async with world(clock=ManualClock(), worker=worker, control={"origins": origins}) as running:
        yield running


async def operator(of: World, path: str) -> Any:
    connector = aiohttp.UnixConnector(str(of.lab.directory / "run" / SOCKET))
    async with aiohttp.ClientSession(connector=connector) as http, http.get("http://operator" + path) as answer:
        return answer.status, await answer.json()


async def test_the_known_device_in_the_office_is_low_and_a_new_one_abroad_is_not(tmp_path: Path) -> None:
    async with travelling(tmp_path) as running:
        office = Traveller(running, OFFICE)
        first = await office.signed_in()
        assert (first.address, first.agent, first.device_known) == (OFFICE, agent_mark(FIREFOX.encode()), False)
        await running.lab.advance(HOUR)
        assert (await office.signed_in()).risk == Risk(0, RiskLevel.LOW, ("network-office-20",))
        await running.lab.advance(30 * HOUR)
        abroad = await Traveller(running, ABROAD).signed_in()
        assert abroad.risk == Risk(50, RiskLevel.MEDIUM, ("new-device+25", "new-country+25"))
        await running.lab.advance(HOUR)
        back = await Traveller(running, OFFICE).signed_in()
        assert back.risk == Risk(45, RiskLevel.MEDIUM, ("new-device+25", "impossible-travel+40", "network-office-20"))
        lines = [line for line in await running.lab.log() if line["type"] == "signed-in"]
        assert [(line["country"], line["risk"]) for line in lines] == [
            ("DE", "5 low"),
            ("DE", "0 low"),
            ("BR", "50 medium"),
            ("DE", "45 medium"),
        ]
        assert {line["user"] for line in lines} == {first.principal.subject}
        assert lines[0]["groups"] == sorted(first.principal.groups)


async def test_the_operator_is_told_who_is_known(tmp_path: Path) -> None:
    async with travelling(tmp_path) as running:
        session = await Traveller(running, OFFICE).signed_in()
        status, body = await operator(running, "/people?limit=10")
        assert status == 200
        [person] = body["people"]
        assert (person["subject"], person["provider"]) == (session.principal.subject, "corp")
        assert person["groups"] == sorted(session.principal.groups)
        assert body["following"] == ""
        assert (await operator(running, "/people?limit=x"))[0] == 400
        assert (await operator(running, "/people?after=zz"))[0] == 400
        assert (await operator(running, "/people?user=x"))[0] == 400


async def test_a_changed_database_counts_for_the_next_sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zt_proxy.control.risk.judge.LOOK", 0.01)
    async with travelling(tmp_path) as running:
        control = running.lab.proxy.control
        assert control is not None
        judge = control.judge
        assert judge.origins is not None
        origins = judge.origins
        (tmp_path / "c.mmdb").write_bytes(b"not a database")
        await until(lambda: bool(control.notes()))
        assert "the one of before is in use" in control.notes()[0]
        assert origins.of(ABROAD).country == "BR"
        database(tmp_path / "c.mmdb", DE="81.2.69.0/24", FR="5.5.5.0/24")
        await until(lambda: not control.notes())
        await Traveller(running, ABROAD).signed_in()
        lines = [line for line in await running.lab.log() if line["type"] == "signed-in"]
        assert [line["country"] for line in lines] == ["FR"]
