"""Path templates: both ends anchored, wild cards in their segments."""

import pytest

from zt_proxy.policy.templates import compile_paths


@pytest.mark.case("ZT-PATH-07")
@pytest.mark.parametrize(
    ("template", "fits", "fails"),
    [
        ("/", ["/"], ["/a", "//", ""]),
        ("/a", ["/a"], ["/a/", "/ab", "/", "/A", "/x/a", "/a\n"]),
        ("/a/*", ["/a/", "/a/b", "/a/b.c"], ["/a", "/a/b/c", "/a/b/"]),
        ("/a*c", ["/ac", "/abc"], ["/a/c", "/abcd"]),
        ("/*.js", ["/x.js", "/.js", "/a.js.js"], ["/xjs", "/x.jsx", "/a/x.js"]),
        ("/a*b*c", ["/abc", "/axbxc", "/abbcc"], ["/acb", "/ab/c"]),
        ("/a/**", ["/a", "/a/", "/a/b", "/a/b/c", "/a/b/"], ["/ab", "/", "/b/a"]),
        ("/**", ["/", "/a", "/a/b/"], ["*"]),
        ("**", ["/", "/a"], ["*"]),
        ("/**/b", ["/b", "/a/b", "/a/c/b", "/b/b"], ["/ab", "/b/", "/b/c"]),
        ("/a/**/b/**/c", ["/a/b/c", "/a/x/b/y/z/c", "/a/b/b/c/c"], ["/a/c/b", "/a/b", "/ab/c"]),
        ("/a/**/**/b", ["/a/b", "/a/x/y/b"], ["/ab"]),
        ("/a/**/x*y/**", ["/a/xy", "/a/1/x2y/3"], ["/a/x/y", "/xy"]),
        ("/foo/*/bar", ["/foo/x/bar"], ["/foo/admin", "/foo/x/y/bar", "/foo/x/bar/y"]),
        ("/a.b+(c)", ["/a.b+(c)"], ["/axb+(c)", "/a.bbc"]),
        ("/café/a b", ["/caf%C3%A9/a%20b"], ["/cafe/a%20b"]),
        ("/%61%2f", ["/a%2F"], ["/a/"]),
    ],
)
def test_a_template_fits_these_and_no_others(template: str, fits: list[str], fails: list[str]) -> None:
    pattern = compile_paths([template])
    assert [path for path in fits if not pattern.fullmatch(path.encode())] == []
    assert [path for path in fails if pattern.fullmatch(path.encode())] == []


def test_no_template_fits_nothing_and_several_fit_what_any_fits() -> None:
    assert not compile_paths([]).fullmatch(b"/")
    both = compile_paths(["/a", "/b/**"])
    assert both.fullmatch(b"/a")
    assert both.fullmatch(b"/b/c")
    assert not both.fullmatch(b"/a/c")


def test_case_folding_is_of_ascii_alone() -> None:
    folding = compile_paths(["/Straße/K"], case_insensitive=True)
    assert folding.fullmatch(b"/sTRA%C3%9FE/k")
    assert not folding.fullmatch("/straße/\u212a".encode())


@pytest.mark.parametrize(
    ("template", "path"),
    [("/**/a/**/b/**/c/**/d", b"/a" * 4000), ("/*a*a*a*a*b", b"/" + b"a" * 8000), ("/**/*x*y/z", b"/xy" * 2500)],
)
def test_no_path_makes_a_template_backtrack_for_long(template: str, path: bytes) -> None:
    assert not compile_paths([template]).fullmatch(path)  # would not end in a lifetime if it did
