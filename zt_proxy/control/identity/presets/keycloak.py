"""Keycloak: one issuer for each realm; realm roles in a claim of their own."""

from collections.abc import Mapping

from zt_proxy.control.identity.presets.base import Claims, Preset


def _issuer(given: Mapping[str, str]) -> str:
    if "/" in given["realm"] or given["realm"] != given["realm"].strip():
        raise ValueError(f"`{given['realm']}` is no realm: write its name alone")
    return f"{given['url'].rstrip('/')}/realms/{given['realm']}"


def _roles(claims: Claims) -> object:
    """Of the realm (`realm_access.roles`, where a mapper puts it into ID tokens), or of a flat claim `roles`."""
    realm = claims.get("realm_access")
    return realm["roles"] if isinstance(realm, dict) and "roles" in realm else claims.get("roles")


PRESET = Preset("keycloak", keys=("url", "realm"), derive=_issuer, roles=_roles)
