"""The configuration: a file, then the environment over it.

Read `root` (the sections, and what must fit together), `streams` (those of a stream), `loading` (how a
file becomes settings) and `mistakes` (how a mistake becomes a sentence). The other sections stand beside
the code that uses them: `mqtt/settings`, `formats/settings`, `outputs/settings`, `storage/settings` and
`web/settings`.
"""

from stream_detector.settings.loading import load, validate
from stream_detector.settings.root import ENV_PREFIX, Settings
from stream_detector.settings.streams import BUILT_IN_MODELS, AlertSettings, StreamSettings

__all__ = ["BUILT_IN_MODELS", "ENV_PREFIX", "AlertSettings", "Settings", "StreamSettings", "load", "validate"]
