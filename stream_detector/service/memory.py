"""What the service knows of its devices: the state of all streams, which can be dropped and rebuilt.

An unexpected error leaves state half changed. Then `begin` drops all of it, and `recovery` puts back
what is on disk; whoever holds this object sees the new state at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.pipeline import Pipeline
from stream_detector.core.records import NO_SEQ, Readings
from stream_detector.core.spec import StreamSpec
from stream_detector.detectors.default.detector import Default

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream_detector.core.scoring.detector import Detector
    from stream_detector.core.stream import Stream
    from stream_detector.service.scoring_models import ScoringModels


class Memory:
    """The state of all streams.

    Args:
        specs: The streams.
        models: Gives the models that records name.

    Attributes:
        pipeline: The core with its state; another one after `begin`.
    """

    def __init__(self, specs: Iterable[StreamSpec], models: ScoringModels) -> None:
        self._specs = list(specs)
        self._models = models
        self.begin()

    def begin(self) -> None:
        """Begin with nothing."""
        self.pipeline = Pipeline(self._specs, initial=Default, model=self._models.named_by)

    @property
    def streams(self) -> dict[str, Stream]:
        """Return the streams by name."""
        return self.pipeline.streams

    def detector(self, stream: str) -> Detector:
        """Return what scores a stream now."""
        return self.pipeline.streams[stream].detector

    def known(self, stream: str, device: str) -> bool:
        """Return whether a device is in memory."""
        return device in self.pipeline.streams[stream].devices.slot_of


def warm_up() -> None:
    """Load the compiled kernels (compile them, the first time ever) before anything waits for them."""
    pipeline = Pipeline([StreamSpec("warm-up")], initial=Default, model=lambda _record: Default())
    for device in ("a", "b"):
        pipeline.process(
            Readings(
                stream="warm-up",
                devices=[device],
                columns=(("x",),),
                shapes=np.zeros(1, dtype=np.int32),
                values=np.zeros(1),
                ts=np.ones(1, dtype=np.int64),
                arrival=np.ones(1, dtype=np.int64),
                seq=np.full(1, NO_SEQ, dtype=np.int64),
                index=np.zeros(1, dtype=np.int32),
            )
        )
