"""Fixtures for the programs around the service: started by a test, ended with it."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.nodered import NodeRed
from tests.service.conftest import start_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["start_service"]


@pytest.fixture
def start_node_red(tmp_path: Path) -> Iterator[Callable[..., NodeRed]]:
    """Start Node-REDs at a broker and return once they are connected: ``start_node_red(mosquitto.port)``."""
    numbers = count(1)
    with ExitStack() as stack:

        def start(port: int, env: dict[str, str] | None = None, **options: Any) -> NodeRed:
            where = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(port), **(env or {})}
            node_red = NodeRed(tmp_path / f"node-red-{next(numbers)}", env=where, **options)
            stack.callback(node_red.stop)
            return node_red.start()

        yield start
