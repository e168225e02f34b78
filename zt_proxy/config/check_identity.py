"""Providers: who vouches for people."""

import re

from zt_proxy.config import names
from zt_proxy.config.certificates import check_authorities
from zt_proxy.config.check import Checking
from zt_proxy.config.problems import Mark
from zt_proxy.config.schema_base import Model
from zt_proxy.config.schema_identity import Levels, Provider
from zt_proxy.core.session import Level

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
"""What names of providers, routes and listeners look like: they appear in URLs, metrics and records."""

_KNOWLEDGE = frozenset(("pwd", "pin", "kba"))
"""Methods of RFC 8176 that a person only knows: the first factor, whatever else there is."""


def check(checking: Checking) -> None:
    identity = checking.schema.identity
    if not identity.providers and identity.complete("providers"):
        checking.problems.error(identity.at("providers"), "`providers` is empty: nobody could sign in")
    for name, provider in identity.providers.items():
        if not NAME.fullmatch(name):
            checking.problems.error(
                identity.at("providers", name), f"`{name}` is no name", "lower-case letters, digits, `-` and `_`"
            )
        _provider(checking, name, provider)
    if len(identity.providers) > 1:
        checking.problems.warning(
            identity.at("providers"),
            "several providers: each can vouch for any user, address and group, and rules do not tell them apart",
        )


def _provider(checking: Checking, name: str, provider: Provider) -> None:
    problems = checking.problems
    _issuer(checking, provider)
    _secret(checking, provider)
    checking.not_zero(provider)
    if not provider.client_id.strip():
        problems.error(provider.at("client_id"), "`client_id` is empty")
    if "openid" not in provider.scopes and provider.complete("scopes"):
        problems.error(provider.at("scopes"), "`scopes` lacks `openid`, without which there is no ID token")
    if not provider.algorithms and provider.complete("algorithms"):
        problems.error(provider.at("algorithms"), "`algorithms` is empty: no ID token could be accepted")
    if provider.insecure_no_mfa:
        problems.warning(
            provider.at("insecure_no_mfa"), f"people of `{name}` get in without a second factor (insecure_no_mfa)"
        )
    elif _nothing_counts(provider):
        key = "amr" if provider.amr is not None else "amr_values"
        problems.error(provider.at(key), "nothing would count as a second factor", "`acr` or `amr`")
    _factors(checking, provider)
    if provider.ca is not None:
        checking.attempt(provider.at("ca"), check_authorities, checking.path(provider.ca))


def _nothing_counts(provider: Provider) -> bool:
    """Whether the operator's own lists leave no value that attests two factors."""
    keys = ("acr", "acr_values", "amr", "amr_values")
    if (provider.amr is None and provider.amr_values is None) or not all(map(provider.complete, keys)):
        return False
    levels = [each for each in (provider.acr, provider.amr) if each is not None]
    return not (
        provider.acr_values or provider.amr_values or any(each.multi or each.phishing_resistant for each in levels)
    )


def _factors(checking: Checking, provider: Provider) -> None:
    """Values that say nothing, say two things, or would count as a second factor although they are none."""
    for claim, levels, short in (
        ("acr", provider.acr, provider.acr_values),
        ("amr", provider.amr or Levels(), provider.amr_values or []),
    ):
        listed: list[tuple[Model, str, Level, list[str]]] = [(provider, claim + "_values", Level.MULTI, short)]
        listed += [(levels, key, level, values) for key, (level, values) in levels.by_level().items()]
        seen: set[str] = set()
        for model, key, level, values in listed:
            for index, value in enumerate(values):
                _value(checking, model.at(key, index), key if model is provider else claim, level, value)
                if value in seen:
                    checking.problems.error(model.at(key, index), f"`{value}` of `{claim}` stands twice", "one level")
                seen.add(value)


def _value(checking: Checking, at: Mark | None, key: str, level: Level, value: str) -> None:
    if not value or any(letter.isspace() for letter in value):
        checking.problems.error(at, f"`{value}` is no value of `{key}`")
    if key.startswith("amr") and value in _KNOWLEDGE and level >= Level.MULTI:
        checking.problems.error(at, f"`{value}` alone is no second factor", "`insecure_no_mfa: true`, to ask for none")


def _issuer(checking: Checking, provider: Provider) -> None:
    at = provider.at("issuer")
    read = checking.attempt(at, names.issuer, provider.issuer)
    if read is None:
        return
    scheme, host = read
    if scheme == "http" and not names.is_loopback(host):
        checking.problems.error(at, f"`{provider.issuer}` is not https", "`https://…`")
    elif scheme == "http" and not provider.insecure_http:
        checking.problems.error(at, f"`{provider.issuer}` is not https", "`https://…`, or `insecure_http: true`")
    elif scheme == "http":
        checking.problems.warning(provider.at("insecure_http"), "the provider is asked without TLS (insecure_http)")
    elif provider.insecure_http:
        checking.problems.warning(provider.at("insecure_http"), "`insecure_http` is not needed: the issuer is https")


def _secret(checking: Checking, provider: Provider) -> None:
    if provider.client_secret is not None:
        checking.secret(provider.at("client_secret"), provider.client_secret, "the client secret")
        if provider.client_auth == "none":
            checking.problems.error(provider.at("client_auth"), "`client_auth: none` with a `client_secret`", "either")
    elif provider.client_auth != "none" and not provider.damaged:
        checking.problems.error(
            provider.start, "`client_secret` is missing", "`${env:NAME}` or `${file:PATH}`, or `client_auth: none`"
        )
