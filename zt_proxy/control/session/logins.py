"""Logins under way: what was sent to the provider, and what is on its way back to an app's host.

    sign-in ─begin─► state ─(provider)─► take ─► session ─issue_code─► code ─(browser)─► redeem at the app's host
                                           └─keep─► half a login ─(own factor)─► take_half ─► session …

All are good once, for a short time, and only in the browser that began (FIELD 7–9, ZT-OIDC-29). The store has the
hashes of states and codes; what belongs to them is sealed.
"""

import hashlib
import hmac
import secrets
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TypeVar

import msgspec

from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.session.record import decode_secret, encode_secret
from zt_proxy.control.session.store import CodeRow, SessionStore, TransactionRow
from zt_proxy.control.settings import ControlSettings
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.handoff import Handoff
from zt_proxy.core.keys import KeyRing, b64encode
from zt_proxy.core.session import Proof


class Transaction(msgspec.Struct, frozen=True):
    """What has to be remembered between the two halves of the code flow."""

    provider: str
    nonce: str
    verifier: str
    started: float
    force: bool
    """A fresh proof was asked for: anything older than `started` is refused."""
    handoff: Handoff | None
    """None: the person came to the portal itself."""
    own: str = ""
    """When the portal itself asked for a proof: the name of its page to go back to, see `control.portal.questions`."""

    def __repr__(self) -> str:
        return f"Transaction(provider={self.provider!r}, started={self.started!r})"


class HalfLogin(msgspec.Struct, frozen=True):
    """A sign-in that the provider vouched for and that was not strong enough: an own factor is to complete it."""

    login: VerifiedLogin
    transaction: Transaction
    expires: float
    failed: int = 0
    """Wrong codes and passkeys so far."""
    proof: Proof | None = None
    """What own factors proved so far: enough by the one just enrolled, or not enough and a stronger one is enrolled."""
    shown: str = ""
    """The kind of that factor."""
    factor: str = ""
    """Its id: what it proved is gone with it."""

    def __repr__(self) -> str:
        return f"HalfLogin(provider={self.login.provider!r}, expires={self.expires!r})"


class Unlock(msgspec.Struct, frozen=True):
    """What opens a rule on its way to an app's host: a proof (see `SessionManager.unlock`), or what the person said
    when asked why. With neither it only leads back there: what was asked for is in the session already."""

    route: str
    rule: str
    request: str
    proof: Proof | None
    said: str = ""


class Passage(msgspec.Struct, frozen=True):
    """A login on its way to an app's host."""

    sid: str
    host: str
    binder: bytes
    target: str
    browser: bytes
    """SHA-256 of the portal host's login cookie, for the loop guard."""
    arrived: float
    """When the hand-off came to the portal."""
    handoff_expires: float
    unlock: Unlock | None = None
    """For the session that this browser already has at the host; None: it gets one."""
    kept: str = ""
    """See `Handoff.kept`."""


_T = TypeVar("_T")

_encoder = msgspec.msgpack.Encoder()
_transaction_decoder = msgspec.msgpack.Decoder(Transaction)
_passage_decoder = msgspec.msgpack.Decoder(Passage)
_half_encoder = msgspec.msgpack.Encoder(enc_hook=encode_secret)
_half_decoder = msgspec.msgpack.Decoder(HalfLogin, dec_hook=decode_secret)


def new_transaction(provider: str, handoff: Handoff | None, *, force: bool, now: float, own: str = "") -> Transaction:
    """With fresh nonce and PKCE verifier (43 characters, RFC 7636 §4.1)."""
    return Transaction(
        provider=provider,
        nonce=b64encode(secrets.token_bytes(32)),
        verifier=b64encode(secrets.token_bytes(32)),
        started=now,
        force=force,
        handoff=handoff,
        own=own,
    )


