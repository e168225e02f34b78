"""What the portal and the operator ask of factors. Every method may raise UnavailableError(STORE_UNAVAILABLE)."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import structlog

from zt_proxy.control.factors import enrolment, passkeys, recovery, totp
from zt_proxy.control.factors.shelf import NAMES, Shelf, hash_of, label
from zt_proxy.control.factors.store import FactorRow, FactorStore
from zt_proxy.control.factors.types import (
    LEVELS,
    Factor,
    FactorKind,
    FactorRefused,
    NewTotp,
    OwnedFactors,
    PasskeyChallenge,
    Person,
    Proved,
    unknown,
)
from zt_proxy.control.factors.vault import Kept, Pending, Vault
from zt_proxy.control.session.logins import capped_by
from zt_proxy.control.session.record import name_hash
from zt_proxy.control.settings import FactorSettings
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, ConfigurationError, Reason
from zt_proxy.core.keys import KeyRing
from zt_proxy.core.session import Level, Proof

CHALLENGE_LIFETIME = 300.0
"""Seconds from the page to the answer."""
ENROLMENT_LIFETIME = 600.0
"""The same where somebody first has to install an app."""
_TYPED = 128
"""Characters of a code as it is typed; more are no code."""
_ASKED = "get"
log = structlog.get_logger(__name__)


async def open_factors(settings: FactorSettings, state_dir: Path, ring: KeyRing, clock: Clock) -> "Factors":
    """Over `factors.db` in the state directory, made where missing (mode 0600); `ring` is the one of `store.keys`.

    Raises ConfigurationError if the file cannot be used, or is of another ring: nobody in it would be found, and
    everybody's password would be enough to enrol anew.
    """
    path, vault = state_dir / "factors.db", Vault(ring)
    store = await FactorStore.open(path)
    factors = Factors(settings, store, ring, clock)
    try:
        people = await store.people()
        if people and not any(vault.opens(*each) for each in people):
            raise ConfigurationError(
                f"{path}: nothing in it opens with {state_dir / 'store.keys'}; bring back the keys that belong to it, "
                "or move the file away: then whoever has a password enrols a first factor"
            )
        await store.rewrite(vault.resealed)
    except BaseException:
        await store.close()
        raise
    return factors


class Prepared(NamedTuple):
    """Settings that can be used."""

    settings: FactorSettings
    authorities: bytes
    """PEM of `attestation_ca`; empty without."""


def prepare(settings: FactorSettings) -> Prepared:
    """Raises ConfigurationError for settings without the portal's origin, or with authorities that cannot be read."""
    if not settings.rp_id or not settings.origin:
        raise ConfigurationError("factors need the portal's origin")
    path = settings.attestation_ca
    try:
        return Prepared(settings, path.read_bytes() if path is not None else b"")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read the attestation authorities: {error}") from error


