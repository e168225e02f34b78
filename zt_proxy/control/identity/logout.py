"""A provider says that a session is over: OpenID Connect Back-Channel Logout 1.0, and what is remembered of it.

A sign-in may be on its way while its end is announced: the session that it makes a moment later must not live. So what
was announced is remembered for as long as a login can take, and `Logouts.concerns` asks whether a login is older.
"""

from collections.abc import Mapping
from typing import Any

from zt_proxy.control.identity.claims import check_time
from zt_proxy.control.identity.strict import parse_object, printable, string_list
from zt_proxy.control.identity.types import LogoutNotice, VerifiedLogin
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import SKEW, Clock
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.keys import b64decode

EVENT = "http://schemas.openid.net/event/backchannel-logout"
MAX_TOKEN = 16 * 1024
"""Characters: a logout token names a session and nothing else."""
MAX_AGE = 300.0
"""Seconds since `iat`: providers send the token at once, and again within seconds (§2.5 recommends two minutes)."""
KEPT = 3_600.0
"""Seconds for which an announcement is remembered: longer than a login that was begun can take."""
REMEMBERED = 50_000
"""Announcements and used tokens, each. Only the provider's own signature adds one; the oldest goes first."""


def logout_error(detail: str) -> ClientError:
    """`detail` must not quote the token."""
    return ClientError(Reason.LOGOUT_TOKEN_INVALID, detail)


def claimed_issuer(token: str) -> str:
    """The `iss` of a token that nobody has verified yet: chooses the provider whose keys must verify it.

    Raises ClientError(LOGOUT_TOKEN_INVALID).
    """
    parts = token.split(".", 5)
    if len(token) > MAX_TOKEN or len(parts) != 3:
        raise logout_error("not a compact JWS of acceptable size")
    try:
        issuer = parse_object(b64decode(parts[1])).get("iss")
    except ValueError:
        raise logout_error("payload is not base64url of a JSON object") from None
    if not isinstance(issuer, str):
        raise logout_error("no iss")
    return issuer


def read_logout(claims: Mapping[str, Any], settings: ProviderSettings, now: float) -> LogoutNotice:
    """Judge the verified claims of a logout token (§2.6). Raises ClientError(LOGOUT_TOKEN_INVALID), or ProviderError
    for a time that is none."""
    if claims.get("iss") != settings.issuer:
        raise logout_error("iss is not the configured issuer")
    aud = claims.get("aud")
    if settings.client_id not in ([aud] if isinstance(aud, str) else string_list(aud) or []):
        raise logout_error("aud does not name this client")
    if "nonce" in claims:  # §2.4: so that no ID token is ever taken for a logout token
        raise logout_error("has a nonce")
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise logout_error("events does not say that it is a logout")
    issued, expires = check_time(claims, "iat"), check_time(claims, "exp")
    if issued is None or expires is None:
        raise logout_error("iat or exp is missing")
    if now >= expires + SKEW or issued < now - MAX_AGE - SKEW:
        raise logout_error("expired, or issued too long ago")
    if issued > now + SKEW:
        raise logout_error("from the future; compare the clocks of proxy and provider")
    token_id = printable(claims.get("jti"), 255)
    if token_id is None:
        raise logout_error("jti is not a printable string of at most 255 characters")
    named: dict[str, str | None] = {}
    for name in ("sub", "sid"):
        named[name] = printable(claims.get(name), 255)
        if name in claims and named[name] is None:
            raise logout_error(f"{name} is not a printable string of at most 255 characters")
    if named["sub"] is None and named["sid"] is None:
        raise logout_error("names neither a session nor a person")
    return LogoutNotice(
        issuer=settings.issuer,
        sid=named["sid"],
        subject=named["sub"],
        issued=issued,
        token_id=token_id,
        expires=expires,
    )


class _Recent:
    """Keys with a time, each until `until`; bounded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[tuple[str, ...], tuple[float, float]] = {}

    def put(self, key: tuple[str, ...], value: float, until: float) -> None:
        self._entries.pop(key, None)
        while len(self._entries) >= REMEMBERED:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (value, until)

    def get(self, key: tuple[str, ...]) -> float | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock.now():
            del self._entries[key]
            return None
        return entry[0]

    def drop(self, key: tuple[str, ...]) -> None:
        self._entries.pop(key, None)


class Logouts:
    """What providers announced lately, by session and by person; and which tokens were used.

    In memory: a token that is replayed after a restart ends nothing that began after it (`issued`), so it does no harm.
    """

    def __init__(self, clock: Clock) -> None:
        self.kept = KEPT
        self._clock = clock
        self._announced = _Recent(clock)
        self._used = _Recent(clock)
        self._shown = _Recent(clock)
        """Ends in the front channel. Anybody can add one, so that they are kept apart from the signed ones."""

    def take(self, notice: LogoutNotice) -> None:
        """Use a token, and remember what it says. Raises ClientError(LOGOUT_TOKEN_INVALID) the second time."""
        used = (notice.issuer, notice.token_id)
        if self._used.get(used) is not None:
            raise logout_error("this token was used before")
        self._used.put(used, notice.issued, notice.expires + 2 * SKEW)
        until = self._clock.now() + self.kept
        for key in _of_notice(notice):
            self._announced.put(key, max(notice.issued, self._announced.get(key) or 0.0), until)

    def give_back(self, notice: LogoutNotice) -> None:
        """What the token asked for could not be made durable: its provider may send it again."""
        self._used.drop((notice.issuer, notice.token_id))

    def show(self, issuer: str, sid: str) -> None:
        """A frame named this session just now: what its provider attested before goes no further either."""
        now = self._clock.now()
        self._shown.put(("sid", issuer, sid), now, now + self.kept)

    def concerns(self, login: VerifiedLogin) -> bool:
        """The provider ended this login after it attested it; of two things in one second the end is believed."""
        times = (known.get(key) for key in _of_login(login) for known in (self._announced, self._shown))
        return any(time is not None and login.issued <= time for time in times)


def _of_notice(notice: LogoutNotice) -> list[tuple[str, ...]]:
    keys: list[tuple[str, ...]] = []
    if notice.sid is not None:
        keys.append(("sid", notice.issuer, notice.sid))
    if notice.subject is not None:
        keys.append(("all of" if notice.sid is None else "nameless of", notice.issuer, notice.subject))
    return keys


def _of_login(login: VerifiedLogin) -> list[tuple[str, ...]]:
    who = login.principal
    if login.provider_sid is not None:
        return [("sid", who.issuer, login.provider_sid), ("all of", who.issuer, who.subject)]
    # Which of the person's sessions the provider meant cannot be told: each may be the one.
    return [(kind, who.issuer, who.subject) for kind in ("all of", "nameless of")]
