"""Keycloak, Entra ID, Okta and Google as their documentation shows their metadata and tokens; none of it is recorded
from an account. Each is played by a server on loopback, with its issuer and endpoints put there."""

import json
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from aiohttp import web

from tests.lab.idp import ABSENT, CLIENT_ID
from tests.lab.jose import rsa_private
from tests.lab.relying_party import REDIRECT_URI, SignInLab
from zt_proxy.control.identity.presets import PRESETS
from zt_proxy.control.identity.provider import OidcProvider
from zt_proxy.control.settings import ProviderSettings, ServiceAccountSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError, Reason
from zt_proxy.core.session import Level

TENANT = "01234567-89ab-cdef-0123-456789abcdef"
MANY = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(2_500)]


@asynccontextmanager
async def provider(name, discovery, claims, **settings):
    """A sign-in lab whose provider publishes and says what this kind does."""
    preset = PRESETS[name]
    values = {"preset": name, "scopes": preset.scopes, "acr": preset.acr, "amr": preset.amr, **settings}
    async with SignInLab(**values) as lab:
        lab.idp.users["alice"] = {}
        lab.idp.discovery = {"authorization_response_iss_parameter_supported": ABSENT, **discovery}
        lab.idp.claims = {"acr": ABSENT, "amr": ABSENT, "email_verified": ABSENT, "sid": ABSENT, **claims}
        yield lab


async def asked(lab, level=None, **more):
    url = await lab.provider.authorization_url(
        state="s", nonce="n", verifier="v" * 43, max_age=None, force=False, level=level, **more
    )
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


# --- issuers ---


@pytest.mark.parametrize(
    ("name", "given", "issuer"),
    [
        ("keycloak", {"url": "https://sso.example.com/", "realm": "staff"}, "https://sso.example.com/realms/staff"),
        ("keycloak", {"url": "https://x.example/auth", "realm": "a"}, "https://x.example/auth/realms/a"),
        ("entra", {"tenant": TENANT.upper()}, f"https://login.microsoftonline.com/{TENANT}/v2.0"),
        ("okta", {"domain": "Acme.okta.com"}, "https://acme.okta.com"),
        ("google", {"domain": "example.com"}, "https://accounts.google.com"),
    ],
)
def test_a_preset_knows_its_issuer_and_what_is_written_comes_first(name, given, issuer):
    assert PRESETS[name].issuer(given, None) == issuer
    assert PRESETS[name].issuer(given, "https://written.example") == "https://written.example"


@pytest.mark.parametrize(
    ("name", "given", "written"),
    [
        ("generic", {}, None),
        ("generic", {"tenant": TENANT}, "https://idp.example"),
        ("keycloak", {"url": "https://sso.example.com"}, None),
        ("keycloak", {"url": "https://sso.example.com", "realm": "../master"}, None),
        ("entra", {}, f"https://login.microsoftonline.com/{TENANT}/v2.0"),
        ("entra", {"tenant": "common"}, None),
        ("entra", {"tenant": "contoso.onmicrosoft.com"}, None),
        ("okta", {"domain": "acme-admin.okta.com"}, None),
        ("okta", {"domain": "https://acme.okta.com"}, None),
        ("google", {}, "https://accounts.google.com"),
        ("google", {"domain": "somebody@example.com"}, None),
    ],
)
def test_what_names_no_issuer_or_leaves_a_check_without_its_value_is_refused(name, given, written):
    with pytest.raises(ValueError, match="`"):
        PRESETS[name].issuer(given, written)


# --- Keycloak ---

KEYCLOAK = {
    "claims_parameter_supported": True,
    "acr_values_supported": ["gold", "silver"],
    "backchannel_logout_supported": True,
    "authorization_response_iss_parameter_supported": True,
    "require_pushed_authorization_requests": False,
    "code_challenge_methods_supported": ["plain", "S256"],
}


