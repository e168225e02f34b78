"""Google Workspace: one issuer for everybody, so the domain makes the difference. It attests no second factor."""

from collections.abc import Mapping

from zt_proxy.control.identity.presets.base import Claims, Preset, refused

ISSUER = "https://accounts.google.com"


def _check(claims: Claims, domain: str) -> None:
    """Without `hd` anybody with an account at Google would be let in; an address alone does not prove the domain."""
    if claims.get("hd") != domain:
        raise refused("hd is not the configured domain")
    if claims.get("email_verified") is not True:
        raise refused("email_verified is not true")


def _derive(given: Mapping[str, str]) -> str:
    if "." not in given["domain"] or "@" in given["domain"]:
        raise ValueError(f"`{given['domain']}` is no domain such as `example.com`")
    return ISSUER


def _request(domain: str) -> Mapping[str, str]:
    """Google then offers accounts of the domain; that it is one is checked in the token."""
    return {"hd": domain}


PRESET = Preset(
    "google",
    keys=("domain",),
    checked=True,
    derive=_derive,
    amr={},
    request=_request,
    check=_check,
    directory=lambda _issuer: "https://admin.googleapis.com",
    sends_iss=False,
)
