"""Every shipped profile under hypothesis: no spelling makes a request less than it is, and no bytes raise."""

import contextlib
from collections.abc import Callable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from zt_proxy.config.profiles import SHIPPED, load_profile
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.types import Act, Action
from zt_proxy.policy import graphql
from zt_proxy.policy.actions import NeedsBody, Profile
from zt_proxy.policy.profile_paths import is_general
from zt_proxy.policy.profile_spec import MatcherSpec, ProfileSpec
from zt_proxy.policy.profile_tests import COVERS

SPECS = [load_profile(file.stem) for file in sorted(SHIPPED.glob("*.yaml"))]
PROFILES = [Profile(spec) for spec in SPECS]
NAMED = [
    (profile, matcher)
    for profile, spec in zip(PROFILES, SPECS, strict=True)
    for matcher in spec.matchers
    if matcher.paths and not any(map(is_general, matcher.paths)) and not matcher.websocket
]
LETTERS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=6)
BODY = {b"content-type": b"application/json"}


def written_out(draw: st.DrawFn, matcher: MatcherSpec) -> str:
    """A path that one of the matcher's templates fits."""
    segments = []
    for segment in draw(st.sampled_from(matcher.paths)).split("/")[1:]:
        if segment == "**" or segment.endswith("**}"):
            segments += draw(st.lists(LETTERS, max_size=3))
        elif "{" in segment or "*" in segment:
            before, _, rest = segment.partition("{" if "{" in segment else "*")
            segments.append(before + draw(LETTERS) + rest.partition("}")[2])
        else:
            segments.append(segment)
    return "/" + "/".join(filter(None, segments))


def disguised(draw: st.DrawFn, path: str) -> str:
    """The same path to a platform that is not strict about some of it."""
    pieces = []
    for character in path:
        kind = draw(st.integers(0, 9))
        if character == "/":
            pieces.append({0: "//", 1: ";v=1/", 2: "%2F"}.get(kind, "/") if pieces else "/")
        elif kind == 0:
            pieces.append(character.swapcase())
        elif kind == 1:
            pieces.append(f"%{ord(character):02X}")
        else:
            pieces.append(character)
    return "".join(pieces) + draw(st.sampled_from(["", "/", ";", "%3Fx", "%23", "//"]))


@st.composite
def disguises(draw: st.DrawFn) -> tuple[Profile, bytes, str, str]:
    profile, matcher = draw(st.sampled_from(NAMED))
    method = draw(st.sampled_from(matcher.methods or ("GET", "POST"))).encode()
    path = written_out(draw, matcher)
    return profile, method, path, disguised(draw, path)


def meaning(profile: Profile, method: bytes, path: str) -> Act | None:
    where = (method, path.encode(), None, BODY.get, False)
    act = profile.classify(*where)
    return profile.classify_body(*where, b"{}") if isinstance(act, NeedsBody) else act


@settings(max_examples=1500, deadline=None)
@given(disguises())
def test_a_disguise_is_the_same_action_or_one_that_stands_for_it_or_refused(
    case: tuple[Profile, bytes, str, str],
) -> None:
    profile, method, path, disguise = case
    try:
        plain = meaning(profile, method, path)
    except ClientError:
        return
    assert plain is not None
    if not plain.matcher:
        return
    try:
        hidden = meaning(profile, method, disguise)
    except ClientError:
        return  # cannot be inspected: refused
    assert hidden is not None
    if hidden.refused:
        return
    assert not plain.refused
    assert hidden.action is plain.action or stands_for(hidden.action, plain.action)


def stands_for(one: Action | None, other: Action | None) -> bool:
    return one is not None and other in COVERS[one]


Header = Callable[[bytes], bytes | None]
HEADERS: st.SearchStrategy[Header] = st.one_of(
    st.just(BODY.get),
    st.just(lambda _: None),
    st.binary(max_size=12).map(lambda value: lambda _: value),
)


