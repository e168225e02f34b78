"""`zt-proxy demo`: what it needs, and what the provider alone leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from zt_proxy.demo.layout import lay_out

WITHOUT = "import sys; sys.modules[{!r}] = None; from zt_proxy.cli.main import app; app(['demo'])"


@pytest.mark.parametrize("package", ["authlib", "trustme"])
def test_a_missing_package_is_named_with_the_way_to_get_it(package: str, tmp_path: Path) -> None:
    program = [sys.executable, "-c", WITHOUT.format(package)]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"The demo needs the package {package}: pip install 'zt-proxy[demo]'\n"
    assert list(tmp_path.iterdir()) == []


def test_the_clients_secret_lasts_so_that_a_proxy_beside_the_demo_goes_on_working(tmp_path: Path) -> None:
    first = lay_out(tmp_path / "state", "builtin", 0, 0).client_secret
    assert len(first) >= 32
    assert lay_out(tmp_path / "state", "builtin", 0, 0).client_secret == first
