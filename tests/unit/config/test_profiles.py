"""Profiles as files: found, read with every problem at its place, extended, and named by routes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from zt_proxy.cli.main import app
from zt_proxy.config import build, check, load_text
from zt_proxy.config.problems import ConfigurationProblems
from zt_proxy.config.profiles import SHIPPED, known_profiles, load_profile, read_file, read_profile
from zt_proxy.core.types import Action
from zt_proxy.policy.actions import Profile
from zt_proxy.policy.profile_spec import FieldTest, ObjectSpec

from .examples import PLAIN

NAMES = sorted(path.stem for path in SHIPPED.glob("*.yaml"))

HEAD = """\
name: mine
title: Mine
written_against: "1"
verified: by hand
"""

WRONG = """\
name: Mine
titel: Mine
written_against: 1.5
extends: node-redd
case: folded
body_limit: 64
otherwise: {safe: us, unsafe: deny, later: use}
sensitivity:
  - {objects: [salaries], level: secret}
matchers:
  - {id: a, action: deplo, paths: [flows, "/x/{y", "/**/a/**"]}
  - {id: a, action: use, methods: [get], path: /x}
  - {action: use, paths: [/x], query: [a], object: "flow:{id}"}
  - {id: d, action: use, headers: {"x y": 1}, graphql: {type: mutate}}
  - {id: e, action: use}
  - {id: f, action: use, websocket: yes, methods: [POST], paths: [/ws]}
  - text
messages:
  - {id: m, action: use, on: [sock], fields: {type: {there: true}}}
"""


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_has_no_problem_and_says_what_it_was_written_against(name: str) -> None:
    loaded = read_profile(name)
    assert loaded.problems == ()
    assert loaded.spec is not None
    assert loaded.spec.name == name
    assert loaded.spec.title
    assert loaded.spec.written_against
    assert loaded.spec.verified
    assert Profile(loaded.spec).name == name


def test_the_platforms_that_are_promised_are_there() -> None:
    assert set(known_profiles()) >= {
        *("node-red", "n8n", "appsmith", "budibase", "tooljet", "directus", "pocketbase", "superset"),
        *("streamlit", "jupyterlab", "kissflow", "generic-web"),
    }


def test_all_problems_are_told_at_once_with_line_column_and_nearest_spelling(tmp_path: Path) -> None:
    loaded = read_file(write(tmp_path, WRONG))
    assert loaded.spec is None
    said = {f"{problem.line}:{problem.column} {problem.text}" for problem in loaded.problems}
    for wanted in (
        "1:7 `Mine` is no name; expected lower-case letters, digits and `-`",
        "2:1 unknown key `titel` (did you mean `title`?)",
        "3:18 `written_against` is not text; expected text (put it in quotes)",
        "4:10 `node-redd` is no profile (did you mean `node-red`?)",
        "5:7 `case` is `folded`; expected `sensitive` or `insensitive`",
        "6:13 `body_limit`: a size needs a unit: write `64B` for bytes or `64MB` for megabytes",
        "7:37 unknown key `later` (known here: `safe`, `unsafe`, `websocket` or `message`)",
        "9:15 `salaries` is no object; expected `KIND:NAME`, such as `salaries:*`",
        "11:21 `action` is `deplo`; expected `view`, `use`, `build`, `deploy`, `manage-access`, "
        "`manage-integrations`, `export` or `deny` (did you mean `deploy`?)",
        "11:36 `flows` does not begin with `/`",
        "11:52 `/**/a/**` has more than one `**`",
        "12:10 the id `a` is used twice (first at line 11)",
        "12:35 `get` is no method (did you mean `GET`?)",
        "12:42 unknown key `path` (did you mean `paths`?)",
        "13:5 `id` is missing",
        "13:39 `query` is no mapping; expected `{NAME: value}` or `{NAME: [values]}`",
        "14:36 `x y` is no header name",
        "15:5 it says nothing about requests and would fit all of them (see `otherwise`)",
        "17:5 an item of `matchers` is no mapping",
        "19:30 no matcher with `websocket: true` is called `sock`",
    ):
        assert wanted in said, "\n".join(sorted(said))
    assert not any("never reached" in text for text in said)  # `e` fits everything because it is wrong


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("paths: [/a/**]", "paths: [/a/b]"),
        ('paths: ["/a/{x}"]', 'paths: ["/a/b", "/a/c"]'),
        ("methods: [GET, POST]", "methods: [POST], paths: [/x]"),
        ("methods: [GET]", "methods: [HEAD], paths: [/x]"),
        ("paths: [/x], query: {a: 1}", "paths: [/x], query: {a: 1, b: 2}"),
        ("websocket: true", "websocket: true, paths: [/x]"),
    ],
)
def test_a_matcher_that_nothing_reaches_is_a_problem(tmp_path: Path, early: str, late: str) -> None:
    text = HEAD + f"matchers:\n  - {{id: early, action: use, {early}}}\n  - {{id: late, action: deploy, {late}}}\n"
    (problem,) = read_file(write(tmp_path, text)).problems
    assert (problem.line, problem.column) == (7, 5)
    assert "`late` is never reached: `early`" in problem.message


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("paths: [/a]", "paths: [/a/**]"),
        ("methods: [GET], paths: [/a]", "paths: [/a]"),
        ("paths: [/a], headers: {x: 1}", "paths: [/a]"),
        ("websocket: true, paths: [/a]", "paths: [/a]"),
        ("paths: [/a], query: {a: 1}", "paths: [/a], query: {a: 2}"),
        ("paths: [/a], graphql: {type: query}", "paths: [/a], graphql: {type: mutation}"),
    ],
)
def test_a_matcher_that_something_reaches_is_none(tmp_path: Path, early: str, late: str) -> None:
    text = HEAD + f"matchers:\n  - {{id: early, action: use, {early}}}\n  - {{id: late, action: deploy, {late}}}\n"
    assert read_file(write(tmp_path, text)).problems == ()


def test_every_key_of_a_matcher_is_understood(tmp_path: Path) -> None:
    text = HEAD + (
        'case: insensitive\nbody_limit: 1MiB\nmatchers:\n  - {id: m, action: export, methods: [POST], paths: ["/t/{t}"],'
        " query: {full: true, n: [1, 2]}, headers: {X-Kind: {present: false}}, body: {a.b: x}, sensitivity: restricted,"
        ' object: {kind: table, name: "{t}", owner: "{body.who}"}, changes: data-handling}\n'
    )
    spec = load_profile(str(write(tmp_path, text)))
    (matcher,) = spec.matchers
    assert spec.case_insensitive
    assert spec.body_limit == 1024**2
    assert matcher.query == (FieldTest("full", ("true",)), FieldTest("n", ("1", "2")))
    assert matcher.headers == (FieldTest("x-kind", absent=True),)
    assert matcher.body == (FieldTest("a.b", ("x",)),)
    assert matcher.object == ObjectSpec("table", "{t}", "{body.who}")


def test_an_own_profile_puts_its_matchers_in_front_and_may_replace_some(tmp_path: Path) -> None:
    text = """\
