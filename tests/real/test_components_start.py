"""The third-party programs that other tests lean on start, answer and say what those tests expect of them."""

import base64
import hashlib
import json
import ssl

import aiohttp
import jwt
import pytest
import trustme
from yarl import URL

CALLBACK = "https://auth.zt.test/.zt/callback"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")

pytestmark = pytest.mark.real


def authorization(**change):
    values = {
        "response_type": "code",
        "client_id": "zt",
        "redirect_uri": CALLBACK,
        "scope": "openid profile email",
        "state": "st-1",
        "nonce": "no-1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    } | change
    return {name: value for name, value in values.items() if value is not None}


async def follow(http, answer, base):
    """Follow redirects as far as they stay with the provider; gives the first address outside."""
    while answer.status in (302, 303):
        target = URL(base).join(URL(answer.headers["Location"]))
        if target.origin() != URL(base).origin():
            return target
        answer = await http.get(target, allow_redirects=False)
    return answer


async def sign_in(http, provider, username, **change):
    user = provider.users[username]
    answer = await http.get(f"{provider.issuer}/auth", params=authorization(**change), allow_redirects=False)
    page = await follow(http, answer, provider.issuer)
    form = {"username": username, "password": user["password"], "code": user.get("code", "")}
    return await follow(http, await http.post(page.url, data=form, allow_redirects=False), provider.issuer)


async def redeem(provider, code):
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    headers = {"Authorization": aiohttp.encode_basic_auth("zt", "zt-secret")}
    async with aiohttp.ClientSession() as http:
        tokens = await (await http.post(f"{provider.issuer}/token", data=form, headers=headers)).json()
        keys = jwt.PyJWKSet.from_dict(await (await http.get(f"{provider.issuer}/jwks")).json())
    token = tokens["id_token"]
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key, algorithms=["ES256"], audience="zt", issuer=provider.issuer)


@pytest.fixture
async def http():
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def test_oidc_provider_attests_groups_and_both_factors(oidc_provider, http):
    provider = oidc_provider([CALLBACK])
    back = await sign_in(http, provider, "rita")
    assert (back.query["state"], back.query["iss"]) == ("st-1", provider.issuer)
    claims = await redeem(provider, back.query["code"])
    assert claims["groups"] == ["staff", "makers", "releasers"]
    assert (claims["acr"], claims["amr"], claims["nonce"]) == ("urn:zt:mfa", ["pwd", "otp"], "no-1")
    assert claims["auth_time"] <= claims["iat"]
    assert (claims["email"], claims["name"]) == ("rita@example.com", "Rita Roth")


async def test_oidc_provider_attests_one_factor_to_who_has_only_one(oidc_provider, http):
    provider = oidc_provider([CALLBACK])
    back = await sign_in(http, provider, "nina", acr_values="urn:zt:mfa")
    claims = await redeem(provider, back.query["code"])
    assert (claims["acr"], claims["amr"]) == ("urn:zt:pwd", ["pwd"])


async def test_oidc_provider_asks_again_for_prompt_login_and_max_age(oidc_provider, http):
    provider = oidc_provider([CALLBACK])
    assert "code" in (await sign_in(http, provider, "vera")).query
    silent = await http.get(f"{provider.issuer}/auth", params=authorization(), allow_redirects=False)
    assert "code" in URL(silent.headers["Location"]).query
    for change in ({"prompt": "login"}, {"max_age": "0"}):
        asked = await http.get(f"{provider.issuer}/auth", params=authorization(**change), allow_redirects=False)
        assert "/interaction/" in asked.headers["Location"]


async def test_oidc_provider_requires_pkce(oidc_provider, http):
    provider = oidc_provider([CALLBACK])
    without = authorization(code_challenge=None, code_challenge_method=None)
    answer = await http.get(f"{provider.issuer}/auth", params=without, allow_redirects=False)
    assert URL(answer.headers["Location"]).query["error"] == "invalid_request"


async def test_oidc_provider_refuses_a_wrong_code(oidc_provider, http):
    provider = oidc_provider([CALLBACK], users={"eva": {"password": "p", "code": "1"}})
    answer = await http.get(f"{provider.issuer}/auth", params=authorization(), allow_redirects=False)
    page = await follow(http, answer, provider.issuer)
    refused = await http.post(page.url, data={"username": "eva", "password": "p", "code": "2"})
    assert refused.status == 401


async def test_node_red_serves_its_editor_and_flows_and_a_deploy_is_kept(node_red, http):
    running = node_red()
    assert "red/red.min.js" in await (await http.get(f"{running.url}/")).text()
    flows = await (await http.get(f"{running.url}/flows", headers={"Node-RED-API-Version": "v2"})).json()
    flows["flows"][0]["label"] = "Deployed"
    answer = await http.post(f"{running.url}/flows", json=flows, headers={"Node-RED-API-Version": "v2"})
    assert answer.status == 200
    assert json.loads((running.user_dir / "flows.json").read_text())[0]["label"] == "Deployed"


@pytest.mark.browser
async def test_chromium_starts_and_finds_test_names_on_loopback(browser, node_red):
    running = node_red()
    page = await browser.new_page()
    answer = await page.goto(f"http://flows.zt.test:{running.port}/")
    assert answer.status == 200
    await page.wait_for_selector("#red-ui-header-button-deploy")


async def test_oidc_provider_serves_https_under_its_own_name(oidc_provider, http, tmp_path):
    ca = trustme.CA()
    leaf = ca.issue_cert("idp.zt.test", "127.0.0.1")
    leaf.private_key_pem.write_to_path(tmp_path / "key")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    files = {"cert": str(tmp_path / "cert"), "key": str(tmp_path / "key")}
    provider = oidc_provider([CALLBACK], issuer="https://idp.zt.test:{port}", tls=files, algorithm="RS256")
    trust = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())
    url = f"https://127.0.0.1:{provider.port}/.well-known/openid-configuration"
    headers = {"Host": f"idp.zt.test:{provider.port}"}
    document = await (await http.get(url, ssl=trust, headers=headers, server_hostname="idp.zt.test")).json()
    assert document["issuer"] == provider.issuer == f"https://idp.zt.test:{provider.port}"
    assert document["token_endpoint"].startswith(provider.issuer)
    assert document["id_token_signing_alg_values_supported"] == ["RS256"]
