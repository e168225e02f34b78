"""The demo provider's second factor."""

import pytest

from zt_proxy.demo import totp

RFC_SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("when", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_the_codes_of_rfc_6238_appendix_b_come_out(when, code):
    assert totp.code_at(RFC_SECRET, when) == code


def test_a_code_is_good_in_its_step_and_in_the_steps_beside_it():
    code = totp.code_at(RFC_SECRET, 990)
    assert [totp.matches(RFC_SECRET, code, when) for when in (959, 960, 990, 1049, 1050)] == [
        False,
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("typed", ["", "abcdef", "12345", "٠٠٥٩٢٤", "005924x"])
def test_what_is_not_six_digits_is_refused(typed):
    assert not totp.matches(RFC_SECRET, typed, 1234567890)


def test_blanks_in_a_typed_code_do_not_matter():
    assert totp.matches(RFC_SECRET, " 005 924 ", 1234567890)


@pytest.mark.parametrize("typed", ["JBSWY3DPEHPK3PXP", "jbsw y3dp ehpk 3pxp", "JBSWY3DPEHPK3PXP===="])
def test_a_secret_is_read_as_set_up_pages_show_it(typed):
    assert totp.from_base32(typed) == b"Hello!\xde\xad\xbe\xef"


@pytest.mark.parametrize("typed", ["", "  ", "0189", "JBSW!"])
def test_what_is_no_secret_is_refused(typed):
    with pytest.raises(ValueError):
        totp.from_base32(typed)
