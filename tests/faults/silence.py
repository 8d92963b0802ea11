"""Proof 7: a kill neither forgets a silence, nor invents one, nor publishes it under another id.

The service lives by a clock that stands still until the proof moves it. Devices speak once a second,
fall silent together, and come back; the service is killed around the tick that has to notice. How
long that takes may differ, since time in which it could not hear does not count; who is reported
as silent, when it is over, and under which ids must not.
"""

from __future__ import annotations

import json
from datetime import timedelta
from time import sleep
from typing import TYPE_CHECKING, Any

from tests.brokers import wait_for
from tests.faults.forks import Clock
from tests.faults.proof import Result
from tests.faults.runs import mosquitto
from tests.faults.scenarios import BEGIN, Message, seeded
from tests.faults.supervised import Supervised
from tests.faults.wire import Listener, Sensor

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.faults.forks import ForkServer

SECOND = 1_000_000
DEVICES = 6
STEPS = 25
"""Readings of a device before it falls silent: its cadence is known by then."""
QUIET = 20
"""Seconds; four times what is allowed to devices that speak once a second."""
KILL_IN_STEP, KILL_AT_TICK = 0.1, 0.7
TICK_S = 0.3
"""A tick comes so soon after the clock was moved."""
AGAIN_S = 1.5
"""If nothing is noticed for so long, the gap of a restart covers the silence, and time has to go on."""
JUMPS = 20
STREAM = {
    "topic": "plant/{device}",
    "channels": {"v": {"max": 100}},
    "stuck": False,
    "alerts": {"update_every_s": 86_400},
}

Published = set[tuple[str, int, str, str, str]]
"""id, seq, event, kind and device of alerts."""


def prove(forks: ForkServer, folder: Path, seed: int, rounds: int = 12) -> Result:
    """Compare a run with kills to one without."""
    undisturbed, _ = _run(forks, folder / "quiet", seed, rounds, kill=False)
    found, kills = _run(forks, folder / "killed", seed, rounds, kill=True)
    problems = [
        f"published only {where}: {one}"
        for where, these in (("without kills", undisturbed - found), ("with kills", found - undisturbed))
        for one in sorted(these)
    ]
    silences = sum(event == "raise" for _, _, event, kind, _ in undisturbed if kind == "silence")
    if silences < rounds * DEVICES:
        problems.append(f"only {silences} silences in {rounds} rounds of {DEVICES} devices")
    equal = f"{len(undisturbed & found)}/{len(undisturbed)} events under equal ids"
    text = f"{kills} kills -9 around {silences} silences: {equal}"
    return Result("silence", text, problems)


def _run(forks: ForkServer, folder: Path, seed: int, rounds: int, *, kill: bool) -> tuple[Published, int]:
    chance = seeded(seed, "silence", kill)
    folder.mkdir(parents=True)
    clock = Clock(folder / "clock")
    clock.now = round((BEGIN + timedelta(days=400)).timestamp()) * SECOND
    with (
        mosquitto(folder / "broker") as broker,
        Sensor(broker.port) as sensor,
        Listener(broker.port) as listener,
    ):
        service = Supervised(
            forks,
            folder / "run",
            broker={"url": broker.url},
            streams={"pumps": STREAM},
            clock=folder / "clock",
        )
        play = Play(clock, service, sensor, listener, chance if kill else None)
        service.fork()
        try:
            service.keep_alive(service.is_ready, 60.0, "it is ready")
            for number in range(rounds):
                play.round(number)
            service.end_in_order()
        finally:
            if not service.ended:
                service.kill()
        return {
            (id_, seq, alert["event"], alert["kind"], alert["device"])
            for (id_, seq), alert in listener.alerts.items()
        }, play.kills


class Play:
    """One service and its devices.

    Args:
        clock: The service's.
        service: Runs.
        sensor: Publishes.
        listener: Hears.
        chance: When to kill; None: never.

    Attributes:
        kills: So far.
    """

    def __init__(
        self,
        clock: Clock,
        service: Supervised,
        sensor: Sensor,
        listener: Listener,
        chance: random.Random | None,
    ) -> None:
        self.kills = 0
        self._clock, self._service = clock, service
        self._sensor, self._listener = sensor, listener
        self._chance = chance
        self._marks = 0
        self._said = 0

    def round(self, number: int) -> None:
        """Let new devices speak and fall silent, together with all that were there before."""
        new = [f"{number}-{k}" for k in range(DEVICES)]
        for _ in range(STEPS):
            self._clock.now += SECOND
            self._say(new)
            self._kill(KILL_IN_STEP, 0.05)
            self._mark()
        if number:  # some of those before come back for a moment
            self._say([f"{number - 1}-{k}" for k in range(0, DEVICES, 2)])
            self._mark()
        for _ in range(JUMPS):
            self._clock.now += QUIET * SECOND
            self._kill(KILL_AT_TICK, TICK_S)
            if self._all_silent(number):
                return
        raise AssertionError(f"round {number}: nobody notices a silence; {self._service.tail()}")

    def _all_silent(self, number: int) -> bool:
        """Wait for the alerts of all devices; return False where time has to go on."""
        wanted = {f"{r}-{k}" for r in range(number + 1) for k in range(DEVICES)}

        def silent() -> bool:
            last = {a["device"]: a["event"] for a in self._alerts() if a["kind"] == "silence"}
            return wanted <= {device for device, event in last.items() if event != "clear"}

        try:
            wait_for(silent, AGAIN_S)
        except AssertionError:
            return False
        return True

    def _alerts(self) -> list[dict[str, Any]]:
        return list(self._listener.alerts.values())

    def _say(self, devices: list[str]) -> None:
        """Let each device publish a reading."""
        content = self._reading(20 + self._said % 7)
        self._sensor.publish([Message(f"plant/{device}", content, "pumps", device, 1) for device in devices])

    def _mark(self) -> None:
        """Wait until all is taken in that was published: a device that speaks once, out of range, alarms."""
        self._marks += 1
        device = f"mark-{self._marks}"
        self._sensor.publish([Message(f"plant/{device}", self._reading(1000), "pumps", device, 1)])
        self._service.keep_alive(lambda: self._listener.has_heard_of(device), 60.0, "a mark is published")

    def _reading(self, value: float) -> bytes:
        """Return a reading; its own time goes on by a second each, whatever the service's clock does."""
        self._said += 1
        ts = (BEGIN + timedelta(seconds=self._said)).isoformat()
        return json.dumps({"ts": ts, "values": {"v": value}}).encode()

    def _kill(self, probability: float, within_s: float) -> None:
        if self._chance is not None and self._chance.random() < probability:
            sleep(self._chance.uniform(0.0, within_s))
            self._service.kill()
            self._service.fork()
            self.kills += 1
