"""The image: its Dockerfile, and its steps replayed without an engine, then started as compose.yaml does.

The replay builds with the Dockerfile's own script from the same lock, and runs the result as the image's
user, with a root file system that cannot be written, against the plant's broker.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.brokers import Mosquitto, Peer, free_port, wait_for

from .composing import DEPLOY, compose, instructions
from .containing import UID, Container, Image
from .test_plant import login, make_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S = 60.0
IN_THE_BASE_IMAGE = {
    *("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"),
    *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "linux-vdso.so.1"),
    *("libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"),
}
"""Shared libraries that Debian's smallest image has, as its package manager needs them."""
FOR_PARALLEL_KERNELS = {"omppool", "tbbpool"}
"""numba's thread pools; we have no parallel kernel, and numba does without them where they do not load."""


def test_hadolint_has_nothing_to_say() -> None:
    """The Dockerfile keeps all rules of the linter."""
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, "--failure-threshold", "style", DEPLOY / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """Each file that the Dockerfile copies exists, and .dockerignore lets it in."""
    ignored = [line for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert ignored[0] == "*"
    copied = [name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]]
    for name in copied:
        assert (DEPLOY.parent / name).exists(), name
        assert f"!{name}" in ignored, name
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in ignored[1:] if pattern[0] != "!")
    assert len(copied) == len([line for line in ignored if line.startswith("!")])


def test_it_runs_as_nobody_in_particular() -> None:
    """The user has a number, so that an engine sees that it is not root; compose.yaml says the same."""
    assert instructions("USER") == [f"{UID}:{UID}"]
    assert compose()["services"]["stream-detector"]["user"] == instructions("USER")[0]
    assert json.loads(instructions("ENTRYPOINT")[0])[1] == "/opt/stream-detector/entrypoint.sh"
    assert json.loads(instructions("CMD")[-1])[0] == "run"


def test_nothing_names_an_architecture() -> None:
    """The same Dockerfile and scripts make the image for amd64 and for arm64."""
    for name in ("Dockerfile", "build-image.sh", "entrypoint.sh", "compile_kernels.py"):
        words = re.findall(r"x86_64|aarch64|--platform|TARGETARCH", (DEPLOY / name).read_text())
        assert not words, name


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Build the image once; the kernels and the lock are those that the Dockerfile takes."""
    return Image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def broker(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """Start a broker with the plant's logins and rules."""
    assert make_secrets(image.folder / "secrets").returncode == 0
    folder = tmp_path_factory.mktemp("broker")
    broker = Mosquitto(folder)
    text = (DEPLOY / "mosquitto" / "compose.conf").read_text()
    text = text.replace("/mosquitto/data/", f"{folder}/").replace("/secrets/", f"{image.folder}/secrets/")
    text = text.replace("listener 1883", f"listener {broker.port} 127.0.0.1")
    (folder / "mosquitto.conf").write_text(f"user root\n{text}")
    yield broker.start()
    broker.stop()


@pytest.fixture(scope="module")
def here(image: Image, broker: Mosquitto) -> dict[str, str]:
    """Return what differs from compose.yaml: there is no network with names, and other tests run beside."""
    config = (DEPLOY / "stream-detector" / "config.yaml").read_text()
    (image.folder / "etc" / "config.yaml").write_text(config)
    return {
        "STREAM_DETECTOR__BROKER__URL": broker.url,
        "STREAM_DETECTOR__HTTP__LISTEN": f"127.0.0.1:{free_port()}",
        "NUMBA_DEBUG_CACHE": "1",
    }


@pytest.fixture(scope="module")
def service(image: Image, here: dict[str, str]) -> Iterator[Container]:
    """Start the service by the image's command, and give it once it is ready."""
    container = image.start(*json.loads(instructions("CMD")[-1]), environment=here)
    with closing(Stopping(container)):
        wait_for(
            lambda: get(here, "/readyz")[0] == 200 or container.process.poll() is not None,
            START_S,
            "the service is ready",
        )
        assert container.process.poll() is None, container.log()
        yield container


