"""A real Node-RED without a screen: imports a flow, presses its buttons, sees what each node has done.

The flow under test stays as it is. Beside it, on its tab, stand a few nodes of ours: `complete` and
`status` nodes hear of every message that a node has dealt with and of every status that it shows, and
an address of HTTP hands out what they heard.
"""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.brokers import PATIENCE_S, free_port, wait_for
from tests.peers.program import Program, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "node-red"
PROGRAM = ROOT / ".venv" / "peers" / "node_modules" / "node-red" / "red.js"
NOT_WATCHED = {"tab", "group", "comment", "mqtt-broker", "global-config"}

Node = dict[str, Any]


class NodeRed(Program):
    """A Node-RED of our own, on the loopback, with the settings of deploy/node-red.

    Args:
        folder: Its user directory, fresh or from an earlier life; its log is there, too.
        flows: What to import at the first start: a file as the editor exports it. None: what is there.
        env: Variables: `MQTT_HOST`, `MQTT_PORT`, `MQTT_USER`, `MQTT_PASSWORD` say where the broker is.
        settings: Another settings.js.
    """

    def __init__(
        self,
        folder: Path,
        flows: Path | None = DEPLOY / "flows.json",
        env: Mapping[str, str] | None = None,
        settings: Path = DEPLOY / "settings.js",
    ) -> None:
        node = shutil.which("node")
        if node is None or not PROGRAM.exists():
            missing("Node-RED is not installed (Debian: apt install nodejs npm; then make stack installs it)")
        port = free_port()
        command = [
            *(str(node), str(PROGRAM), "--userDir", str(folder)),
            *("--settings", str(settings), "--port", str(port)),
        ]
        environment = {"NODE_RED_USER_DIR": str(folder), **(env or {})}
        super().__init__(folder, command, environment=environment, port=port)
        self._to_import = flows
        self._token = ""

    @property
    def url(self) -> str:
        """Where its editor is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start, import the flow if it is the first time, and return once its broker has let it in."""
        begins = len(self.log()) if (self.folder / "log").exists() else 0
        super().start()
        self._wait_for_log("Started flows", begins)
        if self._to_import is None:
            self._wait_connected(begins)
        else:
            self.deploy(json.loads(self._to_import.read_text()))
            self._to_import = None
        return self

    def deploy(self, nodes: list[Node]) -> None:
        """Import flows in place of all others, watch the first tab, and return once it is connected."""
        begins = len(self.log())
        self.ask("/flows", [*nodes, *_watchers(nodes)])
        self._wait_connected(begins)

    def flows(self) -> list[Node]:
        """Return what is deployed."""
        found: list[Node] = json.loads(self.ask("/flows"))
        return found

    def node(self, name: str) -> Node:
        """Return the node of this name."""
        found = [node for node in self.flows() if node.get("name") == name]
        assert len(found) == 1, f"{len(found)} nodes are called {name!r}"
        return found[0]

    def press(self, name: str) -> None:
        """Press the button of an inject node."""
        self.ask(f"/inject/{self.node(name)['id']}", {})

    def seen(self, name: str) -> list[dict[str, Any]]:
        """Return the messages that the node of this name has dealt with, in order."""
        return [entry["message"] for entry in self._watched("messages") if entry["name"] == name]

    def status(self, name: str) -> str:
        """Return the text that the node of this name shows now."""
        texts = [entry["text"] for entry in self._watched("statuses") if entry["name"] == name]
        return texts[-1] if texts else ""

    def wait_for(
        self,
        name: str,
        predicate: Callable[[dict[str, Any]], object] = lambda _: True,
        what: str = "",
        timeout_s: float = PATIENCE_S,
    ) -> dict[str, Any]:
        """Return the first message that a node has dealt with and for which `predicate` holds."""
        found: list[dict[str, Any]] = []

        def comes() -> bool:
            found[:] = [message for message in self.seen(name) if predicate(message)]
            return bool(found)

        try:
            wait_for(comes, timeout_s, what or f"a message in the node {name!r}")
        except AssertionError as error:
            raise AssertionError(
                f"{error}; the node {name!r} has seen {self.seen(name)[-5:]}\n{self.log()[-2000:]}"
            ) from None
        return found[0]

    def wait_for_status(self, name: str, part: str) -> None:
        """Return once the node of this name shows a text with this in it."""
        try:
            wait_for(lambda: part in self.status(name), what=f"the node {name!r} shows {part!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows {self.status(name)!r}\n{self.log()[-2000:]}") from None

    def login(self, password: str) -> None:
        """Log in to an editor that asks for it."""
        answer = self.ask(
            "/auth/token",
            {
                "client_id": "node-red-admin",
                "grant_type": "password",
                "scope": "*",
                "username": "admin",
                "password": password,
            },
        )
        self._token = json.loads(answer)["access_token"]

    def ask(self, path: str, content: object = None) -> bytes:
        """Return the answer to a GET, or to a POST where there is content; an HTTP error is raised."""
        request = urllib.request.Request(self.url + path, headers={"Accept": "application/json"})  # noqa: S310 - http only
        if content is not None:
            request.data = json.dumps(content).encode()
            request.add_header("Content-Type", "application/json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - http only
            return bytes(answer.read())

    def _wait_connected(self, begins: int) -> None:
        """Return once it has subscribed: in one turn with the line, so before it answers anybody."""
        self._wait_for_log("Connected to broker", begins)
        self.ask("/")

    def _wait_for_log(self, line: str, begins: int) -> None:
        try:
            wait_for(lambda: line in self.log()[begins:], what=f"Node-RED logs {line!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[begins:]}") from None

    def _watched(self, what: str) -> list[dict[str, Any]]:
        """Return what the watching nodes heard; nothing while a flow is being replaced."""
        with suppress(urllib.error.HTTPError):
            return json.loads(self.ask("/watched")).get(what) or []
        return []


def _watchers(nodes: list[Node]) -> list[Node]:
    """Return nodes that note what the nodes of the first tab do, and tell it at /watched."""
    tab = next(node["id"] for node in nodes if node["type"] == "tab")
    scope = [node["id"] for node in nodes if node.get("z") == tab and node["type"] not in NOT_WATCHED]
    tell = "return {...msg, payload: {messages: global.get('messages'), statuses: global.get('statuses')}};"

    def node(name: str, kind: str, wires: list[str], **properties: Any) -> Node:
        place = {"id": f"watch-{name}", "name": f"watch-{name}", "z": tab, "x": 100, "y": 2000}
        return {**place, "type": kind, "wires": [[f"watch-{to}" for to in wires]], **properties}

    return [
        node("complete", "complete", ["messages"], scope=scope),
        node("messages", "function", [], func=_note("messages", "message: msg", "complete"), outputs=0),
        node("status", "status", ["statuses"], scope=scope),
        node("statuses", "function", [], func=_note("statuses", "text", "status"), outputs=0),
        node("asked", "http in", ["tell"], url="/watched", method="get", upload=False),
        node("tell", "function", ["answer"], func=tell, outputs=1),
        node("answer", "http response", []),
    ]


def _note(what: str, entry: str, about: str) -> str:
    """Return the code of a function that keeps what it hears: the name of its source, and `entry`."""
    return f"""
        const {{{about}: {{source, text = ""}}}} = msg;
        const seen = global.get("{what}") || [];
        delete msg.{about};
        seen.push({{name: source.name, {entry}}});
        global.set("{what}", seen);
    """