name: mine
extends: node-red
base: /red
sensitivity: [{objects: ["flow:pay*"], level: restricted}]
matchers:
  - {id: orders, methods: [POST], paths: [/orders], action: use}
  - {id: inject, methods: [POST], paths: ["/red/inject/{node}"], action: deploy}
"""
    spec = load_profile("./mine.yaml", write(tmp_path, text).parent)
    ids = [matcher.id for matcher in spec.matchers]
    assert ids[:2] == ["orders", "inject"]
    assert ids.count("inject") == 1
    assert "extends node-red" in spec.verified
    profile = Profile(spec)
    no_header = {b"": b""}.get
    assert profile.classify(b"POST", b"/red/flows", None, no_header, False).action is Action.DEPLOY  # type: ignore[union-attr]
    assert profile.classify(b"POST", b"/orders", None, no_header, False).action is Action.USE  # type: ignore[union-attr]
    assert profile.classify(b"POST", b"/flows", None, no_header, False).refused  # type: ignore[union-attr]
    assert profile.classify(b"PUT", b"/red/flow/pay-1", None, no_header, False).sensitivity == "restricted"  # type: ignore[union-attr]


def test_own_profiles_are_found_beside_the_configuration_and_before_those_shipped(tmp_path: Path) -> None:
    write(tmp_path / "profiles", "name: node-red\nextends: node-red\ntitle: Ours\n", "node-red.yaml")
    assert load_profile("node-red", tmp_path).title == "Ours"
    assert load_profile("node-red").title == "Node-RED"
    assert len(load_profile("node-red", tmp_path).matchers) == len(load_profile("node-red").matchers)


def test_profiles_that_extend_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "name: one\nextends: ./two.yaml\n", "one.yaml")
    write(tmp_path, "name: two\nextends: ./one.yaml\n", "two.yaml")
    with pytest.raises(ConfigurationProblems, match="extends itself"):
        load_profile("./one.yaml", tmp_path)


def test_a_profile_that_is_not_there_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationProblems, match="did you mean `superset`"):
        load_profile("supersett")
    with pytest.raises(ConfigurationProblems, match="cannot be read"):
        load_profile("./none.yaml", tmp_path)


def route_with(profile: str) -> str:
    assert "upstream: http://127.0.0.1:1880" in PLAIN
    return PLAIN.replace(
        "upstream: http://127.0.0.1:1880", f"upstream: http://127.0.0.1:1880\n    profile: {profile}", 1
    )


def test_a_route_gets_the_profile_it_names(place: Path) -> None:
    loaded = load_text(route_with("node-red"), place / "zt-proxy.yaml")
    assert [problem for problem in check(loaded) if "profile" in problem.text] == []
    built = build(loaded)
    assert built.worker.routes[0].profile == load_profile("node-red")
    assert not any(SHIPPED in file.parents for file in built.files)


def test_an_own_profile_is_watched_as_the_configuration_is(place: Path) -> None:
    path = write(place, "name: mine\nextends: generic-web\n")
    built = build(load_text(route_with("./mine.yaml"), place / "zt-proxy.yaml"))
    assert path in built.files


def test_problems_of_a_profile_are_problems_of_the_configuration(place: Path) -> None:
    write(place, "name: mine\nextends: generic-web\nmatchers: [{id: a, action: us, paths: [/x]}]\n")
    (problem,) = [
        each
        for each in check(load_text(route_with("./mine.yaml"), place / "zt-proxy.yaml"))
        if each.file.name == "mine.yaml"
    ]
    assert (problem.line, problem.column) == (3, 28)
    unknown = [str(each) for each in check(load_text(route_with("node-rd"), place / "zt-proxy.yaml"))]
    assert any("`node-rd` is no profile (did you mean `node-red`?)" in text for text in unknown)


def test_a_draft_leaves_out_what_the_routes_profile_knows_by_now(place: Path) -> None:
    log = place / "state" / "audit"
    log.mkdir(parents=True)
    name = load_text(PLAIN, place / "zt-proxy.yaml").schema.routes[0].name  # type: ignore[union-attr]
    common = f'"type":"decision","route":"{name}","method":"POST","sub":"ann"'
    lines = [f'{{{common},"path":"/flows"}}', f'{{{common},"path":"/orders/7"}}', f'{{{common},"path":"/torn']
    (log / "audit-000000000001.jsonl").write_text("\n".join(lines))
    file = write(place, route_with("node-red"), "zt-proxy.yaml")
    result = CliRunner().invoke(app, ["profile", "record", name, "--config", str(file), "--log", str(log)])
    assert result.exit_code == 0
    assert 'extends: "node-red"' in result.stdout
    assert 'paths: ["/orders/{order}"]' in result.stdout
    assert '["/flows"]' not in result.stdout


def with_rule(profile: str, rule: str) -> str:
    first = next(
        line for line in PLAIN.splitlines() if line.lstrip().startswith("- {id:") or line.lstrip().startswith("- id:")
    )
    indent = first[: len(first) - len(first.lstrip())]
    return route_with(profile).replace(first, f"{indent}- {rule}\n{first}", 1)


def test_a_rule_about_objects_that_the_profile_never_names_is_told(place: Path) -> None:
    text = with_rule("node-red", '{id: odd, deny: [{actions: [view], objects: ["flwo:*", "flow:*", "*:x"]}]}')
    said = [
        problem.text for problem in check(load_text(text, place / "zt-proxy.yaml")) if "of the kind" in problem.text
    ]
    assert said == ["the profile `node-red` knows no object of the kind `flwo` (did you mean `flow`?)"]


def test_a_deny_of_paths_that_the_platform_folds_is_told(place: Path) -> None:
    rule = "{id: odd, deny: [{methods: [POST], paths: [/flows]}]}"
    said = [problem.text for problem in check(load_text(with_rule("node-red", rule), place / "zt-proxy.yaml"))]
    assert any("Node-RED folds the case of paths" in text for text in said)
    said = [problem.text for problem in check(load_text(with_rule("superset", rule), place / "zt-proxy.yaml"))]
    assert not any("folds the case" in text for text in said)
