"""The set-up pages' configurations are right ones."""

import re
from pathlib import Path

import pytest

from tests.unit.config.conftest import certificates, place  # noqa: F401 - fixtures
from zt_proxy.config import check, load
from zt_proxy.core.clock import ManualClock

PAGES = Path(__file__).parents[3] / "docs/how-to/providers"
HEAD = """version: 1
listen:
  - {name: web, address: "0.0.0.0:8443", tls: {certificate: certs/site.pem, key: certs/site.key}}
portal: {url: "https://auth.example.com:8443"}
routes:
  - name: builder
    host: flows.example.com
    upstream: http://127.0.0.1:1880
    rules: [{id: all, allow: [{methods: [GET]}], to: anyone-signed-in}]
"""
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{index}")
    for page in sorted(PAGES.glob("*.md"))
    for index, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_configuration_on_the_page_has_no_problem(place: Path, block: str) -> None:  # noqa: F811
    file = place / "zt-proxy.yaml"
    file.write_text(HEAD + block)
    problems = [one.text for one in check(load(file), ManualClock())]
    assert problems == []


def test_there_is_a_page_for_each_preset() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {"generic", "keycloak", "entra", "okta", "google"}
