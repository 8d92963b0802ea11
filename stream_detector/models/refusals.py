"""Why a bundle is not used: the closed list of reasons, and the sentence that goes with one.

What a bundle's files say ends up in logs and on screens, so no text of theirs gets there as it is.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from stream_detector.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REASONS = (
    # of the files, read as they stand
    "missing",  # no such folder or file, or PyOD is not installed
    "not_a_file",  # a link, pipe, device or folder stands in a file's place
    "too_large",  # as it stands, or unpacked
    "unreadable",  # no permission, or the disk fails
    "manifest",  # not the manifest of this bundle
    "hash",  # model.skops is not the file that the manifest was written for
    "archive",  # model.skops is damaged, or was not written by skops
    # of what is in them
    "untrusted_type",  # the file holds a type that the detector does not need
    "detector",  # not known, or the estimator is not sound
    "features",  # unknown or named twice, or not those of its columns or of its stream
    "probe",  # it does not give the scores it had, or the same for all
    "not_finite",  # it gives no number
    # of the trial in a process of its own
    "timeout",  # it does not come to an end, or is too slow to follow a stream
    "memory",  # it needs more than a model may
    "crash",  # the process died of it
    "unproven",  # the machine could not run the trial, which says nothing about the bundle
)


def refused(folder: Path, what: str, reason: str) -> BundleError:
    """Return the error that refuses the bundle in a folder."""
    return BundleError(
        f"bundle {folder} is refused: {what}; train the model again, or restore the folder.",
        reason=reason,
    )


@contextlib.contextmanager
def refusing(folder: Path, what: str, reason: str) -> Iterator[None]:
    """Refuse a bundle for whatever goes wrong inside: a damaged one fails anywhere, in any way."""
    try:
        yield
    except BundleError:
        raise
    except MemoryError as error:
        raise refused(folder, f"{what}: it needs more memory than a model may", "memory") from error
    except Exception as error:
        raise refused(folder, f"{what}: {brief(error)}", reason) from error


def brief(error: Exception) -> str:
    """Return what fits of an error into one sentence: its first line, cut."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return printable(line[:200])


def printable(text: str) -> str:
    r"""Return a text with a question mark for what would change the line it is printed in.

    Example:
        >>> printable("up\x1b[A, or\u202e back")
        'up?[A, or? back'
    """
    return "".join(character if character.isprintable() else "?" for character in text)
