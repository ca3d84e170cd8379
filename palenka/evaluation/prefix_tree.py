"""Token sequences as trees: what many of them begin with is one path, and goes through a model once.

Sequences that follow each other in sorted order share most. A row is one tree of them, a node being a token after
everything on its path from the root; a model sees a row as one input in which a node attends to its ancestors and
itself alone, and its depth is its position. So each node's states are those of its prefix, whatever else the row holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Row:
    """One tree: a node's parent precedes it (-1: none), and a text's path names the node of each of its tokens."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    texts: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)

    def add(self, number: int, text: Sequence[int], shared: int) -> None:
        """Add the text of this number, whose first `shared` tokens the last text also begins with."""
        path = self.paths[-1][:shared] if shared else []
        for depth in range(shared, len(text)):
            self.parents.append(path[-1] if path else -1)
            path.append(len(self.tokens))
            self.tokens.append(text[depth])
            self.depths.append(depth)
        self.texts.append(number)
        self.paths.append(path)


def rows_of(texts: Sequence[tuple[int, ...]], limit: int, share_long: bool = False) -> list[Row]:
    """Rows of at most `limit` nodes that hold each text once; a text that is longer has a row to itself.

    Args:
        texts: token sequences.
        limit: with 0, each text has a row to itself.
        share_long: whether a text that is longer than the limit opens a row of up to twice its length, for those that
            share the most of themselves with the last in it.
    """
    rows: list[Row] = []
    last: tuple[int, ...] = ()
    room = limit
    for number in sorted(range(len(texts)), key=lambda number: texts[number]):
        text = texts[number]
        shared = _common_prefix(last, text)
        fits = rows and len(rows[-1].tokens) + len(text) - shared <= room
        if not fits or (room > limit and 2 * shared < len(text)):
            rows.append(Row())
            shared = 0
            room = 2 * len(text) if share_long and len(text) > limit else limit
        rows[-1].add(number, text, shared)
        last = text
    return rows


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length


@dataclass(frozen=True)
class Inputs:
    """Rows side by side, padded on the right: token ids, positions and parents, (rows, nodes) each."""

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    parents: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Row], pad: int) -> "Inputs":
        shape = len(rows), max(len(row.tokens) for row in rows)
        tokens, positions, parents = np.full(shape, pad), np.zeros(shape, np.int64), np.full(shape, -1)
        for i, row in enumerate(rows):
            size = len(row.tokens)
            tokens[i, :size], positions[i, :size], parents[i, :size] = row.tokens, row.depths, row.parents
        return cls(tokens, positions, parents)

    @property
    def visible(self) -> NDArray[np.bool_]:
        """Which nodes each node attends to: (rows, nodes, nodes). It sees itself and what its parent sees.

        Padding sees itself alone: a softmax over nothing would not be finite.
        """
        rows, nodes = self.parents.shape
        visible = np.zeros((rows, nodes, nodes), bool)
        for node in range(nodes):
            inner = np.flatnonzero(self.parents[:, node] >= 0)
            visible[inner, node] = visible[inner, self.parents[inner, node]]
            visible[:, node, node] = True
        return visible
