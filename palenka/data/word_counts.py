"""The words that a tokenizer is trained on, counted: a text has few distinct ones, and each is cut but once.

Text is counted at its spaces first, which is cheap; what stands between two is then cut as the tokenizer's
pre-tokenizer cuts it. That never reaches across a single space, so both ways give the same words.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, repeat

Cut = Callable[[str], list[str]]
"""A text's words, as the pre-tokenizer makes them."""

SPACE = "Ġ"
"""What the pre-tokenizer makes of a space."""
BATCH_CHARACTERS = 1 << 18
MOST_SPACED = 1 << 18
"""Distinct strings between spaces that are held before they are cut: they grow faster than words do."""
SAMPLE = 256

_ASCII_WORD = re.compile(rf"'(?:[stmd]|re|ve|ll)|{SPACE}?[A-Za-z]+|{SPACE}?[0-9]+|{SPACE}?[^{SPACE}A-Za-z0-9]+")
"""The pre-tokenizer's words of printable ASCII, where each space is `SPACE`."""


def count_words(pieces: Iterable[str], cut: Cut) -> Counter[str]:
    """How often each word occurs in pieces of text, read once.

    Raises:
        RuntimeError: `cut` makes other words of a sample than is known of it.
    """
    spaced: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for batch in _batches(filter(None, pieces)):
        if not _count_spaced(" ".join(batch), spaced):
            for piece in batch:
                if not _count_spaced(piece.removeprefix(" "), spaced):
                    words.update(cut(piece))
        if len(spaced) > MOST_SPACED:
            _add_cut(spaced, words, cut)
    _add_cut(spaced, words, cut)
    return words


def repeated(words: Counter[str], most: int = 4096) -> Iterator[str]:
    """Each word as often as it occurs, with a space between two: at most so many at once. Empties `words`."""
    while words:
        word, count = words.popitem()
        for size in (*repeat(most, count // most), count % most):
            yield " ".join(repeat(word, size))


def _batches(pieces: Iterable[str]) -> Iterator[list[str]]:
    """Pieces whose characters are about `BATCH_CHARACTERS` together."""
    batch, size = [], 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    yield batch


def _count_spaced(text: str, spaced: Counter[str]) -> bool:
    """Count what stands between spaces, unless they are not single ones alone; returns whether they are."""
    parts = text.split(" ")
    if not (text.isprintable() and all(parts)) and parts != text.split():  # the first is quick and mostly enough
        return False
    spaced.update(parts)
    return True


def _add_cut(spaced: Counter[str], words: Counter[str], cut: Cut) -> None:
    """Empty `spaced` into `words`."""
    ascii_only = {text: count for text, count in spaced.items() if text.isascii() and text.isprintable()}
    _check(list(islice(ascii_only, SAMPLE)), cut)
    _add(_cut_ascii(ascii_only), ascii_only.values(), words)
    others = {text: count for text, count in spaced.items() if text not in ascii_only}
    _add(chain.from_iterable(map(cut, others)), others.values(), words)
    spaced.clear()


def _add(pieces: Iterable[str], counts: Iterable[int], words: Counter[str]) -> None:
    """Count pieces of strings, each of which begins with `SPACE`, as often as the string occurs."""
    remaining, count = iter(counts), 0
    for piece in pieces:
        if piece[0] == SPACE:
            count = next(remaining)
        words[piece] += count


def _cut_ascii(texts: Iterable[str]) -> list[str]:
    return _ASCII_WORD.findall(SPACE + SPACE.join(texts))


def _check(texts: list[str], cut: Cut) -> None:
    """See on a sample that the tokenizers library cuts as this module does."""
    if texts and cut(" ".join(texts)) != _cut_ascii(texts):
        raise RuntimeError("the tokenizers library does not cut words as palenka.data.word_counts does")
