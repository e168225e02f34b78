"""Attacks on the sign-in through a provider: injected codes, mix-up, foreign tokens, claims that say less than they seem."""

import asyncio
import logging
import traceback
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog
from aiohttp import web

from tests.lab.idp import ABSENT, CLIENT_ID, CLIENT_SECRET, MockIdp
from tests.lab.relying_party import SignInLab
from zt_proxy.control.identity.types import LoginRefused
from zt_proxy.core.errors import ProviderError, Reason
from zt_proxy.core.session import Level

VERIFIER = "verifier-of-this-very-browser-0123456789-abcdef"


@pytest.fixture
async def lab():
    async with SignInLab() as lab:
        yield lab


# ZT-OIDC-03: PKCE, RFC 7636 and RFC 9700 §2.1.1


@pytest.mark.case("ZT-OIDC-03")
async def test_the_challenge_is_always_s256_and_the_verifier_always_goes_to_the_token_endpoint(lab):
    lab.idp.discovery["code_challenge_methods_supported"] = ABSENT  # a provider that says nothing still gets it
    await lab.sign_in(verifier=VERIFIER)
    query = lab.idp.authorizations[0].query
    assert query["code_challenge_method"] == "S256"
    assert VERIFIER not in str(query)
    assert lab.idp.token_requests[0][0]["code_verifier"] == VERIFIER


@pytest.mark.case("ZT-OIDC-03")
async def test_a_code_from_another_browsers_sign_in_is_refused(lab):
    url = await lab.provider.authorization_url(
        state="s", nonce="attacker-nonce", verifier="a" * 43, max_age=None, force=False
    )
    stolen = await lab.visit(url)
    assert await lab.refused(parameters=stolen, verifier=VERIFIER) is Reason.LOGIN_REFUSED_BY_PROVIDER


@pytest.mark.case("ZT-OIDC-03")
async def test_an_injected_code_fails_by_its_nonce_even_if_the_provider_ignores_pkce(lab):
    lab.idp.check_pkce = False
    url = await lab.provider.authorization_url(
        state="s", nonce="attacker-nonce", verifier="a" * 43, max_age=None, force=False
    )
    stolen = await lab.visit(url)
    assert await lab.refused(parameters=stolen, verifier=VERIFIER) is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-OIDC-03")
async def test_a_provider_that_offers_only_plain_challenges_is_refused(lab):
    lab.idp.discovery["code_challenge_methods_supported"] = ["plain"]
    assert await lab.refused() is Reason.PROVIDER_INVALID


@pytest.mark.case("ZT-OIDC-03")
@pytest.mark.parametrize("verifier", ["", "short", "x" * 129, "ü" * 43])
async def test_a_verifier_outside_the_rfc_never_starts_a_sign_in(lab, verifier):
    with pytest.raises(ValueError, match="PKCE"):
        await lab.provider.authorization_url(state="s", nonce="n", verifier=verifier, max_age=None, force=False)


# ZT-OIDC-04: nonce


@pytest.mark.case("ZT-OIDC-04")
@pytest.mark.parametrize("nonce", [ABSENT, "", "wrong", "ünicode", 5, ["n"], True, {"n": 1}])
async def test_an_id_token_without_this_sign_ins_nonce_is_refused(lab, nonce):
    lab.idp.claims["nonce"] = nonce
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-OIDC-04")
async def test_the_nonce_of_another_sign_in_is_refused(lab):
    assert await lab.refused(nonce="n-of-tab-one", wrong_nonce="n-of-tab-two") is Reason.LOGIN_TOKEN_INVALID


# ZT-OIDC-05: audience and authorized party


