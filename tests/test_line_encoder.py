"""Lines encoded word by word: the ids are the tokenizer's, for every line."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer

from palenka.data import line_encoder
from palenka.data.line_encoder import LineEncoder
from palenka.data.tokenizer import corpus_backend, encode_lines, train_tokenizer

TEXT = ["The cat sat on the mat, and the dog's café.", "A: Did the dog see the cat? <s> No, 東京."] * 5
NASTY = [
    *TEXT,
    "<s>begins</s> and ends <pad><mask> ＜s＞",
    " begins with a space", "ends with one ", "two  of them", "three   of them", " ",
    "no-break\u00a0space, tab\tand \t both", "\u00a0", "¨ accent that becomes a space", "ﷺ that becomes words", "a¨",
    "e\u0301 \u0301lone ½ ﬁ ＡＢＣ ①", "Ġ Ċ Ġa", "zero\u200bwidth \x07bell \u2028separator",
    "ab" * 5000 + " " + "-" * 2000 + " the", "🙂🙂 \U0010ffff", "'s it's 'll", "0 123 4,5",
]  # fmt: skip


@pytest.fixture(scope="module")
def backend() -> Tokenizer:
    return corpus_backend(train_tokenizer(iter(TEXT), 330))


@pytest.fixture(scope="module")
def begins_word(backend: Tokenizer) -> NDArray[np.bool_]:
    return np.array([str(backend.id_to_token(number)).startswith("Ġ") for number in range(backend.get_vocab_size())])


@pytest.fixture
def make(backend: Tokenizer, begins_word: NDArray[np.bool_]) -> Callable[[], LineEncoder]:
    return lambda: LineEncoder(backend, begins_word)


def listed(encoder: LineEncoder, lines: list[str]) -> list[list[int]]:
    encoded = encoder.encode(lines)
    assert encoded.ids.dtype == np.uint16 and encoded.lengths.sum() == len(encoded.ids)
    return [ids.tolist() for ids in np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])]


@pytest.mark.parametrize(("words", "characters"), [(1 << 19, 1 << 24), (3, 1 << 24), (1 << 19, 10)])
def test_ids_are_the_tokenizers_for_every_line(
    make: Callable[[], LineEncoder], backend: Tokenizer, words: int, characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_encoder, "MOST_WORDS", words)
    monkeypatch.setattr(line_encoder, "MOST_CHARACTERS", characters)
    encoder = make()
    for lines in ([*NASTY], TEXT, [*reversed(NASTY)], *([line] for line in NASTY)):
        assert listed(encoder, lines) == encode_lines(backend, lines)


def test_no_lines_have_no_ids(make: Callable[[], LineEncoder]) -> None:
    ids, lengths = make().encode([])
    assert len(ids) == len(lengths) == 0


def test_a_line_that_is_read_in_pieces_has_the_same_ids(
    make: Callable[[], LineEncoder], backend: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode_lines(backend, TEXT)
    for size in (1, 7, 40):
        monkeypatch.setattr("palenka.data.tokenizer.PIECE", size)
        assert listed(make(), TEXT) == whole


lines = st.text(st.sampled_from([*"aT9' .,-<>sĠéÉ½²東\u0301\u00a0\t🙂¨ﷺ\u200b"]), min_size=1, max_size=30)


@settings(deadline=None)
@given(batches=st.lists(st.lists(lines, max_size=4), max_size=3))
def test_any_line_has_the_tokenizers_ids(
    backend: Tokenizer, begins_word: NDArray[np.bool_], batches: list[list[str]]
) -> None:
    encoder = LineEncoder(backend, begins_word)
    for batch in filter(None, batches):
        assert listed(encoder, batch) == encode_lines(backend, batch)


@pytest.mark.parametrize("line", ["the cat sat", "the cat sat " * 200])
def test_other_ids_than_the_tokenizers_are_an_error(make: Callable[[], LineEncoder], line: str) -> None:
    encoder = make()
    encoder.encode(["the cat"])
    encoder._ids = encoder._ids[::-1].copy()
    with pytest.raises(RuntimeError, match="reads 'the cat sat"):
        encoder.encode([line.strip()])


def test_tokens_that_begin_too_few_words_are_an_error(backend: Tokenizer, begins_word: NDArray[np.bool_]) -> None:
    with pytest.raises(RuntimeError, match="2 words have tokens that begin 0 words"):
        LineEncoder(backend, np.zeros_like(begins_word)).encode(["the cat"])
