"""A provider that ends sessions: logout tokens that are wrong, replayed, early or late, and frames that guess."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.lab.browser import SESSION
from tests.lab.idp import ABSENT
from tests.lab.jose import encode, rsa_key
from tests.lab.logout import FORM, announce, logout_claims, logout_token
from tests.lab.world import AUTH, ELSEWHERE, HOME, MINUTE, STEP_UP, World, world
from zt_proxy.control.identity.logout import EVENT
from zt_proxy.control.portal.guard import LogoutGuard
from zt_proxy.core.keys import b64encode

FRAME = {
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "iframe",
    "Sec-Fetch-Site": "cross-site",
    "Accept": "text/html",
}


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as here:
        yield here


async def told(here: World, token: str) -> int:
    return (await announce(here.browser(), AUTH, token)).status


async def signed_in(person: Any) -> bool:
    return bool((await person.fetch(HOME + "/")).status == 200)


@pytest.mark.case("ZT-OIDC-20")
@pytest.mark.parametrize("typ", ["logout+jwt", "application/logout+JWT", "JWT", None])
async def test_a_right_logout_token_ends_the_session_at_every_host(here: World, typ: str | None) -> None:
    person = await here.person()
    assert (await person.visit(ELSEWHERE + "/")).status == 200
    answer = await announce(here.browser(), AUTH, logout_token(here.idp, header={"typ": typ}))
    assert (answer.status, answer.reply.header("cache-control")) == (200, "no-store")
    assert not await signed_in(person)
    assert (await person.fetch(ELSEWHERE + "/")).status == 401
    assert (await person.fetch(AUTH + "/.zt/session")).text == '{"signed_in":false}'


@pytest.mark.case("ZT-OIDC-20")
@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://elsewhere.test"},
        {"iss": ABSENT},
        {"iss": ["https://idp.test"]},
        {"aud": "another"},
        {"aud": []},
        {"aud": ABSENT},
        {"events": ABSENT},
        {"events": {}},
        {"events": {EVENT: None}},
        {"events": {EVENT: "yes"}},
        {"events": {EVENT + "/": {}}},
        {"events": [EVENT]},
        {"nonce": "n"},
        {"nonce": None},
        {"iat": ABSENT},
        {"iat": "now"},
        {"iat": True},
        {"exp": ABSENT},
        {"jti": ABSENT},
        {"jti": ""},
        {"jti": 5},
        {"sub": ABSENT, "sid": ABSENT},
        {"sub": 5},
        {"sid": ["idp-session-alice"]},
        {"sid": "x" * 256},
    ],
    ids=str,
)
async def test_a_wrong_logout_token_ends_nothing(here: World, wrong: dict[str, Any]) -> None:
    person = await here.person()
    answer = await announce(here.browser(), AUTH, logout_token(here.idp, **wrong))
    assert answer.status == 400
    assert json.loads(answer.text) == {"error": "invalid_request", "error_description": "logout-token-invalid"}
    assert answer.reply.header("cache-control") == "no-store"
    assert await signed_in(person)


@pytest.mark.case("ZT-OIDC-20")
@pytest.mark.parametrize("times", [(-400, 60), (-200, -100), (200, 400)])
async def test_a_logout_token_of_another_time_ends_nothing(here: World, times: tuple[int, int]) -> None:
    person = await here.person()
    now = int(here.clock.now())
    assert await told(here, logout_token(here.idp, iat=now + times[0], exp=now + times[1])) == 400
    assert await signed_in(person)


@pytest.mark.case("ZT-OIDC-20")
async def test_a_logout_token_that_the_provider_did_not_sign_ends_nothing(here: World) -> None:
    person = await here.person()
    claims = logout_claims(here.idp)
    none = f"{b64encode(encode({'alg': 'none', 'typ': 'logout+jwt'}))}.{b64encode(encode(claims))}."
    foreign = rsa_key(here.idp.keys[0].kid, number=1).sign(claims, typ="logout+jwt")
    access = here.idp.keys[0].sign(claims, typ="at+jwt")
    for token in (none, none + "AA", foreign, access, "", "a.b.c", "x" * 16_000, here.idp.last_id_token):
        assert await told(here, token) == 400, token[:80]
    assert await signed_in(person)


@pytest.mark.case("ZT-OIDC-20")
async def test_a_logout_token_works_once(here: World) -> None:
    await here.person()
    token = logout_token(here.idp, sid=ABSENT)
    assert await told(here, token) == 200
    here.clock.advance(2)
    person = await here.person()
    assert await told(here, token) == 400
    assert await signed_in(person)


async def test_a_replay_after_a_restart_ends_nothing_that_began_later(here: World) -> None:
    token = logout_token(here.idp, sid=ABSENT)
    here.clock.advance(2)
    person = await here.person()
    assert await told(here, token) == 200
    assert await signed_in(person)


async def test_an_id_token_is_never_taken_for_a_logout_token_nor_the_other_way_round(here: World) -> None:
    person = await here.person()
    assert await told(here, here.idp.last_id_token) == 400
    here.idp.id_token = lambda claims: here.idp.keys[0].sign(claims, typ="logout+jwt")
    assert (await here.browser().visit(HOME + "/")).status == 401
    assert await signed_in(person)


async def test_a_logout_by_person_ends_all_their_sessions_and_nobody_elses(here: World) -> None:
    first, second = await here.person(), await here.person()
    here.idp.user = "bob"
    other = await here.person()
    assert await told(here, logout_token(here.idp, sid=ABSENT)) == 200
    assert [await signed_in(each) for each in (first, second, other)] == [False, False, True]


async def test_a_logout_by_session_leaves_the_persons_other_sessions(here: World) -> None:
    first = await here.person()
    here.idp.claims["sid"] = "another"
    second = await here.person()
    assert await told(here, logout_token(here.idp)) == 200
    assert [await signed_in(each) for each in (first, second)] == [False, True]


async def test_a_session_whose_provider_never_named_it_ends_with_any_of_the_persons(here: World) -> None:
    here.idp.claims["sid"] = ABSENT
    person = await here.person()
    assert await told(here, logout_token(here.idp)) == 200
    assert not await signed_in(person)


async def test_a_logout_of_a_session_that_is_not_here_is_fine(here: World) -> None:
    person = await here.person()
    assert await told(here, logout_token(here.idp, "bob")) == 200
    assert await signed_in(person)


async def test_the_cookie_of_whoever_sends_it_is_nothing_to_the_back_channel(here: World) -> None:
    person = await here.person()
    body = urlencode({"logout_token": "x.y.z"}).encode()
    for origin in ("https://evil.test", AUTH):
        answer = await person.request(
            AUTH + "/.zt/back-channel-logout", "POST", {**FORM, "Origin": origin, "Sec-Fetch-Site": "cross-site"}, body
        )
        assert answer.status == 400
        assert SESSION not in str(answer.reply)
    assert await signed_in(person)


@pytest.mark.parametrize("by", [{"sid": ABSENT}, {"sub": ABSENT}, {}], ids=["sub", "sid", "both"])
async def test_a_login_that_is_on_its_way_when_its_end_is_announced_makes_no_session(
    here: World, by: dict[str, Any]
) -> None:
    person = here.browser()
    made = here.idp.id_token_claims

    def ended_meanwhile(claims: dict[str, Any]) -> str:
        """Attested, and the announcement overtakes it."""
        here.clock.advance(1)
        return here.idp.keys[0].sign(claims)

    here.idp.id_token = ended_meanwhile
    waiting = await person.visit(HOME + "/", until="/.zt/callback")
    here.idp.id_token_claims = lambda *of: {**made(*of), "iat": int(here.clock.now()) - 5}  # type: ignore[method-assign]
    assert await told(here, logout_token(here.idp, **by)) == 200
    page = await person.visit(waiting.location)
    assert page.status == 401
    assert "login-ended" in page.text
    here.idp.id_token_claims, here.idp.id_token = made, None  # type: ignore[method-assign]
    here.clock.advance(2)
    assert (await person.visit(HOME + "/")).status == 200


async def test_who_shows_token_after_token_that_does_not_verify_is_told_to_wait(here: World) -> None:
    statuses = [await told(here, logout_token(here.idp, aud="another")) for _ in range(22)]
    assert statuses == [400] * 20 + [429] * 2
    guard = LogoutGuard()
    for at in range(20):
        guard.refused("192.0.2.1", float(at))
    assert [guard.waits("192.0.2.1", at) for at in (20.0, 59.0, 61.0)] == [True, True, False]
    assert not guard.waits("192.0.2.2", 20.0)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"logout_token=" + b"x" * 40_000),
        ("application/x-www-form-urlencoded", b"logout_token=a&logout_token=b"),
        ("application/x-www-form-urlencoded", b"token=a"),
        ("application/json", b'{"logout_token": "a"}'),
        ("application/x-www-form-urlencoded", b"logout_token=\xff"),
    ],
)
async def test_what_is_no_small_form_with_one_token_is_refused(here: World, kind: str, body: bytes) -> None:
    answer = await here.browser().request(AUTH + "/.zt/back-channel-logout", "POST", {"Content-Type": kind}, body)
    assert answer.status == 400


async def test_the_back_channel_is_at_the_portal_alone_and_takes_posts_alone(here: World) -> None:
    body = urlencode({"logout_token": logout_token(here.idp)}).encode()
    assert (await here.browser().request(HOME + "/.zt/back-channel-logout", "POST", FORM, body)).status == 404
    assert (await here.browser().request(AUTH + "/.zt/back-channel-logout")).status == 404


async def test_a_provider_whose_keys_cannot_be_had_is_told_to_try_again(here: World) -> None:
    token = logout_token(here.idp)
    here.idp.replies["jwks"] = lambda: (_ for _ in ()).throw(OSError("down"))
    assert (await announce(here.browser(), AUTH, token)).reply.header("retry-after") is not None
    del here.idp.replies["jwks"]
    assert await told(here, token) == 200


# front channel


def frame(here: World, **query: str) -> str:
    return AUTH + "/.zt/front-channel-logout?" + urlencode(query)


@pytest.mark.case("ZT-OIDC-23")
async def test_a_frame_of_the_provider_that_names_issuer_and_session_ends_it(here: World) -> None:
    person = await here.person()
    page = await here.browser().request(frame(here, iss=here.idp.issuer, sid="idp-session-alice"), headers=FRAME)
    assert page.status == 200
    policy = page.reply.header("content-security-policy") or ""
    assert f"frame-ancestors {here.idp.origin}" in policy
    assert page.reply.header("x-frame-options") is None
    assert not await signed_in(person)


@pytest.mark.case("ZT-OIDC-23")
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"iss": "THE"},
        {"sid": "idp-session-alice"},
        {"iss": "THE", "sid": ""},
        {"iss": "https://elsewhere.test", "sid": "idp-session-alice"},
        {"iss": "THE/", "sid": "idp-session-alice"},
    ],
)
async def test_a_frame_without_both_is_ignored(here: World, query: dict[str, str]) -> None:
    person = await here.person()
    named = {name: value.replace("THE", here.idp.issuer) for name, value in query.items()}
    page = await person.request(frame(here, **named), headers=FRAME)
    assert page.status == 400
    assert page.reply.header("x-frame-options") == "DENY"
    assert await signed_in(person)


@pytest.mark.case("ZT-OIDC-23")
async def test_a_frame_with_a_session_id_of_nobody_is_answered_alike_and_ends_nothing(here: World) -> None:
    person = await here.person()
    answers = [
        await here.browser().request(frame(here, iss=here.idp.issuer, sid=sid), headers=FRAME)
        for sid in ("guessed", "idp-session-bob")
    ]
    assert await signed_in(person)
    answers.append(
        await here.browser().request(frame(here, iss=here.idp.issuer, sid="idp-session-alice"), headers=FRAME)
    )
    assert len({(answer.status, answer.text) for answer in answers}) == 1
    assert not await signed_in(person)


async def test_an_image_ends_nothing(here: World) -> None:
    person = await here.person()
    image = {**FRAME, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    page = await here.browser().request(frame(here, iss=here.idp.issuer, sid="idp-session-alice"), headers=image)
    assert page.status == 400
    assert await signed_in(person)


# a step-up makes another session at the provider


async def test_the_end_of_the_session_that_a_step_up_made_ends_the_session_here() -> None:
    async with world(STEP_UP) as here:
        person = await here.person()
        await here.lab.advance(10 * MINUTE)
        here.idp.claims["sid"] = "made-by-the-step-up"
        assert (await person.visit(HOME + "/deploy")).status == 200
        assert here.idp.requests["authorize"] == 2
        assert await told(here, logout_token(here.idp, sid="made-by-the-step-up", sub=ABSENT)) == 200
        assert not await signed_in(person)


async def test_a_step_up_that_is_on_its_way_when_its_end_is_announced_proves_nothing() -> None:
    async with world(STEP_UP) as here:
        person = await here.person()
        await here.lab.advance(10 * MINUTE)
        here.idp.claims["sid"] = "made-by-the-step-up"
        waiting = await person.visit(HOME + "/deploy", until="/.zt/callback")
        assert await told(here, logout_token(here.idp, sid="made-by-the-step-up", sub=ABSENT)) == 200
        assert (await person.visit(waiting.location)).status == 401
        assert await signed_in(person)
        assert (await person.fetch(HOME + "/deploy")).status == 401