@pytest.mark.case("ZT-OIDC-05")
@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": []},
        {"aud": ""},
        {"aud": ABSENT},
        {"aud": CLIENT_ID + "-2"},
        {"aud": CLIENT_ID[:-1]},
        {"aud": {CLIENT_ID: 1}},
        {"aud": [CLIENT_ID, 5]},
        {"aud": [[CLIENT_ID]]},
        {"aud": [CLIENT_ID, "other"]},
        {"aud": [CLIENT_ID, CLIENT_ID]},
        {"aud": [CLIENT_ID, "other"], "azp": "other"},
        {"aud": CLIENT_ID, "azp": "other"},
        {"aud": CLIENT_ID, "azp": [CLIENT_ID]},
        {"aud": CLIENT_ID, "azp": ""},
    ],
)
async def test_a_token_for_somebody_else_is_refused(lab, claims):
    lab.idp.claims.update(claims)
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-OIDC-05")
@pytest.mark.parametrize(
    "claims",
    [{"aud": [CLIENT_ID]}, {"aud": CLIENT_ID, "azp": CLIENT_ID}, {"aud": ["other", CLIENT_ID], "azp": CLIENT_ID}],
)
async def test_every_right_form_of_audience_is_accepted(lab, claims):
    lab.idp.claims.update(claims)
    assert (await lab.sign_in()).mfa


# ZT-OIDC-06: mix-up, RFC 9207


@pytest.mark.case("ZT-OIDC-06")
async def test_a_response_of_another_provider_is_refused_and_its_code_goes_nowhere(lab):
    async with MockIdp(clock=lab.clock) as attacker:
        lab.idp.response["iss"] = attacker.issuer
        assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID
        assert not attacker.requests
    assert lab.idp.requests["token"] == 0


@pytest.mark.case("ZT-OIDC-06")
@pytest.mark.parametrize("suffix", ["/", "x", "%2F", " "])
async def test_an_iss_that_only_begins_right_is_refused(lab, suffix):
    lab.idp.response["iss"] = lab.idp.issuer + suffix
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-OIDC-06")
async def test_a_missing_iss_is_refused_when_the_provider_promises_it(lab):
    lab.idp.response["iss"] = ABSENT
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID
    assert lab.idp.requests["token"] == 0


@pytest.mark.case("ZT-OIDC-06")
async def test_an_error_response_is_not_believed_from_another_provider_either(lab):
    lab.idp.deny = {"error": "access_denied"}
    lab.idp.response["iss"] = "https://elsewhere.example"
    assert not isinstance(await lab.refusal(), LoginRefused)


@pytest.mark.case("ZT-OIDC-06")
async def test_a_provider_that_promises_no_iss_may_leave_it_out_but_not_send_a_wrong_one(lab):
    lab.idp.discovery["authorization_response_iss_parameter_supported"] = ABSENT
    lab.idp.response["iss"] = ABSENT
    assert (await lab.sign_in()).mfa
    lab.idp.response["iss"] = "https://elsewhere.example"
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


# ZT-OIDC-07: discovery


@pytest.mark.case("ZT-OIDC-07")
@pytest.mark.parametrize(
    "change",
    [
        lambda issuer: issuer + "/",
        lambda issuer: issuer[:-1],
        lambda issuer: issuer.replace("http", "HTTP"),
        lambda issuer: issuer + "/tenant",
        lambda issuer: [issuer],
        lambda issuer: None,
        lambda issuer: ABSENT,
        lambda issuer: "",
    ],
)
async def test_metadata_of_any_other_issuer_is_refused(lab, change):
    lab.idp.discovery["issuer"] = change(lab.idp.issuer)
    assert await lab.refused() is Reason.PROVIDER_INVALID


@pytest.mark.case("ZT-OIDC-07")
async def test_metadata_that_turns_wrong_later_is_refused_at_its_refresh(lab):
    await lab.sign_in()
    lab.idp.discovery["issuer"] = "https://other.example"
    lab.clock.advance(3_601)
    assert await lab.refused() is Reason.PROVIDER_INVALID


@pytest.mark.case("ZT-OIDC-07")
async def test_an_issuer_with_a_path_and_a_slash_is_compared_with_it():
    async with SignInLab(MockIdp(path="/realms/lab")) as lab:
        assert (await lab.sign_in()).mfa
        lab.configure(issuer=lab.idp.issuer + "/")
        assert await lab.refused() is Reason.PROVIDER_INVALID


