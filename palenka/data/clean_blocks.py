"""Cleaning in blocks of raw lines, in several processes where that pays.

What the rules make of a line depends on the line alone, so blocks give the same text and the same effects wherever they
are cleaned, and come back in their order.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from palenka.data.cleaning import clean_line
from palenka.data.documents import BOUNDARY
from palenka.data.effects import Effects, utf8_size

BLOCK_CHARACTERS = 1 << 18
WORTH_PROCESSES = 1 << 22
"""Bytes of text, two seconds' work, from which on it is worth starting processes."""
MOST_PROCESSES = 8
"""Reading, parting and writing text take one process an eighth of the time that cleaning takes."""


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


@contextmanager
def cleaning_processes(size: int) -> Iterator[CleanBlocks]:
    """As many processes as there are cores for a text of so many bytes; none but this one for a small text.

    Their death raises BrokenProcessPool.
    """
    count = min(_cores(), MOST_PROCESSES)
    if size < WORTH_PROCESSES or count < 2 or multiprocessing.current_process().daemon:
        yield clean_here
        return
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin)
    try:
        yield partial(_clean_in, pool, 2 * count)
    finally:
        pool.shutdown(cancel_futures=True)


def _clean_in(pool: ProcessPoolExecutor, most: int, domain: str, blocks: Iterable[list[str]]) -> Iterator[Block]:
    """Keep `most` blocks on their way at most: all that is held of a text."""
    waiting: deque[Future[Block]] = deque()
    for block in blocks:
        waiting.append(pool.submit(clean_block, domain, block))
        if len(waiting) == most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin() -> None:
    """In a new process: leave interruption to the one that started it, and end when that does, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
