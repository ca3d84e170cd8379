"""A table of the report as cells of text."""

from dataclasses import dataclass, field

from palenka.util.text import NOTHING


@dataclass(frozen=True)
class Cell:
    """One entry: its text, its ± and its marks."""

    text: str = NOTHING
    spread: str = ""
    second: str = ""
    best: bool = False
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    key: str
    head: str
    unit: str = ""


@dataclass(frozen=True)
class Row:
    """A row; `run` is the number of the run it tells of, None for a baseline."""

    head: str
    cells: dict[str, Cell]
    run: int | None = None
    detail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    columns: list[Column]
    rows: list[Row]
    name: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def with_spread(self) -> set[str]:
        """Columns where some entry has a ±, so that the others leave room for it."""
        return {key for row in self.rows for key, cell in row.cells.items() if cell.spread}
