"""A configuration as questions are put to it, without what a running proxy needs."""

from pathlib import Path

import pytest

from zt_proxy.config import ConfigurationProblems
from zt_proxy.config.worlds import UNREAD, estate, worlds
from zt_proxy.core.types import Action, Effect, Facts

from .examples import PLAIN, POLICY


def written(folder: Path, text: str) -> Path:
    path = folder / "zt-proxy.yaml"
    path.write_text(text)
    return path


def test_a_file_can_be_asked_where_there_are_no_certificates_and_secrets(tmp_path: Path) -> None:
    world = worlds(written(tmp_path, PLAIN))["builder"]
    stranger = Facts(0.0, "builder", b"GET", b"/healthz", "192.0.2.1", None, None)
    assert world.decide(stranger).effect is Effect.ALLOW
    assert world.explain(stranger).decision == world.decide(stranger)
    assert world.host == "flows.example.com:8443"
    assert world.places["deploy"] == 14


def test_a_mistake_in_the_policy_is_a_problem_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationProblems) as caught:
        worlds(written(tmp_path, POLICY.replace("access_level: managed", "access_level: manged")))
    problem = next(each for each in caught.value.problems if "manged" in each.message)
    assert problem.hint == "did you mean `managed`?"


def test_requests_mean_what_the_routes_profile_says(tmp_path: Path) -> None:
    world = worlds(written(tmp_path, POLICY))["builder"]
    assert world.classify(b"POST", b"/flows", None, lambda _: None, False).action is Action.DEPLOY
    assert "ids" in world.mask_names


def test_a_request_whose_meaning_stands_in_a_missing_body_is_refused(tmp_path: Path) -> None:
    profile = tmp_path / "profiles" / "bodies.yaml"
    profile.parent.mkdir()
    profile.write_text(
        "name: bodies\ntitle: Bodies\nwritten_against: nothing\nverified: here\notherwise: {safe: deny}\n"
        "matchers:\n  - {id: go, methods: [POST], paths: [/do], body: {op: go}, action: deploy}\n"
    )
    rule = "- {id: staff, allow: [deploy], to: {groups: [staff]}}\n"
    text = PLAIN.partition("    rules:\n")[0] + "    profile: bodies\n    rules:\n      " + rule
    world = worlds(written(tmp_path, text))["builder"]
    kind = {b"content-type": b"application/json"}.get
    assert world.needs_body(b"POST", b"/do", None, kind, False)
    assert world.classify(b"POST", b"/do", None, kind, False) == UNREAD
    assert world.classify(b"POST", b"/do", None, kind, False, b'{"op":"go"}').action is Action.DEPLOY


def test_what_routes_share_comes_along(tmp_path: Path) -> None:
    whole = estate(written(tmp_path, POLICY))
    assert whole.origins.of("192.0.2.9").zones == {"office"}
    assert set(whole.routes) == {route.name for route in whole.schema.routes}
