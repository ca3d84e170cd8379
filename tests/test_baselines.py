"""The baselines: word frequencies, and a 5-gram model against hand-computed and slow reference Kneser–Ney."""

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from palenka.data.tokenizer import load_tokenizer
from palenka.data.tokens import TokenSplit
from palenka.evaluation import baselines, ngram
from palenka.evaluation.baselines import count_words, measure_baselines, ngram_scores, word_scores, words
from palenka.evaluation.items import Choice, Item, Task

Lines = list[list[int]]
FIRST = 4
"""The smallest token id in these texts: those below are special, and `<s>` is never stored."""


def flat(lines: Lines) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, and where each line starts."""
    lengths = np.array([len(line) for line in lines])
    return np.array([token for line in lines for token in line], np.uint16), np.cumsum(lengths) - lengths


def fitted(training: Lines, asked: Lines, vocabulary: int, part_tokens: int = 2**21) -> np.ndarray:
    """P of each token of `asked`."""
    return np.exp(ngram.log_probs(*flat(training), vocabulary, *flat(asked), part_tokens))


class Reference:
    """Interpolated modified Kneser–Ney by its definition: dictionaries of tuples, no hashing, no parts."""

    def __init__(self, lines: Lines, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        occurrences: Counter[tuple] = Counter()
        for line in lines:
            sentence = ["<s>", *line]
            for n in range(1, ngram.ORDER + 1):
                for end in range(max(n, 2), len(sentence) + 1):
                    occurrences[tuple(sentence[end - n : end])] += 1
        before = defaultdict(set)
        for gram in occurrences:
            before[gram[1:]].add(gram[0])
        self.counts = [Counter() for _ in range(ngram.ORDER + 1)]
        for gram, count in occurrences.items():
            plain = len(gram) == ngram.ORDER or gram[0] == "<s>"
            self.counts[len(gram)][gram] = count if plain else len(before[gram])

    def discount(self, n: int, count: int) -> float:
        number = Counter(self.counts[n].values())
        discounts = [0, 0.5, 1, 1.5]
        if all(number[k] for k in (1, 2, 3, 4)):
            y = number[1] / (number[1] + 2 * number[2])
            exact = [0] + [k - (k + 1) * y * number[k + 1] / number[k] for k in (1, 2, 3)]
            discounts = exact if min(exact[1:]) > 0 else discounts
        return discounts[min(count, 3)]

    def probability(self, context: tuple, word: int) -> float:
        lower = self.probability(context[1:], word) if context else 1 / self.vocabulary
        n = len(context) + 1
        followers = {gram[-1]: count for gram, count in self.counts[n].items() if gram[:-1] == context}
        if not followers:
            return lower
        total = sum(followers.values())
        left_over = sum(self.discount(n, count) for count in followers.values())
        count = followers.get(word, 0)
        return (count - self.discount(n, count) + left_over * lower) / total

    def line(self, line: list[int]) -> list[float]:
        sentence = ["<s>", *line]
        return [self.probability(tuple(sentence[max(0, i - 4) : i]), sentence[i]) for i in range(1, len(sentence))]


def random_lines(seed: int, count: int, vocabulary: int) -> Lines:
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocabulary + 1)
    lengths = random.integers(1, 12, count)
    return [(FIRST + random.choice(vocabulary, length, p=weights / weights.sum())).tolist() for length in lengths]


def test_two_lines_by_hand() -> None:
    # Lines "a b" and "a c", vocabulary 4, discounts 0.5, 1, 1.5 (too small a text to estimate any).
    # Unigrams count distinct tokens before them: a 1 (<s>), b 1, c 1.
    # P1 = (1 - .5)/3 + 1.5/3 · 1/4 = 7/24 for each; P1(d) = 3/24.
    # <s>: a twice. P2(a | <s>) = (2 - 1)/2 + 1/2 · 7/24 = 31/48.
    # a: b and c, each after one token (<s>): P2(b | a) = (1 - .5)/2 + 1/2 · 7/24 = 19/48.
    # <s> a: b once, c once. P3(b | <s> a) = .25 + 1/2 · 19/48 = 43/96.
    a, b, c, d = 10, 11, 12, 13
    p_a, p_b = fitted([[a, b], [a, c]], [[a, b]], vocabulary=4)
    assert p_a == pytest.approx(31 / 48)
    assert p_b == pytest.approx(43 / 96)
    # d after <s> a: 1/2 · 1/2 · P1(d); a first token never seen at a line's start: 1/2 · P1(b).
    assert fitted([[a, b], [a, c]], [[a, d]], 4)[1] == pytest.approx(0.5 * 0.5 * 3 / 24)
    assert fitted([[a, b], [a, c]], [[b]], 4)[0] == pytest.approx(0.5 * 7 / 24)


def test_a_longer_context_that_was_never_seen_changes_nothing() -> None:
    a, b, c, d = 10, 11, 12, 13
    training = [[a, b], [a, c]]
    # d has never been a context: after it, only the unigram is left.
    assert fitted(training, [[d, b]], 4)[1] == pytest.approx(7 / 24)


@pytest.mark.parametrize("part_tokens", [1, 50, 2**21])
@pytest.mark.parametrize(("count", "vocabulary"), [(3, 5), (60, 6), (400, 30)])
def test_equals_the_slow_reference(
    count: int, vocabulary: int, part_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngram, "SCAN_TOKENS", 100)
    training = random_lines(0, count, vocabulary)
    asked = random_lines(1, 25, vocabulary + 2) + training[:3]
    reference = Reference(training, vocabulary + 2)
    expected = [p for line in asked for p in reference.line(line)]
    np.testing.assert_allclose(fitted(training, asked, vocabulary + 2, part_tokens), expected, rtol=1e-10)


def test_the_estimated_discounts_are_used_where_the_text_allows() -> None:
    training = random_lines(0, 400, 30)
    reference = Reference(training, 30)
    assert [reference.discount(n, 1) == 0.5 for n in range(1, 6)] != [True] * 5


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), context=st.lists(st.integers(FIRST, FIRST + 11), max_size=6))
def test_probabilities_sum_to_one(seed: int, context: list[int]) -> None:
    vocabulary = 12
    asked = [[*context, FIRST + word] for word in range(vocabulary)]
    probabilities = fitted(random_lines(seed, 80, 10), asked, vocabulary)
    ends = np.arange(1, vocabulary + 1) * (len(context) + 1) - 1
    assert probabilities[ends].sum() == pytest.approx(1)
    assert (probabilities > 0).all()


def test_nothing_crosses_the_beginning_of_a_line() -> None:
    asked = [[5, 6, 7], [8, 9]]
    lines = random_lines(3, 40, 12)
    shuffled = [lines[i] for i in np.random.default_rng(0).permutation(len(lines))]
    np.testing.assert_allclose(fitted(lines, asked, 12), fitted(shuffled, asked, 12))


def test_large_token_ids_and_the_discount_formula() -> None:
    training = [[65535, 65534, 65535, 65534, 65533]] * 3 + [[65535, 65534]]
    reference = Reference(training, 2**16)
    asked = [[65535, 65534, 65535, 65534, 65533, 0]]
    np.testing.assert_allclose(fitted(training, asked, 2**16), reference.line(asked[0]), rtol=1e-10)
    np.testing.assert_allclose(ngram.discounts_from(np.array([100, 40, 20, 10])), [5 / 9, 2 - 5 / 6, 3 - 10 / 9])
    np.testing.assert_allclose(ngram.discounts_from(np.array([100, 40, 0, 10])), [0.5, 1, 1.5])


def test_words() -> None:
    assert words("Don’t STOP, it's the dogs' 3rd_try…") == ["don't", "stop", "it's", "the", "dogs", "3rd", "try"]


def item(context: str, *texts: str, line: int = 1) -> Item:
    return Item("sub", line, tuple(Choice(context, text) for text in texts))


def test_word_scores_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The dog\n\nthe cat\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("the dog\n", encoding="utf-8")
    counts = count_words(tmp_path)
    assert counts == {"the": 3, "dog": 2, "cat": 1}
    # Six words, three of them different, and one place for all unseen ones: 6 + 3 + 1 = 10.
    scores = word_scores([item("", "The dog.", "A cat!")], counts)
    np.testing.assert_allclose(scores, [math.log(0.4) + math.log(0.3), math.log(0.1) + math.log(0.2)])


def test_permutations_of_the_same_words_tie_exactly() -> None:
    counts = Counter({f"w{i}": 7 * i * i + 1 for i in range(12)})
    random = np.random.default_rng(0)
    texts = [" ".join(random.permutation(list(counts))) for _ in range(100)]
    scores = word_scores([item("", *texts)], counts)
    assert (scores == scores[0]).all()


def as_lines(split: TokenSplit) -> Lines:
    return [line.tolist() for line in np.split(np.asarray(split.tokens), np.asarray(split.lines)[1:])]


def test_items_are_scored_line_by_line_on_the_training_split(data: Path) -> None:
    tokenizer = load_tokenizer(data / "tokenizer")
    dialogue = "The cat sees a dog.\nThe dog sees the cat."
    items = [item("", dialogue, "Cat the sees."), item("The cat sees", " a dog.", " dog a.")]
    scores = ngram_scores(items, data)

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    reference = Reference(as_lines(TokenSplit.open(data / "train")), len(tokenizer))

    def score(text: str) -> list[float]:
        return [math.log(p) for p in reference.line(ids(text))]

    newline = ids(dialogue).index(ids("\n")[-1]) + 1
    first, second = ids(dialogue)[:newline], ids(dialogue)[newline:]
    expected = sum(math.log(p) for line in (first, second) for p in reference.line(line))
    context = len(ids("The cat sees"))
    np.testing.assert_allclose(scores[:2], [expected, sum(score("Cat the sees."))])
    np.testing.assert_allclose(
        scores[2:], [sum(score("The cat sees a dog.")[context:]), sum(score("The cat sees dog a.")[context:])]
    )


def task(name: str, *pairs: tuple[str, str]) -> Task:
    return Task(name, [item("", *pair, line=line) for line, pair in enumerate(pairs, 1)], {"sub": {}})


def test_baselines_know_common_words_and_common_stretches(data: Path) -> None:
    # The training text is full of "The cat sees a dog."; no line of it has "zebra", or "the" before a verb.
    good = ["The cat sees a dog.", "One boat finds the garden."]
    orders = task("orders", (good[0], "The sees cat a dog."), (good[1], "Boat one garden finds the."))
    both = measure_baselines(data, [orders, task("words", ("The cat sees a dog.", "The cat sees a zebra."))])
    assert both["orders"] == {"zipf": 0.5, "ngram": 1.0}
    assert both["words"] == {"zipf": 1.0, "ngram": 1.0}


def test_baselines_are_measured_once_for_the_same_items_and_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[list[str]] = []
    measure = baselines._measure

    def counted(prepared: Path, tasks: list[Task]) -> list[dict[str, Any]]:
        measured.append([task.name for task in tasks])
        return measure(prepared, tasks)

    monkeypatch.setattr(baselines, "_measure", counted)
    one, two = task("one", ("The cat.", "Cat the.")), task("two", ("A dog.", "Dog a."))
    first = measure_baselines(data, [one])
    assert measure_baselines(data, [one, two])["one"] == first["one"]
    measure_baselines(data, [one, two])
    measure_baselines(data, [task("one", ("The cat.", "The the."))])
    tiny.change_prepared(data, key="another text")
    measure_baselines(data, [two])
    assert measured == [["one"], ["two"], ["one"], ["two"]]
