"""Make docs/reference from the code: settings, metrics, commands, messages, and what is published.

    .venv/bin/python docs/generate.py            write the pages
    .venv/bin/python docs/generate.py --check    say whether they are current, exit code 1 if not

A page is a module of `generating`.
"""
# ruff: noqa: INP001, T201 - a script that talks to a terminal, not a package

from __future__ import annotations

import sys
from pathlib import Path

from generating import commands, messages, metrics, published, rejections, requests, settings

FOLDER = Path(__file__).parent / "reference"
PAGES = {
    "settings.md": settings.make,
    "metrics.md": metrics.make,
    "commands.md": commands.make,
    "alerts.md": published.make,
    "requests.md": requests.make,
    "rejections.md": rejections.make,
    "messages.md": messages.make,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them; return the exit code."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    pages = {FOLDER / name: make() for name, make in PAGES.items()}
    if not arguments:
        FOLDER.mkdir(exist_ok=True)
        for path, text in pages.items():
            path.write_text(text, encoding="utf-8")
        return 0
    old = [
        path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in old:
        print(f"docs/reference/{path.name} is not what the code says; run `make docs`", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
