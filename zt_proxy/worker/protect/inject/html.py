"""Where a script goes in a page: the first child of `<head>`, found in passing, whatever the pieces it comes in.

The tokenizer of HTML (WHATWG, §13.2.5) as far as the beginning of a document needs it: white space, comments in all
their forms, doctype, `<html …>` and `<head …>` with their attributes. Whatever else comes ends the search, because a
browser opens the head by itself there (§13.2.6.4.1 to .3); the script then goes to the last place known to be good:
behind `<html …>`, else behind the doctype, else at the start. Never in front of a doctype, which would switch the page
to quirks mode, and never into a comment.
"""

HELD = 64 * 1024
"""Most bytes that are held while the place is looked for."""

WHITE = b"\t\n\f\r "
LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
UTF8_BOM = b"\xef\xbb\xbf"
BOMS = (UTF8_BOM, b"\xff\xfe", b"\xfe\xff")

# What is being read, from `_at` on.
START = 0
BETWEEN = 1
COMMENT = 2
BOGUS = 3
"""Ends at the first `>`: `<?…`, `<![…`, `</ …`, and a doctype, quotes or not (§13.2.5.58)."""
DOCTYPE = 4
NAME = 5
ATTRIBUTES = 6
OVER = 7
"""The place is found, or there is none: everything passes."""

# Within the attributes of a tag (§13.2.5.32 to .40).
BEFORE_NAME = 0
IN_NAME = 1
AFTER_NAME = 2
BEFORE_VALUE = 3
UNQUOTED = 4
QUOTED = 5

IGNORED_END_TAGS_STOP = frozenset((b"head", b"body", b"html", b"br"))
"""End tags that open the head, instead of being ignored (§13.2.6.4.3)."""


