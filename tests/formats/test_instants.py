"""Readings without a time of their own follow one another, whatever else arrives with them."""

from __future__ import annotations

from itertools import pairwise

from tests.harness import Bench

LIST = [{"values": {"x": k}} for k in range(100)]


def test_lists_without_times_do_not_overtake_what_follows() -> None:
    """Three lists of one read, a single reading, and the next read: every reading counts."""
    bench = Bench()
    bench.send(*[("plant/n/p", LIST)] * 3, ("plant/n/p", {"values": {"x": 1}}))
    bench.now -= 999_900  # the next read comes a tenth of a millisecond later
    bench.send(("plant/n/p", LIST))
    assert bench.total("readings_accepted_total") == 401
    assert bench.total("readings_late_total") == bench.total("readings_duplicate_total") == 0


def test_each_reading_without_a_time_has_an_instant_of_its_own() -> None:
    """Event times ascend strictly, over messages, elements and reads."""
    bench = Bench()
    times: list[int] = []
    for _ in range(2):
        taken = bench.engine.intake.take(
            [b"plant/n/p", b"plant/n/q"],
            [b'[{"values":{"x":1}},{"values":{"x":1}}]', b'{"values":{"x":1}}'],
            [0, 0],
            bench.now,
        )
        times += [int(ts) for readings in taken.readings for ts in readings.ts]
    assert len(times) == 6
    assert all(earlier < later for earlier, later in pairwise(times))


def test_one_device_cannot_use_up_the_room_for_sets_of_channels() -> None:
    """What is refused is not remembered: after a flood of other channel names a good device is taken."""
    bench = Bench()
    for k in range(500):
        bench.send(("plant/n/bad", {"values": {f"x{k}": 1}}))
    assert bench.total("messages_rejected_total", reason="channel_limit") == 500 - 32
    bench.send(("plant/n/good", {"values": {"temperature": 1}}))
    assert bench.total("messages_accepted_total") == 33
