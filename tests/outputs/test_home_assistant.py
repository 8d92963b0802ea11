"""What Home Assistant is told, message by message."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from stream_detector.core.events import ActiveAlert, DeviceForgotten, DeviceStateChanged
from stream_detector.outputs.home_assistant import (
    A_TURN,
    SCORE_EVERY,
    Announced,
    HomeAssistant,
    announcement,
)
from stream_detector.outputs.messages import ModelMessage, Publications
from stream_detector.outputs.settings import HomeAssistantSettings
from stream_detector.service.commands import AckRequest
from stream_detector.settings import Settings
from tests.homeassistant import check, environment, render
from tests.outputs.test_messages import ALERT
from tests.pages import DOCS, blocks
from tests.persisting import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stream_detector.outputs.messages import Publication

ODD = 'a"b{{x}}/ü'
NOW = Announced("homeassistant", "base", ("pumps",), (("pumps", "pump-1"), ("pumps", ODD)))


def settings(**said: Any) -> HomeAssistantSettings:
    """Return the section, switched on."""
    return HomeAssistantSettings(**{"enabled": True, **said})


def plant(*devices: str, **said: Any) -> HomeAssistant:
    """Return what tells Home Assistant of these pumps."""

    def known(_stream: str) -> Iterator[tuple[str, Mapping[str, str]] | None]:
        for device in devices:
            yield device, {"site": "north"}
        yield None

    return HomeAssistant(settings(**said), "base", ["pumps"], known)


def everything(told: HomeAssistant) -> list[Publication]:
    """Return all that is to be published now."""
    found = []
    while not told.done:
        found += told.take()
    return found


def state(device: str, previous: str | None = None, **said: Any) -> DeviceStateChanged:
    """Return that a pump's state has changed."""
    fields = {"state": "ok", "severity": None, "score": 0.5, "active": (), "tags": {}, "updated_at": 1}
    return DeviceStateChanged(**{"stream": "pumps", "device": device, "previous": previous, **fields, **said})


@pytest.mark.parametrize("device", ["pump-1", ODD, "{% raw %}", "泵", "x" * 128, "~a~", "+/#"])
def test_each_message_is_as_documented(device: str) -> None:
    """Whatever a device is called, its announcement has the documented fields only, and its own name."""
    said = announcement(NOW, "pumps", device, {"site": "{{ 1 }}"})
    content = check(said.topic, said.payload)
    assert (said.qos, said.retain) == (1, True)
    assert content["device"]["name"] == device
    assert content["device"]["suggested_area"] == "{{ 1 }}"
    assert all("{" not in part["state_topic"] for part in content["components"].values())


def test_the_check_finds_mistakes() -> None:
    """A field that is misspelt, missing or not allowed there is found."""
    content = json.loads(announcement(NOW, "pumps", "pump-1", {}).payload)
    topic = announcement(NOW, "pumps", "pump-1", {}).topic
    for path, value in (
        (("components", "problem", "device_class"), "trouble"),
        (("components", "problem", "object_id"), "x"),
        (("components", "state", "state_class"), "measurement"),
        (("components", "state", "unique_id"), None),
        (("device", "identifiers"), []),
        (("origin",), {}),
    ):
        wrong = json.loads(json.dumps(content))
        place = wrong
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        with pytest.raises(jsonschema.ValidationError):
            check(topic, json.dumps(wrong).encode())


def test_ids_stay_and_differ() -> None:
    """The same device has the same ids for ever; another one, stream or base has others."""
    first = announcement(NOW, "pumps", "pump-1", {})
    assert first.topic == "homeassistant/device/sd_f7d26b083a913ffe/config"
    others = [
        announcement(NOW, "pumps", "pump-2", {}),
        announcement(NOW, "fans", "pump-1", {}),
        announcement(Announced("homeassistant", "other", ("pumps",)), "pumps", "pump-1", {}),
    ]
    assert len({first.topic, *(other.topic for other in others)}) == 4


@pytest.mark.parametrize(
    ("device", "entity"),
    [
        pytest.param("pump-1", "pumps_pump_1", id="as one would write it"),
        pytest.param(ODD, "pumps_a_b_x_u", id="what cannot stand there is left out"),
        pytest.param("泵", "pumps_sd_7552c5acb2eae9c9", id="nothing is left: the device's id"),
    ],
)
def test_entities_have_readable_ids(device: str, entity: str) -> None:
    """Who writes an automation finds the entity by the names of stream and device."""
    parts = json.loads(announcement(NOW, "pumps", device, {}).payload)["components"]
    assert parts["problem"]["default_entity_id"] == f"binary_sensor.{entity}_problem"
    assert parts["state"]["default_entity_id"] == f"sensor.{entity}_state"


