"""All metrics and the values of their labels: what prometheus_client knows of them."""

from __future__ import annotations

import typing
from typing import Any

from prometheus_client import CollectorRegistry

from generating import markdown
from stream_detector.core import events
from stream_detector.outputs.metrics import PUBLISH_RESULTS, RELOAD_RESULTS, Metrics


def make() -> str:
    """Return the page of all metrics and of the values their labels can have."""
    registry = CollectorRegistry()
    Metrics(["pumps"], registry)
    rows = []
    for collector in registry._collector_to_names:  # noqa: SLF001 - the only list of all
        described: Any = collector
        for metric in described.describe():
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            known = metric if hasattr(metric, "_labelnames") else described
            labels = ", ".join(f"`{label}`" for label in known._labelnames)  # noqa: SLF001 - they stand nowhere else
            rows.append((f"`{name}`", metric.type, labels, metric.documentation))
    lists = (
        ("reason of messages_rejected, readings_rejected", events.REJECTIONS),
        ("reason of messages_ignored", events.IGNORED),
        ("reason of alerts_suppressed", events.SUPPRESSED),
        ("kind", events.KINDS),
        ("severity", events.SEVERITIES),
        ("event", typing.get_args(events.AlertEvent)),
        ("state of devices", events.STATES),
        ("result of alert_publishes", PUBLISH_RESULTS),
        ("result of model_reloads", RELOAD_RESULTS),
        ("result of commands", events.COMMAND_RESULTS),
    )
    values = [(label, ", ".join(f"`{value}`" for value in allowed)) for label, allowed in lists]
    return markdown.page(
        [
            "# Metrics",
            (
                "Served at `/metrics` in Prometheus' text form, or as OpenMetrics where the client asks for"
                " it. A device is a label only in the series that `metrics.device_series` switches on, so the"
                " page does not grow with the fleet. `stream` is empty for messages that belong to none."
            ),
            markdown.table(("metric", "type", "labels", "what it says"), sorted(rows)),
            "## What the labels can say",
            "These lists are closed, and their series start at 0.",
            markdown.table(("label", "values"), values),
        ]
    )
