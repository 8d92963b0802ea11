"""The records that everything begins with: the configuration, and the models that score."""

from __future__ import annotations

import hashlib
import platform
from typing import TYPE_CHECKING

from stream_detector.core.records import Role, Started
from stream_detector.detectors.builtin import BUILT_IN
from stream_detector.service.scoring_models import load_wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_detector.core.records import Record
    from stream_detector.models.reload import ModelWatcher
    from stream_detector.outputs.log import Log
    from stream_detector.service.recovery import Recovery
    from stream_detector.service.scoring_models import ScoringModels
    from stream_detector.settings import StreamSettings


SET_AT_START: tuple[Role, ...] = ("live", "beside")
"""The roles that the configuration fills."""


class StartRecords:
    """Makes these records, at a start and after each restart from disk.

    Args:
        streams: The streams' settings.
        configuration: All of what can change an event, as text.
        models: The models that records name.
        watcher: Loads the bundles that the streams want.
        recovery: Knows which models score already.
        log: Gets the warnings of the models.
    """

    def __init__(
        self,
        streams: Mapping[str, StreamSettings],
        configuration: str,
        models: ScoringModels,
        watcher: ModelWatcher,
        recovery: Recovery,
        log: Log,
    ) -> None:
        self._streams = {name: stream.detectors for name, stream in streams.items()}
        self._hash = hashlib.sha256(f"{configuration}\n{platform.machine()}".encode()).hexdigest()
        self._models = models
        self._watcher = watcher
        self._recovery = recovery
        self._log = log

    def make(self, now: int) -> list[Record]:
        """Return the records, for this instant of the service clock (µs).

        Raises:
            ConfigurationError: A wanted bundle is not there, or cannot be used.
        """
        records: list[Record] = [Started(now, self._hash)]
        for stream, detectors in self._streams.items():
            for role in SET_AT_START:
                name = detectors.get(role, "")
                is_bundle = name and name not in BUILT_IN
                model = load_wanted(self._watcher, stream, name) if is_bundle else name
                record = self._models.record(now, stream, role, model)
                if not self._recovery.scores(record):
                    records.append(record)
                for warning in () if isinstance(model, str) else model.warnings:
                    self._log.info("%s", warning)
        return records
