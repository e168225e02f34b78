"""The operator's log: structlog and the standard library's logging in one format, without secrets (ZT-LOG-02).

Not on the request path: what is said per request goes into records. Two formats: `json`, one object per line in
printable ASCII, and `console` for people. Whatever a client can put into a value is escaped in both (ZT-LOG-01).
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN: Final = "[hidden]"

_SECRET_PARTS = (
    "authorization", "cookie", "password", "passwd", "secret", "token", "assertion", "credential", "verifier", "nonce",
    "private", "apikey", "handoff",
)  # fmt: skip
_SECRET_NAMES = frozenset(
    ("code", "state", "otp", "totp", "pin", "ticket", "authcode", "usercode", "devicecode", "dpop")
)
_HARMLESS_NAMES = frozenset(("tokenendpoint", "tokentype", "reason", "event"))
_IN_TEXT = (
    # scheme and credentials of an Authorization header
    (re.compile(r"(?i)\b(bearer|basic|dpop|negotiate)\s+[a-z0-9._~+/=-]{8,}"), r"\1 " + HIDDEN),
    # a JWS or JWE in compact form
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){2,4}"), HIDDEN),
    # parameters of a query, a form or a JSON body
    (
        re.compile(
            r"""(?i)(["']?\b(?:code|state|nonce|session_state|[a-z_]*token(?:_hint)?|[a-z_]*secret|[a-z_]*assertion"""
            r"""|code_verifier|password|handoff)\b["']?\s*[=:]\s*["']?)[^\s&"',;}]+"""
        ),
        r"\1" + HIDDEN,
    ),
    # our cookies, wherever they are quoted
    (re.compile(r"(__Host-zt[a-z-]*=)[^\s;,\"']+"), r"\1" + HIDDEN),
)


def configure(format: str = "json", level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logging for the process, to `stream` (standard error if None). Calling again replaces the set-up.

    `format` is `json` or `console`, `level` one of debug, info, warning, error. Raises ValueError for anything else.
    """
    if format not in ("json", "console"):
        raise ValueError(f"log format {format!r}: json or console")
    number = {"debug": 10, "info": 20, "warning": 30, "error": 40}.get(level.lower())
    if number is None:
        raise ValueError(f"log level {level!r}: debug, info, warning or error")
    target = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if format == "json":
        last.append(structlog.processors.JSONRenderer(serializer=_one_line))
    else:
        last += [_escape_values, structlog.dev.ConsoleRenderer(colors=target.isatty())]
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared], processors=last
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A structlog processor: hide values under secret names, and credentials inside any text, at any depth."""
    return {key: value if key.startswith("_") else _clean(key, value) for key, value in event.items()}


def is_secret_name(name: str) -> bool:
    """True for a key, header or parameter whose value must not be logged."""
    folded = re.sub(r"[^a-z0-9]", "", name.lower())
    if folded in _HARMLESS_NAMES:
        return False
    return folded in _SECRET_NAMES or any(part in folded for part in _SECRET_PARTS)


def _clean(name: str, value: Any) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if is_secret_name(name):
        return HIDDEN
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        for pattern, replacement in _IN_TEXT:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {str(_plain(key)): _clean(str(_plain(key)), inner) for key, inner in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | bytes):  # a header
        return [_plain(value[0]), _clean(str(_plain(value[0])), value[1])]
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", inner) for inner in value]
    return _clean("", str(value))


def _plain(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _one_line(event: Any, **_options: Any) -> str:
    return json.dumps(event, ensure_ascii=True, separators=(",", ":"), default=repr).replace("\x7f", "\\u007f")


def _escape_values(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """For the console: control, format and separator characters as escapes; a traceback keeps its line breaks."""
    return {
        key: value if key == "exception" and not _unprintable(value.replace("\n", "")) else _visible(value)
        for key, value in event.items()
    }


def _unprintable(text: str) -> bool:
    return not text.isprintable()


def _visible(value: Any) -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)
