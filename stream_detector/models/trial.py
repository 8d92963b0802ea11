"""The trial: a process of its own loads a bundle and scores with it before this process does.

A crafted file can make compiled code read foreign memory, run for ever or fill the memory, and no
`except` catches that. So a child does it first: it imports the libraries, takes limits upon itself,
and only then asks for the bytes, which come through a pipe: those that were hashed, not those that
stand on the disk by now. What kills it is a reason to refuse the bundle, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from stream_detector.detectors.pyod import KINDS, import_library
from stream_detector.errors import BundleError
from stream_detector.models.files import MODEL
from stream_detector.models.refusals import REASONS, printable, refused

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    from stream_detector.models.files import Files

MEMORY_BYTES = 1 << 30  # on top of what the libraries take, which is 0.5 to 0.6 GB of addresses
CPU_S = 20
WALL_S = 30  # from when the child is ready
START_S = 120.0  # until it is: importing takes 1.5 s, on a small and busy machine 20 times that
END_S = 1.0  # between a child's last word and its end
STILL_THERE = "still there"
POLL_S = 0.1  # how soon a request to stop is seen
MAX_ANSWER_BYTES = 65_536

PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; from stream_detector.models.probe import main; main(sys.argv[1])"
)
KEPT = ("HOME", "LD_LIBRARY_PATH", "NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "XDG_CACHE_HOME")
"""What the child gets of our environment: where libraries and compiled kernels stand. No secrets."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def hold(files: Files, detector: str, stopped: threading.Event | None = None) -> None:
    """Let a child load the bundle and score with it; return when it lives and has no complaint.

    Args:
        files: The bundle's bytes.
        detector: A key of `KINDS`; its library is imported here, too, while the child starts.
        stopped: Ends the wait for a child early, with reason "unproven".

    Raises:
        BundleError: The child complains, or does not survive, or cannot be run.
    """
    try:
        with _child(detector) as child:
            KINDS[detector].load_class()
            import_library("skops.io")
            if _line(child, START_S, stopped) != b"\n":
                raise _unproven(files.folder, f"the process for its trial did not start ({_end_of(child)})")
            _send(child, files)
            answer = _line(child, WALL_S, stopped)
            if not answer.endswith(b"\n"):
                raise _died(files.folder, child)
    except _Stopped:
        raise _unproven(files.folder, "its trial was stopped") from None
    except OSError as error:
        raise _unproven(files.folder, f"the process for its trial cannot be run: {error.strerror}") from error
    _heed(files.folder, answer)


class _Stopped(Exception):  # noqa: N818 - nothing is wrong
    pass


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    reason: str | None
    sentence: str = ""


@contextlib.contextmanager
def _child(detector: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a child that will try one bundle, and leave nothing of it behind."""
    order = {"detector": detector, "memory_bytes": MEMORY_BYTES, "cpu_s": CPU_S, "wall_s": WALL_S}
    with (
        contextlib.suppress(BrokenPipeError),  # closing what it did not live to read
        subprocess.Popen(  # noqa: S603 - our own interpreter and program
            # isolated from Python's settings; with our own path, so that it runs the code that we run
            [sys.executable, "-I", "-c", PROGRAM, json.dumps(order), *map(os.path.abspath, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={name: os.environ[name] for name in KEPT if name in os.environ} | ONE_THREAD,
            start_new_session=True,  # a Ctrl-C in our terminal is for us
        ) as child,
    ):
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)  # and whatever it started


def _line(child: subprocess.Popen[bytes], seconds: float, stopped: threading.Event | None) -> bytes:
    """Return the child's next line; what there is of it, where it ends, says too much or takes too long."""
    assert child.stdout is not None  # noqa: S101 - for the type checker
    deadline = time.monotonic() + seconds
    pipe = child.stdout.fileno()
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    line = b""
    while not line.endswith(b"\n") and len(line) < MAX_ANSWER_BYTES:
        if stopped is not None and stopped.is_set():
            raise _Stopped
        if time.monotonic() > deadline:
            break
        if poll.poll(POLL_S * 1000):
            said = os.read(pipe, MAX_ANSWER_BYTES)
            if not said:
                break
            line += said
    return line


def _send(child: subprocess.Popen[bytes], files: Files) -> None:
    """Hand over the bytes. It cannot take long: the child reads them all before it looks at one."""
    assert child.stdin is not None  # noqa: S101 - for the type checker
    header = json.dumps({"folder": str(files.folder), "manifest_bytes": len(files.manifest)})
    with contextlib.suppress(BrokenPipeError):  # it died: its answer will be missing
        child.stdin.write(header.encode() + b"\n" + files.manifest + files.model)
        child.stdin.close()


def _heed(folder: Path, line: bytes) -> None:
    """Raise what the child complains of. Its words are not trusted more than the bundle is."""
    try:
        answer = msgspec.json.decode(line, type=_Answer)
    except msgspec.DecodeError:
        answer = _Answer(reason="")
    if answer.reason in REASONS:
        raise BundleError(printable(answer.sentence), reason=answer.reason)
    if answer.reason is not None:
        raise refused(folder, f"{MODEL} made the process of its trial talk nonsense", "crash")


def _died(folder: Path, child: subprocess.Popen[bytes]) -> BundleError:
    """Return why a child gives no answer."""
    end = _end_of(child)
    if end in {"SIGALRM", "SIGXCPU", STILL_THERE}:
        what = f"its trial did not end within {CPU_S} s of work, {WALL_S} s in all"
        return refused(folder, what, "timeout")
    if end == "SIGKILL":  # not by us: we read to the end first
        return refused(folder, "its trial was killed, as the system does when memory runs out", "memory")
    return refused(folder, f"{MODEL} ended the process of its trial ({end})", "crash")


def _end_of(child: subprocess.Popen[bytes]) -> str:
    """Return how a child has ended: a signal's name, or its exit status."""
    try:
        status = child.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        return STILL_THERE
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _unproven(folder: Path, what: str) -> BundleError:
    return BundleError(
        f"bundle {folder} is not used: {what}; check memory and limits of this machine, then copy the "
        "folder again.",
        reason="unproven",
    )
