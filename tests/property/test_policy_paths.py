"""Many templates at once say what each of them says alone."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from zt_proxy.policy.paths import PathIndex
from zt_proxy.policy.templates import compile_paths, wildcards

parts = st.sampled_from(["a", "b", "A", "ab", "*", "a*", "*b", "**", "", "a%2Fb", "ü", "a b"])
templates = st.lists(parts, max_size=4).map(lambda found: "/" + "/".join(found))
pieces = st.sampled_from(["a", "b", "A", "ab", "aab", "", "a%2Fb", "%C3%BC", "a%20b", "a b", "ü"])
paths = st.lists(pieces, max_size=5).map(lambda found: ("/" + "/".join(found)).encode())


@settings(max_examples=1000, deadline=None)
@given(st.lists(templates, max_size=6), paths, st.booleans(), st.booleans())
@example(["/**", "**"], b"", False, False)
@example(["/**", "/a"], b"*", False, False)
@example(["//**", "/a//b"], b"/a//b", False, False)
def test_an_index_of_templates_fits_what_each_template_fits(
    found: list[str], path: bytes, folds: bool, decoded: bool
) -> None:
    index = PathIndex(
        ((template, 1 << number) for number, template in enumerate(found)), case_insensitive=folds, decoded=decoded
    )
    fitting = [compile_paths((one,), case_insensitive=folds, decoded=decoded).fullmatch(path) for one in found]
    assert index.bits(path) == sum(1 << number for number, match in enumerate(fitting) if match)


def glob(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(glob(pattern[1:], text[skip:]) for skip in range(len(text) + 1))
    return text[:1] == pattern[0] and glob(pattern[1:], text[1:])


@settings(max_examples=500, deadline=None)
@given(st.text("ab*.", max_size=7), st.text("ab.\n", max_size=9))
def test_wild_cards_are_globs(pattern: str, text: str) -> None:
    assert bool(wildcards([pattern])(text)) == glob(pattern, text)
