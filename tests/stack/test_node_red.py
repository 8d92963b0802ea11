"""The flow for Node-RED, in a real Node-RED: each event once, sorted, told, acknowledged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.mqtt.broker import EmbeddedBroker
from tests.brokers import Peer, wait_for
from tests.peers.nodered import DEPLOY, PROGRAM
from tests.stack.machine import NAME, STREAM, STREAMS, Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.brokers import Mosquitto
    from tests.peers.nodered import NodeRed
    from tests.service.running import RunningService

pytestmark = pytest.mark.stack

FLOWS = DEPLOY / "flows.json"
AS_IT_COMES = PROGRAM.with_name("settings.js")
ALERT_TOPIC = f"stream_detector/alert/{STREAM}/{NAME}"
KINDS = {
    "unusual": {"point", "pattern", "drift", "class"},
    "out of range": {"range"},
    "sensor trouble": {"stuck", "silence", "data_quality"},
}


def alert(number: int = 1, seq: int = 1, **fields: Any) -> dict[str, Any]:
    """Return an alert event by hand, as far as the flow looks at it."""
    return {
        "schema": "stream_detector.alert/1",
        "id": f"{number:024x}",
        "seq": seq,
        "event": "raise",
        "kind": "point",
        "stream": STREAM,
        "device": NAME,
        "severity": "critical",
        "score": 2.43,
        "peak_score": 2.43,
        "started_at": "2026-01-01T00:00:00.000000Z",
        "ended_at": None,
        "reason": 'value 12 is below its expected 40 & more <"quoted">',
        "acknowledged": False,
        **fields,
    }


def say(peer: Peer, *alerts: dict[str, Any]) -> None:
    """Publish alert events as the service does."""
    for event in alerts:
        peer.publish(ALERT_TOPIC, json.dumps(event))


def taken(node_red: NodeRed, name: str = "every event") -> list[tuple[str, int]]:
    """Return id and seq of the events that a node has dealt with."""
    return [(message["payload"]["id"], message["payload"]["seq"]) for message in node_red.seen(name)]


def wait_until_taken(node_red: NodeRed, last: dict[str, Any]) -> None:
    """Return once the flow has dealt with this event, and so with all that were published before it."""
    node_red.wait_for("every event", lambda message: message["payload"] == last)


def test_a_recorded_fault_reaches_the_flow_once_though_it_is_delivered_twice(
    mosquitto: Mosquitto,
    start_node_red: Callable[..., NodeRed],
    start_service: Callable[..., RunningService],
) -> None:
    """What the service raises is noticed once; the same event again is a repetition, a newer one is not."""
    node_red = start_node_red(mosquitto.port)
    service = start_service(mosquitto.port, streams=STREAMS)
    node_red.wait_for_status("service", "online")
    with Peer(mosquitto.port) as peer:
        machine = Machine(peer, service)
        machine.run_until_the_fault()
        assert node_red.seen("every event") == []
        machine.run_until(lambda: service.count("alert_events_total", event="raise"), "an alert is raised")

        raised = node_red.wait_for("every event")["payload"]
        assert (raised["event"], raised["kind"], raised["severity"]) == ("raise", "point", "critical")
        assert node_red.wait_for("notification")["topic"] == f"critical: {STREAM}/{NAME} point alert raised"
        assert raised["reason"] in node_red.seen("notification")[0]["payload"]
        node_red.wait_for_status("devices", "1 alerting")

        worse = {**raised, "seq": 2, "event": "update"}
        say(peer, raised, worse, raised)
        wait_until_taken(node_red, worse)
        wait_for(lambda: len(taken(node_red, "repetition")) == 2, what="the repetitions are told apart")
    assert taken(node_red) == [(raised["id"], 1), (raised["id"], 2)]
    assert len(node_red.seen("notification")) == 2


def test_sorted_by_severity_and_kind(mosquitto: Mosquitto, start_node_red: Callable[..., NodeRed]) -> None:
    """Each severity and each kind has its way; only what is critical is told to a person."""
    node_red = start_node_red(mosquitto.port)
    alerts = [
        alert(10 * number + critical, kind=kind, severity="critical" if critical else "warning")
        for number, kind in enumerate(sorted(set().union(*KINDS.values())))
        for critical in (False, True)
    ]
    with Peer(mosquitto.port) as peer:
        peer.publish(ALERT_TOPIC, "no JSON")
        peer.publish(ALERT_TOPIC, '{"schema": "of somebody else"}')
        say(peer, *alerts)
    wait_until_taken(node_red, alerts[-1])

    def came(name: str, field: str) -> set[str]:
        return {message["payload"][field] for message in node_red.seen(name)}

    wait_for(lambda: len(node_red.seen("notification")) == 8, what="the notifications")
    assert {name: came(name, "kind") for name in KINDS} == KINDS
    assert (came("critical", "severity"), came("warning", "severity")) == ({"critical"}, {"warning"})
    assert [len(node_red.seen(name)) for name in ("critical", "warning", "every event")] == [8, 8, 16]
    assert {message["alert"]["severity"] for message in node_red.seen("notification")} == {"critical"}


def test_a_notification_can_be_read(mosquitto: Mosquitto, start_node_red: Callable[..., NodeRed]) -> None:
    """Subject and text say what a person wants to know, with the sentence as it is."""
    node_red = start_node_red(mosquitto.port)
    raised = alert()
    over = alert(seq=2, event="clear", score=0.0, ended_at="2026-01-01T00:05:00.000000Z")
    with Peer(mosquitto.port) as peer:
        say(peer, raised, over)
    wait_for(lambda: len(node_red.seen("notification")) == 2, what="both notifications")
    first, second = node_red.seen("notification")
    assert (first["topic"], second["topic"]) == (
        f"critical: {STREAM}/{NAME} point alert raised",
        f"critical: {STREAM}/{NAME} point alert is over",
    )
    assert first["payload"].splitlines() == [
        "critical: roads/speed_7578 point alert raised",
        "",
        'value 12 is below its expected 40 & more <"quoted">',
        "",
        "score 2.43, peak 2.43 (1.0 is the threshold)",
        "began 2026-01-01T00:00:00.000000Z",
        "id    000000000000000000000001",
    ]
    assert "ended 2026-01-01T00:05:00.000000Z" in second["payload"].splitlines()


def test_acknowledged_from_the_flow(
    mosquitto: Mosquitto,
    start_node_red: Callable[..., NodeRed],
    start_service: Callable[..., RunningService],
) -> None:
    """The button gives an `ack` event and an answer; feedback is answered; then nothing is left to do."""
    node_red = start_node_red(mosquitto.port)
    service = start_service(mosquitto.port, streams=STREAMS)
    with Peer(mosquitto.port) as peer:
        machine = Machine(peer, service)
        machine.run_until_the_fault()
        machine.run_until(lambda: node_red.seen("every event"), "an alert is raised")
    raised = node_red.seen("every event")[0]["payload"]

    node_red.press("acknowledge")
    done = node_red.wait_for("done")
    assert done["request"] == {"command": "ack", "id": raised["id"]}
    assert done["payload"]["result"]["acknowledged_by"] == "operator"
    node_red.wait_for_status("reply", "ack: done")
    acknowledged = node_red.wait_for("every event", lambda message: message["payload"]["event"] == "ack")
    assert (acknowledged["payload"]["id"], acknowledged["payload"]["seq"]) == (raised["id"], 2)
    assert "operator" in acknowledged["payload"]["reason"]
    assert "is being watched" in acknowledged["payload"]["reason"]

    node_red.press("acknowledge")
    node_red.wait_for_status("command", "no alert for ack")

    node_red.press("it was a false alert")
    verdict = node_red.wait_for("done", lambda message: message["request"]["command"] == "feedback")
    assert verdict["payload"]["result"] == {"id": raised["id"], "verdict": "false_alert"}
    assert node_red.seen("refused") == node_red.seen("no answer") == []


def test_a_refused_acknowledgement_is_shown(
    mosquitto: Mosquitto,
    start_node_red: Callable[..., NodeRed],
    start_service: Callable[..., RunningService],
) -> None:
    """An alert that the service does not know: its error is shown. What others ask is not ours."""
    node_red = start_node_red(mosquitto.port)
    start_service(mosquitto.port, streams=STREAMS)
    stranger = alert(0xABC)
    with Peer(mosquitto.port) as peer:
        peer.subscribe("stream_detector/reply/#")
        peer.publish("stream_detector/cmd/ack", json.dumps({"transaction": "other", "id": stranger["id"]}))
        peer.wait_for(lambda messages: messages)
        say(peer, stranger)
        wait_until_taken(node_red, stranger)
        node_red.press("acknowledge")
        refused = node_red.wait_for("refused")
    assert refused["payload"]["error"]["code"] == "not_found"
    assert stranger["id"] in refused["payload"]["error"]["message"]
    node_red.wait_for_status("reply", "ack: not_found")
    assert len(node_red.seen("refused")) == 1
    assert node_red.seen("done") == []


def test_a_command_that_nobody_answers_is_told(
    mosquitto: Mosquitto, start_node_red: Callable[..., NodeRed]
) -> None:
    """Where no service runs, or the login may not send commands, the flow says so; no other reply is ours."""
    node_red = start_node_red(mosquitto.port)
    with Peer(mosquitto.port) as peer:
        peer.subscribe("stream_detector/cmd/#")
        say(peer, alert())
        wait_until_taken(node_red, alert())
        node_red.press("acknowledge")
        peer.wait_for(lambda messages: messages)
        peer.publish("stream_detector/reply/ack", json.dumps({"transaction": "of somebody else", "ok": True}))
    told = node_red.wait_for("no answer")
    assert told["request"] == {"command": "ack", "id": alert()["id"]}
    node_red.wait_for_status("command", "no answer to ack")
    assert len(node_red.seen("reply")) == 1
    assert node_red.seen("done") == []


def test_the_automatic_acknowledgement_once_switched_on(
    mosquitto: Mosquitto, start_node_red: Callable[..., NodeRed]
) -> None:
    """It is off in the flow; enabled, it acknowledges warnings that are raised, and nothing else."""
    node_red = start_node_red(mosquitto.port)
    flows = json.loads(FLOWS.read_text())
    example = next(node for node in flows if node.get("name") == "automatic acknowledgement")
    assert example.pop("d") is True
    node_red.deploy(flows)
    with Peer(mosquitto.port) as peer:
        peer.subscribe("stream_detector/cmd/#")
        say(peer, alert(1), alert(2, severity="warning"), alert(2, 2, severity="warning", event="clear"))
        (command,) = peer.wait_for(lambda messages: messages)
        wait_until_taken(node_red, alert(2, 2, severity="warning", event="clear"))
        assert len(peer.messages) == 1
    assert command.topic == "stream_detector/cmd/ack"
    content = json.loads(command.payload)
    assert content.pop("transaction").startswith("node-red-")
    assert content == {"id": alert(2)["id"], "by": "node-red", "comment": "warnings only go on record"}


def test_the_book_of_alerts_is_bounded(mosquitto: Mosquitto, start_node_red: Callable[..., NodeRed]) -> None:
    """A thousand alerts are remembered; the one that was silent longest is forgotten first."""
    node_red = start_node_red(mosquitto.port)
    with Peer(mosquitto.port) as peer:
        say(peer, *(alert(number) for number in range(1, 1001)), alert(1, 2), alert(1001))
        say(peer, alert(1, 2), alert(1001), alert(2))  # of these, only 2 is forgotten
        say(peer, last := alert(2000))
        wait_until_taken(node_red, last)
    numbers = [int(identity, 16) for identity, _ in taken(node_red)]
    assert numbers == [*range(1, 1001), 1, 1001, 2, 2000]


def test_a_restart_of_node_red_misses_nothing_and_repeats_nothing(
    mosquitto: Mosquitto, start_node_red: Callable[..., NodeRed]
) -> None:
    """What is published meanwhile waits at the broker; what was seen before is still a repetition."""
    node_red = start_node_red(mosquitto.port)
    with Peer(mosquitto.port) as peer:
        say(peer, alert(1))
        wait_until_taken(node_red, alert(1))
        node_red.stop()
        say(peer, alert(1), alert(1, 2), alert(2))
        node_red.start()
        wait_until_taken(node_red, alert(2))
    assert taken(node_red) == [(alert(1)["id"], 1), (alert(1)["id"], 2), (alert(2)["id"], 1)]
    assert taken(node_red, "repetition") == [(alert(1)["id"], 1)]


def test_it_works_at_the_broker_inside(start_node_red: Callable[..., NodeRed]) -> None:
    """In a Node-RED as it comes, told by variables, and with MQTT 3.1.1, as `make demo` speaks it."""
    with EmbeddedBroker() as broker:
        node_red = start_node_red(
            broker.port, env={"MQTT_USER": "", "MQTT_PASSWORD": ""}, settings=AS_IT_COMES
        )
        with Peer(broker.port, mqtt5=False) as peer:
            peer.publish("stream_detector/status", "online", retain=True)
            node_red.wait_for_status("service", "online")
            say(peer, alert())
            wait_until_taken(node_red, alert())


def test_a_fresh_volume_gets_the_flow_and_keeps_what_its_user_makes_of_it(
    start_mosquitto: Callable[..., Mosquitto],
    start_node_red: Callable[..., NodeRed],
    tmp_path: Path,
) -> None:
    """With the settings of deploy/: the flow is there, its login comes from a file, the editor has a lock."""
    secrets = {"MQTT_PASSWORD": "of the broker", "NODE_RED_PASSWORD": "of the editor"}
    for name, secret in secrets.items():
        (tmp_path / name).write_text(f"{secret}\n")
    files = {f"{name}_FILE": str(tmp_path / name) for name in secrets}
    mosquitto = start_mosquitto(passwords={"node-red": "of the broker"})
    node_red = start_node_red(mosquitto.port, env={"MQTT_USER": "node-red", **files}, flows=None)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        node_red.flows()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        node_red.login("another")
    node_red.login("of the editor")
    brought = node_red.flows()
    shipped = json.loads(FLOWS.read_text())
    for node in shipped:
        node.pop("credentials", None)
    assert brought == shipped
    assert not any(
        secret in path.read_text(errors="replace")
        for path in node_red.folder.rglob("*")
        if path.is_file()
        for secret in secrets.values()
    )

    node_red.deploy([{**node, "label": "mine"} if node["type"] == "tab" else node for node in brought])
    node_red.restart()
    node_red.login("of the editor")
    assert [node["label"] for node in node_red.flows() if node["type"] == "tab"] == ["mine"]


def test_the_page_about_it_names_what_is_there() -> None:
    """Every node that docs/node-red.md prints in bold stands in the flow, and every button is explained."""
    page = (DEPLOY.parents[1] / "docs" / "node-red.md").read_text()
    explained = set(re.findall(r"\*\*(.+?)\*\*", page))
    flows = json.loads(FLOWS.read_text())
    assert explained <= {node.get("name") for node in flows}
    assert explained >= {node["name"] for node in flows if node["type"] in {"inject", "link in"}} - {
        "critical alerts"  # the other end of a link that is explained
    }


def test_the_flow_is_built_and_needs_no_palette(
    mosquitto: Mosquitto, start_node_red: Callable[..., NodeRed]
) -> None:
    """flows.json is what build.py makes; every node is one of Node-RED's own, in a frame, led to by name."""
    subprocess.run([sys.executable, DEPLOY / "build.py", "--check"], check=True)
    flows = json.loads(FLOWS.read_text())
    ids = {node["id"] for node in flows}
    named = [node["name"] for node in flows if "name" in node]
    assert len(ids) == len(flows)
    assert len(set(named)) == len(named)
    for node in flows:
        led_to = {one for wires in node.get("wires", []) for one in wires} | set(node.get("links", []))
        assert led_to <= ids, node["name"]
    framed = {member for node in flows if node["type"] == "group" for member in node["nodes"]}
    assert framed == {node["id"] for node in flows if "g" in node}

    node_red = start_node_red(mosquitto.port)
    installed = json.loads(node_red.ask("/nodes"))
    core = {kind for module in installed if module["module"] == "node-red" for kind in module["types"]}
    assert {node["type"] for node in flows} <= core | {"tab", "group"}
