"""The dashboards, without a Grafana: their JSON is reviewed, and a real Prometheus answers what they ask."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import combinations
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.brokers import Peer, wait_for
from tests.peers.prometheus import Prometheus
from tests.service.running import RunningService
from tests.service.sensor import WARMED_UP, healthy_list, payload, reading
from tests.service.test_reload import WINDOW, save_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.brokers import Mosquitto

pytestmark = pytest.mark.stack

DEPLOY = Path(__file__).parents[2] / "deploy"
GRAFANA = DEPLOY / "grafana"
PAGE = DEPLOY.parent / "docs/grafana.md"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in FILES}
NEWEST_SCHEMA = 42
"""Of Grafana 12.2; it brings older ones up to date when it reads them."""
OF_GRAFANA = {"__rate_interval", "__range", "__all", "__url_time_range", "__data", "datasource"}
"""Variables that no dashboard defines as a query."""
VARIABLE = re.compile(r"\$\{(?P<long>\w+)(?:\.[\w.]+)?(?::(?P<form>\w+))?\}|\$(?P<short>\w+)")
LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


class Query(NamedTuple):
    """What is asked somewhere in a dashboard.

    Attributes:
        where: In words.
        expr: With Grafana's variables.
        newest: Whether only the newest value is asked for.
        labels: What its series must have, as a legend, a link or a choice names it.
    """

    where: str
    expr: str
    newest: bool
    labels: set[str]


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return its panels without the headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: dict[str, Any]) -> Iterator[Query]:
    """Yield everything that a dashboard asks Prometheus."""
    for panel in panels(board):
        text = json.dumps(panel)
        linked = set(re.findall(r"\$\{__data\.fields\.(\w+)", text))
        for target in panel["targets"]:
            labels = linked | set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            yield Query(f"panel {panel['title']}", target["expr"], target["instant"], labels)
    for choice in board["templating"]["list"]:
        if choice["type"] == "query":
            found = LABEL_VALUES.fullmatch(choice["query"]["query"])
            assert found, choice
            yield Query(f"variable {choice['name']}", found["series"], newest=True, labels={found["label"]})
    for events in board["annotations"]["list"]:
        labels = set(re.findall(r"\{\{(\w+)\}\}", events["textFormat"]))
        yield Query(f"annotation {events['name']}", events["expr"], newest=False, labels=labels)


def provisioned_source() -> dict[str, Any]:
    """Return the data source that Grafana finds at its start."""
    text = (GRAFANA / "provisioning/datasources/prometheus.yml").read_text()
    (source,) = yaml.safe_load(text)["datasources"]
    return dict(source)


def of_the_page() -> Iterator[Query]:
    """Yield the queries that our page proposes for alerts."""
    for number, expr in enumerate(re.findall("```promql\n(.*?)\n```", PAGE.read_text(), re.DOTALL), 1):
        labels = {name for by in re.findall(r"by \((.*?)\)", expr) for name in by.split(", ")}
        yield Query(f"query {number} of the page", expr, newest=True, labels=labels)


def used_variables(text: str) -> set[str]:
    """Return the variables that a text has."""
    return {found["long"] or found["short"] for found in VARIABLE.finditer(text)}


def as_grafana_asks(expr: str, values: dict[str, str]) -> str:
    """Return an expression with its variables replaced in Grafana's manner."""
    times = {"__rate_interval": "1m", "__range": "10m"}

    def value(found: re.Match[str]) -> str:
        text = {**times, **values}[found["long"] or found["short"]]
        return re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", text) if found["form"] == "regex" else text

    return VARIABLE.sub(value, expr)


# -- the JSON ------------------------------------------------------------------------------------------


