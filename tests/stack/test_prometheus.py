"""Prometheus itself: reads /metrics, evaluates the rules of deploy/, and tells of faults."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.brokers import Peer, wait_for
from tests.peers.prometheus import Prometheus, check_metrics, promtool
from tests.service.sensor import WARMED_UP, healthy_list, payload, reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.brokers import Mosquitto
    from tests.service.running import RunningService

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = FOLDER / "rules"
OF_PROMETHEUS = {"up": {"job", "instance"}}
SEVERITIES = {"critical", "warning", "info"}


def rules(name: str) -> list[dict[str, Any]]:
    """Return the rules of a file."""
    content = yaml.safe_load((RULES / name).read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}
RECORDS = {rule["record"]: rule for rule in rules("recording.yml")}

each_alert = pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)


def parts(expr: str) -> list[Any]:
    """Return all parts of an expression."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expr), found.append)
    return found


# -- the files -----------------------------------------------------------------------------------------


def test_promtool_has_no_objection() -> None:
    """Configuration and rules are valid, and each rule does in its own tests what it is there for."""
    promtool("check", "config", FOLDER / "prometheus.yml")
    promtool("check", "rules", "--lint-fatal", RULES / "recording.yml", RULES / "alerts.yml")
    promtool("test", "rules", RULES / "tests.yml")


@each_alert
def test_an_alert_helps_whoever_it_wakes(alert: dict[str, Any]) -> None:
    """It says how bad it is, what happened, where, and what to do; and it names a place that says more."""
    assert alert["labels"]["severity"] in SEVERITIES
    assert "for" in alert
    said = alert["annotations"]
    assert said.keys() == {"summary", "description", "runbook"}
    assert "$labels." in said["summary"], "where"
    assert said["description"].endswith(".")
    assert 100 < len(said["description"]) < 400
    assert re.fullmatch(r"docs/troubleshooting\.md#[a-z-]+", said["runbook"])


@each_alert
def test_an_alert_is_tested_at_work_and_at_rest(alert: dict[str, Any]) -> None:
    """The rule tests hold a moment in which it fires, and one in which it does not."""
    cases = [
        bool(case["exp_samples"])
        for test in yaml.safe_load((RULES / "tests.yml").read_text())["tests"]
        for case in test["promql_expr_test"]
        if f'"{alert["alert"]}"' in case["expr"]
    ]
    assert set(cases) == {True, False}


def test_the_page_lists_the_alerts() -> None:
    """All of them, in the order of the file, with their severity and how long they wait."""
    page = (ROOT / "docs" / "prometheus.md").read_text()
    listed = re.findall(r"^\| `(StreamDetector\w+)` \| (\w+) \| (\w+) \|", page, re.MULTILINE)
    assert listed == [(name, alert["labels"]["severity"], alert["for"]) for name, alert in ALERTS.items()]


# -- a Prometheus that reads a service -----------------------------------------------------------------


def ask(service: RunningService, accept: str) -> tuple[str, str]:
    """Return content type and text of /metrics for somebody who accepts this."""
    request = urllib.request.Request(f"{service.url}/metrics", headers={"Accept": accept})  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - http only
        return answer.headers["content-type"], answer.read().decode()


def let_things_happen(port: int, service: RunningService) -> None:
    """Two pumps warm up, one breaks; a message is no reading; a third pump comes that has no series."""
    with Peer(port) as sensor:
        sensor.publish("plant/north/p1/telemetry", healthy_list(0, WARMED_UP))
        sensor.publish('plant/north/p "2"/telemetry', healthy_list(0, WARMED_UP))
        sensor.publish("plant/north/p3/telemetry", payload(reading(0, seq=1)))
        sensor.publish("plant/north/p3/telemetry", payload(reading(1, seq=5)))
        sensor.publish("plant/north/p1/telemetry", b"{")
        sensor.publish("plant/north/p1/telemetry", payload(reading(WARMED_UP, vibration=9.7)))
    service.wait_for_count("alerts_active", 1, severity="critical")


