"""The configuration: the file in the repository is complete, and each mistake gets one good sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import BaseModel

from stream_detector.errors import ConfigurationError
from stream_detector.formats.settings import ChannelSettings, MapSettings
from stream_detector.settings import ENV_PREFIX, Settings, StreamSettings, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PLANTED = "hunter2-planted"
GOOD = "streams: {pumps: {topic: 'plant/{device}'}}\n"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own variables away."""
    import os  # noqa: PLC0415 - only here

    for name in list(os.environ):
        if name.startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a configuration, load it and return the sentence that refuses it."""
    monkeypatch.chdir(tmp_path)

    def refused(text: str) -> str:
        Path("c.yaml").write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            load(Path("c.yaml"))
        sentence = str(caught.value)
        assert "\n" not in sentence
        assert PLANTED not in sentence
        assert PLANTED not in repr(caught.value)
        error = caught.value
        assert error.__suppress_context__ or error.__context__ is None, "pydantic's holds what came"
        return sentence

    return refused


def keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return the path of every key; the one stream of config.yaml stands for all."""
    for name, field in model.model_fields.items():
        yield (*path, name)
        annotation = field.annotation
        if (*path, name) == ("streams",):
            yield from keys(StreamSettings, (*path, name, "pumps"))
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from keys(annotation, (*path, name))


def at(content: Any, path: tuple[str, ...]) -> Any:
    """Return what stands at a path."""
    for step in path:
        assert step in content, f"config.yaml does not name {'.'.join(path)}"
        content = content[step]
    return content


def test_the_file_names_every_key() -> None:
    """Who reads config.yaml has seen all that can be set."""
    content = yaml.safe_load((ROOT / "config.yaml").read_text())
    for path in keys(Settings):
        at(content, path)
    text = (ROOT / "config.yaml").read_text()
    for name in (*MapSettings.model_fields, *ChannelSettings.model_fields):
        assert f"{name}: " in text, "a comment shows it"


def test_the_file_is_the_defaults() -> None:
    """It loads as it is, and means what an almost empty one means."""
    topic = yaml.safe_load((ROOT / "config.yaml").read_text())["streams"]["pumps"]["topic"]
    assert load(ROOT / "config.yaml") == Settings(streams={"pumps": StreamSettings(topic=topic)})


def test_every_key_is_described() -> None:
    """The reference is made from the descriptions."""
    for path in keys(Settings):
        model: Any = Settings
        for step in path[:-1]:
            model = StreamSettings if step == "pumps" else model.model_fields[step].annotation
            model = Settings if model == Settings.model_fields["streams"].annotation else model
        assert model.model_fields[path[-1]].description, path


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("brokr: {}", "line 2: brokr: there is no such key; legal are broker, topics, streams, http, "),
        (
            "broker: {usr: x}",
            "line 2: broker.usr: there is no such key; legal are url, protocol, client_id, ",
        ),
        ("topics: {bsae: x}", "line 2: topics.bsae: there is no such key; legal are base"),
        ("http: {port: 1}", "line 2: http.port: there is no such key; legal are listen, token, token_file"),
    ],
)
def test_an_unknown_key(mistake: Callable[[str], str], text: str, sentence: str) -> None:
    """The sentence names file, line and key path, and lists what is legal there."""
    assert mistake(GOOD + text).startswith(f"c.yaml, {sentence}")


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        ("wndow: 8", "streams.pumps.wndow: there is no such key; legal are topic, device, format, "),
        ("alerts: {rise: 1}", "streams.pumps.alerts.rise: there is no such key; legal are raise_after, "),
        (
            "channels: {v: {mn: 0}}",
            "streams.pumps.channels.v.mn: there is no such key; legal are unit, min, max",
        ),
        ("map: {value: x, values: v}", "streams.pumps.map.value: there is no such key; legal are device, "),
        ("window: many", "streams.pumps.window: Input should be a valid integer"),
        ("window: 1", "streams.pumps.window: Input should be greater than or equal to 2, not 1"),
        ("qos: 2", "streams.pumps.qos: Input should be 0 or 1, not 2"),
        ("format: xml", "streams.pumps.format: Input should be 'json' or 'scalar', not 'xml'"),
        ("lateness_s: -1", "streams.pumps.lateness_s: Input should be greater than or equal to 0, not -1"),
        ("model: ../x", "streams.pumps.model: String should match pattern"),
        ("silence: perhaps", "streams.pumps.silence: Input should be a valid boolean"),
        ("alerts: {raise_after: [5, 3]}", "streams.pumps.alerts.raise_after: [N, M] needs 1 <= N <= M"),
        (
            "alerts: {raise_after: 3}",
            "streams.pumps.alerts.raise_after: Input should be a valid tuple, not 3",
        ),
        ("alerts: {critical_from: 0.5}", "streams.pumps.alerts.critical_from: Input should be greater"),
        ("channels: {v: {min: 2, max: 1}}", "streams.pumps.channels.v: min (2) must be below max (1)"),
        ("channels: {v: {min: .nan}}", "streams.pumps.channels.v.min: Input should be a finite number"),
        ('channels: {"a\\n": {}}', "it contains a control character (U+000A)"),
        ("device: '{site}'", "device uses {site}, which topic 'plant/{device}' does not capture"),
        ("device: fixed", "device must name at least one capture"),
        ("format: scalar, coerce: true", "map and coerce are for format json"),
        ("labels: [one]", "streams.pumps.labels"),
    ],
)
def test_a_mistake_in_a_stream(mistake: Callable[[str], str], stream: str, sentence: str) -> None:
    """File, line, key path, what came, what is legal."""
    found = mistake(f"streams:\n  pumps:\n    {{topic: 'plant/{{device}}', {stream}}}\n")
    assert found.startswith("c.yaml, line "), found
    assert sentence in found


