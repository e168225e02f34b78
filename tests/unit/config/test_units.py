import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_proxy.config.units import duration, end_of, frequency, rate, show_duration, show_size, size


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


@pytest.mark.parametrize(
    ("text", "each_second"), [("20/s", 20), ("600/m", 10), ("5000/h", 5000 / 3600), ("1/h", 1 / 3600)]
)
def test_a_frequency_is_read_in_requests_a_second(text: str, each_second: float) -> None:
    assert frequency(text) == pytest.approx(each_second)


@pytest.mark.parametrize("value", ["", "20", 20, "0/s", "-1/s", "20/d", "20 /s", "1.5/s", "٣/s", None, True])
def test_what_is_no_frequency_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match="expected one such as `20/s`"):
        frequency(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-15", 1_800_057_600),
        ("2027-01-15T08:00:00Z", 1_800_000_000),
        ("2027-01-15 09:00:00+01:00", 1_800_000_000),
        ("2028-02-29", 1_835_481_600),
    ],
)
def test_a_day_ends_with_its_last_moment_and_a_moment_with_itself(text: str, seconds: float) -> None:
    assert end_of(text) == seconds


@pytest.mark.parametrize(
    "value", ["", "2027-13-01", "2027-02-30", "tomorrow", "2027-06-30T12:00:00", 20270630, None, "9999-12-31"]
)
def test_what_is_no_date_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match="expected a day such as `2027-06-30`"):
        end_of(value)
