"""A real RabbitMQ with its MQTT plugin, as a node of its own beside the one that Debian may run.

An Erlang node announces itself at a port mapper, `epmd`; ours has one of its own, which ends with it.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from tests.brokers import free_port

from .program import Program, missing

if TYPE_CHECKING:
    import signal
    from pathlib import Path
    from typing import Self

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
CONFIG = """
listeners.tcp = none
mqtt.listeners.tcp.default = 127.0.0.1:{port}
mqtt.allow_anonymous = true
mqtt.subscription_ttl = 1209600000
log.console = true
"""


class RabbitMQ(Program):
    """A RabbitMQ of our own.

    Args:
        folder: Where its configuration, its queues and its log live.
    """

    def __init__(self, folder: Path) -> None:
        epmd = shutil.which("epmd")
        if epmd is None or not os.access(SERVER, os.X_OK):
            missing("RabbitMQ is not installed (Debian: apt install rabbitmq-server)")
        port, mapper = free_port(), free_port()
        own = {
            "HOME": str(folder),  # the cookie that its tools log in with
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"sd-{port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
        super().__init__(folder, [SERVER], environment=own, port=port)
        self._mapper = Program(
            folder / "epmd", [str(epmd), "-port", str(mapper), "-address", "127.0.0.1"], port=mapper
        )
        (folder / "enabled_plugins").write_text("[rabbitmq_mqtt].")
        (folder / "rabbitmq.conf").write_text(CONFIG.format(port=port))

    def start(self) -> Self:
        """Start, and return once it accepts connections; that takes some ten seconds."""
        self._mapper.start()
        return super().start()

    def stop(self, *how: signal.Signals) -> None:
        """End it and its port mapper."""
        super().stop(*how)
        self._mapper.stop()
