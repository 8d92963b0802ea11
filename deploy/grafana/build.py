"""Make the dashboards of deploy/grafana/dashboards from code.

    .venv/bin/python deploy/grafana/build.py            write them
    .venv/bin/python deploy/grafana/build.py --check    say whether they are current, exit code 1 if not

A dashboard is a module of `building`; what they have in common is in `building.panels`.
"""
# ruff: noqa: INP001, T201 - a script that talks to a terminal, not a package

from __future__ import annotations

import sys
from pathlib import Path

from building import device, fleet, service
from grafana_foundation_sdk.cog.encoder import JSONEncoder

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = {"fleet.json": fleet.make, "device.json": device.make, "service.json": service.make}


def main(arguments: list[str]) -> int:
    """Write the dashboards, or compare them; return the exit code."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    encoder = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False)
    texts = {FOLDER / name: encoder.encode(make()) + "\n" for name, make in DASHBOARDS.items()}
    if not arguments:
        FOLDER.mkdir(exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        return 0
    old = [
        path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in old:
        print(
            f"deploy/grafana/dashboards/{path.name} is not what the code says;"
            " run `.venv/bin/python deploy/grafana/build.py`",
            file=sys.stderr,
        )
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
