"""What people write in their own words: why they do something, what they ask somebody for."""

import re

SHORTEST, LONGEST = 10, 500
"""Characters of what a person says when they have to say something."""
FORM_BYTES = 16 * 1024
"""Of a form with such a text: each character may take twelve bytes."""

_BLANK = re.compile(r"[ \t\r\n\u00a0]+")


class Unacceptable(Exception):
    """Its text says to the person why."""


def said(text: str, *, optional: bool = False) -> str:
    """The text on one line. Raises Unacceptable: too short, too long, or with characters that nobody sees, by which a
    line in a record or on somebody else's screen would read otherwise than it is (ZT-LOG-01)."""
    text = _BLANK.sub(" ", text).strip()
    if not text.isprintable() or "\ufffd" in text:
        raise Unacceptable("It contains characters that cannot be shown. Write it in plain text.")
    if len(text) > LONGEST:
        raise Unacceptable(f"It has {len(text)} characters. Say it in {LONGEST} at most.")
    if len(text) < SHORTEST and not (optional and not text):
        raise Unacceptable(f"Say a little more: {SHORTEST} characters at least.")
    return text
