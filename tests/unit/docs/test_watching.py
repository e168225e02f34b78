"""The samples of docs/how-to/watching.md take genuine messages and refuse others; the page names every metric."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from zt_proxy.control.watch.webhooks import sign
from zt_proxy.core.keys import Secret

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "how-to" / "watching.md").read_text("utf-8")
SECRET, NOW, BODY = "a secret of the hook", 1_800_000_000, b'{"type":"alert","summary":"\xc3\xa9"}'
CASES = [
    (SECRET, NOW, BODY, NOW + 10, True),
    (SECRET, NOW, BODY, NOW + 301, False),
    (SECRET, NOW, BODY + b" ", NOW, False),
    ("another secret, too", NOW, BODY, NOW, False),
]


def sample(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(("secret", "at", "body", "now", "genuine"), CASES)
def test_the_python_sample(secret: str, at: int, body: bytes, now: int, genuine: bool) -> None:
    names: dict[str, Any] = {}
    exec(compile(sample("python"), "watching.md", "exec"), names)
    assert names["genuine"](secret.encode(), sign(Secret(SECRET), at, BODY), body, now) is genuine


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node")
def test_the_node_sample() -> None:
    calls = [
        f"genuine({json.dumps(secret)}, {json.dumps(sign(Secret(SECRET), at, BODY))}, "
        f"Buffer.from({json.dumps(body.hex())}, 'hex'), {now})"
        for secret, at, body, now, _ in CASES
    ]
    program = sample("javascript") + f"console.log(JSON.stringify([{', '.join(calls)}]));"
    done = subprocess.run(["node", "-e", program], capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [genuine for *_, genuine in CASES]


def test_every_metric_of_watching_is_documented() -> None:
    source = (DOCS.parent / "zt_proxy" / "control" / "operator" / "alerts.py").read_text("utf-8")
    reference = (DOCS / "reference" / "operations.md").read_text("utf-8")
    names = set(re.findall(r'"(zt_[a-z_]+)"', source))
    assert names
    for name in names:
        assert f"`{name}_total`" in reference or f"`{name}`" in reference, name
