"""Okta: predefined values of acr; groups by a scope. Its authorization server wants assertions made for an endpoint."""

from collections.abc import Mapping

from zt_proxy.control.identity.presets.base import Preset
from zt_proxy.core.session import Level


def _issuer(given: Mapping[str, str]) -> str:
    domain = given["domain"].lower()
    if "/" in domain or "." not in domain or "-admin." in domain:
        raise ValueError(f"`{given['domain']}` is no Okta domain such as `acme.okta.com`")
    return f"https://{domain}"


PRESET = Preset(
    "okta",
    keys=("domain",),
    derive=_issuer,
    scopes=("openid", "profile", "email", "groups"),
    acr={
        "urn:okta:loa:1fa:any": Level.SINGLE,
        "urn:okta:loa:1fa:pwd": Level.SINGLE,
        "urn:okta:loa:2fa:any": Level.MULTI,
        "phr": Level.PHISHING_RESISTANT,
        "phrh": Level.PHISHING_RESISTANT,
    },
    one_acr_value=True,
    assertion_audience="token-endpoint",
    sends_iss=False,
)
