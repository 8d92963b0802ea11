"""How a proof reports what it has found: one line, and on failure enough to repeat it."""

from __future__ import annotations

import platform
import sqlite3
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version

from tests.brokers import MOSQUITTO

SHOWN = 12


@dataclass(slots=True)
class Result:
    """What a proof has found.

    Attributes:
        name: Of the proof.
        text: The figures.
        problems: Sentences; none: it holds.
    """

    name: str
    text: str
    problems: list[str] = field(default_factory=list)

    def line(self, seed: int, seconds: float) -> str:
        """Return the one line, with what is wrong below it."""
        word = "FAIL" if self.problems else "PASS"
        lines = [f"{self.name:<10} {word}  {self.text}  seed {seed}  {seconds:.0f} s"]
        lines += ["    " + problem.replace("\n", "\n        ") for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"    and {len(self.problems) - SHOWN} more")
        if self.problems:
            lines.append(f"    again: make faults ARGS='--only {self.name} --seed {seed}'")
        return "\n".join(lines)


def versions() -> str:
    """Return what the proofs ran on."""
    assert MOSQUITTO is not None
    said = subprocess.run([MOSQUITTO, "-h"], capture_output=True, text=True, check=False).stdout
    mosquitto = said.split()[2] if said else "?"
    return (
        f"python {platform.python_version()}, sqlite {sqlite3.sqlite_version}, mosquitto {mosquitto},"
        f" paho {version('paho-mqtt')}, {platform.system()} {platform.release()}"
    )
