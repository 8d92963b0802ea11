"""Series of single devices: what they show, for whom, for how long, and while others read them."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from stream_detector.core.records import Forgotten
from stream_detector.errors import ConfigurationError
from stream_detector.outputs.device_series import HOLD_S, SWEEP_S, DeviceSeries
from stream_detector.settings import validate
from tests.harness import Bench

STREAM = "pumps"
WARM_UP = 100


class Watched:
    """The service without its sockets, with series of `most` devices and a clock set by hand."""

    def __init__(self, most: int, ttl_s: float = 3600.0, **stream: Any) -> None:
        self.now = 0.0
        self.series = DeviceSeries(most, ttl_s, clock=lambda: self.now)
        self.bench = Bench(series=self.series, max_devices=100, **stream)
        self._sent = 0

    def send(self, *readings: tuple[str, dict[str, float]], pass_s: float = 1.0) -> list[dict[str, Any]]:
        """Take one reading of each device in, as one batch; return what is published."""
        self.now += pass_s
        messages = []
        for device, values in readings:
            self._sent += 1
            messages.append((f"plant/n/{device}", {"ts": 1_767_225_600 + self._sent, "values": values}))
        return self.bench.send(*messages)

    def warm_up(self, device: str) -> None:
        """Send as many readings as it takes to get a score."""
        for k in range(WARM_UP + 1):
            self.send((device, {"x": 2.0 + k % 7, "y": 10.0 + k % 5}))

    def shown(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Return the series of a metric that have these labels, by the values of their other labels."""
        wanted = {"stream": STREAM, **labels}.items()
        return {
            tuple(value for label, value in sorted(its) if label not in dict(wanted)): sample
            for (found, its), sample in self.bench.samples().items()
            if found == name and wanted <= dict(its).items()
        }

    def devices(self) -> list[str]:
        """Return which devices have series, in the order in which they got them."""
        return [device for _, device in self.shown("device_value")]

    def dropped(self) -> float:
        """Return what the overflow counter says."""
        return self.bench.total("device_series_dropped_total")


def test_none_where_nobody_asks() -> None:
    """Off, no device is named anywhere on the page, and the overflow counter stays at 0."""
    bench = Bench()
    for k in range(WARM_UP):
        bench.send(("plant/n/pump-one", {"ts": 1_767_225_600 + k, "values": {"x": k % 7}}))
    assert not any("pump-one" in dict(labels).values() for _, labels in bench.samples())
    assert bench.total("device_series_dropped_total") == 0


def test_what_is_shown_is_what_the_alert_says() -> None:
    """Score, values and expected values of the reading that raises are those in its alert."""
    watched = Watched(5)
    watched.warm_up("p")
    published = watched.send(("p", {"x": 99.0, "y": 11.0}))
    alert = next(each for each in published if each["schema"] == "stream_detector.alert/1")
    assert watched.shown("device_score", device="p") == {(): alert["score"]}
    assert watched.shown("device_value", device="p") == {
        (channel,): value for channel, value in alert["values"].items()
    }
    expected = {
        (bound, channel): value
        for channel, band in alert["expected"].items()
        for bound, value in band.items()
    }
    assert len(expected) == 6
    assert watched.shown("device_expected", device="p") == pytest.approx(expected)


def test_before_the_first_score() -> None:
    """While a device warms up its values are there, and neither a score nor a band."""
    watched = Watched(5)
    watched.send(("p", {"x": 1.0}))
    watched.send(("p", {"x": 2.0}))
    assert watched.shown("device_value", device="p") == {("x",): 2.0}
    assert watched.shown("device_score") == watched.shown("device_expected") == {}


def test_channels_that_come_one_by_one() -> None:
    """Each channel keeps its last value; one that was never reported has no series."""
    watched = Watched(5, channels={"x": {}, "y": {}, "z": {}})
    watched.send(("p", {"x": 1.0}), ("p", {"y": 5.0}))
    watched.send(("p", {"x": 2.0}))
    assert watched.shown("device_value", device="p") == {("x",): 2.0, ("y",): 5.0}


def test_an_anomalous_reading_stays_until_it_was_seen() -> None:
    """For some seconds, however many usual ones follow, in its batch or later; but a worse one comes in."""
    watched = Watched(5)
    watched.warm_up("p")
    watched.send(("p", {"x": 90.0, "y": 11.0}), ("p", {"x": 3.0, "y": 12.0}))
    first = watched.shown("device_score", device="p")[()]
    assert first >= 1.0
    watched.send(("p", {"x": 4.0, "y": 12.0}))
    assert watched.shown("device_score", device="p") == {(): first}
    assert watched.shown("device_value", device="p")["x",] == 90.0
    watched.send(("p", {"x": 5.0, "y": 12.0}), ("p", {"x": 1e6, "y": 12.0}))
    assert watched.shown("device_value", device="p")["x",] == 1e6
    assert watched.shown("device_score", device="p")[()] > first
    watched.send(("p", {"x": 5.0, "y": 12.0}), pass_s=HOLD_S)
    assert watched.shown("device_value", device="p") == {("x",): 5.0, ("y",): 12.0}
    assert watched.shown("device_score", device="p")[()] < 1.0


