"""Faults are tried on the loop that serves: uvloop ends a connection whose callback raises in ways of its own."""

import io
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import structlog
import uvloop

from zt_proxy.core import logs


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], Any]]:
    """uvloop for every test of this folder."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """Everything the process says, in the form in which it is said in production."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
