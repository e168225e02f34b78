"""A sign-in from end to end against a provider that behaves."""

import asyncio
import json
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import trustme
from aiohttp import web

from tests.lab.idp import ABSENT, CLIENT_ID, CLIENT_SECRET, MockIdp
from tests.lab.relying_party import REDIRECT_URI, SignInLab
from zt_proxy.control.identity.provider import OidcProvider
from zt_proxy.control.identity.types import LoginRefused
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError, ProviderError, Reason
from zt_proxy.core.keys import Secret
from zt_proxy.core.session import Level


@pytest.fixture
async def lab():
    async with SignInLab() as lab:
        yield lab


async def test_a_person_with_a_second_factor_signs_in(lab):
    login = await lab.sign_in()
    assert login.principal.subject == "sub-alice"
    assert login.principal.issuer == lab.idp.issuer
    assert login.principal.provider == login.provider == "lab"
    assert login.principal.groups == {"staff", "admins"}
    assert login.principal.email == "alice@example.test"
    assert login.principal.name == "Alice Example"
    assert login.mfa
    assert login.acr == "urn:lab:two-factor"
    assert login.amr == ("pwd", "otp")
    assert login.auth_time == int(lab.clock.now())
    assert login.provider_sid == "idp-session-alice"
    assert login.id_token.reveal() == lab.idp.last_id_token


async def test_nothing_is_fetched_before_the_first_sign_in_and_metadata_and_keys_are_kept_after_it(lab):
    assert not lab.idp.requests
    await lab.sign_in()
    await lab.sign_in()
    assert (lab.idp.requests["discovery"], lab.idp.requests["jwks"], lab.idp.requests["token"]) == (1, 1, 2)
    lab.clock.advance(3_600)
    await lab.sign_in()
    assert (lab.idp.requests["discovery"], lab.idp.requests["jwks"]) == (2, 2)


async def test_the_authorization_url_asks_for_what_is_configured():
    async with SignInLab(
        scopes=("profile", "offline_access"),
        acr={"steel": Level.PHISHING_RESISTANT, "gold": Level.MULTI, "silver": Level.MULTI, "tin": Level.SINGLE},
        max_age=600.0,
        refresh=False,
    ) as lab:
        url = await lab.provider.authorization_url(
            state="s", nonce="n", verifier="v" * 43, max_age=900.0, force=True, login_hint="alice"
        )
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert query["scope"] == "openid profile"
    assert query["acr_values"] == "gold silver steel"
    assert "claims" not in query
    assert query["max_age"] == "600"
    assert query["prompt"] == "login"
    assert query["redirect_uri"] == REDIRECT_URI
    assert query["response_mode"] == "query"
    assert query["login_hint"] == "alice"
    assert (query["state"], query["nonce"], query["client_id"]) == ("s", "n", CLIENT_ID)


@pytest.mark.parametrize(
    ("level", "values"),
    [
        (Level.SINGLE, ["tin", "gold", "silver", "steel"]),
        (Level.MULTI, ["gold", "silver", "steel"]),
        (Level.PHISHING_RESISTANT, ["steel"]),
    ],
)
async def test_a_level_is_asked_for_by_every_value_that_attests_it_or_more(level, values):
    acr = {"steel": Level.PHISHING_RESISTANT, "gold": Level.MULTI, "silver": Level.MULTI, "tin": Level.SINGLE}
    async with SignInLab(acr=acr) as lab:
        lab.idp.discovery["claims_parameter_supported"] = True
        asked = {"state": "s", "nonce": "n", "verifier": "v" * 43, "max_age": None, "force": True, "level": level}
        for essential in (True, False):
            url = await lab.provider.authorization_url(**asked, essential=essential)
            query = parse_qs(urlsplit(url).query)
            assert query["acr_values"] == [" ".join(values)]
            named = {"value": values[0]} if len(values) == 1 else {"values": values}
            assert json.loads(query["claims"][0]) == {"id_token": {"acr": {"essential": essential, **named}}}
        lab.configure(acr={"tin": Level.SINGLE}).display_name = "no value attests it"
        assert ("acr_values" in await lab.provider.authorization_url(**asked)) is (level is Level.SINGLE)


async def test_an_authorization_endpoint_with_a_query_of_its_own_keeps_it(lab):
    lab.idp.discovery["authorization_endpoint"] = lab.idp.issuer + "/authorize?tenant=1"
    url = await lab.provider.authorization_url(state="s", nonce="n", verifier="v" * 43, max_age=None, force=False)
    assert "/authorize?tenant=1&response_type=code" in url


