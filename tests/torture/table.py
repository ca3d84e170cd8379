"""The table of docs/reliability.md, from results."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torture.cases import UNTRIED, VERDICTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
COLUMNS = ("fault", "command", "tried", *(name for name in VERDICTS if name != UNTRIED))
Row = tuple[str, ...]


def rows(results: Iterable[Any]) -> list[Row]:
    """One row for each fault, in the order of the families, with how often it was tried and what came of it."""
    groups: dict[tuple[str, str], list[Any]] = {}
    for result in results:
        groups.setdefault((result.family, result.fault), []).append(result)
    return [_row(fault, groups[family, fault]) for family, fault in sorted(groups)] + [
        _row("all", [result for group in groups.values() for result in group])
    ]


def _row(fault: str, results: Sequence[Any]) -> Row:
    tried = [result for result in results if result.verdict != UNTRIED]
    names = sorted({_program(result.command) for result in results})
    commands = ", ".join(f"`{name}`" for name in names) if len(names) < 6 else f"{len(names)} commands"
    counts = [sum(result.verdict == name for result in tried) for name in VERDICTS if name != UNTRIED]
    return (fault, commands, str(len(tried)) if tried else "not tried here", *map(str, counts))


def _program(command: str) -> str:
    """`palenka prepare` of `palenka prepare --train …`."""
    words = command.split()
    return " ".join(words[:2]) if words[0] == "palenka" and len(words) > 1 else words[0]


def text(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = [COLUMNS, ("---", "---", *["---:"] * (len(COLUMNS) - 2)), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def write(rows: Sequence[Row], header: str, page: Path = PAGE) -> None:
    """Put the table in place of the one on the page."""
    content = page.read_text(encoding="utf-8")
    new = f"{BEGIN}\n{header}\n\n{text(rows)}\n{END}"
    replaced, count = re.subn(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: new, content, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{page}: expected one {BEGIN} … {END}")
    page.write_text(replaced, encoding="utf-8")


