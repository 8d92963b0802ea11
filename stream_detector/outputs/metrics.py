"""Events and batch counts -> Prometheus metrics; all of them, nowhere else.

One `match` over the events ends in `assert_never`, so an event cannot be forgotten here. Labels have a
bounded number of values: a device is one only in `device_series`, which counts its devices. The series
of closed lists start at 0.
"""

from __future__ import annotations

import math
import shutil
import time
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar, assert_never, cast

import numpy as np
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from stream_detector import __version__
from stream_detector.core.events import (
    ALERT_EVENTS,
    IGNORED,
    KINDS,
    REJECTIONS,
    SEVERITIES,
    STATES,
    SUPPRESSED,
    AlertChanged,
    AlertSuppressed,
    ChannelAdded,
    CommandAnswered,
    DeviceForgotten,
    DeviceStateChanged,
    ModelRefused,
    ModelReplaced,
    Rejected,
)
from stream_detector.outputs.device_series import DeviceSeries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.core.devices.snapshot import OpenAlert
    from stream_detector.core.events import Counts, Event
    from stream_detector.core.records import Role
    from stream_detector.formats.taken import Tally

SCORE_BUCKETS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 100.0, 1000.0)
SECONDS_BUCKETS = (
    1e-4,
    2.5e-4,
    5e-4,
    1e-3,
    2.5e-3,
    5e-3,
    1e-2,
    2.5e-2,
    5e-2,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
PUBLISH_RESULTS = ("confirmed", "no_subscribers", "refused")
RELOAD_RESULTS = ("loaded", "refused")
PREFIX = "stream_detector_"
_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)


