"""Token ids of clean lines, where each distinct word is encoded once: a text has few, and the tokenizer is slow.

A word, here, is what stands between two spaces: the tokenizer cuts a line before each single space, and what follows
has the same tokens wherever it stands. So ids are looked up word by word. The tokenizer encodes words that are new, and
is the judge: on a sample of lines the ids have to be those that it gives. A line with other white space than single
spaces, written so or by normalisation, goes to it as a whole.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray

from palenka.data.tokenizer import corpus_pieces, encode_lines
from palenka.data.windows import Integers

LINE_END = "\n"
MOST_WORDS, MOST_CHARACTERS = 1 << 19, 1 << 24
"""Of words that are remembered: all are forgotten where there are more."""
LONGEST_WORD = 1000
"""Characters. Longer words seldom come again."""
TOGETHER = 256
"""Words that the tokenizer reads as one text."""
SAMPLED, SAMPLED_CHARACTERS = 1000, 1000
"""One line in so many is compared with what the tokenizer gives, up to the end of a word after so many characters."""


class Encoded(NamedTuple):
    """Token ids of lines, one after another, and how many each line has."""

    ids: NDArray[np.uint16]
    lengths: Integers


class _Numbers(dict[str, int]):
    """Words by number, in the order in which they came; `new` are those since it was emptied."""

    def __init__(self) -> None:
        self[LINE_END] = 0
        self.new: list[str] = []

    def __missing__(self, word: str) -> int:
        self.new.append(word)
        self[word] = number = len(self)
        return number


class LineEncoder:
    """Encodes lines as `tokenizer.encode_lines` does, to the same ids.

    Args:
        backend: `tokenizer.corpus_backend`'s.
        begins_word: (vocabulary,), which tokens begin with a space.
    """

    def __init__(self, backend: tokenizers.Tokenizer, begins_word: NDArray[np.bool_]) -> None:
        self._backend, self._begins_word = backend, begins_word
        self._forget()

    def encode(self, lines: list[str]) -> Encoded:
        """Ids of lines, none of which is empty or has a newline in it.

        Raises:
            RuntimeError: they are not those that the tokenizer gives.
        """
        if not lines:
            return Encoded(np.empty(0, np.uint16), np.empty(0, np.int64))
        if len(self._numbers) > MOST_WORDS or self._characters > MOST_CHARACTERS:
            self._forget()
        numbers = np.fromiter(map(self._numbers.__getitem__, _words(lines)), np.int64)
        self._learn()
        encoded = self._found(numbers, lines)
        self._check(encoded, lines)
        return encoded

    def _forget(self) -> None:
        self._numbers, self._characters = _Numbers(), 0
        self._ids = np.empty(0, np.uint16)
        self._starts = self._sizes = np.zeros(1, np.int64)

    def _learn(self) -> None:
        """Encode the new words, but for those that only their line tells how to: they have no tokens."""
        words, self._numbers.new = self._numbers.new, []
        plain = np.fromiter(map(self._is_plain, words), np.bool_, len(words))
        ids = self._encode([word for word, is_plain in zip(words, plain, strict=True) if is_plain])
        starts = np.flatnonzero(self._begins_word[ids])
        if len(starts) != plain.sum():
            raise RuntimeError(f"{plain.sum()} words have tokens that begin {len(starts)} words")
        sizes = np.zeros(len(words), np.int64)
        sizes[plain] = np.diff(starts, append=len(ids))
        self._starts = np.concatenate([self._starts, len(self._ids) + np.cumsum(sizes) - sizes])
        self._sizes = np.concatenate([self._sizes, sizes])
        self._ids = np.concatenate([self._ids, ids])
        self._characters += sum(map(len, words))

    def _is_plain(self, word: str) -> bool:
        """Whether a word is one in the tokenizer's normal form, too, and no longer than is worth remembering."""
        if not 0 < len(word) <= LONGEST_WORD:
            return False
        if word.isascii() and word.isprintable():
            return True
        normal = self._backend.normalizer.normalize_str(word)
        return bool(normal.split() == [normal])

    def _encode(self, words: list[str]) -> NDArray[np.uint16]:
        texts = [" ".join(words[start : start + TOGETHER]) for start in range(0, len(words), TOGETHER)]
        return _array(chain.from_iterable(encode_lines(self._backend, texts)))

    def _found(self, numbers: Integers, lines: list[str]) -> Encoded:
        sizes, is_end = self._sizes[numbers], numbers == 0
        ends = np.cumsum(sizes)
        lengths = np.diff(ends[is_end], prepend=0)
        ids = self._ids[np.arange(ends[-1]) + np.repeat(self._starts[numbers] + sizes - ends, sizes)]
        unknown = np.unique(np.cumsum(is_end)[(sizes == 0) & ~is_end]).tolist()
        return self._completed(Encoded(ids, lengths), lines, unknown) if unknown else Encoded(ids, lengths)

    def _completed(self, encoded: Encoded, lines: list[str], unknown: list[int]) -> Encoded:
        """With the tokenizer's ids for those lines that have words without tokens."""
        parts = np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])
        for number in unknown:
            parts[number] = _array(encode_lines(self._backend, [lines[number]])[0])
        return Encoded(np.concatenate(parts), np.array([len(part) for part in parts], np.int64))

    def _check(self, encoded: Encoded, lines: list[str]) -> None:
        starts = np.cumsum(encoded.lengths) - encoded.lengths
        for number in range(0, len(lines), SAMPLED):
            head, start = _head(lines[number]), int(starts[number])
            [expected] = encode_lines(self._backend, [head])
            end = start + (len(expected) if head != lines[number] else int(encoded.lengths[number]))
            if encoded.ids[start:end].tolist() != expected:
                raise RuntimeError(f"the tokenizer reads {head!r} otherwise than word by word")


def _words(lines: list[str]) -> Iterator[str]:
    """The words of lines, and `LINE_END` after each line. An empty one is between two spaces, or at a line's edge."""
    text = f" {LINE_END} ".join([*lines, ""])[:-1]
    return chain.from_iterable(piece.removeprefix(" ").split(" ") for piece in corpus_pieces(text))


def _head(line: str) -> str:
    end = line.find(" ", SAMPLED_CHARACTERS)
    return line if end < 0 else line[:end]


def _array(ids: Iterable[int]) -> NDArray[np.uint16]:
    return np.fromiter(ids, np.uint16)
