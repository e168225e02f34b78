"""The colours of both schemes keep the contrast that WCAG 2.2 AA asks for (1.4.3: 4.5:1 for text, 1.4.11: 3:1)."""

import re

import pytest

from zt_proxy.pages.style import STYLE

LIGHT, DARK = (dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", block)) for block in re.findall(r":root\{([^}]*)\}", STYLE))


def luminance(colour: str) -> float:
    digits = colour[1:]
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    parts = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_controls_stand_out_from_what_is_behind_them(scheme: dict[str, str]) -> None:
    for text in ("ink", "soft", "accent"):
        assert contrast(scheme[text], scheme["card"]) >= 4.5, text
    assert contrast(scheme["on"], scheme["accent"]) >= 4.5
    for sign in ("alarm", "calm", "accent"):
        assert contrast(scheme[sign], scheme["card"]) >= 3.0, sign


def test_the_measure_itself_is_right() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


def test_the_style_reaches_for_nothing_outside() -> None:
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert "</" not in STYLE
