"""Fixtures for all tests: brokers. A test that needs Mosquitto is marked `mosquitto`.

With pytest-xdist (``-n auto``) several tests run at a time. Each has its own folder and its own servers,
and ports are chosen so that nobody else takes them (`tests.ports`).

On a machine without Mosquitto such tests are skipped; with REQUIRE_SERVERS=1 they fail.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.mqtt.broker import EmbeddedBroker
from tests.brokers import MOSQUITTO, Mosquitto
from tests.certificates import Certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOST_WORKERS = 16
"""Each takes 300 MB where models are tested."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many tests ``-n auto`` runs at a time: two a processor, as many of them wait for servers."""
    return min(2 * len(os.sched_getaffinity(0)), MOST_WORKERS)


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Start as many Mosquittos as a test likes: ``start_mosquitto(acl="topic read a/#")``."""
    if MOSQUITTO is None:
        reason = "Mosquitto is not installed (Debian: apt install mosquitto)"
        if os.environ.get("REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    numbers = count(1)
    with ExitStack() as stack:

        def start(**options: Any) -> Mosquitto:
            broker = Mosquitto(tmp_path / f"mosquitto-{next(numbers)}", **options)
            stack.callback(broker.stop)
            return broker.start()

        yield start


@pytest.fixture
def mosquitto(start_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """Return a running Mosquitto that lets everybody in and forgets everything when it stops."""
    return start_mosquitto()


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[Mosquitto | EmbeddedBroker]:
    """Give a broker whose `port` speaks 3.1.1: Mosquitto where there is one, else the embedded one."""
    if MOSQUITTO is not None:
        yield request.getfixturevalue("mosquitto")
        return
    with EmbeddedBroker() as embedded:
        yield embedded


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make a CA, a server's and a client's certificate."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
