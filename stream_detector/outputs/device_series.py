"""Metrics of single devices: score, values and where they were expected, for so many devices at most.

The hot thread notes, the web thread shows: what a scrape reads of a device is one value, replaced as a
whole, so that score, values and expectation always belong together. A scrape sees one reading in many:
an anomalous one therefore stays for a while, unless a worse one comes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stream_detector.core.alerts.explanation import EXPECTED_DEVIATIONS
from stream_detector.core.events import AlertChanged, Expected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from prometheus_client.core import Metric

    from stream_detector.core.events import Outcome
    from stream_detector.core.records import Readings
    from stream_detector.core.scoring.layouts import Layout
    from stream_detector.core.stream import Stream

HOLD_S = 15.0
"""An anomalous reading is shown for so long: as often as most look."""
BAND_S = 1.0
"""What is expected is computed anew at most so often."""
SWEEP_S = 1.0
"""Devices that have lost their place are looked for at most so often."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a scrape sees of a device.

    Attributes:
        at: Since when, s.
        score: NaN: it has none yet.
        values: The last of each channel.
        expected: Of each channel, before this reading.
    """

    at: float = -math.inf
    score: float = math.nan
    values: Mapping[str, float] = field(default_factory=dict)
    expected: Mapping[str, Expected] = field(default_factory=dict)


@dataclass(slots=True)
class _Place:
    """One device that has series.

    Attributes:
        heard: When its last reading came, s.
        shown: What a scrape sees.
        band: What is expected of its next readings.
        band_at: When that was computed, s.
    """

    heard: float
    shown: _Shown = field(default_factory=_Shown)
    band: Mapping[str, Expected] = field(default_factory=dict)
    band_at: float = -math.inf

    def update(
        self,
        now: float,
        score: float,
        values: Mapping[str, float],
        expected: Mapping[str, Expected] | None,
        layout: Layout | None,
        row: int,
    ) -> None:
        """Show the device as it is after a batch.

        Args:
            now: s.
            score: Of the reading to show; NaN: none was scored.
            values: What that reading reports, where it is anomalous.
            expected: What an alert says was expected of it; None: none does.
            layout: Holds the device's windows; None: it has none.
            row: Its row there.
        """
        self.heard = now
        worst = self.shown.score
        held = worst >= 1.0 and now - self.shown.at < HOLD_S and not score >= worst
        if layout is None or held:
            return
        score = worst if math.isnan(score) else score
        self.shown = _Shown(
            at=now,
            score=score,
            values={**_known(layout.channels, layout.table["last"][row]), **values},
            expected={} if math.isnan(score) else self.band if expected is None else expected,
        )
        if now - self.band_at >= BAND_S:
            self.band, self.band_at = _band(layout, row), now


class DeviceSeries(Collector):
    """The series of single devices; who comes first has them.

    Args:
        most: Devices that have series at a time, over all streams; 0: none.
        ttl_s: A device that was not heard for so long loses its series, and its place goes to another.
        clock: Seconds, from any beginning.
    """

    def __init__(
        self, most: int = 0, ttl_s: float = 3600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._ttl_s = ttl_s
        self._clock = clock
        self._places: dict[str, dict[str, _Place]] = {}
        self._taken = 0
        self._swept_at = -math.inf
        self._dropped = 0

    def note(self, stream: Stream, readings: Readings, outcome: Outcome) -> None:
        """Take over what a batch has changed; called in the hot thread, which owns the stream's memory."""
        if not self._most:
            return
        now = self._clock()
        places = self._places.setdefault(readings.stream, {})
        devices = dict.fromkeys(readings.devices)
        for device in devices:
            if device not in places:
                if self._vacant(now):
                    places[device] = _Place(heard=now)
                    self._taken += 1
                else:
                    self._dropped += 1
        chosen = _choose(readings, outcome, places)
        said = {
            event.device: event.expected
            for event in outcome.events
            if isinstance(event, AlertChanged) and event.kind == "point" and event.event != "clear"
        }
        for device in devices:
            if device in places:
                score, i = chosen.get(device, (math.nan, 0))
                values = _values_of(readings, i) if score >= 1.0 else {}
                expected = said.get(device) if score >= 1.0 else None
                places[device].update(now, score, values, expected, *_memory(stream, device))

    def forget(self, stream: str, device: str) -> None:
        """Give the place of a device to another."""
        if self._places.get(stream, {}).pop(device, None) is not None:
            self._taken -= 1

    def describe(self) -> list[Metric]:
        """Return the metrics without their samples."""
        return [*self._families()]

    def collect(self) -> list[Metric]:
        """Return the metrics; called in the web thread."""
        scores, values, expected, dropped = families = self._families()
        now = self._clock()
        for stream, places in list(self._places.items()):  # copies: the hot thread goes on
            for device, place in list(places.items()):
                shown = place.shown
                if now - place.heard >= self._ttl_s:
                    continue
                if not math.isnan(shown.score):
                    scores.add_metric([stream, device], shown.score)
                for channel, value in shown.values.items():
                    values.add_metric([stream, device, channel], value)
                for channel, band in shown.expected.items():
                    for bound in ("lower", "upper", "value"):
                        expected.add_metric([stream, device, channel, bound], getattr(band, bound))
        dropped.add_metric([], self._dropped)
        return [*families]

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily, CounterMetricFamily]:
        return (
            GaugeMetricFamily(
                "stream_detector_device_score",
                "The device's last score; 1.0 is the threshold. From there on, what is shown of the device"
                f" stays for {HOLD_S:.0f} s, unless a higher score comes.",
                labels=["stream", "device"],
            ),
            GaugeMetricFamily(
                "stream_detector_device_value",
                "The last value of a channel, or of the reading whose score stays.",
                labels=["stream", "device", "channel"],
            ),
            GaugeMetricFamily(
                "stream_detector_device_expected",
                "Where the value was expected: the mean of the window (bound value) less and plus"
                f" {EXPECTED_DEVIATIONS:.0f} standard deviations (lower, upper).",
                labels=["stream", "device", "channel", "bound"],
            ),
            CounterMetricFamily(
                "stream_detector_device_series_dropped",
                "How often a device was passed over because metrics.device_series others have series: once"
                " for each batch that it has readings in.",
            ),
        )

    def _vacant(self, now: float) -> bool:
        """Return whether there is a place for one more."""
        if self._taken >= self._most and now - self._swept_at >= SWEEP_S:
            self._swept_at = now
            for stream, places in self._places.items():
                for device, place in list(places.items()):
                    if now - place.heard >= self._ttl_s:
                        self.forget(stream, device)
        return self._taken < self._most


