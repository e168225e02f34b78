"""docs/how-to/masking.md: its configurations are valid, and its examples are what comes out."""

import json
import re
import textwrap
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from zt_proxy.config.build_mask import masks
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_mask import Answers, Mask
from zt_proxy.config.schema_routes import Route
from zt_proxy.core.session import Principal
from zt_proxy.core.types import Facts
from zt_proxy.policy.spec import RouteRules
from zt_proxy.worker.protect.mask import Masking, paths
from zt_proxy.worker.settings import RouteSettings, UpstreamSettings

TEXT = (Path(__file__).parents[3] / "docs" / "how-to" / "masking.md").read_text("utf-8")
BLOCKS = [YAML(typ="safe").load(textwrap.dedent(each)) for each in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]


def masking(written: list[object]) -> Masking:
    route = Route.model_construct(mask=[Mask.model_validate(each) for each in written], group=None)
    specs = masks(route, Schema.model_construct(access_levels={}, route_groups={}))
    upstream = UpstreamSettings("http", "127.0.0.1", 1)
    return Masking(RouteSettings("crm", "crm", b"/", upstream, RouteRules("crm", ()), "", masks=specs), bytes(32))


def seen_by(built: Masking, text: str, *groups: str) -> object:
    person = Principal("ada", "https://idp.test", "corp", groups=frozenset(groups))
    found = built.masks_for(Facts(0.0, "crm", b"GET", b"/", "192.0.2.1", person, None), None)
    return json.loads(built._plan(found).editor.edit(text.encode())[0])


def test_the_first_example_gives_what_the_page_says() -> None:
    before, after = re.findall(r"gets\s+`(\{.*?\})`", TEXT)
    built = masking(BLOCKS[0]["routes"][0]["mask"])
    assert seen_by(built, before, "finance") == json.loads(before)
    assert seen_by(built, before, "staff") == json.loads(after)


def test_every_mask_and_answers_block_of_the_page_is_valid() -> None:
    assert masking(BLOCKS[1]["mask"]) is not None
    assert Answers.model_validate(BLOCKS[2]["answers"] | {"limit": "4MiB"}).websocket == "pass"


@pytest.mark.parametrize("path", re.findall(r"^\| `(\$.*?)` \|", TEXT, re.MULTILINE))
def test_every_path_of_the_page_can_be_read(path: str) -> None:
    assert paths.parse(path)
