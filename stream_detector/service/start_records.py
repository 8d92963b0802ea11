"""The records that everything begins with: the configuration, and the models that score."""

from __future__ import annotations

import hashlib
import platform
from typing import TYPE_CHECKING

from stream_detector.core.records import Started
from stream_detector.service.scoring_models import load_wanted, wanted_bundles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_detector.core.records import Record
    from stream_detector.models.reload import ModelWatcher
    from stream_detector.outputs.log import Log
    from stream_detector.service.recovery import Recovery
    from stream_detector.service.scoring_models import ScoringModels
    from stream_detector.settings import StreamSettings


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
        self._streams = {name: stream.model for name, stream in streams.items()}
        self._wanted = wanted_bundles(streams)
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
        for stream, built_in in self._streams.items():
            wanted = self._wanted.get(stream)
            model = load_wanted(self._watcher, stream, wanted) if wanted else None
            record = self._models.record(now, stream, model or built_in)
            if not self._recovery.scores(record):
                records.append(record)
            for warning in model.warnings if model else ():
                self._log.info("%s", warning)
        return records
