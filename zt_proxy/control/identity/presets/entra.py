"""Microsoft Entra ID: an issuer for each tenant, authentication contexts for levels, groups that may not fit."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from zt_proxy.control.identity.presets.base import Claims, Preset, refused
from zt_proxy.control.identity.strict import string_list

LOGIN = "https://login.microsoftonline.com"
_TENANT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_GRAPH = {
    "login.microsoftonline.com": "https://graph.microsoft.com",
    "login.microsoftonline.us": "https://graph.microsoft.us",
    "login.partner.microsoftonline.cn": "https://microsoftgraph.chinacloudapi.cn",
}


def _issuer(given: Mapping[str, str]) -> str:
    tenant = given["tenant"].lower()
    if not _TENANT.fullmatch(tenant):
        # A domain, `common` or `organizations` stands for another issuer than the one that tokens carry.
        raise ValueError(f"`{given['tenant']}` is no directory (tenant) ID: 36 characters, on the app's overview page")
    return f"{LOGIN}/{tenant}/v2.0"


def _check(claims: Claims, tenant: str) -> None:
    """The issuer names the tenant already; a token that says two things about it is not believed in either."""
    if claims.get("tid") != tenant:
        raise refused("tid is not the configured tenant")
    if claims.get("ver") != "2.0":
        raise refused("ver is not 2.0")


def _email_is_verified(claims: Claims, email: str) -> bool:
    """Entra's `email` is whatever an administrator of any tenant typed. It counts with the optional claims that say
    that the domain's owner was verified (`xms_edov`), or that list the verified addresses."""
    if claims.get("xms_edov") is True:
        return True
    listed = (string_list(claims.get(name)) or [] for name in ("verified_primary_email", "verified_secondary_email"))
    return any(email.casefold() == one.casefold() for names in listed for one in names)


PRESET = Preset(
    "entra",
    keys=("tenant",),
    checked=True,
    derive=_issuer,
    scopes=("openid", "profile", "email", "User.Read"),
    acr_claim="acrs",
    one_acr_value=True,
    claims_parameter=True,
    always_essential=True,
    assertion_audience="token-endpoint",
    check=_check,
    email_is_verified=_email_is_verified,
    directory=lambda issuer: _GRAPH.get(urlsplit(issuer).hostname or "", ""),
    sends_iss=False,
)
