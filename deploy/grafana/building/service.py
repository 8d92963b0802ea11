"""The service itself: is it up, does it keep pace, does what it says arrive, and is its disk well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import Row
from grafana_foundation_sdk.models.common import BigValueTextMode

from building import panels
from building.panels import ANY_IS_BAD, BAD, GOOD, NEW, ODD, query

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import heatmap, stat, table, timeseries
    from grafana_foundation_sdk.models.dashboard import Dashboard

CHOSEN = 'instance=~"$instance"'


def make() -> Dashboard:
    """Return the dashboard."""
    return panels.put_together(
        panels.SERVICE,
        "stream_detector: the service",
        "Whether stream_detector itself is well: connection, pace, delivery, disk, models.",
        variables=[
            panels.variable(
                "instance", "Instance", "label_values(stream_detector_build_info, instance)", several=True
            )
        ],
        events=[
            panels.Events(
                "Model loaded",
                f"changes(stream_detector_model_loaded_timestamp_seconds{{{CHOSEN}}}[$__rate_interval]) > 0",
                "a version of {{model}} was loaded",
                NEW,
            ),
            panels.Events(
                "Connected again",
                f"increase(stream_detector_mqtt_reconnects_total{{{CHOSEN}}}[$__rate_interval]) > 0",
                "{{instance}} is connected to the broker again",
                ODD,
            ),
        ],
        links={"The fleet": panels.FLEET, "One device": panels.DEVICE},
        panels=[
            Row("Health"),
            _up().span(4).height(4),
            _connected().span(4).height(4),
            _waiting().span(4).height(4),
            _checkpoint().span(4).height(4),
            _free().span(4).height(4),
            _version().span(4).height(4),
            Row("What arrives"),
            _messages().span(12).height(8),
            _readings().span(12).height(8),
            _refused().span(8).height(8),
            _ignored().span(8).height(8),
            _gaps().span(8).height(8),
            Row("How long it takes"),
            _to_alert().span(12).height(8),
            _to_alert_map().span(12).height(8),
            _scoring().span(8).height(8),
            _commit().span(8).height(8),
            _batches().span(8).height(8),
            Row("What is published"),
            _outbox().span(12).height(8),
            _publishes().span(12).height(8),
            _reconnects().span(6).height(4),
            _dropped().span(6).height(4),
            _dead_letters().span(6).height(4),
            _series_dropped().span(6).height(4),
            Row("Disk and models"),
            _disk().span(8).height(8),
            _models().span(10).height(8),
            _reloads().span(6).height(8),
        ],
    )


def _sum(metric: str) -> str:
    return f"sum(rate({metric}{{{CHOSEN}}}[$__rate_interval]))"


def _so_often(title: str, description: str, metric: str, legend: str) -> stat.Panel:
    """Return how often something that should not happen did so in the time that is shown."""
    return panels.number(
        title,
        f"{description} Counted over the time that is shown.",
        query(f"sum(increase({metric}{{{CHOSEN}}}[$__range]))", legend),
        unit=panels.COUNT,
        steps=ANY_IS_BAD,
    ).decimals(0)


# -- health --------------------------------------------------------------------------------------------


def _up() -> stat.Panel:
    panel = panels.number(
        "Service",
        "Whether Prometheus reaches the service.",
        query(f"up{{{CHOSEN}}}", "{{instance}}"),
        unit=panels.COUNT,
    )
    return panel.mappings([panels.in_words({0: ("down", BAD), 1: ("up", GOOD)})])


def _connected() -> stat.Panel:
    panel = panels.number(
        "Broker",
        "Whether the service is connected to the MQTT broker and subscribed. While it is not, nothing is"
        " judged.",
        query(f"stream_detector_mqtt_connected{{{CHOSEN}}}", "{{instance}}"),
        unit=panels.COUNT,
    )
    return panel.mappings([panels.in_words({0: ("away", BAD), 1: ("connected", GOOD)})])


def _waiting() -> stat.Panel:
    oldest = f"stream_detector_outbox_oldest_timestamp_seconds{{{CHOSEN}}}"
    return panels.number(
        "Oldest unsent message",
        "How long the oldest alert or state has been waiting for the broker to confirm it; 0 if none waits.",
        query(f"max((time() - {oldest}) * ({oldest} > bool 0))", "waiting"),
        unit=panels.SECONDS,
        steps=((30, ODD), (300, BAD)),
    ).decimals(0)


def _checkpoint() -> stat.Panel:
    return panels.number(
        "Checkpoint",
        "How much of the journal a start would have to go through again, as time.",
        query(f"max(time() - stream_detector_checkpoint_timestamp_seconds{{{CHOSEN}}})", "old"),
        unit=panels.SECONDS,
        steps=((600, ODD), (3600, BAD)),
    ).decimals(0)


def _free() -> stat.Panel:
    return panels.number(
        "Disk free",
        "Room left where the service keeps its state. When there is none, nothing more is taken in.",
        query(f"min(stream_detector_state_free_bytes{{{CHOSEN}}})", "free"),
        unit=panels.BYTES,
    ).decimals(1)


def _version() -> stat.Panel:
    return panels.number(
        "Version",
        "The version of the service.",
        query(f"stream_detector_build_info{{{CHOSEN}}}", "{{version}}"),
        unit=panels.COUNT,
    ).text_mode(BigValueTextMode.NAME)


# -- what arrives --------------------------------------------------------------------------------------


def _messages() -> timeseries.Panel:
    ends = ("received", "accepted", "rejected", "ignored")
    return panels.graph(
        "Messages",
        "MQTT messages in each second. Each one that is received is accepted, rejected or ignored.",
        *(query(_sum(f"stream_detector_messages_{end}_total"), end) for end in ends),
        unit=panels.MESSAGES_A_SECOND,
    )


def _readings() -> timeseries.Panel:
    ends = ("scored", "warming_up", "late", "duplicate", "rejected")
    return panels.graph(
        "Readings",
        "What became of the readings in the accepted messages: scored, not yet (warming up), or not used"
        " because they were late, had come before, or were wrong.",
        *(query(_sum(f"stream_detector_readings_{end}_total"), end) for end in ends),
        unit=panels.READINGS_A_SECOND,
    )


def _refused() -> timeseries.Panel:
    return panels.graph(
        "Messages refused",
        "Messages that could not be used, by reason.",
        *panels.by_reason("stream_detector_messages_rejected_total", CHOSEN),
        unit=panels.MESSAGES_A_SECOND,
    )


def _ignored() -> timeseries.Panel:
    return panels.graph(
        "Messages ignored",
        "Messages passed over, by reason. Overload means that the service could not keep pace with QoS 0.",
        *panels.by_reason("stream_detector_messages_ignored_total", CHOSEN),
        unit=panels.MESSAGES_A_SECOND,
    )


def _gaps() -> timeseries.Panel:
    gaps = f"rate(stream_detector_sequence_gaps_total{{{CHOSEN}}}[$__rate_interval])"
    return panels.graph(
        "Numbers missing",
        "How many numbers in a minute are missing in what devices send with a seq: readings lost before"
        " they came here.",
        query(f"60 * sum by (stream) ({gaps})", "{{stream}}"),
        unit=panels.A_MINUTE,
    )


# -- how long it takes ---------------------------------------------------------------------------------


def _to_alert() -> timeseries.Panel:
    return panels.graph(
        "From arrival to alert",
        "Time from the arrival of a reading to its alert being handed to the broker. No line where no"
        " alert was.",
        *panels.quantiles("stream_detector_end_to_end_seconds", CHOSEN),
        unit=panels.SECONDS,
    )


def _to_alert_map() -> heatmap.Panel:
    return panels.latency_map(
        "From arrival to alert, each",
        "The same, as how many alerts took how long: the darker, the more.",
        "stream_detector_end_to_end_seconds",
        CHOSEN,
    )


def _scoring() -> timeseries.Panel:
    return panels.graph(
        "Scoring a batch",
        "Time that one batch of readings takes in the core, by model.",
        *panels.quantiles("stream_detector_scoring_duration_seconds", CHOSEN, "model"),
        unit=panels.SECONDS,
    )


def _commit() -> timeseries.Panel:
    return panels.graph(
        "Writing a batch to disk",
        "Time that one transaction takes. A slow disk shows here first.",
        *panels.quantiles("stream_detector_journal_commit_seconds", CHOSEN),
        unit=panels.SECONDS,
    )


def _batches() -> timeseries.Panel:
    return panels.graph(
        "Readings in a batch",
        "A batch is what one look at the socket brought. Large ones mean that much arrives at once.",
        *panels.quantiles("stream_detector_batch_readings", CHOSEN),
        unit=panels.COUNT,
    )


# -- what is published ---------------------------------------------------------------------------------


def _outbox() -> timeseries.Panel:
    return panels.graph(
        "Messages waiting for the broker",
        "What has been decided and not yet been confirmed by the broker. It is kept on disk until then.",
        query(f"sum(stream_detector_outbox_events{{{CHOSEN}}})", "waiting"),
        unit=panels.COUNT,
    )


def _publishes() -> timeseries.Panel:
    rate = f"rate(stream_detector_alert_publishes_total{{{CHOSEN}}}[$__rate_interval])"
    return panels.graph(
        "Messages published",
        "What the broker said to them, in a minute: confirmed, confirmed but nobody listens (MQTT 5), or"
        " refused, mostly by an access list.",
        query(f"60 * sum by (result) ({rate})", "{{result}}"),
        unit=panels.A_MINUTE,
    )


def _reconnects() -> stat.Panel:
    return _so_often(
        "Reconnects",
        "Connections to the broker after the first one.",
        "stream_detector_mqtt_reconnects_total",
        "times",
    )


def _dropped() -> stat.Panel:
    return _so_often(
        "Dropped by the broker",
        "Messages that the broker says it has dropped, for anybody; its queue limits may be too low.",
        "stream_detector_broker_dropped_messages_total",
        "messages",
    )


def _dead_letters() -> stat.Panel:
    return _so_often(
        "Dead letters held back",
        "Refused messages that were counted but not sent as dead letters, to spare the broker.",
        "stream_detector_deadletters_suppressed_total",
        "messages",
    )


def _series_dropped() -> stat.Panel:
    return _so_often(
        "Devices without series",
        "How often a device was passed over because metrics.device_series others have series of their own.",
        "stream_detector_device_series_dropped_total",
        "times",
    )


# -- disk and models -----------------------------------------------------------------------------------


def _disk() -> timeseries.Panel:
    return panels.graph(
        "Disk",
        "What the journal and its history take, and what is left.",
        query(f"sum(stream_detector_journal_bytes{{{CHOSEN}}})", "journal"),
        query(f"min(stream_detector_state_free_bytes{{{CHOSEN}}})", "free"),
        unit=panels.BYTES,
    )


def _models() -> table.Panel:
    loaded = f"stream_detector_model_loaded_timestamp_seconds{{{CHOSEN}}}"
    return panels.listing(
        "Models in use",
        "Which version of which model scores which stream, and since when.",
        "1000 * max by (stream, model, version, role) (stream_detector_model_info"
        f"{{{CHOSEN}}} * on (job, instance, model) group_left () {loaded})",
        unit="dateTimeAsIso",
        value="loaded",
    )


def _reloads() -> stat.Panel:
    reloads = f"increase(stream_detector_model_reloads_total{{{CHOSEN}}}[$__range])"
    panel = panels.number(
        "Model versions",
        "Versions that were loaded, and that were refused, in the time that is shown. Why one is refused,"
        " the log says.",
        query(f"sum by (result) ({reloads})", "{{result}}"),
        unit=panels.COUNT,
    ).decimals(0)
    return panels.coloured(panel, {"loaded": GOOD, "refused": BAD})
