"""README.md can be followed, and the pages that are made from the code are what the code says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from stream_detector.mqtt.broker import EmbeddedBroker
from tests.brokers import PATIENCE_S, free_port, wait_for
from tests.pages import DOCS, ROOT, blocks

README = ROOT / "README.md"
COMMAND = Path(sys.executable).with_name("stream-detector")


def test_own_sensor_in_five_minutes(tmp_path: Path) -> None:
    """The README's configuration and its script give the alert that the README shows."""
    script = next(blocks(README, language="python")).text
    config = next(blocks(README, language="yaml")).text
    with EmbeddedBroker() as broker:
        http = free_port()
        config += f"broker: {{url: {broker.url('3.1.1')}}}\nhttp: {{listen: '127.0.0.1:{http}'}}\n"
        (tmp_path / "sensors.yaml").write_text(config, encoding="utf-8")
        run = [str(COMMAND), "run", "--config", "sensors.yaml"]
        log_file = tmp_path / "log"
        with log_file.open("wb") as log:
            service = subprocess.Popen(run, cwd=tmp_path, stderr=log)
        try:
            wait_for(
                lambda: b"subscribed to" in log_file.read_bytes() or service.poll() is not None, timeout_s=60
            )
            assert service.poll() is None, log_file.read_text(encoding="utf-8")
            here = script.replace("1883", str(broker.port))
            shown = subprocess.run(
                [sys.executable, "-c", here], capture_output=True, text=True, check=True, timeout=60
            ).stdout
        finally:
            service.terminate()
            assert service.wait(PATIENCE_S) == 0
    topic, _, payload = shown.splitlines()[0].partition(" ")
    alert = msgspec.json.decode(payload)
    assert topic == "stream_detector/alert/ovens/oven-1"
    assert (alert["event"], alert["kind"], alert["severity"]) == ("raise", "point", "critical")
    assert alert["reason"].partition("expected")[0] in README.read_text(encoding="utf-8")


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run docs/generate.py."""
    command = [sys.executable, str(DOCS / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_generated_pages_are_current() -> None:
    """docs/reference says what the code says."""
    found = generate("--check")
    assert found.returncode == 0, found.stderr


def test_a_page_that_is_not_current_is_named(tmp_path: Path) -> None:
    """`--check` finds a page that was changed by hand or is missing, and names it; writing mends both."""
    folder = tmp_path / "docs"
    shutil.copytree(DOCS / "generating", folder / "generating")
    shutil.copy(DOCS / "generate.py", folder)
    (tmp_path / "stream_detector").symlink_to(ROOT / "stream_detector")
    script = [sys.executable, str(folder / "generate.py")]
    subprocess.run(script, check=True, timeout=60)
    with (folder / "reference/metrics.md").open("a", encoding="utf-8") as page:
        page.write("by hand\n")
    (folder / "reference/alerts.md").unlink()
    found = subprocess.run([*script, "--check"], capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 1
    told = found.stderr.splitlines()
    assert [line.split()[0] for line in told] == ["docs/reference/metrics.md", "docs/reference/alerts.md"]
    subprocess.run(script, check=True, timeout=60)
    subprocess.run([*script, "--check"], check=True, timeout=60)


def test_a_wrong_argument_is_answered_with_the_usage() -> None:
    """Anything but `--check` gives the usage and exit code 2."""
    found = generate("--write")
    assert found.returncode == 2
    assert "--check" in found.stderr
