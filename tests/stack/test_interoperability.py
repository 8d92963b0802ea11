"""One scenario with every broker; and what each cannot do, asked of it and said by `check` and the docs.

The broker of a parameter serves all tests of it, because one of them takes ten seconds to start. A client of
ours waits for what must come; for what must not come it waits until something later has come.
"""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.mqtt.broker_check.finding import NO_SUBSCRIBERS
from stream_detector.mqtt.broker_check.guest import DUP
from stream_detector.mqtt.broker_check.keeping import LEAST_OPEN
from stream_detector.mqtt.broker_check.login import VERSION
from stream_detector.mqtt.sentences import LOST_WITH_3_1_1, SESSION_GONE
from tests.brokers import PATIENCE_S, Peer, wait_for
from tests.cli.test_check import Checked, broker_section
from tests.mqtt.driving import Driver
from tests.peers.abilities import ANY, BROKERS, Abilities, losses, table
from tests.service.running import RunningService
from tests.service.sensor import WARMED_UP, healthy_list, payload, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = pytest.mark.stack

DOCS = Path(__file__).parents[2] / "docs"
PUMP = "plant/north/pump-1/telemetry"
TANK = "tanks/{}/level"
STREAMS: dict[str, Any] = {
    "pumps": {"topic": "plant/{site}/{device}/telemetry", "silence": False},
    "tanks": {
        "topic": TANK.format("{device}"),
        "channels": {"level": {"unit": "m", "min": 0, "max": 10}},
        "silence": False,
    },
}
AWAY, CRASH = range(40), range(40, 240)
"""Tanks that overflow while the service is stopped, and while it is killed."""


@pytest.fixture(scope="module", params=BROKERS)
def name(request: pytest.FixtureRequest) -> str:
    """Give each broker's key in the table."""
    return str(request.param)


@pytest.fixture(scope="module")
def able(name: str) -> Abilities:
    """Give what is said of it."""
    return BROKERS[name]


