"""Tables for people: whole in a log, fitted to the terminal where there is one."""

import sys
from collections.abc import Collection, Sequence

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

UNLIMITED = 10_000
_RULE = " -- "
_BOX = Box("\n".join(["    ", "    ", _RULE, "    ", _RULE, _RULE, "    ", "    "]))


def text_table(rows: Sequence[Sequence[str]], left: int = 1, width: int = UNLIMITED, ends: Collection[int] = ()) -> str:
    """Rows of cells as text, a rule below the first one, which has the heads (of one line or several).

    Args:
        rows: of as many cells each.
        left: number of columns that are aligned to the left; the others are to the right.
        width: in characters, at most; names in the first column are shortened where there is no room for them.
        ends: numbers of rows that a rule follows.
    """
    made = Table(box=_BOX, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for place, head in enumerate(rows[0]):
        made.add_column(Text(head), justify="left" if place < left else "right", vertical="bottom", no_wrap=place > 0)
    for number, (name, *cells) in enumerate(rows[1:], start=1):
        first = Text(name, no_wrap=True, overflow="ellipsis")
        made.add_row(first, *map(Text, cells), end_section=number in ends)
    on_terminal = sys.stdout.isatty()
    # Told both, or rich takes a notebook for a place to show the table in, and FORCE_COLOR for a terminal.
    console = Console(width=None if on_terminal else width, force_terminal=on_terminal, force_jupyter=False)
    with console.capture() as captured:
        console.print(made)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
