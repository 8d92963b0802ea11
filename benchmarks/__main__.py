"""``python -m benchmarks``: throughput, CPU, latency, memory and start of the whole service.

The service writes what it takes to disk as it does in life; what that costs is told apart.

Ends with 0 however fast it was: the table puts each figure beside its floor, and people judge.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import broker, detector, latency, memory
from benchmarks.flood import Flood
from benchmarks.throughput import Rounds
from benchmarks.workload import ANOMALIES, DEVICES, HISTORY, messages

if TYPE_CHECKING:
    from benchmarks.latency import Latency
    from benchmarks.throughput import Throughput

FLOORS = {0: 0.9, 1: 0.8}
"""Of the service's rate / a bare paho client's, by QoS."""
PRICES = ((0, "none"), (1, "checkpoint"), (1, "none"))
"""QoS and durability of the streams that show what the usual durability costs."""
SPELLS = 3


@dataclass(frozen=True, slots=True)
class Size:
    """How long a run takes.

    Attributes:
        rounds: Of each receiver and QoS.
        passes: Readings of each device in a round.
        latency_s: A spell at half load; there are three for each QoS.
        devices: For the memory.
        starts: Of the service.
    """

    rounds: int
    passes: int
    latency_s: float
    devices: int
    starts: int


FULL = Size(rounds=5, passes=200, latency_s=2.0, devices=100_000, starts=5)
QUICK = Size(rounds=3, passes=40, latency_s=0.5, devices=10_000, starts=3)


@dataclass(frozen=True, slots=True)
class Life:
    """Start and memory of the service.

    Attributes:
        start_s: From the start of the process to subscribed, the median.
        fresh_mb: Resident memory then.
        used_mb: After the run.
    """

    start_s: float
    fresh_mb: float
    used_mb: float


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="in less than 40 s; less exact")
    size = QUICK if parser.parse_args().quick else FULL
    mosquitto = broker.find()
    print(_machine(mosquitto), flush=True)
    with tempfile.TemporaryDirectory() as folder, broker.running(mosquitto, Path(folder)) as port:
        starts = []
        for _ in range(size.starts):
            with detector.running(port, Path(folder) / "service") as service:
                starts.append(service.start_s)
        rates, delays, life = _run(port, Path(folder) / "service", size, starts)
    _print(rates, delays, life, memory.bytes_per_device(size.devices), size)


def _run(
    port: int, folder: Path, size: Size, starts: list[float]
) -> tuple[list[Throughput], list[Latency], Life]:
    start = datetime.now(UTC).replace(microsecond=0) - HISTORY
    rates: list[Throughput] = []
    delays: list[Latency] = []
    first = fresh_mb = used_mb = 0
    with Flood(port, start) as flood, latency.listening(port):
        for qos, durability in (*((qos, None) for qos in FLOORS), *PRICES):
            place = folder / f"{qos}-{durability}"
            place.mkdir(parents=True)
            with detector.running(port, place, qos=qos, durability=durability) as service:
                fresh_mb = fresh_mb or service.rss_mb()
                rounds = Rounds(port, service, flood, size.passes, first)
                rounds.warm_up()
                found = rounds.measure(qos, durability, size.rounds)
                first = rounds.next_reading
                rates.append(found)
                if durability is None:
                    passes = max(1, int(found.service.rate / 2 * size.latency_s / DEVICES))
                    spells = []
                    for _ in range(SPELLS):
                        spells.append(
                            latency.measure(port, qos, found.service.rate / 2, first, passes, start)
                        )
                        first += passes
                    delays.append(latency.middle(spells))
                    used_mb = service.rss_mb()
    return rates, delays, Life(median(starts), fresh_mb, used_mb)


def _machine(mosquitto: str) -> str:
    model = next(
        (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.machine(),
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("paho-mqtt", "numpy", "numba", "msgspec"))
    example = messages(0, 1).payloads[0]
    return (
        f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}\n"
        f"CPython {platform.python_version()}, {packages}, mosquitto {broker.version(mosquitto)}\n"
        f"{DEVICES} devices, 4 channels, {len(example)} bytes of JSON,"
        f" {ANOMALIES:.0%} of the readings beyond their range\n"
    )


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _print(
    rates: list[Throughput], delays: list[Latency], life: Life, bytes_a_device: float, size: Size
) -> None:
    print(f"{'':36}{'service':>12}{'bare paho':>12}{'ratio':>8}{'floor':>7}  rounds")
    for found in rates:
        what = f"QoS {found.qos}" + (f", durability {found.durability}" if found.durability else "")
        floor = "" if found.durability else f"{FLOORS[found.qos]}"
        each = " ".join(f"{ratio:.2f}" for ratio in found.ratios)
        print(
            f"{f'{what}: messages/s':36}{found.service.rate:>12,.0f}{found.bare.rate:>12,.0f}"
            f"{found.ratio:>8.2f}{floor:>7}  {each}"
        )
        print(f"{'  CPU µs a message':36}{found.service.cpu_us:>12.1f}{found.bare.cpu_us:>12.1f}")
    for delay in delays:
        what = f"QoS {delay.qos}: publish to alert, ms"
        print(
            f"{what:36}{delay.p50:>8.1f} p50{delay.p99:>8.1f} p99   at {delay.rate:,.0f} messages/s (half"
            f" load); {delay.alerts} alerts"
        )
    print(f"{'bytes a device':36}{bytes_a_device:>12,.0f}   at {size.devices:,} devices, window 64")
    print(f"{'start to subscribed, s':36}{life.start_s:>12.2f}   median of {size.starts}")
    print(f"{'resident memory, MB':36}{life.fresh_mb:>12.0f}   {life.used_mb:.0f} after the run")


if __name__ == "__main__":
    main()
