"""The pages tell the truth: what they show loads, parses and exists, and what can be said is explained."""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import shlex
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag

import msgspec
import numpy as np
import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry

from stream_detector.cli import app
from stream_detector.core.records import NO_SEQ
from stream_detector.errors import ConfigurationError, StateError
from stream_detector.formats.intake import Intake
from stream_detector.mqtt import sentences as broker_sentences
from stream_detector.mqtt.settings import BrokerSettings
from stream_detector.outputs.messages import timestamp
from stream_detector.outputs.metrics import Metrics
from stream_detector.settings import ENV_PREFIX, Settings, validate
from stream_detector.storage.store import Store
from tests.formats.decoding import NOW, Room
from tests.pages import DOCS, PAGES, ROOT, Block, anchors, blocks, words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream_detector.core.records import Readings

ABOUT_THE_CODE = {"architecture.md", "decisions.md", "roadmap.md", "CHANGELOG.md"}
"""Pages that name modules, and what is not there yet."""
PAGES_OF_USE = [page for page in PAGES if page.name not in ABOUT_THE_CODE]
EXAMPLES = [DOCS / "payload.md", DOCS / "sensors.md"]


def named(found: Iterator[Block]) -> list[Any]:
    """Return blocks as parameters of a test."""
    return [pytest.param(block, id=str(block)) for block in found]


# -- configuration, payloads ------------------------------------------------------------------------


def is_configuration(content: object) -> bool:
    """Return whether YAML is meant for the service: pages also show what is meant for others."""
    return isinstance(content, dict) and bool(set(content) & set(Settings.model_fields))


@pytest.mark.parametrize("block", named(blocks(language="yaml")))
def test_every_configuration_loads(block: Block) -> None:
    """A configuration that a page shows is one that the service takes; a part of one, with a stream."""
    for content in yaml.safe_load_all(block.text):
        if is_configuration(content):
            validate({"streams": {"any": {"topic": "any/{device}"}}, **content}, where=str(block))


@pytest.mark.parametrize("block", named(blocks(language="json")))
def test_every_json_block_is_json(block: Block) -> None:
    """JSON that a page shows can be read."""
    msgspec.json.decode(block.text)


def examples() -> Iterator[tuple[Block, Block, Block]]:
    """Yield configuration, message and what comes out of it, as the pages show them."""
    for page in EXAMPLES:
        configuration = None
        found = list(blocks(page))
        for place, block in enumerate(found):
            if block.language == "yaml":
                configuration = block
            elif block.title:
                assert configuration is not None, block
                yield configuration, block, found[place + 1]


@pytest.mark.parametrize(
    ("configuration", "message", "shown"), [pytest.param(*each, id=str(each[1])) for each in examples()]
)
def test_every_example_gives_what_the_page_shows(configuration: Block, message: Block, shown: Block) -> None:
    """A message under its topic gives the readings, and the refusals, that stand below it."""
    streams = validate(yaml.safe_load(configuration.text), where=str(configuration)).streams
    intake = Intake(streams, base="stream_detector", admission=Room())
    taken = intake.take([message.title.encode()], [message.text.strip().encode()], [0], NOW)
    lines = [line for readings in taken.readings for line in shown_readings(readings)]
    lines += [f"refused ({refused.reason}): {refused.message}" for refused in taken.rejected]
    assert lines == shown.text.splitlines()


def shown_readings(readings: Readings) -> Iterator[str]:
    """Yield a line for each reading, as the pages write it."""
    offsets = readings.offsets()
    for i, device in enumerate(readings.devices):
        names = readings.columns[readings.shapes[i]]
        values = zip(names, readings.values[offsets[i] : offsets[i + 1]].tolist(), strict=True)
        parts = [", ".join(f"{name} {x:.10g}" for name, x in values if not np.isnan(x))]
        parts += [f"{name} {value}" for name, value in readings.tags.get(device, {}).items()]
        if readings.ts[i] != readings.arrival[i] + readings.index[i]:
            parts.append(f"at {timestamp(int(readings.ts[i]))}")
        if readings.seq[i] != NO_SEQ:
            parts.append(f"number {readings.seq[i]}")
        yield f"{readings.stream}/{device}  {'; '.join(parts)}"


# -- commands ---------------------------------------------------------------------------------------


def typed() -> Iterator[tuple[str, list[str]]]:
    """Yield every `stream-detector …` of the pages: what stands in blocks, and in backticks."""
    known = set(COMMANDS.commands)
    for page in PAGES_OF_USE:
        texts = [block.text for block in blocks(page) if block.language in {"sh", "bash", "text", "console"}]
        lines = [line for text in texts for line in text.replace("\\\n", " ").splitlines()]
        for line in [*lines, *words(page)]:
            found = re.match(r"(?:\S+/)?stream-detector +([a-z-]+\b.*)", line.strip())
            if found and (found[1].startswith("-") or found[1].split()[0] in known):
                yield f"{page.name}: {line.strip()}", words_of(found[1])


