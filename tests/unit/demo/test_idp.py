"""The demo OpenID provider, tried as a relying party and its users would."""

import asyncio

import aiohttp
import pytest
from yarl import URL


async def signed_in_tokens(visitor, username, **change):
    back = await visitor.sign_in(username, **change)
    status, tokens = await visitor.redeem(back.query["code"])
    assert status == 200, tokens
    return tokens


async def test_discovery_says_where_everything_is_and_that_pkce_and_iss_are_spoken(visitor):
    document = await (await visitor.http.get(f"{visitor.base}/.well-known/openid-configuration")).json()
    assert document["issuer"] == visitor.base
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["authorization_response_iss_parameter_supported"] is True
    assert {"urn:zt:mfa"} <= set(document["acr_values_supported"])
    for name in ("authorization", "token", "userinfo", "end_session"):
        assert document[f"{name}_endpoint"].startswith(visitor.base + "/")


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"], indirect=True)
async def test_a_person_with_a_second_factor_gets_an_id_token_that_says_so(visitor, algorithm):
    back = await visitor.sign_in("rita")
    assert str(back.with_query(None)) == visitor.callback
    assert (back.query["state"], back.query["iss"]) == ("st-1", visitor.base)
    status, tokens = await visitor.redeem(back.query["code"])
    assert (status, tokens["token_type"]) == (200, "Bearer")
    claims = await visitor.claims(tokens["id_token"])
    assert claims["nonce"] == "no-1"
    assert (claims["acr"], claims["amr"]) == ("urn:zt:mfa", ["pwd", "otp"])
    assert claims["auth_time"] == claims["iat"] == int(visitor.clock.now())
    assert claims["groups"] == ["staff", "makers", "releasers"]
    assert (claims["email"], claims["name"]) == ("rita@example.com", "Rita Roth")


async def test_a_person_without_a_second_factor_is_attested_one_factor_only(visitor):
    tokens = await signed_in_tokens(visitor, "nina", acr_values="urn:zt:mfa")
    claims = await visitor.claims(tokens["id_token"])
    assert (claims["amr"], claims["acr"]) == (["pwd"], "urn:zt:pwd")


async def test_an_outsider_signs_in_with_no_groups(visitor):
    claims = await visitor.claims((await signed_in_tokens(visitor, "olaf"))["id_token"])
    assert claims["groups"] == []


async def test_the_secret_may_also_come_in_the_form(visitor):
    back = await visitor.sign_in("vera")
    status, tokens = await visitor.redeem(back.query["code"], basic=False)
    assert status == 200
    assert "id_token" in tokens


async def test_a_wrong_secret_is_refused(visitor):
    back = await visitor.sign_in("vera")
    status, answer = await visitor.redeem(back.query["code"], basic=False, client_secret="guess")
    assert (status, answer["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    "change",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
    ],
)
async def test_without_pkce_s256_nobody_gets_as_far_as_the_login_page(visitor, change):
    answer = await visitor.ask(**change)
    back = URL(answer.headers["Location"])
    assert str(back.with_query(None)) == visitor.callback
    assert (back.query["error"], back.query["state"], back.query["iss"]) == ("invalid_request", "st-1", visitor.base)


@pytest.mark.parametrize("verifier", ["x" * 43, None])
async def test_a_wrong_or_missing_verifier_is_refused_and_spends_the_code(visitor, verifier):
    back = await visitor.sign_in("vera")
    status, answer = await visitor.redeem(back.query["code"], code_verifier=verifier)
    assert status == 400
    assert answer["error"] in ("invalid_grant", "invalid_request")
    status, answer = await visitor.redeem(back.query["code"])
    assert (status, answer["error"]) == (400, "invalid_grant")


async def test_a_code_works_once(visitor):
    back = await visitor.sign_in("vera")
    assert (await visitor.redeem(back.query["code"]))[0] == 200
    assert (await visitor.redeem(back.query["code"]))[1]["error"] == "invalid_grant"


async def test_a_code_is_dead_after_a_minute(visitor):
    back = await visitor.sign_in("vera")
    visitor.clock.advance(61)
    assert (await visitor.redeem(back.query["code"]))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "change",
    [
        {"redirect_uri": "https://evil.test/callback"},
        {"redirect_uri": 'https://auth.zt.test/.zt/callback"'},
        {"redirect_uri": None},
        {"client_id": "stranger"},
    ],
)
async def test_a_foreign_redirect_uri_or_client_gets_a_page_and_no_redirect(visitor, change):
    answer = await visitor.ask(**change)
    assert answer.status == 400
    assert "Location" not in answer.headers


async def test_what_a_request_says_is_escaped_on_the_error_page(visitor):
    answer = await visitor.ask(redirect_uri="https://x.test/<script>alert(1)</script>")
    assert "<script" not in await answer.text()
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_the_second_client_request_is_answered_from_the_session(visitor):
    await visitor.sign_in("vera")
    answer = await visitor.ask(state="st-2")
    back = URL(answer.headers["Location"])
    assert (back.query["state"], "code" in back.query) == ("st-2", True)


async def test_max_age_asks_again_and_the_new_auth_time_is_told(visitor):
    await visitor.sign_in("vera")
    visitor.clock.advance(301)
    assert "code" in URL((await visitor.ask(max_age="302")).headers["Location"]).query
    tokens = await signed_in_tokens(visitor, "vera", max_age="300")
    assert (await visitor.claims(tokens["id_token"]))["auth_time"] == int(visitor.clock.now())


