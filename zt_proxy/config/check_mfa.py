"""The second factor: that it can be shown, and is what it says."""

import uuid

from zt_proxy.config import names
from zt_proxy.config.certificates import check_authorities
from zt_proxy.config.check import Checking
from zt_proxy.config.requirements import LEVELS, floors_of, needs, needs_of
from zt_proxy.config.schema_mfa import Passkeys
from zt_proxy.config.session_presets import floor
from zt_proxy.core.session import Level

_RESISTANT = Level.PHISHING_RESISTANT.word


def check(checking: Checking) -> None:
    mfa, problems = checking.schema.identity.mfa, checking.problems
    if not mfa.accept and mfa.complete("accept"):
        problems.error(
            mfa.at("accept"),
            "`accept` is empty: nobody could show a second factor",
            "some of `provider`, `passkey` and `totp`",
        )
    if mfa.level == Level.SINGLE.word:
        problems.error(
            mfa.at("level"),
            "`single` would ask nobody for a second factor",
            f"`multi` or `{_RESISTANT}`, or `insecure_no_mfa: true` on a provider",
        )
    if "passkey" in mfa.accept:
        _address(checking)
    elif mfa.written("passkeys") and mfa.complete("accept"):
        problems.error(mfa.at("passkeys"), "`passkeys` without `passkey` in `accept`")
    if mfa.accept == ["totp"]:
        _beyond_codes(checking)
    _passkeys(checking, mfa.passkeys)


def _beyond_codes(checking: Checking) -> None:
    """A one-time password can be typed anywhere."""
    problems, schema = checking.problems, checking.schema
    message = f"`{_RESISTANT}` cannot be proven: `identity.mfa.accept` has `totp` alone"
    if schema.identity.mfa.level == _RESISTANT:
        problems.error(schema.identity.mfa.at("level"), message, "`provider` or `passkey` in `accept`")
    elif LEVELS[_RESISTANT] is needs(floor(schema)).level:
        problems.error(schema.identity.mfa.at("accept"), message, "`provider` or `passkey` in `accept`")
    else:
        for route in schema.routes:
            for rule in route.rules:
                if needs_of(rule, floors_of(schema, route)).level is Level.PHISHING_RESISTANT:
                    at = rule.at("require") if rule.written("require") else route.at("require")
                    problems.error(at, message, "`provider` or `passkey` in `accept`")


def _address(checking: Checking) -> None:
    mfa = checking.schema.identity.mfa
    if checking.portal_host and names.is_address(checking.portal_host):
        checking.problems.warning(
            mfa.at("accept"), "browsers have no passkeys for an IP address, and the portal's `url` is one"
        )


def _passkeys(checking: Checking, passkeys: Passkeys) -> None:
    problems = checking.problems
    for index, text in enumerate(passkeys.aaguids):
        try:
            right = str(uuid.UUID(text)) == text.lower()
        except ValueError:
            right = False
        if not right:
            problems.error(
                passkeys.at("aaguids", index), f"`{text}` is no AAGUID", "`xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`"
            )
    if passkeys.attestation_ca is not None:
        checking.attempt(passkeys.at("attestation_ca"), check_authorities, checking.path(passkeys.attestation_ca))
        if not passkeys.aaguids and passkeys.complete("aaguids"):
            problems.error(passkeys.at("attestation_ca"), "`attestation_ca` says nothing without `aaguids`")
    elif passkeys.aaguids:
        problems.warning(passkeys.at("aaguids"), "without `attestation_ca` an authenticator can say it is of any make")