@pytest.mark.parametrize("device", ["pump-1", ODD])
def test_templates_fit_what_is_published(device: str) -> None:
    """What the service really publishes, where it really does, becomes the entities' states."""
    publications = Publications("base", {})
    parts = json.loads(announcement(NOW, "pumps", device, {}).payload)["components"]
    alert = ActiveAlert("0123456789abcdef01234567", "point", "critical", 1)
    for active, problem, word in (((), "OFF", "warming_up"), ((alert,), "ON", "alerting")):
        said = publications.of(state(device, active=active, state=word), now=2)
        assert said is not None
        for part, expected in ((parts["problem"], problem), (parts["state"], word)):
            assert part["state_topic"] == said.topic
            assert render(part["value_template"], said.payload) == expected
        assert parts["problem"]["json_attributes_topic"] == said.topic
        assert word in parts["state"]["options"]
    score = publications.score("pumps", device, 1, 0.5, ModelMessage("light", "1", "live"))
    assert parts["score"]["state_topic"] == score.topic
    assert render(parts["score"]["value_template"], score.payload) == "0.5"


@pytest.mark.parametrize(
    ("status", "shown"), [("online", "online"), ("stopped", "offline"), ("offline", "offline")]
)
def test_only_online_is_available(status: str, shown: str) -> None:
    """A service that has ended in order is as absent as one that was killed."""
    content = json.loads(announcement(NOW, "pumps", "pump-1", {}).payload)
    assert content["availability_topic"] == Publications("base", {}).status_topic
    assert render(content["availability_template"], status.encode()) == shown
    assert {content["payload_available"], content["payload_not_available"]} == {"online", "offline"}


def test_only_chosen_devices_have_a_score() -> None:
    """The others have a problem and a state."""
    told = plant("pump-1", "pump-2", score_devices=["pumps/pump-1"])
    told.begin(None)
    parts = {
        json.loads(each.payload)["device"]["name"]: json.loads(each.payload) for each in everything(told)
    }
    assert set(parts["pump-1"]["components"]) == {"problem", "state", "score"}
    assert set(parts["pump-2"]["components"]) == {"problem", "state"}


def test_a_new_device_is_announced_once() -> None:
    """With its first state, not with the next ones; of a stream that is not announced never."""
    told = plant()
    told.begin(None)
    assert everything(told) == []
    told.event(state("pump-1", tags={"area": "hall", "site": "north"}))
    told.event(state("pump-2", previous="warming_up"))
    told.event(state("fan-1", stream="fans"))
    (said,) = everything(told)
    about = json.loads(said.payload)["device"]
    assert (about["name"], about["suggested_area"], about["model"]) == ("pump-1", "hall", "pumps")


def test_a_device_that_is_forgotten_meanwhile_is_not_announced() -> None:
    """Else it would come back in Home Assistant, with nobody to take it out again."""
    told = plant()
    told.begin(None)
    told.event(state("pump-1"))
    gone = DeviceForgotten("pumps", "pump-1", "ok")
    told.event(gone)
    (removal,) = told.removals(gone)
    assert (removal.payload, removal.retain, removal.qos) == (b"", True, 1)
    assert removal.topic == announcement(NOW, "pumps", "pump-1", {}).topic
    assert everything(told) == []
    assert told.removals(DeviceForgotten("fans", "fan-1", "ok")) == []


def test_a_large_fleet_is_announced_bit_by_bit() -> None:
    """Never more than some fifty at once, nobody twice, nobody left out."""
    told = plant(*map(str, range(1000)))
    told.begin(None)
    sizes = []
    names: list[str] = []
    while not told.done:
        said = told.take()
        sizes.append(len(said))
        names += [json.loads(each.payload)["device"]["name"] for each in said]
    assert max(sizes) <= A_TURN
    assert names == list(map(str, range(1000)))


def test_home_assistant_starts() -> None:
    """Everybody is announced again; who says so all the time cannot keep the last from their turn."""
    told = plant(*map(str, range(200)))
    told.begin(None)
    everything(told)
    for message in (("homeassistant/status", b"offline"), ("other/status", b"online")):
        told.listen([message])
        assert told.done
    names = []
    told.listen([("homeassistant/status", b"online")])
    while "199" not in names:
        names += [json.loads(each.payload)["device"]["name"] for each in told.take()]
        told.listen([("homeassistant/status", b"online")])
    assert len(everything(told)) >= 150, "and once more for the last time it said so"


