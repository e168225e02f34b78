"""Which browsers a person is known with."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from zt_proxy.control.devices import store
from zt_proxy.control.devices.agent import UNKNOWN, agent_label
from zt_proxy.control.devices.store import KnownDevices
from zt_proxy.control.factors.types import Person
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError, UnavailableError

ALICE, BOB = Person("https://idp.example", "alice"), Person("https://idp.example", "bob")
DAY = 86_400.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def devices(tmp_path: Path, clock: ManualClock) -> AsyncIterator[KnownDevices]:
    known = await KnownDevices.open(tmp_path / "state", clock)
    yield known
    await known.close()


async def test_the_first_device_is_new_and_first_and_known_from_then_on(devices: KnownDevices) -> None:
    first = await devices.seen(ALICE, None, "Firefox on Linux", "192.0.2.7")
    assert (first.new, first.first) == (True, True)
    again = await devices.seen(ALICE, first.cookie, "Firefox on Linux", "192.0.2.8")
    assert (again.new, again.first, again.cookie) == (False, False, first.cookie)
    assert [each.address for each in await devices.of(ALICE)] == ["192.0.2.8"]


async def test_another_browser_is_new_and_not_first(devices: KnownDevices, clock: ManualClock) -> None:
    first = await devices.seen(ALICE, None, "Firefox on Linux", "192.0.2.7")
    clock.advance(60)
    second = await devices.seen(ALICE, None, "Safari on iPhone", "192.0.2.9")
    assert (second.new, second.first) == (True, False)
    assert second.cookie != first.cookie
    assert [each.label for each in await devices.of(ALICE)] == ["Safari on iPhone", "Firefox on Linux"]


async def test_a_browser_is_known_for_each_person_apart(devices: KnownDevices) -> None:
    cookie = (await devices.seen(ALICE, None, "x", "")).cookie
    other = await devices.seen(BOB, cookie, "x", "")
    assert (other.new, other.first, other.cookie) == (True, True, cookie)
    assert len(await devices.of(BOB)) == 1
    assert not await devices.forget(BOB, (await devices.of(ALICE))[0].id)
    assert len(await devices.of(ALICE)) == 1


async def test_a_forgotten_device_is_new_again_and_never_first(devices: KnownDevices) -> None:
    seen = await devices.seen(ALICE, None, "x", "")
    assert await devices.forget(ALICE, seen.device.id)
    assert await devices.of(ALICE) == ()
    again = await devices.seen(ALICE, seen.cookie, "x", "")
    assert (again.new, again.first) == (True, False)


@pytest.mark.parametrize("cookie", ["", "x", "A" * 42, "A" * 44, "A" * 10_000, "\udcff" * 43])
async def test_nobody_chooses_their_own_cookie(devices: KnownDevices, cookie: str) -> None:
    assert (await devices.seen(ALICE, cookie, "x", "")).cookie != cookie


async def test_a_device_not_seen_for_long_is_forgotten(devices: KnownDevices, clock: ManualClock) -> None:
    cookie = (await devices.seen(ALICE, None, "x", "")).cookie
    clock.advance(399 * DAY)
    assert not (await devices.seen(ALICE, cookie, "x", "")).new
    clock.advance(401 * DAY)
    assert await devices.of(ALICE) == ()
    assert (await devices.seen(ALICE, cookie, "x", "")).new


async def test_the_device_seen_longest_ago_gives_way(
    devices: KnownDevices, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST", 3)
    cookies = []
    for _ in range(5):
        clock.advance(1)
        cookies.append((await devices.seen(ALICE, None, "x", "")).cookie)
    assert len(await devices.of(ALICE)) == 3
    assert not (await devices.seen(ALICE, cookies[-1], "x", "")).new
    assert (await devices.seen(ALICE, cookies[0], "x", "")).new


async def test_the_link_of_a_mail_is_good_once_and_not_for_ever(devices: KnownDevices, clock: ManualClock) -> None:
    seen = await devices.seen(ALICE, None, "Firefox on Linux", "192.0.2.7")
    token = await devices.notice(ALICE, seen.device)
    for _ in range(3):
        notice = await devices.asked(token)
        assert notice is not None
    assert (notice.person[:2], notice.device, notice.label) == (ALICE[:2], seen.device.id, "Firefox on Linux")
    taken = await asyncio.gather(*(devices.take(token) for _ in range(10)))
    assert len([each for each in taken if each is not None]) == 1
    assert await devices.asked(token) is None
    late = await devices.notice(ALICE, seen.device)
    clock.advance(store.NOTICE_LIFE)
    assert await devices.asked(late) is None
    assert await devices.take(late) is None
    assert await devices.asked("made up") is None


async def test_what_is_known_survives_a_restart_and_names_nobody(tmp_path: Path, clock: ManualClock) -> None:
    state = tmp_path / "state"
    known = await KnownDevices.open(state, clock)
    seen = await known.seen(ALICE, None, "Firefox on Linux", "192.0.2.7")
    token = await known.notice(ALICE, seen.device)
    await known.close()
    stored = b"".join(path.read_bytes() for path in state.glob("devices.db*"))
    for secret in ("alice", "Firefox", "192.0.2.7", seen.cookie, token):
        assert secret.encode() not in stored
    again = await KnownDevices.open(state, clock)
    assert not (await again.seen(ALICE, seen.cookie, "x", "")).new
    assert await again.take(token) is not None
    await again.close()
    with pytest.raises(UnavailableError):
        await again.of(ALICE)


async def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    path = state / "devices.db"
    path.write_bytes(b"no database at all, but long enough to look like one" * 20)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError):
        await KnownDevices.open(state, clock)


@pytest.mark.parametrize(
    ("agent", "label"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 "
            "Safari/537.36 Edg/140.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/18.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Mobile Safari/537.36",
            "Chrome on Android",
        ),
        ("curl/8.5.0", UNKNOWN),
        ("", UNKNOWN),
        ("<img src=x onerror=alert(1)> Macintosh", "A browser on macOS"),
    ],
)
def test_a_browser_is_told_in_words_of_our_own(agent: str, label: str) -> None:
    assert agent_label(agent) == label