async def test_keycloak_maps_levels_of_authentication_to_names_and_realm_roles_to_roles():
    acr = {"silver": Level.MULTI, "gold": Level.PHISHING_RESISTANT}
    claims = {"acr": "gold", "realm_access": {"roles": ["editor", "offline_access"]}, "groups": ["/staff"]}
    async with provider("keycloak", KEYCLOAK, claims, acr=acr) as lab:
        query = await asked(lab, Level.PHISHING_RESISTANT, essential=True)
        assert json.loads(query["claims"]) == {"id_token": {"acr": {"essential": True, "value": "gold"}}}
        login = await lab.sign_in()
        assert login.level is Level.PHISHING_RESISTANT
        assert (login.principal.roles, login.principal.groups) == ({"editor", "offline_access"}, {"/staff"})
        lab.idp.claims["acr"] = "1"  # what Keycloak says where the realm has no names for its levels
        assert (await lab.sign_in()).level is Level.SINGLE
        for realm in ({"roles": "editor"}, {"roles": None}, "editor", []):
            lab.idp.claims["realm_access"] = realm
            assert (await lab.sign_in()).principal.roles == frozenset()


# --- Entra ID ---

ENTRA = {
    "tenant_region_scope": "EU",
    "cloud_instance_name": "microsoftonline.com",
    "response_modes_supported": ["query", "fragment", "form_post"],
    "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
    "subject_types_supported": ["pairwise"],
    "code_challenge_methods_supported": ABSENT,
    "http_logout_supported": True,
    "frontchannel_logout_supported": True,
}
EMPLOYEE = {
    "ver": "2.0",
    "tid": TENANT,
    "oid": "00000000-0000-0000-66f3-3332eca7ea81",
    "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
    "name": "Abe Lincoln",
    "preferred_username": "abeli@example.com",
    "email": "abeli@example.com",
    "uti": "fqiBqXLPj0eQa82S-IYFAA",
    "rh": "0.ARoA",
    "groups": [MANY[0]],
}


def graph(lab, groups, size=999):
    """Microsoft Graph at the lab's own origin: pages of the person's groups and roles."""
    lab.asked_graph = []

    async def answer(request):
        lab.asked_graph.append(request)
        start = int(request.query.get("$skiptoken", "0"))
        items = [{"@odata.type": "#microsoft.graph.group", "id": each} for each in groups[start : start + size]]
        items.append({"@odata.type": "#microsoft.graph.directoryRole", "id": "role"})
        page = {"@odata.context": "https://graph.example/$metadata#directoryObjects(id)", "value": items}
        if start + size < len(groups):
            page["@odata.nextLink"] = f"{lab.idp.origin}/v1.0/me/transitiveMemberOf?$skiptoken={start + size}"
        return web.json_response(page)

    return answer


async def at_graph(lab, answer):
    """What is asked of the provider beyond OpenID Connect arrives here."""
    lab.idp.elsewhere = answer
    return lab.configure(**{**lab._settings, "directory": lab.idp.origin})


async def test_entra_people_of_the_configured_tenant_sign_in_and_of_no_other():
    async with provider("entra", ENTRA, EMPLOYEE, tenant=TENANT) as lab:
        assert (await asked(lab))["scope"] == "openid profile email User.Read"
        login = await lab.sign_in()
        assert login.principal.subject == EMPLOYEE["sub"]
        assert login.principal.groups == {MANY[0]}
        for claims in (
            {"tid": "9188040d-6c67-4c5b-b112-36a304b66dad"},
            {"tid": ABSENT},
            {"tid": [TENANT]},
            {"ver": "1.0"},
        ):
            lab.idp.claims = {**lab.idp.claims, "tid": TENANT, "ver": "2.0", **claims}
            assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


async def test_entra_proves_levels_by_authentication_contexts():
    acr = {"c1": Level.MULTI, "c2": Level.PHISHING_RESISTANT}
    async with provider("entra", ENTRA, EMPLOYEE, tenant=TENANT, acr=acr) as lab:
        query = await asked(lab, Level.MULTI)
        assert json.loads(query["claims"]) == {"id_token": {"acrs": {"essential": True, "value": "c1"}}}
        for acrs, level in (
            (ABSENT, Level.SINGLE),
            ([], Level.SINGLE),
            (["c9"], Level.SINGLE),
            (["p1", "c1"], Level.MULTI),
            (["c1", "c2"], Level.PHISHING_RESISTANT),
            ("c2", Level.PHISHING_RESISTANT),
            ([["c2"]], Level.SINGLE),
        ):
            lab.idp.claims["acrs"] = acrs
            lab.idp.claims["acr"] = "c2"  # not where Entra says it
            login = await lab.sign_in()
            assert login.level is level