@pytest.mark.case("ZT-OIDC-07")
@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "end_session_endpoint"])
@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example/x",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "//idp.example/x",
        "https://",
        "https://user:password@idp.example/",
        "https://idp.example/#fragment",
        "https://idp.example\\@evil.example/",
        "https://idp.example:port/",
        "javascript:alert(1)",
        "https://idp.example/\n",
        ["https://idp.example/"],
        5,
    ],
)
async def test_endpoints_that_are_not_plain_https_are_refused(lab, name, url):
    lab.idp.discovery[name] = url
    assert await lab.refused() is Reason.PROVIDER_INVALID


@pytest.mark.parametrize("endpoint", ["discovery", "jwks", "token"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_nowhere(lab, endpoint, status):
    async with MockIdp(clock=lab.clock) as inside:
        lab.idp.replies[endpoint] = lambda: web.Response(status=status, headers={"Location": inside.issuer + "/jwks"})
        assert await lab.refused() is Reason.PROVIDER_INVALID
        assert not inside.requests


@pytest.mark.parametrize("endpoint", ["discovery", "jwks", "token"])
async def test_an_endless_answer_is_cut(lab, endpoint):
    lab.idp.replies[endpoint] = lambda: web.Response(body=b" " * 2_000_000, content_type="application/json")
    error = await lab.refusal()
    assert error.reason is Reason.PROVIDER_INVALID
    assert "larger than" in error.detail  # cut while reading, not found to be no JSON afterwards


@pytest.mark.parametrize("endpoint", ["discovery", "jwks", "token"])
async def test_a_compressed_answer_is_not_inflated(lab, endpoint):
    lab.idp.replies[endpoint] = lambda: web.Response(
        body=b"\x1f\x8b" + b"\x00" * 50, content_type="application/json", headers={"Content-Encoding": "gzip"}
    )
    assert await lab.refused() is Reason.PROVIDER_INVALID


@pytest.mark.parametrize("endpoint", ["discovery", "jwks", "token"])
@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":1,"a":2}', '{"a":NaN}', "\ufeff{}", "null"])
async def test_an_answer_that_is_not_one_clear_json_object_is_refused(lab, endpoint, text):
    lab.idp.replies[endpoint] = lambda: web.Response(text=text, content_type="application/json")
    assert await lab.refused() is Reason.PROVIDER_INVALID


# ZT-OIDC-08: CVE-2024-53861, issuer by substring


@pytest.mark.case("ZT-OIDC-08")
@pytest.mark.parametrize(
    "change",
    [
        lambda issuer: issuer[:-1],
        lambda issuer: issuer + "/",
        lambda issuer: issuer.removeprefix("http://"),
        lambda issuer: issuer.upper(),
        lambda issuer: "",
        lambda issuer: [issuer],
        lambda issuer: {issuer: 1},
        lambda issuer: ABSENT,
        lambda issuer: True,
    ],
)
async def test_an_id_token_of_another_issuer_is_refused(lab, change):
    lab.idp.claims["iss"] = change(lab.idp.issuer)
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


# ZT-OIDC-10: email_verified


@pytest.mark.case("ZT-OIDC-10")
@pytest.mark.parametrize("verified", [False, ABSENT, "false", "true", 0, 1, [True], "yes"])
async def test_an_address_that_is_not_verified_does_not_exist_for_policy(lab, verified):
    lab.configure(claims=("email", "department"))
    lab.idp.claims.update(email_verified=verified, department="it")
    login = await lab.sign_in()
    assert login.principal.email is None
    assert dict(login.principal.claims) == {"department": "it"}


@pytest.mark.case("ZT-OIDC-10")
async def test_an_address_of_another_providers_domain_does_not_exist_for_policy(lab):
    lab.configure(foreign_domains=("example.test",), claims=("email",))
    for email in ("alice@example.test", "alice@EXAMPLE.test"):
        lab.idp.claims["email"] = email
        login = await lab.sign_in()
        assert (login.principal.email, dict(login.principal.claims)) == (None, {})
    lab.idp.claims["email"] = "alice@sub.example.test"
    assert (await lab.sign_in()).principal.email == "alice@sub.example.test"


@pytest.mark.case("ZT-OIDC-10")
@pytest.mark.parametrize("email", ["", "no-at-sign", "a@b\r\nX-Admin: 1", "a b@c", ["a@b"], 5, "a@" + "b" * 320])
async def test_an_address_that_is_none_is_left_out(lab, email):
    lab.idp.claims["email"] = email
    assert (await lab.sign_in()).principal.email is None


# ZT-OIDC-12: groups


@pytest.mark.case("ZT-OIDC-12")
@pytest.mark.parametrize(
    "groups", ["admins", "staff,admins", "admins staff", [["admins"]], ["staff", 5], {"admins": True}, 5, True, []]
)
async def test_groups_of_any_other_shape_than_a_list_of_strings_are_no_groups(lab, groups):
    lab.idp.claims.update(groups=groups, roles=groups)
    login = await lab.sign_in()
    assert login.principal.groups == frozenset()
    assert login.principal.roles == frozenset()


@pytest.mark.case("ZT-OIDC-12")
async def test_thousands_of_groups_arrive_whole(lab):
    groups = [f"{number:08x}-aaaa-bbbb-cccc-0123456789ab" for number in range(5_000)]
    lab.idp.claims["groups"] = groups
    assert (await lab.sign_in()).principal.groups == frozenset(groups)
    lab.idp.claims["groups"] = [str(number) for number in range(5_001)]
    assert await lab.refused() is Reason.LOGIN_GROUPS_OVERAGE


@pytest.mark.case("ZT-OIDC-12")
@pytest.mark.parametrize("groups", [ABSENT, [], "admins"])
@pytest.mark.parametrize(
    "marker",
    [
        {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "http://127.0.0.1:1/"}}},
        {"hasgroups": True},
        {"hasgroups": "true"},
    ],
)
async def test_groups_that_the_provider_left_out_are_a_refusal_that_says_so(lab, groups, marker):
    lab.idp.claims.update(groups=groups, **marker)
    error = await lab.refusal()
    assert (error.reason, error.status) == (Reason.LOGIN_GROUPS_OVERAGE, 403)


