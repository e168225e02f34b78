import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_proxy.config.units import duration, rate, show_duration, show_size, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("12h", 43_200), ("1h30m", 5400), ("7d", 604_800), ("500ms", 0.5), ("0s", 0)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("500B", 500), ("64KiB", 65_536), ("10MB", 10_000_000), ("1GiB", 2**30), ("2kB", 2000), ("3MiB", 3 * 2**20)],
)
def test_a_size_is_read_in_bytes(text: str, count: int) -> None:
    assert size(text) == count


@given(st.integers(0, 10**10))
def test_a_duration_survives_being_written_and_read(milliseconds: int) -> None:
    assert round(duration(show_duration(milliseconds / 1000)) * 1000) == milliseconds


@given(st.integers(0, 10**11))
def test_a_size_survives_being_written_and_read(count: int) -> None:
    assert size(show_size(count)) == count


@pytest.mark.parametrize("value", [30, 1.5, "30"])
def test_a_number_without_unit_is_refused_and_the_unit_suggested(value: object) -> None:
    with pytest.raises(ValueError, match=f"write `{value}s`"):
        duration(value)
    with pytest.raises(ValueError, match=f"write `{value}B`"):
        size(value)


@pytest.mark.parametrize(
    "value", ["", "5 min", "m5", "-5s", "1h 30m", "30m1h", "٣s", True, None, [], "1e3s", "9" * 40 + "s"]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration(value)


@pytest.mark.parametrize("value", ["", "1 MB", "1TB", "-1B", "1mb", "1.5MB", True, None, "٣B"])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        size(value)


def test_a_rate_is_a_size_a_second() -> None:
    assert rate("1KiB/s") == 1024
    with pytest.raises(ValueError, match="not a rate"):
        rate("1KiB")


@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans())
def test_anything_else_raises_nothing_but_value_error(value: object) -> None:
    for read in (duration, size, rate):
        with contextlib.suppress(ValueError):
            assert read(value) >= 0
