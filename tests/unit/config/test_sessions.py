"""Presets, the limit, and mail: what is written, what follows from it."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.config.conftest import CLOCK
from zt_proxy.config import build, check, load
from zt_proxy.config.build import Built
from zt_proxy.control.settings import MailSettings, MailTls, SessionSettings
from zt_proxy.core.keys import Secret
from zt_proxy.core.session import Level

FILE = """
version: 1
listen: [{{name: web, address: "0.0.0.0:8443", tls: {{certificate: certs/site.pem, key: certs/site.key}}}}]
portal: {{url: "https://auth.example.com:8443"}}
identity:
  providers: {{corp: {{issuer: "https://sso.example.com", client_id: zt, client_secret: "${{file:certs/secret}}"}}}}
routes:
  - name: builder
    host: flows.example.com
    upstream: http://127.0.0.1:1880
    rules: [{{id: view, allow: [{{methods: [GET]}}], to: {{groups: [staff]}}}}]
{more}
"""


def built(place: Path, more: str) -> Built:
    file = place / "zt.yaml"
    file.write_text(FILE.format(more=more))
    loaded = load(file)
    assert [str(problem) for problem in check(loaded, CLOCK) if problem.severity.value == "error"] == []
    return build(loaded)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", {}),
        ("session: {preset: aal2}", {"idle": 1_800.0, "absolute": 43_200.0}),
        ("session: {preset: aal3}", {"idle": 900.0, "absolute": 43_200.0}),
        ("session: {preset: aal3, idle: 10m, absolute: 8h}", {"idle": 600.0, "absolute": 28_800.0}),
        ("session: {preset: aal2, idle: 30m}", {"idle": 1_800.0}),
        ("session: {limit: 3}", {"limit": 3}),
        ("session: {limit: 3, limit_policy: refuse}", {"limit": 3, "refuse_beyond": True}),
    ],
)
def test_a_preset_gives_what_is_not_written_and_what_is_written_tightens_it(
    place: Path, written: str, expected: dict[str, Any]
) -> None:
    assert built(place, written).control.session == SessionSettings(**expected)


@pytest.mark.case("ZT-SESS-09")
@pytest.mark.parametrize(("preset", "level"), [("aal2", Level.SINGLE), ("aal3", Level.PHISHING_RESISTANT)])
def test_aal3_asks_every_rule_for_a_proof_that_cannot_be_phished(place: Path, preset: str, level: Level) -> None:
    rules = built(place, f"session: {{preset: {preset}}}").worker.routes[0].rules.rules
    assert {rule.level for rule in rules} == {level}


def test_mail_is_built_as_written(place: Path) -> None:
    (place / "mail-password").write_text("hidden\n")
    more = (
        'mail: {server: "smtp.example.com:465", from: zt@example.com, tls: implicit, username: zt, '
        'password: "${file:mail-password}", ca: certs/ca.pem}'
    )
    made = built(place, more)
    assert made.control.mail == MailSettings(
        "smtp.example.com", 465, "zt@example.com", MailTls.IMPLICIT, "zt", Secret("hidden"), place / "certs/ca.pem"
    )
    assert place / "mail-password" in made.files, "a new password is a new configuration"
    assert built(place, "").control.mail is None


def test_mail_without_tls_is_told_at_every_start(place: Path) -> None:
    made = built(place, 'mail: {server: "127.0.0.1:25", from: zt@example.com, tls: insecure_none}')
    assert "mail.tls.insecure_none" in made.control.insecure