@pytest.mark.case("ZT-OIDC-10")
async def test_entra_addresses_count_where_entra_says_that_they_are_verified():
    async with provider("entra", ENTRA, EMPLOYEE, tenant=TENANT) as lab:
        for claims, email in (
            ({}, None),
            ({"email_verified": True}, None),
            ({"xms_edov": "true"}, None),
            ({"xms_edov": True}, "abeli@example.com"),
            ({"verified_primary_email": "abeli@example.com"}, None),
            ({"verified_primary_email": ["other@example.com"]}, None),
            ({"verified_primary_email": [], "verified_secondary_email": ["ABELI@example.com"]}, "abeli@example.com"),
        ):
            lab.idp.claims = {**EMPLOYEE, "acr": ABSENT, "amr": ABSENT, "email_verified": ABSENT, **claims}
            assert (await lab.sign_in()).principal.email == email


@pytest.mark.case("ZT-OIDC-12")
@pytest.mark.parametrize("marker", [{"hasgroups": True}, {"_claim_names": {"groups": "src1"}}])
async def test_entra_groups_that_do_not_fit_the_token_are_asked_of_graph_whole(marker):
    sources = {"src1": {"endpoint": "https://graph.windows.net/x/users/y/getMemberObjects"}}
    claims = {**EMPLOYEE, "groups": ABSENT, **marker, "_claim_sources": sources}
    async with provider("entra", ENTRA, claims, tenant=TENANT) as lab:
        await at_graph(lab, graph(lab, MANY))
        login = await lab.sign_in()
        assert login.principal.groups == frozenset(MANY)
        assert [request.path for request in lab.asked_graph] == ["/v1.0/me/transitiveMemberOf"] * 3
        assert all(request.headers["Authorization"].startswith("Bearer ") for request in lab.asked_graph)
        lab.idp.claims.update(groups=[MANY[0]], hasgroups=ABSENT, _claim_names=ABSENT)
        assert (await lab.sign_in()).principal.groups == {MANY[0]}
        assert len(lab.asked_graph) == 3  # who fits is not asked about


@pytest.mark.case("ZT-OIDC-12")
async def test_entra_groups_that_cannot_be_had_whole_are_a_refusal():
    async with provider("entra", ENTRA, {**EMPLOYEE, "groups": ABSENT, "hasgroups": True}, tenant=TENANT) as lab:
        assert await lab.refused() is Reason.LOGIN_GROUPS_OVERAGE  # nobody to ask
        await at_graph(lab, graph(lab, [str(number) for number in range(5_001)]))
        assert await lab.refused() is Reason.LOGIN_GROUPS_OVERAGE
        for status, reason in (
            (403, Reason.LOGIN_GROUPS_OVERAGE),
            (401, Reason.LOGIN_GROUPS_OVERAGE),
            (503, Reason.PROVIDER_UNREACHABLE),
            (429, Reason.PROVIDER_UNREACHABLE),
            (302, Reason.PROVIDER_INVALID),
        ):
            lab.idp.replies["other"] = lambda status=status: web.json_response({"error": {"code": "x"}}, status=status)
            error = await lab.refusal()
            assert error.reason is reason
        for page in (
            {},
            {"value": "x"},
            {"value": [{"@odata.type": "#microsoft.graph.group"}]},
            {"value": [5]},
            {"value": [], "@odata.nextLink": "https://evil.example/v1.0/me"},
            {"value": [], "@odata.nextLink": lab.idp.origin + ".evil.example/v1.0/"},
            {"value": [], "@odata.nextLink": 5},
        ):
            lab.idp.replies["other"] = lambda page=page: web.json_response(page)
            assert await lab.refused() is Reason.PROVIDER_INVALID
        endless = {"value": [], "@odata.nextLink": f"{lab.idp.origin}/v1.0/me/transitiveMemberOf?again"}
        lab.idp.replies["other"] = lambda: web.json_response(endless)
        assert await lab.refused() is Reason.LOGIN_GROUPS_OVERAGE


# --- Okta ---

