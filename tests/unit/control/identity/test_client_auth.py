"""The proxy proves to the provider who it is, by a key that the provider never sees."""

import hashlib

import pytest
import trustme
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.lab.idp import CLIENT_ID
from tests.lab.jose import rsa_private
from tests.lab.relying_party import REDIRECT_URI, SignInLab
from zt_proxy.control.identity.provider import OidcProvider
from zt_proxy.control.settings import ClientKeySettings, ProviderSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ConfigurationError, Reason
from zt_proxy.core.keys import b64encode


@pytest.fixture
async def lab():
    async with SignInLab() as lab:
        yield lab


def key_file(path, private):
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def signing(lab, tmp_path, private, **more):
    """The relying party signs with this key, and the provider knows the public one."""
    lab.idp.client_keys["one"] = private.public_key()
    key = ClientKeySettings(key_file(tmp_path / "client.key", private), key_id="one", **more)
    return lab.configure(client_auth="private_key_jwt", client_secret=None, client_key=key)


@pytest.mark.parametrize(
    ("make", "asked", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "", "ES256"),
        (rsa_private, "", "RS256"),
        (rsa_private, "PS256", "PS256"),
    ],
)
async def test_each_request_carries_an_assertion_of_its_own_for_the_issuer(lab, tmp_path, make, asked, algorithm):
    signing(lab, tmp_path, make(), algorithm=asked)
    await lab.sign_in()
    await lab.sign_in()
    (header, claims), (_, other) = lab.idp.assertions
    assert (header["alg"], header["kid"]) == (algorithm, "one")
    assert claims["aud"] == lab.idp.issuer
    assert (claims["iss"], claims["sub"]) == (CLIENT_ID, CLIENT_ID)
    assert 0 < claims["exp"] - lab.clock.now() <= 60
    assert claims["jti"] != other["jti"]
    form, headers = lab.idp.token_requests[0]
    assert "client_secret" not in form
    assert "Authorization" not in headers


async def test_a_provider_that_insists_gets_its_endpoint_as_audience_and_the_certificates_thumbprint(lab, tmp_path):
    certificate = trustme.CA().issue_cert("client.example.test").cert_chain_pems[0].bytes()
    (tmp_path / "client.pem").write_bytes(certificate)
    signing(lab, tmp_path, rsa_private(), audience="token-endpoint", certificate=tmp_path / "client.pem")
    await lab.sign_in()
    header, claims = lab.idp.assertions[0]
    assert claims["aud"] == lab.idp.issuer + "/token"
    der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    assert header["x5t#S256"] == b64encode(hashlib.sha256(der).digest())


async def test_a_key_that_the_provider_does_not_know_is_the_set_ups_fault(lab, tmp_path):
    signing(lab, tmp_path, ec.generate_private_key(ec.SECP256R1()))
    lab.idp.client_keys["one"] = ec.generate_private_key(ec.SECP256R1()).public_key()
    error = await lab.refusal()
    assert error.reason is Reason.PROVIDER_INVALID
    assert "invalid_client" in error.detail


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP384R1()), ""),
        (lambda: ec.generate_private_key(ec.SECP256R1()), "RS256"),
        (lambda: rsa_private(1024), ""),
        (rsa_private, "ES256"),
        (rsa_private, "HS256"),
        (ed25519.Ed25519PrivateKey.generate, ""),
    ],
)
def test_a_key_that_does_not_fit_is_refused_at_start(tmp_path, make, algorithm):
    key = ClientKeySettings(key_file(tmp_path / "client.key", make()), algorithm=algorithm)
    with pytest.raises(ConfigurationError, match=r"client\.key"):
        relying_party(client_key=key)


def relying_party(**settings):
    values = {"client_auth": "private_key_jwt", "client_secret": None, **settings}
    return OidcProvider(
        ProviderSettings("lab", "Lab", "https://idp.example.test", CLIENT_ID, **values),
        redirect_uri=REDIRECT_URI,
        clock=ManualClock(),
    )


@pytest.mark.parametrize("text", [None, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_without_a_key_is_refused_at_start_and_not_quoted(tmp_path, text):
    path = tmp_path / "client.key"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ConfigurationError) as caught:
        relying_party(client_key=ClientKeySettings(path))
    assert "AAAA" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="needs a private_key"):
        relying_party()


# pushed authorization requests


def offer(lab, **more):
    lab.idp.discovery.update(pushed_authorization_request_endpoint=lab.idp.issuer + "/par", **more)


async def test_where_it_is_offered_the_browser_carries_a_reference_and_nothing_of_what_is_asked(lab, tmp_path):
    signing(lab, tmp_path, ec.generate_private_key(ec.SECP256R1()))
    offer(lab)
    url = await lab.provider.authorization_url(state="s", nonce="n", verifier="v" * 43, max_age=60, force=False)
    assert {part.partition("=")[0] for part in url.partition("?")[2].split("&")} == {"client_id", "request_uri"}
    login = await lab.sign_in()
    assert login.mfa
    pushed = lab.idp.push_requests[0]
    assert (pushed["state"], pushed["nonce"], pushed["max_age"], pushed["redirect_uri"]) == (
        "s",
        "n",
        "60",
        REDIRECT_URI,
    )
    assert [claims["aud"] for _, claims in lab.idp.assertions] == [lab.idp.issuer] * 3


async def test_a_secret_proves_the_client_there_too_and_off_means_off(lab):
    offer(lab)
    assert (await lab.sign_in()).mfa
    assert lab.idp.requests["par"] == 1
    lab.configure(par="off")
    assert (await lab.sign_in()).mfa
    assert lab.idp.requests["par"] == 1


async def test_where_configuration_and_provider_disagree_the_sign_in_says_so(lab):
    lab.configure(par="require")
    error = await lab.refusal()
    assert (error.reason, "par: require" in error.detail) == (Reason.PROVIDER_INVALID, True)
    offer(lab, require_pushed_authorization_requests=True)
    lab.configure(par="off")
    error = await lab.refusal()
    assert (error.reason, "par: off" in error.detail) == (Reason.PROVIDER_INVALID, True)
    with pytest.raises(ConfigurationError):
        lab.configure(par="perhaps")


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, {"error": "invalid_request", "error_description": "no"}, Reason.PROVIDER_INVALID),
        (401, {"error": "invalid_client"}, Reason.PROVIDER_INVALID),
        (413, {}, Reason.PROVIDER_INVALID),
        (503, {}, Reason.PROVIDER_UNREACHABLE),
        (201, {}, Reason.PROVIDER_INVALID),
        (201, {"request_uri": "urn:x", "expires_in": 0}, Reason.PROVIDER_INVALID),
        (201, {"request_uri": "urn:x", "expires_in": True}, Reason.PROVIDER_INVALID),
        (201, {"request_uri": "urn:x y", "expires_in": 60}, Reason.PROVIDER_INVALID),
        (201, {"request_uri": ["urn:x"], "expires_in": 60}, Reason.PROVIDER_INVALID),
        (204, {}, Reason.PROVIDER_INVALID),
    ],
)
async def test_a_refused_push_never_falls_back_to_the_open_request(lab, status, body, reason):
    offer(lab)
    lab.idp.replies["par"] = lambda: web.json_response(body, status=status)
    assert await lab.refused() is reason
    assert not lab.idp.authorizations


@pytest.mark.parametrize("url", ["http://idp.example/par", "https://user@idp.example/par", 5])
async def test_an_endpoint_that_is_not_plain_https_is_refused(lab, url):
    lab.idp.discovery["pushed_authorization_request_endpoint"] = url
    assert await lab.refused() is Reason.PROVIDER_INVALID
