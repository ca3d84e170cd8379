"""Tables of the corpus notebook, as HTML and as plain text: numbers, what cleaning does to lines, tokens."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from markupsafe import Markup

from palenka.util.tables import text_table

CONTEXT = 36
"""Characters shown on either side of a difference, and at the ends of one that is long."""
LONGEST = 300
"""Characters shown of a text, or a few more."""

_PIECE = re.compile(r"\s+|[^\W_]+|.", re.DOTALL)
_SPECIAL = re.compile(r"Ċ|<[a-z/]+>")
# Colours are translucent, to be read on light pages and on dark ones.
_CELL = "vertical-align: top; padding: 4px 16px 4px 0; line-height: 1.45; "
_NUMBER = _CELL + "text-align: right; white-space: nowrap"
_NAME = _CELL + "text-align: left; white-space: nowrap"
_TEXT = _CELL + "text-align: left; white-space: pre-wrap; overflow-wrap: anywhere"
_HALF = _TEXT + "; width: 50%"
_FAINT = "opacity: .55"
_GONE = "background: rgba(215, 80, 20, .25)"
_NEW = "background: rgba(0, 140, 90, .28)"
_BOX = "display: inline-block; padding: 0 3px; margin: 0 2px 2px 0; border-radius: 3px; font-family: monospace; "
_PLAIN_BOX = _BOX + "background: rgba(0, 103, 165, .16)"
_SPECIAL_BOX = _BOX + "background: rgba(196, 80, 10, .35)"


@dataclass(frozen=True)
class Table:
    """What a notebook shows as HTML, and everything else as plain text."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def numbers(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Integers with separators of thousands, floats with two decimals, text on the left."""
    values = [list(row) for row in rows]
    written = [[_written(value) for value in row] for row in values]
    is_text = [all(isinstance(row[place], str) for row in values) for place in range(len(columns))]
    styles = [_NAME if text else _NUMBER for text in is_text]
    html = _table(_row(columns, styles, "th"), [_row(row, styles) for row in written])
    return Table(html, text_table([columns, *written], left=sum(is_text)))


def _written(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def changes(pairs: Iterable[tuple[str, str]]) -> Table:
    """(raw, clean) side by side: what went is struck out on the left, what came is marked on the right.

    Long stretches that stay are shortened. An empty clean text means that nothing of the line was left.
    """
    rows, lines = [], []
    for raw, clean in pairs:
        left, right = _differences(raw, clean)
        rows.append(_row([left, right or _faint("(nothing)")], [_HALF, _HALF]))
        lines += [f"- {raw}", f"+ {clean}"]
    return Table(_table(_row(["raw", "clean"], [_HALF, _HALF], "th"), rows), "\n".join(lines))


def borders(blocks: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> Table:
    """(domain, raw lines, clean lines) around the end of a document, for which an empty clean line stands."""
    rows, lines = [], []
    for name, raw, clean in blocks:
        left = Markup("\n").join(_shortened(line, 2 * CONTEXT) or "\N{NO-BREAK SPACE}" for line in raw)
        right = Markup("\n").join(_shortened(line, 2 * CONTEXT) or _faint("── the document ends ──") for line in clean)
        rows.append(_row([name, left, right], [_NAME, _HALF, _HALF]))
        lines += [f"{name}:", *(f"- {line}" for line in raw), *(f"+ {line}" for line in clean)]
    head = _row(["", "raw lines", "clean documents"], [_NAME, _HALF, _HALF], "th")
    return Table(_table(head, rows), "\n".join(lines))


def boxes(rows: Iterable[tuple[str, Sequence[str]]]) -> Table:
    """Vocabulary entries in boxes, special tokens and newlines in another colour; `…` stands for what is left out."""
    named = list(rows)
    html = [_row([name, Markup("").join(map(_box, entries))], [_NAME, _TEXT]) for name, entries in named]
    width = max(len(name) for name, _ in named)
    return Table(_table("", html), "\n".join(f"{name:{width}}  {' '.join(entries)}" for name, entries in named))


def _box(entry: str) -> Markup:
    if entry == "…":
        return _faint("… ")
    return _span(entry, _SPECIAL_BOX if _SPECIAL.fullmatch(entry) else _PLAIN_BOX)


def _differences(raw: str, clean: str) -> tuple[Markup, Markup]:
    """Both texts, with the pieces marked that only one of them has."""
    before, after = _PIECE.findall(raw), _PIECE.findall(clean)
    left: list[tuple[str, bool]] = []
    right: list[tuple[str, bool]] = []
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        left.append(("".join(before[a:b]), kind != "equal"))
        right.append(("".join(after[c:d]), kind != "equal"))
    return _excerpt(left, _GONE), _excerpt(right, _NEW)


def _excerpt(parts: list[tuple[str, bool]], style: str) -> Markup:
    """The marked parts of a text, and what is near them, if there is room."""
    html, length = Markup(""), 0
    for number, (text, marked) in enumerate(parts):
        if length > LONGEST:
            return html + _faint(" …")
        before, behind = marked or number > 0, marked or number < len(parts) - 1
        shown = _ends(text, CONTEXT * before, CONTEXT * behind)
        length += sum(map(len, shown))
        if marked:
            shown = [_span(piece.replace("\t", "⇥"), style) for piece in shown if piece]
        html += _faint("…").join(shown)
    return html


def _ends(text: str, head: int, tail: int) -> Sequence[str]:
    """A text, or its first and last characters where it is much longer."""
    if not head and not tail:
        head = LONGEST
    return [text] if len(text) <= head + tail + CONTEXT // 4 else [text[:head], text[len(text) - tail :]]


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _span(text: str, style: str) -> Markup:
    return Markup('<span style="{}">{}</span>').format(style, text)


def _faint(text: str) -> Markup:
    return _span(text, _FAINT)


def _row(cells: Iterable[str], styles: Iterable[str], tag: str = "td") -> Markup:
    made = [
        Markup('<{} style="{}">{}</{}>').format(tag, style, cell, tag)
        for cell, style in zip(cells, styles, strict=True)
    ]
    return Markup("<tr>{}</tr>").format(Markup("").join(made))


def _table(head: str, rows: Iterable[Markup]) -> str:
    body = Markup("").join(rows)
    return Markup('<table style="border-collapse: collapse"><thead>{}</thead><tbody>{}</tbody></table>').format(
        head, body
    )
