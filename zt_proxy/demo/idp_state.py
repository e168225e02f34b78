"""What the demo provider remembers, all of it in memory: sign-ins under way, browser sessions, codes and tokens."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from zt_proxy.core.clock import Clock
from zt_proxy.demo.people import ACR_MFA, ACR_ONE_FACTOR, Person

CODE_LIFETIME = 60.0
TOKEN_LIFETIME = 3600.0
SIGN_IN_LIFETIME = 600.0
SESSION_LIFETIME = 8 * 3600.0
CAPACITY = 10_000


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Client:
    """A relying party known to the provider. The method names are authlib's `ClientMixin` (RFC 6749 §2)."""

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...] = ()
    algorithm: str = "ES256"
    refresh: bool = False
    """It gets refresh tokens."""
    backchannel_logout_uri: str = ""
    frontchannel_logout_uri: str = ""

    @property
    def id_token_signed_response_alg(self) -> str:
        """The algorithm that authlib signs this client's ID tokens with."""
        return self.algorithm

    @property
    def client_metadata(self) -> dict[str, object]:
        """The part of the registration that authlib's logout and userinfo endpoints read."""
        return {"post_logout_redirect_uris": list(self.post_logout_redirect_uris)}

    def get_client_id(self) -> str:
        """The `client_id`."""
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        """None: a request must name its redirect URI."""
        return

    def get_allowed_scope(self, scope: str | None) -> str:
        """The part of the asked scopes that the provider knows."""
        return " ".join(word for word in (scope or "").split() if word in SCOPES)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Exact match only (RFC 9700 §2.1)."""
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        """Compared in constant time."""
        return secrets.compare_digest(self.client_secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Only with the secret, in the header or in the form."""
        return method in ("client_secret_basic", "client_secret_post")

    def check_response_type(self, response_type: str) -> bool:
        """Only the code flow."""
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        """Codes, and refresh tokens where they are registered."""
        return grant_type == "authorization_code" or (self.refresh and grant_type == "refresh_token")


SCOPES = ("openid", "profile", "email", "groups", "offline_access")


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A person signed in at the provider with one browser. `auth_time` is Unix seconds."""

    sid: str
    person: Person
    auth_time: int
    amr: tuple[str, ...]
    clients: set[str] = field(default_factory=set, compare=False)
    """Who was told of this session: they are told of its end."""

    @property
    def acr(self) -> str:
        """The level that `amr` amounts to."""
        return ACR_MFA if "otp" in self.amr else ACR_ONE_FACTOR


@dataclass(slots=True)
class SignIn:
    """One sign-in under way: the authorization request it belongs to, the browser, and how far it came."""

    query: tuple[tuple[str, str], ...]
    browser: str
    person: Person | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code with all that its ID token will say. Method names: authlib's `AuthorizationCodeMixin`."""

    value: str
    client_id: str
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str
    code_challenge_method: str
    session: BrowserSession

    def get_redirect_uri(self) -> str:
        """The redirect URI that the token request must repeat."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """The granted scopes, separated by blanks."""
        return self.scope

    def get_nonce(self) -> str | None:
        """The nonce of the authorization request."""
        return self.nonce

    def get_auth_time(self) -> int:
        """When the person typed their credentials, in Unix seconds."""
        return self.session.auth_time

    def get_acr(self) -> str:
        """The level reached."""
        return self.session.acr

    def get_amr(self) -> list[str]:
        """The methods used (RFC 8176)."""
        return list(self.session.amr)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One of a family, of which only the last counts (RFC 9700 §4.14.2). Method names: authlib's `TokenMixin`, and what
    an ID token is made from."""

    family: str
    client_id: str
    scope: str
    session: BrowserSession

    def check_client(self, client: Client) -> bool:
        """It was given to this client."""
        return self.client_id == client.client_id

    def get_scope(self) -> str:
        """The granted scopes, separated by blanks."""
        return self.scope

    def get_nonce(self) -> None:
        """None: there is no authorization request (OpenID Connect Core §12.2)."""
        return

    def get_auth_time(self) -> int:
        """When the person typed their credentials: long ago, whatever is refreshed."""
        return self.session.auth_time

    def get_acr(self) -> str:
        """The level reached then."""
        return self.session.acr

    def get_amr(self) -> list[str]:
        """The methods used then."""
        return list(self.session.amr)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token for the userinfo endpoint. Method names: authlib's `TokenMixin`. The shelf drops it when it expires."""

    person: Person
    scope: str

    def is_expired(self) -> bool:
        """False: expired tokens are not on the shelf any more."""
        return False

    def is_revoked(self) -> bool:
        """False: a revoked token is taken off the shelf."""
        return False

    def get_scope(self) -> str:
        """The granted scopes."""
        return self.scope


class Shelf(Generic[T]):
    """Things under unguessable names, each for a limited time, the oldest giving way when there are too many."""

    def __init__(self, lifetime: float, clock: Clock) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._things: dict[str, tuple[float, T]] = {}

    def put(self, thing: T, name: str | None = None) -> str:
        """Keep `thing`; gives the name under which it is found."""
        name = name or secrets.token_urlsafe(32)
        if len(self._things) >= CAPACITY:
            del self._things[next(iter(self._things))]
        self._things[name] = (self._clock.now() + self._lifetime, thing)
        return name

    def get(self, name: str | None) -> T | None:
        """The thing of that name, or None when it is unknown or its time is over."""
        entry = self._things.get(name or "")
        if entry is None:
            return None
        if entry[0] <= self._clock.now():
            del self._things[name or ""]
            return None
        return entry[1]

    def pop(self, name: str | None) -> T | None:
        """Like `get`, and the thing is gone afterwards."""
        thing = self.get(name)
        self._things.pop(name or "", None)
        return thing


class ProviderState:
    """Everything the provider remembers."""

    def __init__(self, people: Iterable[Person], clients: Iterable[Client], clock: Clock) -> None:
        self.clock = clock
        self.people = {person.username: person for person in people}
        self.clients = {client.client_id: client for client in clients}
        self.sign_ins: Shelf[SignIn] = Shelf(SIGN_IN_LIFETIME, clock)
        self.sessions: Shelf[BrowserSession] = Shelf(SESSION_LIFETIME, clock)
        self.codes: Shelf[Code] = Shelf(CODE_LIFETIME, clock)
        self.tokens: Shelf[AccessToken] = Shelf(TOKEN_LIFETIME, clock)
        self.refresh_tokens: Shelf[RefreshToken] = Shelf(SESSION_LIFETIME, clock)
        self.families: Shelf[str] = Shelf(SESSION_LIFETIME, clock)
        """Family of refresh tokens → the one that counts."""
        self.ended: list[BrowserSession] = []
        """Sessions whose clients are still to be told."""

    def refresh_token(self, value: str) -> RefreshToken | None:
        """The token, if it is the last of its family and its session lives. Any other ends the family: two have it."""
        token = self.refresh_tokens.get(value)
        if token is None:
            return None
        if self.families.get(token.family) != value or self.sessions.get(token.session.sid) is None:
            self.families.pop(token.family)
            return None
        return token

    def keep_refresh_token(self, value: str, token: RefreshToken) -> None:
        """From now on this is the one of its family."""
        self.refresh_tokens.put(token, value)
        self.families.pop(token.family)
        self.families.put(value, token.family)

    def end(self, sid: str | None) -> None:
        """End a session, if there is one."""
        session = self.sessions.pop(sid)
        if session is not None:
            self.ended.append(session)