@pytest.fixture(scope="module")
def broker(able: Abilities, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give the broker."""
    running = able.start(tmp_path_factory.mktemp("broker"))
    yield running
    running.stop()


class Scenario:
    """A plant, the service, and somebody who listens to it.

    Args:
        folder: Of the service.
        broker: A running one.
        able: What it can do.
        stack: Ends all of it.
    """

    def __init__(self, folder: Path, broker: Any, able: Abilities, stack: ExitStack) -> None:
        self.able, self.broker, self._stack = able, broker, stack
        self._told: list[tuple[str, bytes]] = []
        self.service = RunningService(
            folder, broker={"url": broker.url, "protocol": able.wish}, streams=STREAMS
        )
        stack.enter_context(self.service)
        self.meet()
        self.begin()

    def meet(self) -> None:
        """Let the plant and the listener log in."""
        mqtt5 = self.able.mqtt5
        self.plant = self._stack.enter_context(Peer(self.broker.port, mqtt5=mqtt5))
        self.listener = self._stack.enter_context(Peer(self.broker.port, mqtt5=mqtt5))
        for topic in ("alert/#", "status", "reply/+"):
            self.listener.subscribe(f"stream_detector/{topic}")

    def part(self) -> None:
        """Let both go, and remember what the listener has heard."""
        self._told += [(message.topic, bytes(message.payload)) for message in self.listener.messages]
        self.plant.close()
        self.listener.close()

    def begin(self) -> None:
        """Start the service, or wait for one that has been started, until it does its job."""
        if self.service.ended:
            self.service.start()
        self.service.wait_ready()
        self.service.wait_online()

    def heard(self, *path: str) -> list[Any]:
        """Return what came below a topic, in order: JSON as what it says, the rest as bytes."""
        wanted = "/".join(("stream_detector", *path))
        now = [(message.topic, bytes(message.payload)) for message in list(self.listener.messages)]
        return [_said(payload) for topic, payload in self._told + now if topic.startswith(wanted)]

    def wait_for(self, what: Any) -> None:
        """Return once it holds; what came is told where it does not."""
        wait_for(
            what,
            PATIENCE_S,
            f"{self.heard('status')}; {len(self.heard('alert'))} alerts; {self.service.log()}",
        )

    def overflow(self, tanks: Sequence[int]) -> None:
        """Publish a level that no tank may have, and return at once."""
        for tank in tanks:
            content = {"ts": "2026-01-01T00:00:00Z", "values": {"level": 99.0}}
            self.plant.client.publish(TANK.format(f"tank-{tank}"), payload(content), qos=1)

    def overflown(self) -> set[str]:
        """Return the tanks with an alert."""
        return {alert["device"] for alert in self.heard("alert", "tanks")}


def _said(content: bytes) -> Any:
    with suppress(ValueError):
        return json.loads(content)
    return content


def test_the_same_scenario(broker: Any, able: Abilities, tmp_path: Path) -> None:
    """A pump breaks; the service is stopped, killed, and loses the broker: every alert comes once."""
    with ExitStack() as stack:
        scenario = Scenario(tmp_path / "service", broker, able, stack)
        breaks_down(scenario)
        is_stopped_meanwhile(scenario)
        is_killed_meanwhile(scenario)
        loses_the_broker(scenario)
        acknowledges(scenario)
        events = {(one["device"], one["id"], one["seq"], one["event"]) for one in scenario.heard("alert")}
        raised = [device for device, _, seq, event in events if (seq, event) == (1, "raise")]
        assert sorted(raised) == sorted({"pump-1", "tank-1000", *map("tank-{}".format, [*AWAY, *CRASH])})
        assert {(device, seq, event) for device, _, seq, event in events if seq > 1} == {
            ("pump-1", 2, "clear"),
            ("tank-1000", 2, "ack"),
        }
        assert scenario.service.stop() == 0


def breaks_down(scenario: Scenario) -> None:
    """What the pump says is judged, what is wrong is told, and who comes later sees how things stand."""
    log, service = scenario.service.log(), scenario.service
    assert f"with MQTT {scenario.able.protocol}" in log
    assert (LOST_WITH_3_1_1 in log) == (scenario.able.protocol == "3.1.1" and scenario.able.wish == "auto")
    scenario.plant.publish(PUMP, healthy_list(0, WARMED_UP))
    scenario.plant.publish(PUMP, payload(reading(WARMED_UP, vibration=9.7)))
    scenario.wait_for(lambda: scenario.heard("alert", "pumps"))
    scenario.plant.publish(PUMP, payload(reading(WARMED_UP, vibration=9.7)))
    service.wait_for_count("readings_duplicate_total", 1, stream="pumps")
    assert [(one["event"], one["seq"]) for one in scenario.heard("alert")] == [("raise", 1)]
    for topic, expected in (
        ("status", b"online"),
        ("info", b'"streams"'),
        ("state/pumps/pump-1", b"alerting"),
    ):
        with Peer(scenario.broker.port, mqtt5=scenario.able.mqtt5) as late:
            late.subscribe(f"stream_detector/{topic}")
            message = late.wait_for(len)[0]
            assert message.retain
            assert expected in message.payload


def is_stopped_meanwhile(scenario: Scenario) -> None:
    """What comes while the service is away is judged when it is back: a broker keeps the session."""
    assert scenario.service.stop() == 0
    scenario.wait_for(lambda: scenario.heard("status")[-1] == b"stopped")
    for number in range(WARMED_UP + 1, WARMED_UP + 11):
        scenario.plant.publish(PUMP, payload(reading(number)))
    scenario.overflow(AWAY)
    scenario.begin()
    scenario.wait_for(
        lambda: len(scenario.overflown()) == len(AWAY) and len(scenario.heard("alert", "pumps")) == 2
    )
    assert [(one["event"], one["seq"]) for one in scenario.heard("alert", "pumps")] == [
        ("raise", 1),
        ("clear", 2),
    ]
    assert SESSION_GONE not in scenario.service.log()


def is_killed_meanwhile(scenario: Scenario) -> None:
    """The broker tells that the service has vanished, and keeps what that had not acknowledged."""
    scenario.overflow(CRASH[:100])
    scenario.wait_for(lambda: len(scenario.overflown()) > len(AWAY))
    scenario.service.stop(signal.SIGKILL)
    scenario.overflow(CRASH[100:])
    scenario.wait_for(lambda: scenario.heard("status")[-1] == b"offline")
    scenario.begin()
    wait_for(lambda: len(scenario.overflown()) == len(AWAY) + len(CRASH), what="all tanks are told of")
    scenario.wait_for(lambda: scenario.heard("status")[-1] == b"online")


def loses_the_broker(scenario: Scenario) -> None:
    """The broker ends and is back: the service finds it, and says it where the session is gone."""
    scenario.plant.publish("kept/1", b"kept", retain=True)
    scenario.part()
    scenario.broker.stop()
    wait_for(lambda: scenario.service.get("/readyz")[0] == 503, what="the loss is noticed")
    scenario.broker.start()
    scenario.service.wait_ready()
    scenario.meet()
    scenario.overflow([1000])
    scenario.wait_for(lambda: "tank-1000" in scenario.overflown())
    assert (SESSION_GONE in scenario.service.log()) == (not scenario.able.restart)
    assert ("kept/1" in found(scenario.broker, scenario.able, "kept/1")) == scenario.able.restart


def acknowledges(scenario: Scenario) -> None:
    """A command is answered, and what it did is told."""
    (alert,) = [one for one in scenario.heard("alert", "tanks") if one["device"] == "tank-1000"]
    request = {"transaction": "t-1", "id": alert["id"], "by": "anna"}
    scenario.plant.publish("stream_detector/cmd/ack", payload(request))
    scenario.wait_for(lambda: scenario.heard("reply", "ack"))
    (reply,) = scenario.heard("reply", "ack")
    assert (reply["transaction"], reply["ok"]) == ("t-1", True)
    scenario.wait_for(lambda: any(one["event"] == "ack" for one in scenario.heard("alert", "tanks")))


# -- the table ---------------------------------------------------------------------------------------


def found(broker: Any, able: Abilities, wanted: str) -> list[str]:
    """Return the topics that are retained for a new subscription."""
    with Peer(broker.port, mqtt5=able.mqtt5) as late:
        late.subscribe(wanted)
        late.subscribe("fence")
        late.publish("fence")
        messages = late.wait_for(lambda messages: any(message.topic == "fence" for message in messages))
    return [message.topic for message in messages if message.retain]


@pytest.fixture
def drive(broker: Any, able: Abilities) -> Iterator[Callable[..., Driver]]:
    """Make connections like the service's: ``drive("a/#")``; each ends with the test."""
    with ExitStack() as stack:

        def make(*filters: str, **more: Any) -> Driver:
            subscriptions = tuple((wanted, 1) for wanted in filters)
            driver = Driver(broker.url, subscriptions=subscriptions, protocol=able.wish, **more)
            stack.enter_context(driver)
            return driver.until_ready()

        yield make


def test_it_speaks_what_the_table_says(drive: Callable[..., Driver], able: Abilities) -> None:
    """`auto` finds the protocol at once; only MQTT 5 can say that nobody has got a message."""
    link = (driver := drive("a/#")).link
    assert (link.protocol, link.epoch, link.last_error) == (able.protocol, 1, None)
    link.publish(b"nobody/is/here", b"", 1, retain=False)
    assert _answers(driver) == [NO_SUBSCRIBERS if able.unheard else 0]


def test_it_tells_of_itself_what_the_table_says(
    broker: Any, drive: Callable[..., Driver], able: Abilities
) -> None:
    """A broker without Mosquitto's $SYS may ignore who asks for it, or hang up: neither is a problem."""
    driver = drive("a/#", VERSION, optional=(VERSION,))
    with Peer(broker.port, mqtt5=able.mqtt5) as peer:
        driver.until(lambda: driver.messages or driver.link.denied or _asked(driver))
        driver.until_ready()
        peer.publish("a/fence")
        driver.until(lambda: ("a/fence", b"") in driver.messages)
    assert any(topic == VERSION for topic, _ in driver.messages) == able.drops


def _asked(driver: Driver) -> bool:
    subscriptions = driver.link._subscriptions
    return driver.link.ready and subscriptions._tried > 0 and not subscriptions._trying


def test_it_keeps_what_the_table_says(broker: Any, able: Abilities) -> None:
    """A retained message is there for who asks for its topic, and, mostly, for a wildcard."""
    with Peer(broker.port, mqtt5=able.mqtt5) as peer:
        peer.publish("r/1/kept", b"kept", retain=True)
    assert found(broker, able, "r/1/kept") == ["r/1/kept"]
    assert found(broker, able, "r/+/kept") == (["r/1/kept"] if able.wildcards else [])


def test_it_carries_what_the_table_says(broker: Any, drive: Callable[..., Driver], able: Abilities) -> None:
    """Dots, spaces and sizes: what arrives, and what makes it hang up."""
    driver = drive("n/#")
    with Peer(broker.port, mqtt5=able.mqtt5) as peer:
        for name in ("n/a.b", "n/%20/\u00fc", "n//b", f"n/{'x' * 200}"):
            peer.publish(name)
        has(driver, 4)
    came = [topic for topic, _ in driver.messages]
    assert came == ["n/a.b" if able.dots else "n/a/b", "n/%20/\u00fc", "n//b", f"n/{'x' * 200}"]
    wanted, fits = 4, 2_000_000 if able.packet == ANY else able.packet - 500
    for topic, size, carried in (
        (b"n/a b", 0, able.spaces),
        (b"n/c", fits, True),
        (b"n/c", able.packet, False),
    ):
        if size < ANY:
            assert taken(drive(client_id="sender"), topic, bytes(size)) == carried
            wanted += carried
            has(driver, wanted)


def has(driver: Driver, count: int) -> None:
    """Return once so many messages have come."""
    driver.until(lambda: len(driver.messages) == count)


def taken(sender: Driver, topic: bytes, content: bytes) -> bool:
    """Publish, and return whether the broker has taken it; else it has hung up."""
    sender.link.publish(topic, content, 1, retain=False)
    return bool(_answers(sender))


def _answers(sender: Driver) -> list[int]:
    """Return the reason codes of what was published; none where the broker has hung up."""
    codes: list[int] = []

    def answered() -> object:
        codes.extend(code for _, code in sender.link.confirmed())
        return codes or sender.link.last_error

    sender.until(answered)
    return codes


def test_it_sends_ahead_what_the_table_says(
    broker: Any, drive: Callable[..., Driver], able: Abilities
) -> None:
    """So many messages come before any is acknowledged, and the others once they are."""
    count = 1100
    leave(drive, broker, able, "ahead", [b"%d" % number for number in range(count)])
    driver = Driver(
        broker.url, subscriptions=(("w/ahead", 1),), client_id="ahead", protocol=able.wish, acknowledge=False
    )
    expected = min(able.ahead or count, count)
    with driver:
        driver.until(lambda: len(driver.messages) >= expected)
        for _ in range(5):  # no fence: some answer nothing at all while we owe them this
            driver.poll()
        assert len(driver.messages) == expected
        for batch in driver.batches:
            driver.link.acknowledge(batch)
        driver._acknowledge = True
        driver.until(lambda: len(set(driver.payloads)) == count)


def test_it_sends_again_what_the_table_says(
    broker: Any, drive: Callable[..., Driver], able: Abilities
) -> None:
    """What was not acknowledged comes again: mostly before what is newer, and mostly marked."""
    old = [b"%d" % number for number in range(5)]
    leave(drive, broker, able, "again", old)
    driver = drive("w/again", client_id="again", acknowledge=False)
    driver.until(lambda: driver.payloads == old)
    driver.link.close(2)
    with Peer(broker.port, mqtt5=able.mqtt5) as peer:
        peer.publish("w/again", b"new")
    driver = drive("w/again", client_id="again")
    driver.until(lambda: b"new" in driver.payloads)
    first = driver.payloads[:]
    driver.until(lambda: len(driver.payloads) == 6)
    assert first == (([*old, b"new"]) if able.again == "at once" else [b"new"])
    assert sorted(driver.payloads) == sorted([*old, b"new"])
    flags = dict(
        zip(driver.payloads, [flag for batch in driver.batches for flag in batch.flags], strict=True)
    )
    assert {bool(flags[payload] & DUP) for payload in old} == {able.marks}


def leave(
    drive: Callable[..., Driver], broker: Any, able: Abilities, name: str, payloads: list[bytes]
) -> None:
    """Let a session begin and leave, and miss messages at QoS 1."""
    drive(f"w/{name}", client_id=name).link.close(2)
    with Peer(broker.port, mqtt5=able.mqtt5) as peer:
        for content in payloads[:-1]:
            peer.client.publish(f"w/{name}", content, qos=1)
        peer.publish(f"w/{name}", payloads[-1])


def test_check_says_what_the_table_says(broker: Any, able: Abilities, tmp_path: Path) -> None:
    """Each limitation is a sentence of `check`, with what to do; nothing of it is a failure."""
    checked = Checked(tmp_path, "--verbose", broker=broker_section(broker.port, protocol=able.wish))
    limitations = {
        ("note", "software"): not able.drops,
        ("note", "publish"): not able.mqtt5,
        ("note", "unheard"): able.mqtt5 and not able.unheard,
        ("warn", "names"): not able.dots,
        ("note", "names"): not able.spaces,
        ("warn", "retained"): not able.wildcards,
        ("note", "window"): able.ahead is not None and able.ahead < LEAST_OPEN,
        ("warn", "again"): able.again == "later",
        ("note", "again"): not able.marks,
        ("warn", "queue"): False,
        ("warn", "session"): False,
        ("warn", "limits"): False,
    }
    assert {key for key in limitations if checked.said(*key)} == {
        key for key, said in limitations.items() if said
    }
    assert "all 1500 messages" in checked.said("ok", "queue")
    assert (LOST_WITH_3_1_1 in checked.text) == (not able.mqtt5 and able.wish == "auto")


def test_the_docs_say_what_the_table_says() -> None:
    """docs/brokers.md shows this table, and what is lost with each."""
    page = (DOCS / "brokers.md").read_text()
    assert table() in page
    assert losses() in page
