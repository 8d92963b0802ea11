"""Make flows.json, the flow that people import into Node-RED, from the functions beside this file.

A flow is one JSON file in which code stands as escaped strings between coordinates. Here the code is in
functions/, where it can be read, and the rest is below: what each node is, what it leads to, and in which
row and column it stands. `build.py --check` says whether flows.json is what this makes.
"""

# ruff: noqa: INP001, T201 - a script that says what is wrong

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
FLOWS = FOLDER / "flows.json"

GRID = 20
"""Pixels between two rows of the canvas; a node is a row and a half high, with its status two."""
LEFT, TOP = 40, 120
"""Of the first group."""
COLUMNS = (80, 340, 600, 900)
"""Where the nodes of a column begin."""
WIDTH = 1120
"""Of a group; the editor fits it to its nodes as soon as one is moved."""

Entry = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """A node on the canvas.

    Attributes:
        kind: Its type.
        name: Shown on it; no two are the same.
        column: Where it stands.
        row: Likewise, in steps of the grid from the top of its group.
        to: For each of its outputs the names of the nodes it leads to.
        properties: What else belongs to its type.
    """

    kind: str
    name: str
    column: int
    row: int
    to: tuple[tuple[str, ...], ...] = ()
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Nodes with a frame around them, and what the frame is called."""

    label: str
    colour: str
    nodes: tuple[Node, ...]


def identity(name: str) -> str:
    """Return a node's id: 16 hexadecimal digits, the same in every build."""
    return hashlib.sha256(f"stream_detector {name}".encode()).hexdigest()[:16]


TAB, BROKER = identity("the tab"), identity("the broker")


# -- kinds of nodes ------------------------------------------------------------------------------------


def comment(text: str, info: str, row: int = 0) -> Node:
    """Return a remark; `info` is read in the help sidebar."""
    return Node("comment", text, 0, row, properties={"info": info})


def listen(name: str, topic: str, row: int, to: str, datatype: str = "json") -> Node:
    """Return a subscription at QoS 1; retained messages come at every connect."""
    properties = {
        "topic": f"stream_detector/{topic}",
        "qos": "1",
        "datatype": datatype,
        "broker": BROKER,
        "nl": False,
        "rap": True,
        "rh": 0,
        "inputs": 0,
    }
    return Node("mqtt in", name, 0, row, ((to,),), properties)


def function(
    name: str, file: str, column: int, row: int, to: tuple[tuple[str, ...], ...], **more: object
) -> Node:
    """Return a function node with the code of functions/`file`."""
    properties = {
        "func": (FOLDER / "functions" / file).read_text(encoding="utf-8").rstrip("\n"),
        "outputs": len(to),
        "timeout": 0,
        "noerr": 0,
        "initialize": "",
        "finalize": "",
        "libs": [],
        **more,
    }
    return Node("function", name, column, row, to, properties)


def switch(
    name: str, about: str, rules: list[Entry], column: int, row: int, to: tuple[tuple[str, ...], ...]
) -> Node:
    """Return a switch over a field of the event; each rule has an output of its own."""
    properties = {
        "property": f"payload.{about}",
        "propertyType": "msg",
        "rules": rules,
        "checkall": "true",
        "repair": False,
        "outputs": len(rules),
    }
    return Node("switch", name, column, row, to, properties)


def button(name: str, command: str, payload: dict[str, str], row: int, to: str) -> Node:
    """Return a button that starts a command."""
    properties = {
        "props": [
            {"p": "command", "v": command, "vt": "str"},
            {"p": "payload", "v": json.dumps(payload), "vt": "json"},
        ],
        "repeat": "",
        "crontab": "",
        "once": False,
        "onceDelay": 0.1,
        "topic": "",
    }
    return Node("inject", name, 0, row, ((to,),), properties)


def debug(name: str, column: int, row: int, *, active: bool = True) -> Node:
    """Return a node that shows its message in the debug sidebar."""
    properties = {
        "active": active,
        "tosidebar": True,
        "console": False,
        "tostatus": False,
        "complete": "payload",
        "targetType": "msg",
        "statusVal": "",
        "statusType": "auto",
    }
    return Node("debug", name, column, row, properties=properties)


def link(kind: str, name: str, column: int, row: int, other: str, *to: str) -> Node:
    """Return one end of a wire that is not drawn: ``link out`` leads to ``link in``."""
    properties: dict[str, Any] = {"links": [identity(other)] if other else []}
    if kind == "link out":
        properties["mode"] = "link"
    return Node(kind, name, column, row, (to,) if to else (), properties)


def equal(value: str) -> Entry:
    """Return a rule of a switch."""
    return {"t": "eq", "v": value, "vt": "str"}


def matches(expression: str) -> Entry:
    """Return a rule of a switch."""
    return {"t": "regex", "v": expression, "vt": "str", "case": False}


# -- the flow ------------------------------------------------------------------------------------------

