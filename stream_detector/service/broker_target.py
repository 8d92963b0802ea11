"""The broker as a target of delivery: what is published over MQTT, and why some of it does not get out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.mqtt.publisher import Publisher

if TYPE_CHECKING:
    from stream_detector.mqtt.link import Link
    from stream_detector.outputs.messages import Publication

ALERTS = "alert"


class BrokerTarget:
    """Publishes on one connection.

    Args:
        link: The connection.
        base: Our own topics stand below it.
        home_assistant_prefix: What Home Assistant reads stands below it.

    Attributes:
        publisher: What is on its way to the broker.
    """

    def __init__(self, link: Link, base: str, home_assistant_prefix: str) -> None:
        self.publisher = Publisher(link)
        self._base = base
        self._home_assistant_prefix = home_assistant_prefix

    @property
    def full(self) -> bool:
        """Whether the broker owes us so many confirmations that input should wait."""
        return self.publisher.full

    @property
    def overfull(self) -> bool:
        """Whether it owes us so many that input which cannot wait should be turned away."""
        return self.publisher.overfull

    def put(self, publication: Publication, number: int, at: int) -> None:
        """Publish something; see `stream_detector.service.delivery.Target.put`."""
        self.publisher.put(
            publication.topic,
            publication.payload,
            qos=publication.qos,
            retain=publication.retain,
            once=publication.once,
            correlation=publication.correlation,
            heard=publication.topic.startswith(f"{self._base}/{ALERTS}/"),
            number=number,
            at=at,
        )

    def pump(self) -> list[int]:
        """Send what the broker takes now; return the numbers that it has confirmed."""
        return self.publisher.pump()

    def reasons(self) -> list[str]:
        """Return why not everything gets out, as sentences."""
        reasons = []
        if (topic := self.publisher.denied) is not None:
            ours = topic.startswith(f"{self._base}/")
            wanted = f"{self._base}/#" if ours else f"{self._home_assistant_prefix}/device/#"
            reasons.append(
                f"the broker refuses what is published on {topic}; it is kept and tried again: allow our"
                f" login to write {wanted}"
            )
        if self.publisher.full:
            reasons.append(self._held_back())
        return reasons

    def _held_back(self) -> str:
        so_far = "input at QoS 0 is ignored" if self.publisher.overfull else "input at QoS 1 waits"
        if unheard := self.publisher.unheard:
            return (
                f"{unheard} alert events wait for somebody who subscribes to"
                f" {self._base}/{ALERTS}/#; {so_far}"
            )
        return f"the broker does not confirm what is published; {so_far}"
