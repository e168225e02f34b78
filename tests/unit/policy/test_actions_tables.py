"""Requests that real platforms get, and what their profiles make of them: `profiles/NAME.yaml`, one request a line.

`METHOD TARGET: ACTION [OBJECT] [CHANGES]`, with `headers`, `body` (sent as JSON) and `websocket` where they matter; `deny`
is a refusal, `not inspectable` an error about the body.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from zt_proxy.config.profiles import SHIPPED, load_profile
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.types import Act, Change
from zt_proxy.policy.actions import NeedsBody, Profile

TABLES = Path(__file__).parent / "profiles"
EXTRAS = {"headers", "body", "websocket"}


def rows() -> list[Any]:
    found = []
    for file in sorted(TABLES.glob("*.yaml")):
        for number, row in enumerate(YAML(typ="safe").load(file.read_text())):
            request = next(key for key in row if key not in EXTRAS)
            found.append(pytest.param(file.stem, request, row, id=f"{file.stem}-{number}-{request}"))
    return found


def classify(profile: Profile, request: str, row: dict[str, Any]) -> Act:
    method, _, target = request.partition(" ")
    path, mark, query = target.partition("?")
    body = json.dumps(row["body"]).encode() if "body" in row else b""
    headers = {"content-type": "application/json"} if body else {}
    headers |= row.get("headers", {})
    where = (
        method.encode(),
        path.encode(),
        query.encode() if mark else None,
        lambda name: headers[name.decode()].encode() if name.decode() in headers else None,
        bool(row.get("websocket")),
    )
    act = profile.classify(*where)
    return profile.classify_body(*where, body) if isinstance(act, NeedsBody) else act


def spelled(act: Act) -> str:
    if act.refused:
        return "deny"
    assert act.action is not None
    named = f"{act.kind}:{act.object}" if act.object else act.kind
    return " ".join(filter(None, (act.action.value, named, act.changes.value if act.changes else "")))


@pytest.fixture(scope="module")
def profiles() -> dict[str, Profile]:
    return {file.stem: Profile(load_profile(file.stem)) for file in TABLES.glob("*.yaml")}


@pytest.mark.parametrize(("name", "request_line", "row"), rows())
def test_request_of_the_platform_means_what_its_table_says(
    profiles: dict[str, Profile], name: str, request_line: str, row: dict[str, Any]
) -> None:
    wanted = row[request_line]
    if wanted == "not inspectable":
        with pytest.raises(ClientError) as caught:
            classify(profiles[name], request_line, row)
        assert caught.value.reason is Reason.BODY_NOT_INSPECTABLE
        assert caught.value.status == 403
    else:
        assert spelled(classify(profiles[name], request_line, row)) == wanted


def test_every_kind_of_change_is_known_to_some_profile() -> None:
    said = {matcher.changes for file in SHIPPED.glob("*.yaml") for matcher in load_profile(file.stem).matchers}
    assert set(Change) <= said
