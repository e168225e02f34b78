"""Apps that verify, and apps that do not, on real sockets: what the self-test says of each."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import pytest
from aiohttp import web

from zt_proxy.control.assertion_keys import AssertionKeys
from zt_proxy.control.upstream_check import Outcome, Report, Upstream, check
from zt_proxy.control.upstream_probes import Visitor, probes
from zt_proxy.core.clock import SystemClock
from zt_proxy.core.errors import ConfigurationError

VISITOR = Visitor("https://auth.example.com", "builder", email="ops@example.com", groups=("staff",))
OPTIONS = {"require": ["exp", "nbf", "iss", "aud", "sub"], "strict_aud": True}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def keys(tmp_path: Path) -> AssertionKeys:
    return AssertionKeys.load_or_create(tmp_path, SystemClock(), 86_400.0, 3_600.0)


def verify(keys: AssertionKeys, values: list[str], **changes: object) -> dict[str, object]:
    """A right check, but for `changes`."""
    if len(values) != 1:
        raise jwt.InvalidTokenError("not one assertion")
    header = jwt.get_unverified_header(values[0])
    key = keys.verification_keys().get(header.get("kid", ""))
    if key is None:
        raise jwt.InvalidTokenError("unknown key")
    arguments = {"algorithms": ["ES256"], "issuer": VISITOR.issuer, "audience": VISITOR.audience, "options": OPTIONS}
    return jwt.decode(values[0], key, **{**arguments, **changes})


def app_that(refuse: Callable[[list[str]], object], refusal: Callable[[], web.StreamResponse]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            refuse(request.headers.getall("X-ZT-Assertion", []))
        except (jwt.InvalidTokenError, ValueError, KeyError):
            return refusal()
        return web.json_response({"host": request.host, "secret": request.headers.get("X-Secret")})

    return handler


def unauthorized() -> web.StreamResponse:
    return web.Response(status=401)


@asynccontextmanager
async def serving(handler: Handler, socket: Path | None = None) -> AsyncIterator[Upstream]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site: web.BaseSite
    try:
        if socket is not None:
            site = web.UnixSite(runner, str(socket))
            await site.start()
            yield Upstream("http://localhost", "flows.example.com", socket)
        else:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield Upstream(f"http://127.0.0.1:{runner.addresses[0][1]}", "flows.example.com")
    finally:
        await runner.cleanup()


async def ask(keys: AssertionKeys, upstream: Upstream, **options: str) -> Report:
    return await check(upstream, probes(keys.current(), VISITOR, SystemClock().now()), **options)


def accepted(report: Report) -> set[str]:
    return {answer.probe for answer in report.forged if answer.outcome is Outcome.ACCEPTED}


async def test_an_app_that_verifies_refuses_every_forgery(keys: AssertionKeys) -> None:
    async with serving(app_that(lambda values: verify(keys, values), unauthorized)) as upstream:
        report = await ask(keys, upstream)
    assert report.exit_code == 0
    assert len(report.forged) > 15
    assert {answer.status for answer in report.forged} == {401}


async def test_an_app_that_does_not_look_accepts_every_forgery(keys: AssertionKeys) -> None:
    async with serving(app_that(lambda values: None, unauthorized)) as upstream:
        report = await ask(keys, upstream)
    assert report.exit_code == 1
    assert accepted(report) == {answer.probe for answer in report.forged}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"audience": None, "options": {**OPTIONS, "verify_aud": False}}, {"wrong audience"}),
        (
            {"audience": None, "options": {"verify_aud": False, "require": []}},
            {"wrong audience", "no audience", "no expiry"},
        ),
        ({"issuer": None}, {"wrong issuer"}),
        ({"options": {**OPTIONS, "verify_exp": False}}, {"expired"}),
        ({"options": {**OPTIONS, "verify_nbf": False, "verify_iat": False}}, {"not yet valid"}),
        ({"options": {**OPTIONS, "require": []}}, {"no expiry"}),
    ],
)
async def test_a_claim_that_is_not_checked_is_named(
    keys: AssertionKeys, changes: dict[str, object], expected: set[str]
) -> None:
    async with serving(app_that(lambda values: verify(keys, values, **changes), unauthorized)) as upstream:
        report = await ask(keys, upstream)
    assert report.exit_code == 1
    assert accepted(report) == expected


async def test_an_app_that_only_decodes_accepts_every_signature(keys: AssertionKeys) -> None:
    def decode(values: list[str]) -> None:
        claims = jwt.decode(values[0], options={"verify_signature": False})
        if claims["iss"] != VISITOR.issuer or claims["aud"] != VISITOR.audience:
            raise ValueError("for somebody else")

    async with serving(app_that(decode_one(decode), unauthorized)) as upstream:
        report = await ask(keys, upstream)
    assert accepted(report) >= {
        "wrong signature",
        "changed claims",
        "no signature",
        "signature of zeros",
        "other key, same kid",
        "key in its own header",
        "unknown kid",
        "expired",
        "not yet valid",
        "alg: none",
        "HS256 with the public key",
        "two headers, forged first",
    }
    assert not accepted(report) & {"no assertion", "wrong audience", "wrong issuer", "truncated"}


def decode_one(decode: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
    def checked(values: list[str]) -> None:
        if not values:
            raise ValueError("none")
        decode(values)

    return checked


async def test_an_app_that_takes_the_first_of_two_headers_is_named(keys: AssertionKeys) -> None:
    async with serving(app_that(lambda values: verify(keys, values[:1]), unauthorized)) as upstream:
        report = await ask(keys, upstream)
    assert accepted(report) == {"two headers, forged last"}


async def test_an_app_that_believes_a_key_in_the_token_is_named(keys: AssertionKeys) -> None:
    def check_it(values: list[str]) -> None:
        jwk = jwt.get_unverified_header(values[0]).get("jwk") if len(values) == 1 else None
        if jwk is None:
            verify(keys, values)
        else:
            jwt.decode(
                values[0], jwt.PyJWK(jwk), algorithms=["ES256"], issuer=VISITOR.issuer, audience=VISITOR.audience
            )

    async with serving(app_that(check_it, unauthorized)) as upstream:
        report = await ask(keys, upstream)
    assert accepted(report) == {"key in its own header"}


async def test_a_redirect_to_its_own_sign_in_is_a_refusal(keys: AssertionKeys) -> None:
    def to_login() -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/login"})

    async with serving(app_that(lambda values: verify(keys, values), to_login)) as upstream:
        report = await ask(keys, upstream)
    assert report.exit_code == 0


async def test_a_redirect_to_where_the_good_one_goes_is_none(keys: AssertionKeys) -> None:
    async def home(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/home"})

    async with serving(home) as upstream:
        report = await ask(keys, upstream)
    assert report.exit_code == 1
    assert accepted(report) == {answer.probe for answer in report.forged}


@pytest.mark.parametrize("status", [500, 429])
async def test_a_server_error_is_no_refusal(keys: AssertionKeys, status: int) -> None:
    async with serving(app_that(lambda values: verify(keys, values), lambda: web.Response(status=status))) as upstream:
        report = await ask(keys, upstream)
    assert report.exit_code == 1
    assert {answer.outcome for answer in report.forged} == {Outcome.UNCLEAR}


async def test_an_app_that_refuses_the_good_one_teaches_nothing(keys: AssertionKeys) -> None:
    async def closed(request: web.Request) -> web.StreamResponse:
        return unauthorized()

    async with serving(closed) as upstream:
        report = await ask(keys, upstream)
    assert (report.exit_code, report.good.status, report.forged) == (2, 401, ())


async def test_an_app_that_locks_its_door_meanwhile_teaches_nothing(keys: AssertionKeys) -> None:
    seen = 0

    async def once(request: web.Request) -> web.StreamResponse:
        nonlocal seen
        seen += 1
        return web.Response(status=200 if seen == 1 else 403)

    async with serving(once) as upstream:
        report = await ask(keys, upstream)
    assert report.exit_code == 2


async def test_an_app_that_is_not_there_is_said_to_be_unreachable(keys: AssertionKeys) -> None:
    async with serving(app_that(lambda values: None, unauthorized)) as upstream:
        pass
    report = await ask(keys, upstream)
    assert (report.exit_code, report.good.status) == (2, None)
    assert report.good.error


async def test_a_unix_socket_the_route_s_host_and_its_secret_are_used(keys: AssertionKeys, tmp_path: Path) -> None:
    seen: list[tuple[str, str, str | None]] = []

    async def note(request: web.Request) -> web.StreamResponse:
        seen.append((request.method, request.host + request.path_qs, request.headers.get("X-Secret")))
        return web.Response()

    async with serving(note, tmp_path / "app.sock") as upstream:
        with_secret = Upstream(upstream.origin, upstream.host, upstream.socket, headers=(("X-Secret", "s3cret"),))
        await ask(keys, with_secret, method="HEAD", path="/a%2Fb?c=1")
    assert set(seen) == {("HEAD", "flows.example.com/a%2Fb?c=1", "s3cret")}


async def test_https_is_verified_against_the_routes_ca(keys: AssertionKeys, tmp_path: Path) -> None:
    import ssl

    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("app.internal").configure_cert(context)
    app = web.Application()
    app.router.add_get("/", app_that(lambda values: verify(keys, values), unauthorized))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        origin = f"https://127.0.0.1:{runner.addresses[0][1]}"
        good = await ask(keys, Upstream(origin, "h", ca=tmp_path / "ca.pem", server_name="app.internal"))
        other_name = await ask(keys, Upstream(origin, "h", ca=tmp_path / "ca.pem"))
        other_ca = await ask(keys, Upstream(origin, "h", server_name="app.internal"))
    finally:
        await runner.cleanup()
    assert [report.exit_code for report in (good, other_name, other_ca)] == [0, 2, 2]


@pytest.mark.parametrize("path", ["", "a", "/a b", "/a\r\nX: 1", "/ä", "/#x"])
async def test_a_path_that_is_none_is_refused(keys: AssertionKeys, path: str) -> None:
    with pytest.raises(ConfigurationError):
        await ask(keys, Upstream("http://127.0.0.1:9", "h"), path=path)