class Stopping:
    """Ends a container however a test went."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def close(self) -> None:
        """End it."""
        self._container.stop()


def get(here: dict[str, str], path: str) -> tuple[int, str]:
    """Return status and body of a page; status 0 where nobody answers."""
    url = f"http://{here['STREAM_DETECTOR__HTTP__LISTEN']}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.mark.stack
@pytest.mark.mosquitto
@pytest.mark.timeout(400)
class TestReplay:
    """What was built, running."""

    def test_it_holds_what_the_lock_says(self, image: Image) -> None:
        """The packages are those of locks/full.txt at their versions, and no others."""
        python = image.folder / "image" / "lib"
        found = {
            path.name.removesuffix(".dist-info").replace("_", "-").lower()
            for path in python.glob("python3*/site-packages/*.dist-info")
        }
        locked = {
            f"{name}-{version}".replace("_", "-").lower()
            for name, version in re.findall(
                r"(?m)^([\w.-]+)==([^\s;\\]+)", (DEPLOY.parent / "locks" / "full.txt").read_text()
            )
        }
        assert found - locked == {each for each in found if re.match(r"stream-detector-|pip-", each)}
        assert {each for each in locked if re.match("numba-|pyod-|iotcore-", each)} <= found

    def test_it_needs_no_library_that_the_base_image_lacks(self, image: Image) -> None:
        """Every compiled module finds its libraries within the image, or in Debian's smallest one."""
        modules = [
            str(path)
            for path in (image.folder / "image").rglob("*.so*")
            if path.is_file() and path.name.split(".")[0] not in FOR_PARALLEL_KERNELS
        ]
        told = subprocess.run(["ldd", *modules], capture_output=True, text=True, check=False).stdout
        needed = set(re.findall(r"^\s+(?:\S*/)?(\S+) (?:=>|\()", told, re.MULTILINE))
        inside = {Path(module).name for module in modules}
        assert needed - inside <= IN_THE_BASE_IMAGE
        assert "not found" not in told

    def test_nobody_can_write_to_it(self, service: Container) -> None:
        """The process has another user than root, no capability, no way to get one, and a read-only root."""
        assert service.status("Uid").split() == [str(UID)] * 4
        assert service.status("CapEff") == service.status("CapBnd") == "0" * 16
        assert service.status("NoNewPrivs") == "1"
        root = Path(f"/proc/{service.process.pid}/root")
        for place in ("", "opt/stream-detector", "etc/stream-detector", "secrets"):
            assert os.statvfs(root / place).f_flag & os.ST_RDONLY, place

    def test_no_kernel_is_compiled_when_it_runs(
        self, image: Image, here: dict[str, str], broker: Mosquitto, service: Container
    ) -> None:
        """It scores with the machine code that was built: loaded, none saved, the files as they were."""
        with Peer(broker.port, **login(image.folder / "secrets", "simulator")) as sensor:
            for number in range(150):
                reading = {"ts": 1_750_000_000 + number, "values": {"level": number % 7 / 10}}
                sensor.publish("plant/north/tank-1/telemetry", json.dumps(reading))

        def scored() -> bool:
            pages = get(here, "/metrics")[1]
            return bool(re.search(r'readings_scored_total{model="\w+",stream="plant"} [1-9]', pages))

        wait_for(scored, what="readings are scored")
        assert service.files("/tmp/kernels") == image.kernels  # noqa: S108 - the image's own
        assert "data loaded from" in service.log()
        assert "data saved to" not in service.log()

    def test_the_simulated_plant_appears(
        self, image: Image, here: dict[str, str], broker: Mosquitto, service: Container
    ) -> None:
        """The simulator's command of compose.yaml fills the plant: devices on /metrics, by their names."""
        del service
        words = [str(word) for word in compose()["services"]["simulator"]["command"]]
        words = [word.replace("mqtt://mosquitto:1883", broker.url) for word in words]
        simulator = image.start(*words)
        with closing(Stopping(simulator)):

            def named() -> bool:
                devices = re.findall(r'device_\w+{[^}]*device="([\w-]+)"', get(here, "/metrics")[1])
                return {"pump-01", "freezer-08", "meter-08"} <= set(devices)

            wait_for(lambda: named() or simulator.process.poll() is not None, START_S, "devices appear")
            assert simulator.process.poll() is None, simulator.log()
        assert simulator.stop() == 0

    def test_the_health_checks_tell_life_from_death(
        self, here: dict[str, str], broker: Mosquitto, service: Container
    ) -> None:
        """The image's asks whether it lives, that of compose.yaml whether it works: the broker is away."""
        del service
        port = here["STREAM_DETECTOR__HTTP__LISTEN"].rpartition(":")[2]
        checks = {
            "image": json.loads(re.search(r"CMD (\[.*\])", instructions("HEALTHCHECK")[0])[1]),  # type: ignore[index]
            "compose": compose()["services"]["stream-detector"]["healthcheck"]["test"][1:],
        }

        def healthy(which: str) -> bool:
            python, *words = (word.replace("8808", port) for word in checks[which])
            assert python == "python"
            command = [sys.executable, *words]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

        assert healthy("image")
        assert healthy("compose")
        broker.stop()
        try:
            wait_for(lambda: get(here, "/readyz")[0] == 503, what="it is not ready")
            assert healthy("image")
            assert not healthy("compose")
        finally:
            broker.start()
        wait_for(lambda: get(here, "/readyz")[0] == 200, what="it is ready again")

    def test_it_can_do_everything(self, image: Image, here: dict[str, str]) -> None:
        """A bundle is trained and loaded, its trial included, with /tmp and the data alone to write to."""
        rows = "\n".join(f"2026-01-01T00:{n // 60:02}:{n % 60:02}Z,{n % 9 / 10}" for n in range(600))
        (image.folder / "data" / "history.csv").write_text(f"time,level\n{rows}\n")
        config = yaml.safe_load((image.folder / "etc" / "config.yaml").read_text())
        config["streams"]["plant"] |= {"model": "tank", "channels": {"level": {}}}
        config["state_dir"] = "/var/lib/stream-detector/other"
        (image.folder / "etc" / "bundle.yaml").write_text(yaml.safe_dump(config))
        code, said = image.run("train", "tank", "--data", "history.csv", "--output", "models")
        assert code == 0, said
        elsewhere = here | {"STREAM_DETECTOR__HTTP__LISTEN": f"127.0.0.1:{free_port()}"}
        code, said = image.run("check", "--config", "/etc/stream-detector/bundle.yaml", environment=elsewhere)
        assert code == 0, said
        assert "tank version 1 loads and fits stream plant" in said

    def test_a_mistake_ends_in_a_sentence(self, image: Image, here: dict[str, str]) -> None:
        """What the service refuses at its start is exit code 2, as everywhere."""
        code, said = image.run("run", "--config", "/etc/stream-detector/none.yaml", environment=here)
        assert code == 2
        assert "there is no such file" in said

    def test_without_room_it_compiles_and_works(self, image: Image, here: dict[str, str]) -> None:
        """Where no folder can be written the entry says so, and the command runs all the same."""
        nowhere = here | {"NUMBA_CACHE_DIR": "/secrets/kernels", "HOME": "/secrets"}
        code, said = image.run("check", "--config", "/etc/stream-detector/none.yaml", environment=nowhere)
        assert code == 2
        assert "/secrets/kernels cannot be written; mount a tmpfs at /tmp" in said

    def test_it_ends_in_order(self, service: Container) -> None:
        """The stop signal ends it with exit code 0."""
        assert service.stop() == 0
