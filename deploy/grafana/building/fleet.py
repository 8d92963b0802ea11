"""All devices: how they are, which are unusual, what alerts there are, what arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import Row

from building import panels
from building.panels import AWAY, ODD, SEVERITY_COLOURS, STATE_COLOURS, THRESHOLD, query

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import stat, table, timeseries
    from grafana_foundation_sdk.models.dashboard import Dashboard

CHOSEN = 'stream=~"$stream"'
RAISED = f'stream_detector_alert_events_total{{{CHOSEN}, event="raise"}}'
TO_THE_DEVICE = (
    f"/d/{panels.DEVICE}?${{datasource:queryparam}}&${{__url_time_range}}"
    "&var-stream=${__data.fields.stream:percentencode}&var-device=${__data.fields.device:percentencode}"
)


def make() -> Dashboard:
    """Return the dashboard."""
    names = "label_values(stream_detector_devices, stream)"
    return panels.put_together(
        panels.FLEET,
        "stream_detector: fleet",
        "All devices at once: their states, the open alerts, the highest scores, and what arrives.",
        # All is also what belongs to no stream.
        variables=[panels.variable("stream", "Stream", names, several=True).all_value(".*")],
        events=[
            panels.Events(
                "Alerts raised",
                f"sum by (stream, kind, severity) (increase({RAISED}[$__rate_interval])) > 0",
                "{{severity}} {{kind}} alert in {{stream}}",
                ODD,
            )
        ],
        links={"One device": panels.DEVICE, "The service": panels.SERVICE},
        panels=[
            Row("Now"),
            _devices().span(9).height(5),
            _open_alerts().span(5).height(5),
            _silent().span(3).height(5),
            _readings().span(4).height(5),
            _last_message().span(3).height(5),
            Row("Alerts and scores"),
            _raised().span(12).height(8),
            _open_over_time().span(12).height(8),
            _highest_scores().span(12).height(10),
            _scores().span(12).height(10),
            Row("Devices and readings"),
            _states().span(12).height(8),
            _throughput().span(12).height(8),
            _refused().span(12).height(8),
            _ignored().span(12).height(8),
        ],
    )


def _devices() -> stat.Panel:
    panel = panels.number(
        "Devices",
        "How many devices are in each state. A device that is silent counts as silent, even if it alerts"
        " too.",
        query(f"sum by (state) (stream_detector_devices{{{CHOSEN}}})", "{{state}}"),
        unit=panels.COUNT,
    )
    return panels.coloured(panel, STATE_COLOURS)


def _open_alerts() -> stat.Panel:
    panel = panels.number(
        "Open alerts",
        "Alerts that have been raised and not yet cleared. A device can have one of each kind.",
        query(f"sum by (severity) (stream_detector_alerts_active{{{CHOSEN}}})", "{{severity}}"),
        unit=panels.COUNT,
    )
    return panels.coloured(panel, SEVERITY_COLOURS)


def _silent() -> stat.Panel:
    return panels.number(
        "Silent devices",
        "Devices that have said nothing for longer than they usually do. Which ones, the alerts of the kind"
        " silence say.",
        query(f'sum(stream_detector_devices{{{CHOSEN}, state="silent"}})', "silent"),
        unit=panels.COUNT,
        steps=((1, AWAY),),
    )


def _readings() -> stat.Panel:
    return panels.number(
        "Readings",
        "Readings taken in each second, from all devices.",
        query(f"sum(rate(stream_detector_readings_accepted_total{{{CHOSEN}}}[$__rate_interval]))", "taken"),
        unit=panels.READINGS_A_SECOND,
    ).decimals(1)


def _last_message() -> stat.Panel:
    return panels.number(
        "Last message",
        "How long ago the last message of any device arrived.",
        query(f"time() - max(stream_detector_last_message_timestamp_seconds{{{CHOSEN}}})", "ago"),
        unit=panels.SECONDS,
    ).decimals(0)


def _raised() -> timeseries.Panel:
    return panels.graph(
        "Alerts raised",
        "New alerts in a minute, by kind: point (a reading is unusual), range (outside its limits), stuck"
        " (does not move), silence (nothing arrives), data_quality (most readings come too late to be"
        " scored).",
        query(f"60 * sum by (kind) (rate({RAISED}[$__rate_interval]))", "{{kind}}"),
        unit=panels.A_MINUTE,
    )


def _open_over_time() -> timeseries.Panel:
    panel = panels.graph(
        "Open alerts over time",
        "How many alerts were open, by severity. Critical is a score of 2.0 or more, unless configured.",
        query(f"sum by (severity) (stream_detector_alerts_active{{{CHOSEN}}})", "{{severity}}"),
        unit=panels.COUNT,
        stacked=True,
    )
    return panels.coloured(panel, SEVERITY_COLOURS)


def _highest_scores() -> table.Panel:
    panel = panels.listing(
        "Highest scores",
        "The 25 devices with the highest last scores; a score of 1.0 is the threshold. A click on a device"
        " opens it. Empty unless the service shows devices in its metrics (metrics.device_series).",
        f"topk(25, max by (stream, device) (stream_detector_device_score{{{CHOSEN}}}))",
        unit=panels.COUNT,
        value="score",
        steps=THRESHOLD,
    ).decimals(2)
    panels.in_colour(panel, "score")
    return panels.linked(panel, "device", "Open this device", TO_THE_DEVICE)


def _scores() -> timeseries.Panel:
    return panels.score_graph(
        "Scores of all readings",
        "Below which score half, and 99 %, of the readings are. When the upper line comes near 1.0 for"
        " long, the model does not fit any more, or the plant has changed. Read from buckets, so"
        " approximate.",
        *panels.quantiles("stream_detector_score", CHOSEN),
    )


def _states() -> timeseries.Panel:
    panel = panels.graph(
        "Devices by state",
        "How many devices were in each state. A growing silent part is often the network, not the devices.",
        query(f"sum by (state) (stream_detector_devices{{{CHOSEN}}})", "{{state}}"),
        unit=panels.COUNT,
        stacked=True,
    )
    return panels.coloured(panel, STATE_COLOURS)


def _throughput() -> timeseries.Panel:
    return panels.graph(
        "Readings by stream",
        "Readings taken in each second, by stream.",
        query(
            f"sum by (stream) (rate(stream_detector_readings_accepted_total{{{CHOSEN}}}[$__rate_interval]))",
            "{{stream}}",
        ),
        unit=panels.READINGS_A_SECOND,
    )


def _refused() -> timeseries.Panel:
    return panels.graph(
        "Messages refused",
        "Messages that could not be used, by reason. Each one is sent as a dead letter below"
        " stream_detector/deadletter, with a sentence that says what is wrong.",
        *panels.by_reason("stream_detector_messages_rejected_total", CHOSEN),
        unit=panels.MESSAGES_A_SECOND,
    )


def _ignored() -> timeseries.Panel:
    return panels.graph(
        "Messages ignored",
        "Messages passed over without being wrong, by reason: retained ones, ones that no stream wants,"
        " and, in an overload, ones at QoS 0.",
        *panels.by_reason("stream_detector_messages_ignored_total", CHOSEN),
        unit=panels.MESSAGES_A_SECOND,
    )
