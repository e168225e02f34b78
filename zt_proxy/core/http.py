"""Words for HTTP that both wings use."""

import msgspec

SAFE_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS"))
"""RFC 9110 §9.2.1, without TRACE, which is refused."""


class Target(msgspec.Struct, frozen=True, gc=False):
    """A request target in canonical form: policy and upstream see these very bytes.

    `path` begins with `/`, has no dot segments, percent-encodes nothing that is unreserved (RFC 3986 §2.3) and writes
    every escape in upper case. `query` is without its `?`; None if there was none.
    """

    path: bytes
    query: bytes | None

    def wire(self) -> bytes:
        """Origin form, as sent upstream."""
        return self.path if self.query is None else self.path + b"?" + self.query
