"""The people of the demo: who they are, what they belong to and how they prove it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

ACR_ONE_FACTOR = "urn:zt:pwd"
ACR_MFA = "urn:zt:mfa"


@dataclass(frozen=True, slots=True)
class Person:
    """One account of the demo provider. `otp_secret` None: it asks for a password alone, and the proxy for the rest."""

    username: str
    password: str = field(repr=False)
    name: str = ""
    email: str = ""
    groups: tuple[str, ...] = ()
    otp_secret: bytes | None = field(default=None, repr=False)
    about: str = ""

    @property
    def subject(self) -> str:
        """The `sub` of this person: stable, and not the login name, which people change."""
        return "demo-" + hashlib.sha256(self.username.encode()).hexdigest()[:16]


def _demo_secret(username: str) -> bytes:
    """A fixed secret per name, so that an authenticator app enrolled once keeps working after a restart of the demo."""
    return hashlib.sha256(b"zt-proxy demo second factor " + username.encode()).digest()[:20]


def _person(username: str, name: str, groups: tuple[str, ...], about: str, *, second_factor: bool = True) -> Person:
    return Person(
        username=username,
        password=f"{username}-demo",
        name=name,
        email=f"{username}@example.com",
        groups=groups,
        otp_secret=_demo_secret(username) if second_factor else None,
        about=about,
    )


DEMO_PEOPLE: tuple[Person, ...] = (
    _person("vera", "Vera Voss", ("staff",), "Viewer: reads records"),
    _person("max", "Max Meyer", ("staff", "makers"), "Maker: edits records and flows", second_factor=False),
    _person("rita", "Rita Roth", ("staff", "makers", "releasers"), "Releaser: also deploys, with a passkey"),
    _person("olaf", "Olaf Ott", (), "Outsider: signs in and is denied"),
    _person(
        "nina", "Nina Nagel", ("staff",), "No second factor at the provider: sets one up here", second_factor=False
    ),
)
