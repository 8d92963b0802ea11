"""The real service, as a process of its own, and what one can see of it from outside."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.brokers import PATIENCE_S, wait_for

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "stream_detector_"
STOP_S = 30.0
"""Half of what the systemd unit grants."""
START_S = 60.0
"""The first start on a machine compiles the kernels."""


class RunningService:
    """``stream-detector run`` with a configuration of its own; ends when the ``with`` block does.

    Args:
        folder: Where its configuration, state, models and log live; a second start finds them again.
        broker: The section `broker`.
        streams: The section `streams`.
        others: Other sections.
    """

    def __init__(
        self, folder: Path, *, broker: dict[str, Any], streams: dict[str, Any], **others: Any
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None
        self._log_begins = 0
        content = {
            "broker": {"keepalive_s": 5, "connect_timeout_s": 1.0, **broker},
            "streams": streams,
            "http": {"listen": "127.0.0.1:0"},
            "state_dir": str(folder / "state"),
            "models_dir": str(folder / "models"),
            **others,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(content))

    def start(self) -> Self:
        """Start, and return once it serves HTTP."""
        self._log_begins = len(self.log())
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stream_detector", "run", "--config", "config.yaml"],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        address = re.compile(r"metrics and health on (http://\S+)")
        wait_for(
            lambda: address.search(self.log(), self._log_begins) or self.ended,
            START_S,
            "the service says where it is",
        )
        found = address.search(self.log(), self._log_begins)
        assert found, f"it ended instead:\n{self.log()}"
        self.url = found[1]
        wait_for(lambda: self._answers() or self.ended, what="the service serves HTTP")
        return self

    def wait_ready(self, timeout_s: float = PATIENCE_S) -> None:
        """Return once it says that it does its job."""
        wait_for(
            lambda: self.get("/readyz")[0] == 200, timeout_s, f"ready; {self.get('/readyz')}\n{self.log()}"
        )

    def wait_online(self) -> None:
        """Return once it has looked for others under its base and has announced itself."""
        wait_for(lambda: "connected to " in self.log()[self._log_begins :], what="it is online")

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page; a service that ends while it answers is an OSError, too."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:  # noqa: S310 - http only
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{path} was cut off: {error}") from None

    def reasons(self) -> list[str]:
        """Return why it is not ready."""
        found: list[str] = json.loads(self.get("/readyz")[1])["reasons"]
        return found

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return all metrics."""
        return {
            (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
        }

    def count(self, name: str, **labels: str) -> float:
        """Return the sum over all series of a metric that have these labels."""
        wanted = set(labels.items())
        return sum(value for (found, its), value in self.samples().items() if found == name and wanted <= its)

    def wait_for_count(
        self, name: str, at_least: float, timeout_s: float = PATIENCE_S, **labels: str
    ) -> None:
        """Return once a metric has grown so far."""
        wait_for(
            lambda: self.count(name, **labels) >= at_least or self.ended,
            timeout_s,
            f"{name}{labels} reaches {at_least}",
        )
        assert not self.ended, self.log()

    def log(self) -> str:
        """Return what it has logged, over all its starts."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    @property
    def ended(self) -> bool:
        """Whether its process is gone."""
        return self.process is None or self.process.poll() is not None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return its exit code."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(how)
        return self.process.wait(STOP_S)

    def _address(self) -> re.Match[str] | None:
        return re.compile(r"metrics and health on (http://\S+)").search(self.log(), self._log_begins)

    def _answers(self) -> bool:
        with suppress(OSError):
            return self.get("/livez")[0] == 200
        return False

    def __enter__(self) -> Self:
        """Start, unless it runs already."""
        return self if self.url else self.start()

    def __exit__(self, *_: object) -> None:
        """End it, however the test went; a traceback in its log fails the test."""
        if not self.ended:
            self.stop(signal.SIGKILL)
        assert "Traceback" not in self.log(), self.log()
