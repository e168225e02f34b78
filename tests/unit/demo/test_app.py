"""The demo app: who asks comes from the signed header alone, and what it offers works."""

import json
from contextlib import asynccontextmanager

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from zt_proxy.core.clock import ManualClock
from zt_proxy.demo.app import AppConfig, build_app
from zt_proxy.demo.web import serve

ISSUER, AUDIENCE = "https://app.zt.test", "https://app.zt.test"


class Proxy:
    """The part of the proxy that the app knows: it signs, and publishes its keys."""

    def __init__(self, clock):
        self.clock, self.key, self.kid, self.fetched = clock, ec.generate_private_key(ec.SECP256R1()), "k1", 0

    def app(self):
        async def jwks(request):
            self.fetched += 1
            key = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
            return web.json_response({"keys": [{**key, "kid": self.kid, "use": "sig", "alg": "ES256"}]})

        app = web.Application()
        app.router.add_get("/jwks", jwks)
        return app

    def claims(self, **change):
        now = int(self.clock.now())
        values = {"iss": ISSUER, "aud": AUDIENCE, "sub": "demo-1", "iat": now, "nbf": now, "exp": now + 60}
        values |= {"name": "Max Meyer", "email": "max@example.com", "groups": ["staff"], "amr": ["pwd", "otp"]} | change
        return {name: value for name, value in values.items() if value is not None}

    def header(self, **change):
        return {"X-ZT-Assertion": jwt.encode(self.claims(**change), self.key, "ES256", {"kid": self.kid})}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def proxy(clock):
    proxy = Proxy(clock)
    async with serve(proxy.app()) as running:
        proxy.jwks = f"{running.url}/jwks"
        yield proxy


@asynccontextmanager
async def running_app(proxy):
    config = AppConfig(proxy.jwks, ISSUER, AUDIENCE, clock=proxy.clock)
    async with serve(build_app(config)) as running, aiohttp.ClientSession(running.url) as http:
        yield http


@pytest.fixture
async def app(proxy):
    async with running_app(proxy) as http:
        yield http


async def test_a_valid_assertion_says_who_asks(app, proxy):
    me = await (await app.get("/api/me", headers=proxy.header())).json()
    assert (me["name"], me["groups"], me["amr"]) == ("Max Meyer", ["staff"], ["pwd", "otp"])
    assert "Max Meyer" in await (await app.get("/", headers=proxy.header())).text()


@pytest.mark.parametrize("path", ["/", "/editor", "/api/records", "/live", "/static/app.js", "/nowhere"])
async def test_without_an_assertion_everything_is_401(app, path):
    answer = await app.get(path)
    assert answer.status == 401
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.test"},
        {"aud": "https://other.zt.test"},
        {"aud": []},
        {"exp": 1},
        {"exp": None},
        {"exp": "9999999999"},
        {"iat": 1_900_000_000},
        {"nbf": 1_900_000_000},
        {"sub": None},
    ],
)
async def test_an_assertion_with_a_wrong_claim_is_401(app, proxy, change):
    with_wrong = dict(proxy.header())
    claims = proxy.claims(**change)
    raw = jwt.api_jws.encode(json.dumps(claims).encode(), proxy.key, "ES256", {"kid": proxy.kid})
    with_wrong["X-ZT-Assertion"] = raw
    assert (await app.get("/api/me", headers=with_wrong)).status == 401


async def test_an_assertion_signed_by_someone_else_or_by_nobody_is_401(app, proxy):
    stranger = ec.generate_private_key(ec.SECP256R1())
    forged = jwt.encode(proxy.claims(), stranger, "ES256", {"kid": proxy.kid})
    unsigned = jwt.encode(proxy.claims(), None, "none", {"kid": proxy.kid})
    public = proxy.key.public_key().public_numbers().x.to_bytes(32, "big")
    confused = jwt.encode(proxy.claims(), public, "HS256", {"kid": proxy.kid})
    for token in (forged, unsigned, confused, "x", "a.b.c", ""):
        assert (await app.get("/api/me", headers={"X-ZT-Assertion": token})).status == 401


async def test_two_assertions_are_401(app, proxy):
    token = proxy.header()["X-ZT-Assertion"]
    headers = [("X-ZT-Assertion", token), ("X-ZT-Assertion", token)]
    assert (await app.get("/api/me", headers=headers)).status == 401


