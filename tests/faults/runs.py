"""One run of a scenario: a broker, the service, who publishes, who listens, and how it ended."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from stream_detector.settings import load
from stream_detector.storage.store import Store
from tests.brokers import Mosquitto
from tests.faults.scenarios import last_word, scenario, streams
from tests.faults.supervised import Supervised
from tests.faults.truth import Found, cells, judge, sent, uninterrupted
from tests.faults.wire import Listener, Sensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stream_detector.detectors.pyod import FittedModel
    from tests.faults.forks import ForkServer
    from tests.faults.scenarios import Mode
    from tests.faults.truth import Verdict

BEGIN_S = 60.0
FINISH_S = 120.0


@contextmanager
def mosquitto(folder: Path, **options: Any) -> Iterator[Mosquitto]:
    """Give a running broker; it ends, however its user did."""
    broker = Mosquitto(folder, **options)
    try:
        yield broker.start()
    finally:
        broker.stop()


@dataclass(slots=True)
class BrokerLog:
    """What the broker's log says of the service.

    Attributes:
        logins: How often it logged in.
        working: Logins in which it acknowledged something.
        again: Messages that were delivered to it once more.
    """

    logins: int = 0
    working: int = 0
    again: int = 0
    _idle: bool = True

    def read(self, line: bytes) -> None:
        """Take in a line that is about the service."""
        if b"Sending CONNACK" in line:
            self.logins += 1
            self._idle = True
        elif b"Received PUBACK" in line:
            self.working += self._idle
            self._idle = False
        elif b"Sending PUBLISH" in line and b"(d1," in line:
            self.again += 1

    def __iadd__(self, other: BrokerLog) -> Self:
        """Add what another broker has seen."""
        self.logins += other.logins
        self.working += other.working
        self.again += other.again
        return self


class Run:
    """A service that lives through a scenario, whatever is done to it.

    Args:
        forks: What starts it.
        broker: Where it lives.
        folder: For its files.
        seed: Of the scenario.
        mode: How readings say which one they are.
        readings: In the scenario.
        devices: That take part.
        port: Where the service finds the broker, if not where the others do.
        login: More of the section `broker`.
        changed: Stream -> other settings of it.
        ignore: Fields of alerts that need not be equal.
        models: Stream -> bundle that should score it.
        others: Other sections of the configuration.
    """

    def __init__(
        self,
        forks: ForkServer,
        broker: Mosquitto,
        folder: Path,
        *,
        seed: object,
        mode: Mode,
        readings: int,
        devices: int = 20,
        port: int | None = None,
        login: dict[str, Any] | None = None,
        changed: Mapping[str, dict[str, Any]] | None = None,
        ignore: Sequence[str] = (),
        models: Mapping[str, FittedModel] | None = None,
        **others: Any,
    ) -> None:
        self.mode: Mode = mode
        self.broker = broker
        self.messages = list(scenario(seed, mode, readings, devices))
        self._rest = iter(self.messages)
        self._ignore, self._models = ignore, models
        self._stack = ExitStack()
        self.sensor = self._stack.enter_context(Sensor(broker.port))
        self.listener = self._stack.enter_context(Listener(broker.port))
        self.service = Supervised(
            forks,
            folder,
            broker={"url": f"mqtt://127.0.0.1:{port or broker.port}", **(login or {})},
            streams=streams(mode, changed),
            **others,
        )

    def begin(self, fault: Mapping[str, Any] | None = None) -> None:
        """Start the service; from its subscription on, the broker keeps for it what is published."""
        self.service.fork(fault)
        self.service.keep_alive(self.service.is_ready, BEGIN_S, "it is ready")

    def publish(self, messages: int) -> None:
        """Publish the next messages of the scenario, and return once the broker has them."""
        self.sensor.publish(islice(self._rest, messages))

    def finish(self, *, excused: bool = False, then: Callable[[], object] = lambda: None) -> Verdict:
        """Publish the rest, let the service come to an end in order, and compare.

        Args:
            excused: A fault may yet happen while it ends.
            then: Called when all is taken in and published, before it ends.
        """
        last = last_word(self.mode)
        self.sensor.publish(self._rest)
        self.sensor.publish([last])
        self.service.keep_alive(
            lambda: self.listener.has_heard_of(last.device), FINISH_S, "the last alert is published"
        )
        then()
        if excused:
            self.service.end_somehow()
        else:
            self.service.end_in_order()
        settings = load(self.service.folder / "config.yaml")
        messages = [*self.messages, last]
        expected = uninterrupted(settings, messages, self._ignore, self._models)
        found, waiting = self._found()
        verdict = judge(found, expected, sent(messages), self.mode)
        if waiting:
            verdict.problems.append(f"the outbox still holds {waiting} messages")
        for key in self.listener.twins:
            verdict.problems.append(f"published twice with different content: {key}")
        return verdict

    def log(self) -> BrokerLog:
        """Return what the broker has seen of the service."""
        seen = BrokerLog()
        with (self.broker._folder / "log").open("rb") as lines:
            for line in lines:
                if b"stream-detector-" in line:
                    seen.read(line)
        return seen

    def _found(self) -> tuple[Found, int]:
        """Return what the service has published and kept, and how much it has not published."""
        found = Found(refused=dict(self.listener.refused), states=dict(self.listener.states))
        for alert in self.listener.alerts.values():
            found.add_alert(alert, self._ignore)
        store = Store(self.service.folder / "state")
        try:
            for _, stream, state in store.rows():
                found.devices[stream, state.device] = cells(state)
            found.open = {(alert.id, alert.seq) for alert in store.open_alerts()}
            return found, len(store.outbox())
        finally:
            store.close()

    def __enter__(self) -> Self:
        """Nothing to do: sensor and listener are there since it was made."""
        return self

    def __exit__(self, *_: object) -> None:
        """End everything, however the run went."""
        if self.service.process is not None and not self.service.ended:
            self.service.kill()
        self._stack.close()
