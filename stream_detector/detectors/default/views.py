"""The views of a channel: what is looked at, and what each of them takes to find something unusual."""

from __future__ import annotations

VIEWS = ("value", "hour", "spread", "dwell", "step")
"""Their names, in the order of the arrays."""

VALUE, HOUR, SPREAD, DWELL, STEP = range(len(VIEWS))

CALM = 10
"""An episode has returned after so many readings that are usual again."""
PATIENCE = 350
"""What has lasted for so many readings is accepted as the new normal, ..."""
FAR_PATIENCE_S = 172_800.0
"""... but not before two days have passed where it never came near to what was known."""
RELAPSE = 60
"""What begins again within so many readings has not ended: its patience goes on."""

RATE = 0.2
"""A view that is often unusual has to be more so: the threshold grows by this share with each raise, ..."""
RATE_HALF_LIFE = 8000.0
"""... and a raise counts half after so many readings."""
HELD_LONG = 20
"""A fault may be critical once it was seen in so many readings, or lies far outside."""
NOT_CRITICAL = 1.9
"""The highest score of what may not be critical yet."""

BELOW = 0.999
"""The highest score of what is not anomalous."""
