"""A real Prometheus that scrapes every 0.5 s, and what promtool says about metrics, rules and files."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import yaml

from tests.brokers import PATIENCE_S, free_port, wait_for
from tests.peers.program import Program, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Sample = tuple[dict[str, str], float]
"""The labels of a series (its name is `__name__`) and its value."""
INTERVAL = "500ms"
"""Also the limit of a scrape, which a busy machine has to keep."""


def require(command: str) -> str:
    """Return where a program of Prometheus is; without it the test is skipped."""
    found = shutil.which(command)
    if found is None:
        missing(f"{command} is not installed (Debian: apt install prometheus)")
    return str(found)


def promtool(*arguments: str | Path, text: str | None = None) -> str:
    """Run promtool, with `text` on its stdin, and return what it says; the test fails where it objects."""
    command = [require("promtool"), *map(str, arguments)]
    done = subprocess.run(command, input=text, check=False, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"promtool {' '.join(command[1:])}: {said}"
    return said


def check_metrics(page: str) -> None:
    """Let promtool review a page of metrics: names, types, help, histograms."""
    said = promtool("check", "metrics", text=page)
    assert not said.strip(), said


class Prometheus(Program):
    """A Prometheus of our own, on the loopback.

    Args:
        folder: Where its configuration, its data and its log live.
        scrape: Addresses of services, ``http://127.0.0.1:8808``; /metrics of each is read.
        rules: Files with rules.
        config: A whole prometheus.yml instead, as a mapping; then the other two are not used.
    """

    def __init__(
        self,
        folder: Path,
        scrape: Sequence[str] = (),
        rules: Sequence[Path] = (),
        config: dict[str, Any] | None = None,
    ) -> None:
        port = free_port()
        command = [
            require("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        super().__init__(folder, command, port=port)
        targets = [url.removeprefix("http://") for url in scrape]
        self.config = config or {
            "global": dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), INTERVAL),
            "rule_files": [str(path.resolve()) for path in rules],
            "scrape_configs": [{"job_name": "stream-detector", "static_configs": [{"targets": targets}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(self.config))

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start, and return once it answers queries."""
        super().start()
        wait_for(self._ready, what="Prometheus is ready")
        return self

    def query(self, expr: str) -> list[Sample]:
        """Return what an expression gives now; a scalar is a series without labels."""
        data = self.get("query", query=expr)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def query_range(
        self, expr: str, start: float, end: float, step_s: float
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Return what an expression gave between two Unix times: for each series (time, value)."""
        data = self.get("query_range", query=expr, start=start, end=end, step=step_s)
        return [
            (series["metric"], [(float(at), float(value)) for at, value in series["values"]])
            for series in data["result"]
        ]

    def targets(self) -> list[dict[str, Any]]:
        """Return what it scrapes: of each among others `scrapeUrl`, `health` and `lastError`."""
        found: list[dict[str, Any]] = self.get("targets", state="active")["activeTargets"]
        return found

    def firing(self) -> list[dict[str, str]]:
        """Return the labels of the alerts that fire now; the name is `alertname`."""
        return [alert["labels"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"]

    def wait_for(
        self,
        expr: str,
        predicate: Callable[[list[Sample]], object] = bool,
        timeout_s: float = PATIENCE_S,
    ) -> list[Sample]:
        """Return what an expression gives, once it is not empty, or `predicate` holds for it."""
        found: list[Sample] = []

        def holds() -> object:
            found[:] = self.query(expr)
            return predicate(found)

        try:
            wait_for(holds, timeout_s, expr)
        except AssertionError as error:
            raise AssertionError(f"{error}; it gives {found}; targets: {self.targets()}") from None
        return found

    def get(self, path: str, **parameters: object) -> Any:
        """Return the data of an answer of its API; the test fails with what it objects to."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - http only
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from None

    def _ready(self) -> bool:
        with (
            suppress(OSError),
            urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer,  # noqa: S310 - http only
        ):
            return bool(answer.status == 200)
        return False
