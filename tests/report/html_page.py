"""What tests read of an HTML page."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "source", "br", "input"}


class Page(HTMLParser):
    """Elements, text and table cells of a page; asserts that its tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "small" and self._cell() is not None:
            self.handle_data("|")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))  # of an SVG

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data
        if self._cell() is not None:
            self.tables[-1][-1][-1] += data.strip()

    def _cell(self) -> str | None:
        return next((tag for tag in reversed(self._open) if tag in ("td", "th")), None)
