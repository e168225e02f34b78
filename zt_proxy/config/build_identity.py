"""Providers: from the checked schema to the settings that control declares."""

from collections.abc import Mapping
from pathlib import Path

from zt_proxy.config.schema_identity import Levels, Provider
from zt_proxy.config.secrets import resolve
from zt_proxy.control.identity.presets import PRESETS, Preset
from zt_proxy.control.settings import ClientKeySettings, ProviderSettings, ServiceAccountSettings
from zt_proxy.core.session import Level


def provider(name: str, providers: Mapping[str, Provider], base: Path) -> ProviderSettings:
    """Settings of one of the providers; its preset fills in what is not written. `base`: where relative paths start."""
    said = providers[name]
    preset = PRESETS[said.preset]
    issuer = issuer_of(said)
    return ProviderSettings(
        name=name,
        display_name=said.display_name or name,
        issuer=issuer,
        client_id=said.client_id,
        client_secret=resolve(said.client_secret, base) if said.client_secret else None,
        client_auth=client_auth(said),
        client_key=_client_key(said, preset, base),
        par=said.par,
        scopes=tuple(preset.scopes if said.scopes is None else said.scopes),
        acr=levels(said.acr, said.acr_values) or dict(preset.acr),
        amr=preset.amr if said.amr is None and said.amr_values is None else levels(said.amr, said.amr_values),
        insecure_no_mfa=said.insecure_no_mfa,
        groups_claim=said.groups_claim,
        claims=tuple(said.claims),
        ca=base / said.ca if said.ca else None,
        algorithms=tuple(said.algorithms),
        timeout=said.timeout,
        refresh=said.refresh,
        refresh_every=said.refresh_every,
        max_age=said.max_age,
        preset=said.preset,
        tenant=(said.tenant or said.domain or "").lower(),
        directory=preset.directory(issuer),
        service_account=_service_account(said, base),
        domains=_domains(said),
        foreign_domains=tuple(
            domain for other, each in providers.items() if other != name for domain in _domains(each)
        ),
        own_callback=said.callback == "own",
        one_of_several=len(providers) > 1,
    )


def _domains(said: Provider) -> tuple[str, ...]:
    return tuple(domain.lower() for domain in said.domains)


def issuer_of(said: Provider) -> str:
    """As written, or as the preset knows it. Raises ValueError that says what is missing or wrong."""
    given = {key: str(value) for key in ("url", "realm", "tenant", "domain") if (value := getattr(said, key))}
    return PRESETS[said.preset].issuer(given, said.issuer)


def client_auth(said: Provider) -> str:
    """The method that is written, or that goes with what is."""
    return said.client_auth or ("private_key_jwt" if said.private_key else "client_secret_basic")


def levels(said: Levels | None, multi: list[str] | None) -> dict[str, Level]:
    """Value → what it attests. `check` refuses a value that stands twice."""
    found = dict.fromkeys(multi or (), Level.MULTI)
    for level, values in (said or Levels()).by_level().values():
        found |= dict.fromkeys(values, level)
    return found


def _client_key(said: Provider, preset: Preset, base: Path) -> ClientKeySettings | None:
    key = said.private_key
    if key is None:
        return None
    return ClientKeySettings(
        key=base / key.key,
        key_id=key.id,
        certificate=base / key.certificate if key.certificate else None,
        algorithm=key.algorithm or "",
        audience=key.audience or preset.assertion_audience,
    )


def _service_account(said: Provider, base: Path) -> ServiceAccountSettings | None:
    if said.groups_from is None:
        return None
    return ServiceAccountSettings(base / said.groups_from.service_account, said.groups_from.administrator)
