"""Targets by table: what is canonical, what needs a route's consent, what nobody may send."""

import pytest

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.http import Target
from zt_proxy.worker.settings import PathSettings
from zt_proxy.worker.wire.target import (
    DOUBLE_SLASH,
    ENCODED_DELIMITERS,
    ENCODED_SLASH,
    PARAMETERS,
    allowed_flags,
    parse,
    parse_target,
    refuse_unless,
)

EVERYTHING = PathSettings(encoded_slash=True, double_slash=True, parameters=True, encoded_delimiters=True)


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        (b"/", b"/", None),
        (b"/a/b.c?x=1", b"/a/b.c", b"x=1"),
        (b"/%61%7e%2D", b"/a~-", None),
        (b"/caf%c3%a9", b"/caf%C3%A9", None),
        (b'/a"<>^`{|}[]', b"/a%22%3C%3E%5E%60%7B%7C%7D%5B%5D", None),
        (b"/a%20b", b"/a%20b", None),
        (b"/.well-known/x", b"/.well-known/x", None),
        (b"/a/...", b"/a/...", None),
        (b"/..a/b..", b"/..a/b..", None),
        (b"/x?../..//%2e%zz;\\[]", b"/x", b"../..//%2e%zz;\\[]"),
        (b"/x??", b"/x", b"?"),
    ],
)
def test_canonical_form(raw: bytes, path: bytes, query: bytes | None) -> None:
    parsed = parse(raw)
    assert (parsed.target, parsed.authority, parsed.needs) == (Target(path, query), None, 0)


@pytest.mark.case("ZT-PATH-08")
def test_an_empty_query_has_the_same_path_and_keeps_its_mark() -> None:
    assert parse(b"/admin?").target == Target(b"/admin", b"")
    assert parse(b"/admin?").target.wire() == b"/admin?"
    assert parse(b"/admin?").target.path == parse(b"/admin").target.path == parse(b"/admin?x=1").target.path


def test_asterisk_form_comes_back_as_it_is() -> None:
    assert parse(b"*").target == Target(b"*", None)


@pytest.mark.case("ZT-PATH-16")
@pytest.mark.parametrize(
    ("raw", "authority", "path", "query"),
    [
        (b"http://adm.ex/", b"adm.ex", b"/", None),
        (b"HTTPS://adm.ex:8443/a?b", b"adm.ex:8443", b"/a", b"b"),
        (b"http://adm.ex", b"adm.ex", b"/", None),
        (b"http://adm.ex?q", b"adm.ex", b"/", b"q"),
        (b"http://[::1]:80/%61", b"[::1]:80", b"/a", None),
    ],
)
def test_absolute_form_gives_its_authority_to_the_caller(
    raw: bytes, authority: bytes, path: bytes, query: bytes | None
) -> None:
    parsed = parse(raw)
    assert (parsed.authority, parsed.target) == (authority, Target(path, query))


@pytest.mark.parametrize(
    ("raw", "needs"),
    [
        pytest.param(b"//admin/x", DOUBLE_SLASH, marks=pytest.mark.case("ZT-PATH-02")),
        pytest.param(b"///admin", DOUBLE_SLASH, marks=pytest.mark.case("ZT-PATH-02")),
        (b"/a//", DOUBLE_SLASH),
        (b"/a%2fb", ENCODED_SLASH),
        (b"/a;v=1/b", PARAMETERS),
        (b"/a%3bv", PARAMETERS),
        pytest.param(b"/admin%3Fx=1", ENCODED_DELIMITERS, marks=pytest.mark.case("ZT-PATH-08")),
        (b"/a%23", ENCODED_DELIMITERS),
        (b"/100%25", ENCODED_DELIMITERS),
        (b"/a%2F//b;c%3f", ENCODED_SLASH | DOUBLE_SLASH | PARAMETERS | ENCODED_DELIMITERS),
    ],
)
def test_opt_in_features_are_refused_unless_the_route_allows_them(raw: bytes, needs: int) -> None:
    assert parse(raw).needs == needs
    with pytest.raises(ClientError) as refusal:
        parse_target(raw)
    assert (refusal.value.status, refusal.value.reason) == (400, Reason.TARGET_REFUSED)
    assert parse_target(raw, EVERYTHING) == parse(raw).target
    for flag in (ENCODED_SLASH, DOUBLE_SLASH, PARAMETERS, ENCODED_DELIMITERS):
        if needs & flag:
            with pytest.raises(ClientError):
                refuse_unless(needs, allowed_flags(EVERYTHING) & ~flag)


