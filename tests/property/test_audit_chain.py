"""No single change to a chain goes unseen (ZT-LOG-04)."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zt_proxy.control.audit.chain import Head, link
from zt_proxy.control.audit.verify import verify

pytestmark = pytest.mark.case("ZT-LOG-04")


def chain(count: int) -> tuple[list[bytes], Head]:
    head, lines = Head(), []
    for number in range(count):
        line, head = link(head, b'{"type":"decision","id":"r%d","reported":["a","b"]}' % number)
        lines.append(line)
    return lines, head


LINES, HEAD = chain(12)
WHOLE = b"".join(LINES)


def broken(data: bytes) -> bool:
    """As an auditor sees it, who noted the head elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit-000000000001.jsonl"
        path.write_bytes(data)
        return not verify([path], expect=HEAD).ok


def test_the_untouched_chain_holds() -> None:
    assert not broken(WHOLE)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(WHOLE) - 1), change=st.integers(1, 255))
def test_any_single_byte_edit_is_found(position: int, change: int) -> None:
    assert broken(WHOLE[:position] + bytes((WHOLE[position] ^ change,)) + WHOLE[position + 1 :])


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, len(WHOLE)), inserted=st.binary(min_size=1, max_size=3))
def test_any_insertion_is_found(position: int, inserted: bytes) -> None:
    changed = WHOLE[:position] + inserted + WHOLE[position:]
    assert changed == WHOLE or broken(changed)


@settings(max_examples=150, deadline=None)
@given(start=st.integers(0, len(WHOLE) - 1), length=st.integers(1, 400))
def test_any_deletion_of_bytes_is_found(start: int, length: int) -> None:
    assert broken(WHOLE[:start] + WHOLE[start + length :])


@given(gone=st.sets(st.integers(0, len(LINES) - 1), min_size=1, max_size=len(LINES) - 1))
def test_any_deletion_of_lines_is_found(gone: set[int]) -> None:
    assert broken(b"".join(line for number, line in enumerate(LINES) if number not in gone))


@given(order=st.permutations(range(len(LINES))).filter(lambda order: list(order) != sorted(order)))
def test_any_other_order_is_found(order: list[int]) -> None:
    assert broken(b"".join(LINES[number] for number in order))
