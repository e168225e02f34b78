"""People of one provider at what is meant for those of another, through the whole proxy."""

from urllib.parse import urlsplit

import msgspec

from tests.lab.proxy import APP, PORTAL, ProxyLab, allow, lab_route
from zt_proxy.policy.spec import RouteRules
from zt_proxy.worker.settings import RouteSettings

NAVIGATION = b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nAccept: text/html\r\n"


def route(rules: RouteRules) -> RouteSettings:
    return msgspec.structs.replace(lab_route("app", APP, ()), rules=rules)


async def test_a_session_of_another_provider_is_sent_to_sign_in_and_reaches_nothing() -> None:
    rules = RouteRules("app", (allow(), allow("open", public=True, groups=(), paths=("/open",))), provider="partners")
    async with ProxyLab(routes=[route(rules)]) as lab:
        cookie = await lab.sign_in()  # by `corp`, in the group that the rule names
        for _ in range(3):  # what is remembered of a request is no way in either
            page = await lab.get("/", cookie, NAVIGATION)
            assert page.status == 302
            assert urlsplit(page.header("location") or "").netloc == PORTAL
            assert (await lab.get("/", cookie)).problem["reason"] == "login-required"
        assert not lab.upstream.seen
        assert (await lab.get("/open", cookie)).status == 200


async def test_the_same_person_at_the_routes_own_provider_gets_in() -> None:
    rules = RouteRules("app", (allow(),), provider="corp")
    async with ProxyLab(routes=[route(rules)]) as lab:
        assert (await lab.get("/", await lab.sign_in())).status == 200
