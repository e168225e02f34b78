"""Machines at the door: by which certificate they get in, how far, and that nobody gets in as somebody else."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.lab.certificates import DAY, Authority, Leaf
from tests.lab.proxy import APP, PORTAL, Client, ProxyLab, Reply, allow, deny, lab_route, trusting_context
from tests.lab.upstream import RecordingUpstream
from tests.lab.waiting import until
from tests.lab.ws import EchoPlatform, close_code, frame, handshake, read_frame
from zt_proxy.control.settings import RevocationSource
from zt_proxy.core.clock import ManualClock, SystemClock
from zt_proxy.policy.spec import Audience, RequestMatch, RuleEffect, RuleSpec
from zt_proxy.worker.identify.certificate import parse_name
from zt_proxy.worker.settings import CertificateMatch, ClientCertificateSettings, IntegrationSettings

CRM = "spiffe://example.com/crm"
ERP = "spiffe://example.com/erp"
NAVIGATION = b"Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def scope(name: str, *paths: str, methods: tuple[str, ...] = ()) -> RuleSpec:
    """The rule that an integration's `allow` becomes."""
    match = RequestMatch(methods, paths)
    return RuleSpec(f"integration:{name}", RuleEffect.ALLOW, Audience.MATCHING, matches=(match,), integrations=(name,))


def known_by(name: str, rate: float | None = None, expires: float | None = None, **match: Any) -> IntegrationSettings:
    return IntegrationSettings(name, "ops@example.com", (CertificateMatch(**match),), expires, rate)


INTEGRATIONS = (known_by("crm", san_uri=CRM), known_by("erp", san_uri=ERP))
RULES = (allow(), scope("crm", "/api/contacts/**", methods=("GET", "POST")), scope("erp", "/erp/**"))


