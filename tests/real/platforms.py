"""Fixtures that start PocketBase, Streamlit and JupyterLab, each in a folder of its own, on loopback, calling nobody.

`make real-components` installs them into tests/real/.python.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.fixtures import HERE, missing, program
from zt_proxy.demo.layout import free_port

PROGRAMS = HERE / ".python" / "bin"
ADMIN = "admin@example.com"
PASSWORD = "only-for-this-test"

APP = """\
import numpy as np
import streamlit as st

st.title("Orders")
st.image(np.zeros((2, 2, 3), dtype="uint8"), output_format="PNG")
name = st.text_input("Name", key="name")
if st.button("Greet"):
    st.write(f"Hello {name}")
upload = st.file_uploader("Orders as CSV", type="csv")
if upload is not None:
    st.write(f"{len(upload.getvalue())} bytes came")
st.download_button("Download", data="id,amount\\n1,100\\n", file_name="orders.csv", mime="text/csv")
st.dataframe({"id": [1, 2], "amount": [100, 200]})
"""
SECOND_PAGE = 'import streamlit as st\n\nst.header("Settings of the app")\n'

NOTEBOOK = """\
{"cells": [{"cell_type": "code", "execution_count": null, "id": "first", "metadata": {}, "outputs": [],
            "source": ["open('ran', 'w').close(); print('ran', 6 * 7)"]}],
 "metadata": {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
              "language_info": {"name": "python"}},
 "nbformat": 4, "nbformat_minor": 5}
"""


@dataclass(frozen=True)
class Platform:
    """A platform that answers at `url` (no slash at its end); `folder` holds what it keeps."""

    url: str
    port: int
    folder: Path


def need(name: str) -> str:
    """The path of an installed platform's command."""
    path = PROGRAMS / name
    if not path.is_file():
        missing(f"{name} is not installed; run `make real-components`")
    return str(path)


def _environment(folder: Path, more: Mapping[str, str] = {}) -> dict[str, str]:
    """Nothing of this account's own: settings, keys, caches are all in the folder."""
    path = f"{PROGRAMS.resolve()}:{os.environ.get('PATH', '')}"
    return {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", **more}


@pytest.fixture
def pocketbase(tmp_path: Path) -> Iterator[Callable[[], Platform]]:
    """Starts PocketBase with the superuser ADMIN, PASSWORD."""
    with ExitStack() as running:

        def start() -> Platform:
            folder = tmp_path / "pocketbase"
            folder.mkdir()
            command = [need("pocketbase"), "--dir", str(folder / "data"), "--publicDir", str(folder / "public")]
            command += ["--migrationsDir", str(folder / "migrations"), "--hooksDir", str(folder / "hooks")]
            environment = _environment(folder)
            superuser = [*command, "superuser", "upsert", ADMIN, PASSWORD]
            subprocess.run(superuser, check=True, capture_output=True, timeout=60, env=environment)
            port = free_port(0)
            serve = [*command, "serve", "--http", f"127.0.0.1:{port}"]
            running.enter_context(program(serve, "Server started", environment))
            return Platform(f"http://127.0.0.1:{port}", port, folder)

        yield start


@pytest.fixture
def streamlit(tmp_path: Path) -> Iterator[Callable[[str], Platform]]:
    """Starts Streamlit with APP and a second page; `streamlit("app.test")` says at which name browsers will ask."""
    with ExitStack() as running:

        def start(address: str = "127.0.0.1") -> Platform:
            folder = tmp_path / "streamlit"
            (folder / "pages").mkdir(parents=True)
            (folder / "app.py").write_text(APP)
            (folder / "pages" / "settings.py").write_text(SECOND_PAGE)
            port = free_port(0)
            settings = {
                "server.headless": "true",
                "server.address": "127.0.0.1",
                "server.port": str(port),
                "server.fileWatcherType": "none",
                "browser.serverAddress": address,
                "browser.gatherUsageStats": "false",
                "client.toolbarMode": "developer",
            }
            command = [need("streamlit"), "run", str(folder / "app.py")]
            command += [f"--{name}={value}" for name, value in settings.items()]
            running.enter_context(program(command, "You can now view your Streamlit app", _environment(folder)))
            return Platform(f"http://127.0.0.1:{port}", port, folder)

        yield start


@pytest.fixture
def jupyterlab(tmp_path: Path) -> Iterator[Callable[[], Platform]]:
    """Starts JupyterLab without a token of its own, on a folder with orders.ipynb and notes.txt."""
    with ExitStack() as running:

        def start() -> Platform:
            folder = tmp_path / "jupyterlab"
            work = folder / "work"
            work.mkdir(parents=True)
            (work / "orders.ipynb").write_text(NOTEBOOK)
            (work / "notes.txt").write_text("some notes\n")
            port = free_port(0)
            command = [need("jupyter-lab"), "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
            command += [
                "--ServerApp.port_retries=0",
                f"--ServerApp.root_dir={work}",
                "--ServerApp.allow_remote_access=True",
                "--IdentityProvider.token=",
                "--LabApp.news_url=",
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                "--LabApp.extension_manager=readonly",
                "--LabApp.expose_app_in_browser=True",
            ]
            running.enter_context(program(command, "is running at:", _environment(folder)))
            return Platform(f"http://127.0.0.1:{port}", port, folder)

        yield start