def _choose(
    readings: Readings, outcome: Outcome, places: Mapping[str, _Place]
) -> dict[str, tuple[float, int]]:
    """Return score and place of each device's last scored reading; of its worst, if that is anomalous."""
    found: dict[str, tuple[float, int]] = {}
    for i, score in zip(outcome.scored.tolist(), outcome.scores.tolist(), strict=True):
        device = readings.devices[i]
        if device in places and not 1.0 <= found.get(device, (0.0, 0))[0] > score:
            found[device] = (score, i)
    return found


def _values_of(readings: Readings, i: int) -> dict[str, float]:
    """Return what a reading reports."""
    begin, end = readings.offsets()[i : i + 2]
    return _known(readings.columns[readings.shapes[i]], readings.values[begin:end])


def _known(channels: tuple[str, ...], values: NDArray[np.float64]) -> dict[str, float]:
    """Return the values that are there, by channel."""
    pairs = zip(channels, values.tolist(), strict=True)
    return {name: value for name, value in pairs if not math.isnan(value)}


def _memory(stream: Stream, device: str) -> tuple[Layout | None, int]:
    """Return where the windows of a device stand; None: it has none."""
    return stream.place_of(device) or (None, 0)


def _band(layout: Layout, row: int) -> dict[str, Expected]:
    """Return where the next values are expected, by channel, as an alert of them would say it."""
    state = layout.table.arrays
    columns = (state[name][row].tolist() for name in ("known", "mean", "offset", "m2"))
    band = {}
    for name, known, mean, offset, m2 in zip(layout.channels, *columns, strict=True):
        if known:
            middle, reach = mean + offset, EXPECTED_DEVIATIONS * math.sqrt(max(0.0, m2 / known))
            band[name] = Expected(middle, middle - reach, middle + reach)
    return band
