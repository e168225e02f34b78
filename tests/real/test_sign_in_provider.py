"""The relying party against a certified OpenID provider (npm oidc-provider): sign-in, second factor, fresh proof, logout."""

import secrets

import aiohttp
import pytest
from yarl import URL

from zt_proxy.control.identity.provider import OidcProvider
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.keys import Secret
from zt_proxy.core.session import Level

CALLBACK = "https://auth.zt.test/.zt/callback"

pytestmark = pytest.mark.real


class Person:
    """A browser with one cookie jar, at one provider, with a relying party that sends it there."""

    def __init__(self, idp, http, **settings):
        self.idp, self.http = idp, http
        values = {"acr": {"urn:zt:mfa": Level.MULTI}, "amr": {}, "client_secret": Secret("zt-secret"), **settings}
        self.party = OidcProvider(
            ProviderSettings(name="real", display_name="Real", issuer=idp.issuer, client_id="zt", **values),
            redirect_uri=CALLBACK,
            clock=SystemClock(),
        )
        self.asked = 0
        """How often the login page was shown."""

    async def sign_in(self, username, *, max_age=None, force=False):
        nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        started = SystemClock().now()
        url = await self.party.authorization_url(
            state="st", nonce=nonce, verifier=verifier, max_age=max_age, force=force
        )
        back = await self._follow(URL(url, encoded=True), username)
        return await self.party.finish(
            parameters=dict(back.query),
            nonce=nonce,
            verifier=verifier,
            max_age=max_age,
            forced_after=started if force else None,
        )

    async def _follow(self, target, username):
        """Follow redirects and fill in the login form until the provider sends the browser away."""
        form = None
        for _ in range(12):
            if target.origin() != URL(self.idp.issuer).origin():
                return target
            answer = await self.http.request("POST" if form else "GET", target, data=form, allow_redirects=False)
            if answer.status in (302, 303):
                target, form = target.join(URL(answer.headers["Location"], encoded=True)), None
                continue
            user = self.idp.users[username]
            form = {"username": username, "password": user["password"], "code": user.get("code", "")}
            self.asked += 1
        raise AssertionError("the provider never sent the browser back")


@pytest.fixture
async def at(oidc_provider):
    """`at(algorithm="RS256", ...)` gives a Person at a new provider."""
    people = []

    def make(algorithm="ES256", **settings):
        idp = oidc_provider([CALLBACK], ["https://auth.zt.test/out"], algorithm=algorithm)
        people.append(Person(idp, aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)), **settings))
        return people[-1]

    yield make
    for person in people:
        await person.party.close()
        await person.http.close()


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_a_person_with_two_factors_signs_in(at, algorithm):
    login = await at(algorithm).sign_in("rita")
    assert login.principal.subject == "rita"
    assert login.principal.groups == {"staff", "makers", "releasers"}
    assert login.principal.email == "rita@example.com"
    assert (login.acr, login.amr, login.mfa) == ("urn:zt:mfa", ("pwd", "otp"), True)


async def test_a_person_with_one_factor_has_shown_one(at):
    login = await at().sign_in("nina")
    assert (login.mfa, login.level) == (False, Level.SINGLE)


async def test_a_second_sign_in_uses_the_providers_session_and_a_forced_one_does_not(at):
    person = at()
    first = await person.sign_in("max")
    again = await person.sign_in("max")
    assert (person.asked, again.auth_time) == (1, first.auth_time)
    forced = await person.sign_in("max", force=True)
    assert person.asked == 2
    assert forced.auth_time >= first.auth_time
    limited = await person.sign_in("max", max_age=3_600)
    assert (person.asked, limited.auth_time) == (2, forced.auth_time)


async def test_the_logout_address_is_one_the_provider_accepts(at):
    person = at()
    login = await person.sign_in("vera")
    url = await person.party.logout_url(
        id_token=login.id_token, post_logout_redirect_uri="https://auth.zt.test/out", state="bye"
    )
    answer = await person.http.get(URL(url, encoded=True))
    assert answer.status == 200
    assert "Sign out?" in await answer.text()