def test_late_and_repeated_readings_change_nothing() -> None:
    """What is older than the newest reading is not shown."""
    watched = Watched(5)
    watched.warm_up("p")
    before = watched.shown("device_value"), watched.shown("device_score")
    watched.bench.send(("plant/n/p", {"ts": 1_767_225_601, "values": {"x": 77.0}}))
    assert (watched.shown("device_value"), watched.shown("device_score")) == before


def test_who_comes_first_has_series() -> None:
    """Over all, no more than so many; each batch that a further device is in is counted once for it."""
    watched = Watched(2)
    watched.send(*((name, {"x": 1.0}) for name in ("a", "b", "c", "d", "c")))
    assert watched.devices() == ["a", "b"]
    assert watched.dropped() == 2
    watched.send(("d", {"x": 2.0}), ("a", {"x": 2.0}))
    assert watched.devices() == ["a", "b"]
    assert watched.dropped() == 3


def test_who_is_not_heard_gives_its_place_away() -> None:
    """After the time to live its series are gone, and one that comes then has them."""
    watched = Watched(2, ttl_s=60.0)
    watched.send(("a", {"x": 1.0}), ("b", {"x": 1.0}), ("c", {"x": 1.0}))
    watched.send(("b", {"x": 2.0}), pass_s=50.0)
    watched.now += 10.0
    assert watched.devices() == ["b"], "also while nothing comes at all"
    watched.send(("c", {"x": 2.0}), ("d", {"x": 2.0}), pass_s=SWEEP_S)
    assert watched.devices() == ["b", "c"]
    watched.send(("a", {"x": 3.0}))
    assert watched.devices() == ["b", "c"], "it is one of many now"
    assert watched.dropped() == 3


def test_a_forgotten_device_has_no_series() -> None:
    """Its series go with it, and its place is free at once."""
    watched = Watched(1)
    watched.send(("a", {"x": 1.0}), ("b", {"x": 1.0}))
    watched.bench.record(Forgotten(watched.bench.now, STREAM, "a"))
    assert watched.devices() == []
    watched.send(("b", {"x": 1.0}))
    assert watched.devices() == ["b"]


def test_a_scrape_while_readings_come() -> None:
    """Whatever the hot thread does, each scrape sees devices as they were after some batch: whole."""
    watched = Watched(40, ttl_s=5.0, channels={"x": {}, "y": {}})
    done, problems = threading.Event(), []

    def scrape() -> None:
        while not done.is_set():
            by_device: dict[str, list[float]] = {}
            try:
                for (_channel, device), value in watched.shown("device_value").items():
                    by_device.setdefault(device, []).append(value)
            except Exception as error:  # noqa: BLE001 - any is one too many
                problems.append(repr(error))
            problems.extend(f"{device}: {both}" for device, both in by_device.items() if len({*both}) > 1)

    thread = threading.Thread(target=scrape)
    thread.start()
    until = time.monotonic() + 1.5
    k = 0
    while time.monotonic() < until:
        k += 1
        watched.send(*((f"p{(k + i) % 60}", {"x": float(k), "y": float(k)}) for i in range(30)))
    done.set()
    thread.join()
    assert not problems
    assert k > 10


@pytest.mark.parametrize("listen", ["0.0.0.0:8808", "[::]:8808", "192.0.2.7:8808"])
def test_names_are_shown_to_strangers_only_where_told(listen: str) -> None:
    """Beyond loopback the series need a second word, and the refusal says which."""
    content: dict[str, Any] = {
        "streams": {STREAM: {"topic": "plant/{device}"}},
        "http": {"listen": listen, "token": "0123456789abcdef"},
        "metrics": {"device_series": 200},
    }
    with pytest.raises(ConfigurationError) as refused:
        validate(content, where="config.yaml")
    assert str(refused.value) == (
        "config.yaml: metrics.device_series would show names and values of devices to whoever reaches"
        f" {listen}; set metrics.device_series_public: true if they may be read there,"
        " else metrics.device_series: 0"
    )
    content["metrics"]["device_series_public"] = True
    assert validate(content, where="config.yaml").metrics.device_series == 200
    content["metrics"] = {}
    assert validate(content, where="config.yaml").metrics.device_series == 0
    content |= {"http": {"listen": "127.0.0.1:8808"}, "metrics": {"device_series": 200}}
    assert validate(content, where="config.yaml").metrics.device_series == 200


def test_a_burst_shows_what_the_alert_says() -> None:
    """However fast readings come, the band beside an anomalous one is that of its alert."""
    bench = Bench(series=DeviceSeries(1))
    usual = [("plant/n/p", {"ts": 1_769_990_000 + k, "values": {"x": 5 + k % 3}}) for k in range(150)]
    bench.send(*usual)
    published = bench.send(("plant/n/p", {"ts": 1_769_990_200, "values": {"x": 90}}))
    (alert,) = [one for one in published if "alert" in one["schema"]]
    assert alert["expected"]["x"]["upper"] > 6
    for bound, value in alert["expected"]["x"].items():
        assert bench.total("device_expected", device="p", bound=bound) == value