ABOUT = """Alerts of stream_detector: each once, sorted, as a text for a person; acknowledged from here.

Where the broker is stands in the node `stream_detector broker` (open any purple node, then the pencil
beside its server). `${MQTT_HOST}`, `${MQTT_PORT}`, `${MQTT_USER}`, `${MQTT_PASSWORD}` are environment
variables of Node-RED; write values over them where you have none.

`topics.base` of the service is taken to be `stream_detector`."""

ONCE = """The broker delivers at least once. An event carries the `id` of its alert and a `seq` that grows
with each event of that alert: `raise`, `update`, `ack`, `clear`. What is not newer than the last one
seen is a repetition and goes no further."""

SORT = """The first switch sorts by severity, the second by what has been noticed: by the model (`point`,
`pattern`, `drift`, `class`), a limit (`range`), or trouble with the sensor itself (`stuck`, `silence`,
`data_quality`). Wire the outputs to what you like. Only `critical` leads on to the notification."""

NOTIFY = """What comes here is ready to be sent: `msg.topic` is a subject, `msg.payload` a text, `msg.alert`
the event. Wire the link `to mail, Telegram ...` to a node from the palette:

- node-red-node-email takes it as it is.
- node-red-contrib-telegrambot wants `msg.payload = {chatId, type: "message", content: msg.payload}`.
- An `http request` node (POST) sends it to any web hook."""

COMMANDS = """The buttons are about the newest alert. To acknowledge another one, send a message into the link
`acknowledge by id` with `msg.payload = {id, by, comment}`, for instance from a dashboard or a chat.

`automatic acknowledgement` is an example and switched off: enable it at the foot of its dialog."""

REPLIES = """The service answers every command. The answer is told from those to other programs by its
`transaction`. The node `command` notes when none has come within 10 s."""

SERVICE = """Both are retained, so they are here as soon as Node-RED is connected."""

GROUPS = (
    Group(
        "Alerts: each event once, then sorted",
        "#ffcf3f",
        (
            comment("repetitions go no further", ONCE),
            Node("comment", "sorted by severity, and by kind", 2, 0, properties={"info": SORT}),
            listen("alerts", "alert/#", 2, "each event once"),
            function(
                "each event once",
                "each_event_once.js",
                1,
                2,
                (("every event", "by severity", "by kind", "automatic acknowledgement"), ("repetition",)),
            ),
            debug("repetition", 1, 5, active=False),
            debug("every event", 2, 2),
            switch(
                "by severity",
                "severity",
                [equal("critical"), equal("warning")],
                2,
                4,
                (("critical", "to the notification"), ("warning",)),
            ),
            link("link out", "to the notification", 3, 2, "critical alerts"),
            debug("critical", 3, 4, active=False),
            debug("warning", 3, 6, active=False),
            switch(
                "by kind",
                "kind",
                [
                    matches("^(point|pattern|drift|class)$"),
                    equal("range"),
                    matches("^(stuck|silence|data_quality)$"),
                ],
                2,
                10,
                (("unusual",), ("out of range",), ("sensor trouble",)),
            ),
            debug("unusual", 3, 8, active=False),
            debug("out of range", 3, 10, active=False),
            debug("sensor trouble", 3, 12, active=False),
            function("automatic acknowledgement", "automatic.js", 2, 14, (("to acknowledge",),)),
            link("link out", "to acknowledge", 3, 14, "acknowledge by id"),
        ),
    ),
    Group(
        "Notification: a text for a person",
        "#a4c9f0",
        (
            comment("connect mail, Telegram ... here", NOTIFY),
            link("link in", "critical alerts", 0, 2, "to the notification", "subject"),
            function("subject", "subject.js", 1, 2, (("text",),)),
            Node(
                "template",
                "text",
                2,
                2,
                (("notification", "to mail, Telegram ..."),),
                {
                    "field": "payload",
                    "fieldType": "msg",
                    "format": "handlebars",
                    "syntax": "mustache",
                    "output": "str",
                    "template": (FOLDER / "functions" / "text.mustache").read_text(encoding="utf-8"),
                },
            ),
            debug("notification", 3, 2),
            link("link out", "to mail, Telegram ...", 3, 4, ""),
        ),
    ),
    Group(
        "Commands: acknowledge, tell whether it was right",
        "#b5e0a8",
        (
            comment("about the newest alert", COMMANDS),
            button("acknowledge", "ack", {"by": "operator", "comment": "is being watched"}, 2, "command"),
            button(
                "it was a true alert", "feedback", {"verdict": "true_alert", "by": "operator"}, 4, "command"
            ),
            button(
                "it was a false alert", "feedback", {"verdict": "false_alert", "by": "operator"}, 6, "command"
            ),
            link("link in", "acknowledge by id", 0, 8, "to acknowledge", "as ack"),
            Node(
                "change",
                "as ack",
                1,
                8,
                (("command",),),
                {"rules": [{"t": "set", "p": "command", "pt": "msg", "to": "ack", "tot": "str"}]},
            ),
            function("command", "command.js", 2, 4, (("send",), ("no answer",))),
            Node(
                "mqtt out",
                "send",
                3,
                2,
                properties={
                    "topic": "",
                    "qos": "1",
                    "retain": "false",
                    "respTopic": "",
                    "contentType": "",
                    "userProps": "",
                    "correl": "",
                    "expiry": "",
                    "broker": BROKER,
                },
            ),
            debug("no answer", 3, 5),
        ),
    ),
    Group(
        "Replies of the service",
        "#d9c3ea",
        (
            comment("told apart by transaction", REPLIES),
            listen("replies", "reply/#", 2, "reply"),
            function("reply", "reply.js", 1, 2, (("done",), ("refused",))),
            debug("done", 2, 2),
            debug("refused", 2, 4),
        ),
    ),
    Group(
        "The service and its devices",
        "#dddddd",
        (
            comment("as it is now", SERVICE),
            listen("status", "status", 2, "service", "utf8"),
            function("service", "service.js", 1, 2, (("service is",),)),
            debug("service is", 2, 2),
            listen("states", "state/#", 5, "devices", "utf8"),
            function("devices", "devices.js", 1, 5, (("device changes",),)),
            debug("device changes", 2, 5, active=False),
        ),
    ),
)

