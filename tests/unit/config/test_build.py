"""The settings of worker and control, made from YAML."""

from pathlib import Path

import msgspec
import pytest

from zt_proxy import config
from zt_proxy.config import Built, ConfigurationProblems, Severity
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.keys import Secret
from zt_proxy.core.types import Mode
from zt_proxy.policy.compile import compile_rules
from zt_proxy.policy.spec import Audience, RequestMatch, RuleEffect
from zt_proxy.worker.settings import LimitSettings, PathSettings, UpstreamSettings

from .examples import EVERYTHING, PLAIN, POLICY


def built(place: Path, text: str) -> Built:
    file = place / "zt-proxy.yaml"
    file.write_text(text)
    loaded = config.load(file)
    problems = config.check(loaded, ManualClock())
    assert [str(problem) for problem in problems if problem.severity is Severity.ERROR] == []
    return config.build(loaded)


def test_a_plain_file_needs_no_more_than_it_says(place: Path) -> None:
    made = built(place, PLAIN)
    (listener,), (route,) = made.worker.listeners, made.worker.routes
    assert (listener.host, listener.port, listener.minimum_tls) == ("0.0.0.0", 8443, "1.2")
    assert listener.certificates[0].chain == place / "certs/site.pem"
    assert "flows.example.com" in listener.certificates[0].names
    assert (route.host, route.prefix, route.audience) == (
        "flows.example.com:8443",
        b"/",
        "https://flows.example.com:8443",
    )
    assert route.upstream == UpstreamSettings("http", "127.0.0.1", 1880)
    assert made.worker.issuer == made.control.portal_origin == "https://auth.example.com:8443"
    assert made.worker.portal.socket == made.control.socket == place / "state/run/portal.sock"
    assert made.worker.limits == LimitSettings()
    assert made.control.apps["flows.example.com:8443"].route_names == ("builder",)
    assert made.control.providers[0].client_secret == Secret("the-client-secret")
    assert made.control.audit.directory == place / "state/audit"
    assert made.control.insecure == ()
    assert not (place / "state").exists()


def test_rules_become_what_the_policy_reads(place: Path) -> None:
    staff, deploy, no_settings, health = built(place, PLAIN).worker.routes[0].rules.rules
    assert staff.matches == (RequestMatch(("GET",), ("/**",)),)
    assert (staff.effect, staff.audience, staff.groups) == (RuleEffect.ALLOW, Audience.MATCHING, ("staff",))
    assert deploy.reauth == 300
    assert (no_settings.effect, no_settings.audience) == (RuleEffect.DENY, Audience.SIGNED_IN)
    assert no_settings.mode is Mode.REPORT
    assert health.audience is Audience.PUBLIC


def test_every_setting_can_be_reached(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZT_TEST_SECRET", "s3cret")
    plain, made = built(place, PLAIN), built(place, EVERYTHING)
    fixed = {"session_cookie", "login_cookie", "device_cookie", "insecure", "case_insensitive", "rp_id", "rp_name"}
    for one, other in (
        (plain.worker, made.worker),
        (plain.worker.limits, made.worker.limits),
        (plain.worker.listeners[0], made.worker.listeners[0]),
        (plain.worker.routes[0], made.worker.routes[0]),
        (plain.worker.routes[0].upstream, made.worker.routes[0].upstream),
        (plain.worker.routes[0].paths, made.worker.routes[0].paths),
        (plain.control, made.control),
        (plain.control.providers[0], made.control.providers[0]),
        (plain.control.session, made.control.session),
        (plain.control.audit, made.control.audit),
        (plain.control.factors, made.control.factors),
        (plain.log, made.log),
    ):
        same = {
            name for name in one.__struct_fields__ if getattr(one, name) == getattr(other, name) and name not in fixed
        }
        assert same <= {"name", "path", "client_id"}, type(one).__name__


def test_a_rich_file_is_read_exactly(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZT_TEST_SECRET", "s3cret")
    made = built(place, EVERYTHING)
    route, socket = made.worker.routes
    assert (route.host, route.prefix, route.upstream.host) == ("flows.example.com:9443", b"/app", "10.0.0.5")
    assert route.paths == PathSettings(True, True, True, True, True)
    assert route.rules.case_insensitive
    assert route.rules.mode is Mode.REPORT
    assert (route.idle_timeout, route.absolute_timeout, route.body_limit) == (600, 3600, 100_000_000)
    assert route.shared_secret_header == ("X-Proxy-Secret", "s3cret")
    organisation, group, deploy, everything, refused, not_there, scope = route.rules.rules
    assert (organisation.inherited, group.inherited, deploy.inherited) == ("organisation", "lowcode", "")
    assert everything.matches == (RequestMatch(),)
    assert everything.claims == {"department": ("x", "y")}
    assert everything.mode is Mode.OFF
    assert (refused.effect, refused.audience) == (RuleEffect.DENY, Audience.PUBLIC)
    assert (not_there.effect, not_there.integrations) == (RuleEffect.DENY, ("crm-sync",))
    assert (scope.id, scope.effect, scope.integrations) == ("integration:crm-sync", RuleEffect.ALLOW, ("crm-sync",))
    assert (socket.host, socket.upstream.scheme, socket.upstream.path) == ("app.example.com", "unix", "/run/app.sock")
    assert socket.body_limit == 25_000_000
    assert made.worker.metrics == ("127.0.0.1", 9464)
    assert made.worker.trusted_proxies == ("10.0.0.0/8", "192.0.2.7/32")
    assert made.control.insecure == (
        "identity.providers.corp.insecure_no_mfa",
        "identity.providers.corp.insecure_http",
        "alerts.webhooks.0.insecure_http",
        "geoip.insecure_origin_header",
        "routes.builder.insecure_root_service_worker",
        "routes.builder.answers.uninspectable.insecure_pass",
        "routes.sock.rules.open.insecure_allow_everyone",
    )


@pytest.mark.parametrize("text", [PLAIN, EVERYTHING, POLICY])
def test_what_is_built_of_a_right_file_can_be_judged_by(
    text: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZT_TEST_SECRET", "s3cret")
    for route in built(place, text).worker.routes:
        assert compile_rules(route.rules).route == route.name


def test_read_raises_every_problem_at_once(place: Path) -> None:
    file = place / "zt-proxy.yaml"
    file.write_text(PLAIN.replace("client_id: zt", "client_ids: zt").replace("reauth: 5m", "reauth: 5"))
    with pytest.raises(ConfigurationProblems) as caught:
        config.read(file)
    assert [problem.line for problem in caught.value.problems if problem.severity is Severity.ERROR] == [7, 14]
    assert str(caught.value).count("error:") == 2


def test_a_file_that_was_not_understood_is_never_built(place: Path) -> None:
    file = place / "zt-proxy.yaml"
    file.write_text(PLAIN.replace("mode: report", "mode: reprot"))
    with pytest.raises(ConfigurationProblems):
        config.build(config.load(file))


def test_settings_are_plain_enough_to_travel(place: Path) -> None:
    worker = built(place, PLAIN).worker
    sent = msgspec.msgpack.encode(worker, enc_hook=str)
    assert msgspec.msgpack.decode(sent, type=type(worker), dec_hook=lambda kind, value: kind(value)) == worker
