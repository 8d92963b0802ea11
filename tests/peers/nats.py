"""A real nats-server with its MQTT gateway; sessions and retained messages live in JetStream, on disk."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.brokers import free_port

from .program import Program, missing

CONFIG = """
server_name: "sd"
listen: "127.0.0.1:{own}"
jetstream {{ store_dir: "{folder}/jetstream" }}
mqtt {{
  listen: "127.0.0.1:{port}"
  ack_wait: "3s"
}}
"""


class Nats(Program):
    """A nats-server of our own.

    Args:
        folder: Where its configuration, its streams and its log live.
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        if program is None:
            missing("nats-server is not installed (make install takes locks/dev.txt, which has it)")
        port, config = free_port(), folder / "nats.conf"
        super().__init__(folder, [str(program), "-c", str(config)], port=port)
        config.write_text(CONFIG.format(own=free_port(), port=port, folder=folder))
