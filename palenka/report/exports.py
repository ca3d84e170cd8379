"""What the page shows, as files for a paper: charts as SVG, PNG and PDF, tables as Markdown, LaTeX and CSV."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import vl_convert

from palenka.report.cells import Cell, Column, Row, Table
from palenka.report.vega import Chart
from palenka.util.files import make_folder, write_bytes, write_text

WIDTH = 720  # of charts, in CSS pixels
SHARPNESS = 2  # pixels of a PNG in a CSS pixel
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$",
         "×": r"$\times$", "▽": r"$\triangledown$"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}  # fmt: skip


def export(content: Any, folder: Path) -> list[Path]:
    """Write all charts and tables of a page, each named by what it shows; what was there before stays.

    Args:
        content: of the page: mappings and lists with charts and tables in them.
        folder: is made if need be.

    Returns:
        The files.
    """
    make_folder(folder)
    written = [path for chart in found(content, Chart) for path in _write_chart(chart, folder)]
    named = _named_tables(content)
    return written + [path for name, table in named for path in _write_table(table, folder / _slug(name))]


def found(content: Any, kind: type) -> Iterator[Any]:
    """All of a kind in a page's content, in its order."""
    if isinstance(content, kind):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from found(value, kind)
    elif isinstance(content, list):
        for value in content:
            yield from found(value, kind)


def _named_tables(content: dict[str, Any]) -> Iterator[tuple[str, Table]]:
    """Tables by where they stand and by what they are of."""
    for place, value in content.items():
        for table in found(value, Table):
            yield f"{place} {table.name}".strip(), table


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def _write_chart(chart: Chart, folder: Path) -> list[Path]:
    drawn = chart.svg(WIDTH)
    contents = {"svg": drawn.encode(), "png": vl_convert.svg_to_png(drawn, scale=SHARPNESS),
                "pdf": vl_convert.svg_to_pdf(drawn)}  # fmt: skip
    paths = [folder / f"{_slug(chart.label)}.{kind}" for kind in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_bytes(path, content)
    return paths


def _write_table(table: Table, path: Path) -> list[Path]:
    formats: dict[str, Callable[[Table], str]] = {"md": markdown, "tex": latex, "csv": comma_separated}
    paths = [path.with_name(f"{path.name}.{kind}") for kind in formats]
    for each, make in zip(paths, formats.values(), strict=True):
        write_text(each, make(table))
    return paths


def markdown(table: Table) -> str:
    """A table of GitHub's Markdown; the best of a column is bold."""
    heads = ["", *(_head(column) for column in table.columns)]
    lines = [heads, ["---", *("---:" for _ in table.columns)]]
    for row in table.rows:
        lines.append([row.head, *(_marked(_cell(row, column), "**{}**") for column in table.columns)])
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def latex(table: Table) -> str:
    r"""A tabular of the package booktabs; the best of a column is bold."""
    heads = ["", *(_tex(_head(column)) for column in table.columns)]
    lines = [f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}", "\\toprule", _tex_row(heads), "\\midrule"]
    for row in table.rows:
        cells = [_marked(_cell(row, column), "\\textbf{{{}}}", _tex) for column in table.columns]
        lines.append(_tex_row([_tex(row.head), *cells]))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def comma_separated(table: Table) -> str:
    """A column for each number: what follows a ± or stands below has one of its own."""
    kept = [(column, part) for column in table.columns for part in ("text", "spread", "second")
            if part == "text" or any(getattr(_cell(row, column), part) for row in table.rows)]  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    behind = {"text": "", "spread": " ±", "second": " (below)"}
    writer.writerow(["", *(f"{_head(column)}{behind[part]}" for column, part in kept)])
    for row in table.rows:
        cells = [getattr(_cell(row, column), part) for column, part in kept]
        writer.writerow([row.head, *(cell.replace("−", "-") for cell in cells)])
    return text.getvalue()


def _cell(row: Row, column: Column) -> Cell:
    return row.cells.get(column.key, Cell())


def _head(column: Column) -> str:
    return f"{column.head} ({column.unit})" if column.unit else column.head


def _marked(cell: Cell, bold: str, escape: Callable[[str], str] = str) -> str:
    """`92.00 ± 0.38 / 1.2`, of which the number may be bold."""
    text = bold.format(escape(cell.text)) if cell.best else escape(cell.text)
    added = (f" ± {cell.spread}" if cell.spread else "") + (f" / {cell.second}" if cell.second else "")
    return text + escape(added + (" ▽" if cell.below else ""))


def _tex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text)


def _tex_row(cells: list[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