class MachineLab(ProxyLab):
    """A lab whose only listener asks for certificates of `ca`."""

    def __init__(self, folder: Path, **more: Any) -> None:
        clock = more.setdefault("clock", SystemClock())
        self.folder = folder
        self.ca: Authority = more.pop("ca", None) or Authority("Clients", now=clock.now())
        self.pem = folder / "clients.pem"
        self.pem.write_bytes(self.ca.pem)
        self.list = folder / "clients.crl"
        terms: dict[str, Any] = {"required": True, **more.pop("terms", {})}
        listener = more.pop("listener", {})
        listener.setdefault("client_certificates", (ClientCertificateSettings(self.pem, **terms),))
        if terms.get("revocation"):
            self.publish()
            more["control"] = {"revocation": (RevocationSource(self.pem, (self.list,)),), **more.pop("control", {})}
        worker = {"integrations": INTEGRATIONS, **more.pop("worker", {})}
        super().__init__(**{"rules": RULES, **more}, listener=listener, worker=worker)

    def publish(self, *revoked: int, number: int = 1, **times: float) -> None:
        """Put a revocation list in place, as an operator should: by renaming."""
        fresh = self.list.with_suffix(".new")
        fresh.write_bytes(self.ca.crl(revoked, number=number, **times))
        fresh.replace(self.list)

    def showing(self, leaf: Leaf, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        context = leaf.show(trusting_context(), self.folder)
        context.maximum_version = version
        return context

    async def as_machine(self, leaf: Leaf | None, name: str | None = APP) -> Client:
        return await self.connect(name, **({"ssl": self.showing(leaf)} if leaf else {}))

    async def ask(self, leaf: Leaf | None, path: str = "/api/contacts/7", headers: bytes = b"", **more: Any) -> Reply:
        """One request on a connection of its own."""
        host, method = more.pop("host", APP), more.pop("method", "GET")
        client = await self.as_machine(leaf, more.pop("name", host))
        return await exchange(client, path, headers, host, method)

    async def lists_in_force(self) -> None:
        worker = self.proxy.worker
        assert worker is not None
        await until(lambda: bool(worker.revoked))


async def exchange(
    client: Client, path: str = "/api/contacts/7", headers: bytes = b"", host: str = APP, method: str = "GET"
) -> Reply:
    await client.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n".encode() + headers + b"\r\n")
    return await client.reply(method)


def reason(reply: Reply) -> str:
    """The reason of a refusal, which is problem+json whatever was asked for."""
    assert not reply.all("location")
    assert b"<html" not in reply.body.lower()
    return str(reply.problem["reason"]) if reply.status >= 400 else ""


# ---- the way in ----


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_integration_gets_through_and_the_platform_and_the_record_learn_its_name(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    async with MachineLab(tmp_path, route={"identity_headers": "remote-user"}) as lab:
        leaf = lab.ca.issue(uris=[CRM])
        client = await lab.connect(APP, ssl=lab.showing(leaf, version))
        assert [(await exchange(client)).status for _ in range(3)] == [200, 200, 200]
        seen = lab.upstream.seen[-1]
        token = seen.header(b"x-zt-assertion")
        assert token is not None
        claims = jwt.decode(token, options={"verify_signature": False}, audience=f"https://{APP}")
        assert (claims["sub"], claims["integration"], claims["groups"]) == ("integration:crm", "crm", [])
        assert "sid" not in claims
        assert claims["exp"] - claims["iat"] <= 120
        assert (seen.header(b"remote-user"), seen.header(b"remote-groups")) == (b"integration:crm", None)
        records = await lab.decisions()
        assert len(records) == 3
        for record in records:
            assert (record["sub"], record["integration"]) == ("integration:crm", "crm")
            assert (record["rule"], record["reason"]) == ("integration:crm", "rule-allowed")
            assert record["certificate"] == leaf.fingerprint[:16]
            assert not {"sid", "email", "provider"} & set(record)


@pytest.mark.case("ZT-INTEG-01")
async def test_an_integration_does_what_it_was_given_and_nothing_else(tmp_path: Path) -> None:
    rules = (*RULES, deny("not-7", groups=(), integrations=("crm",), paths=("/api/contacts/7/secret",)))
    other = lab_route("other", "other.test", (allow(), scope("erp")))
    async with MachineLab(tmp_path, routes=(lab_route("app", APP, rules), other)) as lab:
        leaf = lab.ca.issue(uris=[CRM])
        for path, method, host, expected in (
            ("/api/contacts/7", "GET", APP, ""),
            ("/api/contacts/7", "POST", APP, ""),
            ("/api/contacts/7", "DELETE", APP, "no-rule-matched"),
            ("/api/contactsx", "GET", APP, "no-rule-matched"),
            ("/api/contacts/../admin", "GET", APP, "target-refused"),
            ("/erp/1", "GET", APP, "no-rule-matched"),
            ("/", "GET", APP, "no-rule-matched"),
            ("/api/contacts/7/secret", "GET", APP, "rule-denied"),
            ("/api/contacts/7", "GET", "other.test", "no-rule-matched"),
        ):
            reply = await lab.ask(
                leaf, path, b"Content-Length: 0\r\n" if method == "POST" else b"", method=method, host=host
            )
            assert reason(reply) == expected, (path, method, host)
        assert len(lab.upstream.seen) == 2


@pytest.mark.case("ZT-INTEG-01")
async def test_what_looks_like_a_credential_and_is_no_certificate_opens_nothing(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, terms={"required": False}) as lab:
        fingerprint = lab.ca.issue(uris=[CRM]).fingerprint
        for path, headers in (
            ("/api/contacts/7?token=zt_crm", b""),
            ("/api/contacts/7", b"Authorization: Bearer zt_crm\r\n"),
            ("/api/contacts/7", b"Cookie: __Host-zt=zt_crm\r\n"),
            ("/api/contacts/7", b"X-ZT-Assertion: integration:crm\r\nX-ZT-Integration: crm\r\n"),
            (
                "/api/contacts/7",
                b"X-Forwarded-Client-Cert: Hash=%b;URI=spiffe://example.com/crm\r\n" % fingerprint.encode(),
            ),
            ("/api/contacts/7", b"X-SSL-Client-Verify: SUCCESS\r\nX-Client-Cert: %b\r\n" % fingerprint.encode()),
        ):
            reply = await lab.ask(None, path, headers)
            assert reply.status == 401, headers
        assert lab.upstream.seen == []


@pytest.mark.case("ZT-INTEG-02")
async def test_a_certificate_speaks_for_its_own_integration_whatever_else_is_said(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, route={"identity_headers": "remote-user", "forward_authorization": True}) as lab:
        other = lab.ca.issue(uris=[ERP])
        claims = (
            b"Authorization: Bearer zt_crm\r\nX-ZT-Assertion: %b\r\nRemote-User: integration:crm\r\n"
            % jwt.encode({"sub": "integration:crm", "integration": "crm"}, "k" * 32).encode()
        )
        assert reason(await lab.ask(other, headers=claims)) == "no-rule-matched"
        assert (await lab.ask(other, "/erp/1", claims)).status == 200
        seen = lab.upstream.seen[-1]
        assert seen.all(b"remote-user") == [b"integration:erp"]
        assert seen.all(b"authorization") == []
        assert {record["integration"] for record in await lab.decisions()} == {"erp"}


@pytest.mark.case("ZT-INTEG-03")
async def test_the_proxys_own_places_are_not_for_machines(tmp_path: Path) -> None:
    async with MachineLab(tmp_path) as lab:
        leaf = lab.ca.issue(uris=[CRM])
        for host in (APP, PORTAL):
            for path in (
                "/.zt/sign-in",
                "/.zt/session",
                "/.zt/me",
                "/.zt/admin",
                "/.zt/jwks.json",
                "/.zt/sign-out",
                "/.zt/",
            ):
                for method in ("GET", "POST"):
                    reply = await lab.ask(leaf, path, b"Content-Length: 0\r\n" + NAVIGATION, host=host, method=method)
                    assert (reply.status, reason(reply)) == (404, "path-unknown"), (host, path)
        assert reason(await lab.ask(leaf, "/", host=PORTAL)) == "path-unknown"
        assert {record["integration"] for record in await lab.decisions()} == {"crm"}


# ---- refusals ----


@pytest.mark.case("ZT-TLS-06")
@pytest.mark.case("ZT-TLS-07")
@pytest.mark.case("ZT-TLS-09")
async def test_each_certificate_that_does_not_count_has_its_reason_its_answer_and_its_record(tmp_path: Path) -> None:
    names = {"subject": parse_name("CN=exact,O=Ex"), "issuer": parse_name("CN=Clients,O=Example")}
    integrations = (*INTEGRATIONS, known_by("named", **names), known_by("ended", san_uri="urn:ended", expires=1.0))
    async with MachineLab(tmp_path, worker={"integrations": integrations}) as lab:
        ca = lab.ca
        table = (
            (None, "certificate-required"),
            (ca.issue(uris=["urn:nobody"]), "certificate-unknown"),
            (ca.issue(subject="CN=crm"), "certificate-unknown"),
            (ca.issue(subject=f"CN={CRM}"), "certificate-unknown"),
            (ca.issue(subject="CN=exact"), "certificate-unknown"),
            (ca.issue(uris=[CRM + "\0"]), "certificate-unknown"),
            (ca.issue(uris=[CRM, "urn:other"]), "certificate-ambiguous"),
            (ca.issue(uris=[CRM], subject="CN=exact,O=Ex"), "certificate-ambiguous"),
            (ca.issue(uris=[CRM], usages=()), "certificate-unsuitable"),
            (ca.issue(uris=[CRM], before=60), "certificate-not-yet-valid"),
            (ca.issue(uris=[CRM], after=-1), "certificate-expired"),
            (ca.issue(uris=["urn:ended"]), "integration-expired"),
        )
        for leaf, expected in table:
            reply = await lab.ask(leaf, headers=NAVIGATION)
            assert (reply.status, reason(reply)) == (403, expected)
            assert reply.problem["type"].endswith("#" + expected)
        assert lab.upstream.seen == []
        records = await lab.decisions()
        assert [(record["effect"], record["reason"]) for record in records] == [
            ("deny", expected) for _, expected in table
        ]
        named = [
            "crm" if record["reason"] in {"certificate-not-yet-valid", "certificate-expired"} else None
            for record in records
        ]
        assert [record.get("integration") for record in records] == [*named[:-1], "ended"]
        assert not any("sub" in record for record in records)
        assert [record.get("certificate") for record in records] == [
            leaf.fingerprint[:16] if leaf else None for leaf, _ in table
        ]


async def test_a_refusal_before_anybody_asked_who_it_is_names_the_integration_on_record(tmp_path: Path) -> None:
    async with MachineLab(tmp_path) as lab:
        leaf = lab.ca.issue(uris=[CRM])
        for path, host, expected in (
            ("/api/contacts/../admin", APP, "target-refused"),
            ("/", "nobody.test", "host-unknown"),
            ("/", PORTAL, "misdirected"),
        ):
            assert reason(await lab.ask(leaf, path, host=host, name=APP)) == expected
        client = await lab.as_machine(leaf)
        await client.write(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")
        assert (await client.reply()).status == 400
        records = await lab.decisions()
        assert [record.get("integration") for record in records] == ["crm"] * 4
        assert {record["certificate"] for record in records} == {leaf.fingerprint[:16]}


@pytest.mark.case("ZT-TLS-05")
@pytest.mark.case("ZT-TLS-07")
@pytest.mark.parametrize("version", VERSIONS)
async def test_what_tls_itself_refuses_reaches_nobody(tmp_path: Path, version: ssl.TLSVersion) -> None:
    from cryptography.x509.oid import ExtendedKeyUsageOID

    async with MachineLab(tmp_path) as lab:
        assert lab.proxy.worker is not None
        ca = lab.ca
        serverish = (ExtendedKeyUsageOID.SERVER_AUTH,)
        stranger = Authority("Clients", now=ca.now)
        between = Authority("Between", ca, now=ca.now)
        for leaf in (
            stranger.issue(uris=[CRM]),
            ca.issue(uris=[CRM], usages=serverish),
            Leaf(between.issue(uris=[CRM]).certificate, between.key),
        ):
            with suppress(ssl.SSLError, ValueError, ConnectionError, asyncio.IncompleteReadError):
                client = await lab.connect(APP, ssl=lab.showing(leaf, version))
                await exchange(client)
                pytest.fail("an answer")
        assert lab.upstream.seen == []
        assert await lab.decisions() == []


@pytest.mark.case("ZT-TLS-06")
async def test_an_intermediate_does_not_vouch_under_the_name_of_its_root_spelled_otherwise(
    tmp_path: Path,
) -> None:
    from cryptography import x509
    from cryptography.x509.name import _ASN1Type

    names = {"subject": parse_name("CN=exact"), "issuer": parse_name("CN=Clients,O=Example")}
    async with MachineLab(tmp_path, worker={"integrations": (known_by("crm", **names),)}) as lab:
        assert (await lab.ask(lab.ca.issue(subject="CN=exact"))).status == 200
        kinds = (_ASN1Type.UTF8String, _ASN1Type.PrintableString, _ASN1Type.BMPString)
        for kind, spell in ((each, way) for each in kinds for way in (str, str.upper)):
            under = Authority("Department", lab.ca, now=lab.ca.now)
            spelled = [x509.NameAttribute(one.oid, spell(str(one.value)), _type=kind) for one in lab.ca.subject]
            under.subject = x509.Name(spelled)
            under.certificate = under._sign(
                under.subject,
                under.key,
                {
                    x509.BasicConstraints: (x509.BasicConstraints(True, None), True),
                    x509.KeyUsage: (x509.KeyUsage(False, False, False, False, False, True, True, False, False), True),
                },
                lab.ca,
                {},
            )
            with suppress(ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):  # or TLS finds no such chain
                leaf = under.issue(subject="CN=exact", issuer=lab.ca.subject)
                assert reason(await lab.ask(leaf)) == "certificate-unsuitable", (kind, spell)
        assert len(lab.upstream.seen) == 1


async def test_a_judgement_that_fails_lets_nobody_in_at_the_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("of no kind that anybody thought of")

    rules = (allow(public=True), scope("crm"), scope("erp"))
    async with MachineLab(tmp_path, terms={"revocation": True}, upstream=EchoPlatform(), rules=rules) as lab:
        worker = lab.proxy.worker
        assert worker is not None
        await lab.lists_in_force()
        leaf, other = lab.ca.issue(uris=[CRM]), lab.ca.issue(uris=[ERP])
        open_ones = [await machine_websocket(lab, each) for each in (leaf, other)]
        known = await lab.as_machine(leaf)
        assert reason(await exchange(known, "/.zt/")) == "path-unknown"
        with monkeypatch.context() as patch:
            patch.setattr("zt_proxy.worker.identify.integrations.judge_chain", broken)
            client = await lab.as_machine(leaf)
            assert [reason(await exchange(client)) for _ in range(3)] == ["internal-error"] * 3
            worker.revocation_lists(worker.revoked)
            for each in open_ones:
                assert close_code(await read_frame(each.reader)) == 4401
            await known.ended()
        assert reason(await lab.ask(leaf, "/.zt/")) == "path-unknown"
        assert [record["reason"] for record in await lab.decisions()][-4:] == ["internal-error"] * 3 + ["path-unknown"]


# ---- persons and machines ----


@pytest.mark.case("ZT-SESS-12")
async def test_a_session_beside_a_certificate_is_neither_the_persons_nor_the_machines(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, terms={"required": False}) as lab:
        cookie, leaf = await lab.sign_in(), lab.ca.issue(uris=[CRM])
        line = b"Cookie: theme=dark; %b\r\n" % cookie
        assert (await lab.ask(None, headers=line)).status == 200, "a person without a certificate"
        assert (await lab.ask(leaf, headers=b"Cookie: theme=dark\r\n")).status == 200, "a machine with its own cookies"
        assert lab.upstream.seen[-1].header(b"cookie") == b"theme=dark"
        client = await lab.as_machine(leaf)
        for headers, expected in (
            (b"", ""),
            (line, "credentials-mixed"),
            (line, "credentials-mixed"),
            (b"Cookie: __Host-zt=made-up\r\n", "credentials-mixed"),
            (b"Cookie: __Host-zt=a; __Host-zt=b\r\n", "credentials-mixed"),
            (b"", ""),
        ):
            assert reason(await exchange(client, headers=headers)) == expected
        unknown = lab.ca.issue(uris=["urn:nobody"])
        assert reason(await lab.ask(unknown, headers=line)) == "certificate-unknown", (
            "a bad certificate is not overlooked"
        )
        people = [record.get("sub") for record in await lab.decisions() if record["reason"] == "rule-allowed"]
        assert people == ["alice", "integration:crm", "integration:crm", "integration:crm"]


@pytest.mark.case("ZT-SESS-12")
async def test_no_one_crosses_over_to_the_others_rules(tmp_path: Path) -> None:
    rules = (allow("staff", paths=("/people/**",)), scope("crm", "/machines/**"))
    async with MachineLab(tmp_path, terms={"required": False}, rules=rules) as lab:
        cookie, leaf = await lab.sign_in(user="integration:crm"), lab.ca.issue(uris=[CRM])
        line = b"Cookie: %b\r\n" % cookie
        assert reason(await lab.ask(leaf, "/people/x")) == "no-rule-matched"
        assert reason(await lab.ask(None, "/machines/x", line)) == "no-rule-matched"
        assert (await lab.ask(leaf, "/machines/x")).status == 200
        assert reason(await lab.ask(None, "/people/x", line)) == "credentials-mixed", "a person called like a machine"
        assert [seen.target for seen in lab.upstream.seen] == [b"/machines/x"]


@pytest.mark.case("ZT-SESS-12")
async def test_where_a_certificate_is_required_a_session_alone_is_not_enough(tmp_path: Path) -> None:
    async with MachineLab(tmp_path) as lab:
        line = b"Cookie: %b\r\n" % await lab.sign_in()
        assert reason(await lab.ask(None, headers=line + NAVIGATION)) == "certificate-required"
        assert lab.upstream.seen == []


async def test_a_foreign_page_in_a_browser_that_holds_the_certificate_gets_nothing_done(tmp_path: Path) -> None:
    async with MachineLab(tmp_path) as lab:
        leaf = lab.ca.issue(uris=[CRM])
        body = b"Content-Length: 0\r\n"
        foreign = b"Origin: https://evil.test\r\nSec-Fetch-Site: cross-site\r\n"
        assert reason(await lab.ask(leaf, headers=body + foreign, method="POST")) == "cross-origin"
        older = b"Origin: https://evil.test\r\n"
        assert reason(await lab.ask(leaf, headers=body + older, method="POST")) == "cross-origin", "no Fetch Metadata"
        assert (await lab.ask(leaf, headers=body, method="POST")).status == 200
        own = b"Origin: https://%b\r\n" % APP.encode()
        assert (await lab.ask(leaf, headers=body + own, method="POST")).status == 200


@pytest.mark.case("ZT-WS-01")
async def test_a_foreign_page_opens_no_websocket_with_the_certificate_of_a_browser(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, **streaming()) as lab:
        leaf = lab.ca.issue(uris=[CRM])
        client = await lab.as_machine(leaf)  # Chromium sends no Sec-Fetch-Site with the handshake of a WebSocket
        await client.write(handshake(None, b"Origin: https://evil.test\r\n"))
        assert reason(await client.reply()) == "cross-origin"
        client = await lab.as_machine(leaf)
        await client.write(handshake(None))
        assert (await client.reply()).status == 101


# ---- terms ----


@pytest.mark.case("ZT-TLS-01")
@pytest.mark.case("ZT-TLS-30")
async def test_hosts_with_other_terms_on_one_port_are_kept_apart(tmp_path: Path) -> None:
    hosts = (APP, "adm.ex", "x.m.ex")
    routes = tuple(lab_route(f"r{n}", host, (allow(public=True),)) for n, host in enumerate(hosts))
    async with MachineLab(
        tmp_path,
        routes=routes,
        certificates=((*hosts, "*.m.ex", PORTAL),),
        terms={"hosts": ("adm.ex", "*.m.ex")},
    ) as lab:
        leaf = lab.ca.issue(uris=[CRM])
        for name, host, shown, expected in (
            (APP, APP, None, 200), (APP, APP, leaf, 200), (None, APP, None, 200),
            ("adm.ex", "adm.ex", None, 403), ("adm.ex", "adm.ex", leaf, 200), ("x.m.ex", "x.m.ex", None, 403),
            ("x.m.ex", "x.m.ex", leaf, 200),
            (APP, "adm.ex", None, 421), (APP, "ADM.ex", None, 421), (APP, "adm.ex.", None, 421), (APP, "adm.ex:443", None, 421),
            (APP, "x.m.ex", None, 421), (None, "adm.ex", None, 421), (None, "x.m.ex", None, 421), ("pub.m.ex", "adm.ex", leaf, 421),
            ("adm.ex", APP, leaf, 421), ("unknown.ex", "adm.ex", None, 421), ("y.m.ex", "x.m.ex", leaf, 421),
        ):  # fmt: skip
            reply = await lab.ask(shown, "/", name=name, host=host)
            assert reply.status == expected, (name, host, bool(shown))


@pytest.mark.case("ZT-TLS-01")
async def test_a_host_of_the_machines_port_is_not_served_at_the_peoples_port(tmp_path: Path) -> None:
    from zt_proxy.worker.edge.listener import _elsewhere
    from zt_proxy.worker.settings import ListenerSettings, PortalSettings, WorkerSettings

    asked = (ClientCertificateSettings(tmp_path / "ca.pem", required=True),)
    web, machines = (
        ListenerSettings("web", "0.0.0.0", 8443, ()),
        ListenerSettings("m", "0.0.0.0", 9443, (), "1.2", (), asked),
    )
    hosts = ("app.ex:8443", "app.ex:9443", "api.ex", "[::1]:9443")
    routes = tuple(lab_route(f"r{n}", host, ()) for n, host in enumerate(hosts))
    settings = WorkerSettings((web, machines), routes, PortalSettings("", "", tmp_path), "", tmp_path)
    assert _elsewhere(web, settings) == {"app.ex:9443", "[::1]:9443"}
    some = ClientCertificateSettings(tmp_path / "ca.pem", True, ("app.ex", "*.m.ex"))
    shared = ListenerSettings("m", "0.0.0.0", 9443, (), "1.2", (), (some,))
    hosts = ("app.ex:8443", "app.ex:9443", "pub.ex:9443", "a.m.ex:9443", "a.b.m.ex:9443")
    routes = tuple(lab_route(f"r{n}", host, ()) for n, host in enumerate(hosts))
    settings = WorkerSettings((web, shared), routes, PortalSettings("", "", tmp_path), "", tmp_path)
    assert _elsewhere(web, settings) == {"app.ex:9443", "a.m.ex:9443"}, "asked for by name there, and not asked here"
    assert _elsewhere(shared, settings) == frozenset()
    assert _elsewhere(machines, settings) == set()


async def test_public_rules_hold_for_machines_too(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, rules=(allow("open", public=True, paths=("/healthz",)),)) as lab:
        leaf = lab.ca.issue(uris=[CRM])
        assert (await lab.ask(leaf, "/healthz")).status == 200
        assert reason(await lab.ask(leaf, "/")) == "no-rule-matched"
        assert reason(await lab.ask(None, "/healthz")) == "certificate-required"


# ---- open connections ----


async def machine_websocket(lab: MachineLab, leaf: Leaf) -> Client:
    client = await lab.as_machine(leaf)
    await client.write(handshake(None, b""))
    assert (await client.reply()).status == 101
    await client.write(frame(1, b"hello"))
    assert (await read_frame(client.reader)).payload == b"hello"
    return client


def streaming(**more: Any) -> dict[str, Any]:
    return {"upstream": EchoPlatform(), "rules": (scope("crm"), scope("erp")), **more}


def never_ending() -> RecordingUpstream:
    """Begins a long answer and does not go on."""
    return RecordingUpstream(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbeginning")


@pytest.mark.case("ZT-TLS-09")
async def test_the_end_of_a_certificate_ends_what_is_open(tmp_path: Path) -> None:
    clock = ManualClock()
    async with MachineLab(tmp_path, clock=clock, **streaming()) as lab:
        short, long = lab.ca.issue(uris=[CRM], after=60), lab.ca.issue(uris=[ERP], after=DAY)
        ending, staying = await machine_websocket(lab, short), await machine_websocket(lab, long)
        await lab.advance(60)
        await ending.write(frame(1, b"still"))
        assert (await read_frame(ending.reader)).payload == b"still", "both ends of the validity are included"
        await lab.advance(1)
        assert close_code(await read_frame(ending.reader)) == 4401
        await staying.write(frame(1, b"on"))
        assert (await read_frame(staying.reader)).payload == b"on"


@pytest.mark.case("ZT-TLS-09")
async def test_an_expired_certificate_is_refused_on_the_connection_it_opened(tmp_path: Path) -> None:
    clock = ManualClock()
    async with MachineLab(tmp_path, clock=clock) as lab:
        client = await lab.as_machine(lab.ca.issue(uris=[CRM], after=60))
        assert (await exchange(client)).status == 200
        await lab.advance(61)
        reply = await exchange(client)
        assert (reply.status, reason(reply)) == (403, "certificate-expired")


@pytest.mark.case("ZT-TLS-08")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_revocation_cuts_what_is_open_and_nothing_else(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async with MachineLab(tmp_path, terms={"revocation": True}, **streaming()) as lab:
        await lab.lists_in_force()
        bad, good = lab.ca.issue(uris=[CRM]), lab.ca.issue(uris=[ERP])
        cut, staying = await machine_websocket(lab, bad), await machine_websocket(lab, good)
        idle = await lab.connect(APP, ssl=lab.showing(bad, version))
        assert reason(await exchange(idle, "/.zt/")) == "path-unknown"
        lab.publish(bad.certificate.serial_number, number=2)
        async with asyncio.timeout(3):
            assert close_code(await read_frame(cut.reader)) == 4401
            await idle.ended()
        assert reason(await lab.ask(bad, "/")) == "certificate-revoked"
        await staying.write(frame(1, b"on"))
        assert (await read_frame(staying.reader)).payload == b"on"


@pytest.mark.case("ZT-TLS-08")
async def test_a_revocation_cuts_a_download(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, terms={"revocation": True}, upstream=never_ending()) as lab:
        await lab.lists_in_force()
        leaf = lab.ca.issue(uris=[CRM])
        client = await lab.as_machine(leaf)
        await client.write(f"GET /api/contacts/7 HTTP/1.1\r\nHost: {APP}\r\n\r\n".encode())
        await client.reader.readuntil(b"beginning")
        lab.publish(leaf.certificate.serial_number, number=2)
        assert await client.ended() == b""
        (end,) = [line for line in await lab.log() if line["type"] == "end"]
        assert end["reason"] == "certificate-revoked"


@pytest.mark.case("ZT-TLS-08")
async def test_lists_that_say_nothing_are_no_permission(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, terms={"revocation": True}) as lab:
        worker = lab.proxy.worker
        assert worker is not None
        await lab.lists_in_force()
        leaf = lab.ca.issue(uris=[CRM])
        client = await lab.as_machine(leaf)
        good = worker.revoked
        assert (await exchange(client)).status == 200
        import msgspec

        (one,) = good
        for lists, expected in (
            ((msgspec.structs.replace(one, problem="damaged"),), "revocation-unknown"),
            ((msgspec.structs.replace(one, source="/elsewhere.pem"),), "revocation-unknown"),
            ((msgspec.structs.replace(one, issuer=b"another"),), "revocation-unknown"),
            ((msgspec.structs.replace(one, next_update=lab.clock.now() - 1),), "revocation-unknown"),
            ((), "revocation-unknown"),
            (good, ""),
        ):
            worker.revocation_lists(lists)
            assert reason(await lab.ask(leaf)) == expected


@pytest.mark.case("ZT-TLS-08")
async def test_a_list_of_a_hundred_thousand_is_asked_as_fast_as_one_of_none(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, terms={"revocation": True}) as lab:
        await lab.lists_in_force()
        first, last, good = (lab.ca.issue(uris=[CRM], serial=serial) for serial in (1, 2**159 - 1, 2**80))
        lab.publish(*range(2, 200_002, 2), number=2)
        worker = lab.proxy.worker
        assert worker is not None
        await until(lambda: len(worker.revoked[0]) == 100_000)
        for leaf, expected in ((first, ""), (last, ""), (good, "")):
            assert reason(await lab.ask(leaf)) == expected
        assert reason(await lab.ask(lab.ca.issue(uris=[CRM], serial=100_000))) == "certificate-revoked"


async def test_lost_contact_with_control_cuts_machines_too(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, **streaming()) as lab:
        client = await machine_websocket(lab, lab.ca.issue(uris=[CRM]))
        assert lab.proxy.control is not None
        lab.proxy.control.link.close()
        assert close_code(await read_frame(client.reader)) == 1001


# ---- how often ----


async def test_more_than_its_rate_is_told_when_to_come_again(tmp_path: Path) -> None:
    clock = ManualClock()
    integrations = (known_by("crm", rate=2.0, san_uri=CRM), known_by("erp", san_uri=ERP))
    async with MachineLab(tmp_path, clock=clock, worker={"integrations": integrations}) as lab:
        client = await lab.as_machine(lab.ca.issue(uris=[CRM]))
        statuses = []
        for _ in range(4):
            reply = await exchange(client)
            statuses.append(reply.status)
        assert statuses == [200, 200, 429, 429]
        assert (reason(reply), reply.header("retry-after")) == ("too-many-requests", "1")
        other = lab.ca.issue(uris=[ERP])
        assert [(await lab.ask(other, "/erp/1")).status for _ in range(4)] == [200] * 4
        await lab.advance(0.5)
        assert [(await exchange(client)).status for _ in range(2)] == [200, 429]
        records = [record["reason"] for record in await lab.decisions() if record["integration"] == "crm"]
        assert records == ["rule-allowed"] * 2 + ["too-many-requests"] * 2 + ["rule-allowed", "too-many-requests"]


# ---- reload ----


async def reloaded(lab: MachineLab, **changes: Any) -> None:
    """Put changed settings in force; `terms` change those of the listener."""
    import msgspec

    worker = lab.proxy.worker
    assert worker is not None
    settings = worker.settings
    (listener,) = settings.listeners
    terms = changes.pop("terms", None)
    if terms is not None:
        listener = msgspec.structs.replace(listener, client_certificates=terms)
    await worker.adopt(worker.prepare(msgspec.structs.replace(settings, listeners=(listener,), **changes)))


@pytest.mark.case("ZT-TLS-03")
async def test_an_authority_that_is_taken_out_takes_its_connections_along(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, **streaming()) as lab:
        partner = Authority("Partner", now=lab.ca.now)
        both = tmp_path / "both.pem"
        both.write_bytes(lab.ca.pem + partner.pem)
        await reloaded(lab, terms=(ClientCertificateSettings(both, required=True),))
        ours, theirs = lab.ca.issue(uris=[CRM]), partner.issue(uris=[ERP])
        staying, leaving = await machine_websocket(lab, ours), await machine_websocket(lab, theirs)
        idle = await lab.as_machine(theirs)
        assert reason(await exchange(idle, "/.zt/")) == "path-unknown"
        await reloaded(lab, terms=(ClientCertificateSettings(lab.pem, required=True),))
        assert close_code(await read_frame(leaving.reader)) == 4401
        assert reason(await exchange(idle)) == "certificate-unsuitable"
        await staying.write(frame(1, b"on"))
        assert (await read_frame(staying.reader)).payload == b"on"


async def test_an_integration_that_is_taken_out_or_given_less_is_cut(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, **streaming()) as lab:
        import msgspec

        crm, erp = (
            await machine_websocket(lab, lab.ca.issue(uris=[CRM])),
            await machine_websocket(lab, lab.ca.issue(uris=[ERP])),
        )
        worker = lab.proxy.worker
        assert worker is not None
        (route,) = worker.settings.routes
        less = msgspec.structs.replace(
            route, rules=msgspec.structs.replace(route.rules, rules=(scope("crm"), scope("erp", "/erp/**")))
        )
        await reloaded(lab, routes=(less,))
        assert close_code(await read_frame(erp.reader)) == 4403
        await crm.write(frame(1, b"on"))
        assert (await read_frame(crm.reader)).payload == b"on"
        await reloaded(lab, integrations=INTEGRATIONS[1:])
        assert close_code(await read_frame(crm.reader)) == 4401
        assert reason(await lab.ask(lab.ca.issue(uris=[CRM]))) == "certificate-unknown"


@pytest.mark.case("ZT-TLS-01")
async def test_a_connection_that_was_never_asked_is_made_anew_when_certificates_are_required(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, listener={"client_certificates": ()}) as lab:
        idle, early = await lab.connect(), await lab.connect()
        line = b"Cookie: %b\r\n" % await lab.sign_in()
        assert (await exchange(early, "/", line)).status == 200
        await reloaded(lab, terms=(ClientCertificateSettings(lab.pem, required=True),))
        for client in (idle, early):
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                assert (await exchange(client, "/", line)).status == 421
        assert reason(await lab.ask(None, "/", line)) == "certificate-required"
        assert len(lab.upstream.seen) == 1
        await reloaded(lab, terms=(ClientCertificateSettings(lab.pem),))
        assert (await lab.ask(None, "/", line)).status == 200


async def test_a_person_who_came_without_a_certificate_stays_only_while_none_is_required(tmp_path: Path) -> None:
    async with MachineLab(tmp_path, terms={"required": False}, upstream=EchoPlatform(), rules=(allow(),)) as lab:
        client = await lab.connect()
        await client.write(handshake(await lab.sign_in()))
        assert (await client.reply()).status == 101
        await reloaded(lab, terms=(ClientCertificateSettings(lab.pem),))
        await client.write(frame(1, b"still"))
        assert (await read_frame(client.reader)).payload == b"still"
        await reloaded(lab, terms=(ClientCertificateSettings(lab.pem, required=True),))
        assert close_code(await read_frame(client.reader)) == 4401


@pytest.mark.case("ZT-TLS-01")
@pytest.mark.parametrize("asked_before", [True, False])
async def test_who_is_still_being_looked_up_when_certificates_become_required_goes_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_before: bool
) -> None:
    before = {} if asked_before else {"listener": {"client_certificates": ()}}
    async with MachineLab(tmp_path, terms={"required": False}, rules=(allow(),), **before) as lab:
        worker = lab.proxy.worker
        assert worker is not None
        line = b"Cookie: %b\r\n" % await lab.sign_in()
        asking, answered, fetch = asyncio.Event(), asyncio.Event(), worker.sessions.fetch

        async def slowly(cookie: bytes, host: str) -> Any:
            asking.set()
            await answered.wait()
            return await fetch(cookie, host)

        monkeypatch.setattr(type(worker.sessions), "find", lambda *_: None)
        monkeypatch.setattr(type(worker.sessions), "fetch", lambda _, cookie, host: slowly(cookie, host))
        client = await lab.connect()
        await client.write(f"GET / HTTP/1.1\r\nHost: {APP}\r\n".encode() + line + b"\r\n")
        await asking.wait()
        await reloaded(lab, terms=(ClientCertificateSettings(lab.pem, required=True),))
        answered.set()
        expected = "certificate-required" if asked_before else "misdirected"
        assert reason(await client.reply()) == expected
        assert lab.upstream.seen == []
        assert [record["reason"] for record in await lab.decisions()][-1:] == [expected]
