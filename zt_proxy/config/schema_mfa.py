"""The second factor: who vouches for it, and the proxy's own."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import Literal

from zt_proxy.config.schema_base import Model

Word = Literal["provider", "passkey", "totp"]


class Passkeys(Model):
    """Which passkeys may be added. Those of people who have them go on working."""

    aaguids: list[str] = []
    """Makes of authenticators (AAGUIDs) that may be added; left out: all. With it browsers ask people whether they want
    to tell the make."""
    attestation_ca: str | None = None
    """PEM file of the makers' attestation authorities, one of which has to vouch for the AAGUID. Left out: an
    authenticator is believed what it says it is."""


class Mfa(Model):
    """The second factor that everybody shows. People of a provider with `insecure_no_mfa` are not asked for it at
    the sign-in; nothing else switches it off."""

    required: Literal[True] = True
    """Always; `insecure_no_mfa` on a provider is the only way out."""
    accept: list[Word] = ["provider", "passkey", "totp"]
    """Whose word counts: the provider's (`acr`, `amr`), and factors of the proxy's own, which people without the former
    enrol on the portal. With passkeys or one-time passwords come recovery codes."""
    level: Literal["single", "multi", "phishing-resistant"] = "multi"
    """What a sign-in proves at least. What the provider attests is not asked for again."""
    enrolment: Literal["open", "grant"] = "open"
    """`grant`: a factor is added only after `zt-proxy factors grant USER`; each grant is good for one."""
    passkeys: Passkeys = Passkeys()
    """Which passkeys may be added."""
