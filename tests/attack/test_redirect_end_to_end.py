"""Where a browser is ever sent: to configured origins, by hand-offs that nobody can forge."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.lab.proxy import APP, PORTAL
from tests.lab.world import (
    AUTH,
    HOME,
    OTHER,
    world,
)


@pytest.mark.case("ZT-REDIR-01")
@pytest.mark.case("ZT-REDIR-02")
async def test_no_target_or_parameter_leads_a_browser_to_a_foreign_host() -> None:
    hostile = (
        "/\\evil.test", "//evil.test", "///evil.test", "/%09/evil.test", "/%5cevil.test", "/%2fevil.test", "/.evil.test",
        "/@evil.test", "/https:evil.test", "/https://evil.test/", "/%0d%0aLocation:%20https://evil.test", "/..//evil.test",
        "/;//evil.test", "/?rd=https://evil.test", "/.zt/sign-in?to=https://evil.test", "/javascript:alert(1)",
        "/%68ttps://evil.test", "/%E2%80%AEevil.test", "/a?next=//evil.test#x",
    )  # fmt: skip
    portal = (
        "/.zt/sign-in?to=https://evil.test", "/.zt/sign-in?to=//evil.test", "/.zt/sign-in?rd=https://evil.test",
        "/.zt/sign-in?with=https://evil.test", "/.zt/callback?state=x&code=y&redirect_uri=https://evil.test",
        "/.zt/signed-out?post_logout_redirect_uri=https://evil.test", "/.zt/sign-out?rd=https://evil.test",
    )  # fmt: skip
    async with world() as w:
        own = {APP, OTHER, PORTAL, urlsplit(w.idp.issuer).netloc}
        browser = w.browser()
        for raw in hostile:
            browser.jar.pop(APP, None)
            answer = await browser.request(HOME + raw)
            if answer.status != 302:
                assert (answer.status, answer.location) in {(400, ""), (404, "")}, raw
                continue
            page = await browser.visit(HOME + raw)
            assert {urlsplit(hop).netloc for hop in page.hops} <= own, raw
            assert page.url.startswith(HOME + "/"), raw
        for raw in portal:
            page = await w.browser().request(AUTH + raw)
            if page.location:
                assert urlsplit(page.location).netloc in own | {""}, raw
                assert not page.location.startswith(("//", "/\\")), raw


@pytest.mark.case("ZT-REDIR-04")
async def test_a_hand_off_that_was_changed_moved_or_kept_too_long_is_refused() -> None:
    async with world() as w:
        browser = w.browser()
        link = (await browser.request(HOME + "/flows")).location
        token = parse_qs(urlsplit(link).query)["to"][0]
        middle = len(token) // 2
        flipped = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
        for bad in (flipped, token[:-1], token[1:], token + "A", "", "A" * 400, token[::-1]):
            page = await browser.request(f"{AUTH}/.zt/sign-in?to={bad}")
            assert (page.status, page.location) == (400, ""), bad
        assert (await browser.request(f"{AUTH}/.zt/sign-in?to={token}&to={token}")).status == 400
        assert (await browser.request(f"{HOME}/.zt/sign-in?to={token}")).status == 404
        await w.lab.advance(601)
        assert (await browser.request(link)).status == 400
        assert w.visits == 0