SWITCHED_OFF = {"automatic acknowledgement"}


# -- JSON ----------------------------------------------------------------------------------------------


def build() -> str:
    """Return flows.json."""
    head = [
        {
            "id": TAB,
            "type": "tab",
            "label": "stream_detector",
            "disabled": False,
            "info": ABOUT,
            "env": [],
        },
        _broker(),
        _on_canvas(comment("stream_detector: read me first", ABOUT), COLUMNS[0], TOP - 60),
    ]
    body: list[Entry] = []
    top = TOP
    for group in GROUPS:
        frame = identity(group.label)
        nodes = [
            {**_on_canvas(node, COLUMNS[node.column], top + (2 + node.row) * GRID), "g": frame}
            for node in group.nodes
        ]
        height = (4 + max(node.row for node in group.nodes)) * GRID
        body.append(_frame(group, [node["id"] for node in nodes], top, height))
        body += nodes
        top += height + 2 * GRID
    return json.dumps([*head, *body], indent=4, ensure_ascii=False) + "\n"


def _width(text: str) -> int:
    """Return about how wide the editor draws a node: letters of Helvetica, an icon, up to the next step."""
    letters = sum(4.5 if letter in "filrt ,.:" else 12 if letter in "mwM" else 8.5 for letter in text)
    return int(max(100, GRID * math.ceil((letters + 55) / GRID)))


def _on_canvas(node: Node, left: int, y: int) -> Entry:
    """Return a node as JSON. Its x is its middle."""
    entry = {
        "id": identity(node.name),
        "type": node.kind,
        "z": TAB,
        "name": node.name,
        **node.properties,
        "x": left + _width(node.name) // 2,
        "y": y,
        "wires": [[identity(name) for name in names] for names in node.to],
    }
    if node.kind.startswith("link"):
        entry["l"] = True  # with its label
    if node.name in SWITCHED_OFF:
        entry["d"] = True
    return entry


def _frame(group: Group, members: list[str], top: int, height: int) -> Entry:
    return {
        "id": identity(group.label),
        "type": "group",
        "z": TAB,
        "name": group.label,
        "style": {"label": True, "fill": group.colour, "fill-opacity": "0.2", "color": "#333333"},
        "nodes": members,
        "x": LEFT,
        "y": top,
        "w": WIDTH,
        "h": height,
    }


def _broker() -> Entry:
    """Return the connection. MQTT 3.1.1, which every broker speaks; its session waits for Node-RED."""
    return {
        "id": BROKER,
        "type": "mqtt-broker",
        "name": "stream_detector broker",
        "broker": "${MQTT_HOST}",
        "port": "${MQTT_PORT}",
        "clientid": "node-red-stream-detector",
        "autoConnect": True,
        "usetls": False,
        "protocolVersion": "4",
        "keepalive": "60",
        "cleansession": False,
        "autoUnsubscribe": False,
        "birthTopic": "",
        "birthQos": "0",
        "birthRetain": "false",
        "birthPayload": "",
        "birthMsg": {},
        "closeTopic": "",
        "closeQos": "0",
        "closeRetain": "false",
        "closePayload": "",
        "closeMsg": {},
        "willTopic": "",
        "willQos": "0",
        "willRetain": "false",
        "willPayload": "",
        "willMsg": {},
        "userProps": "",
        "sessionExpiry": "",
        "credentials": {"user": "${MQTT_USER}", "password": "${MQTT_PASSWORD}"},
    }


def main(arguments: list[str]) -> int:
    """Write flows.json, or compare it; return the exit code."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    text = build()
    if not arguments:
        FLOWS.write_text(text, encoding="utf-8")
        return 0
    if FLOWS.exists() and FLOWS.read_text(encoding="utf-8") == text:
        return 0
    print(
        "deploy/node-red/flows.json is not what build.py makes; run python deploy/node-red/build.py",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
