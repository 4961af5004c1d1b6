"""Read HTML: headings and paragraphs as lines, tables as rows; no scripts, styles and navigation."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from workbench.retrieval.formats.document import Document, UnreadableError, one_line, row, whole
from workbench.retrieval.formats.text import decoded

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Elements whose content is not text of the page.
_DROPPED = ["script", "style", "nav", "noscript", "template", "iframe", "object", "svg", "math", "select"]
_HIDDEN = "a.headerlink, [hidden], [role=navigation], [aria-hidden=true]"
_STATED = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_TAG = re.compile(r"<(?:(!--)|[!?]|(/?)([a-zA-Z][^\s/>]*+))")
_ATTRIBUTE = re.compile(
    r"""[\s/]*+([^\s/>][^\s/>=]*+)(?:\s*+=\s*+(?:"[^"]*+("|\Z)|'[^']*+('|\Z)|[^\s>"'][^\s>]*+)?+)?+"""
)
_COMMENT_END = re.compile("--!?>")
#: Elements in which a tag is text, up to their own end.
_RAW = frozenset({"iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"})
#: Elements that the parser closes by itself, or that never hold others.
_FLAT = frozenset({
    "area", "base", "br", "col", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta",
    "option", "p", "param", "source", "tbody", "td", "tfoot", "th", "thead", "tr", "track", "wbr",
})  # fmt: skip
#: The parser's time grows with the depth of elements within elements, and with the attributes of one.
_MOST_DEPTH, _MOST_ATTRIBUTES = 500, 2_000
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "dialog", "div",
    "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5",
    "h6", "header", "hgroup", "hr", "html", "legend", "li", "main", "menu", "ol", "p", "pre", "section",
    "summary", "table", "tbody", "tfoot", "thead", "tr", "ul",
})  # fmt: skip
_SPACE = re.compile(r"\s+")
_TIGHT = frozenset({"li", "dt", "dd", "tr", "ul", "ol", "tbody", "thead", "tfoot"})


def read(data: bytes) -> Document:
    """Return the page's text; the title is that of `<title>`, or the first heading.

    A heading is a line `# Title`, a list item `- item`, a table row `a | b`.
    """
    from selectolax.lexbor import LexborHTMLParser

    stated = _STATED.search(data[:4096])
    text = decoded(data, stated=stated[1].decode().lower() if stated else "")
    _check_depth(text)
    page = LexborHTMLParser(text)
    title, heading = page.css_first("title"), page.css_first("h1, h2, h3")
    named = next(filter(None, (one_line(node.text()) for node in (title, heading) if node is not None)), "")
    page.strip_tags([*_DROPPED, "head"])
    for node in page.css(_HIDDEN):
        node.decompose()
    if page.body is None:
        raise UnreadableError("it has no text")
    return whole(named.rstrip("¶ "), _text(page.body))


def _check_depth(text: str) -> None:
    """Raise UnreadableError for elements nested deeper, or with more attributes, than any page's."""
    opened: Counter[str] = Counter()
    depth = 0
    for name, closes in _tags(text):
        if name in _FLAT or (closes and not opened[name]):
            continue
        step = -1 if closes else 1
        opened[name] += step
        depth += step
        if depth > _MOST_DEPTH:
            raise UnreadableError(f"its elements are nested deeper than {_MOST_DEPTH}")


def _tags(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the name of each tag, and whether it closes; tags in comments, values and scripts are none."""
    place = 0
    while (tag := _TAG.search(text, place)) is not None:
        name = (tag[3] or "").lower()
        if tag[1]:
            end = _COMMENT_END.search(text, tag.start() + 2)
            place = end.end() if end else len(text)
        elif not name:
            place = text.find(">", tag.end()) + 1 or len(text)
        else:
            place = _after_attributes(text, tag.end())
            yield name, bool(tag[2])
        if name in _RAW and not tag[2]:
            closing = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(text, place)
            place = closing.start() if closing else len(text)


def _after_attributes(text: str, place: int) -> int:
    """Return the place behind a tag's attributes."""
    for _ in range(_MOST_ATTRIBUTES):
        found = _ATTRIBUTE.match(text, place)
        if found is None:
            return place
        place = found.end()
    raise UnreadableError(f"an element has {_MOST_ATTRIBUTES:,} attributes or more")


class _PageLines:
    """The text of a page as it is written: blocks begin lines, white space is one blank."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._ended = 2  # line feeds at the end
        self._signed = False  # whether the line has only the sign of a heading or of a list's item

    def text(self, text: str, *, verbatim: bool) -> None:
        """Add the text of a node; `verbatim` keeps its white space, as in `<pre>`."""
        if not verbatim:
            text = _SPACE.sub(" ", text)
            text = text.lstrip() if self._ended or self._signed else text
        if text:
            self._add(text)

    def opened(self, tag: str) -> None:
        """Begin a line, with the sign of a heading or of a list's item."""
        if tag not in _BLOCKS:
            return
        if not self._signed:  # a sign waits for its text
            self.closed(tag)
        if tag[0] == "h" and tag[1:].isdecimal():
            self._add(f"{'#' * int(tag[1:])} ")
            self._signed = True
        elif tag == "li":
            self._add("- ")
            self._signed = True

    def closed(self, tag: str) -> None:
        """End the line of a block."""
        feeds = (1 if tag in _TIGHT else 2) - self._ended if tag in _BLOCKS else 0
        if feeds > 0:
            self.pieces.append("\n" * feeds)
            self._ended += feeds
            self._signed = False

    def row(self, text: str) -> None:
        """Add a line of a table."""
        if text:
            self._add(text)
            self.closed("tr")

    def _add(self, text: str) -> None:
        self.pieces.append(text)
        self._ended, self._signed = len(text) - len(text.rstrip("\n")), False


def _text(body: Any) -> str:
    """Return the text of an element and of all below it."""
    lines, verbatim = _PageLines(), 0
    for node, entered in _walk(body):
        tag = node.tag or ""
        if not entered:
            verbatim -= tag == "pre"
            lines.closed(tag)
        elif node.is_text_node:
            lines.text(node.text_content or "", verbatim=verbatim > 0)
        elif tag == "br":
            lines.closed("li")
        elif tag == "tr" and _is_leaf(node):
            lines.row(_row(node))
        else:
            verbatim += tag == "pre"
            lines.opened(tag)
    return "".join(lines.pieces)


def _walk(top: Any) -> Iterator[tuple[Any, bool]]:
    """Yield each node when it is entered and when it is left, without recursion."""
    node = top
    while True:
        yield node, True
        child = None if _is_leaf(node) else node.child
        if child is not None:
            node = child
            continue
        yield node, False
        while node.mem_id == top.mem_id or node.next is None:
            if node.mem_id == top.mem_id:
                return
            node = node.parent
            yield node, False
        node = node.next


def _is_leaf(node: Any) -> bool:
    """Return whether a node is read at once: a text, and a table row unless it holds another table."""
    return not node.is_element_node or (node.tag == "tr" and node.css_first("table") is None)


def _row(node: Any) -> str:
    cells, cell = [], node.child
    while cell is not None:
        if cell.is_element_node:
            cells.append(cell.text(separator=" "))
        cell = cell.next
    return row(cells)
