"""A 5-gram model with interpolated modified Kneser–Ney smoothing, fitted only where it is asked.

Source: Chen & Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (1998), section 3.4.
With a(g) the count of an n-gram g, h' the context h without its first token, V the size of the vocabulary:

    P_n(w | h) = max(a(h w) − D_n(a(h w)), 0) / Σ_v a(h v)  +  γ_n(h) P_{n−1}(w | h')
    γ_n(h)     = (D_n1 N1(h •) + D_n2 N2(h •) + D_n3+ N3+(h •)) / Σ_v a(h v)          P_0(w) = 1 / V

N1, N2, N3+ are the numbers of continuations of h with a count of 1, 2, 3 or more. Where h was never seen,
P_n = P_{n−1}. A 5-gram's count is how often it occurs; a shorter one's is how many different tokens precede it.
An n-gram that begins with `<s>` has nothing before it, and keeps its plain count.

**A line is a sentence**: each line of the training text, and of the texts asked about, begins with `<s>`, and no
n-gram crosses the beginning of a line (hence none crosses documents). So a text starts to be scored in a state that
the model has met once per line. The newline or `</s>` that ends a line is a token like others.

**Bounded memory.** Tokens stay memory-mapped. They are counted in parts, by the last token of the n-gram: all n-grams
of one continuation are then in one part, with the distinct tokens before each of them. Of each part only the counts
that the queries need are kept, and how many n-grams occur once, twice, three and four times: these numbers decide
the discounts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDER = 5
PART_TOKENS = 2**21
SCAN_TOKENS = 2**22
START = 1
"""The number of `<s>` in a context; no stored token has it."""
MIX = np.uint64(0x9E3779B97F4A7C15)

Keys = NDArray[np.uint64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Grams:
    """Token positions as n-grams that end there.

    `contexts[n]` holds the n tokens before each position, packed 16 bits each (n < 5); it means something where
    `length`, the number of tokens before it in its line, `<s>` counted and at most 4, is at least n.
    """

    words: Keys
    contexts: list[Keys]
    length: Integers

    @classmethod
    def at(cls, tokens: NDArray[np.uint16], lines: Integers, positions: Integers) -> "Grams":
        """Grams ending at `positions` of `tokens`, whose lines start at `lines` (ascending, the first 0)."""
        before = positions - lines[np.searchsorted(lines, positions, side="right") - 1]
        contexts = [np.zeros(len(positions), np.uint64)]
        for back in range(1, ORDER):
            token = tokens[np.maximum(positions - back, 0)].astype(np.uint64)
            token[before == back - 1] = START
            contexts.append(contexts[-1] | token << np.uint64(16 * (back - 1)))
        return cls(tokens[positions].astype(np.uint64), contexts, np.minimum(before + 1, ORDER - 1))

    def keys(self, n: int, rows: Integers) -> Keys:
        """One number for each n-gram: exact but for chance collisions of 64 bits."""
        return self.contexts[n - 1][rows] * MIX + self.words[rows]


class _Wanted:
    """The n-grams of one order that are asked about, and what the training text says of them and of their contexts."""

    def __init__(self, n: int, queries: Grams) -> None:
        self.n = n
        self.rows = np.flatnonzero(queries.length >= n - 1)
        self.grams, self.gram_of = np.unique(queries.keys(n, self.rows), return_inverse=True)
        self.contexts, self.context_of = np.unique(queries.contexts[n - 1][self.rows], return_inverse=True)
        self.count = np.zeros(len(self.grams), np.int64)
        self.total = np.zeros(len(self.contexts), np.int64)
        self.continuations = np.zeros((3, len(self.contexts)), np.int64)
        self.counts_of_counts = np.zeros(5, np.int64)

    def add(self, keys: Keys, contexts: Keys, counts: Integers) -> None:
        """Take in distinct n-grams, none of them seen before, with their counts."""
        self.counts_of_counts += np.bincount(np.minimum(counts, 5), minlength=6)[1:]
        rows, at = _find(self.grams, keys)
        self.count[at] = counts[rows]
        rows, at = _find(self.contexts, contexts)
        self.total += np.bincount(at, counts[rows], len(self.contexts)).astype(np.int64)
        for number, of_this in enumerate((counts == 1, counts == 2, counts >= 3)):
            self.continuations[number] += np.bincount(at[of_this[rows]], minlength=len(self.contexts))

    def interpolate(self, lower: NDArray[np.float64]) -> None:
        """Turn P_{n−1} of all queries into P_n, in place, where their contexts were seen."""
        discounts = discounts_from(self.counts_of_counts)
        total = self.total[self.context_of]
        count = self.count[self.gram_of]
        discounted = np.maximum(count - np.concatenate([[0.0], discounts])[np.minimum(count, 3)], 0)
        left_over = (discounts @ self.continuations)[self.context_of]
        seen = total > 0
        rows = self.rows[seen]
        lower[rows] = (discounted[seen] + left_over[seen] * lower[rows]) / total[seen]


def discounts_from(counts_of_counts: Integers) -> NDArray[np.float64]:
    """Discounts of counts 1, 2 and 3+, from the numbers of n-grams with a count of 1, 2, 3, 4 (Chen & Goodman, eq. 26).

    Where a text is too small for them (a number is 0, or a discount not positive): 0.5, 1, 1.5, as in KenLM.
    """
    once, twice, thrice, four_times = (int(number) for number in counts_of_counts[:4])
    if min(once, twice, thrice) > 0:
        y = once / (once + 2 * twice)
        discounts = np.array([1 - 2 * y * twice / once, 2 - 3 * y * thrice / twice, 3 - 4 * y * four_times / thrice])
        if four_times > 0 and (discounts > 0).all():
            return discounts
    return np.array([0.5, 1.0, 1.5])


def log_probs(
    tokens: NDArray[np.uint16],
    lines: Integers,
    vocabulary: int,
    asked: NDArray[np.uint16],
    asked_lines: Integers,
    part_tokens: int = PART_TOKENS,
) -> NDArray[np.float64]:
    """log P_5 of each token of `asked`, in nats, in a model fitted to `tokens`: (len(asked),).

    Args:
        tokens: the training text; may be memory-mapped.
        lines: where its lines start, ascending, the first 0.
        vocabulary: number of tokens that the probability is spread over, at most 65,536.
        asked: texts, one after the other.
        asked_lines: where their lines start, ascending, the first 0.
        part_tokens: about how many positions are counted at a time.
    """
    queries = Grams.at(asked, asked_lines, np.arange(len(asked)))
    wanted = [_Wanted(n, queries) for n in range(1, ORDER + 1)]
    for positions in _parts(tokens, part_tokens):
        grams = Grams.at(tokens, lines, positions)
        for order in wanted:
            order.add(*_counted(grams, order.n))
    probabilities = np.full(len(asked), 1 / vocabulary)
    for order in wanted:
        order.interpolate(probabilities)
    return np.log(probabilities)


def _parts(tokens: NDArray[np.uint16], part_tokens: int) -> Iterator[Integers]:
    """Positions of the tokens, ascending, in parts: all positions of a token are in the same part."""
    chunks = [slice(start, start + SCAN_TOKENS) for start in range(0, len(tokens), SCAN_TOKENS)]
    frequencies = sum((np.bincount(tokens[chunk], minlength=2**16) for chunk in chunks), np.zeros(2**16, np.int64))
    part_of = ((np.cumsum(frequencies) - frequencies) // part_tokens).astype(np.uint16)
    for part in np.unique(part_of[frequencies > 0]):
        yield np.concatenate([np.flatnonzero(part_of[tokens[chunk]] == part) + chunk.start for chunk in chunks])


def _counted(grams: Grams, n: int) -> tuple[Keys, Keys, Integers]:
    """Keys, contexts and counts of the distinct n-grams of a part."""
    rows = np.flatnonzero(grams.length >= n - 1)
    if n < ORDER:
        preceded = grams.length[rows] >= n
        once_each = rows[preceded][_first_of_each(grams.keys(n + 1, rows[preceded]))[0]]
        rows = np.concatenate([once_each, rows[~preceded]])
    keys = grams.keys(n, rows)
    first, counts = _first_of_each(keys)
    return keys[first], grams.contexts[n - 1][rows[first]], counts


def _first_of_each(keys: Keys) -> tuple[Integers, Integers]:
    """For each distinct key: a row that has it, and how many do.

    By sorting, which takes a hundredth of the time of np.unique's hashing.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(keys) else order
    return order[starts], np.diff(starts, append=len(keys))


def _find(wanted: Keys, keys: Keys) -> tuple[Integers, Integers]:
    """Rows of `keys` that are among `wanted` (sorted), and where there."""
    if len(wanted) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    at = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    rows = np.flatnonzero(wanted[at] == keys)
    return rows, at[rows]
