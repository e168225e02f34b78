"""Requests whose framing could be read in two ways, by case; and transfer codings spelled so that one reader of two
overlooks them, made like the list of defparam's smuggler."""

CHUNKED = b"Transfer-Encoding: chunked\r\n"

MALFORMED: dict[str, list[bytes]] = {
    "ZT-SMUG-01": [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test, app.test\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b" GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: app.test\r\n\r\n",
        b"GET / http/1.1\r\nHost: app.test\r\n\r\n",
        b"GET / HTTP/1,1\r\nHost: app.test\r\n\r\n",
        b"GET / HTTP/01.1\r\nHost: app.test\r\n\r\n",
        b"GET / HTTP/1.10\r\nHost: app.test\r\n\r\n",
        b"GET / HTTP/+1.1\r\nHost: app.test\r\n\r\n",
        b"GET / HTTPS/1.1\r\nHost: app.test\r\n\r\n",
        b"GET / ICE/1.0\r\nHost: app.test\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nNo-Colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\n: no name\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nTwo Words: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nB@d: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nB\xc3\xa4d: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\n\"Bad\": x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX: a\x01b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX: a\x7fb\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: -3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3.0\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length:\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 18446744073709551619\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    "ZT-SMUG-11": [
        b"POST / HTTP/1.1\r\nHost: app.test\r\n" + CHUNKED + b"\r\n" + body
        for body in (
            b"1;\n\r\na\r\n0\r\n\r\n",
            b"1;a\nb\r\na\r\n0\r\n\r\n",
            b"1;\r\r\na\r\n0\r\n\r\n",
            b"1\n\r\na\r\n0\r\n\r\n",
            b"1\r\naX0\r\n\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1\r\na\r0\r\n\r\n",
            b"2\r\na\r\n0\r\n\r\n",
            b"1\r\nab\r\n0\r\n\r\n",
            b"\r\na\r\n0\r\n\r\n",
            b";x\r\na\r\n0\r\n\r\n",
            b" 1\r\na\r\n0\r\n\r\n",
            b"1 \r\na\r\n0\r\n\r\n",
            b"-1\r\na\r\n0\r\n\r\n",
            b"+1\r\na\r\n0\r\n\r\n",
            b"0x1\r\na\r\n0\r\n\r\n",
            b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
            b"g\r\na\r\n0\r\n\r\n",
            b"10000000000000001\r\na\r\n0\r\n\r\n",
            b"ffffffffffffffff1\r\na\r\n0\r\n\r\n",
            b"0\r\nGET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n",
            b"0\r\nBad Trailer: x\r\n\r\n",
            b"0\r\nX: a\rb\r\n\r\n",
            b"0\r\nX: a\nGET /smuggled HTTP/1.1\r\n\r\n",
        )
    ],
    "ZT-SMUG-12": [
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: " + length + b"\r\n\r\nabcde"
        for length in ("\u0661".encode(), "\uff15".encode(), b"+5", b"-5", b"0x5", b"5_0", b"5,5", b"5;", b"5 5", b"5a",
                       b"\x0b5", b"5\x0c", b"\"5\"", b"5.", b"1e1", b"")
    ] + [
        b"POST / HTTP/1.1\r\nHost: app.test\r\n" + CHUNKED + b"\r\n" + size + b"\r\na\r\n0\r\n\r\n"
        for size in ("\uff11".encode(), "\u0661".encode(), b"\xb2", b"1h", b"#1", b"1.0", b"0o1")
    ],
    "ZT-SMUG-13": [
        b"GET / HTTP/1.1\nHost: app.test\n\n",
        b"GET / HTTP/1.1\nHost: app.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX: y\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX: y\r\n\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\rHost: app.test\r\r",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX: a\r\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX: a\r\n\tfolded\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: app.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : app.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\t: app.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX\x00Y: z\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX : y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX\r: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\nX\n: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length : 5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ],
}  # fmt: skip


def obfuscated() -> list[bytes]:
    """Header lines that are, or look like, a transfer coding."""
    lines = [
        b"Transfer-Encoding: chunked", b"Transfer-Encoding:chunked", b"transfer-encoding: CHUNKED",
        b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunkedx", b"Transfer-Encoding: chunk",
        b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
        b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: ,chunked",
        b"Transfer-Encoding: 'chunked'", b"Transfer-Encoding: chunked;x=y", b"Transfer-Encoding:  chunked",
        b"Transfer_Encoding: chunked", b"Transfer.Encoding: chunked", b"TransferEncoding: chunked",
        b"X-Transfer-Encoding: chunked", b"Content-Encoding: chunked", b"TE: chunked", b"Trailer: chunked",
        b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", b"Transfer-%45ncoding: chunked",
        b"Transfer\xc2\xadEncoding: chunked", b"Transfer-Encoding: \xef\xbd\x83hunked", b"Tr\xc3\xa4nsfer-Encoding: chunked",
        b"Content-Length: 0", b"Content_Length: 0", b"Connection: Content-Length",
    ]  # fmt: skip
    patterns = (
        b"%bTransfer-Encoding: chunked", b"Transfer-Encoding%b: chunked", b"Transfer-Encoding:%bchunked",
        b"Transfer-Encoding: chunked%b", b"Transfer-Encoding: %bchunked", b"Transfer%b-Encoding: chunked",
        b"X: X%bTransfer-Encoding: chunked", b"X: X\r%bTransfer-Encoding: chunked", b"X: X%b\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked%bX: X", b"Transfer-Encoding: chunked\r%bX: X", b"Transfer-Encoding: chunked%b\nX: X",
    )  # fmt: skip
    for code in (0x01, 0x04, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1F, 0x20, 0x7F, 0xA0, 0xFF):
        lines += [pattern % bytes((code,)) for pattern in patterns]
    return lines
