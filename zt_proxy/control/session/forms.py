"""Forms that wait until their sender has proven who they are: kept sealed, given out once.

    keep ─► name (in the hand-off) ─(proof)─► release ─► token (in a page at the app's host) ─► take ─► the form

Name and token are good once, and only in the session that sent the form, for the host and target it was sent to. The
store has their hashes; what somebody wrote is sealed.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterable

import msgspec

from zt_proxy.control.session.store import FormRow, SessionStore
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.keys import KeyRing, b64encode
from zt_proxy.link.proofs import KeptForm

LIFETIME = 600.0
"""Seconds that a form waits, and again that its token does: as long as a hand-off is good."""
TOTAL = 64 * 1024 * 1024
"""Bytes of all forms."""
HELD = 32 * 1024 * 1024
"""Bytes of forms that are on their way into the store."""
HELD_EACH = 8 * 1024 * 1024
"""The same of one session, so that nobody who sends slowly keeps others from being kept: one of the largest form."""
EACH = 16 * 1024 * 1024
"""Bytes of the forms of one session; its oldest give way."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(KeptForm)


class KeptForms:
    """Over the session store. Every method may raise UnavailableError(STORE_UNAVAILABLE)."""

    def __init__(self, store: SessionStore, ring: KeyRing, clock: Clock) -> None:
        self._store = store
        self._ring = ring
        self._clock = clock
        self._held: Counter[str] = Counter()

    async def read(self, sid: str, pieces: AsyncIterable[bytes], limit: int) -> bytes:
        """A form of this session as it comes; it counts as held until it is kept.

        Raises ClientError(BODY_TOO_LARGE, 413), UnavailableError(FORM_NOT_KEPT) while too many others come.
        """
        body = bytearray()
        try:
            async for piece in pieces:
                body += piece
                self._hold(sid, len(piece))
                if len(body) > limit:
                    raise ClientError(Reason.BODY_TOO_LARGE, "the form is larger than what is kept", status=413)
                if self._held[sid] > HELD_EACH or self._held.total() > HELD:
                    raise UnavailableError(Reason.FORM_NOT_KEPT, "too many forms come at once")
        except BaseException:
            self._hold(sid, -len(body))
            raise
        return bytes(body)

    async def keep(self, sid: str, host: str, target: str, form: KeptForm) -> str:
        """Keep a form that was `read`; gives the name under which `release` finds it.

        Raises UnavailableError(FORM_NOT_KEPT).
        """
        try:
            return await self._keep(sid, host, target, form)
        finally:
            self._hold(sid, -len(form.body))

    def _hold(self, sid: str, size: int) -> None:
        self._held[sid] += size
        if not self._held[sid]:
            del self._held[sid]

    async def _keep(self, sid: str, host: str, target: str, form: KeptForm) -> str:
        name, place, now = _fresh(), _place(host, target), self._clock.now()
        blob = self._ring.seal("form", _encoder.encode(form), _bound(sid, place))
        row = FormRow(_hash(name), sid, place, now + LIFETIME, blob)
        if not await self._store.put_form(row, total=TOTAL, each=EACH, now=now):
            raise UnavailableError(Reason.FORM_NOT_KEPT, "there is no room, or the session is over")
        return name

    async def release(self, sid: str, name: str, host: str, target: str) -> str | None:
        """The person has proven enough: a token that `take` gives the form for. None if no such form waits."""
        token, now = _fresh(), self._clock.now()
        found = await self._store.release_form(
            _hash(name), sid, _place(host, target), _hash(token), now=now, expires=now + LIFETIME
        )
        return token if found else None

    async def take(self, sid: str, token: str, host: str, target: str) -> KeptForm | None:
        """The form of a token, once."""
        place = _place(host, target)
        blob = await self._store.take_form(_hash(token), sid, place, self._clock.now())
        if blob is None:
            return None
        try:
            return _decoder.decode(self._ring.open("form", blob, _bound(sid, place)))
        except (ValueError, msgspec.MsgspecError):
            return None  # sealed under a key that is gone


def _fresh() -> str:
    """256 bits, 43 characters."""
    return b64encode(secrets.token_bytes(32))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _place(host: str, target: str) -> bytes:
    return hashlib.sha256(f"{host}\n{target}".encode("utf-8", "surrogateescape")).digest()


def _bound(sid: str, place: bytes) -> bytes:
    return sid.encode() + b"\n" + place