OKTA = {
    "claims_parameter_supported": False,
    "response_modes_supported": ["query", "fragment", "form_post", "okta_post_message"],
    "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
    "request_parameter_supported": True,
    "scopes_supported": ["openid", "email", "profile", "address", "phone", "offline_access", "groups"],
}
OKTA_USER = {
    "ver": 1,
    "jti": "ID.4eAWJOCMB3SX8XewDfVR",
    "idp": "00ok1u7AsAkrwdZL3z7",
    "amr": ["mfa", "otp", "pwd"],
    "email": "john@example.com",
    "email_verified": True,
    "groups": ["Everyone", "staff"],
}


async def test_okta_is_asked_for_one_value_and_its_groups_and_methods_count():
    async with provider("okta", OKTA, OKTA_USER) as lab:
        assert (await asked(lab))["acr_values"] == "urn:okta:loa:2fa:any"
        assert (await asked(lab, Level.PHISHING_RESISTANT))["acr_values"] == "phr"
        assert (await asked(lab))["scope"] == "openid profile email groups"
        login = await lab.sign_in()
        assert (login.level, login.principal.groups) == (Level.MULTI, {"Everyone", "staff"})
        for acr, amr, level in (
            ("urn:okta:loa:1fa:any", ["pwd"], Level.SINGLE),
            ("urn:okta:loa:2fa:any", ["pwd"], Level.MULTI),
            ("phr", ["hwk"], Level.PHISHING_RESISTANT),
            ("urn:okta:loa:2fa:any:ifpossible", ["pwd"], Level.SINGLE),
            (ABSENT, ["swk"], Level.SINGLE),
        ):
            lab.idp.claims.update(acr=acr, amr=amr)
            assert (await lab.sign_in()).level is level


# --- Google Workspace ---

GOOGLE = {
    "response_types_supported": ["code", "token", "id_token", "code token", "none"],
    "code_challenge_methods_supported": ["plain", "S256"],
    "end_session_endpoint": ABSENT,
    "revocation_endpoint": "https://oauth2.googleapis.com/revoke",
}
EXAMPLE_COM = {
    "azp": CLIENT_ID,
    "hd": "example.com",
    "sub": "110169484474386276334",
    "email": "jsmith@example.com",
    "email_verified": True,
    "at_hash": ABSENT,
    "auth_time": ABSENT,
}


async def test_google_people_of_the_domain_sign_in_with_one_factor_and_nobody_else():
    async with provider("google", GOOGLE, EXAMPLE_COM, tenant="example.com") as lab:
        assert (await asked(lab, Level.MULTI))["hd"] == "example.com"
        login = await lab.sign_in()
        assert (login.level, login.mfa, login.principal.email) == (Level.SINGLE, False, "jsmith@example.com")
        lab.idp.claims["amr"] = ["mfa"]  # Google sends none: what says so is not Google's word
        assert (await lab.sign_in()).level is Level.SINGLE
        for claims in ({"hd": ABSENT}, {"hd": "evil.example"}, {"hd": ["example.com"]}, {"email_verified": "true"}):
            lab.idp.claims = {**EXAMPLE_COM, "acr": ABSENT, "amr": ABSENT, **claims}
            assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID
        assert await lab.provider.logout_url(id_token=None, post_logout_redirect_uri="https://p", state="s") is None


class Workspace:
    """The Directory API and the token endpoint of Google, on the lab's own origin."""

    def __init__(self, lab, groups):
        self.lab, self.groups = lab, groups
        self.grants, self.queries = [], []
        self.refuses = None
        self.says = None

    async def answer(self, request):
        if request.path == "/oauth":
            form = await request.post()
            assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            claims = jwt.decode(
                form["assertion"], rsa_private().public_key(), algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False},
                audience=f"{self.lab.idp.origin}/oauth",
            )  # fmt: skip
            self.grants.append(claims)
            if self.refuses:
                return web.json_response({"error": self.refuses, "error_description": "no"}, status=401)
            return web.json_response({"access_token": "ya29.x", "expires_in": 3599, "token_type": "Bearer"})
        assert request.path == "/admin/directory/v1/groups"
        assert request.headers["Authorization"] == "Bearer ya29.x"
        self.queries.append(dict(request.query))
        if self.says:
            error = {"code": 403, "message": "no", "errors": [{"domain": "usageLimits", "reason": self.says}]}
            return web.json_response({"error": error}, status=403)
        start = int(request.query.get("pageToken", "0"))
        page = {"kind": "admin#directory#groups", "etag": "x"}
        if self.groups[start : start + 200]:
            page["groups"] = [{"id": each, "email": each} for each in self.groups[start : start + 200]]
        if start + 200 < len(self.groups):
            page["nextPageToken"] = str(start + 200)
        return web.json_response(page)


