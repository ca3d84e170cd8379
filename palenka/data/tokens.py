"""Memory-mapped tokens, and windows over them as a pure function of (seed, epoch, index).

A *split* is a folder of flat arrays, written once and mapped, never loaded whole:

    tokens.bin     uint16  (tokens,)      documents in order, each ending in `</s>`; no `<s>` is stored
    words.bin      uint32  (tokens + 1,)  words[i] = number of words begun in tokens[:i]
    lines.bin      int64   (lines,)       token index at which each line starts
    documents.bin  int64   (documents,)   token index at which each document starts (a line starts there too)
    index.json     totals, and the contiguous token range of each domain

A *segment* is a stretch of tokens that no window leaves: a domain, or one of the kept blocks of a domain when
`fraction` < 1. A *window* is `seq_length` positions within one segment. It owns the tokens [start, end), where `end`
is the next window's start, and shows the tokens after `end` too, as far as room and segment allow.

What is a label, by `bos`:

    window    `<s>` precedes each window, and the tokens [start, end) are its labels: every token of the
              segment is a label exactly once in an epoch, the first one after `<s>`
    none      no `<s>`. The labels are the tokens (start, end]: every token but the segment's first, exactly once; a
              window's last own token predicts the first token of the next window
    document  `<s>` precedes each document's first token, and is never a label itself. The labels are [start, end]
              without `start` where no document starts there, and without `end` where one does. Every token is a label
              exactly once, but for a segment's first where that starts no document (a block of `fraction` < 1)

An epoch's windows are cut greedily, from a first one of a length that the epoch draws: the next window starts at the
last line start within the last quarter of the room, if there is one, else where the room ends. One window in eight,
redrawn in each epoch, ends where its room ends: else the cuts of all epochs would be the same from the first line
start that they share (measured: 99.7 % of the windows, against a third with this; the first token of one window in two
starts a line).

This holds for `crop="epoch_offset"`. With `crop="fixed"` all epochs have the windows of the first, in an order of their
own. With `crop="random"` (BabyLlama's) window i starts at i·room plus its own random
offset in [0, room), wherever that is, so that windows overlap and leave gaps; the start is then no label unless `<s>`
stands there.
"""

import itertools
import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palenka.data.integrity import read_prepared
from palenka.data.windows import IGNORED, Integers, Positions, WindowConfig
from palenka.util.errors import UserError

BLOCKS = 100
UNSNAPPED = 1 / 8

_ARRAYS = {"tokens": "<u2", "words": "<u4", "lines": "<i8", "documents": "<i8"}


@dataclass(frozen=True)
class Domain:
    """One domain's contiguous token range [start, end) in a split, and the size of its text."""

    name: str
    start: int
    end: int
    words: int
    bytes: int
    documents: int


@dataclass(frozen=True)
class TokenSplit:
    """One split (train, dev or test) of prepared data, memory-mapped."""

    tokens: NDArray[np.uint16]
    words: NDArray[np.uint32]
    lines: Integers
    documents: Integers
    domains: list[Domain]

    @classmethod
    def open(cls, folder: Path) -> "TokenSplit":
        """Map the arrays in `folder`.

        Raises:
            FileNotFoundError: it holds no split.
            UserError: it is one of prepared data that is damaged.
        """
        if (folder.parent / "prepared.json").exists():
            read_prepared(folder.parent)
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        return cls(
            domains=[Domain(**domain) for domain in index["domains"]],
            **{name: _map(folder / f"{name}.bin", dtype) for name, dtype in _ARRAYS.items()},
        )


def _map(path: Path, dtype: str) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")