def words_of(line: str) -> list[str]:
    """Return what a shell would hand to a command, without what follows it."""
    line = re.split(r" {2,}|[|;&>#]", line)[0]
    return shlex.split(line)


COMMANDS: Any = typer.main.get_command(app)
TYPED = list(typed())


@pytest.mark.parametrize(("where", "arguments"), [pytest.param(*each, id=each[0]) for each in TYPED])
def test_every_command_parses(where: str, arguments: list[str]) -> None:
    """What a page tells to type is a command, with options that it has; in the prose, arguments may miss."""
    command = COMMANDS.commands[arguments[0]]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    strange = [word for word in arguments[1:] if word.startswith("-") and word.split("=")[0] not in options]
    assert not set(strange) - {"--help"}, where
    if "`" not in where and len(arguments) > 1:
        try:
            command.make_context(arguments[0], arguments[1:])
        except Exception as error:
            if type(error).__name__ not in {"MissingParameter", "Exit"}:
                raise


def test_the_pages_show_commands() -> None:
    """The reader of the test's sentences reads some at all."""
    assert {arguments[0] for _, arguments in TYPED} >= {"run", "check", "replay", "backup", "simulate"}


def test_make_targets_in_the_pages_exist() -> None:
    """Every `make` that a page tells to type has a target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE))
    for page in PAGES:
        lines = [line for block in blocks(page, language="sh") for line in block.text.splitlines()]
        meant = r"make ([a-z]+)(?: [A-Z]+=.*)?"
        told = {found[1] for line in [*lines, *words(page)] if (found := re.fullmatch(meant, line))}
        assert told <= targets, page.name


# -- names ------------------------------------------------------------------------------------------


def metric_names() -> set[str]:
    """Return every name that a series of the service can have."""
    registry = CollectorRegistry()
    Metrics(["pumps"], registry)
    families = [metric for collector in registry._collector_to_names for metric in collector.describe()]
    endings = {"counter": ("_total",), "histogram": ("", "_bucket", "_count", "_sum")}
    return {
        name + ending
        for name, kind in ((one.name, one.type) for one in families)
        for ending in endings.get(kind, ("",))
    }


@pytest.mark.parametrize("page", PAGES_OF_USE, ids=lambda page: page.name)
def test_every_metric_exists(page: Path) -> None:
    """A metric that a page names is one that the service has, with labels that it has."""
    text = page.read_text(encoding="utf-8")
    found = set(re.findall(r"(?<![\w:.])stream_detector_[a-z_]+(?![a-z_.:])", text))
    assert found - metric_names() <= {"stream_detector_"}


def topic_kinds() -> set[str]:
    """Return the first level below the base of every topic that the service writes or reads."""
    reference = (DOCS / "reference/alerts.md").read_text(encoding="utf-8")
    return {*re.findall(r"`stream_detector/(\w+)", reference), "cmd", "reply", "canary", "incident"}


@pytest.mark.parametrize("page", PAGES_OF_USE, ids=lambda page: page.name)
def test_every_topic_exists(page: Path) -> None:
    """A topic of the service that a page names is one that it writes or reads."""
    text = "\n".join([*words(page), *(block.text for block in blocks(page))])
    found = set(re.findall(r"(?<![\w/.-])stream_detector/([A-Za-z_]+)", text))
    assert found <= topic_kinds()


def is_key(path: list[str]) -> bool:
    """Return whether a dotted path leads to a setting; names of streams and channels may be any."""
    found = [SCHEMA]
    for step in path:
        found = [below for schema in found for below in _below(schema, step)]
    return bool(found)


def _below(schema: dict[str, Any], step: str) -> Iterator[dict[str, Any]]:
    """Yield what a JSON schema allows under a key."""
    if "$ref" in schema:
        yield from _below(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], step)
    for one in schema.get("anyOf", ()):
        yield from _below(one, step)
    if step in schema.get("properties", {}):
        yield schema["properties"][step]
    elif isinstance(schema.get("additionalProperties"), dict):
        yield schema["additionalProperties"]


SCHEMA = Settings.model_json_schema()
IN_A_STREAM = SCHEMA["$defs"]["StreamSettings"]["properties"]
FILES = ("csv", "db", "example", "js", "json", "jsonl", "md", "py", "service", "yaml", "yml")


@pytest.mark.parametrize("page", PAGES_OF_USE, ids=lambda page: page.name)
def test_every_setting_exists(page: Path) -> None:
    """A dotted key, of the whole or of a stream, and a variable of the environment are settings."""
    for word in words(page):
        found = re.fullmatch(r"([a-z_]+(?:\.(?:[a-z_]+|<\w+>|…))+)(?::.*)?", word)
        path = found[1].split(".") if found else [""]
        if path[-1] in FILES:
            continue
        if path[0] in SCHEMA["properties"]:
            assert is_key(path), word
        elif path[0] in IN_A_STREAM:
            assert is_key(["streams", "any", *path]), word
    for variable in re.findall(rf"{ENV_PREFIX}([A-Z_]+)", page.read_text(encoding="utf-8")):
        assert is_key(variable.lower().split("__")), variable


# -- what the program says --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentences() -> tuple[Any, ...]:
    """Return all sentences that are found in the code, as docs/reference/messages.md lists them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        found: tuple[Any, ...] = importlib.import_module("generating.messages").collect()
    return found


