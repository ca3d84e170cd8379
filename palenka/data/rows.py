"""Text that comes in rows: JSON lines, Parquet files, datasets of the `datasets` library. Each row is a document.

Rows are read in passing, a batch at a time, as often as needed; nothing is kept. The content of a row is its text
alone: the same rows in another format, or with other columns beside, are the same content.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from palenka.data.documents import PARAGRAPHS, ROW_END
from palenka.data.encodings import check_encoding
from palenka.util.errors import UserError

SUFFIXES = (".jsonl", ".parquet")
MOST_DOMAINS = 64
BATCH = 256


class Row(NamedTuple):
    """A document, and where it comes from; there may be no text (null)."""

    domain: str
    text: str | None
    file: str
    place: str


Rows = Callable[[], Iterable[Row]]
"""Rows that can be read again and again."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile(r"\r*\n|\r")
_NOT_A_NAME = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True)
class Columns:
    """Which column holds the text, and which, if any, names the domain of a row."""

    text: str = "text"
    domain: str | None = None

    @property
    def names(self) -> list[str]:
        return [self.text] if self.domain is None else [self.text, self.domain]


TEXT_COLUMN = Columns()


@dataclass
class Content:
    """What the rows of a domain hold altogether; `bytes` as if each ended in a newline.

    `null` has, by file, the place of the first row that has no text, and how many have none.
    """

    rows: int = 0
    bytes: int = 0
    blank: bool = True
    digest: Any = field(default_factory=hashlib.sha256)
    null: dict[str, tuple[str, int]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        if row.text is None:
            first, count = self.null.get(row.file, (row.place, 0))
            self.null[row.file] = first, count + 1
        text = row.text or ""
        encoded = text.encode()
        self.rows += 1
        self.bytes += len(encoded) + 1
        self.blank = self.blank and not text.strip()
        self.digest.update(len(encoded).to_bytes(8, "little") + encoded)


def survey(rows: Iterable[Row], where: str) -> dict[str, Content]:
    """What all rows hold, by domain, some of which may hold no text.

    Raises:
        UserError: none holds text, or there are too many.
    """
    contents: dict[str, Content] = {}
    for row in rows:
        if row.domain not in contents and len(contents) == MOST_DOMAINS:
            raise UserError(f"{where}: more than {MOST_DOMAINS} domains; --domain-column is for a few values")
        contents.setdefault(row.domain, Content()).add(row)
    if all(content.blank for content in contents.values()):
        raise UserError(f"{where}: no row holds text")
    return dict(sorted(contents.items()))


def row_lines(rows: Rows, domain: str) -> Iterator[str]:
    """The lines of a domain's rows, with `ROW_END` after each row and no blank line that would end it before."""
    for row in rows():
        if row.domain == domain:
            text = row.text or ""
            lines = _LINE_END.split(text) if "\r" in text else text.split("\n")
            yield from (f"{line}\n" for line in lines if line.strip() or domain in PARAGRAPHS)
            yield ROW_END


def read_row_file(path: Path, columns: Columns, domain: str) -> Iterator[Row]:
    """The rows of a .jsonl or .parquet file; `domain` is theirs where no column says it."""
    read = _read_jsonl if path.suffix == ".jsonl" else _read_parquet
    for place, values in read(path, columns):
        yield _row(values, columns, domain, str(path), place)


def read_dataset(dataset: Any, columns: Columns, domain: str, where: str) -> Iterator[Row]:
    """The rows of a `datasets.Dataset`, which is mapped from disk."""
    _check_columns(dataset.column_names, columns, where)
    for number, values in _numbered(dataset.select_columns(columns.names).iter(BATCH), columns):
        yield _row(values, columns, domain, where, f"row {number}")


def safe_name(name: str) -> str:
    """A domain's name as a file can have it; `text` where nothing is left."""
    return _NOT_A_NAME.sub("_", name).strip("_.+-") or "text"


def _read_jsonl(path: Path, columns: Columns) -> Iterator[tuple[str, Mapping[str, Any]]]:
    check_encoding(path)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"line {number}"
            where = f"{path}, {place}"
            try:
                values = json.loads(line.strip())
            except json.JSONDecodeError as error:
                raise UserError(f"{where}, column {error.colno}: not valid JSON ({error.msg})") from None
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: not valid JSON ({error})") from None
            if not isinstance(values, dict):
                raise UserError(f"{where}: expected an object with named columns, found {type(values).__name__}")
            _check_columns(list(values), columns, where)
            yield place, values


def _read_parquet(path: Path, columns: Columns) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError(f"{path}: reading Parquet needs the library pyarrow, which comes with datasets") from None
    try:
        with ParquetFile(path) as file:
            _check_columns(file.schema_arrow.names, columns, str(path))
            batches = (batch.to_pydict() for batch in file.iter_batches(BATCH, columns=columns.names))
            for number, values in _numbered(batches, columns):
                yield f"row {number}", values
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error})") from None


def _numbered(batches: Iterable[Mapping[str, list[Any]]], columns: Columns) -> Iterator[tuple[int, dict[str, Any]]]:
    """Batches of columns as rows, numbered from 1."""
    names = columns.names
    rows = chain.from_iterable(zip(*(batch[name] for name in names), strict=True) for batch in batches)
    for number, values in enumerate(rows, 1):
        yield number, dict(zip(names, values, strict=True))


def _check_columns(there: list[str], columns: Columns, where: str) -> None:
    for name, option in ((columns.text, "--text-column"), (columns.domain, "--domain-column")):
        if name is not None and name not in there:
            raise UserError(f"{where}: no column {name!r} ({option}); there are: {', '.join(there) or 'none'}")


def _row(values: Mapping[str, Any], columns: Columns, domain: str, file: str, place: str) -> Row:
    text, where = values[columns.text], f"{file}, {place}"
    if text is not None and not isinstance(text, str):
        raise UserError(f"{where}: expected text in column {columns.text!r}, found {type(text).__name__}")
    if columns.domain is not None:
        name = values[columns.domain]
        if not isinstance(name, str):
            raise UserError(f"{where}: expected a name in column {columns.domain!r}, found {type(name).__name__}")
        domain = safe_name(name)
    return Row(domain, None if text is None else _SURROGATE.sub("\ufffd", text), file, place)
