"""A real aedes, the broker that Node-RED users embed; its sessions live in memory."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.brokers import free_port

from .program import Program, missing

PEERS = Path(__file__).parents[2] / ".venv" / "peers"


class Aedes(Program):
    """An aedes of our own.

    Args:
        folder: Where its log lives.
    """

    def __init__(self, folder: Path) -> None:
        node = shutil.which("node")
        if node is None or not (PEERS / "node_modules" / "aedes").is_dir():
            missing("aedes is not installed (Debian: apt install nodejs npm; then make stack installs it)")
        port = free_port()
        command = [str(node), str(Path(__file__).with_name("aedes.js")), str(port)]
        super().__init__(folder, command, environment={"PEERS": str(PEERS)}, port=port)