async def test_a_forced_sign_in_asks_for_auth_time_and_accepts_only_a_new_proof(lab):
    lab.idp.auth_time = int(lab.clock.now()) - 5_000
    login = await lab.sign_in(force=True)
    assert lab.idp.authorizations[-1].query["max_age"] == "0"
    assert login.auth_time == int(lab.clock.now())
    lab.idp.claims["auth_time"] = int(lab.clock.now()) - 31
    assert await lab.refused(force=True) is Reason.LOGIN_NOT_FRESH
    lab.idp.claims["auth_time"] = ABSENT
    assert await lab.refused(force=True) is Reason.LOGIN_NOT_FRESH


async def test_basic_authentication_form_encodes_both_halves(lab):
    await lab.sign_in()  # the mock decodes as RFC 6749 §2.3.1 says, and the secret has : / + % and a space
    form, headers = lab.idp.token_requests[0]
    assert headers["Authorization"].startswith("Basic ")
    assert "client_secret" not in form


async def test_the_secret_can_go_into_the_form(lab):
    lab.configure(client_auth="client_secret_post")
    await lab.sign_in()
    form, headers = lab.idp.token_requests[0]
    assert form["client_secret"] == CLIENT_SECRET
    assert "Authorization" not in headers


async def test_a_public_client_sends_no_secret(lab):
    lab.configure(client_auth="none", client_secret=None)
    await lab.refusal()
    form, headers = lab.idp.token_requests[0]
    assert form["client_id"] == CLIENT_ID
    assert "client_secret" not in form
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_auth": "private_key_jwt"},
        {"client_auth": "tls_client_auth"},
        {"client_secret": None},
        {"algorithms": ("HS256",)},
        {"algorithms": ("none",)},
        {"algorithms": ()},
        {"issuer": "http://idp.example.test"},
        {"issuer": "https://idp.example.test?x=1"},
        {"issuer": "https://user@idp.example.test"},
        {"issuer": "idp.example.test"},
    ],
)
def test_settings_that_cannot_be_safe_are_refused_at_start(wrong):
    values = {
        "name": "lab",
        "display_name": "Lab",
        "issuer": "https://idp.example.test",
        "client_id": "x",
        "client_secret": Secret("y"),
    }
    with pytest.raises(ConfigurationError):
        OidcProvider(ProviderSettings(**{**values, **wrong}), redirect_uri=REDIRECT_URI, clock=ManualClock())


async def test_a_provider_that_is_down_is_said_to_be_and_a_later_sign_in_succeeds(lab):
    lab.idp.replies["discovery"] = lambda: web.Response(status=503)
    error = await lab.refusal()
    assert (error.reason, error.status, error.retryable) == (Reason.PROVIDER_UNREACHABLE, 503, True)
    del lab.idp.replies["discovery"]
    assert (await lab.sign_in()).mfa


async def test_old_metadata_serves_while_the_provider_is_down_but_not_for_ever(lab):
    await lab.sign_in()
    lab.idp.replies["discovery"] = lambda: web.Response(status=503)
    lab.clock.advance(3_601)
    await lab.sign_in()
    lab.clock.advance(86_400)
    assert await lab.refused() is Reason.PROVIDER_UNREACHABLE


async def test_many_first_sign_ins_share_one_fetch_of_metadata_and_keys(lab):
    logins = await asyncio.gather(*(lab.sign_in() for _ in range(20)))
    assert all(login.mfa for login in logins)
    assert (lab.idp.requests["discovery"], lab.idp.requests["jwks"]) == (1, 1)


async def test_a_slow_provider_ends_in_a_time_out(lab):
    lab.configure(timeout=0.05)
    never = asyncio.Event()

    async def hang() -> web.Response:
        await never.wait()
        return web.Response()

    lab.idp.replies["discovery"] = hang
    try:
        assert await lab.refused() is Reason.PROVIDER_UNREACHABLE
    finally:
        never.set()


async def test_logout_names_session_client_and_way_back(lab):
    url = await lab.provider.logout_url(
        id_token=Secret("hint"), post_logout_redirect_uri="https://portal.example.test/out", state="s"
    )
    assert url is not None
    assert url.startswith(lab.idp.issuer + "/logout?")
    assert parse_qs(urlsplit(url).query) == {
        "client_id": [CLIENT_ID],
        "id_token_hint": ["hint"],
        "post_logout_redirect_uri": ["https://portal.example.test/out"],
        "state": ["s"],
    }


