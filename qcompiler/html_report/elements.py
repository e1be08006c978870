"""Pieces of HTML: texts are escaped here, so that no name of a model can become markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: Any) -> Markup:
    """Escaped, unless it is markup already."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def tag(name: str, *content: Any, **attributes: Any) -> Markup:
    """`<name ...>content</name>`; a trailing underscore of an attribute's name goes, the others become hyphens."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{words}>{''.join(map(text, content))}</{name}>")


def section(key: str, title: str, *content: Any) -> Markup:
    """A section with its heading; `key` is where links lead."""
    return tag("section", tag("h2", title), *content, id=key)


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, words: int = 1) -> Markup:
    """A table that scrolls sideways where it is too wide; columns from `words` on are figures, set to the right."""
    classes = [None if place < words else "number" for place in range(len(headings))]
    head = tag("tr", *(tag("th", name, class_=kind) for name, kind in zip(headings, classes, strict=True)))
    body = [tag("tr", *(tag("td", cell, class_=kind) for cell, kind in zip(row, classes, strict=True))) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide")


def folded(title: str, *content: Any, opened: bool = False) -> Markup:
    """Content behind a line that opens it."""
    made = tag("details", tag("summary", title), *content)
    return Markup(made.replace("<details>", "<details open>", 1)) if opened else made


def note(*content: Any) -> Markup:
    """A paragraph in a quieter colour."""
    return tag("p", *content, class_="note")


def items(lines: Iterable[Any]) -> Markup:
    """A list."""
    return tag("ul", *(tag("li", line) for line in lines))


def command(line: str) -> Markup:
    """Lines for a terminal, with a button that copies them."""
    button = tag("button", "Copy", type="button", class_="copy")
    return tag("div", tag("pre", tag("code", line)), button, class_="command")
