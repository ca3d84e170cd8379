"""Holding out part of a training text for dev where a source has none: by documents, decided by their content.

A document is held out if its hash says so. So the choice needs no seed and no order, a text that appears twice is never
on both sides, and a corpus that grows keeps what was held out. Documents of more than `PIECE_LINES` lines (films, where
nothing marks their end) are decided upon piece by piece.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from palenka.data.documents import BOUNDARY

PIECE_LINES = 500


class Piece(NamedTuple):
    """Clean lines of one document, and whether they go on where the piece before ended."""

    lines: list[str]
    goes_on: bool


def part(lines: Iterable[str], kept: Path, held_out: Path, fraction: float) -> None:
    """Write a clean text to two files, either of which may stay away: `fraction` of its documents to `held_out`."""
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
    for path in (kept, held_out):
        if not path.stat().st_size:
            path.unlink()


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
