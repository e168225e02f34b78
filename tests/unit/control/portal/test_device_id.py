"""A session knows the device it was made on, so that the device can be locked."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.lab.portal import PortalLab
from tests.unit.control.portal.test_risk import ALICE, session_of, signed_in
from zt_proxy.control.factors.types import Person
from zt_proxy.core.errors import Reason, UnavailableError


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path) as lab:
        yield lab


async def test_the_session_of_a_new_device_has_its_id_and_so_has_the_next_one_there(lab: PortalLab) -> None:
    browser = await signed_in(lab)
    first = await session_of(browser)
    (device,) = await lab.devices.of(ALICE)
    assert first.device == device.id
    lab.clock.advance(60)
    again = await session_of(await signed_in(lab, browser=browser))
    assert (again.sid != first.sid, again.device) == (True, device.id)
    (listed,) = [each for each in await lab.sessions.directory().of_user("alice") if each.sid == again.sid]
    assert listed.device_id == device.id


async def test_another_browser_and_another_person_are_another_device(lab: PortalLab) -> None:
    browser = await signed_in(lab)
    first = (await session_of(browser)).device
    assert (await session_of(await signed_in(lab))).device not in ("", first)
    lab.provider.principal = msgspec.structs.replace(lab.provider.principal, subject="bob")
    bobs = (await session_of(await signed_in(lab, browser=browser))).device
    assert bobs not in ("", first)
    assert [each.id for each in await lab.devices.of(Person(ALICE.issuer, "bob"))] == [bobs]


async def test_without_the_store_of_devices_a_session_has_none(lab: PortalLab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> str:
        raise UnavailableError(Reason.STORE_UNAVAILABLE)

    monkeypatch.setattr(lab.devices, "id_of", fails)
    session = await session_of(await signed_in(lab))
    assert (session.device, session.device_known) == ("", None)