@pytest.mark.parametrize("change", [{"prompt": "login"}, {"max_age": "0"}, {"max_age": "-1"}])
async def test_prompt_login_and_max_age_zero_always_ask(visitor, change):
    await visitor.sign_in("vera")
    answer = await visitor.ask(**change)
    assert answer.headers["Location"].startswith("/sign-in/")


async def test_who_lacks_the_factor_that_is_asked_for_may_sign_in_as_another(visitor):
    await visitor.sign_in("nina", acr_values="urn:zt:mfa")
    assert "code" in URL((await visitor.ask()).headers["Location"]).query
    tokens = await signed_in_tokens(visitor, "vera", acr_values="urn:zt:mfa")
    assert (await visitor.claims(tokens["id_token"]))["acr"] == "urn:zt:mfa"


async def test_without_a_new_sign_in_auth_time_stays_what_it_was(visitor):
    first = await signed_in_tokens(visitor, "vera")
    visitor.clock.advance(120)
    back = URL((await visitor.ask()).headers["Location"])
    _, second = await visitor.redeem(back.query["code"])
    before, after = [await visitor.claims(tokens["id_token"]) for tokens in (first, second)]
    assert before["auth_time"] == after["auth_time"] == after["iat"] - 120


async def test_prompt_none_without_a_session_is_login_required(visitor):
    back = URL((await visitor.ask(prompt="none")).headers["Location"])
    assert (back.query["error"], back.query["state"]) == ("login_required", "st-1")


async def test_a_wrong_password_and_an_unknown_name_look_the_same(visitor):
    path = (await visitor.ask()).headers["Location"]
    known = await visitor.post(path, username="vera", password="wrong")
    unknown = await visitor.post(path, username="nobody", password="wrong")
    assert known.status == unknown.status == 401
    sentence = "The name or the password is not right."
    assert sentence in await known.text()
    assert sentence in await unknown.text()


async def test_a_wrong_code_does_not_sign_in_and_five_failures_end_it(visitor):
    path = (await visitor.ask()).headers["Location"]
    await visitor.post(path, username="vera", password="vera-demo")
    statuses = [(await visitor.post(path, code="000000")).status for _ in range(5)]
    assert statuses == [401, 401, 401, 401, 400]
    assert "is over" in await (await visitor.http.get(visitor.base + path)).text()


async def test_the_second_factor_cannot_be_skipped_by_posting_the_password_again(visitor):
    path = (await visitor.ask()).headers["Location"]
    for _ in range(2):
        answer = await visitor.post(path, username="vera", password="vera-demo")
        assert "code=" not in answer.headers.get("Location", "")
    assert answer.status == 401


async def test_a_sign_in_begun_by_another_browser_is_dead(visitor):
    path = (await visitor.ask()).headers["Location"]
    async with aiohttp.ClientSession() as stranger:
        answer = await stranger.get(visitor.base + path)
        assert "is over" in await answer.text()


async def test_userinfo_answers_to_the_access_token_only(visitor):
    tokens = await signed_in_tokens(visitor, "max")
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    info = await (await visitor.http.get(f"{visitor.base}/userinfo", headers=bearer)).json()
    claims = await visitor.claims(tokens["id_token"])
    assert (info["sub"], info["groups"]) == (claims["sub"], ["staff", "makers"])
    assert (await visitor.http.get(f"{visitor.base}/userinfo")).status == 401
    bearer = {"Authorization": "Bearer made-up"}
    assert (await visitor.http.get(f"{visitor.base}/userinfo", headers=bearer)).status == 401


async def test_logout_with_a_hint_ends_the_session_and_goes_back_with_state(visitor):
    tokens = await signed_in_tokens(visitor, "vera")
    query = {
        "id_token_hint": tokens["id_token"],
        "post_logout_redirect_uri": visitor.after_logout,
        "state": "bye",
    }
    answer = await visitor.http.get(f"{visitor.base}/logout", params=query, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (302, f"{visitor.after_logout}?state=bye")
    assert (await visitor.ask()).headers["Location"].startswith("/sign-in/")


async def test_logout_never_goes_to_an_address_that_is_not_registered(visitor):
    tokens = await signed_in_tokens(visitor, "vera")
    query = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": "https://evil.test/"}
    answer = await visitor.http.get(f"{visitor.base}/logout", params=query, allow_redirects=False)
    assert answer.status == 200
    assert "You are signed out" in await answer.text()


async def test_logout_without_a_hint_asks_first(visitor):
    await visitor.sign_in("vera")
    assert "Sign out?" in await (await visitor.http.get(f"{visitor.base}/logout")).text()
    assert "code" in URL((await visitor.ask()).headers["Location"]).query
    assert "You are signed out" in await (await visitor.post("/logout", confirm="yes")).text()
    assert (await visitor.ask()).headers["Location"].startswith("/sign-in/")


async def test_a_forged_hint_is_refused(visitor):
    tokens = await signed_in_tokens(visitor, "vera")
    head, _, signature = tokens["id_token"].rpartition(".")
    query = {"id_token_hint": f"{head}.{signature[::-1]}"}
    assert (await visitor.http.get(f"{visitor.base}/logout", params=query)).status == 400
    assert "code" in URL((await visitor.ask()).headers["Location"]).query


@pytest.mark.parametrize("cookie", ["demo_idp_session=\udcff\udcfe; demo_idp_browser=\udcff", "demo_idp_session="])
async def test_a_damaged_cookie_is_no_session_and_no_error(visitor, cookie):
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(visitor.base).port)
    query = URL(visitor.base).with_path("/authorize").with_query(visitor.parameters()).raw_path_qs
    head = f"GET {query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n"
    writer.write(head.encode(errors="surrogateescape"))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 303 ")