class SplitWriter:
    """Writes the arrays of a split, a batch of lines at a time."""

    def __init__(self, folder: Path, newline_id: int, eos_id: int, begins_word: NDArray[np.bool_]) -> None:
        """`begins_word` (vocabulary,): which tokens begin a word."""
        folder.mkdir(parents=True)
        self._folder = folder
        self._newline_id, self._eos_id, self._begins_word = newline_id, eos_id, begins_word
        self._files = {name: (folder / f"{name}.bin").open("wb") for name in _ARRAYS}
        self._append("words", [0])
        self._tokens = self._words = self._bytes = self._documents = 0
        self._in_document = False
        self._domains: list[Domain] = []

    def add(
        self, ids: NDArray[np.uint16], lengths: Integers, sizes: Sequence[int], starts_document: Sequence[bool]
    ) -> None:
        """Append lines.

        Args:
            ids: (tokens,), those of all lines one after another.
            lengths: (lines,), how many of them each line has.
            sizes: bytes of each line's text.
            starts_document: whether a document starts with each line.
        """
        if not len(lengths):
            return
        starts = np.array(starts_document)
        ends_before = np.where(starts, self._eos_id, self._newline_id)[not self._in_document :]
        places = (np.cumsum(lengths) - lengths)[not self._in_document :]
        line_starts = self._tokens + np.cumsum(lengths) - lengths + np.arange(len(lengths)) + self._in_document
        self._bytes += sum(sizes) + int((ends_before == self._newline_id).sum())
        self._in_document = True
        self._documents += int(starts.sum())
        self._append_tokens(np.insert(ids, places, ends_before))
        self._append("lines", line_starts)
        self._append("documents", line_starts[starts])

    def end_domain(self, name: str) -> None:
        """Close the last document: what follows belongs to the next domain."""
        if self._in_document:
            self._append_tokens(np.array([self._eos_id]))
        start = self._domains[-1].end if self._domains else 0
        words = self._words - sum(domain.words for domain in self._domains)
        self._domains.append(Domain(name, start, self._tokens, words, self._bytes, self._documents))
        self._bytes = self._documents = 0
        self._in_document = False

    def close(self) -> list[Domain]:
        """Write the index; returns the domains."""
        for file in self._files.values():
            file.close()
        index = {
            "tokens": self._tokens,
            "words": self._words,
            "bytes": sum(domain.bytes for domain in self._domains),
            "domains": [asdict(domain) for domain in self._domains],
        }
        (self._folder / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        return self._domains

    def _append_tokens(self, ids: NDArray[Any]) -> None:
        words = self._words + np.cumsum(self._begins_word[ids])
        self._append("tokens", ids)
        self._append("words", words)
        self._tokens += len(ids)
        self._words = int(words[-1]) if len(ids) else self._words

    def _append(self, name: str, values: Any) -> None:
        self._files[name].write(np.asarray(values).astype(_ARRAYS[name]).tobytes())


class _Windows:
    """What training and dev windows share: cutting a segment into windows, and filling them with tokens."""

    def __init__(self, split: TokenSplit, config: WindowConfig, bos_id: int, pad_id: int) -> None:
        if config.room < 2:
            raise UserError(f"data.seq_length: {config.seq_length}: a window needs room for two tokens at least")
        if not 0 < config.fraction <= 1:
            raise UserError(f"data.fraction: {config.fraction}: expected more than 0 and at most 1")
        self.split, self.config = split, config
        self._bos_id, self._pad_id = bos_id, pad_id
        self._lines = memoryview(np.ascontiguousarray(split.lines))  # type: ignore[arg-type]
        self._documents = memoryview(np.ascontiguousarray(split.documents))  # type: ignore[arg-type]

    def _cut(self, start: int, end: int, snaps: Iterator[bool], first_room: int, room: int) -> Integers:
        """Starts of the windows of the segment [start, end), greedily; `snaps`: whether the next one goes to a line."""
        starts, next_room = [], first_room
        while start < end:
            starts.append(start)
            start = self._next_start(start, next_room, next(snaps))
            next_room = room
        return np.array(starts, np.int64)

    def _next_start(self, start: int, room: int, snap: bool) -> int:
        end = start + room
        if self.config.bos == "document":
            for document in self._documents[bisect_left(self._documents, start) :]:
                if document >= end:
                    break
                end -= 1
            end = max(end, start + 1)
        if snap:
            line = self._lines[bisect_right(self._lines, end) - 1]
            if line > max(start, end - room // 4):
                return line
        return end

    def _fill(
        self, starts: Integers, ends: Integers, limits: Integers, length: int
    ) -> tuple[Integers, Integers]:
        """(input_ids, labels), each (n, length), of the windows [start, end) in segments that end at `limits`."""
        inputs = np.full((len(starts), length), self._pad_id, np.int64)
        labels = np.full((len(starts), length), IGNORED, np.int64)
        for row, (start, end, limit) in enumerate(zip(starts.tolist(), ends.tolist(), limits.tolist(), strict=True)):
            stop = min(start + length + 1, limit)
            shown = self.split.tokens[start:stop].astype(np.int64)
            targets = shown.copy()
            targets[end + 1 - self._bos_precedes(end) - start :] = IGNORED
            marks = self._bos_positions(start, stop) - start
            if len(marks):
                shown = np.insert(shown, marks, self._bos_id)
                targets = np.insert(targets, marks, IGNORED)
            inputs[row, : len(shown)] = shown[:length]
            labels[row, : len(targets) - 1] = targets[1 : length + 1]
        return inputs, labels

    def _bos_positions(self, start: int, stop: int) -> Integers:
        """Token indices in [start, stop) in front of which the window that starts at `start` has a `<s>`."""
        if self.config.bos == "document":
            first, last = np.searchsorted(self.split.documents, [start, stop])
            return self.split.documents[first:last]
        return np.array([start] if self.config.bos == "window" else [], np.int64)

    def _bos_precedes(self, start: int) -> bool:
        """Whether a window that starts at `start` begins with `<s>`."""
        return len(self._bos_positions(start, start + 1)) > 0


class TrainWindows(_Windows):
    """The windows of a training split: a pure function of (seed, epoch, index), in an order reshuffled each epoch.

    *Positions* count windows in training order over all epochs: epoch 0 has the positions 0 to `epoch_size(0)` − 1.
    The first epochs may have other lengths than `config` says, `first_lengths` in place of its `seq_length`.
    """

    def __init__(
        self, split: TokenSplit, config: WindowConfig, seed: int, bos_id: int, pad_id: int,
        first_lengths: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__(split, config, bos_id, pad_id)
        self.seed, self._first_lengths = seed, first_lengths
        self._segments = _segments(split, config.fraction)
        if not self._segments:
            raise UserError(f"data.fraction: {config.fraction}: so little of this text leaves nothing to train on")
        self._sizes: list[int] = []
        self._epochs: dict[int, tuple[Integers, Integers, Integers]] = {}

    def epoch_size(self, epoch: int) -> int:
        """Number of windows of an epoch; a few more or less from one epoch to the next."""
        while len(self._sizes) <= epoch:
            self._sizes.append(len(self._epoch(len(self._sizes))[0]))
        return self._sizes[epoch]

    def length(self, epoch: int) -> int:
        """Tokens of each window of an epoch."""
        return self._first_lengths[epoch] if epoch < len(self._first_lengths) else self.config.seq_length

    def locate(self, position: int) -> tuple[int, int]:
        """(epoch, index in that epoch's training order) of a position."""
        epochs, indices = self._locate(np.array([position]))
        return int(epochs[0]), int(indices[0])

    def epochs_before(self, position: int) -> float:
        """How many epochs are done before a position."""
        epoch, index = self.locate(position)
        return epoch + index / self.epoch_size(epoch)

    @property
    def words_in_epoch(self) -> int:
        """Number of words begun in what an epoch passes over."""
        return sum(int(self.split.words[end]) - int(self.split.words[start]) for start, end in self._segments)

    def bounds(self, positions: Positions) -> tuple[Integers, Integers]:
        """Token ranges [start, end) that the windows own."""
        starts, ends, _ = self._at(positions)
        return starts, ends

    def first_positions(self, positions: Positions) -> Integers:
        """The positions in the first epoch of windows that come again, as with crop="fixed" and one length all do."""
        starts, order = self._first_starts
        found: Integers = order[np.searchsorted(starts, self.bounds(positions)[0])]
        return found

    @cached_property
    def _first_starts(self) -> tuple[Integers, Integers]:
        """Where the first epoch's windows start, ascending, and the position of each."""
        starts = self._epoch(0)[0]
        order = starts.argsort()
        return starts[order], order

    def batch(self, positions: Positions) -> tuple[Integers, Integers]:
        """(input_ids, labels), int64 (n, seq_length). `labels[t]` is the token after `input_ids[t]`, or -100.

        Windows of epochs that differ in length have no batch in common.
        """
        epochs, _ = self._locate(np.asarray(positions, np.int64))
        (length,) = {self.length(epoch) for epoch in np.unique(epochs).tolist()} or {self.config.seq_length}
        return self._fill(*self._at(positions), length)

    def words(self, positions: Positions) -> int:
        """Number of words begun in the token ranges that the windows own."""
        starts, ends, _ = self._at(positions)
        return int((self.split.words[ends].astype(np.int64) - self.split.words[starts]).sum())

    def _locate(self, positions: Integers) -> tuple[Integers, Integers]:
        while len(positions) and sum(self._sizes) <= positions.max():
            self.epoch_size(len(self._sizes))
        first = np.cumsum([0, *self._sizes])
        epochs = np.searchsorted(first, positions, side="right") - 1
        return epochs, positions - first[epochs]

    def _at(self, positions: Positions) -> tuple[Integers, Integers, Integers]:
        """(starts, ends, segment ends) of windows."""
        epochs, indices = self._locate(np.asarray(positions, np.int64))
        found = np.empty((3, len(indices)), np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            found[:, here] = [array[indices[here]] for array in self._epoch(epoch)]
        return found[0], found[1], found[2]

    def _epoch(self, epoch: int) -> tuple[Integers, Integers, Integers]:
        """(starts, ends, segment ends) of an epoch's windows in training order. The last two epochs are remembered."""
        if epoch not in self._epochs:
            while len(self._epochs) > 1:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[epoch] = self._cut_epoch(epoch)
        return self._epochs[epoch]

    def _cut_epoch(self, epoch: int) -> tuple[Integers, Integers, Integers]:
        random = np.random.default_rng([self.seed, epoch])
        cutting = np.random.default_rng([self.seed, 0]) if self.config.crop == "fixed" and epoch else random
        room = replace(self.config, seq_length=self.length(epoch)).room
        first_room = int(cutting.integers(1, room + 1))
        snaps = self._snaps(cutting)
        starts, ends, limits = [], [], []
        for start, end in self._segments:
            if self.config.crop == "random":
                count = max(1, (end - start) // room - 1)
                cut = start + np.arange(count) * room + random.integers(0, room, count)
                cut = np.minimum(cut, end - 1)
                stops = np.array([min(self._next_start(first, room, snap=False), end) for first in cut.tolist()])
            else:
                cut = self._cut(start, end, snaps, first_room, room)
                stops = np.append(cut[1:], end)
            starts.append(cut)
            ends.append(stops)
            limits.append(np.full(len(cut), end, np.int64))
        order = random.permutation(sum(map(len, starts)))
        return np.concatenate(starts)[order], np.concatenate(ends)[order], np.concatenate(limits)[order]

    def _snaps(self, random: np.random.Generator) -> Iterator[bool]:
        """Whether each window but a segment's first starts at a line, where one is near.

        Some do not, others in each epoch: else all epochs would cut alike from the first common line start on.
        """
        snap = self.config.window_start == "line"
        while True:
            yield snap and random.random() >= UNSNAPPED


class DevWindows(_Windows):
    """Fixed windows of a dev or test split: at most `samples`, spread evenly over the domains and within each.

    The share of a domain is proportional to its windows, but at least one. Neither a seed nor `fraction` plays a role.
    """

    seed = 0

    def __init__(self, split: TokenSplit, config: WindowConfig, samples: int, bos_id: int, pad_id: int) -> None:
        super().__init__(split, config, bos_id, pad_id)
        snaps = itertools.repeat(config.window_start == "line")
        cuts = [self._cut(domain.start, domain.end, snaps, config.room, config.room) for domain in split.domains]
        counts = _shares([len(cut) for cut in cuts], samples)
        starts, ends, limits, domains = [], [], [], []
        for number, (cut, count) in enumerate(zip(cuts, counts, strict=True)):
            limit = split.domains[number].end
            chosen = (np.arange(count) * len(cut) + len(cut) // 2) // max(count, 1)
            starts.append(cut[chosen])
            ends.append(np.append(cut[1:], limit)[chosen])
            limits.append(np.full(count, limit, np.int64))
            domains.append(np.full(count, number, np.int64))
        self._starts, self._ends = np.concatenate(starts), np.concatenate(ends)
        self._limits, self._domains = np.concatenate(limits), np.concatenate(domains)

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, indices: Positions) -> tuple[Integers, Integers]:
        """(input_ids, labels) as in `TrainWindows.batch`."""
        chosen = np.asarray(indices, np.int64)
        return self._fill(self._starts[chosen], self._ends[chosen], self._limits[chosen], self.config.seq_length)

    def bounds(self, indices: Positions) -> tuple[Integers, Integers]:
        """Token ranges [start, end) that the windows own."""
        chosen = np.asarray(indices, np.int64)
        return self._starts[chosen], self._ends[chosen]

    def domain_of(self, index: int) -> int:
        """Number of the window's domain in `split.domains`."""
        return int(self._domains[index])


def _segments(split: TokenSplit, fraction: float) -> list[tuple[int, int]]:
    """Token ranges that windows are cut from: whole domains, or their kept blocks where `fraction` < 1.

    A domain is cut at line starts into 100 blocks (more where less than a hundredth is wanted), of which block b is
    kept if ⌊(b+1)·fraction⌋ > ⌊b·fraction⌋: evenly spread, and the same ones each time.
    """
    if fraction == 1:
        return [(domain.start, domain.end) for domain in split.domains if domain.end > domain.start]
    exact = Fraction(fraction).limit_denominator(10**6)
    segments = []
    for domain in split.domains:
        first, last = np.searchsorted(split.lines, [domain.start, domain.end])
        blocks = min(max(BLOCKS, math.ceil(1 / exact)), int(last - first))
        rough = domain.start + np.arange(1, blocks) * (domain.end - domain.start) // max(blocks, 1)
        inner = split.lines[np.searchsorted(split.lines[first:last], rough).clip(max=last - first - 1) + first]
        cuts = [domain.start, *inner.tolist(), domain.end]
        kept = [b for b in range(blocks) if math.floor((b + 1) * exact) > math.floor(b * exact)]
        segments += [(cuts[b], cuts[b + 1]) for b in kept if cuts[b] < cuts[b + 1]]
    return segments


def _shares(sizes: list[int], samples: int) -> list[int]:
    """How many of `sizes` windows each domain gives to a sample of at most `samples`."""
    total = sum(sizes)
    if samples < sum(size > 0 for size in sizes):
        raise UserError(f"data.dev_samples: {samples}: expected at least one for each of the {len(sizes)} domains")
    if total <= samples:
        return sizes
    shares = [max(samples * size // total, min(size, 1)) for size in sizes]
    while sum(shares) > samples:
        shares[shares.index(max(shares))] -= 1
    return shares