class Factors:
    """Use `await open_factors(...)`, and `close()` at the end."""

    def __init__(self, settings: FactorSettings, store: FactorStore, ring: KeyRing, clock: Clock) -> None:
        self._store = store
        self._vault = Vault(ring)
        self._clock = clock
        self._shelf = Shelf(store, self._vault, clock)
        self.configure(settings)

    def configure(self, settings: FactorSettings) -> None:
        """Other settings from now on, if they can be used. Raises ConfigurationError, and leaves those of before."""
        self.use(prepare(settings))

    def use(self, prepared: "Prepared") -> None:
        """Settings that were prepared, from now on."""
        self._settings, self._authorities = settings, _ = prepared
        own = {kind for kind in (FactorKind.PASSKEY, FactorKind.TOTP) if kind.value in settings.accept}
        self._shelf.accepted = frozenset({*own, FactorKind.RECOVERY} if own else ())

    async def close(self) -> None:
        await self._store.close()

    # what a person has

    async def of(self, who: Person) -> tuple[Factor, ...]:
        """Everything they have enrolled, the oldest first; what is not `usable` proves nothing."""
        return tuple(self._shelf.factor(row) for row in await self._store.of(self._vault.person(who)))

    async def reach(self, who: Person) -> Level | None:
        """The highest level that they can prove by factors of their own; None without any."""
        return max((each.level for each in await self.of(who) if each.usable), default=None)

    async def rename(self, who: Person, id: str, name: str) -> None:
        """Raises ClientError(FACTOR_UNKNOWN)."""
        row = next((row for row in await self._store.of(self._vault.person(who)) if row.id == id), None)
        kept = self._shelf.open(row) if row is not None else None
        if row is None or kept is None:
            raise unknown("no such factor")
        renamed = Kept(label(name, kept.name), kept.passkey, kept.secret)
        if not await self._store.save_blob(row.person, row.id, self._vault.seal(row.id, row.person, renamed)):
            raise unknown("no such factor")

    async def remove(self, who: Person, id: str, *, last: bool = False) -> None:
        """The caller has asked for a fresh proof. `last`: they may be left without any passkey and one-time password.

        Raises ClientError(FACTOR_UNKNOWN, FACTOR_LAST).
        """
        kinds = [kind.value for kind in self._shelf.accepted if kind is not FactorKind.RECOVERY]
        await self._store.remove(self._vault.person(who), id, last=last, kinds=kinds)
        log.info("factor removed", factor=id, subject=who.subject)

    # a factor is shown

    async def passkey_request(self, who: Person, *, purpose: bytes = b"") -> PasskeyChallenge:
        """For `navigator.credentials.get()`. `purpose`: what the answer will count for; `verify_passkey` names it.

        Raises ClientError(FACTOR_UNKNOWN) for somebody without a usable passkey.
        """
        person = self._vault.person(who)
        have = [kept.passkey for _, kept in await self._shelf.usable(person, FactorKind.PASSKEY) if kept.passkey]
        if not have:
            raise unknown("no passkey that could be used")
        challenge = secrets.token_bytes(passkeys.CHALLENGE_BYTES)
        options = passkeys.request_options(self._settings, challenge=challenge, have=have)
        token = await self._shelf.put(person, _ASKED, Pending(purpose, challenge), CHALLENGE_LIFETIME)
        return PasskeyChallenge(options, token)

    async def verify_passkey(
        self, who: Person, token: str, credential: Mapping[str, object], *, purpose: bytes = b""
    ) -> Proved:
        """`credential`: the JSON form of what the browser gave. Any try uses the token up.

        Raises FactorRefused(FACTOR_WRONG), ClientError(FACTOR_UNKNOWN).
        """
        try:
            return await self._verify_passkey(who, token, credential, purpose)
        except ClientError as error:
            _refused(who, FactorKind.PASSKEY, error)
            raise

    async def _verify_passkey(
        self, who: Person, token: str, credential: Mapping[str, object], purpose: bytes
    ) -> Proved:
        owner = self._vault.owner(who)
        pending = await self._shelf.take(owner.person, _ASKED, token, purpose)
        answer = passkeys.read_assertion(credential)
        asked = passkeys.credential_hash(answer.credential_id)
        for row, kept in await self._shelf.usable(owner.person, FactorKind.PASSKEY):
            if row.credential == asked and kept.passkey is not None:
                break
        else:
            raise unknown("no such passkey")
        counter = passkeys.verify_assertion(
            self._settings,
            answer,
            challenge=pending.challenge,
            key=kept.passkey,
            handle=self._vault.handle(owner.person),
        )
        now = self._clock.now()
        if not await self._store.passkey_used(row.id, counter, owner, now):
            log.warning(
                "passkey may be cloned", factor=row.id, subject=who.subject, counter=counter, before=row.counter
            )
            raise FactorRefused(Reason.FACTOR_WRONG, "the counter did not rise: the passkey is disabled")
        return self._proved(row._replace(last_used=now, counter=counter), now)

    async def verify_code(self, who: Person, code: str, client: str) -> Proved:
        """A one-time password or a recovery code, told apart by their shape. `client`: the address it came from.

        Raises FactorRefused: FACTOR_WRONG, with `used` for a code that had been right before; FACTOR_LOCKED with
        `retry_after`, whatever the code was.
        """
        owner, client, now = self._vault.owner(who), capped_by(client), self._clock.now()
        text = code if len(code) <= _TYPED else ""
        letters = recovery.code_in(text)
        if letters is not None:
            hash_ = recovery.code_hash(self._vault.ring, owner.person, letters) if self._shelf.accepted else None
            used = await self._store.code_used(client, hash_, owner, now)
        else:
            matches = await self._steps(owner.person, totp.code_in(text), now)
            used = await self._store.otp_used(client, matches, owner, now)
        kind = FactorKind.TOTP if letters is None else FactorKind.RECOVERY
        if isinstance(used, FactorRefused):
            _refused(who, kind, used)
            raise used
        row = next((row for row in await self._store.of(owner.person) if row.id == used), None)
        if row is None:
            raise unknown("the factor was removed")
        return self._proved(row, now)

    async def _steps(self, person: bytes, code: str | None, now: float) -> list[tuple[str, int]]:
        if code is None:
            return []
        found = [
            (row.id, totp.step_of(kept.secret, code, now))
            for row, kept in await self._shelf.usable(person, FactorKind.TOTP)
        ]
        return [(factor, step) for factor, step in found if step is not None]

    # a factor is added

    async def may_enrol(self, who: Person, proof: Proof, *, this_login: bool = False) -> Reason | None:
        """Why this proof of identity adds no factor: ENROLMENT_NOT_FRESH, ENROLMENT_NOT_GRANTED, or MFA_REQUIRED for
        one below `enrolment_level`; None: it does. `this_login`: it was made in the sign-in that is under way."""
        return (await self._judge(who, proof, this_login))[0].refused

    async def enrolment_level(self, who: Person) -> Level:
        """How strong a proof adds a factor without an administrator's permission."""
        return enrolment.level_for(await self.of(who))

    async def begin_passkey(
        self, who: Person, display_name: str, proof: Proof, *, this_login: bool = False, purpose: bytes = b""
    ) -> PasskeyChallenge:
        """For `navigator.credentials.create()`. Raises ClientError, also with what `may_enrol` says."""
        await self._permit(who, FactorKind.PASSKEY, proof, this_login)
        person = self._vault.person(who)
        rows = [row for row in await self._store.of(person) if row.kind is FactorKind.PASSKEY]
        have = [kept.passkey for kept in map(self._shelf.open, rows) if kept is not None and kept.passkey is not None]
        challenge = secrets.token_bytes(passkeys.CHALLENGE_BYTES)
        options = passkeys.creation_options(
            self._settings,
            challenge=challenge,
            handle=self._vault.handle(person),
            name=label(display_name, who.email or who.subject),
            have=have,
        )
        pending = Pending(purpose, challenge, level=proof.level)
        return PasskeyChallenge(options, await self._shelf.put(person, FactorKind.PASSKEY, pending, CHALLENGE_LIFETIME))

    async def add_passkey(
        self, who: Person, token: str, credential: Mapping[str, object], name: str = "", *, purpose: bytes = b""
    ) -> Factor:
        """Any try uses the token up.

        Raises FactorRefused(FACTOR_WRONG), ClientError(FACTOR_NOT_ACCEPTED, FACTOR_TOO_MANY, ENROLMENT_NOT_GRANTED).
        """
        try:
            pending = await self._shelf.take(self._vault.person(who), FactorKind.PASSKEY, token, purpose)
            self._accept(FactorKind.PASSKEY)
            answer = passkeys.read_attestation(credential)
            key, counter = passkeys.verify_attestation(
                self._settings, answer, challenge=pending.challenge, authorities=self._authorities
            )
            kept = Kept(label(name, NAMES[FactorKind.PASSKEY]), key)
            row = self._shelf.row(who, FactorKind.PASSKEY, kept, counter, passkeys.credential_hash(key.credential_id))
            return await self._add(who, row, pending.level)
        except ClientError as error:
            _refused(who, FactorKind.PASSKEY, error)
            raise

    async def begin_totp(
        self, who: Person, account_name: str, proof: Proof, *, this_login: bool = False, purpose: bytes = b""
    ) -> NewTotp:
        """A new secret to scan. Raises as `begin_passkey`."""
        await self._permit(who, FactorKind.TOTP, proof, this_login)
        account = label(account_name, who.email or who.subject)
        pending = Pending(purpose, secret=totp.new_secret(), account=account, level=proof.level)
        token = await self._shelf.put(self._vault.person(who), FactorKind.TOTP, pending, ENROLMENT_LIFETIME)
        return totp.present(token, pending.secret, account, self._settings.rp_name)

    async def pending_totp(self, who: Person, token: str, *, purpose: bytes = b"") -> NewTotp:
        """The same secret once more, after a code that was mistyped. Raises ClientError(FACTOR_UNKNOWN)."""
        pending = await self._shelf.peek_totp(who, token, purpose)
        return totp.present(token, pending.secret, pending.account, self._settings.rp_name)

    async def add_totp(self, who: Person, token: str, code: str, name: str = "", *, purpose: bytes = b"") -> Factor:
        """With a code that the app shows: it is used up by this. A wrong one leaves the token as it is.

        Raises FactorRefused(FACTOR_WRONG), ClientError(FACTOR_UNKNOWN) for a token that is used or too old, and as
        `add_passkey`.
        """
        pending = await self._shelf.peek_totp(who, token, purpose)
        self._accept(FactorKind.TOTP)
        typed = totp.code_in(code) if len(code) <= _TYPED else None
        step = totp.step_of(pending.secret, typed, self._clock.now()) if typed else None
        if step is None:
            raise FactorRefused(Reason.FACTOR_WRONG, "wrong code")
        kept = Kept(label(name, NAMES[FactorKind.TOTP]), secret=pending.secret)
        row = self._shelf.row(who, FactorKind.TOTP, kept, step, None)
        return await self._add(who, row, pending.level, token=hash_of(token))

    async def new_recovery_codes(self, who: Person) -> tuple[str, ...]:
        """Ten codes to show once; those of before are dead. The caller has asked for a fresh proof.

        Raises ClientError(FACTOR_NOT_ACCEPTED) where no factor of the proxy's own is accepted, and FACTOR_UNKNOWN
        for somebody who has none: codes alone would be a way round the rules of enrolment.
        """
        self._accept(FactorKind.RECOVERY)
        codes = recovery.new_codes()
        row = self._shelf.row(who, FactorKind.RECOVERY, Kept(NAMES[FactorKind.RECOVERY]), 0, None)
        letters = [found for found in map(recovery.code_in, codes) if found is not None]
        hashes = [recovery.code_hash(self._vault.ring, row.person, each) for each in letters]
        await self._store.put_codes(row, self._vault.owner(who), hashes)
        log.info("recovery codes made", factor=row.id, subject=who.subject)
        return codes

    # administrators

    async def grant(self, name: str, expires: float) -> None:
        """Let whoever has this subject or e-mail address add one factor until then (epoch seconds)."""
        await self._store.put_grant(name_hash(self._vault.ring, name), expires)

    async def named(self, name: str) -> tuple[OwnedFactors, ...]:
        """Everybody who has factors and this subject or e-mail address."""
        found = await self._store.named(name_hash(self._vault.ring, name))
        people = [self._vault.open_owner(person, blob) for person, blob in found]
        return tuple([OwnedFactors(who.issuer, who.subject, who.email, await self.of(who)) for who in people])

    async def reset(self, who: Person) -> int:
        """Forget all factors of a person, and every wrong code; gives how many factors. It ends no session."""
        count = await self._store.reset(self._vault.person(who))
        log.info("factors reset", subject=who.subject, factors=count)
        return count

    # parts

    async def _judge(self, who: Person, proof: Proof, this_login: bool) -> tuple[enrolment.Verdict, frozenset[str]]:
        """With the factors in whose light it was judged."""
        have, now = await self.of(who), self._clock.now()
        verdict = enrolment.judge(
            have,
            proof,
            this_login=this_login,
            granted=await self._store.has_grant(self._vault.names(who), now),
            must_be_granted=self._settings.enrolment == "grant",
            now=now,
        )
        return verdict, frozenset(each.id for each in have)

    async def _permit(
        self, who: Person, kind: FactorKind, proof: Proof, this_login: bool
    ) -> tuple[enrolment.Verdict, frozenset[str]]:
        self._accept(kind)
        verdict, have = await self._judge(who, proof, this_login)
        if verdict.refused is not None:
            status = 401 if verdict.refused is Reason.ENROLMENT_NOT_FRESH else 403
            raise ClientError(verdict.refused, f"a {kind.value} cannot be added now", status=status)
        return verdict, have

    def _accept(self, kind: FactorKind) -> None:
        if kind not in self._shelf.accepted:
            raise ClientError(Reason.FACTOR_NOT_ACCEPTED, f"identity.mfa.accept has no {kind.value}", status=403)

    async def _add(self, who: Person, row: FactorRow, level: Level, *, token: bytes | None = None) -> Factor:
        """By the proof of this level with which it began, judged by what the person has by now: whoever began with a
        password before the owner's first factor was there does not end it afterwards."""
        verdict, have = await self._permit(who, row.kind, Proof(row.created, level), this_login=True)
        owner, needs_grant = self._vault.owner(who), verdict.needs_grant
        await self._store.add(row, owner, have=have, needs_grant=needs_grant, now=row.created, token=token)
        log.info("factor added", factor=row.id, kind=row.kind.value, subject=who.subject)
        return self._shelf.factor(row)

    def _proved(self, row: FactorRow, now: float) -> Proved:
        log.info("factor shown", factor=row.id, kind=row.kind.value)
        return Proved(self._shelf.factor(row), Proof(now, LEVELS[row.kind]))


def _refused(who: Person, kind: FactorKind, error: ClientError) -> None:
    log.info("factor refused", kind=kind.value, subject=who.subject, reason=error.reason.value, detail=error.detail)
