"""One-time passwords (RFC 6238): SHA-1, six digits, thirty seconds, as every authenticator app knows them."""

import hmac
import re
import secrets
from base64 import b32encode

from zt_proxy.control.factors.types import NewTotp

STEP = 30
"""Seconds for which a code is shown."""
WINDOW = 1
"""Steps by which a phone's clock may be off, either way (RFC 6238 §5.2)."""
SECRET_BYTES = 20
"""RFC 4226 §4 R6 asks for 128 bits and recommends 160."""
_CODE = re.compile(r"[0-9]{6}", re.ASCII)


def new_secret() -> str:
    """Base32, 32 characters."""
    return b32encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")


def code_in(text: str) -> str | None:
    """The six digits in what was typed, spaces left out; None if it is no such code."""
    digits = "".join(text.split())
    return digits if _CODE.fullmatch(digits) else None


def step_of(secret: str, code: str, now: float) -> int | None:
    """The step whose code this is, of those that count at `now`, the newest first; None for a wrong code."""
    import pyotp

    otp = pyotp.TOTP(secret)
    current = int(now) // STEP
    found: int | None = None
    for step in range(max(0, current - WINDOW), current + WINDOW + 1):
        if hmac.compare_digest(otp.generate_otp(step), code):  # each of them, so that the time tells nothing
            found = step
    return found


def present(token: str, secret: str, account: str, issuer: str) -> NewTotp:
    """Everything the enrolment page shows. `account` and `issuer` are what the app will call it."""
    import pyotp
    import segno

    uri = pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)
    svg = segno.make(uri, error="m", micro=False).svg_inline(
        scale=5, border=4, dark="#000", light="#fff", omitsize=True, svgclass="qr", lineclass=None
    )
    grouped = " ".join(secret[first : first + 4] for first in range(0, len(secret), 4))
    return NewTotp(token, grouped, uri, svg)
