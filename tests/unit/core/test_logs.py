"""What the operator's log shows, and what it must not."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from zt_proxy.core.logs import HIDDEN, configure, is_secret_name

SECRET = "s3cr3t-Value_42"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(format: str, level: str = "debug") -> io.StringIO:
    stream = io.StringIO()
    configure(format, level, stream)
    return stream


@pytest.mark.case("ZT-LOG-02")
@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": f"Bearer {SECRET}"},
        {"Proxy-Authorization": SECRET},
        {"cookie": f"__Host-zt={SECRET}"},
        {"set_cookie": SECRET},
        {"code": SECRET},
        {"state": SECRET},
        {"refresh_token": SECRET},
        {"id_token_hint": SECRET},
        {"client_secret": SECRET},
        {"code_verifier": SECRET},
        {"X-ZT-Assertion": SECRET},
        {"headers": {"Authorization": SECRET, "Accept": "*/*"}},
        {"headers": [(b"cookie", SECRET.encode()), (b"accept", b"*/*")]},
        {"url": f"https://app.example/.zt/callback?code={SECRET}&state={SECRET}&iss=x"},
        {"body": f'{{"access_token": "{SECRET}", "error": "invalid_grant"}}'},
        {"detail": f"sent Authorization: Bearer {SECRET}"},
        {"detail": f"cookie was __Host-zt={SECRET}; other=1"},
        {"deep": [{"list": [{"password": SECRET}]}]},
        {"tokens": [SECRET]},
        {"body": f"grant_type=refresh_token&refresh_token={SECRET}".encode()},
    ],
)
def test_zt_log_02_no_secret_reaches_the_log(format: str, fields: dict[str, Any]) -> None:
    stream = lines(format)
    structlog.get_logger("t").debug("exchange", **fields)
    assert SECRET not in stream.getvalue()
    assert HIDDEN in stream.getvalue()


@pytest.mark.case("ZT-LOG-02")
@pytest.mark.parametrize("format", ["json", "console"])
def test_zt_log_02_secrets_in_tracebacks_and_foreign_loggers_are_hidden(format: str) -> None:
    stream = lines(format)
    try:
        raise ValueError(f"POST /token?client_secret={SECRET} failed")
    except ValueError:
        structlog.get_logger("t").exception("failed")
    logging.getLogger("aiohttp.client").warning("got %s", f"code={SECRET}")
    token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    logging.getLogger("other").error("token was %s", token)
    text = stream.getvalue()
    assert SECRET not in text
    assert "eyJ" not in text
    assert "failed" in text
    assert "got" in text


@pytest.mark.parametrize(
    "name", ["reason", "event", "route", "status_code", "token_endpoint", "zip_code_count", "provider"]
)
def test_harmless_names_are_not_hidden(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.case("ZT-LOG-01")
@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("hostile", ["a\r\nb", "\x1b[31mred", 'q"uote', "\u2028", "\x7f\x9b", "\u202egnp", "a\nfake=1"])
def test_zt_log_01_hostile_text_stays_one_line_without_control_characters(format: str, hostile: str) -> None:
    stream = lines(format)
    structlog.get_logger("t").info("hostile", user_agent=hostile)
    logging.getLogger("foreign").info("hostile %s", hostile)
    text = stream.getvalue()
    assert text.count("\n") == 2
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text
    if format == "json":
        first, second = (json.loads(line) for line in text.splitlines())
        assert first["user_agent"] == hostile
        assert second["event"] == f"hostile {hostile}"
        assert text.replace("\n", "").isprintable()


def test_json_lines_carry_time_level_and_logger() -> None:
    stream = lines("json", "info")
    structlog.get_logger("zt_proxy.audit").info("started", port=1)
    structlog.get_logger("zt_proxy.audit").debug("not shown")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["logger"], event["port"]) == ("started", "info", "zt_proxy.audit", 1)
    assert event["at"].endswith("Z")


def test_an_unknown_format_or_level_is_refused() -> None:
    with pytest.raises(ValueError, match="json or console"):
        configure("xml")
    with pytest.raises(ValueError, match="debug, info"):
        configure("json", "loud")
