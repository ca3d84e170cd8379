"""Plain text for the terminal: paragraphs and tables at most 100 columns wide."""

import textwrap

WIDTH = 100
GAP = "  "


def wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def plain_table(rows: list[list[str]]) -> str:
    """The first column to the left, shortened where the row would be too wide; the others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    room = WIDTH - sum(widths[1:]) - len(GAP) * (len(widths) - 1)
    widths[0] = min(widths[0], room)
    lines = []
    for name, *cells in rows:
        short = name if len(name) <= room else f"{name[: room - 1]}…"
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append(GAP.join([short.ljust(widths[0]), *right]))
    return "\n".join(line.rstrip() for line in [lines[0], "-" * len(lines[0]), *lines[1:]])
