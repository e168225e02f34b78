"""How a Node-RED from npm is started on loopback: for `make demo-node-red` and for the tests."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

READY = "Started flows"
"""What Node-RED writes to stdout when it answers requests and its flows run."""

_SETTINGS = Path(__file__).with_name("node_red_settings.cjs")
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")

EXAMPLE_FLOWS: tuple[Mapping[str, object], ...] = (
    {"id": "zt-tab", "type": "tab", "label": "Hello"},
    {
        "id": "zt-inject",
        "type": "inject",
        "z": "zt-tab",
        "name": "say hello",
        "props": [{"p": "payload"}],
        "repeat": "",
        "crontab": "",
        "once": False,
        "onceDelay": 0.1,
        "topic": "",
        "payload": "hello through the proxy",
        "payloadType": "str",
        "x": 160,
        "y": 120,
        "wires": [["zt-debug"]],
    },
    {
        "id": "zt-debug",
        "type": "debug",
        "z": "zt-tab",
        "name": "debug",
        "active": True,
        "tosidebar": True,
        "complete": "payload",
        "targetType": "msg",
        "x": 360,
        "y": 120,
        "wires": [],
    },
)
"""One tab: a button that sends a message, and a debug node that shows it over the editor's WebSocket."""


class NodeRedMissing(RuntimeError):
    """node, or the npm package node-red, is not there; the text says what to do."""


@dataclass(frozen=True, slots=True)
class NodeRedCommand:
    """A command line and its environment. Keep a pipe on its stdin: it ends when that is closed."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    port: int

    @property
    def url(self) -> str:
        """Where it will answer, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"


def prepare(
    modules: Path, user_dir: Path, flows: Sequence[Mapping[str, object]] = EXAMPLE_FLOWS, port: int = 0
) -> NodeRedCommand:
    """Put `flows` into `user_dir`, unless it has some, and give the command to serve it on `port` (0: any free one).

    `modules` is the `node_modules` folder with the package node-red. Raises `NodeRedMissing`.
    """
    node = shutil.which("node")
    script = modules / "node-red" / "red.js"
    if node is None:
        raise NodeRedMissing("Node-RED needs Node.js 20 or later: the command `node` was not found")
    if not script.is_file():
        raise NodeRedMissing(f"node-red is not installed in {modules}: run `npm ci` in {modules.parent}")
    user_dir.mkdir(parents=True, exist_ok=True)
    flow_file = user_dir / "flows.json"
    if not flow_file.exists():
        flow_file.write_text(json.dumps(list(flows), indent=2))
    port = port or _free_port()
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"ZT_NODE_RED_PORT": str(port), "ZT_NODE_RED_DIR": str(user_dir.resolve())}
    return NodeRedCommand((node, str(script.resolve()), "--settings", str(_SETTINGS)), environment, port)


def _free_port() -> int:
    """A port that was free a moment ago; Node-RED cannot be handed a bound socket and does not tell one it chose."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
