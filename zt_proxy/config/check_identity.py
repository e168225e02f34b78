"""Providers: who vouches for people."""

import re

from zt_proxy.config import names
from zt_proxy.config.build_identity import client_auth, issuer_of, levels
from zt_proxy.config.certificates import check_authorities, read_leaf, read_public_key
from zt_proxy.config.check import Checking
from zt_proxy.config.problems import Mark
from zt_proxy.config.schema_base import Model
from zt_proxy.config.schema_identity import ClientKey, Levels, Provider
from zt_proxy.control.identity.client_auth import load_client_key
from zt_proxy.control.identity.presets import PRESETS
from zt_proxy.control.identity.service_account import load_service_account
from zt_proxy.control.settings import ClientKeySettings
from zt_proxy.core.errors import ConfigurationError
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
        if len(identity.providers) > 1 and provider.callback != "own" and not PRESETS[provider.preset].sends_iss:
            checking.problems.error(
                provider.start,
                f"`{name}` is one of several providers, and its answers do not say that they are its own (RFC 9207)",
                f"`callback: own`, and the redirect URI `/.zt/callback?provider={name}` there",
            )
    open_ones = [name for name, provider in identity.providers.items() if not provider.domains]
    if len(identity.providers) > 1 and open_ones:
        checking.problems.warning(
            identity.at("providers"),
            f"several providers, and `{open_ones[0]}` without `domains`: it can vouch for any address that is not in "
            "another's",
        )


def _provider(checking: Checking, name: str, provider: Provider) -> None:
    problems = checking.problems
    _issuer(checking, provider)
    _secret(checking, provider)
    checking.not_zero(provider)
    if not provider.client_id.strip():
        problems.error(provider.at("client_id"), "`client_id` is empty")
    if provider.scopes is not None and "openid" not in provider.scopes and provider.complete("scopes"):
        problems.error(provider.at("scopes"), "`scopes` lacks `openid`, without which there is no ID token")
    if not provider.algorithms and provider.complete("algorithms"):
        problems.error(provider.at("algorithms"), "`algorithms` is empty: no ID token could be accepted")
    if provider.insecure_no_mfa:
        problems.warning(
            provider.at("insecure_no_mfa"), f"people of `{name}` get in without a second factor (insecure_no_mfa)"
        )
    elif _nothing_counts(provider) and not {"passkey", "totp"} & set(checking.schema.identity.mfa.accept):
        key = next((key for key in ("amr", "amr_values") if provider.written(key)), "preset")
        problems.error(
            provider.at(key), "nothing would count as a second factor", "`acr` or `amr`, or own factors in `mfa.accept`"
        )
    _factors(checking, provider)
    _people(checking, name, provider)
    if provider.ca is not None:
        checking.attempt(provider.at("ca"), check_authorities, checking.path(provider.ca))


def _nothing_counts(provider: Provider) -> bool:
    """Whether no value that the provider could send attests two factors."""
    if not all(map(provider.complete, ("acr", "acr_values", "amr", "amr_values"))):
        return False
    preset = PRESETS[provider.preset]
    acr = levels(provider.acr, provider.acr_values) or preset.acr
    amr = preset.amr
    if provider.amr is not None or provider.amr_values is not None:
        amr = levels(provider.amr, provider.amr_values)
    return amr is not None and not any(level >= Level.MULTI for level in (*acr.values(), *amr.values()))


def _factors(checking: Checking, provider: Provider) -> None:
    """Values that say nothing, say two things, or would count as a second factor although they are none."""
    for claim, said, short in (
        ("acr", provider.acr, provider.acr_values),
        ("amr", provider.amr or Levels(), provider.amr_values or []),
    ):
        listed: list[tuple[Model, str, Level, list[str]]] = [(provider, claim + "_values", Level.MULTI, short)]
        listed += [(said, key, level, values) for key, (level, values) in said.by_level().items()]
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
    if provider.damaged and provider.issuer is None:
        return
    issuer = checking.attempt(at, issuer_of, provider)
    read = None if issuer is None else checking.attempt(at, names.issuer, issuer)
    if read is None:
        return
    scheme, host = read
    if scheme == "http" and not names.is_loopback(host):
        checking.problems.error(at, f"`{issuer}` is not https", "`https://…`")
    elif scheme == "http" and not provider.insecure_http:
        checking.problems.error(at, f"`{issuer}` is not https", "`https://…`, or `insecure_http: true`")
    elif scheme == "http":
        checking.problems.warning(provider.at("insecure_http"), "the provider is asked without TLS (insecure_http)")
    elif provider.insecure_http:
        checking.problems.warning(provider.at("insecure_http"), "`insecure_http` is not needed: the issuer is https")


def _secret(checking: Checking, provider: Provider) -> None:
    """The proof that belongs to the method, and no other."""
    problems, method = checking.problems, client_auth(provider)
    if provider.client_secret is not None:
        checking.secret(provider.at("client_secret"), provider.client_secret, "the client secret")
        if not method.startswith("client_secret"):
            problems.error(provider.at("client_auth"), f"`client_auth: {method}` with a `client_secret`", "either")
    elif method.startswith("client_secret") and not provider.damaged:
        problems.error(
            provider.start,
            "`client_secret` is missing",
            "`${env:NAME}` or `${file:PATH}`, a `private_key`, or `client_auth: none`",
        )
    key = provider.private_key
    if key is None and method == "private_key_jwt" and not provider.damaged:
        problems.error(provider.at("client_auth"), "`private_key` is missing")
    elif key is not None and method != "private_key_jwt":
        problems.error(provider.at("private_key"), f"`client_auth: {method}` with a `private_key`", "either")
    elif key is not None:
        _client_key(checking, key)


def _client_key(checking: Checking, key: ClientKey) -> None:
    settings = ClientKeySettings(checking.path(key.key), algorithm=key.algorithm or "")
    try:
        load_client_key(settings)
    except ConfigurationError as error:
        checking.problems.error(key.at("key"), error.detail)
        return
    if key.certificate is None:
        return
    leaf = checking.attempt(key.at("certificate"), read_leaf, checking.path(key.certificate))
    if leaf is not None and leaf.public_key != read_public_key(settings.key):
        checking.problems.error(key.at("certificate"), "the certificate is not that of the key")


def _people(checking: Checking, name: str, provider: Provider) -> None:
    """Whose provider it is: domains of addresses, each at one provider, and where groups are asked for."""
    for index, domain in enumerate(provider.domains):
        at = provider.at("domains", index)
        if "." not in domain or not names.is_name(domain.lower()):
            checking.problems.error(at, f"`{domain}` is no domain", "`example.com`")
        for other, each in checking.schema.identity.providers.items():
            if other < name and domain.lower() in map(str.lower, each.domains):
                checking.problems.error(at, f"`{domain}` is a domain of `{other}` already", "one provider for each")
    groups = provider.groups_from
    if groups is None:
        return
    if provider.preset != "google":
        checking.problems.error(provider.at("groups_from"), "`groups_from` says nothing without `preset: google`")
        return
    if "@" not in groups.administrator:
        checking.problems.error(groups.at("administrator"), f"`{groups.administrator}` is no address")
    try:
        load_service_account(checking.path(groups.service_account))
    except ConfigurationError as error:
        checking.problems.error(groups.at("service_account"), error.detail)