def test_every_reason_is_explained(sentences: tuple[Any, ...]) -> None:
    """Each reason of /readyz and each refusal of state_dir is found in Troubleshooting by its words."""
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8").replace("`", "")
    told = [sentence.text for sentence in sentences if sentence.kind in {"not ready", "state"}]
    assert len(told) > 25
    for text in told:
        own = [phrase for phrase in phrases(text) if sum(phrase in other for other in told) <= ALIKE]
        longest = max(text.split("…"), key=len).strip(" (:")
        assert any(phrase in page for phrase in own or [longest]), text


MEANINGFUL = 16
"""Letters by which one can find a sentence."""
ALIKE = 2
"""So many sentences may be found by the same words: those that mean the same."""


def phrases(text: str) -> Iterator[str]:
    """Yield what a page may quote of a sentence: some words in a row that never change."""
    for part in text.split("…"):
        words = part.split()
        for start, end in itertools.combinations(range(len(words) + 1), 2):
            phrase = " ".join(words[start:end]).strip(".,;:()' ")
            if len(phrase) >= MEANINGFUL:
                yield phrase


def said() -> Iterator[str]:
    """Yield sentences that the program really says."""
    values = {
        "Address": BrokerSettings(url="mqtt://broker.example").address,
        "Exception": OSError(111, "Connection refused"),
        "Exception | None": None,
        "bool": True,
        "float": 30.0,
        "int": 0x87,
        "str": "plant/#",
    }
    for _, function in inspect.getmembers(broker_sentences, inspect.isfunction):
        if function is not broker_sentences.words:
            wanted = inspect.signature(function).parameters.values()
            needed = {one.name: values[str(one.annotation)] for one in wanted if one.default is one.empty}
            yield function(**needed)
    for content in (
        {},
        {"streams": {"a": {"topic": "a/{device}", "windw": 3}}},
        {"streams": {"a": {"topic": "a/{device}"}, "b": {"topic": "a/+"}}},
        {"streams": {"a": {"topic": "stream_detector/{device}"}}},
        {"streams": {"a b": {"topic": "a/{device}"}}},
        {"streams": {"a": {"topic": "a/x{device}"}}},
        {"streams": {"a": {"topic": "a/#", "format": "scalar"}}},
        {"streams": {"a": {"topic": "a/{device}"}}, "http": {"listen": "0.0.0.0:1"}},
        {"streams": {"a": {"topic": "a/{device}"}}, "broker": {"url": "http://broker"}},
        {"streams": {"a": {"topic": "a/{device}"}}, "broker": {"password": "x"}},
    ):
        with pytest.raises(ConfigurationError) as refused:
            validate(content, where="config.yaml")
        yield str(refused.value)


def state_refusals(folder: Path) -> Iterator[str]:
    """Yield how a state_dir is refused that is damaged, is in use, or comes from the future."""
    (folder / "state.db").write_bytes(b"no database")
    for _ in range(2):
        with pytest.raises(StateError) as refused:
            Store(folder)
        yield str(refused.value)
    store = Store(folder, allow_empty=True)
    with pytest.raises(StateError) as refused:
        Store(folder)
    yield str(refused.value)
    store.close()
    with sqlite3.connect(folder / "state.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StateError) as refused:
        Store(folder)
    yield str(refused.value)


def test_what_is_said_stands_on_the_page(sentences: tuple[Any, ...], tmp_path: Path) -> None:
    """A sentence that somebody really gets is among those that the page lists."""
    for text in [*said(), *state_refusals(tmp_path)]:
        if "field required" not in text.lower() and "Input should be" not in text:
            assert any(sentence.pattern.search(text) for sentence in sentences), text


def test_each_rule_of_prometheus_has_its_place_in_troubleshooting() -> None:
    """The `runbook` of an alerting rule leads to a heading that is there."""
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules/alerts.yml").read_text(encoding="utf-8"))
    named = [rule["annotations"]["runbook"] for group in rules["groups"] for rule in group["rules"]]
    assert len(named) > 10
    for runbook in named:
        page, anchor = urldefrag(runbook)
        assert anchor in anchors(ROOT / page), runbook
