"""The head of a request as values: what was parsed, and what is remembered of heads that clients repeat."""

from zt_proxy.worker.wire import hygiene

NOTHING_NOTED: list[bytes | None] = [None] * hygiene.SLOTS


class RequestHead:
    """A request's head, as parsed. `noted[Kind.X]` is the value of a header the proxy looks at, or None.

    `lines` are the headers that may go upstream, each `Name: value\\r\\n`, still without those the proxy adds.
    """

    target = b""
    minor = 1
    content_length = 0
    chunked = False
    keep_alive = True
    websocket = False
    method = b""

    ordinary = False
    """Nothing in it needs a second look: no body, no upgrade, no expectation, GET or HEAD, HTTP/1.1, keep-alive."""
    kind: "HeadKind | None" = None

    def __init__(self, lines: list[bytes], noted: list[bytes | None]) -> None:
        self.lines = lines
        self.noted = noted

    @property
    def has_body(self) -> bool:
        return self.chunked or self.content_length > 0

    def header(self, name: bytes) -> bytes | None:
        """The value of a header that goes upstream, by its lower-case name; of several, joined by a comma (RFC 9110
        §5.3). None: it was not sent, or goes nowhere."""
        found: bytes | None = None
        for line in self.lines:
            if line[: len(name)].lower() == name and line[len(name) : len(name) + 1] == b":":
                value = line[len(name) + 1 :].strip()
                found = value if found is None else found + b", " + value
        return found


class HeadKind:
    """Everything of an ordinary head but its first line. Shared by all requests that repeat it: never changed."""

    __slots__ = ("lines", "noted", "size")

    def __init__(self, lines: list[bytes], noted: list[bytes | None], size: int) -> None:
        self.lines = lines
        self.noted = noted
        self.size = size
        """Bytes of the header block."""


class HeadMemory:
    """Header blocks that llhttp has accepted, byte for byte, as the whole of an ordinary request's head.

    A client on a kept-alive connection repeats its headers exactly, request after request; what they mean depends on
    nothing else, so it is found out once. Bounded in number and size; a full memory starts anew.
    """

    BLOCKS = 1024
    BLOCK_BYTES = 4096
    LINES = 4096
    LINE_BYTES = 512

    __slots__ = ("blocks", "lines")

    def __init__(self) -> None:
        self.blocks: dict[bytes, HeadKind] = {}
        self.lines: dict[bytes, tuple[bytes, bytes]] = {}
        """Request lines, line break included, that say GET or HEAD in origin form: method and target."""

    def keep_line(self, line: bytes, method: bytes, target: bytes) -> None:
        if len(line) <= self.LINE_BYTES:
            if len(self.lines) >= self.LINES:
                self.lines.clear()
            self.lines[line] = method, target

    def keep(self, block: bytes, head: "RequestHead") -> None:
        if len(block) <= self.BLOCK_BYTES:
            if len(self.blocks) >= self.BLOCKS:
                self.blocks.clear()
            self.blocks[block] = head.kind = HeadKind(head.lines, head.noted, len(block))
