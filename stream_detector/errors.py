"""What can go wrong, in the words of the person who has to mend it.

Every message is one sentence that says what is wrong, where, and what to do. The facts are also
attributes, so that code never parses a message. The command line prints the message alone and ends
with `exit_code`; nobody ever sees a traceback.
"""

from __future__ import annotations


class StreamDetectorError(Exception):
    """The root of all errors that this package raises on purpose."""

    exit_code = 1


class ConfigurationError(StreamDetectorError):
    """The configuration, or a command's arguments, cannot be meant like that.

    Args:
        message: One sentence: where, what came, what is legal.
        key: The key path, such as ``streams.pumps.window``, where there is one.
    """

    exit_code = 2

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class BrokerError(StreamDetectorError):
    """The broker cannot be reached, refuses us, or does not keep what we need."""


class BundleError(StreamDetectorError):
    """A model bundle is refused.

    Args:
        message: One sentence: which bundle, what is wrong, what to do.
        reason: A word from `stream_detector.models.bundle.REASONS`, used as a metric label.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DataError(StreamDetectorError):
    """A recording cannot be read."""


class StateError(StreamDetectorError):
    """What stands in ``state_dir`` cannot be used: damaged, of a newer version, or in use."""

    exit_code = 3


class StorageError(StreamDetectorError):
    """Something could not be written to ``state_dir``; nothing of it was, and it may be tried again.

    Args:
        message: One sentence: what, where, what to do.
        reason: ``full``, ``io``, ``read_only`` or ``other``.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
