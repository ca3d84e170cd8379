"""Plain text for people: numbers, durations, lists, paragraphs and tables of the terminal."""

import textwrap
from collections.abc import Sequence

WIDTH = 100
GAP = "  "
NOTHING = "–"


def wrapped(text: str, width: int = WIDTH) -> str:
    return textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False)


def plain_table(rows: list[list[str]]) -> str:
    """Rows at most WIDTH wide: the first column to the left, shortened where need be, the others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    room = WIDTH - sum(widths[1:]) - len(GAP) * (len(widths) - 1)
    widths[0] = min(widths[0], room)
    lines = []
    for name, *cells in rows:
        short = name if len(name) <= room else f"{name[: room - 1]}…"
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append(GAP.join([short.ljust(widths[0]), *right]))
    return "\n".join(line.rstrip() for line in [lines[0], "-" * len(lines[0]), *lines[1:]])


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def compact(number: int) -> str:
    """Four digits of a large number: `58344960` → `58.34M`."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:#.4g}{letter}".replace(".k", "k").replace(".M", "M")
    return str(number)


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def listed(names: list[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
