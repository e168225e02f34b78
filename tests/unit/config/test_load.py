"""Any text at all: problems, never exceptions."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zt_proxy.config import Loaded, Severity, check, load, load_text
from zt_proxy.core.clock import ManualClock

from .examples import EVERYTHING, PLAIN

NOWHERE = Path("/nonexistent/zt-proxy.yaml")


def messages(text: str | Loaded) -> list[str]:
    loaded = load_text(text, NOWHERE) if isinstance(text, str) else text
    return [f"{problem.line}:{problem.column} {problem.text}" for problem in loaded.problems]


def test_a_right_file_has_no_problems() -> None:
    assert messages(PLAIN) == messages(EVERYTHING) == []


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    assert messages(load(tmp_path / "none.yaml")) == ["1:1 cannot be read: No such file or directory"]
    assert messages(load(tmp_path)) == ["1:1 cannot be read: Is a directory"]


def test_a_file_that_is_not_utf_8_is_a_problem_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"version: 1\nlog: \xff")
    assert messages(load(file)) == ["2:6 not UTF-8 text"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "--- \n"])
def test_an_empty_file_is_a_problem(text: str) -> None:
    assert len(messages(text)) == 1


@pytest.mark.parametrize(
    "text", ["[1, 2]", "word", "version: 1\n---\nversion: 1\n", "a: [", "a: *b", '"\\UFFFFFFFF"', "a: \0"]
)
def test_what_is_no_mapping_is_one_problem(text: str) -> None:
    assert len(messages(text)) == 1


def test_aliases_are_allowed_and_an_alias_bomb_is_not() -> None:
    shared = PLAIN.replace("groups: [staff]", "groups: &staff [staff]").replace("groups: [releasers]", "groups: *staff")
    assert messages(shared) == []
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    assert any("aliases expand" in message for message in messages(bomb))
    assert any("nested deeper" in message for message in messages("a: &a [*a]"))
    assert any("nested deeper" in message for message in messages("a: " + "[" * 5000 + "]" * 5000))


def test_yaml_1_2_words_are_words() -> None:
    assert any(
        "`strip_prefix` is text" in message
        for message in messages(PLAIN.replace("    rules:", "    strip_prefix: on\n    rules:"))
    )
    assert messages(PLAIN.replace("groups: [staff]", "groups: [no]")) == []


def test_a_key_of_a_later_issue_is_refused_in_those_words() -> None:
    (message,) = messages(PLAIN.replace("    rules:", "    tokens: {}\n    rules:"))
    assert message == "12:5 `tokens` is not built yet"


def test_the_part_of_the_design_example_that_exists_loads() -> None:
    text = """
version: 1
listen:
  - {name: web,  address: "0.0.0.0:8443", tls: {certificate: certs/site.pem, key: certs/site.key}}
portal: {url: "https://auth.example.com:8443"}
identity:
  providers:
    corp: {issuer: "https://sso.contoso.example", client_id: zt, client_secret: "${file:/run/secrets/oidc}"}
session: {idle: 30m, absolute: 12h}
networks: {office: [192.0.2.0/24]}
access_levels:
  managed: {all: [{device_known: true}, {network: office}]}
routes:
  - name: builder
    host: flows.example.com
    upstream: http://127.0.0.1:1880
    profile: node-red
    rules:
      - {id: staff-view,   allow: [view, use],  to: {groups: [staff]}}
      - {id: makers-build, allow: [build],      to: {groups: [makers]}, when: {risk: {at_most: medium}}}
      - {id: deploy,       allow: [deploy],     to: {groups: [releasers]}, require: {reauth: 5m, mfa: phishing-resistant}}
      - {id: abroad, deny: [export], when: {not: {country: [DE, FR]}}, mode: report}
    mask:
      - {fields: ["$..iban", "$..salary"], unless: {groups: [finance]}, with: last4}
"""
    loaded = load_text(text, NOWHERE)
    assert loaded.problems == ()
    assert loaded.schema is not None
    assert [rule.id for rule in loaded.schema.routes[0].rules] == ["staff-view", "makers-build", "deploy", "abroad"]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_arbitrary_text_never_raises(text: str) -> None:
    loaded = load_text(text, NOWHERE)
    assert loaded.problems
    check(loaded, ManualClock())


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, len(EVERYTHING) - 1),
    st.integers(0, 60),
    st.text("{}[]:,-&*!|>'\"%@`#~ \n\tabc012<?\x00\u2028é", max_size=8),
)
def test_a_right_file_with_a_piece_exchanged_never_raises(start: int, length: int, piece: str) -> None:
    loaded = load_text(EVERYTHING[:start] + piece + EVERYTHING[start + length :], NOWHERE)
    problems = check(loaded, ManualClock())
    assert any(problem.severity is Severity.ERROR for problem in problems)  # no certificate is at this path
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)


_KEYS = st.sampled_from(
    [
        "version",
        "listen",
        "portal",
        "identity",
        "providers",
        "corp",
        "routes",
        "rules",
        "name",
        "host",
        "path",
        "upstream",
        "url",
        "id",
        "allow",
        "deny",
        "to",
        "groups",
        "require",
        "reauth",
        "methods",
        "paths",
        "session",
        "idle",
        "tls",
        "certificate",
        "key",
        "address",
        "cors",
        "origins",
        "trusted_proxies",
        "limits",
        "body",
        "nonsense",
    ]
)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["5m", "all", "/**", "1.2.3.4:5"])
)
_TREES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=6), max_leaves=25
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(_KEYS, _TREES, max_size=8))
def test_any_shape_of_known_keys_never_raises(tree: object) -> None:
    import json

    check(load_text(json.dumps(tree), NOWHERE), ManualClock())
