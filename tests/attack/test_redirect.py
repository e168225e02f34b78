"""Open redirects and split headers: nothing a client sends decides where the portal leads (ZT-REDIR, ZT-HDRS-03)."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest

from tests.attack.redirect_corpus import CORPUS, EVIL, SPLITTING
from tests.lab.portal import APP, OTHER, PORTAL, Answer, Browser, PortalLab
from zt_proxy.control.portal.answers import check_target
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.handoff import Purpose
from zt_proxy.core.keys import KeyRing, b64decode, b64encode

OWN = {f"https://{host}" for host in (APP, OTHER, PORTAL)}


def browser_reads(location: str, base: str) -> str:
    """The origin a browser would go to, as the WHATWG URL standard has it for special schemes: C0 and spaces around
    are stripped, tab and newline removed anywhere, a backslash is a slash."""
    text = location.strip("".join(map(chr, range(0x21))))
    for dropped in "\t\n\r":
        text = text.replace(dropped, "")
    head, mark, tail = text.partition("?")
    parts = urlsplit(urljoin(base, head.replace("\\", "/") + mark + tail))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PortalLab]:
    async with PortalLab(tmp_path, pending_logins_per_address=5) as lab:
        yield lab


def assert_stays(answer: Answer, base: str) -> None:
    if answer.location and not answer.location.startswith("https://idp.example/"):
        assert browser_reads(answer.location, base) in OWN, answer.location
        assert answer.location.startswith("https://") or (
            answer.location[0] == "/" and answer.location[1:2] not in {"/", "\\"}
        )
    assert f'href="//{EVIL}' not in answer.text
    assert "x=1" not in " ".join(answer.set_cookies)


def test_the_corpus_is_large_and_reaches_what_it_is_meant_to_reach() -> None:
    assert len(CORPUS) >= 300
    leading_away = [line for line in CORPUS if EVIL in browser_reads(line, f"https://{APP}/")]
    assert len(leading_away) >= 60  # the oracle below can fail


@pytest.mark.case("ZT-REDIR-01")
async def test_a_parameter_of_the_client_leads_nowhere(lab: PortalLab) -> None:
    fresh, known = lab.browser(), lab.browser()
    await known.sign_in()
    for line in CORPUS:
        value = quote(line, safe="")
        for browser in (fresh, known):
            answer = await browser.get(PORTAL, f"/.zt/sign-in?to={value}")
            assert (answer.status, answer.location) == (400, ""), line
        for host, path in (
            (PORTAL, f"/?rd={value}"),
            (PORTAL, f"/.zt/sign-out?rd={value}"),
            (PORTAL, f"/.zt/signed-out?state={value}"),
            (PORTAL, f"/.zt/callback?state={value}&code=x"),
            (APP, f"/.zt/sign-out?rd={value}"),
            (APP, f"/.zt/resume?code={value}"),
        ):
            assert_stays(await known.get(host, path), f"https://{host}/.zt/")


@pytest.mark.case("ZT-REDIR-01")
@pytest.mark.case("ZT-REDIR-02")
async def test_a_target_that_leads_elsewhere_is_refused_even_when_it_was_sealed(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    for line in CORPUS:
        for target in {line, unquote(line)}:
            try:
                handoff = browser.handoff(target=target)
            except UnicodeEncodeError:
                continue
            answer = await browser.get(PORTAL, f"/.zt/sign-in?to={handoff}")
            if answer.status == 400:
                assert Reason.HANDOFF_INVALID in answer.text
                continue
            lab.clock.advance(61)  # so that the loop guard sees no haste
            to_app = await browser.follow(
                await browser.get(PORTAL, f"/.zt/sign-in?to={browser.handoff(target=target)}")
            )
            assert to_app.location == target
            assert_stays(to_app, f"https://{APP}/.zt/")


@pytest.mark.case("ZT-REDIR-02")
@pytest.mark.parametrize(
    "target",
    [
        *("/\\evil", "//evil", "/\t/evil", "https://example.com.evil", "https://evil#.example.com", "https://a@evil"),
        *(
            "https://evil\\.example.com",
            "https:evil",
            "///evil",
            "javascript:alert(1)",
            "",
            "red",
            "/a b",
            "/é",
            "/a#b",
        ),
    ],
)
def test_these_targets_are_refused(target: str) -> None:
    with pytest.raises(ClientError) as caught:
        check_target(target)
    assert caught.value.reason is Reason.HANDOFF_INVALID


@pytest.mark.parametrize("target", ["/", "/red/", "/a?b=//c&d=https://e", "/%09/evil", "/a;b", "/~x/%2F"])
def test_these_targets_stay_on_their_host_and_are_kept(target: str) -> None:
    assert check_target(target) == target
    assert browser_reads(target, f"https://{APP}/") == f"https://{APP}"


@pytest.mark.case("ZT-REDIR-04")
async def test_a_hand_off_with_any_byte_changed_is_refused(lab: PortalLab) -> None:
    browser = lab.browser()
    good = browser.handoff()
    raw = b64decode(good)
    for position in range(len(raw)):
        changed = b64encode(raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :])
        answer = await browser.get(PORTAL, f"/.zt/sign-in?to={changed}")
        assert (answer.status, answer.location) == (400, ""), position
    assert (await browser.get(PORTAL, f"/.zt/sign-in?to={good}")).status == 303


@pytest.mark.case("ZT-REDIR-04")
async def test_a_hand_off_cut_padded_repeated_or_of_another_key_is_refused(lab: PortalLab) -> None:
    browser = lab.browser()
    good = browser.handoff()
    own_ring, lab.worker_ring = lab.worker_ring, KeyRing({1: b"e" * 32})
    foreign = browser.handoff()
    lab.worker_ring = own_ring
    for text in (good[:-1], good[:40], good + "=", good + "AAAA", "", "AAAA", foreign, f"{good}&to={good}"):
        answer = await browser.get(PORTAL, f"/.zt/sign-in?to={text}")
        assert (answer.status, answer.location) == (400, ""), text


@pytest.mark.case("ZT-REDIR-04")
@pytest.mark.parametrize(
    "fields",
    [
        {"expires": 1.0},
        {"host": EVIL},
        {"host": PORTAL},
        {"host": APP.upper()},
        {"host": APP + "@evil.example"},
        {"purpose": Purpose.LOGOUT},
        {"binder": b""},
    ],
)
async def test_a_sealed_hand_off_that_is_old_or_for_another_host_or_use_is_refused(
    lab: PortalLab, fields: dict[str, object]
) -> None:
    browser = lab.browser()
    for signed_in in (False, True):
        if signed_in:
            await browser.sign_in()
        answer = await browser.get(PORTAL, f"/.zt/sign-in?to={_sealed(browser, fields)}")
        assert (answer.status, answer.location) == (400, "")
        assert Reason.HANDOFF_INVALID in answer.text


@pytest.mark.case("ZT-HDRS-03")
async def test_no_line_break_reaches_a_header(lab: PortalLab) -> None:
    browser = lab.browser()
    await browser.sign_in()
    for line in SPLITTING:
        lab.clock.advance(61)
        answer = await browser.get(PORTAL, f"/.zt/sign-in?to={browser.handoff(target=line)}")
        if answer.status == 303:
            answer = await browser.follow(answer)
        assert not any(mark in answer.location for mark in "\r\n\x00")
        assert "x=1" not in " ".join(answer.set_cookies)


def _sealed(browser: Browser, fields: dict[str, object]) -> str:
    return browser.handoff(**fields)  # type: ignore[arg-type]
