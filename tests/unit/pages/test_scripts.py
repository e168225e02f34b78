"""The scripts as they are handed out: named by their bytes, and made so that any policy can admit them."""

import base64
import hashlib
import re
import subprocess
import sys

import pytest

from zt_proxy.pages.scripts import SESSION_JS, SESSION_JS_URL, confirmed_headers, confirmed_page

SOURCE = SESSION_JS.body.decode()


def test_the_version_and_the_integrity_are_those_of_the_bytes() -> None:
    digest = hashlib.sha256(SESSION_JS.body).digest()
    assert f"/.zt/session.js?v={digest.hex()[:16]}" == SESSION_JS_URL
    assert f"sha256-{base64.b64encode(digest).decode()}" == SESSION_JS.integrity


@pytest.mark.parametrize(
    "sink",
    [
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
        ".style",
        "'style'",
        "import(",
    ],
)
def test_the_script_uses_nothing_that_a_policy_or_trusted_types_would_stop(sink: str) -> None:
    assert sink not in SOURCE


def test_every_request_of_the_script_goes_to_the_proxys_own_places() -> None:
    assert re.findall(r"https?://[^'\s]+", SOURCE) == ["http://www.w3.org/2000/svg"]
    assert len(re.findall(r"native\.fetch\.call", SOURCE)) == 3  # ours, and the two ways the app's own go out


@pytest.mark.case("ZT-ADMIN-03")
def test_the_last_page_escapes_its_host_and_admits_its_own_script_alone() -> None:
    page = confirmed_page("<b>'\"").decode()
    assert "<b>" not in page
    script = re.search(r"<script>(.*?)</script>", page, re.S)
    assert script is not None
    policy = dict(confirmed_headers())[b"content-security-policy"].decode()
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy


def test_the_scripts_cost_a_worker_no_template_engine() -> None:
    code = "import sys, zt_proxy.pages.scripts; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
