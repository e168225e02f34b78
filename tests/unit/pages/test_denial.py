"""The worker's page: complete, escaped, and admitted by its own policy."""

import base64
import hashlib
import re
import subprocess
import sys

import pytest

from zt_proxy.core.errors import Reason
from zt_proxy.pages.denial import PAGE_HEADERS, denial_page
from zt_proxy.pages.texts import TEXTS

HOSTILE = "<img src=x onerror=alert(1)>\"'&$title"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words_and_a_page(reason: Reason) -> None:
    page = denial_page(status=403, reason=reason, request_id="r-1", host="flows.example.com").decode()
    assert reason in TEXTS
    assert page.startswith("<!doctype html>")
    assert '<html lang="en">' in page
    assert page.count("<h1>") == 1
    assert reason.value in page
    assert "r-1" in page


@pytest.mark.case("ZT-ADMIN-03")
def test_names_rules_and_hosts_are_escaped() -> None:
    page = denial_page(
        status=403,
        reason=Reason.RULE_DENIED,
        request_id=HOSTILE,
        host=HOSTILE,
        who=HOSTILE,
        rule=HOSTILE,
        action=(HOSTILE, '/"><script>'),
    ).decode()
    assert "<img" not in page
    assert "<script" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") == 6


def test_the_policy_admits_exactly_the_style_that_is_in_the_page() -> None:
    page = denial_page(status=403, reason=Reason.RULE_DENIED, request_id="r", host="h").decode()
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    headers = dict(PAGE_HEADERS)
    policy = headers[b"content-security-policy"].decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "style=" not in page
    assert "<script" not in page
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_the_page_costs_a_worker_no_template_engine() -> None:
    code = "import sys, zt_proxy.pages.denial; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
