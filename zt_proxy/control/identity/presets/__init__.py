"""What single providers do their own way, one file each. Nothing here talks to anybody: see `identity.directory`."""

from collections.abc import Mapping

from zt_proxy.control.identity.presets import entra, google, keycloak, okta
from zt_proxy.control.identity.presets.base import Preset

PRESETS: Mapping[str, Preset] = {
    preset.name: preset for preset in (Preset("generic"), keycloak.PRESET, entra.PRESET, okta.PRESET, google.PRESET)
}
"""By the word in the configuration."""

__all__ = ["PRESETS", "Preset"]