@pytest.mark.case("ZT-OIDC-12")
@pytest.mark.parametrize("group", ["", "a\r\nX-Admin: 1", "a\x00"])
async def test_a_group_that_could_not_be_written_down_is_a_refusal(lab, group):
    lab.idp.claims["groups"] = ["staff", group]
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


async def test_a_token_without_groups_roles_or_name_is_accepted(lab):
    lab.idp.claims.update(groups=ABSENT, roles=ABSENT, name=ABSENT, sid=ABSENT)
    login = await lab.sign_in()
    assert (login.principal.groups, login.principal.name, login.provider_sid) == (frozenset(), None, None)


# ZT-OIDC-14: what counts as a second factor


@pytest.mark.case("ZT-OIDC-14")
@pytest.mark.parametrize(
    "claims",
    [
        {"acr": ABSENT, "amr": ABSENT},
        {"acr": ABSENT, "amr": ["pwd"]},
        {"acr": ABSENT, "amr": "mfa"},
        {"acr": ABSENT, "amr": [["mfa"]]},
        {"acr": ABSENT, "amr": {"mfa": True}},
        {"acr": ABSENT, "amr": ["MFA"]},
        {"acr": ABSENT, "amr": ["not-mfa", "otp2"]},
        {"acr": "1", "amr": ["pwd"]},
        {"acr": ["gold"], "amr": ABSENT},
        {"acr": "goldish", "amr": ABSENT},
        {"acr": "", "amr": []},
        {"acr": True, "amr": [True]},
    ],
)
async def test_a_sign_in_without_an_attested_second_factor_is_said_to_have_none(lab, claims):
    lab.configure(acr={"gold": Level.MULTI})
    lab.idp.claims.update(claims)
    login = await lab.sign_in()
    assert (login.mfa, login.level) == (False, Level.SINGLE)


