"""Cleaning in blocks of raw lines.

What the rules make of a line depends on the line alone, so blocks give the same text and the same effects wherever they
are cleaned, if they come back in their order.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from palenka.data.cleaning import clean_line
from palenka.data.documents import BOUNDARY
from palenka.data.effects import Effects, utf8_size

BLOCK_CHARACTERS = 1 << 18


class Block(NamedTuple):
    """Clean lines, with `BOUNDARY` between documents, what cleaning did to them, and the bytes of the raw ones."""

    lines: list[str]
    effects: Effects
    size: int


CleanBlocks = Callable[[str, Iterable[list[str]]], Iterator[Block]]
"""Cleans blocks of raw lines of a domain, among which may be `BOUNDARY`."""


def clean_block(domain: str, raw: list[str]) -> Block:
    effects, clean, size = Effects(), [], 0
    for line in raw:
        if line == BOUNDARY:
            clean.append(line)
            continue
        pieces = clean_line(domain, line, effects)
        effects.dropped += not pieces
        effects.changed += bool(pieces) and pieces != [line.rstrip("\r\n")]
        size += utf8_size(line)
        clean += pieces
    return Block(clean, effects, size)


def clean_here(domain: str, blocks: Iterable[list[str]]) -> Iterator[Block]:
    return map(partial(clean_block, domain), blocks)


def in_blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines whose characters are about `BLOCK_CHARACTERS` together."""
    block, size = [], 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size >= BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    yield block
