"""`zt-proxy run` where it cannot run: it says why, in words that lead on, and leaves with a status that says so."""

import socket
import subprocess
import sys
from pathlib import Path

from zt_proxy.demo.layout import lay_out, proxy_config


def run(config: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "zt_proxy.cli.main", "run", "-c", str(config)]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    layout = lay_out(tmp_path / "state", "builtin", 0, 0)
    layout.config.write_text(proxy_config(layout, "http://127.0.0.1:1880"))
    with socket.create_server(("127.0.0.1", layout.port)):
        done = run(layout.config)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{layout.port}" in done.stderr


def test_a_wrong_file_starts_nothing(tmp_path: Path) -> None:
    layout = lay_out(tmp_path / "state", "builtin", 0, 0)
    layout.config.write_text(proxy_config(layout, "http://127.0.0.1:1880").replace("portal:", "portl:"))
    done = run(layout.config)
    assert done.returncode == 1
    assert "zt-proxy.yaml:" in done.stderr
    assert not (layout.folder / "proxy-state").exists()
