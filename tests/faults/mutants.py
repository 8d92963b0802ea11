"""Proof 6: the proofs can fail. A service that is spoilt on purpose must not pass them.

Each mutant is the package with one piece of text replaced. It is copied, with what is compiled, to a
folder of its own that comes first on the import path, and the proofs run against it as they do
against the package; one of those that it names has to fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.proof import Result

if TYPE_CHECKING:
    from tests.faults.forks import ForkServer

ROOT = Path(__file__).parents[2]
LONGEST_S = 600.0
AT_A_TIME = 3


@dataclass(frozen=True, slots=True)
class Mutant:
    """A way to be wrong.

    Attributes:
        name: In words.
        file: In the package.
        old: Text that stands there once.
        new: What stands there instead.
        caught_by: Proofs, of which one has to fail.
    """

    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]


MUTANTS = (
    Mutant(
        "acknowledge before commit",
        "service/loop.py",
        "        received = self._link.poll(POLL_S)\n        if received is not None:\n",
        "        received = self._link.poll(POLL_S)\n        if received is not None:\n"
        "            self._link.acknowledge(received)\n",
        ("order",),
    ),
    Mutant(
        "commit without fsync",
        "storage/store.py",
        'self._be_synchronous("FULL" if sync else "NORMAL")',
        'self._be_synchronous("NORMAL")',
        ("order",),
    ),
    Mutant(
        "no epoch check",
        "mqtt/link.py",
        "if self.connected and received.epoch == self.epoch and any(",
        "if self.connected and any(",
        ("logins",),
    ),
    Mutant(
        "no de-duplication by identity",
        "core/devices/acceptance.py",
        "known = known or identities[s, k] == identity",
        "known = False",
        ("failpoints",),
    ),
    Mutant(
        "no de-duplication by delivery",
        "formats/redeliveries.py",
        "return found is not None and found == digest_of(topic, payload)",
        "return False",
        ("failpoints",),
    ),
    Mutant(
        "outbox deletion before PUBACK",
        "service/delivery.py",
        "            for number, publication in outgoing:\n                self.put(publication, number)\n",
        "            for number, publication in outgoing:\n                self.put(publication, number)\n"
        "                self._persistence.confirm([number])\n",
        ("kills",),
    ),
    Mutant(
        "published before commit",
        "service/delivery.py",
        "        self._unwritten.append((decision, self._persistence.keep(decision), received))\n",
        "        kept = self._persistence.keep(decision)\n"
        "        for number, publication in kept:\n"
        "            self.put(publication, number)\n"
        "        self.pump()\n"
        "        self._unwritten.append((decision, [], received))\n",
        ("order",),
    ),
    Mutant(
        "the model's version in the id",
        "core/alerts/stream_alerts.py",
        "name = (self._spec.name, self._devices.names[slot], kind)",
        'name = (self._spec.name, self._devices.names[slot], kind + self._detectors["live"].version)',
        ("swap",),
    ),
)


def prove(forks: ForkServer, folder: Path, seed: int, mutants: tuple[Mutant, ...] = MUTANTS) -> Result:
    """Let each mutant run until a proof fails; several mutants at a time."""
    del forks  # a mutant has a fork server of its own
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        homes = (folder / str(number) for number in range(len(mutants)))
        found = list(pool.map(partial(_try, seed=seed), mutants, homes))
    caught = [text for text, problem in found if not problem]
    problems = [problem for _, problem in found if problem]
    return Result("mutants", f"{len(caught)} of {len(mutants)} caught: {', '.join(caught)}", problems)


def _try(mutant: Mutant, home: Path, seed: int) -> tuple[str, str]:
    """Return who has caught a mutant, or else the problem."""
    try:
        make(mutant, home)
    except ValueError as error:
        return "", str(error)
    by = next((proof for proof in mutant.caught_by if not _passes(proof, home, seed)), None)
    shutil.rmtree(home)
    if by is None:
        return "", f"survived: {mutant.name} (proofs {', '.join(mutant.caught_by)})"
    return f"{mutant.name} ({by})", ""


def make(mutant: Mutant, home: Path) -> None:
    """Copy the package to a folder and spoil it there.

    Raises:
        ValueError: The text to replace does not stand there exactly once.
    """
    home.mkdir(parents=True)
    shutil.copytree(ROOT / "stream_detector", home / "stream_detector")
    (home / "tests").symlink_to(ROOT / "tests")
    file = home / "stream_detector" / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.name}: {mutant.file} holds {text.count(mutant.old)} of {mutant.old!r}, not 1"
        )
    file.write_text(text.replace(mutant.old, mutant.new))


def _passes(proof: str, home: Path, seed: int) -> bool:
    """Return whether a mutant passes a proof; a proof that cannot be run at all is an error."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--least", "--seed", str(seed), "--only", proof],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert str(home) in ended.stdout, f"it ran against another package: {ended.stdout}{ended.stderr}"
    return ended.returncode == 0