@pytest.mark.case("ZT-OIDC-14")
async def test_only_the_signed_token_attests_and_the_token_response_beside_it_does_not(lab):
    lab.idp.claims.update(acr=ABSENT, amr=ABSENT)
    lab.idp.token_response.update(acr="gold", amr=["mfa"])
    lab.idp.response.update(acr="gold", amr="mfa")
    lab.configure(acr={"gold": Level.MULTI})
    assert (await lab.sign_in()).level is Level.SINGLE
    assert lab.idp.requests["other"] == 0  # no userinfo call


@pytest.mark.case("ZT-OIDC-14")
async def test_either_claim_is_enough_and_the_insecure_switch_is_its_own_way(lab):
    lab.configure(acr={"silver": Level.MULTI, "gold": Level.PHISHING_RESISTANT})
    lab.idp.claims.update(acr="gold", amr=ABSENT)
    assert (await lab.sign_in()).level is Level.PHISHING_RESISTANT
    lab.idp.claims.update(acr=ABSENT, amr=["pwd", "mfa"])
    login = await lab.sign_in()
    assert (login.mfa, login.level) == (True, Level.MULTI)
    lab.configure(insecure_no_mfa=True)
    lab.idp.claims.update(acr=ABSENT, amr=ABSENT)
    login = await lab.sign_in()
    assert (login.mfa, login.level) == (True, Level.SINGLE)  # let in, and still not said to have shown two


@pytest.mark.case("ZT-OIDC-14")
async def test_an_empty_list_of_accepted_values_accepts_nothing(lab):
    lab.configure(acr={}, amr={})
    for amr in ([], ["mfa"], ["pwd", "otp"]):
        lab.idp.claims.update(acr="", amr=amr)
        assert not (await lab.sign_in()).mfa


@pytest.mark.case("ZT-OIDC-14")
@pytest.mark.parametrize(
    ("amr", "level"),
    [
        (["mfa"], Level.MULTI),
        (["pwd", "otp"], Level.MULTI),
        (["pwd", "sms"], Level.MULTI),
        (["pin", "sc"], Level.MULTI),
        (["hwk", "fpt"], Level.MULTI),
        (["pwd", "hwk", "face", "user"], Level.MULTI),
        (["otp"], Level.SINGLE),
        (["sms"], Level.SINGLE),
        (["face"], Level.SINGLE),
        (["hwk"], Level.SINGLE),
        (["sc"], Level.SINGLE),
        (["pwd", "pin", "kba"], Level.SINGLE),
        (["otp", "sms", "hwk"], Level.SINGLE),
        (["face", "fpt"], Level.SINGLE),
        (["pwd", "geo", "rba", "user", "wia", "mca"], Level.SINGLE),
        (["pwd", "phr", "fido"], Level.SINGLE),
        (["pwd", ["otp"]], Level.SINGLE),
        ("pwd otp", Level.SINGLE),
    ],
)
async def test_two_kinds_of_factor_are_two_and_twice_the_same_kind_is_one(lab, amr, level):
    lab.idp.claims.update(acr=ABSENT, amr=amr)
    assert (await lab.sign_in()).level is level


@pytest.mark.case("ZT-OIDC-14")
async def test_the_operators_words_count_alone_and_the_strongest_of_them(lab):
    lab.configure(amr={"otp": Level.MULTI, "hwk": Level.PHISHING_RESISTANT})
    for amr, level in (
        (["otp"], Level.MULTI),
        (["otp", "hwk"], Level.PHISHING_RESISTANT),
        (["pwd", "sms"], Level.SINGLE),
        (["mfa"], Level.SINGLE),
        ([""], Level.SINGLE),
    ):
        lab.idp.claims.update(acr=ABSENT, amr=amr)
        assert (await lab.sign_in()).level is level


