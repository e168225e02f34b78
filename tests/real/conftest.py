"""The fixtures of this folder."""

from tests.real.fixtures import browser, node_red, oidc_provider

__all__ = ["browser", "node_red", "oidc_provider"]
