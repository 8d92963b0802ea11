"""The pages of the repository as tests see them: blocks of code, headings, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    path
    for path in (
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *sorted(DOCS.rglob("*.md")),
        *sorted((ROOT / "deploy").rglob("*.md")),
    )
    if path.exists()
]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')
_HEADING = re.compile(r"^#{1,6} +(.+?) *(?:\{ *#([\w-]+) *\})? *$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: Where it stands.
        language: As the fence says.
        title: Of the fence, empty where it has none.
        text: What is in it.
        number: Of the block in its page, from 1.
    """

    page: Path
    language: str
    title: str
    text: str
    number: int

    def __str__(self) -> str:
        """Return page and number, as a name of a test."""
        return f"{self.page.relative_to(ROOT).as_posix()}-{self.number}"


def blocks(*pages: Path, language: str | None = None) -> Iterator[Block]:
    """Yield the blocks of pages, all pages where none is named, in order."""
    for page in pages or PAGES:
        for number, found in enumerate(_FENCE.finditer(page.read_text(encoding="utf-8")), start=1):
            if language in {None, found["language"]}:
                title = _TITLE.search(found["info"])
                text = re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
                yield Block(page, found["language"], title[1] if title else "", text, number)


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def words(page: Path) -> Iterator[str]:
    """Yield what stands in backticks in the prose of a page."""
    return (found[1] for found in re.finditer(r"`([^`\n]+)`", prose(page)))


def links(page: Path) -> list[str]:
    """Return the targets of a page's links."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as mkdocs and the usual hosts of repositories make them."""
    found = set()
    for title, own in _HEADING.findall(prose(page)):
        plain = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)).strip().lower()
        found |= {own} if own else {re.sub(r"\s+", "-", plain)}
    return found
