"""Which makes of authenticators may be added, and who has to have vouched for them."""

import datetime
import json
import uuid
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.lab.authenticator import Authenticator, Maker
from tests.lab.factors import ALICE, ORIGIN, SETTINGS, FactorWorld
from zt_proxy.core.errors import ClientError, ConfigurationError, Reason

MAKE = uuid.UUID("ee882879-721c-4913-9775-3dfcce97072a")
OTHER = uuid.UUID("2fc0579f-8113-47ea-b116-bb5a8db9202a")
EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
LISTED = msgspec.structs.replace(SETTINGS, aaguids=frozenset({str(MAKE)}))


class Authority:
    """An attestation authority of a maker."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._issue("Maker Root", self.key, None)

    def maker(self, of: uuid.UUID | None = MAKE) -> Maker:
        key = ec.generate_private_key(ec.SECP256R1())
        return Maker(key, [self._issue("Maker Batch", key, of)])

    def write(self, path: Path) -> Path:
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def _issue(self, name: str, key: ec.EllipticCurvePrivateKey, of: uuid.UUID | None) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)  # noqa: TID251 - the chain is judged by the machine's clock
        root = key is self.key
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Maker Root")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        )
        if of is not None:
            builder = builder.add_extension(
                x509.UnrecognizedExtension(EXTENSION, b"\x04\x10" + of.bytes), critical=False
            )
        return builder.sign(self.key, hashes.SHA256())


async def add(world: FactorWorld, phone: Authenticator) -> Reason | str:
    """The AAGUID of the passkey that was added, or why it was not."""
    try:
        return (await world.enrol_passkey(phone=phone)).aaguid
    except ClientError as error:
        return error.reason


async def test_without_a_list_every_make_is_added_and_remembered(world: FactorWorld) -> None:
    assert await add(world, Authenticator(aaguid=OTHER.bytes)) == str(OTHER)
    assert await add(world, Authenticator()) == str(uuid.UUID(int=0))
    assert [factor.aaguid for factor in await world.factors.of(ALICE)] == [str(OTHER), str(uuid.UUID(int=0))]


async def test_with_a_list_only_its_makes_are_added_and_attestation_is_asked_for(tmp_path: Path) -> None:
    world = await FactorWorld(tmp_path, LISTED).open()
    asked = json.loads((await world.factors.begin_passkey(ALICE, "Alice", world.proof())).options_json)
    assert asked["attestation"] == "direct"
    assert await add(world, Authenticator(aaguid=OTHER.bytes)) is Reason.FACTOR_NOT_ACCEPTED
    assert await add(world, Authenticator()) is Reason.FACTOR_NOT_ACCEPTED
    assert await add(world, Authenticator(aaguid=MAKE.bytes)) == str(MAKE)
    await world.factors.close()


@pytest.mark.parametrize(
    ("kind", "accepted"),
    [
        ("right", True),
        ("certificate without a make", True),
        ("certificate of another make", False),
        ("another authority", False),
        ("nobody", False),
        ("wrong signature", False),
    ],
)
async def test_where_authorities_are_named_one_has_to_vouch_for_the_make(
    tmp_path: Path, kind: str, accepted: bool
) -> None:
    authority = Authority()
    settings = msgspec.structs.replace(LISTED, attestation_ca=authority.write(tmp_path / "makers.pem"))
    world = await FactorWorld(tmp_path, settings).open()
    makers = {
        "right": authority.maker(),
        "certificate without a make": authority.maker(None),
        "certificate of another make": authority.maker(OTHER),
        "another authority": Authority().maker(),
        "nobody": None,
        "wrong signature": Maker(ec.generate_private_key(ec.SECP256R1()), authority.maker().chain),
    }
    result = await add(world, Authenticator(aaguid=MAKE.bytes, maker=makers[kind]))
    wrong = Reason.FACTOR_WRONG if kind == "wrong signature" else Reason.FACTOR_NOT_ACCEPTED
    assert result == (str(MAKE) if accepted else wrong)
    await world.factors.close()


async def test_a_passkey_of_before_the_list_goes_on_working(world: FactorWorld) -> None:
    phone = Authenticator(aaguid=OTHER.bytes)
    await world.enrol_passkey(phone=phone)
    world.factors.configure(LISTED)
    challenge = await world.factors.passkey_request(ALICE)
    assert (await world.factors.verify_passkey(ALICE, challenge.token, phone.get(challenge.options_json, ORIGIN))).proof


async def test_settings_that_cannot_be_used_leave_those_of_before(world: FactorWorld, tmp_path: Path) -> None:
    wrong = (
        msgspec.structs.replace(SETTINGS, origin=""),
        msgspec.structs.replace(LISTED, attestation_ca=tmp_path / "none.pem"),
    )
    for settings in wrong:
        with pytest.raises(ConfigurationError):
            world.factors.configure(settings)
    assert await add(world, Authenticator(aaguid=OTHER.bytes)) == str(OTHER)
