"""The pages as a site: links lead somewhere, it is built without a warning, and read without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urlsplit

import pytest

from tests.pages import DOCS, PAGES, ROOT, anchors, links

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of the repository finds it, and the heading in it."""
    for link in links(page):
        target, anchor = urldefrag(link)
        if urlsplit(target).scheme:
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path), link


class Html(HTMLParser):
    """What a page of the site loads when it is opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the browser fetches without being asked."""
        found = dict(attrs)
        for name in (
            "src",
            "srcset",
            "data",
            "poster",
            *(("href",) if tag in {"link", "use", "image"} else ()),
        ):
            if value := found.get(name):
                self.loaded.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make site` does, elsewhere."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_is_built_without_a_warning_and_is_whole(site: Path) -> None:
    """Each page of docs/ is a page of the site, and no code is published with it."""
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS)).with_suffix(".html").exists(), page.name
    assert not list(site.rglob("*.py"))


def test_the_site_needs_no_other_host(site: Path) -> None:
    """Opening a page loads nothing but files of the site."""
    for page in site.rglob("*.html"):
        for target in Html(page.read_text(encoding="utf-8")).loaded:
            address = urlsplit(target)
            assert not address.netloc, f"{page.name} loads {target}"
            if page.name != "404.html" and address.scheme != "data" and address.path:
                assert (page.parent / address.path).exists(), f"{page.name} misses {target}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", text), style.name
