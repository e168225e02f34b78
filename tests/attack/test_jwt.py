"""Attacks on the ID token's wrapping: algorithms, keys brought along, malformed JOSE, hostile JSON, weak keys."""

import hashlib
import hmac
import json
import zlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.lab.idp import MockIdp
from tests.lab.jose import SigningKey, ec_key, ed_key, encode, rsa_key, rsa_private
from tests.lab.relying_party import SignInLab
from zt_proxy.control.identity.jwks import load_key, read_jwks
from zt_proxy.control.identity.strict import MAX_DEPTH, parse_object
from zt_proxy.core.errors import ProviderError, Reason
from zt_proxy.core.keys import b64decode, b64encode


@pytest.fixture
async def lab():
    async with SignInLab() as lab:
        yield lab


def uint(number: int) -> str:
    return b64encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


async def refuses(lab: SignInLab, header: bytes | dict[str, Any], **extra: Any) -> None:
    """The provider's own key signs under this header; the sign-in is refused all the same."""
    raw = header if isinstance(header, bytes) else encode(header)
    lab.idp.id_token = lambda claims: lab.idp.keys[0].sign_raw(raw, encode(claims))
    assert await lab.refused(**extra) is Reason.LOGIN_TOKEN_INVALID


# ZT-JWT-01: algorithm confusion


@pytest.mark.case("ZT-JWT-01")
@pytest.mark.parametrize("make", [rsa_key, ec_key])
@pytest.mark.parametrize("form", ["pem", "pkcs1", "der", "ssh", "jwk", "modulus", "empty"])
@pytest.mark.parametrize("alg", ["HS256", "HS512"])
async def test_a_mac_keyed_with_the_public_key_is_no_signature(lab, make, form, alg):
    key = make("key-1")
    lab.idp.keys = [key]
    lab.idp.discovery["id_token_signing_alg_values_supported"] = ["RS256", "ES256", "HS256"]
    public = key.private.public_key()
    text = {
        "pem": lambda: public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "pkcs1": lambda: public.public_bytes(
            Encoding.PEM, PublicFormat.PKCS1 if make is rsa_key else PublicFormat.SubjectPublicKeyInfo
        ),
        "der": lambda: public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "ssh": lambda: public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "jwk": lambda: json.dumps(key.jwk).encode(),
        "modulus": lambda: b64decode(key.jwk.get("n") or key.jwk["x"]),
        "empty": lambda: b"",
    }[form]()

    def forge(claims: dict[str, Any]) -> str:
        signing_input = f"{b64encode(encode({'alg': alg, 'kid': 'key-1'}))}.{b64encode(encode(claims))}"
        digest = "sha256" if alg == "HS256" else "sha512"
        return f"{signing_input}.{b64encode(hmac.digest(text, signing_input.encode(), digest))}"

    lab.idp.id_token = forge
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-JWT-01")
@pytest.mark.parametrize(
    "key", [rsa_key("k"), rsa_key("k", "PS256"), ec_key("k"), ed_key("k")], ids=lambda key: key.alg
)
async def test_each_default_algorithm_verifies_with_a_key_of_its_type(lab, key):
    lab.idp.keys = [key]
    assert (await lab.sign_in()).mfa


@pytest.mark.case("ZT-JWT-01")
@pytest.mark.parametrize(
    "key", [ec_key("k", "ES384"), ec_key("k", "ES512"), rsa_key("k", "RS512")], ids=lambda key: key.alg
)
async def test_an_algorithm_outside_the_list_is_refused_until_the_operator_lists_it(lab, key):
    lab.idp.keys = [key]
    lab.idp.discovery["id_token_signing_alg_values_supported"] = [key.alg, "RS256"]
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID
    lab.configure(algorithms=(key.alg,))
    assert (await lab.sign_in()).mfa


@pytest.mark.case("ZT-JWT-01")
@pytest.mark.parametrize(
    ("published", "claimed"), [("RS256", "PS256"), ("PS256", "RS256"), ("ES256", "RS256"), ("RS256", "ES256")]
)
async def test_a_header_cannot_choose_another_algorithm_than_the_keys(lab, published, claimed):
    make = {"RS256": rsa_key, "PS256": lambda kid: rsa_key(kid, "PS256"), "ES256": ec_key}
    lab.idp.keys = [make[published]("k")]
    signer = make[claimed]("k")
    lab.idp.id_token = signer.sign
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


# ZT-JWT-02: alg none and missing signatures


