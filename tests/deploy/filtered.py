"""Run a program under the system call filter of the systemd unit: `python filtered.py UNIT PROGRAM WORD...`.

systemd itself does not run here. What SystemCallFilter= means is expanded by `systemd-analyze`, and loaded
by the library that systemd uses for it; a call that is not allowed fails with EPERM, as in the unit.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

ALLOW = 0x7FFF0000
EPERM = 0x00050000 | 1


def expanded(name: str) -> set[str]:
    """Return the calls of a group such as ``@system-service``, groups within it included."""
    if not name.startswith("@"):
        return {name}
    told = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", name], capture_output=True, text=True, check=True
    )
    words = re.findall(r"^ +([@\w-]+)$", told.stdout, re.MULTILINE)
    return {call for word in words for call in expanded(word)}


def allowed_by(unit: str) -> set[str]:
    """Return the calls that a unit allows: its lines in order, those with ``~`` take away."""
    calls = expanded("@default")
    for line in re.findall(r"(?m)^SystemCallFilter=(.*)$", unit):
        groups = {call for word in line.removeprefix("~").split() for call in expanded(word)}
        calls = calls - groups if line.startswith("~") else calls | groups
    return calls


def confine(calls: set[str]) -> None:
    """Allow this process, and what it becomes, these calls only."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    filters = library.seccomp_init(ctypes.c_uint32(EPERM))
    for call in sorted(calls):
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # else of another architecture
            library.seccomp_rule_add(filters, ALLOW, number, 0)
    if library.seccomp_load(filters):
        raise OSError("the filter cannot be loaded")


if __name__ == "__main__":
    confine(allowed_by(Path(sys.argv[1]).read_text()))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - what this is for