class Metrics:
    """All metrics of a service.

    Args:
        streams: Names of the streams.
        registry: Where the metrics are registered.
        devices: The series of single devices; None: there are none.
    """

    def __init__(
        self,
        streams: Iterable[str],
        registry: CollectorRegistry = REGISTRY,
        devices: DeviceSeries | None = None,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self.devices = devices or DeviceSeries()
        registry.register(self.devices)
        names = list(streams)
        self._counters = {
            name: Counter(PREFIX + name, help_, labels, registry=registry)
            for name, help_, labels in (
                ("messages_received", "Messages that arrived.", ["stream"]),
                ("messages_rejected", "Messages refused, by reason.", ["stream", "reason"]),
                ("messages_ignored", "Messages passed over, by reason.", ["stream", "reason"]),
                ("messages_accepted", "Messages whose readings were taken.", ["stream"]),
                ("readings_rejected", "Elements of accepted lists that were refused.", ["stream", "reason"]),
                ("readings_accepted", "Readings taken into a window.", ["stream"]),
                ("readings_scored", "Readings that got a score.", ["stream", "model"]),
                ("readings_warming_up", "Readings before there is enough to score.", ["stream"]),
                ("readings_late", "Readings older than their device's newest.", ["stream"]),
                ("readings_duplicate", "Readings that had come before.", ["stream"]),
                ("commands", "Requests over MQTT, by their answer.", ["command", "result"]),
                ("alert_events", "Alert events.", ["stream", "event", "kind", "severity"]),
                ("alerts_suppressed", "Alerts held back by the policy.", ["stream", "reason"]),
                ("sequence_gaps", "Numbers missing in devices' sequences.", ["stream"]),
                ("alert_publishes", "Outcomes of handing messages to the broker.", ["result"]),
                ("mqtt_reconnects", "Connections to the broker after the first.", []),
                (
                    "model_reloads",
                    "Model versions loaded or refused, those at the start too.",
                    ["model", "result"],
                ),
                ("deadletters_suppressed", "Dead letters not sent, to spare the broker.", []),
                ("broker_dropped_messages", "What the broker says that it has dropped, for anybody.", []),
            )
        }
        self._gauges = {
            name: Gauge(PREFIX + name, help_, labels, registry=registry)
            for name, help_, labels in (
                ("alerts_active", "Open alerts.", ["stream", "severity"]),
                ("devices", "Devices, each in one state.", ["stream", "state"]),
                ("mqtt_connected", "1 while the broker is connected and subscribed.", []),
                ("last_message_timestamp_seconds", "Arrival of the last message.", ["stream"]),
                ("model_info", "1 for each model in use.", ["stream", "model", "version", "role"]),
                ("model_loaded_timestamp_seconds", "When a model was loaded.", ["model"]),
                ("outbox_events", "Messages not yet confirmed by the broker.", []),
                ("outbox_oldest_timestamp_seconds", "When the oldest of them was made; 0: none.", []),
                ("journal_bytes", "Bytes of what is kept in state_dir, the history too.", []),
                (
                    "checkpoint_timestamp_seconds",
                    "The journal from here on would be replayed at a start.",
                    [],
                ),
                ("state_free_bytes", "Bytes free where state_dir is; NaN: unknown.", []),
                ("build_info", "1, with the version.", ["version"]),
            )
        }
        self._histograms = {
            name: Histogram(PREFIX + name, help_, labels, buckets=buckets, registry=registry)
            for name, help_, labels, buckets in (
                ("score", "Scores; 1.0 is the threshold.", ["stream"], SCORE_BUCKETS),
                (
                    "scoring_duration_seconds",
                    "Time in the core for a batch.",
                    ["stream", "model"],
                    SECONDS_BUCKETS,
                ),
                (
                    "end_to_end_seconds",
                    "From arrival to the alert handed to the broker.",
                    ["stream"],
                    SECONDS_BUCKETS,
                ),
                ("batch_readings", "Readings in a batch.", ["stream"], BATCH_BUCKETS),
                ("journal_commit_seconds", "Time to write a batch to disk.", [], SECONDS_BUCKETS),
            )
        }
        self._found: dict[tuple[object, tuple[str, ...]], Any] = {}
        self._models: dict[tuple[str, Role], tuple[str, str]] = {}
        self._active: dict[tuple[str, str], int] = {}
        self._severity: dict[str, str] = {}
        self._published: dict[str, int] = {}
        self._reconnects = 0
        self._readings = 0
        self._broker_dropped: int | None = None
        self._start_at_zero(names)

    def _start_at_zero(self, streams: list[str]) -> None:
        """Make the series whose labels are known beforehand: a rate needs the 0 before the first event."""
        self._gauges["build_info"].labels(__version__).set(1)
        known: dict[str, tuple[Iterable[str], ...]] = {
            "alert_events": (streams, ALERT_EVENTS, KINDS, SEVERITIES),
            "alert_publishes": (PUBLISH_RESULTS,),
            "alerts_active": (streams, SEVERITIES),
            "alerts_suppressed": (streams, SUPPRESSED),
            "batch_readings": (streams,),
            "devices": (streams, STATES),
            "end_to_end_seconds": (streams,),
            "messages_accepted": (streams,),
            "messages_ignored": (["", *streams], IGNORED),
            "messages_received": (["", *streams],),
            "messages_rejected": (["", *streams], REJECTIONS),
            "readings_accepted": (streams,),
            "readings_duplicate": (streams,),
            "readings_late": (streams,),
            "readings_rejected": (streams, REJECTIONS),
            "readings_warming_up": (streams,),
            "score": (streams,),
            "sequence_gaps": (streams,),
        }
        metrics = {**self._counters, **self._gauges, **self._histograms}
        for name, labels in known.items():
            for values in product(*labels):
                metrics[name].labels(*values)

    # -- what is counted ---------------------------------------------------------------------------

    def event(self, event: Event) -> None:  # noqa: C901 - one case an event
        """Count one event."""
        match event:
            case AlertChanged():
                self._alert(event)
            case DeviceStateChanged():
                devices = self._gauges["devices"]
                if event.previous is not None:
                    self._series(devices, event.stream, event.previous).dec()
                self._series(devices, event.stream, event.state).inc()
            case DeviceForgotten():
                if event.state is not None:
                    self._series(self._gauges["devices"], event.stream, event.state).dec()
                self.devices.forget(event.stream, event.device)
            case CommandAnswered():
                self._series(self._counters["commands"], event.command, event.result).inc()
            case AlertSuppressed():
                self._counters["alerts_suppressed"].labels(event.stream, event.reason).inc()
            case ModelReplaced():
                self.model(event.stream, event.name, event.version, event.role)
                if event.name:
                    self._counters["model_reloads"].labels(event.name, "loaded").inc()
            case ModelRefused():
                self._counters["model_reloads"].labels(event.name, "refused").inc()
            case ChannelAdded() | Rejected():
                pass  # rejections are counted with their messages, by `messages`
            case _:
                assert_never(event)

    def _alert(self, alert: AlertChanged) -> None:
        self._series(
            self._counters["alert_events"], alert.stream, alert.event, alert.kind, alert.severity
        ).inc()
        active = self._gauges["alerts_active"]
        before = self._severity.pop(alert.id, None)
        if before is not None:
            self._series(active, alert.stream, before).dec()
        if alert.event != "clear":
            self._severity[alert.id] = alert.severity
            self._series(active, alert.stream, alert.severity).inc()

    def messages(self, tallies: Mapping[str, Tally], arrival: int) -> None:
        """Count what the intake did with a batch of messages."""
        for stream, tally in tallies.items():
            if not tally.received:
                continue
            self._series(self._counters["messages_received"], stream).inc(tally.received)
            if stream:
                self._series(self._counters["messages_accepted"], stream).inc(tally.accepted)
                self._series(self._gauges["last_message_timestamp_seconds"], stream).set(arrival / 1e6)
            for reason, count in tally.rejected.items():
                self._series(self._counters["messages_rejected"], stream, reason).inc(count)
            for reason, count in tally.ignored.items():
                self._series(self._counters["messages_ignored"], stream, reason).inc(count)
            for reason, count in tally.refused_readings.items():
                self._series(self._counters["readings_rejected"], stream, reason).inc(count)
            if tally.duplicates:
                self._series(self._counters["readings_duplicate"], stream).inc(tally.duplicates)

    def batch(
        self, stream: str, model: str, counts: Counts, scores: NDArray[np.float64], seconds: float
    ) -> None:
        """Count what the core did with a batch of readings."""
        taken = counts.scored + counts.warming_up
        self._readings += taken
        for name, count in (
            ("readings_accepted", taken),
            ("readings_warming_up", counts.warming_up),
            ("readings_late", counts.late),
            ("readings_duplicate", counts.duplicate),
            ("sequence_gaps", counts.missing_seq),
        ):
            if count:
                self._series(self._counters[name], stream).inc(count)
        if counts.scored:
            self._series(self._counters["readings_scored"], stream, model).inc(counts.scored)
            self._observe_all("score", stream, scores)
        self._series(self._histograms["batch_readings"], stream).observe(
            taken + counts.late + counts.duplicate
        )
        self._series(self._histograms["scoring_duration_seconds"], stream, model).observe(seconds)

    def scored(self, stream: str, by_model: Mapping[str, int]) -> None:
        """Count the readings that further models have scored."""
        for model, count in by_model.items():
            if count:
                self._series(self._counters["readings_scored"], stream, model).inc(count)

    def readings(self) -> int:
        """Return how many readings were taken so far, over all streams."""
        return self._readings

    def handed_over(self, alert: AlertChanged, now: int) -> None:
        """Note that an alert went to the broker."""
        self._series(self._histograms["end_to_end_seconds"], alert.stream).observe(
            max(0, now - alert.received_at) / 1e6
        )

    def model(self, stream: str, name: str, version: str, role: Role = "live") -> None:
        """Note which model scores a stream in a role; without a name, none does."""
        info = self._gauges["model_info"]
        before = self._models.pop((stream, role), None)
        if before:
            info.remove(stream, *before, role)
        if not name:
            return
        self._models[stream, role] = (name, version)
        info.labels(stream, name, version, role).set(1)
        self._gauges["model_loaded_timestamp_seconds"].labels(name).set(time.time())
        for result in RELOAD_RESULTS:
            self._counters["model_reloads"].labels(name, result)
        self._counters["readings_scored"].labels(stream, name)

    def disk(self, state_dir: Path, journal_bytes: Callable[[], int]) -> None:
        """Tell at each scrape how much room is taken and left for what has to survive a restart."""

        def free() -> float:
            try:
                return float(shutil.disk_usage(state_dir).free)
            except OSError:
                return math.nan

        self._gauges["state_free_bytes"].set_function(free)
        self._gauges["journal_bytes"].set_function(lambda: float(journal_bytes()))

    def committed(self, seconds: float) -> None:
        """Note a transaction."""
        self._histograms["journal_commit_seconds"].observe(seconds)

    def checkpointed(self, at: int) -> None:
        """Note from when on the journal would be replayed, µs."""
        self._gauges["checkpoint_timestamp_seconds"].set(at / 1e6)

    def seed(self, stream: str, states: Mapping[str, int], alerts: Iterable[OpenAlert]) -> None:
        """Note the devices and open alerts that a start has found."""
        for state, count in states.items():
            self._series(self._gauges["devices"], stream, state).set(count)
        counts = dict.fromkeys(SEVERITIES, 0)
        for alert in alerts:
            self._severity[alert.id] = alert.severity
            counts[alert.severity] += 1
        for severity, count in counts.items():
            self._series(self._gauges["alerts_active"], stream, severity).set(count)

    def broker_dropped(self, total: int) -> int:
        """Note how many messages the broker has dropped, and return how many that are since the last call.

        What it had dropped before our start is not ours.
        """
        before, self._broker_dropped = self._broker_dropped, total
        if before is None or total == before:
            return 0
        more = total - before if total > before else total  # it was started anew
        self._counters["broker_dropped_messages"].inc(more)
        return more

    def deadletters_suppressed(self, count: int) -> None:
        """Note dead letters that were not sent."""
        if count:
            self._counters["deadletters_suppressed"].inc(count)

    def connection(
        self, *, ready: bool, reconnects: int, results: Mapping[str, int], waiting: int, oldest_at: int | None
    ) -> None:
        """Note how the connection stands."""
        self._gauges["mqtt_connected"].set(int(ready))
        self._gauges["outbox_events"].set(waiting)
        self._gauges["outbox_oldest_timestamp_seconds"].set((oldest_at or 0) / 1e6)
        if reconnects > self._reconnects:
            self._counters["mqtt_reconnects"].inc(reconnects - self._reconnects)
            self._reconnects = reconnects
        for result in PUBLISH_RESULTS:
            more = results.get(result, 0) - self._published.get(result, 0)
            if more > 0:
                self._counters["alert_publishes"].labels(result).inc(more)
                self._published[result] = results[result]

    def _series(self, metric: _Metric, *labels: str) -> _Metric:
        """Return one series of a metric, remembered: `labels` of the library takes 2 µs each time."""
        found = self._found.get((metric, labels))
        if found is None:
            found = self._found[metric, labels] = metric.labels(*labels)
        return cast("_Metric", found)

    def _observe_all(self, name: str, stream: str, values: NDArray[np.float64]) -> None:
        """Observe many values at once: one increment a bucket instead of one a value."""
        histogram = self._series(self._histograms[name], stream)
        bounds = np.array(histogram._upper_bounds)  # noqa: SLF001 - there is no public way; a test guards it
        counts = np.bincount(np.searchsorted(bounds, values, side="left"), minlength=len(bounds))
        histogram._sum.inc(float(values.sum()))  # noqa: SLF001
        for bucket, count in zip(histogram._buckets, counts.tolist(), strict=True):  # noqa: SLF001
            if count:
                bucket.inc(count)
