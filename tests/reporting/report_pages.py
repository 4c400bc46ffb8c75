"""Read a written page back: its tables, its text, and the addresses that it points to."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from lab.reporting import drawing


class Page(HTMLParser):
    """Collects the cells of every table, the text, the names of places, and all addresses pointed to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.tags: set[str] = set()
        self.text = ""
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        self.places |= {value for name, value in attrs if name == "id"}
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True
        elif tag == "br" and self._cell:
            self.tables[-1][-1][-1] += " "

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self.tables[-1][-1][-1] += data


def read_page(report) -> Page:
    return Page(report.page.read_text(encoding="utf-8"))


@contextmanager
def one_picture() -> Iterator[None]:
    """Meanwhile every panel of a report is the same picture; to draw them takes most of its time."""
    figure, _ = drawing.new_panel("")
    made = {kind: drawing.render(figure, kind) for kind in ("svg", "png")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "render", lambda figure, kind: made[kind])
        yield


def assert_needs_no_network_and_no_script(report) -> None:
    html = report.page.read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & page.tags
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.places
        elif not link.startswith("data:image/svg+xml;base64,"):
            assert (report.page.parent / unquote(link)).exists(), link
    assert not re.search(r"url\(|@import|https?://", html)