def test_what_was_switched_off_is_taken_out() -> None:
    """Devices that were announced go, under the topics that they were announced with."""
    on = plant("pump-1", "pump-2")
    on.begin(None)
    topics = [each.topic for each in everything(on)]
    off = plant("pump-1", "pump-2", enabled=False)
    off.begin(on.fact)
    assert [(each.topic, each.payload) for each in everything(off)] == [(topic, b"") for topic in topics]
    assert off.fact == on.fact, "until the broker has it all"
    off.formerly.clear()
    assert off.fact == []


@pytest.mark.parametrize("change", [{"prefix": "home"}, {"streams": []}])
def test_a_change_moves_them(change: dict[str, Any]) -> None:
    """Another prefix, or a stream that is not announced any more: the old ones go, the new ones come."""
    before = plant("pump-1")
    before.begin(None)
    (old,) = everything(before)
    after = plant("pump-1", **change)
    after.begin(json.loads(json.dumps(before.fact)))
    removal, *new = everything(after)
    assert (removal.topic, removal.payload) == (old.topic, b"")
    assert [each.topic for each in new] == [
        old.topic.replace("homeassistant", each) for each in change.values() if each
    ]
    (gone,) = [each.topic for each in after.removals(DeviceForgotten("pumps", "pump-1", "ok"))][:1]
    assert gone == old.topic, "a device forgotten before its turn goes, too"


def test_nothing_is_taken_out_that_stays() -> None:
    """A start with the same settings, or with a further stream, announces and removes nothing."""
    before = plant("pump-1")
    before.begin(None)
    again = plant("pump-1")
    again.begin(before.fact)
    assert again.formerly == []
    assert all(each.payload for each in everything(again))


def test_a_score_sensor_is_taken_out_alone() -> None:
    """First as a component with only its platform, then not at all, as Home Assistant wants it."""
    before = plant("pump-1", score_devices=["pumps/pump-1"])
    before.begin(None)
    after = plant("pump-1")
    after.begin(before.fact)
    first, second = (check(each.topic, each.payload) for each in everything(after))
    assert first["components"]["score"] == {"platform": "sensor"}
    assert "score" not in second["components"]
    assert first["components"]["state"] == second["components"]["state"]


def batch(*devices: str, arrival: int) -> tuple[Any, Any]:
    """Return readings and their scores 0, 1, 2 ..., as far as the sampling looks at them."""
    count = len(devices)
    arrivals = np.full(count, arrival, dtype=np.int64)
    readings = SimpleNamespace(stream="pumps", devices=list(devices), arrival=arrivals)
    return readings, SimpleNamespace(scored=np.arange(count), scores=np.arange(count, dtype=np.float64))


def test_a_score_every_thirty_seconds() -> None:
    """Of a chosen device the newest of a batch, and then none for 30 s of arrival; of the others none."""
    told = plant(score_devices=["pumps/pump-1", "pumps/pump-2"])
    begin = 1_000_000_000
    assert told.sampled(*batch("pump-1", "pump-1", "pump-3", arrival=begin)) == [(1, 1.0)]
    assert told.sampled(*batch("pump-1", arrival=begin + SCORE_EVERY - 1)) == []
    assert told.sampled(*batch("pump-2", arrival=begin + SCORE_EVERY - 1)) == [(0, 0.0)]
    assert told.sampled(*batch("pump-1", "pump-2", arrival=begin + SCORE_EVERY)) == [(0, 0.0)]


def test_everybody_is_known_in_memory_and_on_disk(tmp_path: Path) -> None:
    """Each device is met once with its tags, also one that moves between memory and disk meanwhile."""
    kept = Kept(tmp_path, stream={"silence": False}, max_devices=300)
    names = [f"p{number}" for number in range(600)]
    for number, name in enumerate(names):
        kept.now += 100_000
        kept.send((f"plant/north/{name}", {"ts": 1_767_225_600 + number, "values": {"x": 1.0}}))
    recovery = kept.recovery
    assert recovery.evicted["pumps"] > 0
    walk = recovery.devices("pumps")
    met = [next(walk) for _ in range(10)]
    on_disk = next(name for name in names if name not in kept.engine.memory.streams["pumps"].devices.slot_of)
    kept.send((f"plant/north/{on_disk}", {"ts": 1_767_300_000, "values": {"x": 1.0}}))
    found = [each for each in [*met, *walk] if each is not None]
    assert sorted(found) == sorted((name, {"site": "north"}) for name in names)
    assert list(filter(None, recovery.devices("unknown"))) == []
    kept.let_go()


