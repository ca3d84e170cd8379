"""Runs as they go: their table, drawn anew while any of them moves."""

import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from palenka.cluster.status import Standing, status

TOLD = ("state", "dev")
"""Columns whose change makes a line where there is no terminal."""


def watch(names: Sequence[str], seconds: float) -> None:
    """Show where runs stand until none of them goes on: a table on a terminal, else a line for each change.

    Args:
        names: of runs, or of folders of runs; all where there are none.
        seconds: between two looks.

    Raises:
        UserError: a name is neither.
    """
    found = status(names)
    if not sys.stdout.isatty():
        _tell_changes(found, names, seconds)
        return
    with Live(Text(str(found)), console=Console(), auto_refresh=False) as live:
        while found.is_moving:
            time.sleep(seconds)
            found = status(names)
            live.update(Text(str(found)), refresh=True)


def _tell_changes(found: Standing, names: Sequence[str], seconds: float) -> None:
    told: dict[str, tuple[str, ...]] = {}
    if not found.rows:
        print(found)
    while True:
        for row in found.rows:
            if told.get(row["run"]) != (told_now := tuple(row.get(column, "") for column in TOLD)):
                told[row["run"]] = told_now
                print(_line(row), flush=True)
        if not found.is_moving:
            return
        time.sleep(seconds)
        found = status(names)


def _line(row: Mapping[str, str]) -> str:
    """`demo/control: running here, 45%, dev 1.9481, 0:35 left`."""
    parts = [row["state"], row.get("done"), f"dev {row['dev']}" if row.get("dev") else "",
             f"{row['left']} left" if row.get("left") else ""]  # fmt: skip
    return f"{row['run']}: {', '.join(part for part in parts if part)}"
