"""One device: its score, and each channel with the band in which it was expected.

All of it comes from the series of single devices, which the service has only where
`metrics.device_series` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import Row

from building import panels
from building.panels import BAD, GOOD, ODD, THRESHOLD, query

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import stat, statetimeline, timeseries
    from grafana_foundation_sdk.models.dashboard import Dashboard

# A device may be called anything. As a regular expression between backticks, quotes and backslashes
# in its name stay what they are.
CHOSEN = 'stream="$stream", device=~`${device:regex}`'
CHANNEL = f"{CHOSEN}, channel=~`${{channel:regex}}`"
SCORE = f"max(stream_detector_device_score{{{CHOSEN}}})"


def make() -> Dashboard:
    """Return the dashboard."""
    return panels.put_together(
        panels.DEVICE,
        "stream_detector: one device",
        "The score of one device, and each of its channels with the band in which it was expected.",
        variables=[
            panels.variable("stream", "Stream", "label_values(stream_detector_device_score, stream)"),
            panels.variable(
                "device", "Device", 'label_values(stream_detector_device_score{stream="$stream"}, device)'
            ),
            panels.variable(
                "channel",
                "Channel",
                f"label_values(stream_detector_device_value{{{CHOSEN}}}, channel)",
                several=True,
            ),
        ],
        events=[
            panels.Events("Score of 1.0 or more", f"{SCORE} >= 1", "the device is unusual", BAD),
            panels.Events(
                "Alerts raised in its stream",
                "sum by (kind, severity) (increase(stream_detector_alert_events_total"
                '{stream="$stream", event="raise"}[$__rate_interval])) > 0',
                "{{severity}} {{kind}} alert, of this device or another one of the stream",
                ODD,
                shown=False,
            ),
        ],
        links={"The fleet": panels.FLEET, "The service": panels.SERVICE},
        panels=[
            _score_now().span(4).height(5),
            _outside().span(4).height(5),
            _open_alerts().span(4).height(5),
            _judgement().span(12).height(5),
            _score().span(24).height(8),
            Row("Channels"),
            _channel().span(24).height(8),
        ],
    )


def _score_now() -> stat.Panel:
    return panels.number(
        "Score",
        "How unusual its last reading was: 0 is the most usual, 1.0 is the threshold, whatever the model.",
        query(SCORE, "score"),
        unit=panels.COUNT,
        steps=THRESHOLD,
    ).decimals(2)


def _outside() -> stat.Panel:
    value, expected = f"stream_detector_device_value{{{CHOSEN}}}", "stream_detector_device_expected"
    sides = (("upper", ">"), ("lower", "<"))
    outside = " + ".join(
        f'(sum({value} {sign} bool ignoring (bound) {expected}{{{CHOSEN}, bound="{bound}"}}) or vector(0))'
        for bound, sign in sides
    )
    return panels.number(
        "Channels outside their band",
        "How many of its channels are now above or below what was expected of them.",
        query(outside, "channels"),
        unit=panels.COUNT,
        steps=panels.ANY_IS_BAD,
    )


def _open_alerts() -> stat.Panel:
    panel = panels.number(
        "Open alerts of its stream",
        "Alerts that are open in the stream, of this device or others. Which alerts a single device has, its"
        " retained message on stream_detector/state/$stream/$device says.",
        query('sum by (severity) (stream_detector_alerts_active{stream="$stream"})', "{{severity}}"),
        unit=panels.COUNT,
    )
    return panels.coloured(panel, panels.SEVERITY_COLOURS)


def _judgement() -> statetimeline.Panel:
    return panels.words_over_time(
        "Judgement",
        "Whether its readings were usual or not. An alert lasts longer than the unusual readings: it is"
        " cleared after ten usual ones, unless configured.",
        f"{SCORE} >= bool 1",
        {0: ("usual", GOOD), 1: ("unusual", BAD)},
    )


def _score() -> timeseries.Panel:
    return panels.score_graph(
        "Score over time",
        "How unusual each reading was. From 1.0 on a reading is unusual; alerts say how many of them it"
        " takes.",
        query(SCORE, "score"),
    )


def _channel() -> timeseries.Panel:
    bounds = {"upper": "upper", "lower": "lower", "expected": "value"}
    expected = f"max(stream_detector_device_expected{{{CHANNEL}, bound="
    panel = panels.band_graph(
        "$channel",
        "What the channel said, and the band in which it was expected from the device's own past. Where the"
        " line leaves the band, this channel takes part in the score.",
        value=query(f"max(stream_detector_device_value{{{CHANNEL}}})"),
        **{name: query(f'{expected}"{bound}"}})') for name, bound in bounds.items()},
    )
    return panel.repeat("channel").repeat_direction("v")
