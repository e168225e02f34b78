"""Lines that have sent browsers elsewhere, built from their parts: what a URL parser and a filter read differently."""

from itertools import product

EVIL = "evil.example"
PREFIXES = (
    *("//", "///", "////", "/\\", "\\\\", "\\/", "/\t/", "/\n/", "/\r/", "\t//", " //", "\x00//", "/\x0b/", "/\\/\\"),
    *("/%09/", "/%5c", "/%2f", "/%2f%2f", "%2f%2f", "/%0a/", "/%0d/", "/.//", "/..//", "/;//", "/?//", "/#//", "//;@"),
    *(
        "http:",
        "https:",
        "http:/",
        "https:/",
        "http://",
        "https://",
        "https:///",
        "https:\\\\",
        "HTTPS://",
        "//\t",
        "ftp://",
    ),
    *(
        "javascript:",
        "javascript://",
        "JaVaScRiPt:",
        "java\tscript:",
        "data:text/html,",
        "vbscript:",
        "blob:",
        "//%0d%0a",
    ),
    *("/\u2028/", "/\u3000/", "\uff0f\uff0f", "/\u2215", "https://trusted@", "//trusted@", "//trusted:80@", "/\ufeff/"),
    *("@", ":", "?//", "#//", "&//", "./", "../", "", "/\x7f/", "/ /", "/\x85/", "/\xa0/"),
)
HOSTS = (
    EVIL,
    f"{EVIL}/",
    f"{EVIL}%23.flows.example.com",
    f"{EVIL}\\.flows.example.com",
    f"flows.example.com@{EVIL}",
    f"{EVIL}:443/%2e%2e",
)
SPLITTING = (
    *("/%0d%0aSet-Cookie:x=1", "/\r\nSet-Cookie: x=1", "/\nLocation: //evil.example", "/\rSet-Cookie:x=1"),
    *(
        "/\u010d\u010aSet-Cookie:x=1",
        "/%E5%98%8D%E5%98%8ASet-Cookie:x=1",
        "/\x00\r\n\r\n<script>",
        "/%0d%0a%0d%0a<script>",
    ),
)

CORPUS: tuple[str, ...] = tuple(dict.fromkeys([*(a + b for a, b in product(PREFIXES, HOSTS)), *SPLITTING]))
