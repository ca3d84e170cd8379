"""Holding out part of a training text for dev where a source has none.

By documents: a document is held out if its hash says so. So the choice needs no seed and no order, a text that appears
twice is never on both sides, and a corpus that grows keeps what was held out. Documents of more than `PIECE_LINES`
lines (films, where nothing marks their end) are decided upon piece by piece.

From the end: the last lines of each text, as BabyLlama-2 has it (Tastet & Timiryasov 2024, arXiv 2409.17312). A
document may be cut there, and what is said twice may be on both sides.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from palenka.data.documents import BOUNDARY

PIECE_LINES = 500

Place = Literal["documents", "end"]


class HoldOut(NamedTuple):
    """What is held out: a fraction of the documents, or of each text's lines at its end."""

    fraction: float
    place: Place = "documents"


class Piece(NamedTuple):
    """Clean lines of one document, and whether they go on where the piece before ended."""

    lines: list[str]
    goes_on: bool


def part(lines: Iterable[str], kept: Path, held_out: Path, what: HoldOut) -> None:
    """Write a clean text to two files, either of which may stay away: `what` to `held_out`, the rest to `kept`."""
    write = _part_documents if what.place == "documents" else _part_end
    write(lines, kept, held_out, what.fraction)
    for path in (kept, held_out):
        if not path.stat().st_size:
            path.unlink()


def _part_documents(lines: Iterable[str], kept: Path, held_out: Path, fraction: float) -> None:
    with (
        kept.open("w", encoding="utf-8", newline="\n") as rest,
        held_out.open("w", encoding="utf-8", newline="\n") as out,
    ):
        last = None
        for piece in pieces(lines):
            file = out if is_held_out(piece.lines, fraction) else rest
            if file.tell() and not (piece.goes_on and file is last):
                file.write(f"{BOUNDARY}\n")
            file.writelines(f"{line}\n" for line in piece.lines)
            last = file


def _part_end(lines: Iterable[str], kept: Path, held_out: Path, fraction: float) -> None:
    """Write all to `kept`, whose lines are then known by number, and move the last of them."""
    count = 0
    with kept.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(f"{line}\n")
            count += line != BOUNDARY
    boundary = f"{BOUNDARY}\n".encode()
    with kept.open("r+b") as whole, held_out.open("wb") as out:
        left = round((1 - fraction) * count)
        while left:
            left -= whole.readline() != boundary
        end = whole.tell()
        first = whole.readline()
        out.write(first if first != boundary else b"")
        shutil.copyfileobj(whole, out)
        whole.truncate(end)


def pieces(lines: Iterable[str]) -> Iterator[Piece]:
    """Cut a clean text into its documents, and long ones into pieces."""
    held: list[str] = []
    goes_on = False
    for line in lines:
        if line == BOUNDARY or len(held) == PIECE_LINES:
            yield Piece(held, goes_on)
            held, goes_on = [], line != BOUNDARY
        if line != BOUNDARY:
            held.append(line)
    if held:
        yield Piece(held, goes_on)


def is_held_out(lines: list[str], fraction: float) -> bool:
    """Whether a text is among the `fraction` of all texts whose hashes are the smallest."""
    digest = hashlib.sha256("\n".join(lines).encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