# ZT-OIDC-17: times


@pytest.mark.case("ZT-OIDC-17")
@pytest.mark.parametrize(
    ("claim", "offset", "accepted"),
    [
        ("exp", -1, True),
        ("exp", -29, True),
        ("exp", -59, False),
        ("exp", -61, False),
        ("nbf", 29, True),
        ("nbf", 61, False),
        ("iat", 29, True),
        ("iat", 61, False),
        ("iat", 3_600, False),
        ("iat", -600, True),
        ("iat", -661, False),
        ("auth_time", 61, False),
        ("auth_time", -0.5, True),
        ("exp", 120.5, True),
    ],
)
async def test_skew_is_allowed_for_less_than_a_minute_both_ways(lab, claim, offset, accepted):
    lab.idp.claims[claim] = lab.clock.now() + offset
    if accepted:
        assert (await lab.sign_in()).mfa
    else:
        assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-OIDC-17")
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf", "auth_time"])
@pytest.mark.parametrize("value", ["1900000000", True, [1_900_000_000], {}, 1e308, -1, 10**30])
async def test_a_time_that_is_no_number_or_no_time_is_refused(lab, claim, value):
    lab.idp.claims[claim] = value
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-OIDC-17")
@pytest.mark.parametrize("claim", ["exp", "iat"])
async def test_a_token_without_its_times_is_refused(lab, claim):
    lab.idp.claims[claim] = ABSENT
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


async def test_an_old_proof_is_not_fresh_and_a_missing_time_of_proof_neither(lab):
    now = int(lab.clock.now())
    for auth_time, fresh in ((now - 299, True), (now - 329, True), (now - 331, False), (ABSENT, False)):
        lab.idp.claims["auth_time"] = auth_time
        if fresh:
            assert (await lab.sign_in(max_age=300)).auth_time == auth_time
        else:
            assert await lab.refused(max_age=300) is Reason.LOGIN_NOT_FRESH


async def test_a_missing_time_of_proof_lets_in_and_counts_as_long_ago_when_nobody_asked(lab):
    lab.idp.claims["auth_time"] = ABSENT
    assert (await lab.sign_in()).auth_time == 0.0


@pytest.mark.parametrize("subject", [ABSENT, "", 5, ["sub"], "x" * 256, "a\nb", "ünicode", True])
async def test_a_subject_that_is_no_short_ascii_string_is_refused(lab, subject):
    lab.idp.claims["sub"] = subject
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.parametrize("at_hash", ["", "wrong", 5, ["x"], "AAAAAAAAAAAAAAAAAAAAAA"])
async def test_an_at_hash_of_another_access_token_is_refused(lab, at_hash):
    lab.idp.claims["at_hash"] = at_hash
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-OIDC-24")
async def test_the_providers_words_reach_a_page_as_data_without_control_characters(lab):
    lab.idp.deny = {"error": "access_denied", "error_description": "<script>alert(1)</script>\x00\u202e"}
    error = await lab.refusal()
    assert isinstance(error, LoginRefused)
    assert error.description == "<script>alert(1)</script>"  # left for the page to escape, once
    assert "script" not in str(error)


@pytest.mark.case("ZT-OIDC-28")
async def test_the_way_back_is_the_configured_one_at_both_endpoints(lab):
    await lab.sign_in()
    assert lab.idp.authorizations[0].query["redirect_uri"] == lab.idp.token_requests[0][0]["redirect_uri"]
    assert lab.idp.token_requests[0][0]["redirect_uri"] == "https://portal.example.test/.zt/callback"


