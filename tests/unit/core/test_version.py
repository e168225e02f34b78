"""The constant and the package say the same."""

from importlib.metadata import version

from zt_proxy.core.version import VERSION


def test_the_version_in_the_code_is_that_of_the_package() -> None:
    assert version("zt-proxy") == VERSION
