"""The colours of the demo's pages are readable in light and dark: WCAG 2.2 AA, success criteria 1.4.3 and 1.4.11."""

import re

import pytest

from zt_proxy.demo.web import STATIC

TEXT, PART = 4.5, 3.0
PAIRS = [
    ("ink", "sheet", TEXT),
    ("ink", "ground", TEXT),
    ("ink", "field", TEXT),
    ("ink", "soft", TEXT),
    ("quiet", "sheet", TEXT),
    ("quiet", "ground", TEXT),
    ("quiet", "soft", TEXT),
    ("accent-ink", "sheet", TEXT),
    ("accent-ink", "ground", TEXT),
    ("accent-ink", "soft", TEXT),
    ("on-accent", "accent", TEXT),
    ("bad", "bad-soft", TEXT),
    ("bad", "sheet", TEXT),
    ("good", "sheet", TEXT),
    ("field-line", "sheet", PART),
    ("field-line", "field", PART),
    ("accent", "sheet", PART),
]


def palettes():
    css = (STATIC / "demo.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})\b", block)) for block in (light, dark)]
    return {"light": found[0], "dark": found[1]}


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("front", "back", "least"), PAIRS)
def test_a_colour_stands_out_from_what_is_behind_it(scheme, front, back, least):
    palette = palettes()[scheme]
    bright, dim = sorted((luminance(palette[front]), luminance(palette[back])), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= least
