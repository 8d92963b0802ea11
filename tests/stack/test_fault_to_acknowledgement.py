"""The scenario of the stack: a recorded fault, through every program that the plant runs.

    machine ─► Mosquitto ─► service ─► Mosquitto ─► Node-RED ─► "acknowledged" ─► Mosquitto ─► service
                               └──► Prometheus

With the logins, the rights, the flow and the rules of deploy/. Each station says where the scenario broke.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.brokers import Peer, wait_for
from tests.peers.prometheus import Prometheus
from tests.stack.machine import NAME, STREAM, STREAMS, Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.brokers import Mosquitto
    from tests.peers.nodered import NodeRed
    from tests.service.running import RunningService

pytestmark = pytest.mark.stack

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = [DEPLOY / "prometheus" / "rules" / name for name in ("recording.yml", "alerts.yml")]
PASSWORDS = {name: f"secret of {name}" for name in ("detector", "node-red", NAME)}
OPEN = f'sum(stream_detector_alerts_active{{stream="{STREAM}", severity="critical"}})'
EVENTS = f'sum by (event) (stream_detector_alert_events_total{{stream="{STREAM}"}})'
RULE = "StreamDetectorCriticalAlerts"


@contextmanager
def station(what: str) -> Iterator[None]:
    """Say where the scenario broke, should it break here."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"the scenario broke where {what}: {error}") from error


def events(node_red: NodeRed) -> list[tuple[str, int]]:
    """Return what Node-RED has taken for news: event and seq."""
    return [
        (message["payload"]["event"], message["payload"]["seq"]) for message in node_red.seen("every event")
    ]


def wait_until_prometheus_says(prometheus: Prometheus, value: float, *, fires: bool) -> None:
    """Return once so many alerts are open, and the rule about them fires or does not."""
    prometheus.wait_for(OPEN, lambda samples: [sample for _, sample in samples] == [value])
    wait_for(
        lambda: (RULE in {labels["alertname"] for labels in prometheus.firing()}) == fires,
        what=f"{RULE} {'fires' if fires else 'is quiet'}; there fire: {prometheus.firing()}",
    )


def test_a_fault_is_seen_everywhere_acknowledged_and_over(
    start_mosquitto: Callable[..., Mosquitto],
    start_service: Callable[..., RunningService],
    start_node_red: Callable[..., NodeRed],
    tmp_path: Path,
) -> None:
    """Fault → alert in Node-RED and Prometheus → acknowledged from Node-RED → over, in both."""
    mosquitto = start_mosquitto(passwords=PASSWORDS, acl=(DEPLOY / "mosquitto" / "acl").read_text())

    def login(name: str) -> dict[str, Any]:
        return {"username": name, "password": PASSWORDS[name]}

    with ExitStack() as stack:
        with station("everything starts"):
            service = start_service(mosquitto.port, broker=login("detector"), streams=STREAMS)
            prometheus = stack.enter_context(Prometheus(tmp_path / "prometheus", [service.url], RULES))
            env = {"MQTT_USER": "node-red", "MQTT_PASSWORD": PASSWORDS["node-red"]}
            node_red = start_node_red(mosquitto.port, env=env)
            machine = Machine(stack.enter_context(Peer(mosquitto.port, **login(NAME))), service)

        with station("all is well, and everybody says so"):
            machine.run_until_the_fault()
            node_red.wait_for_status("service", "online")
            node_red.wait_for_status("devices", "1 ok")
            wait_until_prometheus_says(prometheus, 0, fires=False)
            assert events(node_red) == []

        with station("the fault becomes an alert in Node-RED"):
            machine.run_until(
                lambda: service.count("alert_events_total", event="raise"), "an alert is raised"
            )
            raised = node_red.wait_for("critical")["payload"]
            assert (raised["device"], raised["kind"], raised["event"]) == (NAME, "point", "raise")
            assert raised["reason"] in node_red.wait_for("notification")["payload"]
            node_red.wait_for_status("each event once", "1 open")
            node_red.wait_for_status("devices", "1 alerting")

        with station("the fault becomes an alert in Prometheus"):
            wait_until_prometheus_says(prometheus, 1, fires=True)

        with station("Node-RED acknowledges, and the service answers"):
            node_red.press("acknowledge")
            done = node_red.wait_for("done")
            assert done["payload"]["result"] == {
                "id": raised["id"],
                "seq": 2,
                "stream": STREAM,
                "device": NAME,
                "acknowledged_by": "operator",
            }

        with station("the acknowledgement comes back as an event; the alert stays open"):
            ack = node_red.wait_for("critical", lambda message: message["payload"]["event"] == "ack")
            assert (ack["payload"]["id"], ack["payload"]["seq"]) == (raised["id"], 2)
            prometheus.wait_for(EVENTS, lambda samples: ({"event": "ack"}, 1.0) in samples)
            wait_until_prometheus_says(prometheus, 1, fires=True)

        with station("the fault is over in Node-RED"):
            machine.run_until(lambda: service.count("alert_events_total", event="clear"), "it is cleared")
            clear = node_red.wait_for("critical", lambda message: message["payload"]["event"] == "clear")
            assert clear["payload"]["id"] == raised["id"]
            assert clear["payload"]["ended_at"] > raised["started_at"]
            node_red.wait_for_status("each event once", "0 open")
            node_red.wait_for_status("devices", "1 ok")

        with station("the fault is over in Prometheus"):
            wait_until_prometheus_says(prometheus, 0, fires=False)

        with station("one looks back: each event was told once"):
            seqs = [seq for _, seq in events(node_red)]
            assert seqs == list(range(1, len(seqs) + 1)), events(node_red)
            assert [what for what, _ in events(node_red) if what != "update"] == ["raise", "ack", "clear"]
            assert node_red.seen("repetition") == node_red.seen("refused") == node_red.seen("no answer") == []
