"""The service under abuse: what it says when it is gone, and how much of the machine it holds."""

from __future__ import annotations

from pathlib import Path

from tests.service.running import RunningService

MB = 1_000_000
SHOWN = 2000


class Abused(RunningService):
    """A service that may be killed by what it is sent."""

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page; what its log says last, where nobody answers any more."""
        try:
            return super().get(path)
        except OSError:
            assert not self.ended, f"it has ended; it said\n{self.log()[-SHOWN:]}"
            raise


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise KeyError(name)


def resident_mb(pid: int) -> float:
    """Return its resident memory."""
    return _status(pid, "VmRSS") * 1024 / MB


def forget_peak(pid: int) -> None:
    """Let its peak begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def peak_mb(pid: int) -> float:
    """Return the most resident memory that it had since its peak was forgotten."""
    return _status(pid, "VmHWM") * 1024 / MB


def threads(pid: int) -> int:
    """Return how many threads it has."""
    return _status(pid, "Threads")


def open_files(pid: int) -> int:
    """Return how many file descriptors it has."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