@settings(max_examples=800, deadline=None)
@given(
    st.sampled_from(PROFILES),
    st.one_of(st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"]), st.binary(max_size=6)),
    st.one_of(
        st.binary(max_size=40).map(b"/".__add__),
        st.sampled_from([path for _, matcher in NAMED for path in matcher.paths]).map(str.encode),
    ),
    st.one_of(st.none(), st.binary(max_size=40)),
    HEADERS,
    st.booleans(),
    st.one_of(st.binary(max_size=60), st.recursive(st.text(), st.lists).map(msgspec.json.encode)),
)
def test_no_bytes_make_a_profile_raise(
    profile: Profile, method: bytes, path: bytes, query: bytes | None, header: Header, websocket: bool, body: bytes
) -> None:
    act = profile.classify(method, path, query, header, websocket)
    assert isinstance(act, Act | NeedsBody)
    try:
        assert isinstance(profile.classify_body(method, path, query, header, websocket, body), Act)
    except ClientError as error:
        said = (error.reason, error.status)
    else:
        said = (Reason.BODY_NOT_INSPECTABLE, 403)
    assert said == (Reason.BODY_NOT_INSPECTABLE, 403)
    for text in (True, False):
        assert isinstance(profile.message(body, text), Act | None)


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text("{}()[]:.@$#\"'\\ \nabmutationquery,!|&=...", max_size=80)))
def test_no_text_makes_the_reader_of_graphql_raise_anything_but_unreadable(text: str) -> None:
    with contextlib.suppress(graphql.Unreadable):
        assert graphql.read(text)


SEGMENTS = st.sampled_from(["a", "b", "ab", "{x}", "*", "a{x}", "*b"])
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "aab", "c"]), max_size=4).map(lambda parts: "/" + "/".join(parts))


@st.composite
def templates(draw: st.DrawFn) -> str:
    segments = draw(st.lists(SEGMENTS, max_size=4))
    while sum("{" in segment for segment in segments) > 1:
        segments[next(index for index, segment in enumerate(segments) if "{" in segment)] = "*"
    if draw(st.booleans()):
        segments.insert(draw(st.integers(0, len(segments))), draw(st.sampled_from(["**", "{rest**}"])))
    return "/" + "/".join(segments)


def fits(template: list[str], path: list[str]) -> bool:
    """What a template means, so slowly that anyone can check it by eye."""
    if not template:
        return not path
    first, *rest = template
    if first.endswith(("**", "**}")):
        return any(fits(rest, path[skip:]) for skip in range(len(path) + 1))
    if not path:
        return False
    before, _, after = first.partition("{x}") if "{x}" in first else first.partition("*")
    if "{x}" not in first and "*" not in first:
        return path[0] == first and fits(rest, path[1:])
    least = len(before) + len(after) + ("{x}" in first)
    whole = path[0].startswith(before) and path[0].endswith(after) and len(path[0]) >= least
    return whole and fits(rest, path[1:])


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.tuples(templates(), st.sampled_from([(), ("GET",), ("POST", "PUT")])), max_size=8), PATHS)
def test_the_index_finds_the_first_matcher_that_a_slow_reading_finds(
    rows: list[tuple[str, tuple[str, ...]]], path: str
) -> None:
    matchers = tuple(
        MatcherSpec(f"m{n}", Action.BUILD, methods, (template,)) for n, (template, methods) in enumerate(rows)
    )
    profile = Profile(ProfileSpec("test", "Test", "1", "by tests", matchers))
    parts = [part for part in path.split("/") if part]
    for method in ("GET", "HEAD", "PUT", "BREW"):
        wanted = next(
            (
                f"m{n}"
                for n, (template, methods) in enumerate(rows)
                if (not methods or method in methods or (method == "HEAD" and "GET" in methods))
                and fits([part for part in template.split("/") if part], parts)
            ),
            "",
        )
        act = profile.classify(method.encode(), path.encode(), None, lambda _: None, False)
        assert isinstance(act, Act)
        assert act.matcher == wanted
