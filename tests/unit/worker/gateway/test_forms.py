"""Which requests are forms that may wait, which may be the token of one, and what a form looks like again."""

import pytest

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.link.proofs import KeptForm
from zt_proxy.worker.gateway import browser, forms, preflight
from zt_proxy.worker.wire.head import NOTHING_NOTED, RequestHead
from zt_proxy.worker.wire.hygiene import Kind


def head(kind: str = "application/x-www-form-urlencoded", length: int = 53, **noted: str | None) -> RequestHead:
    values = NOTHING_NOTED.copy()
    said: dict[str, str | None] = {"FETCH_SITE": "same-origin", "FETCH_MODE": "navigate", "FETCH_DEST": "document"}
    for name, value in {**said, **noted}.items():
        values[int(Kind[name])] = value.encode() if value is not None else None
    made = RequestHead([b"Accept: text/html\r\n"], values)
    if kind:
        made.lines.append(f"Content-Type: {kind}\r\n".encode())
    made.method, made.target, made.content_length = b"POST", b"/edit", length
    return made


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "APPLICATION/X-WWW-FORM-URLENCODED; charset=utf-8",
        "multipart/form-data; boundary=x",
        "text/plain",
    ],
)
def test_what_browsers_send_forms_as_may_wait(kind: str) -> None:
    assert forms.may_be_kept(head(kind), 53)
    assert not forms.may_be_kept(head(kind), 52)
    assert not forms.may_be_kept(head(kind), 0)
    assert not forms.may_be_kept(head(kind, 0), 53)


@pytest.mark.parametrize("kind", ["", "application/json", "text/html", "text/plainer", "application/octet-stream"])
def test_nothing_else_may_wait(kind: str) -> None:
    assert not forms.may_be_kept(head(kind), 1000)


@pytest.mark.parametrize(
    "noted",
    [
        {"FETCH_SITE": "same-site"},
        {"FETCH_SITE": "cross-site"},
        {"FETCH_SITE": "none"},
        {"FETCH_SITE": None},
        {"FETCH_MODE": "cors"},
        {"FETCH_DEST": "iframe"},
        {"PURPOSE": "prefetch"},
    ],
)
def test_only_a_navigation_of_the_very_same_origin_is_an_own_form(noted: dict[str, str | None]) -> None:
    assert forms.is_own_form(head())
    other = head(**noted)
    assert not forms.may_be_kept(other, 1000)
    assert not forms.may_be_resumed(other)


def test_a_second_content_type_makes_a_form_nothing() -> None:
    twice = head()
    twice.lines.append(b"content-type: text/plain\r\n")
    assert not forms.may_be_kept(twice, 1000)
    chunked = head()
    chunked.chunked = True
    assert not forms.may_be_kept(chunked, 1000)


def test_a_token_is_the_whole_body_and_has_one_form() -> None:
    token = "A-_9" * 10 + "abc"
    body = b"zt_resume=" + token.encode()
    assert len(body) == forms.RESUME_BYTES
    assert forms.token_in(body) == token
    for other in (body + b"\n", b" " + body, body[:-1], body[:-1] + b"%", body + b"&a=b", b"a=b&" + body, b""):
        assert forms.token_in(other) is None
    assert forms.may_be_resumed(head())
    assert not forms.may_be_resumed(head(length=54))
    assert not forms.may_be_resumed(head("text/plain"))


def test_a_resumed_form_says_of_itself_what_it_said_and_keeps_the_rest() -> None:
    form = KeptForm("multipart/form-data; boundary=x", "https://app.test", "https://app.test/edit", b"--x--")
    now = head(ORIGIN="https://app.test", REFERER="https://app.test/.zt/resume?code=1")
    now.lines.append(b"Referer: https://app.test/.zt/resume?code=1\r\n")
    again = forms.resumed(now, form, 5)
    assert (again.method, again.target, again.content_length, again.chunked) == (b"POST", b"/edit", 5, False)
    assert again.lines == [
        b"Accept: text/html\r\n",
        b"Content-Type: multipart/form-data; boundary=x\r\n",
        b"Origin: https://app.test\r\n",
        b"Referer: https://app.test/edit\r\n",
    ]
    assert again.noted[int(Kind.REFERER)] == b"https://app.test/edit"
    assert now.noted[int(Kind.REFERER)] == b"https://app.test/.zt/resume?code=1"
    with pytest.raises(ClientError) as refused:
        forms.resumed(now, form, 4)
    assert refused.value.reason is Reason.BODY_TOO_LARGE


def test_a_kept_form_does_not_print_what_somebody_wrote() -> None:
    assert "secret" not in repr(KeptForm("text/plain", "", "", b"secret"))


def test_a_question_is_read_strictly() -> None:
    assert preflight.read(b'{"method": "POST", "path": "/x"}') == preflight.Question("POST", "/x")
    for wrong in (b"[]", b"\xff", b'{"method": 1, "path": "/"}', b'{"method": "", "path": "/"}', b"[" * 4000):
        with pytest.raises(ClientError) as refused:
            preflight.read(wrong)
        assert refused.value.reason is Reason.MALFORMED


def test_who_waits_for_events_or_an_upgrade_cannot_be_asked() -> None:
    assert browser.may_prompt(head())
    assert not browser.may_prompt(head(ACCEPT="text/event-stream"))
    upgrade = head()
    upgrade.websocket = True
    assert not browser.may_prompt(upgrade)