class Inserter:
    """Bytes of a page in, the same bytes with `tag` among them out. A page that cannot take it passes unchanged."""

    __slots__ = ("_anchored", "_at", "_buffer", "_end_tag", "_name", "_place", "_quote", "_scan", "_state", "_tag",
                 "_within", "placed")  # fmt: skip

    def __init__(self, tag: bytes) -> None:
        self._tag = tag
        self._buffer = bytearray()
        self._state = START
        self._at = 0
        """Where the token that is being read begins."""
        self._scan = 0
        """How far it was read."""
        self._place = 0
        """The best place so far; everything in front of it is as good as out."""
        self._anchored = False
        """A doctype can no longer come, or has come: the place is good as it is."""
        self._name = b""
        self._end_tag = False
        self._within = BEFORE_NAME
        self._quote = 0
        self.placed = False
        """The tag is in the page."""

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the page; gives what can go on."""
        if self._state == OVER:
            return data
        out = []
        while data and self._state != OVER:
            room = HELD - len(self._buffer)
            self._buffer += data[:room]
            data = data[room:]
            while self._state != OVER and self._step():
                pass
            if self._state != OVER:
                out.append(self._release())
                if len(self._buffer) >= HELD:
                    self._stop(place=self._anchored)
        if self._state == OVER:
            out += (self._rest(), data)
        return b"".join(out)

    def end(self) -> bytes:
        """The page is complete: what was held, with the tag if the page has anything in it at all."""
        if self._state == OVER:
            return b""
        begun = self._state != START or bool(self._buffer)
        self._stop(place=begun and (self._anchored or self._state != DOCTYPE))  # an unfinished doctype is one, too
        return self._rest()

    # ---- results ----

    def _stop(self, *, place: bool) -> None:
        self._state = OVER
        self.placed = place

    def _rest(self) -> bytes:
        buffer, place = bytes(self._buffer), self._place
        self._buffer = bytearray()
        return b"%b%b%b" % (buffer[:place], self._tag, buffer[place:]) if self.placed else buffer

    def _release(self) -> bytes:
        place = self._place
        if not place:
            return b""
        out = bytes(self._buffer[:place])
        del self._buffer[:place]
        self._at -= place
        self._scan -= place
        self._place = 0
        return out

    # ---- one token, or as much of it as there is ----

    def _step(self) -> bool:
        """Read on; False when more bytes are needed."""
        state = self._state
        if state == BETWEEN:
            return self._between()
        if state == NAME:
            return self._tag_name()
        if state == ATTRIBUTES:
            return self._attributes()
        if state == COMMENT:
            return self._comment()
        if state == START:
            return self._start()
        return self._until_greater(doctype=state == DOCTYPE)

    def _start(self) -> bool:
        """A byte order mark; one of UTF-16 means a page whose bytes are not looked at (Encoding, §6.1)."""
        buffer = self._buffer
        for mark in BOMS:
            if buffer.startswith(mark):
                if mark != UTF8_BOM:
                    self._stop(place=False)
                    return False
                self._next(len(mark), place=True)
                return True
            if mark.startswith(bytes(buffer)):
                return False
        self._state = BETWEEN
        return True

    def _between(self) -> bool:
        buffer, at = self._buffer, self._at
        size = len(buffer)
        while at < size and buffer[at] in WHITE:
            at += 1
        self._at = self._scan = at
        rest = bytes(buffer[at : at + 9]).lower()
        if not rest.startswith(b"<"):
            if rest:
                self._stop(place=True)  # text: the browser opens the body
            return False
        if len(rest) == 1:
            return False
        if rest[1] in LETTERS:
            return self._begin_name(at + 1, end_tag=False)
        if rest.startswith(b"<!"):
            return self._declaration(rest, at)
        if rest.startswith(b"<?"):
            self._state, self._scan = BOGUS, at + 2
            return True
        if rest.startswith(b"</"):
            if len(rest) == 2:
                return False
            if rest[2] in LETTERS:
                return self._begin_name(at + 2, end_tag=True)
            self._state, self._scan = BOGUS, at + 2
            return True
        self._stop(place=True)
        return False

    def _declaration(self, rest: bytes, at: int) -> bool:
        if rest.startswith(b"<!--"):
            self._state, self._scan = COMMENT, at + 4
        elif rest == b"<!doctype":
            self._state, self._scan = DOCTYPE, at + 9
        elif b"<!doctype".startswith(rest) or b"<!--".startswith(rest):
            return False
        else:
            self._state, self._scan = BOGUS, at + 2
        return True

    def _comment(self) -> bool:
        """`-->` and `--!>` end it; so do `<!-->` and `<!--->` at once (§13.2.5.43, .44, .51, .52)."""
        begin = self._at + 4
        while True:
            end = self._buffer.find(b">", self._scan)
            if end < 0:
                self._scan = len(self._buffer)
                return False
            inside = bytes(self._buffer[max(begin, end - 3) : end])
            if (end - begin < 2 and inside == b"-" * len(inside)) or inside.endswith(b"--") or inside == b"--!":
                self._next(end + 1, place=False)
                return True
            self._scan = end + 1

    def _until_greater(self, *, doctype: bool) -> bool:
        end = self._buffer.find(b">", self._scan)
        if end < 0:
            self._scan = len(self._buffer)
            return False
        if doctype:
            self._anchored = True
        self._next(end + 1, place=doctype)
        return True

    def _begin_name(self, at: int, *, end_tag: bool) -> bool:
        self._state, self._scan, self._end_tag = NAME, at, end_tag
        return True

    def _tag_name(self) -> bool:
        buffer, scan = self._buffer, self._scan
        size = len(buffer)
        while scan < size and buffer[scan] not in b"\t\n\f\r />":
            scan += 1
        begin = self._at + (2 if self._end_tag else 1)
        self._scan = scan
        self._anchored = True
        if scan - begin > 8:
            self._stop(place=True)
            return False
        if scan == size:
            return False
        name = bytes(buffer[begin:scan]).lower()
        stops = name in IGNORED_END_TAGS_STOP if self._end_tag else name not in (b"html", b"head")
        if stops:
            self._stop(place=True)
            return False
        self._name, self._state, self._within = name, ATTRIBUTES, BEFORE_NAME
        return True

    def _attributes(self) -> bool:
        """To the `>` that ends the tag: one in a quoted value does not."""
        buffer, within, quote = self._buffer, self._within, self._quote
        for position in range(self._scan, len(buffer)):
            byte = buffer[position]
            if within == QUOTED:
                if byte == quote:
                    within = BEFORE_NAME
            elif byte == 0x3E:
                self._end_of_tag(position + 1)
                return True
            elif byte in WHITE:
                within = {IN_NAME: AFTER_NAME, UNQUOTED: BEFORE_NAME}.get(within, within)
            elif within == BEFORE_VALUE:
                within, quote = (QUOTED, byte) if byte in b"\"'" else (UNQUOTED, 0)
            elif within != UNQUOTED:
                within = _after(within, byte)
        self._scan, self._within, self._quote = len(buffer), within, quote
        return False

    def _end_of_tag(self, end: int) -> None:
        if self._end_tag:
            self._next(end, place=False)
            return
        self._next(end, place=True)
        if self._name == b"head":
            self._stop(place=True)

    def _next(self, at: int, *, place: bool) -> None:
        """A token ended at `at`."""
        self._at = self._scan = at
        self._state = BETWEEN
        if place:
            self._place = at


def _after(within: int, byte: int) -> int:
    """The state behind a byte that is neither white space nor `>`, in or around an attribute's name."""
    if byte == 0x2F:
        return BEFORE_NAME
    if byte == 0x3D and within != BEFORE_NAME:
        return BEFORE_VALUE
    return IN_NAME
