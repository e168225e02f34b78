"""Watching and alerts: what is written, what follows from it, and what is refused."""

from pathlib import Path

import pytest

from tests.unit.config.conftest import CLOCK
from tests.unit.config.test_sessions import FILE, built
from zt_proxy.config import check, load
from zt_proxy.control.settings import Respond, Response, WatchSettings, WebhookSettings
from zt_proxy.core.keys import Secret
from zt_proxy.link.locks import LockEffect

REPORT, ENFORCE, OFF = Respond.REPORT, Respond.ENFORCE, Respond.OFF


@pytest.fixture
def secret(place: Path) -> None:
    (place / "hook").write_text("a secret of the hook\n")


def test_left_out_it_is_watched_and_told() -> None:
    assert WatchSettings().volume.response == Response(REPORT, LockEffect.NO_EXPORT, None)


def test_nothing_written_is_the_default(place: Path) -> None:
    assert built(place, "").control.watch == WatchSettings()


def test_everything_is_built_as_written(place: Path, secret: None) -> None:
    settings = built(
        place,
        """watch:
  respond: enforce
  volume: {factor: 5, floor: 1MB, requests_floor: 50, learn: 0s, windows: [10m, 1s], respond: report, effect: block, for: 2h}
  first_use: {learn: 7d, for: until-reviewed}
  changes: {kinds: [deployment]}
alerts: {webhooks: [{url: "https://siem.example/hook?a=b", secret: "${file:hook}", ca: certs/ca.pem, timeout: 3s}], quiet: 1m}
""",
    ).control.watch
    volume = settings.volume
    assert (volume.factor, volume.floor, volume.requests_floor, volume.learn) == (5.0, 1_000_000, 50, 0.0)
    assert volume.windows == (1.0, 600.0), "the shortest first"
    assert volume.response == Response(REPORT, LockEffect.BLOCK, 7_200.0)
    assert settings.first_use.learn == 7 * 86_400.0
    assert settings.first_use.response == Response(ENFORCE, LockEffect.STEP_UP, None)
    assert settings.changes == {"deployment"}
    assert settings.quiet == 60.0
    hook = WebhookSettings(
        "https://siem.example/hook?a=b", Secret("a secret of the hook"), place / "certs" / "ca.pem", 3.0
    )
    assert settings.webhooks == (hook,)


def test_a_new_secret_is_a_new_configuration(place: Path, secret: None) -> None:
    made = built(place, _hook("https://siem.example/", ""))
    assert place / "hook" in made.files


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", (REPORT, REPORT)),
        ("watch: {respond: enforce}", (ENFORCE, ENFORCE)),
        ("watch: {respond: enforce, first_use: {respond: off}}", (ENFORCE, OFF)),
        ("watch: {respond: off, volume: {respond: enforce}}", (OFF, OFF)),
        ("stage: monitor", (ENFORCE, ENFORCE)),
        ("stage: monitor\nwatch: {respond: report, volume: {respond: enforce}}", (ENFORCE, REPORT)),
        ("stage: least-privilege\nwatch: {respond: enforce, volume: {respond: enforce}}", (REPORT, REPORT)),
    ],
)
def test_the_detector_speaks_before_the_whole_and_the_stage_before_both(
    place: Path, written: str, expected: tuple[Respond, Respond]
) -> None:
    settings = built(place, written).control.watch
    assert (settings.volume.response.respond, settings.first_use.response.respond) == expected


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("watch: {volume: {factor: 1}}", "factor"),
        ("watch: {volume: {windows: []}}", "`windows` has 0 items"),
        ("watch: {volume: {windows: [1m, 60s]}}", "written twice"),
        ("watch: {volume: {windows: [2d]}}", "a window of no use"),
        ("watch: {volume: {floor: 0B}}", "`floor` is zero"),
        ("watch: {volume: {for: 0s}}", "a lock of no use"),
        ("watch: {volume: {for: forever}}", "not a duration"),
        ("watch: {changes: {kinds: [acess-control]}}", "access-control"),
        ("alerts: {quiet: 0s}", "`quiet` is zero"),
    ],
)
def test_what_could_find_nothing_is_refused_with_its_line(place: Path, written: str, said: str) -> None:
    assert said in "\n".join(problems(place, written))


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        ("http://siem.example/hook", "", "without TLS"),
        ("ftp://siem.example/hook", "", "no address of a webhook"),
        ("https://user:word@siem.example/", "", "neither credentials"),
        ("https://siem.example/#a", "", "neither credentials"),
        ("https://siem.example:x/", "", "no URL"),
        ("https:///hook", "", "no address of a webhook"),
        ("http://127.0.0.1:9/", ", ca: certs/ca.pem", "without TLS"),
        ("http://siem.example/", ", insecure_http: true", "insecure_http"),
    ],
)
def test_an_address_that_would_carry_alerts_in_the_open_is_refused(
    place: Path, secret: None, url: str, more: str, said: str
) -> None:
    assert said in "\n".join(problems(place, _hook(url, more)))


def test_loopback_needs_no_tls(place: Path, secret: None) -> None:
    assert problems(place, _hook("http://127.0.0.1:9000/hook", "")) == []


def test_a_short_secret_is_refused(place: Path) -> None:
    (place / "hook").write_text("short")
    assert "16 characters" in "\n".join(problems(place, _hook("https://siem.example/", "")))


def _hook(url: str, more: str) -> str:
    return f'alerts: {{webhooks: [{{url: "{url}", secret: "${{file:hook}}"{more}}}]}}'


def problems(place: Path, written: str) -> list[str]:
    file = place / "zt.yaml"
    file.write_text(FILE.replace("{more}", "@@").replace("{{", "{").replace("}}", "}").replace("@@", written))
    return [str(problem) for problem in check(load(file), CLOCK)]
