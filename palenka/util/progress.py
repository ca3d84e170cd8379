"""How far a piece of work is: a bar on a terminal, and in a log nothing but what whoever works says."""

import atexit
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


class Bar:
    """A bar on standard error where that is a terminal, else nothing. What is printed there meanwhile stands above it.

    Args:
        label: what is done.
        total: how much of it there is.
        unit: of the total; `B` for bytes.
        enabled: False shows none on a terminal either.
    """

    def __init__(self, label: str, total: int, unit: str, enabled: bool = True) -> None:
        figures = (DownloadColumn(),) if unit == "B" else (MofNCompleteColumn(), TextColumn(unit))
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), *figures,
            TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True), redirect_stdout=False, disable=not (enabled and sys.stderr.isatty()),
        )  # fmt: skip
        self._task = self._progress.add_task(label, total=total, note="")
        self._progress.start()
        atexit.register(self.close)  # which shows the cursor again

    @property
    def is_shown(self) -> bool:
        return not self._progress.disable

    def advance(self, count: int = 1) -> None:
        self._progress.advance(self._task, count)

    def reach(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    def note(self, text: str) -> None:
        """Show a text behind the bar."""
        self._progress.update(self._task, note=text)

    def close(self) -> None:
        self._progress.stop()
        atexit.unregister(self.close)


def passed_on(batches: Iterable[T], sizes: Sequence[int], label: str, unit: str) -> Iterator[T]:
    """Pass batches on: with a bar on a terminal, else with a line at each quarter. Silent without a label."""
    total, done = sum(sizes), 0
    bar, start = Bar(label, total, unit, enabled=bool(label)), time.monotonic()
    for batch, size in zip(batches, sizes, strict=True):
        yield batch
        before, done = done, done + size
        bar.reach(done)
        if label and not bar.is_shown and 4 * before // total < 4 * done // total:
            rate = done / max(time.monotonic() - start, 1e-9)
            print(f"{label}: {done:,} of {total:,} {unit}, {rate:,.0f} a second", file=sys.stderr, flush=True)
    bar.close()