def test_the_files_are_what_the_code_makes() -> None:
    """And making them again changes nothing."""
    command = [sys.executable, str(GRAFANA / "build.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(BOARDS) == ["device", "fleet", "service"]


@each_board
def test_types(board: dict[str, Any]) -> None:
    """The types of the SDK read a dashboard and write the same one.

    What an annotation says is the one thing that they do not know.
    """
    register_default_plugins()
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
    for events, read in zip(board["annotations"]["list"], again["annotations"]["list"], strict=True):
        read |= {key: events[key] for key in ("titleFormat", "textFormat")}
    assert again == board


@each_board
def test_every_panel_explains_itself(board: dict[str, Any]) -> None:
    """Title, description in whole sentences, unit, legend; and nothing lies upon another panel."""
    titles = Counter(panel["title"] for panel in panels(board))
    assert titles.most_common(1)[0][1] == 1
    for panel in panels(board):
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        assert "<" not in panel["description"], "Grafana takes it for Markdown"
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert panel["type"] == "table" or all(legends), panel["title"]
        assert len(set(legends)) == len(legends)
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"], panel["title"]
            assert panel["options"]["legend"]["calcs"], panel["title"]
        if panel["type"] == "heatmap":
            assert panel["options"]["legend"]["show"], panel["title"]
    for one, other in combinations([panel["gridPos"] for panel in board["panels"]], 2):
        apart_across = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_down = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_across or apart_down, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
    numbers = [panel["id"] for panel in board["panels"]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_a_score_turns_red_at_1() -> None:
    """Wherever a score is shown; on graphs the threshold is a line, too."""
    shown = 0
    for board in BOARDS.values():
        for panel in panels(board):
            asked = panel["targets"][0]["expr"]
            if re.search(r"_score(_bucket)?\b", asked) and ">= bool" not in asked:
                steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
                assert steps == [{"color": "green", "value": None}, {"color": "red", "value": 1.0}]
                if panel["type"] == "timeseries":
                    style = panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"]
                    assert style == {"mode": "line+area"}
                shown += 1
    assert shown == 4


@each_board
def test_links_and_variables_exist(board: dict[str, Any]) -> None:
    """A link leads to a dashboard that is there and sets variables that it has; no variable is made up."""
    text = json.dumps(board)
    boards = {one["uid"]: one for one in BOARDS.values()}
    targets = re.findall(r'"/d/([\w-]+)(\?[^"]*)', text)
    assert {uid for uid, _ in targets} == boards.keys() - {board["uid"]}, "each leads to both others"
    for uid, arguments in targets:
        its = {choice["name"] for choice in boards[uid]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", arguments)) <= its
    own = {choice["name"] for choice in board["templating"]["list"]}
    assert used_variables(text) <= own | OF_GRAFANA


@each_board
def test_the_data_source_is_the_provisioned_one(board: dict[str, Any]) -> None:
    """All ask the data source that is chosen at the top, and the provisioned one is chosen at first."""

    def sources(part: Any) -> Iterator[dict[str, str]]:
        if isinstance(part, dict):
            yield from [part["datasource"]] if isinstance(part.get("datasource"), dict) else []
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else []:
            yield from sources(inner)

    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in sources(board))
    asking = [panel for panel in panels(board) if "datasource" in panel]
    assert asking == panels(board)
    source = provisioned_source()
    first = board["templating"]["list"][0]
    assert (first["type"], first["query"], first["current"]["value"]) == (
        "datasource",
        source["type"],
        source["uid"],
    )
    assert (board["refresh"], board["time"]) == ("5s", {"from": "now-30m", "to": "now"})


@each_board
def test_rates_reach_over_what_is_shown(board: dict[str, Any]) -> None:
    """A rate never looks over a fixed time, which would be too short when much is shown."""
    for query in queries(board):
        ranges = re.findall(r"\[(.*?)\]", query.expr)
        assert set(ranges) <= {"$__rate_interval", "$__range"}, query.where


def test_what_is_deployed_fits_together() -> None:
    """Compose mounts what Grafana looks for; Grafana knows the schema, and how often Prometheus scrapes."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    grafana = compose["services"]["grafana"]
    version = re.fullmatch(r"(?:docker\.io/)?grafana/grafana:(\d+)\.(\d+)\.\d+", grafana["image"])
    assert version, grafana["image"]
    assert (int(version[1]), int(version[2])) >= (12, 0), "which NEWEST_SCHEMA is of"
    assert all(36 <= board["schemaVersion"] <= NEWEST_SCHEMA for board in BOARDS.values())

    providers = yaml.safe_load((GRAFANA / "provisioning/dashboards/stream-detector.yml").read_text())
    (provider,) = providers["providers"]
    mounts = json.dumps(grafana["volumes"])
    assert provider["options"]["path"] in mounts
    assert "/etc/grafana/provisioning" in mounts

    source = provisioned_source()
    scraping = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    (job,) = (job for job in scraping["scrape_configs"] if job["job_name"] == "stream-detector")
    assert source["jsonData"]["timeInterval"] == job["scrape_interval"]
    assert source["url"].removeprefix("http://").partition(":")[0] in compose["services"]


# -- the queries ---------------------------------------------------------------------------------------

STRANGE = "pump \"A\" \\ 'b' (1.5)?"
"""A device may be called so."""


@each_board
def test_every_query_is_promql(board: dict[str, Any]) -> None:
    """It can be parsed, and asks for our metrics, or whether a target is up, alone."""
    plain = dict.fromkeys(("stream", "device", "channel", "instance"), "name")

    def look(part: promql_parser.Expr) -> None:
        if isinstance(part, promql_parser.VectorSelector):
            assert part.name == "up" or str(part.name).startswith("stream_detector_"), query.where
            asked.append(part.name)

    for query in queries(board):
        asked: list[str | None] = []
        promql_parser.walk(promql_parser.parse(as_grafana_asks(query.expr, plain)), look)
        assert asked, query.where


@pytest.mark.mosquitto
def test_every_query_has_an_answer(start_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> None:
    """A plant in which everything happens once: whatever is asked, Prometheus has a number for it.

    Alerts are raised and cleared, messages refused and ignored, numbers skipped, a model replaced, the
    connection lost. Asked is all that dashboards and our page ask, without exception, and the answers have
    the labels that legends, links and choices name.
    """
    mosquitto = start_mosquitto(persistence=True)
    streams = {
        "pumps": {"topic": "plant/{site}/{device}/telemetry"},
        "ovens": {"topic": "ovens/{site}/{device}/telemetry", "model": "pumps", "window": WINDOW},
    }
    service = RunningService(
        tmp_path / "service",
        broker={"url": mosquitto.url, "protocol": "3.1.1"},  # which brings retained messages again
        streams=streams,
        metrics={"device_series": 20},
    )
    save_model(tmp_path / "service/models")
    began = time.time()
    with service, Prometheus(tmp_path / "prometheus", scrape=[service.url]) as prometheus:
        service.wait_ready()
        everything_happens(mosquitto, service, prometheus)
        asked = [*everything_asked(service.url.removeprefix("http://"))]
        problems: list[str] = []

        def all_answered() -> bool:
            answers = [(where, no_answer(prometheus, expr, query, began)) for where, expr, query in asked]
            problems[:] = [f"{where}: {problem}" for where, problem in answers if problem]
            return not problems

        with suppress(AssertionError):
            wait_for(all_answered)
    assert not problems, "\n".join(problems)


def everything_asked(instance: str) -> Iterator[tuple[str, str, Query]]:
    """Yield all queries, each for two choices at the top: where it stands, as Grafana sends it, as it is."""
    for stream, device in ((".*", "pump 1"), ("pumps", STRANGE)):
        values = {"stream": stream, "device": device, "channel": "vibration", "instance": instance}
        for name, board in BOARDS.items():
            chosen = {**values, "stream": "pumps"} if name == "device" else values
            for query in queries(board):
                yield f"{name} of {chosen}, {query.where}", as_grafana_asks(query.expr, chosen), query
    for query in of_the_page():
        yield query.where, query.expr, query


def everything_happens(mosquitto: Mosquitto, service: RunningService, prometheus: Prometheus) -> None:
    """Let everything happen, after Prometheus has seen the beginning of it."""
    series = "stream_detector_device_score"
    with Peer(mosquitto.port) as sensor:
        pumps = [f"plant/north/{name}/telemetry" for name in ("pump 1", STRANGE)]
        for pump in pumps:
            sensor.publish(pump, healthy_list(0, WARMED_UP))
        sensor.publish("ovens/north/oven/telemetry", healthy_list(0, WARMED_UP))
        prometheus.wait_for(series, lambda found: len(found) == 3)

        for pump in pumps:
            sensor.publish(pump, payload(reading(WARMED_UP, vibration=9.7, seq=1)))
            sensor.publish(pump, payload(reading(WARMED_UP + 1, seq=5)))
            sensor.publish(pump, b"{")
        sensor.publish(pumps[0], payload(reading(WARMED_UP + 2)), retain=True)
        prometheus.wait_for(f'{series}{{stream="pumps"}} >= 1', lambda found: len(found) == 2)
        sensor.publish(pumps[0], healthy_list(WARMED_UP + 3, WARMED_UP + 22))
        service.wait_for_count("alert_events_total", 1, event="clear")
    loaded = service.count("model_reloads_total", result="loaded")
    save_model(service.folder / "models")
    service.wait_for_count("model_reloads_total", loaded + 1, result="loaded")
    mosquitto.restart()
    service.wait_for_count("mqtt_reconnects_total", 1)
    service.wait_ready()
    with Peer(mosquitto.port) as sensor:
        sensor.publish(pumps[0], healthy_list(WARMED_UP + 22, WARMED_UP + 24))
        service.wait_for_count("messages_ignored_total", 1, reason="retained")
        service.wait_for_count("messages_received_total", 13)
    prometheus.wait_for("stream_detector_mqtt_reconnects_total >= 1")


def no_answer(prometheus: Prometheus, expr: str, query: Query, began: float) -> str:
    """Return why a query, asked as `expr`, has no answer; empty if it has one."""
    if query.newest:
        found = [(labels, [value]) for labels, value in prometheus.query(expr)]
    else:
        answer = prometheus.query_range(expr, began, time.time(), 1.0)
        found = [(labels, [value for _, value in pairs]) for labels, pairs in answer]
    if not any(isfinite(value) for _, numbers in found for value in numbers):
        return f"no number: {expr}, only {found}"
    without = [labels for labels, _ in found if not query.labels <= labels.keys()]
    return f"not all have {query.labels}: {without}" if without else ""
