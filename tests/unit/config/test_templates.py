"""What the checks say of templates must agree with what the policy does with them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zt_proxy.config.templates import covers, prefix_fault, template_fault
from zt_proxy.policy.templates import compile_paths

_SEGMENTS = st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "**", "", "%20", "a;b"])
_TEMPLATES = st.lists(_SEGMENTS, min_size=1, max_size=4).map(lambda segments: "/" + "/".join(segments))
_PATHS = st.lists(st.sampled_from(["a", "b", "ab", "aab", "", "%20"]), min_size=1, max_size=5).map(
    lambda parts: "/" + "/".join(parts)
)


@settings(max_examples=500, deadline=None)
@given(_TEMPLATES, _TEMPLATES, _PATHS)
def test_a_covering_template_matches_whatever_the_covered_one_does(wide: str, narrow: str, path: str) -> None:
    matches = compile_paths([narrow]).fullmatch(path.encode()) is not None
    if covers(wide, narrow) and matches:
        assert compile_paths([wide]).fullmatch(path.encode())


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("/**", "/a/b"),
        ("/**", "/**"),
        ("/a/**", "/a"),
        ("/a/*", "/a/b"),
        ("/*", "/"),
        ("/a/**/z", "/a/b/c/z"),
        ("/a*", "/ab*"),
    ],
)
def test_covering_is_seen(wide: str, narrow: str) -> None:
    assert covers(wide, narrow)


@pytest.mark.parametrize(
    ("wide", "narrow"), [("/a", "/b"), ("/a/*", "/a/**"), ("/a/**", "/ab"), ("/ab*", "/a*"), ("/a", "/*")]
)
def test_what_is_not_covered_is_not_said_to_be(wide: str, narrow: str) -> None:
    assert not covers(wide, narrow)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("/a*%2F.;?# é\\\x00"), max_size=12))
def test_what_is_found_right_compiles(template: str) -> None:
    if not template_fault(template):
        compile_paths([template])
    if not prefix_fault(template):
        assert template.isascii()


def test_covering_of_very_long_templates_ends() -> None:
    assert not covers("/a" * 5000, "/b" * 5000)
    assert covers("/**", "/**")
    assert not covers("/" + "*a" * 200, "/" + "a" * 400 + "b")
