"""The relying party against a certified OpenID provider (npm oidc-provider): sign-in, second factor, fresh proof, logout."""

import secrets

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from yarl import URL

from tests.lab.jose import ec_key
from tests.real.fixtures import USERS
from zt_proxy.control.identity.provider import OidcProvider
from zt_proxy.control.identity.types import LoginRefused
from zt_proxy.control.settings import ClientKeySettings, ProviderSettings
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.keys import Secret
from zt_proxy.core.session import Level

CALLBACK = "https://auth.zt.test/.zt/callback"

pytestmark = pytest.mark.real


class Person:
    """A browser with one cookie jar, at one provider, with a relying party that sends it there."""

    def __init__(self, idp, http, **settings):
        self.idp, self.http = idp, http
        self.parties = []
        self.use(**settings)
        self.asked = 0
        """How often the login page was shown."""
        self.lazy = False
        """Types no code."""

    def use(self, **settings):
        """Another relying party of the same provider, for the same browser."""
        values = {"acr": {"urn:zt:mfa": Level.MULTI}, "amr": {}, "client_secret": Secret("zt-secret"), **settings}
        self.party = OidcProvider(
            ProviderSettings(name="real", display_name="Real", issuer=self.idp.issuer, client_id="zt", **values),
            redirect_uri=CALLBACK,
            clock=SystemClock(),
        )
        self.parties.append(self.party)

    async def sign_in(self, username, *, max_age=None, force=False, level=None):
        nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        started = SystemClock().now()
        url = await self.party.authorization_url(
            state="st", nonce=nonce, verifier=verifier, max_age=max_age, force=force, level=level
        )
        back = await self.follow(URL(url, encoded=True), username)
        return await self.party.finish(
            parameters=dict(back.query),
            nonce=nonce,
            verifier=verifier,
            max_age=max_age,
            forced_after=started if force else None,
        )

    async def follow(self, target, username):
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
            form = {
                "username": username,
                "password": user["password"],
                "code": "" if self.lazy else user.get("code", ""),
            }
            self.asked += 1
        raise AssertionError("the provider never sent the browser back")


@pytest.fixture
async def at(oidc_provider):
    """`at(algorithm="RS256", ...)` gives a Person at a new provider."""
    people = []

    def make(algorithm="ES256", idp=None, **settings):
        """`idp`: keywords of the provider."""
        idp = oidc_provider([CALLBACK], ["https://auth.zt.test/out"], algorithm=algorithm, **(idp or {}))
        people.append(Person(idp, aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)), **settings))
        return people[-1]

    yield make
    for person in people:
        for party in person.parties:
            await party.close()
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


async def test_a_step_up_asks_for_the_second_factor_and_comes_back_with_its_acr(at):
    users = {"max": {**USERS["max"], "optional": True}}
    person = at(idp={"users": users}, acr={})
    person.lazy = True
    assert (await person.sign_in("max")).acr == "urn:zt:pwd"
    assert (await person.sign_in("max")).acr == "urn:zt:pwd"
    assert person.asked == 1
    person.use(acr={"urn:zt:mfa": Level.MULTI})
    person.lazy = False
    strong = await person.sign_in("max", level=Level.MULTI)
    assert (person.asked, strong.acr, strong.level) == (2, "urn:zt:mfa", Level.MULTI)
    await person.sign_in("max", level=Level.MULTI)
    assert person.asked == 2


async def test_a_request_is_pushed_where_the_provider_demands_it(at):
    person = at(idp={"par": True}, par="require")
    nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    url = await person.party.authorization_url(state="st", nonce=nonce, verifier=verifier, max_age=None, force=False)
    assert set(URL(url).query) == {"client_id", "request_uri"}
    assert (await person.sign_in("rita")).principal.subject == "rita"


async def test_the_client_proves_itself_with_a_key(at, tmp_path):
    key = ec_key("party")
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "party.pem").write_bytes(pem)
    registration = {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [key.jwk]}}
    settings = ClientKeySettings(tmp_path / "party.pem", key_id="party")
    person = at(
        idp={"registration": registration, "par": True},
        client_auth="private_key_jwt",
        client_key=settings,
        client_secret=None,
    )
    assert (await person.sign_in("rita")).principal.subject == "rita"


async def test_a_refresh_token_rotates_and_counts_once(at):
    registration = {"grant_types": ["authorization_code", "refresh_token"]}
    person = at(idp={"registration": registration}, scopes=("openid", "profile", "email", "offline_access"))
    login = await person.sign_in("rita")
    assert login.refresh_token is not None
    assert 0 < login.renew_in <= 300
    first = await person.party.renew(login.refresh_token, login.principal)
    assert (first.principal, first.fault) == (login.principal, None)
    second = await person.party.renew(first.token, login.principal)
    assert len({login.refresh_token.reveal(), first.token.reveal(), second.token.reveal()}) == 3
    for spent in (first.token, second.token):  # who uses one twice loses them all
        with pytest.raises(LoginRefused, match="invalid_grant"):
            await person.party.renew(spent, login.principal)


async def test_the_logout_address_is_one_the_provider_accepts(at):
    person = at()
    login = await person.sign_in("vera")
    url = await person.party.logout_url(
        id_token=login.id_token, post_logout_redirect_uri="https://auth.zt.test/out", state="bye"
    )
    answer = await person.http.get(URL(url, encoded=True))
    assert answer.status == 200
    assert "Sign out?" in await answer.text()
