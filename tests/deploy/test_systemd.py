"""The systemd unit: valid, closed, and no more closed than the service can bear."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stream_detector.settings import load
from tests.brokers import PATIENCE_S, Mosquitto, free_port, wait_for
from tests.peers.program import missing

from .composing import DEPLOY, IS_ROOT
from .filtered import allowed_by
from .test_image import get

if TYPE_CHECKING:
    from collections.abc import Callable

UNIT = DEPLOY / "systemd" / "stream-detector.service"
EXPOSURE = 15
"""Tenths; what `systemd-analyze security` may find at most. Plain units have 96."""
CODES = {"configuration": 2, "state": 3}


@pytest.fixture(autouse=True)
def _systemd() -> None:
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze is not installed (Debian: apt install systemd)")


def said(key: str) -> list[str]:
    """Return the values of a key of the unit, in order."""
    return re.findall(rf"(?m)^{key}=(.*)$", UNIT.read_text())


def test_systemd_understands_it(tmp_path: Path) -> None:
    """`systemd-analyze verify` is content: no unknown key, no wrong value."""
    program = tmp_path / "stream-detector"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/stream-detector/bin/stream-detector", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_is_closed() -> None:
    """Its exposure is 1.5 at most, and the page says what it is."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found = re.search(r"exposure level for \S+: (\S+)", done.stdout)
    assert found
    page = (DEPLOY.parent / "docs" / "systemd.md").read_text()
    assert f"exposure {found[1]}" in page


def test_a_refusal_is_no_crash_loop() -> None:
    """What trying again does not mend is not tried again: the exit codes of configuration and state."""
    assert said("Restart") == ["on-failure"]
    assert said("RestartPreventExitStatus") == [" ".join(str(code) for code in CODES.values())]


def test_the_configuration_that_comes_with_us_runs_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """config.yaml with a login, and the unit's variables: folders and secret are those of the unit."""
    folders = {"%S": "/var/lib", "%C": "/var/cache", "%d": "/run/credentials/stream-detector.service"}
    for line in said("Environment"):
        for pair in line.split():
            name, _, value = pair.partition("=")
            monkeypatch.setenv(name, re.sub("%[SCd]", lambda found: folders[found[0]], value))
    monkeypatch.setenv("STREAM_DETECTOR__BROKER__USERNAME", "detector")
    settings = load(DEPLOY.parent / "config.yaml")
    assert str(settings.state_dir) == "/var/lib/stream-detector/state"
    assert str(settings.models_dir) == "/var/lib/stream-detector/models"
    name, _, source = said("LoadCredential")[0].partition(":")
    assert settings.broker.password_file == Path(folders["%d"], name)
    assert source.startswith("/etc/stream-detector/")
    assert os.environ["NUMBA_CACHE_DIR"].startswith("/var/cache/stream-detector/")


def test_its_filter_refuses_what_a_service_never_does() -> None:
    """Of the calls that a break-in likes, none is allowed; those that a trial needs are."""
    calls = allowed_by(UNIT.read_text())
    refused = {"mount", "ptrace", "bpf", "reboot", "init_module", "setuid", "chroot", "kexec_load"}
    assert not refused & calls
    assert {"prlimit64", "execve", "fdatasync", "poll", "mmap", "mprotect"} <= calls


@pytest.mark.mosquitto
def test_the_service_lives_under_its_filter(
    start_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """With the unit's system calls alone it compiles, connects, becomes ready and ends in order."""
    if not IS_ROOT:
        missing("a filter can be loaded without further rights by root only")
    broker = start_mosquitto()
    folder = tmp_path / "home"
    folder.mkdir()
    here = {
        "STREAM_DETECTOR__BROKER__URL": broker.url,
        "STREAM_DETECTOR__HTTP__LISTEN": f"127.0.0.1:{free_port()}",
        "STREAM_DETECTOR__STATE_DIR": str(folder / "state"),
        "NUMBA_CACHE_DIR": str(folder / "kernels"),
        "HOME": str(folder),
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, Path(__file__).with_name("filtered.py"), UNIT),
                *(sys.executable, "-m", "stream_detector", "run", "-c", DEPLOY.parent / "config.yaml"),
            ],
            cwd=folder,
            env=os.environ | here,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(
            lambda: get(here, "/readyz")[0] == 200 or process.poll() is not None, 60, "the service is ready"
        )
        assert process.poll() is None, (tmp_path / "log").read_text()
        filtered = re.search(r"(?m)^Seccomp:\s+(\d)$", Path(f"/proc/{process.pid}/status").read_text())
        assert filtered
        assert filtered[1] == "2"
        assert (folder / "kernels").exists()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()


def test_numba_cannot_live_without_writable_code() -> None:
    """MemoryDenyWriteExecute=yes would end the service at its start: why the unit does not say it."""
    assert said("MemoryDenyWriteExecute") == []
    program = "import ctypes; print(ctypes.CDLL(None).prctl(65, 1, 0, 0, 0), flush=True); import numba"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.stdout.strip() != "0":
        pytest.skip("this kernel does not know PR_SET_MDWE (6.3 or newer does)")
    assert done.returncode == 1
    assert "cannot allocate executable memory" in done.stderr
