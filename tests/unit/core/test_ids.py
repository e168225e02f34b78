"""Ids that people type."""

import os

import pytest

from zt_proxy.core.keys import b64decode, new_id


def test_an_id_never_looks_like_an_option_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([b"\xfb" * 9, b"\xf8" + bytes(8), b"\x01" * 9])
    monkeypatch.setattr(os, "urandom", lambda size: next(drawn))
    assert b64decode(new_id(9)) == b"\x01" * 9