class PendingLogins:
    """Transactions and one-time codes over a store. Every method may raise UnavailableError(STORE_UNAVAILABLE)."""

    def __init__(self, store: SessionStore, ring: KeyRing, settings: ControlSettings, clock: Clock) -> None:
        self._store = store
        self._ring = ring
        self._settings = settings
        self._clock = clock

    async def begin(self, state: str, transaction: Transaction, *, browser: bytes, client: str) -> None:
        """Remember a login that is about to be sent to its provider. Raises ClientError(LOGIN_TOO_MANY, 429)."""
        key = _hash(state)
        stored = await self._store.put_transaction(
            TransactionRow(
                state_hash=key,
                browser=browser,
                client=capped_by(client),
                expires=transaction.started + self._settings.login_lifetime,
                blob=self._ring.seal("login", _encoder.encode(transaction), key),
            ),
            total=self._settings.pending_logins,
            per_client=self._settings.pending_logins_per_address,
            now=self._clock.now(),
        )
        if not stored:
            raise ClientError(Reason.LOGIN_TOO_MANY, "the table of pending logins is full", status=429)

    async def take(self, state: str, browser: bytes | None) -> Transaction:
        """The login of a state, once, for the browser that began it.

        Raises ClientError with LOGIN_STATE_UNKNOWN, LOGIN_OTHER_BROWSER (which leaves it to the right browser) or
        LOGIN_EXPIRED.
        """
        key = _hash(state)
        row = await self._store.take_transaction(key, browser) if browser is not None else None
        if row is None:
            if await self._store.has_transaction(key):
                raise ClientError(Reason.LOGIN_OTHER_BROWSER, "state of another browser")
            raise ClientError(Reason.LOGIN_STATE_UNKNOWN, "no such login is under way")
        if row.expires <= self._clock.now():
            raise ClientError(Reason.LOGIN_EXPIRED, "the login took too long")
        return self._open("login", row.blob, key, _transaction_decoder)

    async def keep(self, half: HalfLogin, *, browser: bytes, client: str, name: str = "") -> str:
        """Remember half a login under a new name (256 bits), or the one it had. Raises ClientError(LOGIN_TOO_MANY)."""
        name = name or b64encode(secrets.token_bytes(32))
        key = _half(name)
        stored = await self._store.put_transaction(
            TransactionRow(
                state_hash=key,
                browser=browser,
                client=capped_by(client),
                expires=half.expires,
                blob=self._ring.seal("half-login", _half_encoder.encode(half), key),
            ),
            total=self._settings.pending_logins,
            per_client=self._settings.pending_logins_per_address,
            now=self._clock.now(),
        )
        if not stored:
            raise ClientError(Reason.LOGIN_TOO_MANY, "the table of pending logins is full", status=429)
        return name

    async def half(self, name: str, browser: bytes | None) -> HalfLogin:
        """Half a login of this browser; it stays. Raises as `take_half`."""
        key = _half(name)
        row = await self._store.transaction(key, browser) if browser is not None else None
        return await self._opened_half(key, row)

    async def take_half(self, name: str, browser: bytes | None) -> HalfLogin:
        """Half a login of this browser, once: of any number of callers exactly one gets it.

        Raises ClientError with LOGIN_STATE_UNKNOWN, LOGIN_OTHER_BROWSER or LOGIN_EXPIRED.
        """
        key = _half(name)
        row = await self._store.take_transaction(key, browser) if browser is not None else None
        return await self._opened_half(key, row)

    async def _opened_half(self, key: bytes, row: TransactionRow | None) -> HalfLogin:
        if row is None:
            if await self._store.has_transaction(key):
                raise ClientError(Reason.LOGIN_OTHER_BROWSER, "half a login of another browser")
            raise ClientError(Reason.LOGIN_STATE_UNKNOWN, "no such half of a login is under way")
        if row.expires <= self._clock.now():
            raise ClientError(Reason.LOGIN_EXPIRED, "the login took too long")
        return self._open("half-login", row.blob, key, _half_decoder)

    async def issue_code(self, passage: Passage) -> str:
        """A one-time code (256 bits) that carries a login to an app's host."""
        code = b64encode(secrets.token_bytes(32))
        key = _hash(code)
        blob = self._ring.seal("code", _encoder.encode(passage), key)
        await self._store.put_code(CodeRow(key, self._clock.now() + self._settings.code_lifetime, blob))
        return code

    async def redeem(self, code: str, *, host: str, binder: bytes | None, also: bytes | None = None) -> Passage:
        """What the code stands for, if it comes to its host in its browser. Any attempt uses it up.

        `binder` and `also` are what the browser shows of itself: SHA-256 of its login cookie, and of its session cookie
        (hand-offs of a step-up). For an unlock the caller holds the session itself against the code's:
        its cookie may be a newer one by now, after another step-up in the same browser.

        Raises ClientError with LOGIN_EXPIRED (too old, used or unknown) or LOGIN_OTHER_BROWSER.
        """
        key = _hash(code)
        row = await self._store.take_code(key)
        if row is None or row.expires <= self._clock.now():
            raise ClientError(Reason.LOGIN_EXPIRED, "the code was used, is too old or was never issued")
        passage = self._open("code", row.blob, key, _passage_decoder)
        if passage.host != host:
            raise ClientError(Reason.LOGIN_EXPIRED, "the code is for another host")
        if passage.unlock is not None:
            return passage
        shown = [each for each in (binder, also) if each is not None]
        if not shown:
            raise ClientError(Reason.LOGIN_OTHER_BROWSER, "the login cookie was not returned")
        if not any(hmac.compare_digest(each, passage.binder) for each in shown):
            raise ClientError(Reason.LOGIN_OTHER_BROWSER, "the login cookie is of another browser or newer")
        return passage

    def _open(self, purpose: str, blob: bytes, key: bytes, decoder: "msgspec.msgpack.Decoder[_T]") -> _T:
        try:
            return decoder.decode(self._ring.open(purpose, blob, key))
        except ValueError as error:
            raise ClientError(Reason.LOGIN_STATE_UNKNOWN, "sealed record does not open") from error


def capped_by(client: str) -> str:
    """The unit in which addresses are counted: an IPv4 address, or the /64 that one IPv6 user owns whole."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client[:64]
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def _half(name: str) -> bytes:
    """No state of a transaction has the same key."""
    return _hash("half\x1f" + name)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