@pytest.mark.case("ZT-LOG-02")
@pytest.mark.parametrize(
    "fault",
    ["signature", "claims", "grant", "html", "echo", "reset", "overage", "jwks"],
)
async def test_no_secret_code_or_token_shows_in_an_error_or_a_log(lab, fault, caplog):
    caplog.set_level(logging.DEBUG)
    captured = structlog.testing.capture_logs()
    seen: list[str] = []

    def echo() -> web.Response:
        form, headers = lab.idp.token_requests[-1] if lab.idp.token_requests else ({}, {})
        return web.json_response({"error": CLIENT_SECRET, "error_description": str((form, headers))}, status=400)

    def reset() -> web.Response:
        raise ConnectionResetError

    match fault:
        case "signature":
            lab.idp.id_token = lambda claims: lab.idp.keys[0].sign(claims)[:-8] + "AAAAAAAA"
        case "claims":
            lab.idp.claims.update(groups="secret-group-text", aud="elsewhere")
        case "grant":
            lab.idp.replies["token"] = lambda: web.json_response({"error": "invalid_grant"}, status=400)
        case "html":
            lab.idp.replies["token"] = lambda: web.Response(text=CLIENT_SECRET, content_type="text/html")
        case "echo":
            lab.idp.replies["token"] = echo
        case "reset":
            lab.idp.discovery["token_endpoint"] = "http://127.0.0.1:1/token"
        case "overage":
            lab.idp.claims.update(groups="secret-group-text", hasgroups=True)
        case "jwks":
            lab.idp.jwks = {"keys": [{"kty": "oct", "k": CLIENT_SECRET}]}
    url = await lab.provider.authorization_url(
        state="s", nonce="nonce-value-1", verifier=VERIFIER, max_age=None, force=False
    )
    parameters = await lab.visit(url)
    with captured as entries, pytest.raises(ProviderError) as caught:
        await lab.provider.finish(
            parameters=parameters, nonce="nonce-value-1", verifier=VERIFIER, max_age=None, forced_after=None
        )
    error: BaseException | None = caught.value
    while error is not None:
        seen += [repr(error), str(error), *map(str, error.args)]
        error = error.__cause__ or error.__context__
    seen += ["".join(traceback.format_exception_only(caught.value)), str(entries)]
    seen += [record.getMessage() for record in caplog.records if not record.name.startswith("aiohttp.server")]
    text = "\n".join(seen)
    for secret in (CLIENT_SECRET, parameters["code"], VERIFIER, "nonce-value-1", "secret-group-text"):
        assert secret not in text
    assert not lab.idp.last_id_token or lab.idp.last_id_token[:60] not in text


@pytest.mark.case("ZT-DOS-18")
async def test_a_hanging_provider_does_not_hold_the_loop(lab):
    gate = asyncio.Event()

    async def hang() -> web.Response:
        await gate.wait()
        return web.Response(status=500)

    lab.idp.replies["discovery"] = hang
    waiting = [asyncio.ensure_future(lab.refused()) for _ in range(10)]
    async with SignInLab() as other:
        assert (await other.sign_in()).mfa  # another provider's sign-in passes meanwhile
    assert not any(task.done() for task in waiting)
    gate.set()
    assert set(await asyncio.gather(*waiting)) == {Reason.PROVIDER_UNREACHABLE}
    assert lab.idp.requests["discovery"] == 1


async def test_a_browser_that_goes_away_does_not_take_the_fetch_from_the_others(lab):
    gate, arrived = asyncio.Event(), asyncio.Event()

    async def hang() -> web.Response:
        arrived.set()
        await gate.wait()
        return web.Response(status=500)

    lab.idp.replies["discovery"] = hang
    first, second = (asyncio.ensure_future(lab.refused()) for _ in range(2))
    await arrived.wait()
    first.cancel()
    gate.set()
    assert await second is Reason.PROVIDER_UNREACHABLE


async def test_sign_in_hints_cannot_add_parameters(lab):
    url = await lab.provider.authorization_url(
        state="s&client_id=evil",
        nonce="n",
        verifier="v" * 43,
        max_age=None,
        force=False,
        login_hint="a&redirect_uri=https://evil",
    )
    query = parse_qs(urlsplit(url).query)
    assert query["client_id"] == [CLIENT_ID]
    assert len(query["redirect_uri"]) == 1