@pytest.mark.case("ZT-JWT-02")
@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", " ", "none ", "rs256", None, 0, ["RS256"], {}])
@pytest.mark.parametrize("signed", [True, False])
async def test_a_token_without_a_listed_algorithm_is_refused(lab, alg, signed):
    header = {"kid": "rsa-1"} if alg is None else {"alg": alg, "kid": "rsa-1"}
    await refuses(lab, header)
    if not signed:
        lab.idp.id_token = lambda claims: f"{b64encode(encode(header))}.{b64encode(encode(claims))}."
        assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-JWT-02")
@pytest.mark.parametrize(
    "damage",
    [
        lambda token: token.rsplit(".", 1)[0] + ".",
        lambda token: token.rsplit(".", 1)[0],
        lambda token: token.split(".", 1)[0],
        lambda token: token + ".",
        lambda token: "." + token,
        lambda token: "..",
        lambda token: ".",
        lambda token: token.split(".")[0] + ".." + token.split(".")[2],
        lambda token: token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"),
        lambda token: token.rsplit(".", 1)[0] + "." + b64encode(bytes(256)),
        lambda token: " " + token,
        lambda token: token + "\n",
        lambda token: token + "=",
        lambda token: token.replace(".", ".=", 1),
        lambda token: token.replace("e", "é", 1),
        lambda token: token.replace("-", "+").replace("_", "/") + "+",
        lambda token: token + "." + token,
    ],
)
async def test_a_damaged_token_is_refused(lab, damage):
    lab.idp.id_token = lambda claims: damage(lab.idp.keys[0].sign(claims))
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-JWT-02")
async def test_base64_that_decodes_to_the_same_bytes_is_not_the_same_token(lab):
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

    def twist(claims: dict[str, Any]) -> str:
        token = lab.idp.keys[0].sign(claims)  # 256 bytes of signature leave four unused bits at the end
        return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]

    lab.idp.id_token = twist
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-JWT-02")
async def test_json_serialisation_is_not_accepted(lab):
    def flattened(claims: dict[str, Any]) -> str:
        header, payload, signature = lab.idp.keys[0].sign(claims).split(".")
        return json.dumps({"protected": header, "payload": payload, "signature": signature})

    lab.idp.id_token = flattened
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


# ZT-JWT-03, 06: keys that the token brings or names


@pytest.mark.case("ZT-JWT-03")
@pytest.mark.parametrize("kid", ["rsa-1", "unknown", None])
async def test_a_key_inside_the_token_is_never_used_and_nothing_is_fetched_for_it(lab, kid):
    await lab.sign_in()
    before = lab.idp.requests["jwks"]
    attacker = rsa_key(kid, number=1)
    lab.idp.id_token = lambda claims: attacker.sign(claims, jwk=attacker.jwk)
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID
    assert lab.idp.requests["jwks"] == before


@pytest.mark.case("ZT-JWT-06")
@pytest.mark.parametrize("name", ["jku", "x5u"])
async def test_no_connection_is_made_to_an_address_in_a_token(lab, name):
    async with MockIdp(clock=lab.clock) as attacker:
        attacker.keys = [rsa_key("rsa-1", number=1)]
        lab.idp.id_token = lambda claims: attacker.keys[0].sign(claims, **{name: attacker.issuer + "/jwks"})
        assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID
        assert not attacker.requests


@pytest.mark.case("ZT-JWT-03")
async def test_a_certificate_chain_inside_the_token_is_never_used(lab):
    await refuses(lab, lab.idp.keys[0].header(x5c=["MIIB"]))


@pytest.mark.case("ZT-JWT-03")
async def test_another_key_under_the_right_name_does_not_verify(lab):
    lab.idp.id_token = rsa_key("rsa-1", number=1).sign
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


# ZT-JWT-04: critical extensions


@pytest.mark.case("ZT-JWT-04")
@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["bork"]},
        {"crit": []},
        {"crit": ["exp"], "exp": 1},
        {"crit": None},
        {"b64": False},
        {"b64": True},
        {"crit": ["b64"], "b64": False},
        {"crit": "exp"},
    ],
)
async def test_an_extension_that_is_not_understood_is_refused(lab, header):
    await refuses(lab, {"alg": "RS256", "kid": "rsa-1", **header})


# ZT-JWT-05: kid