@pytest.mark.parametrize("topic", ["", "$SYS/#", "a/#/b", "a/x{device}", "a/b+", "{a}/{a}", "a/{b"])
def test_a_topic_that_is_no_pattern(mistake: Callable[[str], str], topic: str) -> None:
    """The sentence names the stream's key."""
    assert "streams.pumps.topic: " in mistake(f"streams: {{pumps: {{topic: {topic!r}}}}}")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a/{device}", "a/{device}"),
        ("a/{device}", "{site}/b"),
        ("#", "x"),
        ("a/#", "a"),
        ("a/+/c", "a/b/{d}"),
    ],
)
def test_topics_that_overlap(mistake: Callable[[str], str], one: str, other: str) -> None:
    """Both streams and both patterns are named."""
    text = yaml.safe_dump(
        {"streams": {"x": {"topic": one, "device": "{device}"}, "y": {"topic": other, "device": "{device}"}}}
    )
    found = mistake(text)
    assert f"the topics of x ({one}) and y ({other}) can overlap" in found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("broker: {url: 'http://x'}", "broker.url: broker.url must begin with one of embedded://, mqtt://, "),
        (f"broker: {{url: 'mqtt://me:{PLANTED}@x'}}", "use broker.username and broker.password_file"),
        (f"broker: {{password: {PLANTED}}}", "broker.password needs broker.username"),
        (
            f"broker: {{username: u, password: {PLANTED}, password_file: p}}",
            "broker.password and broker.password_file are both set",
        ),
        (
            f"broker: {{username: u, password: [{PLANTED}]}}",
            "broker.password: Input should be a valid string",
        ),
        (f"broker: {{usrname: u, password: {PLANTED}}}", "broker.usrname: there is no such key"),
        ("broker: {protocol: 4}", "broker.protocol: Input should be 'auto', '5' or '3.1.1', not 4"),
        ("broker: {ca_file: x}", "need TLS"),
        ("broker: [1]", "broker: Input should be"),
        (f"http: {{token: [{PLANTED}]}}", "http.token: Input should be a valid string"),
        (f"http: {{token: {PLANTED}, token_file: x}}", "token and token_file are both set"),
        ("http: {listen: '0.0.0.0:80'}", "listening on 0.0.0.0 needs token_file (or token)"),
        ("http: {listen: '[::]:80'}", "listening on :: needs token_file"),
        ("http: {listen: 'localhost:80'}", "the address must be numeric"),
        ("http: {listen: '127.0.0.1'}", "must be address:port, such as 127.0.0.1:8808"),
        ("http: {listen: '127.0.0.1:99999'}", "must be address:port, such as 127.0.0.1:8808"),
        ("topics: {base: 'a/#'}", "topics.base: String should match pattern"),
        ("max_devices: 0", "max_devices: Input should be greater than or equal to 1, not 0"),
        ("log_level: loud", "log_level: Input should be 'debug', 'info', 'warning' or 'error', not 'loud'"),
    ],
)
def test_other_mistakes(mistake: Callable[[str], str], text: str, sentence: str) -> None:
    """Each has its line and key; what might be a secret is never shown."""
    found = mistake(GOOD + text)
    assert found.startswith("c.yaml, line 2: "), found
    assert sentence in found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "c.yaml: streams: this key is missing"),
        ("streams: {}", "c.yaml, line 1: streams: "),
        ("streams: {'a b': {topic: x}}", "c.yaml, line 1: streams: 'a b' is no stream name"),
        ("streams: {a: {}}", "c.yaml, line 1: streams.a.topic: this key is missing"),
        (
            "streams:\n  a: {topic: x}\n  a: {topic: y}\n",
            "c.yaml, line 3: this is no YAML: key 'a' stands twice",
        ),
        ("streams: {a: {topic: x, topic: y}}", "c.yaml, line 1: this is no YAML: key 'topic' stands twice"),
        ("streams: [", "c.yaml, line 1: this is no YAML: "),
        ("a: b: c", "c.yaml, line 1: this is no YAML: mapping values are not allowed here"),
        ("streams:\n\tpumps: 1\n", "c.yaml, line 2: this is no YAML: "),
        ("- a\n", "c.yaml: the configuration must be a mapping of settings"),
        ("17", "c.yaml: the configuration must be a mapping of settings"),
        ("1: 2", "c.yaml: the configuration must be a mapping of settings"),
        (
            "a: !!python/object:os.system x",
            "c.yaml, line 1: this is no YAML: could not determine a constructor",
        ),
        ("a: \x00", "c.yaml: this is no YAML: "),
        ("? [1]\n: 2\n", "c.yaml"),
        ("a: &a [*a]", "c.yaml"),
        ("streams: &s {pumps: {topic: x}}\n<<: *s\n", "c.yaml"),
    ],
)
def test_mistakes_of_the_file(mistake: Callable[[str], str], text: str, sentence: str) -> None:
    """What is no YAML, or no mapping, or says a thing twice."""
    assert mistake(text).startswith(sentence)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The sentence says how to name one; folders and other bytes are refused too."""
    with pytest.raises(ConfigurationError, match=r"no\.yaml: there is no such file; name your configuration"):
        load(tmp_path / "no.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "latin").write_bytes(b"a: \xff")
    with pytest.raises(ConfigurationError, match="cannot be read: "):
        load(tmp_path / "latin")


def test_several_mistakes(mistake: Callable[[str], str]) -> None:
    """The first is told; the number of the others too."""
    assert mistake(GOOD + "max_devices: 0\nlog_level: x\n").endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("BROKER__URL", "mqtt://b:1", lambda settings: settings.broker.url == "mqtt://b:1"),
        ("BROKER__RECEIVE_MAXIMUM", "7", lambda settings: settings.broker.receive_maximum == 7),
        ("LOG_LEVEL", "debug", lambda settings: settings.log_level == "debug"),
        ("STREAMS__pumps__WINDOW", "9", lambda settings: settings.streams["pumps"].window == 9),
        (
            "STREAMS__pumps__ALERTS__CLEAR_AFTER",
            "3",
            lambda settings: settings.streams["pumps"].alerts.clear_after == 3,
        ),
        ("TOPICS", '{"base": "x"}', lambda settings: settings.topics.base == "x"),
    ],
)
def test_the_environment(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    found: Callable[[Settings], bool],
) -> None:
    """A variable stands above the file, and leaves the rest of the file as it is."""
    (tmp_path / "c.yaml").write_text(GOOD + "broker: {username: me}\n")
    monkeypatch.setenv(ENV_PREFIX + name, value)
    settings = load(tmp_path / "c.yaml")
    assert found(settings), settings
    assert settings.broker.username == "me"
    assert settings.streams["pumps"].topic == "plant/{device}"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "BORKER__URL",
            "x",
            "environment variable STREAM_DETECTOR__BORKER__URL: there is no setting 'borker'",
        ),
        (
            "BROKER__ULR",
            "x",
            "environment variable STREAM_DETECTOR__BROKER__ULR: broker.ulr: there is no such key; ",
        ),
        ("MAX_DEVICES", "many", "max_devices: Input should be a valid integer"),
        ("TOPICS", "{", "environment: "),
        ("BROKER__PASSWORD", PLANTED, "broker.password needs broker.username"),
        ("HTTP__TOKEN", f'["{PLANTED}"]', "http.listen"),
    ],
)
def test_mistakes_in_the_environment(
    mistake: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    """They are told like those in the file."""
    monkeypatch.setenv(ENV_PREFIX + name, value)
    assert sentence in mistake(GOOD + "http: {listen: 'x'}\n" if name == "HTTP__TOKEN" else GOOD)


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    """Neither by repr nor as JSON."""
    (tmp_path / "c.yaml").write_text(
        GOOD + f"broker: {{username: u, password: {PLANTED}}}\nhttp: {{token: {PLANTED}}}\n"
    )
    settings = load(tmp_path / "c.yaml")
    assert PLANTED not in repr(settings)
    assert PLANTED not in json.dumps(settings.model_dump(mode="json"))
    assert settings.broker.read_password() == PLANTED


def test_a_login_written_where_a_section_belongs_is_not_shown(tmp_path: Path) -> None:
    """`broker: mqtt://user:password@host` is a likely mistake; the sentence says what belongs there."""
    path = tmp_path / "c.yaml"
    path.write_text("broker: mqtt://joe:hunter2@host\nstreams: {a: {topic: 'x/{device}'}}\n")
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert "hunter2" not in str(caught.value)
    assert "line 1: broker: Input should be a section with keys of its own, such as url" in str(caught.value)


def test_a_stream_below_our_own_topics_is_refused(tmp_path: Path) -> None:
    """What the service publishes it never reads, so such a stream would hear nothing."""
    path = tmp_path / "c.yaml"
    path.write_text("topics: {base: plant}\nstreams: {a: {topic: 'plant/{device}/telemetry'}}\n")
    with pytest.raises(ConfigurationError, match=r"stands below topics\.base \(plant\)"):
        load(path)
