"""`zt-proxy factors` against a running proxy: what it shows, and that a lost phone is a fresh start and no open door."""

import json
import os
from typing import Any

import msgspec
import pytest

from tests.integration.test_operator import command
from tests.lab.authenticator import Authenticator
from tests.lab.proxy import ProxyLab
from zt_proxy.control.factors.manager import Factors
from zt_proxy.control.factors.types import Person
from zt_proxy.core.errors import ClientError, Reason, UnavailableError
from zt_proxy.core.session import Level, Proof


def factors_of(proxy: ProxyLab) -> Factors:
    assert proxy.proxy.control is not None
    return proxy.proxy.control.factors


def person(subject: str) -> Person:
    """As the lab's provider vouches for them."""
    return Person("https://idp.test", subject, f"{subject}@example.com")


async def enrol(proxy: ProxyLab, who: Person, name: str = "phone") -> None:
    factors, proof = factors_of(proxy), Proof(0.0, Level.PHISHING_RESISTANT)
    challenge = await factors.begin_passkey(who, who.subject, proof, this_login=True)
    control = proxy.proxy.control
    assert control is not None
    credential = Authenticator().create(challenge.options_json, control.settings.portal_origin)
    await factors.add_passkey(who, challenge.token, credential, name)


async def orders(proxy: ProxyLab) -> list[dict[str, Any]]:
    return [line for line in await proxy.log() if line["type"] == "operator"]


async def test_the_list_shows_whose_factors_there_are_and_how_they_are() -> None:
    async with ProxyLab() as proxy:
        alice = person("alice")
        await enrol(proxy, alice, "\x1b[31mphone [bold]")
        await factors_of(proxy).new_recovery_codes(alice)
        code, out, _ = await command(proxy, "factors", "list", "Alice@example.com")
        assert code == 0
        assert "alice@example.com" in out
        assert "[31mphone [bold]" in out
        assert "10 left" in out
        assert "never" in out
        code, out, _ = await command(proxy, "factors", "list", "alice", "--json")
        (found,) = json.loads(out)["people"]
        assert code == 0
        assert [factor["kind"] for factor in found["factors"]] == ["passkey", "recovery"]
        code, out, _ = await command(proxy, "factors", "list", "bob")
        assert (code, out) == (1, "Nobody called bob has factors.\n")


async def test_a_reset_removes_factors_and_ends_the_sessions_of_one_person_on_record() -> None:
    async with ProxyLab() as proxy:
        alice, bob = person("alice"), person("bob")
        cookie = await proxy.sign_in("alice")
        _, bobs = await proxy.new_session("bob")
        await enrol(proxy, alice)
        await enrol(proxy, bob)
        code, out, _ = await command(proxy, "factors", "reset", "alice@example.com", "--reason", "phone lost")
        assert (code, out) == (0, "1 factor removed, 1 session ended.\n")
        assert await factors_of(proxy).of(alice) == ()
        assert len(await factors_of(proxy).of(bob)) == 1
        assert (await proxy.get("/", cookie)).status == 401
        assert (await proxy.get("/", bobs)).status == 200
        code, _, err = await command(proxy, "factors", "reset", "alice")
        assert (code, err) == (1, "alice has no factors\n")
        (order,) = await orders(proxy)
        assert (order["action"], order["uid"], order["reason"]) == ("reset-factors", os.getuid(), "phone lost")
        assert (order["subject"], order["issuer"]) == ("alice", "https://idp.test")
        assert (order["factors"], order["sessions"]) == (1, 1)


async def test_a_name_of_two_people_resets_neither_before_it_is_said_which() -> None:
    async with ProxyLab() as proxy:
        alice, other = person("alice"), Person("https://other.example", "alice")
        await enrol(proxy, alice)
        await enrol(proxy, other)
        code, _, err = await command(proxy, "factors", "reset", "alice")
        assert code == 1
        assert "several providers know alice" in err
        assert "Choose with --issuer." in err
        assert (await command(proxy, "factors", "reset", "alice", "--issuer", "https://other.example"))[0] == 0
        assert len(await factors_of(proxy).of(alice)) == 1
        assert await factors_of(proxy).of(other) == ()


async def test_a_grant_lets_one_factor_in_and_is_on_record() -> None:
    async with ProxyLab() as proxy:
        factors, alice = factors_of(proxy), person("alice")
        control = proxy.proxy.control
        assert control is not None
        factors.configure(msgspec.structs.replace(control.settings.factors, enrolment="grant"))
        with pytest.raises(ClientError) as refused:
            await enrol(proxy, alice)
        assert refused.value.reason is Reason.ENROLMENT_NOT_GRANTED
        code, out, _ = await command(proxy, "factors", "grant", "alice", "--for", "2h", "--reason", "new phone")
        assert (code, out) == (0, "alice may add one factor within 2 h 0 min.\n")
        await enrol(proxy, alice)
        with pytest.raises(ClientError):
            await enrol(proxy, alice)
        (order,) = await orders(proxy)
        assert (order["action"], order["user"], order["reason"]) == ("grant-enrolment", "alice", "new phone")


async def test_orders_that_make_no_sense_are_refused_and_not_on_record() -> None:
    async with ProxyLab() as proxy:
        for arguments in (
            ["reset", "nobody"],
            ["reset", " "],
            ["reset", "x" * 400],
            ["grant", ""],
            ["grant", "alice", "--for", "31d"],
            ["grant", "alice", "--for", "0s"],
            ["grant", "alice", "--for", "soon"],
            ["grant", "alice", "--reason", "x" * 201],
            ["list", ""],
        ):
            assert (await command(proxy, "factors", *arguments))[0] in {1, 2}, arguments
        assert await orders(proxy) == []


async def test_nothing_is_reset_that_cannot_be_put_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ProxyLab() as proxy:
        alice = person("alice")
        cookie = await proxy.sign_in("alice")
        await enrol(proxy, alice)
        control = proxy.proxy.control
        assert control is not None

        async def fail(*_: Any, **__: Any) -> None:
            raise UnavailableError(Reason.RECORD_UNAVAILABLE, "the disk is full")

        monkeypatch.setattr(control.audit, "write", fail)
        code, _, err = await command(proxy, "factors", "reset", "alice")
        assert (code, err) == (2, "the disk is full\n")
        assert len(await factors_of(proxy).of(alice)) == 1
        assert (await proxy.get("/", cookie)).status == 200