@pytest.mark.case("ZT-JWT-05")
@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "' OR 1=1 --",
        "x" * 300,
        "x" * 1000000,
        "",
        None,
        ["rsa-1"],
        {"rsa-1": 1},
        1,
        True,
        "rsa-1\x00",
        "\x00",
        "RSA-1",
        "rsa-1 ",
        "rsa",
    ],
)
async def test_a_hostile_key_id_finds_nothing(lab, kid):
    error_before = lab.idp.requests["other"]
    lab.idp.keys = [rsa_key("rsa-1"), rsa_key("rsa-2", number=1)]
    lab.idp.id_token = lambda claims: lab.idp.keys[0].sign_raw(encode({"alg": "RS256", "kid": kid}), encode(claims))
    error = await lab.refusal()
    assert error.reason in {Reason.LOGIN_TOKEN_INVALID, Reason.PROVIDER_INVALID}  # a megabyte: cut at the answer's size
    assert lab.idp.requests["other"] == error_before
    if isinstance(kid, str) and len(kid) > 5:
        assert kid not in str(error)


@pytest.mark.case("ZT-JWT-05")
async def test_a_token_without_key_id_is_accepted_only_while_one_key_fits(lab):
    lab.idp.header["kid"] = None
    assert (await lab.sign_in()).mfa
    lab.idp.keys.append(rsa_key("rsa-2", number=1))
    lab.configure()
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-JWT-05")
async def test_unknown_key_ids_cost_the_provider_one_request_a_minute(lab):
    await lab.sign_in()
    real = lab.idp.keys[0]
    lab.idp.id_token = lambda claims: real.sign(claims, kid=f"made-up-{lab.idp.requests['token']}")
    for _ in range(5):
        assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID
    assert lab.idp.requests["jwks"] == 2
    lab.clock.advance(60)
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID
    assert lab.idp.requests["jwks"] == 3


async def test_a_rotated_key_is_found_at_once_and_a_withdrawn_one_ends_within_the_hour(lab):
    await lab.sign_in()
    old = lab.idp.keys[0]
    lab.idp.keys = [rsa_key("rsa-2", number=1)]
    assert (await lab.sign_in()).mfa
    lab.idp.id_token = old.sign
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


async def test_keys_that_cannot_be_fetched_are_a_fault_of_the_provider_not_of_the_token(lab):
    from aiohttp import web

    lab.idp.replies["jwks"] = lambda: web.Response(status=500)
    assert await lab.refused() is Reason.PROVIDER_UNREACHABLE
    del lab.idp.replies["jwks"]
    assert (await lab.sign_in()).mfa


# ZT-JWT-09, 10: encrypted tokens


@pytest.mark.case("ZT-JWT-09")
async def test_a_compressed_encrypted_token_is_not_opened(lab):
    bomb = zlib.compress(b"\x00" * 100_000)
    header = encode({"alg": "dir", "enc": "A256GCM", "zip": "DEF"})
    lab.idp.id_token = lambda _: ".".join(b64encode(part) for part in (header, b"k", bytes(12), bomb, bytes(16)))
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-JWT-10")
async def test_a_password_based_key_derivation_is_never_started(lab, monkeypatch):
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", lambda *_: pytest.fail("key derivation"))
    header = encode({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2**31, "p2s": "c2FsdA"})
    lab.idp.id_token = lambda _: ".".join(b64encode(part) for part in (header, b"k", bytes(12), b"c", bytes(16)))
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID
    await refuses(lab, header)  # and the same header over three parts


# ZT-JWT-13: hostile JSON


@pytest.mark.case("ZT-JWT-13")
@pytest.mark.parametrize(
    "twist",
    [
        lambda text: text[:-1] + ', "aud": "elsewhere"}',
        lambda text: '{"aud": "elsewhere", ' + text[1:],
        lambda text: text[:-1] + ', "a\\u0075d": "elsewhere"}',
        lambda text: text[:-1] + ', "deep": {"x": 1, "x": 2}}',
        lambda text: text[:-1] + ', "deep": ' + "[" * 10_000 + "]" * 10_000 + "}",
        lambda text: text[:-1] + ', "deep": ' + '{"a":' * 10_000 + "1" + "}" * 10_001,
        lambda text: text[:-1] + ', "n": 1e400}',
        lambda text: text[:-1] + ', "n": -1e400}',
        lambda text: text[:-1] + ', "n": NaN}',
        lambda text: text[:-1] + ', "n": Infinity}',
        lambda text: text[:-1] + ', "n": ' + "9" * 5_000 + "}",
        lambda text: text[:-1] + ', "n": "\\ud800"}',
        lambda text: text[:-1] + ', "\\udfff": 1}',
        lambda text: text + "{}",
        lambda text: text[:-1],
        lambda text: "[" + text + "]",
        lambda text: "\ufeff" + text,
        lambda text: '"' + "x" * 100 + '"',
        lambda text: "",
    ],
)
async def test_claims_that_two_parsers_could_read_differently_are_refused(lab, twist):
    key = lab.idp.keys[0]
    lab.idp.id_token = lambda claims: key.sign_raw(encode(key.header()), twist(json.dumps(claims)).encode())
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-JWT-13")
@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"RS256","kid":"rsa-1","alg":"RS256"}',
        b'{"alg":"none","kid":"rsa-1","alg":"RS256"}',
        b'{"alg":"RS256","kid":"rsa-1","x":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"alg":"RS256","kid":"rsa-1","x":"' + b"x" * 5_000 + b'"}',
        b'{"alg":"RS256","kid":"rsa-1","x":"\xff"}',
        b'["RS256"]',
        b"",
    ],
)
async def test_a_header_that_two_parsers_could_read_differently_is_refused(lab, header):
    await refuses(lab, header)