async def test_a_rotated_key_is_fetched_and_made_up_key_ids_do_not_hammer_the_proxy(app, proxy):
    assert (await app.get("/api/me", headers=proxy.header())).status == 200
    proxy.key, proxy.kid = ec.generate_private_key(ec.SECP256R1()), "k2"
    assert (await app.get("/api/me", headers=proxy.header())).status == 401
    proxy.clock.advance(6)
    assert (await app.get("/api/me", headers=proxy.header())).status == 200
    proxy.kid = "made-up"
    for _ in range(20):
        assert (await app.get("/api/me", headers=proxy.header())).status == 401
    assert proxy.fetched == 2


async def test_a_record_is_added_changed_and_deleted(app, proxy):
    before = await (await app.get("/api/records", headers=proxy.header())).json()
    record = {"item": "Chair", "amount": "120", "approved": "no"}
    answer = await app.post("/api/records", json=record, headers=proxy.header())
    added = await answer.json()
    assert (answer.status, added["item"]) == (201, "Chair")
    path = f"/api/records/{added['id']}"
    changed = await (await app.put(path, json=record | {"approved": "yes"}, headers=proxy.header())).json()
    assert changed["approved"] == "yes"
    assert (await app.delete(path, headers=proxy.header())).status == 204
    assert (await app.delete(path, headers=proxy.header())).status == 404
    assert (await app.put(path, json=record, headers=proxy.header())).status == 404
    assert await (await app.get("/api/records", headers=proxy.header())).json() == before


@pytest.mark.parametrize("record", [{"amount": "a lot"}, {"approved": "maybe"}, {"item": "x" * 201}, [], {"item": {}}])
async def test_a_record_that_does_not_fit_the_form_is_422(app, proxy, record):
    answer = await app.post("/api/records", json=record, headers=proxy.header())
    assert answer.status == 422
    assert (await answer.json())["title"]


async def test_what_people_type_is_escaped(app, proxy):
    await app.post("/api/records", json={"item": "<script>alert(1)</script>"}, headers=proxy.header())
    answer = await app.get("/", headers=proxy.header(name="<b>Bob</b>"))
    text = await answer.text()
    assert "<script>alert" not in text
    assert "<b>Bob" not in text
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


async def test_a_deploy_changes_the_form_and_a_stale_one_is_refused(app, proxy):
    form = await (await app.get("/api/form", headers=proxy.header())).json()
    form["fields"].append({"label": "Cost centre", "type": "text"})
    answer = await app.post("/api/deploy", json=form, headers=proxy.header())
    assert await answer.json() == {"version": form["version"] + 1}
    assert "Cost centre" in await (await app.get("/", headers=proxy.header())).text()
    assert (await app.post("/api/deploy", json=form, headers=proxy.header())).status == 409


@pytest.mark.parametrize(
    "fields",
    [None, [], [{"label": "", "type": "text"}], [{"label": "A", "type": "file"}], [{"label": "A", "type": "text"}] * 2],
)
async def test_a_form_that_makes_no_sense_is_422(app, proxy, fields):
    assert (await app.post("/api/deploy", json={"version": 1, "fields": fields}, headers=proxy.header())).status == 422


async def test_the_live_socket_tells_of_deploys_and_answers_a_ping(app, proxy):
    async with app.ws_connect("/live", headers=proxy.header(name="Vera Voss")) as socket:
        assert (await socket.receive_json(timeout=5))["text"] == "is watching"
        await socket.send_str("ping")
        assert await socket.receive_json(timeout=5) == {"kind": "pong"}
        form = await (await app.get("/api/form", headers=proxy.header())).json()
        await app.post("/api/deploy", json=form, headers=proxy.header())
        event = await socket.receive_json(timeout=5)
        assert (event["kind"], event["who"]) == ("deploy", "Max Meyer")


async def test_the_app_stops_at_once_although_somebody_watches(proxy):
    async with running_app(proxy) as http:
        socket = await http.ws_connect("/live", headers=proxy.header())
        await socket.receive_json(timeout=5)
    assert (await socket.receive(timeout=5)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


async def test_plain_http_is_served_on_loopback_only(proxy):
    with pytest.raises(ValueError, match="loopback"):
        async with serve(proxy.app(), host="0.0.0.0"):
            pass
