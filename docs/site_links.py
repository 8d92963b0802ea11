"""For mkdocs: a link that leaves docs/, to a file of the repository, becomes the name of that file.

The pages are read in the repository too, where such a link leads somewhere; a site has no such place.
"""
# ruff: noqa: INP001 - a hook that mkdocs loads by its path

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)#]*)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return a page's text without links that leave the site."""
    folder = posixpath.dirname(page.file.src_uri)

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path.startswith("docs/"):
            return found[0]
        return f"`{path}`" if text.strip("`") in {path, posixpath.basename(path)} else f"{text} (`{path}`)"

    return LINK.sub(link, markdown)