@pytest.mark.case("ZT-JWT-13")
@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 200_000, '{"a":"' + "\\" * 400_001, "[" * 400_000, '{"' * 100_000, "]" * 400_000]
)
def test_hostile_text_of_full_size_is_refused_without_recursion(text):
    with pytest.raises(ValueError):
        parse_object(text.encode())


def test_brackets_inside_strings_do_not_count_as_nesting():
    assert parse_object(encode({"a": '[[{"\\' * 50, "b": [[[]]]})) == {"a": '[[{"\\' * 50, "b": [[[]]]}
    nested = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert parse_object(f'{{"a":{nested}}}'.encode())
    with pytest.raises(ValueError, match="deeply"):
        parse_object(f'{{"a":[{nested}]}}'.encode())


async def test_a_token_of_another_kind_is_not_an_id_token(lab):
    for typ in ("at+jwt", "logout+jwt", "secevent+jwt", "JWS", "", 5, None):
        await refuses(lab, {"alg": "RS256", "kid": "rsa-1", "typ": typ})


# ZT-JWT-15: weak and wrong keys, refused when loaded


def good_ec() -> dict[str, Any]:
    return dict(ec_key().jwk)


def changed(jwk: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {**jwk, **members}


def rsa_jwk(n: int, e: int) -> dict[str, Any]:
    return {"kty": "RSA", "n": uint(n), "e": uint(e)}


MODULUS = rsa_private().public_key().public_numbers().n

WEAK = {
    "rsa of 512 bits": lambda: rsa_jwk((1 << 511) + 1, 65_537),
    "rsa of 1024 bits": lambda: rsa_jwk(rsa_private(1024).public_key().public_numbers().n, 65_537),
    "rsa of 2047 bits": lambda: rsa_jwk((1 << 2_046) + 1, 65_537),
    "rsa of 16384 bits": lambda: rsa_jwk((1 << 16_383) + 1, 65_537),
    "rsa with e=1": lambda: rsa_jwk(MODULUS, 1),
    "rsa with even e": lambda: rsa_jwk(MODULUS, 65_536),
    "rsa with huge e": lambda: rsa_jwk(MODULUS, (1 << 2_000) + 1),
    "rsa with even modulus": lambda: rsa_jwk(MODULUS + 1, 65_537),
    "rsa with private members": lambda: changed(rsa_key().jwk, d="AQAB"),
    "rsa for encryption": lambda: changed(rsa_key().jwk, use="enc"),
    "rsa with an encryption algorithm": lambda: changed(rsa_key().jwk, alg="RSA-OAEP"),
    "rsa with an elliptic algorithm": lambda: changed(rsa_key().jwk, alg="ES256"),
    "rsa with a mac algorithm": lambda: changed(rsa_key().jwk, alg="HS256"),
    "rsa with null algorithm": lambda: changed(rsa_key().jwk, alg=None),
    "operations without verify": lambda: changed(rsa_key().jwk, key_ops=["sign"]),
    "operations as a string": lambda: changed(rsa_key().jwk, key_ops="verify"),
    "no operations": lambda: changed(rsa_key().jwk, key_ops=[]),
    "padded base64": lambda: changed(rsa_key().jwk, e="AQAB="),
    "standard base64": lambda: changed(rsa_key().jwk, e="A+AB"),
    "number for a string": lambda: changed(rsa_key().jwk, e=65_537),
    "ES256 on P-384": lambda: changed(ec_key("k", "ES384").jwk, alg="ES256"),
    "P-384 point called P-256": lambda: changed(ec_key("k", "ES384").jwk, crv="P-256", alg="ES256"),
    "secp256k1": lambda: changed(good_ec(), crv="secp256k1", alg="ES256K"),
    "point off the curve": lambda: changed(good_ec(), x=b64encode(b"\x01" * 32)),
    "point at infinity": lambda: changed(good_ec(), x=b64encode(bytes(32)), y=b64encode(bytes(32))),
    "short coordinate": lambda: changed(good_ec(), x=b64encode(b"\x01" * 31)),
    "long coordinate": lambda: (jwk := good_ec()) | {"x": b64encode(b"\x00" + b64decode(jwk["x"]))},
    "no y": lambda: {name: value for name, value in good_ec().items() if name != "y"},
    "curve as a list": lambda: changed(good_ec(), crv=["P-256"]),
    "OKP with X25519": lambda: changed(ed_key().jwk, crv="X25519"),
    "OKP with Ed448": lambda: {
        "kty": "OKP",
        "crv": "Ed448",
        "x": b64encode(ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw()),
    },
    "OKP of wrong length": lambda: changed(ed_key().jwk, x=b64encode(b"\x01" * 31)),
    "OKP for ES256": lambda: changed(ed_key().jwk, alg="ES256"),
    "symmetric": lambda: {"kty": "oct", "k": b64encode(bytes(32)), "alg": "HS256"},
    "unknown type": lambda: {"kty": "PQ"},
    "no type": dict,
    "type as a list": lambda: changed(good_ec(), kty=["EC"]),
    "kid as a number": lambda: changed(good_ec(), kid=5),
    "empty kid": lambda: changed(good_ec(), kid=""),
    "endless kid": lambda: changed(good_ec(), kid="x" * 257),
    "a string": lambda: "key",
    "null": lambda: None,
}


@pytest.mark.case("ZT-JWT-15")
@pytest.mark.parametrize("name", WEAK)
def test_a_weak_or_contradictory_key_is_refused_when_loaded(name):
    with pytest.raises(ValueError):
        load_key(WEAK[name]())


@pytest.mark.case("ZT-JWT-15")
async def test_a_token_of_a_weak_key_is_refused_and_good_keys_beside_it_still_work(lab):
    weak = SigningKey("RS256", rsa_private(1024), "weak")
    good = lab.idp.keys[0]
    lab.idp.keys = [good, weak]
    lab.idp.jwks = {"keys": [weak.jwk, {"kty": "oct", "k": "c2VjcmV0", "kid": "rsa-1"}, None, good.jwk]}
    assert (await lab.sign_in()).mfa
    lab.idp.id_token = lambda claims: weak.sign_raw(encode(weak.header()), encode(claims))
    assert await lab.refused() is Reason.LOGIN_TOKEN_INVALID


@pytest.mark.case("ZT-JWT-15")
@pytest.mark.parametrize(
    "document", [{}, {"keys": []}, {"keys": {}}, {"keys": "x"}, {"keys": [None]}, {"keys": [{"kty": "EC"}] * 65}]
)
def test_a_set_without_a_usable_key_is_the_providers_fault(document):
    with pytest.raises(ProviderError) as caught:
        read_jwks(encode(document), "lab")
    assert caught.value.reason is Reason.PROVIDER_INVALID


@pytest.mark.case("ZT-JWT-15")
def test_a_keys_type_fixes_its_algorithms():
    assert load_key(good_ec()).algorithms == ("ES256",)
    assert load_key(ed_key().jwk).algorithms == ("EdDSA",)
    assert load_key(rsa_key().jwk).algorithms == ("RS256",)
    bare = {name: value for name, value in rsa_key().jwk.items() if name != "alg"}
    assert set(load_key(bare).algorithms) == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert isinstance(load_key(ec_key("k", "ES512").jwk).key, ec.EllipticCurvePublicKey)


async def test_at_hash_is_checked_with_the_hash_of_the_algorithm(lab):
    import secrets

    access_token = secrets.token_urlsafe(20)
    lab.idp.token_response["access_token"] = access_token
    for key, name in ((rsa_key("a"), "sha256"), (ec_key("b", "ES384"), "sha384"), (ed_key("c"), "sha512")):
        lab.idp.keys = [key]
        digest = hashlib.new(name, access_token.encode()).digest()
        lab.idp.claims["at_hash"] = b64encode(digest[: len(digest) // 2])
        lab.configure(algorithms=(key.alg,))
        assert (await lab.sign_in()).mfa