def made_quick(folder: Path) -> list[Path]:
    """Return the rules with alerts that do not wait, evaluated as often as a test likes."""
    folder.mkdir()
    for name in ("recording.yml", "alerts.yml"):
        content = yaml.safe_load((RULES / name).read_text())
        for group in content["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    rule["for"] = "0s"
        (folder / name).write_text(yaml.safe_dump(content))
    return sorted(folder.iterdir())


def always_firing(path: Path) -> Path:
    """Write the alerts as rules that fire at once, so that Prometheus fills in what they say."""
    labels = {"instance": "here:8808", "stream": "pumps", "model": "m", "result": "refused"}
    expr = "vector(0.25)"
    for label, value in labels.items():
        expr = f'label_replace({expr}, "{label}", "{value}", "", "")'
    found = [{**rule, "alert": f"Said{name}", "expr": expr, "for": "0s"} for name, rule in ALERTS.items()]
    path.write_text(yaml.safe_dump({"groups": [{"name": "said", "rules": found}]}))
    return path


def firing(name: str, **labels: str) -> str:
    """Return the expression that asks whether an alert fires."""
    wanted = "".join(f', {label}="{value}"' for label, value in labels.items())
    return f'ALERTS{{alertname="{name}", alertstate="firing"{wanted}}}'


@pytest.fixture
def service(mosquitto: Mosquitto, start_service: Callable[..., RunningService]) -> RunningService:
    """Return a service to which things have happened, with series of two devices."""
    service = start_service(mosquitto.port, metrics={"device_series": 2})
    let_things_happen(mosquitto.port, service)
    return service


@pytest.mark.mosquitto
def test_the_page(service: RunningService) -> None:
    """In both formats it is as Prometheus wants it; devices that have series are named, others are not."""
    content_type, page = ask(service, "text/plain")
    assert content_type.startswith("text/plain; version=")
    check_metrics(page)
    content_type, openmetrics = ask(service, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    names = {
        sample.labels["device"]
        for family in parse_openmetrics(openmetrics)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if "device" in sample.labels
    }
    assert names == {"p1", 'p "2"'}


@pytest.mark.mosquitto
def test_rules_name_only_what_is_there(service: RunningService) -> None:
    """Each metric, label and value of a label in a rule is one that the service exports."""
    known: dict[str, dict[str, set[str]]] = {
        name: {label: set() for label in labels} for name, labels in OF_PROMETHEUS.items()
    }
    for name, labels in service.samples():
        series = known.setdefault(f"stream_detector_{name}", {"job": set(), "instance": set()})
        for label, value in labels:
            series.setdefault(label, set()).add(value)
    closed = {"event", "kind", "severity", "state", "reason", "result"}
    for name, rule in {**RECORDS, **ALERTS}.items():
        inside = parts(rule["expr"])
        selectors = [
            (str(part.name), part.matchers.matchers)
            for part in inside
            if isinstance(part, promql_parser.VectorSelector)
        ]
        metrics = {metric for metric, _ in selectors}
        assert metrics <= known.keys() | RECORDS.keys(), name
        for metric, matchers in selectors:
            for matcher in matchers:
                assert matcher.name in known[metric], (name, matcher.name)
                if matcher.name in closed:
                    assert matcher.value in known[metric][matcher.name], (name, matcher.value)
        grouped = {
            label
            for part in inside
            if isinstance(part, promql_parser.AggregateExpr) and part.modifier
            for label in part.modifier.labels
        }
        have = {label for metric in metrics & known.keys() for label in known[metric]}
        assert grouped <= have, name


@pytest.mark.mosquitto
def test_faults_are_told(mosquitto: Mosquitto, service: RunningService, tmp_path: Path) -> None:
    """Prometheus reads the service, computes, and tells: a pump breaks, the broker goes, the service ends."""
    said = always_firing(tmp_path / "said.yml")
    files = [*made_quick(tmp_path / "rules"), said]
    with Prometheus(tmp_path / "prometheus", scrape=[service.url], rules=files) as prometheus:
        prometheus.wait_for('up{job="stream-detector"} == 1')
        (target,) = prometheus.targets()
        assert (target["health"], target["lastError"]) == ("up", "")
        samples = prometheus.wait_for("scrape_samples_scraped")[0][1]
        assert samples == len(service.samples()) > 200

        prometheus.wait_for(firing("StreamDetectorCriticalAlerts", stream="pumps", severity="critical"))
        prometheus.wait_for('stream_detector_device_score{stream="pumps", device="p1"} >= 1')
        assert prometheus.query(firing("StreamDetectorBrokerLost")) == []
        with Peer(mosquitto.port) as sensor:  # a rate needs two looks, with something between them
            sensor.publish('plant/north/p "2"/telemetry', healthy_list(WARMED_UP, WARMED_UP + 20))
            sensor.publish("plant/north/p3/telemetry", payload(reading(2, seq=9)))
            sensor.publish("plant/north/p1/telemetry", b"{")
            sensor.publish('plant/north/p "2"/telemetry', payload(reading(WARMED_UP + 20, vibration=99.0)))
        for record in RECORDS:
            positive = " > 0" if "silent" not in record and "replay" not in record else ""
            prometheus.wait_for(record + positive)

        mosquitto.stop()
        prometheus.wait_for(firing("StreamDetectorBrokerLost"))
        service.stop()
        prometheus.wait_for(firing("StreamDetectorDown"))

        def told() -> dict[str, dict[str, str]]:
            alerts = prometheus.get("alerts")["alerts"]
            return {alert["labels"]["alertname"]: alert["annotations"] for alert in alerts}

        wait_for(lambda: told().keys() >= {f"Said{name}" for name in ALERTS}, what="all alerts fire")
        filled_in = json.dumps(told())
        assert "<error" not in filled_in
        assert "{{" not in filled_in
        assert "<no value>" not in filled_in
