"""docs/how-to/masking.md: its configurations are valid, and its examples are what comes out."""

import json
import re
from pathlib import Path

import pytest

from zt_proxy.config.build_mask import answers, masks
from zt_proxy.config.load import load
from zt_proxy.core.session import Principal
from zt_proxy.core.types import Facts
from zt_proxy.policy.spec import RouteRules
from zt_proxy.worker.protect.mask import Masking, paths
from zt_proxy.worker.settings import RouteSettings, UpstreamSettings

TEXT = (Path(__file__).parents[3] / "docs" / "how-to" / "masking.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


HEAD = """version: 1
listen: [{name: web, address: "0.0.0.0:443", tls: {certificate: a, key: b}}]
portal: {url: "https://auth.example.com"}
identity: {providers: {corp: {issuer: "https://sso.example.com", client_id: zt, client_secret: "${env:SECRET}"}}}
networks: {office: [192.0.2.0/24]}
"""
ROUTE = """routes:
  - name: crm
    host: crm.example.com
    upstream: http://127.0.0.1:9000
"""


def masking(folder: Path, block: str) -> Masking:
    """The masks of a block of the page, by way of a whole file."""
    file = folder / "zt-proxy.yaml"
    file.write_text(HEAD + (block if block.startswith("routes:") else ROUTE + block))
    schema = load(file).schema
    assert schema is not None, load(file).problems
    specs, kept = masks(schema.routes[0], schema), answers(schema.routes[0].answers)
    upstream = UpstreamSettings("http", "127.0.0.1", 1)
    rules = RouteRules("crm", ())
    return Masking(RouteSettings("crm", "crm", b"/", upstream, rules, "", masks=specs, answers=kept), bytes(32))


def seen_by(built: Masking, text: str, *groups: str) -> object:
    person = Principal("ada", "https://idp.test", "corp", groups=frozenset(groups))
    found = built.masks_for(Facts(0.0, "crm", b"GET", b"/", "192.0.2.1", person, None), None)
    return json.loads(built._plan(found).editor.edit(text.encode())[0])


def test_the_first_example_gives_what_the_page_says(tmp_path: Path) -> None:
    before, after = re.findall(r"gets\s+`(\{.*?\})`", TEXT)
    built = masking(tmp_path, BLOCKS[0])
    assert seen_by(built, before, "finance") == json.loads(before)
    assert seen_by(built, before, "staff") == json.loads(after)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_of_the_page_can_be_built(tmp_path: Path, block: str) -> None:
    assert masking(tmp_path, block) is not None


@pytest.mark.parametrize("path", re.findall(r"^\| `(\$.*?)` \|", TEXT, re.MULTILINE))
def test_every_path_of_the_page_can_be_read(path: str) -> None:
    assert paths.parse(path)
