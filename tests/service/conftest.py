"""The service as a fixture: started by a test, ended with it."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.service.asking import RANGE, Asked
from tests.service.running import RunningService
from tests.service.sensor import TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., RunningService]]:
    """Start services and return once they are ready: ``start_service(mosquitto.port, ready=False)``."""
    numbers = count(1)
    with ExitStack() as stack:

        def start(
            port: int,
            *,
            broker: dict[str, Any] | None = None,
            streams: dict[str, Any] | None = None,
            ready: bool = True,
            **others: Any,
        ) -> RunningService:
            service = RunningService(
                tmp_path / f"service-{next(numbers)}",
                broker={"url": f"mqtt://127.0.0.1:{port}", **(broker or {})},
                streams=streams or {"pumps": {"topic": TOPIC}},
                **others,
            )
            stack.enter_context(service)
            if ready:
                service.wait_ready()
            return service

        yield start


@pytest.fixture
def kept(tmp_path: Path) -> Asked:
    """Return a service with one stream."""
    return Asked(tmp_path, stream=RANGE)