def test_each_setting_allows_its_own_feature_only() -> None:
    assert allowed_flags(PathSettings()) == 0
    assert allowed_flags(PathSettings(encoded_slash=True)) == ENCODED_SLASH
    assert allowed_flags(PathSettings(double_slash=True)) == DOUBLE_SLASH
    assert allowed_flags(PathSettings(parameters=True)) == PARAMETERS
    assert allowed_flags(PathSettings(encoded_delimiters=True)) == ENCODED_DELIMITERS


REFUSED = {
    "ZT-PATH-02": [b"/.//admin"],
    "ZT-PATH-05": [b"/x%2f..%2fadmin", b"/admin%5c", b"/x%5c..%5cadmin", b"/\\admin", b"/x%2F%2e%2e"],
    "ZT-PATH-09": [b"/admin%00.png", b"/public%00/../admin", b"/a\x00b", b"/%0d%0aX: y", b"/a%7f"],
    "ZT-PATH-10": [b"/%c0%ae%c0%ae/admin", b"/%c0%afadmin", b"/adm%ff", b"/adm%u0069n", b"/%ed%a0%80"],
    "ZT-PATH-11": [b"/admin%2", b"/admin%", b"/%zz/admin", b"/%%32e"],
    "ZT-PATH-14": ["/ªdmin".encode(), "/admın".encode()],
    "ZT-PATH-20": [b"/static/../secret", b"/static/..", b"/..", b"/.", b"/a/.", b"/a/./b"],
    "ZT-PATH-22": [b"/%252e%252e/admin", b"/%25%32%65", b"/%2541", b"/%25u002e"],
    "ZT-REDIR-02": [b"/\\evil", b"/%09/evil", b"/\t/evil", b"https:evil", b"javascript:x", b"https://a@evil/"],
    "dots": [b"/%2e%2e/", b"/.%2e", b"/%2E", b"/a/..;/b", b"/a/..;x", b"/a/..%3bx/b", b"/..%3f", b"/..%23", b"/../?a"],
    "bytes": [b"/a b", b"/a#b", b"/a?b#c", b"/a?b c", b"/a?\xff", b"/a?\x01", b"/a\x7f", b"/a\n", b"/a?\n", b"/\xe9"],
    "form": [b"", b"a", b"a/b", b"host:443", b"ftp://h/", b"http://", b"http:///x", b"**", b"?x", b"http://h/../a"],
}


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(raw, id=f"{case}-{raw!r}", marks=[pytest.mark.case(case)] if case.startswith("ZT") else [])
        for case, targets in REFUSED.items()
        for raw in targets
    ],
)
def test_nobody_may_send(raw: bytes) -> None:
    with pytest.raises(ClientError) as refusal:
        parse_target(raw, EVERYTHING)
    assert (refusal.value.status, refusal.value.reason) == (400, Reason.TARGET_REFUSED)


@pytest.mark.case("ZT-PATH-10")
@pytest.mark.case("ZT-PATH-14")
def test_unicode_is_bytes_and_never_folded() -> None:
    assert parse(b"/%ef%bc%8fadmin").target.path == b"/%EF%BC%8Fadmin"
    assert parse(b"/%EF%BC%A1").target.path == b"/%EF%BC%A1"


@pytest.mark.case("ZT-PATH-07")
def test_a_question_mark_ends_the_path() -> None:
    assert parse(b"/foo/admin?x=/bar").target.path == b"/foo/admin"
    assert parse(b"/admin?/public").target.path == b"/admin"