async def test_logout_works_without_a_provider_that_supports_it_or_answers(lab):
    lab.idp.discovery["end_session_endpoint"] = ABSENT
    assert await lab.provider.logout_url(id_token=None, post_logout_redirect_uri="https://p", state="s") is None
    lab.idp.replies["discovery"] = lambda: web.Response(status=500)
    other = lab.configure()
    assert await other.logout_url(id_token=None, post_logout_redirect_uri="https://p", state="s") is None


async def test_the_providers_refusal_reaches_the_caller_in_safe_form(lab):
    lab.idp.deny = {"error": "access_denied", "error_description": "No\r\nentry\x1b[31m" + "x" * 500}
    error = await lab.refusal()
    assert isinstance(error, LoginRefused)
    assert (error.error, error.status) == ("access_denied", 403)
    assert error.description.isprintable()
    assert len(error.description) <= 200
    lab.idp.deny = {"error": "<script>"}
    assert (await lab.refusal()).error == "unreadable_error"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, {"error": "invalid_grant"}, Reason.LOGIN_REFUSED_BY_PROVIDER),
        (401, {"error": "invalid_client"}, Reason.PROVIDER_INVALID),
        (400, {"unexpected": 1}, Reason.PROVIDER_INVALID),
        (500, {}, Reason.PROVIDER_UNREACHABLE),
        (204, {}, Reason.PROVIDER_INVALID),
        (200, {}, Reason.PROVIDER_INVALID),
        (200, {"access_token": "a", "token_type": "Bearer"}, Reason.PROVIDER_INVALID),
        (200, {"access_token": "a", "token_type": "DPoP", "id_token": "x"}, Reason.PROVIDER_INVALID),
        (200, {"access_token": 1, "token_type": "Bearer", "id_token": "x"}, Reason.PROVIDER_INVALID),
        (200, {"access_token": "a", "token_type": "Bearer", "id_token": ["x"]}, Reason.PROVIDER_INVALID),
    ],
)
async def test_each_failure_of_the_token_endpoint_has_its_reason(lab, status, body, reason):
    lab.idp.replies["token"] = lambda: web.json_response(body, status=status)
    assert await lab.refused() is reason


async def test_html_from_the_token_endpoint_is_not_an_answer(lab):
    lab.idp.replies["token"] = lambda: web.Response(text="{}", content_type="text/html")
    assert await lab.refused() is Reason.PROVIDER_INVALID


async def test_a_call_back_without_a_code_is_the_requests_fault(lab):
    error = await lab.refusal(parameters={"state": "state-1", "iss": lab.idp.issuer})
    assert (error.reason, error.status) == (Reason.LOGIN_TOKEN_INVALID, 400)


async def test_a_provider_with_a_certificate_of_the_configured_ca_is_trusted_and_another_is_not(tmp_path):
    import ssl

    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(tls)
    async with MockIdp(tls=tls, host="localhost", clock=(clock := ManualClock())) as idp:
        for file, works in (("ca.pem", True), ("other.pem", False)):
            settings = ProviderSettings(
                name="tls",
                display_name="TLS",
                issuer=idp.issuer,
                client_id=CLIENT_ID,
                client_secret=Secret(CLIENT_SECRET),
                ca=tmp_path / file,
            )
            provider = OidcProvider(settings, redirect_uri=REDIRECT_URI, clock=clock)
            try:
                ask = provider.authorization_url(state="s", nonce="n", verifier="v" * 43, max_age=None, force=False)
                if works:
                    assert (await ask).startswith(idp.issuer)
                else:
                    with pytest.raises(ProviderError) as caught:
                        await ask
                    assert caught.value.reason is Reason.PROVIDER_UNREACHABLE
            finally:
                await provider.close()


async def test_a_session_that_was_given_stays_open(lab):
    async with aiohttp.ClientSession() as http:
        settings = ProviderSettings(
            name="x", display_name="X", issuer=lab.idp.issuer, client_id="c", client_secret=Secret("s")
        )
        provider = OidcProvider(settings, redirect_uri=REDIRECT_URI, clock=lab.clock, http=http)
        await provider.authorization_url(state="s", nonce="n", verifier="v" * 43, max_age=None, force=False)
        await provider.close()
        assert not http.closed
