"""What we listen to: filters that the broker has granted, refuses, or shall forget.

Needed filters are asked for in one packet, and again, after a pause, where they are refused. Optional ones
are asked for one by one once those stand, since some brokers hang up instead of refusing: one that was
never answered, twice, is given up. What an earlier configuration wanted is given back, or the
session would bring it for ever.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from paho.mqtt.subscribeoptions import SubscribeOptions

from .backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .client import Client


class Subscriptions:
    """The filters of one link.

    Args:
        wanted: Filters and their QoS.
        optional: Those of them that we can do without.
        replayed: Those whose retained messages are wanted at each login, not only where they are new.
        formerly: Filters of an earlier configuration, which the broker's session may still hold.

    Attributes:
        granted: Whether all that are needed stand.
        denied: Optional ones that the broker did not grant.
        formerly: Those that are not given back yet.
    """

    def __init__(
        self,
        wanted: Sequence[tuple[str, int]],
        *,
        optional: Collection[str] = (),
        replayed: Collection[str] = (),
        formerly: Collection[str] = (),
    ) -> None:
        self.granted = False
        self.denied: set[str] = set()
        self.formerly = sorted(set(formerly) - {name for name, _ in wanted})
        self._needed = [each for each in wanted if each[0] not in optional]
        self._optional = [each for each in wanted if each[0] in optional]
        self._replayed = replayed
        self._suspects: set[str] = set()  # optional filters that were never answered
        self._pause = Backoff(60.0)
        self._missing: list[tuple[str, int]] = []
        self._asked: dict[int, list[tuple[str, int]]] = {}  # SUBSCRIBE id -> filters
        self._ask_again_at = 0.0
        self._trying = 0  # SUBSCRIBE id of the optional filter that we wait to hear about
        self._tried = 0  # how many of them were asked for

    def begin(self) -> None:
        """Begin after a login."""
        self._missing, self._asked = list(self._needed), {}
        self._ask_again_at, self._trying, self._tried = 0.0, 0, 0
        self.granted = not self._missing

    def end(self) -> None:
        """Note that the connection is gone."""
        self.granted = False
        if self._trying:
            self._trying = 0
            name, _ = self._optional[self._tried - 1]
            # Once may be chance, but not where a broker is asked for what it may not have at all.
            if name in self._suspects or name.startswith("$SYS/"):
                self.denied.add(name)
                del self._optional[self._tried - 1]
            self._suspects.add(name)

    def pursue(self, client: Client, *, mqtt5: bool, session_present: bool) -> None:
        """Ask for what is missing, where it is time to."""
        if self._missing and monotonic() >= self._ask_again_at:
            missing, self._missing = self._missing, []
            self._asked[self._ask(client, missing, mqtt5=mqtt5)] = missing
            # Not given back earlier: where old and new overlap, nothing slips between.
            if not session_present:
                self.formerly = []
            elif self.formerly:
                client.unsubscribe(self.formerly)
        if self.granted and not self._trying and self._tried < len(self._optional):
            self._trying = self._ask(client, [self._optional[self._tried]], mqtt5=mqtt5)
            self._tried += 1

    def answered(self, packet_id: int, codes: Sequence[Any]) -> tuple[str, str] | None:
        """Take the broker's answer; return the first needed filter that it refuses, and its word for it."""
        if packet_id == self._trying:
            self._trying = 0
            name, _ = self._optional[self._tried - 1]
            self._suspects.discard(name)
            (self.denied.add if codes[0].is_failure else self.denied.discard)(name)
            return None
        asked = self._asked.pop(packet_id, [])
        refused = [(each, code) for each, code in zip(asked, codes, strict=False) if code.is_failure]
        self._missing += [each for each, _ in refused]
        self.granted = not self._missing and not self._asked
        if refused:
            self._ask_again_at = monotonic() + self._pause.pause()
            (name, _), code = refused[0]
            return name, str(code)
        self._pause.reset()
        return None

    def returned(self, codes: Sequence[Any]) -> None:
        """Take the answer to what was given back; 3.1.1 has no codes, and then all of it is gone."""
        self.formerly = [name for name, code in zip(self.formerly, codes, strict=False) if code.is_failure]

    def _ask(self, client: Client, filters: list[tuple[str, int]], *, mqtt5: bool) -> int:
        """Ask for filters: nothing that we publish, and most retained messages only where a filter is new.

        Returns:
            The packet id, under which the answer comes; 0 where the connection is gone.
        """
        wanted: list[Any] = filters
        if mqtt5:
            wanted = [
                (
                    name,
                    SubscribeOptions(
                        qos=qos, noLocal=True, retainHandling=0 if name in self._replayed else 1
                    ),
                )
                for name, qos in filters
            ]
        return client.subscribe(wanted)[1] or 0
