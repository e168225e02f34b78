"""Verify the X-ZT-Assertion header of zt-proxy. Python 3.11, PyJWT and cryptography; copy this file.

In a WSGI application (Flask: `app.wsgi_app = RequireAssertion(app.wsgi_app, verifier)`):

    verifier = AssertionVerifier(
        jwks_url="https://auth.example.com/.zt/jwks.json",
        issuer="https://auth.example.com",
        audience="builder",
    )
    application = RequireAssertion(application, verifier)

In anything else: `claims = verifier.verify(header_values)`, which raises `AssertionRefused`.

As a server to try it with:  python verify.py --jwks URL --issuer ISS --audience AUD [--ca FILE] [--port 8000]
"""

import argparse
import json
import re
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, make_server

import jwt

HEADER = "X-ZT-Assertion"
LEEWAY = 30  # seconds that the two clocks may differ
MAX_BYTES = 64 * 1024


class AssertionRefused(Exception):
    """The request does not carry exactly one good assertion. Answer 401; the text is for your log alone."""


class KeysUnavailable(Exception):
    """The JWKS could not be fetched, and there is none from before. Answer 503."""


class Jwks:
    """The proxy's public keys: cached as long as the answer allows, fetched early for a key not seen before.

    A stranger can send any `kid`, so an unknown one leads to a fetch at most every `refresh` seconds. Keys stay in use
    for `stale` seconds when the proxy cannot be reached. Both count from the last fetch that worked.
    """

    def __init__(self, url: str, *, ca: str | None = None, refresh: float = 10.0, stale: float = 3600.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("the JWKS must come over https: whoever can change it can be anyone")
        self._url = url
        self._tls = ssl.create_default_context(cafile=ca)
        self._refresh = refresh
        self._stale = stale
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._max_age = 0.0

    def key(self, kid: str) -> jwt.PyJWK:
        """Raises AssertionRefused for an unknown key and KeysUnavailable if there are no keys to ask."""
        with self._lock:
            now = time.monotonic()
            wanted = kid not in self._keys or now - self._fetched > self._max_age
            if wanted and now - self._tried >= self._refresh:
                self._tried = now
                self._fetch(now)
            if now - self._fetched > self._stale:
                raise KeysUnavailable("no JWKS")
            try:
                return self._keys[kid]
            except KeyError:
                raise AssertionRefused("signed with an unknown key") from None

    def _fetch(self, now: float) -> None:
        try:
            with urllib.request.urlopen(self._url, timeout=5, context=self._tls) as response:
                document = json.loads(response.read(MAX_BYTES))
                cache = response.headers.get("Cache-Control", "")
            keys = {}
            for jwk in document["keys"]:
                if jwk.get("kty") == "EC" and jwk.get("crv") == "P-256" and jwk.get("use", "sig") == "sig":
                    keys[jwk["kid"]] = jwt.PyJWK(jwk, algorithm="ES256")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError):
            return  # the keys from before stay, until they are stale
        age = re.search(r"max-age=(\d{1,9})", cache)
        self._max_age = min(max(float(age[1]) if age else 300.0, 60.0), 3600.0)
        self._keys, self._fetched = keys, now


class AssertionVerifier:
    """Checks algorithm, key, signature, issuer, audience and times. One for the whole application; thread-safe."""

    def __init__(self, *, jwks_url: str, issuer: str, audience: str, ca: str | None = None) -> None:
        self._jwks = Jwks(jwks_url, ca=ca)
        self._issuer = issuer
        self._audience = audience

    def verify(self, values: Sequence[str]) -> dict[str, Any]:
        """The claims of the one assertion in `values`: all X-ZT-Assertion headers of the request.

        Raises AssertionRefused or KeysUnavailable.
        """
        if len(values) != 1:
            raise AssertionRefused(f"{len(values)} assertions instead of one")
        token = values[0]
        # Many servers join repeated headers with a comma. A compact JWT has none.
        if len(token) > MAX_BYTES or not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token, re.ASCII):
            raise AssertionRefused("not a compact JWT")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != "ES256" or header.get("typ") != "JWT" or not isinstance(header.get("kid"), str):
                raise AssertionRefused("another kind of token")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._jwks.key(header["kid"]),
                algorithms=["ES256"],  # never taken from the token
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["iss", "aud", "sub", "iat", "nbf", "exp"], "strict_aud": True},
            )
        except jwt.PyJWTError as error:
            raise AssertionRefused(str(error)) from error
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise AssertionRefused("nobody's assertion")
        return claims


class RequireAssertion:
    """WSGI middleware: 401 without a good assertion, else the claims in `environ["zt.claims"]`."""

    def __init__(self, application: Callable[..., Iterable[bytes]], verifier: AssertionVerifier) -> None:
        self._application = application
        self._verifier = verifier

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        value = environ.get("HTTP_X_ZT_ASSERTION")
        try:
            claims = self._verifier.verify([] if value is None else [value])
        except AssertionRefused as refused:
            print(f"refused: {refused}", file=environ["wsgi.errors"])
            return _plain(start_response, "401 Unauthorized")
        except KeysUnavailable as missing:
            print(f"cannot verify: {missing}", file=environ["wsgi.errors"])
            return _plain(start_response, "503 Service Unavailable")
        environ["zt.claims"] = claims
        environ["REMOTE_USER"] = claims["sub"]
        return self._application(environ, start_response)


def _plain(start_response: Callable[..., Any], status: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain"), ("Cache-Control", "no-store")])
    return [status.encode() + b"\n"]


def whoami(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """A small application: who you are."""
    start_response("200 OK", [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
    return [json.dumps(environ["zt.claims"]).encode() + b"\n"]


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """No line per request."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve / to whoever brings a good assertion.")
    parser.add_argument("--jwks", required=True)
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--audience", required=True)
    parser.add_argument("--ca", help="certificates to trust for the JWKS, in PEM")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    verifier = AssertionVerifier(jwks_url=given.jwks, issuer=given.issuer, audience=given.audience, ca=given.ca)
    with make_server("127.0.0.1", given.port, RequireAssertion(whoami, verifier), handler_class=_Quiet) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
