"""Factors over a real file, with a clock that only the test moves, and a person who has just signed in."""

from pathlib import Path

import pyotp

from tests.lab.authenticator import Authenticator
from zt_proxy.control.factors.manager import Factors, open_factors
from zt_proxy.control.factors.types import Factor, Person
from zt_proxy.control.settings import FactorSettings
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.session import Level, Proof

ORIGIN = "https://auth.example.com:8443"
SETTINGS = FactorSettings(rp_id="auth.example.com", origin=ORIGIN)
ALICE = Person("https://idp.example", "alice", "alice@example.com")
BOB = Person("https://idp.example", "bob", "bob@example.com")
CLIENT = "192.0.2.7"
STEP = 30.0


class FactorWorld:
    """`factors` over `path`; `reopen` is a restart."""

    def __init__(self, path: Path, settings: FactorSettings = SETTINGS) -> None:
        self.path = path
        self.settings = settings
        self.clock = ManualClock()
        self.ring = KeyRing({1: b"s" * 32})
        self.factors: Factors

    async def open(self) -> "FactorWorld":
        self.factors = await open_factors(self.settings, self.path, self.ring, self.clock)
        return self

    async def reopen(self) -> None:
        await self.factors.close()
        await self.open()

    def proof(self, level: Level = Level.PHISHING_RESISTANT, age: float = 0.0) -> Proof:
        return Proof(self.clock.now() - age, level)

    async def enrol_passkey(self, who: Person = ALICE, phone: Authenticator | None = None, name: str = "") -> Factor:
        phone = phone or Authenticator()
        challenge = await self.factors.begin_passkey(who, who.subject, self.proof())
        credential = phone.create(challenge.options_json, ORIGIN)
        return await self.factors.add_passkey(who, challenge.token, credential, name)

    async def enrol_totp(self, who: Person = ALICE, name: str = "") -> tuple[Factor, pyotp.TOTP]:
        """The factor and the app that shows its codes; the code of this moment is used up."""
        new = await self.factors.begin_totp(who, who.subject, self.proof())
        app = pyotp.TOTP(new.secret_base32.replace(" ", ""))
        return await self.factors.add_totp(who, new.token, app.at(self.clock.now()), name), app

    def wrong_code(self, app: pyotp.TOTP) -> str:
        """Six digits that count at no step near this moment."""
        near = {app.at(self.clock.now() + STEP * offset) for offset in range(-3, 4)}
        return next(code for code in map("{:06d}".format, range(10)) if code not in near)
