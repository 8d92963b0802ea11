"""Watch the model folders and hand over what is new: hot reload without stopping for a disk.

A thread of its own reads, tries and verifies; the hot thread only takes finished models out of a
queue. A folder is known by its content, not by its time stamps, and copying takes a while: so what
may be half a copy is refused only when it is still the same at the next look.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from stream_detector.detectors.pyod import FittedModel
from stream_detector.errors import BundleError
from stream_detector.models import bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from stream_detector.models.files import Files


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stream's model is new or has changed.

    Attributes:
        stream: Name of the stream.
        model: Verified, ready to score.
        sha256: The bundle's content.
    """

    stream: str
    model: FittedModel
    sha256: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A bundle is not used; what was loaded before stays.

    Attributes:
        stream: Name of the stream that would have got it.
        name: The bundle's name.
        version: Its version; empty where not even the versions can be listed.
        reason: One of `stream_detector.models.bundle.REASONS`.
        message: One sentence.
    """

    stream: str
    name: str
    version: str
    reason: str
    message: str


Report: TypeAlias = Loaded | Refused

PASSING = frozenset({"missing", "hash", "manifest", "unreadable", "unproven"})
"""Reasons that may be gone at the next look; the others hold for this content for ever."""


class ModelWatcher:
    """Loads the newest bundle of each wanted name that is sound and fits, and again whenever that changes.

    It never goes back to a lower version by itself: that is a decision, not a discovery.

    Args:
        models_dir: Where the bundles stand; it need not exist yet.
        wanted: Stream -> name of its bundle.
        fits: Stream and model -> None, or a sentence on why the one cannot be scored by the other; a model
            has to fit all streams that want its name.
        interval_s: Time between two looks.
    """

    def __init__(
        self,
        models_dir: Path,
        wanted: Mapping[str, str],
        fits: Callable[[str, FittedModel], str | None],
        interval_s: float = 2.0,
    ) -> None:
        self._models_dir = models_dir
        self._wanted = dict(wanted)
        self._fits = fits
        self._interval_s = interval_s
        self._reports: SimpleQueue[Report] = SimpleQueue()
        self._loaded: dict[str, FittedModel] = {}  # by name
        # by name and version, what stood there when it failed: the first time, and when it was refused
        self._suspected: dict[tuple[str, str], str] = {}
        self._refused: dict[tuple[str, str], str] = {}
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    def load_now(self, name: str) -> FittedModel:
        """Load the newest bundle of a name that can be used, at once; before `start`.

        Those above it are reported by `take`. Asked again, it returns the same model.

        Raises:
            BundleError: There is none; the error is the newest one's.
        """
        if name in self._loaded:
            return self._loaded[name]
        bundle.latest(self._models_dir, name)  # raises where there is none at all
        errors: list[BundleError] = []
        for version in reversed(bundle.versions(self._models_dir, name)):
            content, result = _read(self._models_dir / name / version)
            outcome = self._admit(name, result)
            if isinstance(outcome, FittedModel):
                self._loaded[name] = outcome
                return outcome
            self._refuse(name, version, content, outcome)
            errors.append(outcome)
        raise errors[0]

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End watching; returns when the thread has ended, which breaks off a trial."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def look_now(self) -> list[str]:
        """Let the thread look at once, rather than when its time comes; return the wanted names."""
        self._wake.set()
        return sorted(set(self._wanted.values()))

    def take(self) -> list[Report]:
        """Return what was found since the last call, without waiting."""
        reports: list[Report] = []
        while True:
            try:
                reports.append(self._reports.get_nowait())
            except Empty:
                return reports

    def look(self) -> None:
        """Look once at every wanted name; the thread does nothing else."""
        for name in dict.fromkeys(self._wanted.values()):
            try:
                found = bundle.versions(self._models_dir, name)
            except BundleError as error:
                if self._refused.get((name, "")) != str(error):
                    self._suspect(name, "", str(error), error)
            else:
                self._forget_all_but(name, found)
                self._look_at(name, found)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            if self._stopped.is_set():
                return
            self.look()

    def _look_at(self, name: str, found: list[str]) -> None:
        """Load the newest bundle that is not known to be broken, unless it is the loaded one."""
        loaded = self._loaded.get(name)
        for version in reversed(found):
            if loaded is not None and int(version) < int(loaded.version):
                return
            content, result = _read(self._models_dir / name / version)
            if loaded is not None and content == loaded.sha256:
                return
            if self._refused.get((name, version)) == content:
                continue
            outcome = self._admit(name, result)
            if isinstance(outcome, FittedModel):
                self._loaded[name] = outcome
                for stream in self._streams(name):
                    self._reports.put(Loaded(stream, outcome, outcome.sha256))
                return
            if not self._suspect(name, version, content, outcome):
                return  # perhaps still being copied

    def _admit(self, name: str, result: Files | BundleError) -> FittedModel | BundleError:
        """Return the model, or why there is none that can be used."""
        if isinstance(result, BundleError):
            return result
        try:
            model = bundle.admit(result, self._stopped)
        except BundleError as error:
            return error
        for stream in self._streams(name):
            problem = self._fits(stream, model)
            if problem is not None:
                return BundleError(problem, reason="features")
        return model

    def _suspect(self, name: str, version: str, content: str, error: BundleError) -> bool:
        """Refuse a content that fails for good or for the second time; return whether it is refused."""
        if error.reason in PASSING and self._suspected.get((name, version)) != content:
            self._suspected[name, version] = content
            return False
        self._refuse(name, version, content, error)
        return True

    def _refuse(self, name: str, version: str, content: str, error: BundleError) -> None:
        self._refused[name, version] = content
        for stream in self._streams(name):
            self._reports.put(Refused(stream, name, version, error.reason, str(error)))

    def _forget_all_but(self, name: str, versions: list[str]) -> None:
        """Forget what is gone: should it come back, it is news again."""
        for known in (self._suspected, self._refused):
            for gone in [key for key in known if key[0] == name and key[1] not in versions]:
                del known[gone]

    def _streams(self, name: str) -> list[str]:
        return [stream for stream, wanted in self._wanted.items() if wanted == name]


def _read(folder: Path) -> tuple[str, Files | BundleError]:
    """Return what names a folder's content, and the content, or why there is none."""
    try:
        found = bundle.read(folder)
    except BundleError as error:
        return str(error), error
    return found.sha256, found