STREAMS = {"pumps": {"topic": "plant/{device}"}}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"score_devices": ["pump-1"]}, "'pump-1' must be stream/device, such as pumps/pump-017"),
        (
            {"score_devices": ["fans/1"]},
            "home_assistant.score_devices names the stream 'fans'; there are pumps",
        ),
        ({"streams": ["fans"]}, "home_assistant.streams names the stream 'fans'; there are pumps"),
        ({"prefix": "stream_detector/x"}, "stands below topics.base (stream_detector)"),
        ({"prefix": "a/+"}, "String should match pattern"),
        ({"score_devices": [f"pumps/{i}" for i in range(201)]}, "at most 200"),
    ],
)
def test_impossible_settings(said: dict[str, Any], sentence: str) -> None:
    """What cannot be meant is refused, in a sentence that says what can."""
    with pytest.raises(ValidationError, match=re.escape(sentence)):
        Settings(streams=STREAMS, home_assistant={"enabled": True, **said})  # type: ignore[arg-type]


def test_topics_between_us_and_home_assistant() -> None:
    """Our announcements are never telemetry, whether it is on or off; what others announce may be."""
    for on in (True, False):
        said = settings(enabled=on)
        assert said.owns("homeassistant/device/sd_0123456789abcdef/config")
        assert said.owns("homeassistant/status") == on
        assert not said.owns("homeassistant/sensor/kitchen/state")
        assert not said.owns("homeassistant/status/kitchen")


def shown(key: str) -> Iterator[Any]:
    """Yield what the page shows under a key of Home Assistant's configuration."""
    for block in blocks(DOCS / "home-assistant.md", language="yaml"):
        yield from [yaml.safe_load(block.text)[key]] if block.text.startswith(f"{key}:") else []


def test_the_automations_of_the_page() -> None:
    """What they say is made of what the service publishes."""
    publications = Publications("stream_detector", {"pumps": ("Normal", "Anomaly")})
    alert = ActiveAlert("0123456789abcdef01234567", "point", "critical", 1)
    changed = publications.of(state("pump-017", active=(alert,), severity="critical"), now=2)
    raised = publications.of(ALERT, now=ALERT.received_at)
    assert changed is not None
    assert raised is not None
    (one,), (every,) = shown("automation")
    to_state = {"name": "pump-017 Problem", "attributes": json.loads(changed.payload)}
    assert filled(one["actions"][0]["data"], trigger={"to_state": to_state}) == {
        "title": "pump-017 Problem",
        "message": "critical: point",
    }
    trigger = {"payload_json": json.loads(raised.payload)}
    assert filled(every["actions"][0]["data"], trigger=trigger) == {
        "title": f"{ALERT.device}: critical",
        "message": ALERT.reason,
    }
    assert filled({"": every["conditions"][0]}, trigger=trigger) == {"": "True"}
    entity = json.loads(announcement(NOW, "pumps", "pump-017", {}).payload)["components"]["problem"]
    assert one["triggers"][0]["entity_id"] == entity["default_entity_id"]
    assert raised.topic.startswith(every["triggers"][0]["topic"].removesuffix("#"))


def test_the_script_of_the_page_acknowledges() -> None:
    """Its request names each open alert that nobody has seen, and is one that the service understands."""
    publications = Publications("stream_detector", {})
    seen = ActiveAlert("1" * 24, "range", "critical", 1, acknowledged=True)
    unseen = ActiveAlert("2" * 24, "point", "critical", 1)
    said = publications.of(state("pump-017", active=(seen, unseen)), now=2)
    assert said is not None
    attributes = json.loads(said.payload)
    (scripts,) = shown("script")
    repeat = scripts["acknowledge_anomaly"]["sequence"][0]["repeat"]
    names = {
        "problem": "binary_sensor.pumps_pump_017_problem",
        "state_attr": lambda _entity, name: attributes[name],
        "now": lambda: datetime(2026, 1, 1, tzinfo=UTC),
    }
    assert filled({"": repeat["for_each"]}, **names) == {"": str([unseen.id])}
    data = filled(repeat["sequence"][0]["data"], repeat={"item": unseen.id}, **names)
    assert data["topic"] == "stream_detector/cmd/ack"
    request = json.loads(data["payload"])
    assert request["transaction"]
    assert msgspec.convert(request, AckRequest).id == unseen.id


def filled(data: Mapping[str, Any], **names: Any) -> dict[str, str]:
    """Return what Home Assistant makes of the templates in a mapping."""
    return {key: environment.from_string(str(text)).render(**names) for key, text in data.items()}
