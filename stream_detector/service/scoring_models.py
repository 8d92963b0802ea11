"""Which model scores which stream: what the settings want, and what records of the past name.

A `ModelSet` record names a model by name, version and content. Whoever replays it must get exactly
that one, so models that were loaded stay known here, and older ones are read from their folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector import failpoints
from stream_detector.core.records import ModelSet
from stream_detector.detectors.builtin import BUILT_IN
from stream_detector.errors import BundleError, ConfigurationError
from stream_detector.models import bundle
from stream_detector.models.reload import ModelWatcher
from stream_detector.settings import BUILT_IN_MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stream_detector.core.records import Role
    from stream_detector.core.scoring.detector import Detector
    from stream_detector.detectors.pyod import FittedModel
    from stream_detector.settings import StreamSettings


class ScoringModels:
    """The models that records name.

    Args:
        models_dir: Where models of the past are looked for; None: nowhere.
    """

    def __init__(self, models_dir: Path | None = None) -> None:
        self._models_dir = models_dir
        self._loaded: dict[tuple[str, str, str], Detector] = {}

    def record(self, at: int, stream: str, role: Role, model: FittedModel | str) -> ModelSet:
        """Return the record by which a bundle, or the built-in detector of that name, scores a stream.

        An empty name: nobody has the role any more.
        """
        failpoints.reach("during model swap")
        if isinstance(model, str):
            return ModelSet(at, stream, role, model, BUILT_IN[model]().version if model else "")
        self._loaded[model.name, model.version, model.sha256] = model
        return ModelSet(at, stream, role, model.name, model.version, model.sha256)

    def named_by(self, record: ModelSet) -> Detector:
        """Return the model that a record names.

        Raises:
            BundleError: It is not there any more.
        """
        key = (record.name, record.version, record.sha256)
        if record.name in BUILT_IN and not record.sha256:
            return BUILT_IN[record.name]()
        if key not in self._loaded:
            found = self._read(record)
            if found is None:
                raise BundleError(
                    f"model '{record.name}' version {record.version}, which scored {record.stream}, is not"
                    " there any more",
                    reason="missing",
                )
            self._loaded[key] = found
        return self._loaded[key]

    def _read(self, record: ModelSet) -> FittedModel | None:
        if self._models_dir is None:
            return None
        try:
            files = bundle.read(self._models_dir / record.name / record.version)
            return bundle.verify(files) if files.sha256 == record.sha256 else None
        except BundleError:
            return None


def misfit(name: str, stream: StreamSettings, model: FittedModel) -> str | None:
    """Return why a bundle cannot score a stream, or None where it can."""
    declared = tuple(stream.channels)
    missing = [channel for channel in model.channels if declared and channel not in declared]
    if missing:
        return (
            f"model '{model.name}' was trained on {len(model.channels)} channels, but stream '{name}' has"
            f" {len(declared)}; missing: {', '.join(map(repr, missing))}. Add it under"
            f" streams.{name}.channels, or retrain with `stream-detector train {name}`."
        )
    if model.window != stream.window:
        return (
            f"model '{model.name}' was trained with a window of {model.window} readings, but stream"
            f" '{name}' has {stream.window}. Set streams.{name}.window: {model.window}, or retrain with"
            f" `stream-detector train {name}`."
        )
    return None


def wanted_bundles(streams: Mapping[str, StreamSettings]) -> dict[str, str]:
    """Return stream -> bundle name, for the streams that want one."""
    return {name: stream.model for name, stream in streams.items() if stream.model not in BUILT_IN_MODELS}


def model_watcher(streams: Mapping[str, StreamSettings], models_dir: Path) -> ModelWatcher:
    """Return what loads the bundles that the streams want; a bundle that does not fit is refused."""
    return ModelWatcher(
        models_dir,
        wanted_bundles(streams),
        fits=lambda stream, model: misfit(stream, streams[stream], model),
    )


def load_wanted(watcher: ModelWatcher, stream: str, name: str) -> FittedModel:
    """Return the newest bundle of a name that can be used for the stream that wants it.

    Raises:
        ConfigurationError: There is none; the message says what to do.
    """
    try:
        return watcher.load_now(name)
    except BundleError as error:
        key = f"streams.{stream}.model"
        raise ConfigurationError(f"{key}: {error}", key=key) from None
