"""The alert policy: when an alert opens, speaks again and closes, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_detector.core.events import Kind, Severity
    from stream_detector.core.records import Role

STORM_US = 60_000_000
STORM = 12
"""A device's readings make at most so many events in a minute of arrival: whatever times it gives them."""


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """When an alert opens, speaks again and closes.

    Attributes:
        raise_n: So many anomalous readings ...
        raise_m: ... of the last so many raise it.
        clear_after: So many normal readings in a row clear it.
        cooldown: A relapse within this time after the end opens the same alert again, µs.
        min_severity: Anomalies below it raise nothing.
        critical_from: Score from which an alert is critical.
        update_every: At most one update in this time, µs.
        of_roles: N and M of detectors that have their own.
    """

    raise_n: int = 1
    raise_m: int = 1
    clear_after: int = 10
    cooldown: int = 60_000_000
    min_severity: Severity = "warning"
    critical_from: float = 2.0
    update_every: int = 60_000_000
    of_roles: Mapping[Role, tuple[int, int]] = field(default_factory=dict)

    def raise_after(self, role: Role) -> tuple[int, int]:
        """Return N and M for the verdicts of a detector."""
        return self.of_roles.get(role, (self.raise_n, self.raise_m))

    def at_once(self) -> AlertPolicy:
        """Return the policy for kinds that are certain from one reading: raise at the first."""
        return replace(self, raise_n=1, raise_m=1, of_roles={})

    def severity(self, score: float) -> Severity:
        """Return how bad a score is."""
        return "critical" if score >= self.critical_from else "warning"


def policy_of(kind: Kind, policy: AlertPolicy) -> AlertPolicy:
    """Return the policy of a kind: those that are certain from one reading are raised at the first."""
    match kind:
        case "point":
            return policy
        case "range" | "stuck" | "data_quality":
            return policy.at_once()
        case "silence":
            return replace(policy.at_once(), clear_after=1)
        case _:
            assert_never(kind)
