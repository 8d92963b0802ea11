"""How much of the machine a process holds, as Linux tells it."""

from __future__ import annotations

from pathlib import Path

MB = 1_000_000


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