@pytest.fixture
def account(tmp_path):
    def write(token_uri):
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        pem = rsa_private().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        document = {
            "type": "service_account",
            "client_email": "zt@project.iam.gserviceaccount.com",
            "private_key_id": "k1",
            "private_key": pem,
            "token_uri": token_uri,
        }
        (tmp_path / "google.json").write_text(json.dumps(document))
        return ServiceAccountSettings(tmp_path / "google.json", "admin@example.com")

    return write


@asynccontextmanager
async def workspace(groups, account):
    async with provider("google", GOOGLE, EXAMPLE_COM, tenant="example.com") as lab:
        google = Workspace(lab, groups)
        lab.idp.elsewhere = google.answer
        settings = {**lab._settings, "directory": lab.idp.origin, "service_account": account(lab.idp.origin + "/oauth")}
        lab.configure(**settings)
        yield lab, google


async def test_google_groups_come_from_the_directory_in_an_administrators_name(account):
    async with workspace([f"Group-{number}@example.com" for number in range(450)], account) as (lab, google):
        login = await lab.sign_in()
        assert login.principal.groups == {f"group-{number}@example.com" for number in range(450)}
        assert [query["userKey"] for query in google.queries] == [EXAMPLE_COM["sub"]] * 3
        (claims,) = google.grants
        assert (claims["iss"], claims["sub"]) == ("zt@project.iam.gserviceaccount.com", "admin@example.com")
        assert claims["scope"] == "https://www.googleapis.com/auth/admin.directory.group.readonly"
        google.groups = ["other@example.com"]
        assert len((await lab.sign_in()).principal.groups) == 450  # remembered for minutes
        lab.clock.advance(301)
        assert (await lab.sign_in()).principal.groups == {"other@example.com"}
        assert len(google.grants) == 1
        lab.clock.advance(3_600)
        google.groups = []
        assert (await lab.sign_in()).principal.groups == frozenset()
        assert len(google.grants) == 2


async def test_google_groups_that_cannot_be_had_are_a_refusal(account):
    async with workspace([], account) as (lab, google):
        google.refuses = "unauthorized_client"
        error = await lab.refusal()
        assert (error.reason, "unauthorized_client" in error.detail) == (Reason.LOGIN_GROUPS_OVERAGE, True)
        google.refuses = None
        google.groups = [f"{number}@example.com" for number in range(5_001)]
        assert await lab.refused() is Reason.LOGIN_GROUPS_OVERAGE
        google.groups = ["a@example.com"]
        assert (await lab.sign_in()).principal.groups == {"a@example.com"}  # no refusal is remembered


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("quotaExceeded", Reason.PROVIDER_UNREACHABLE),
        ("userRateLimitExceeded", Reason.PROVIDER_UNREACHABLE),
        ("forbidden", Reason.LOGIN_GROUPS_OVERAGE),
    ],
)
async def test_google_asked_too_often_is_no_word_on_the_person(account, said, reason):
    async with workspace([], account) as (lab, google):
        google.says = said
        assert await lab.refused() is reason


@pytest.mark.parametrize("content", ["", "{}", '{"type": "authorized_user"}', None])
def test_a_file_that_is_no_service_account_is_refused_at_start(tmp_path, content):
    if content is not None:
        (tmp_path / "google.json").write_text(content)
    settings = ProviderSettings(
        "google", "Google", "https://accounts.google.com", "x", None, client_auth="none", preset="google",
        tenant="example.com", directory="https://admin.googleapis.com",
        service_account=ServiceAccountSettings(tmp_path / "google.json", "admin@example.com"),
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"google\.json"):
        OidcProvider(settings, redirect_uri=REDIRECT_URI, clock=ManualClock())
