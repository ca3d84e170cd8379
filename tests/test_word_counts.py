"""Counted words: they are those that the tokenizers library counts, and train the same tokenizer."""

import json
import unicodedata
from collections import Counter
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models

from palenka.data import tokenizer, word_counts
from palenka.data.word_counts import count_words, repeated

NASTY = [
    "The cat's mat, isn't it? We'll see: they've 3,141 'quoted' things.",
    "",
    " begins with a space",
    "two  spaces, three   spaces and one at the end ",
    "tab\there, no-break\u00a0space, next line\x85, unit\x1fseparator",
    "a\nline end inside\n",
    "café, ﬁne ½ ＡＢＣ 東京 Привет 🙂 e\u0301 \u0301lone ² Ⅷ ٣",
    "Ġ is a letter, and Ċ too",
    "x<s>x </s> ＜s＞ <mask> and <pad>",
    "¨ ´ accents that become spaces",
    "word" * 200 + " " + "-" * 500 + " 'tis " + "é" * 300,
    "zero\u200bwidth \u00ad\u2060 \x07bell",
]


def plainly_trained(texts: list[str], vocab_size: int) -> Any:
    """Vocabulary and merges as the library learns them from the text itself."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer, backend.pre_tokenizer = tokenizer.NORMALIZER, tokenizer.PRE_TOKENIZER
    backend.train_from_iterator(tokenizer._training_pieces(texts), tokenizer._trainer(vocab_size))
    return json.loads(backend.to_str())["model"]


@pytest.mark.parametrize("piece", [5, 1_000_000])
@pytest.mark.parametrize("most", [10, word_counts.MOST_SPACED])
def test_counted_words_train_the_tokenizer_that_the_text_trains(
    piece: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "PIECE", piece)
    monkeypatch.setattr(word_counts, "MOST_SPACED", most)
    monkeypatch.setattr(word_counts, "BATCH_CHARACTERS", 100)
    texts = NASTY * 3
    trained = tokenizer.train_tokenizer(iter(texts), 400).backend_tokenizer
    assert json.loads(trained.to_str())["model"] == plainly_trained(texts, 400)


texts = st.lists(
    st.lists(st.sampled_from([*"aZ9' .,-_ĠéÉ½²東\u0301\u00a0\t\n🙂", "'s", "'ll", "'LL", "word", "  "]), max_size=20),
    max_size=5,
).map(lambda texts: [unicodedata.normalize("NFKC", "".join(text)) for text in texts])


@settings(deadline=None)
@given(texts=texts)
def test_words_are_those_that_the_pre_tokenizer_cuts(texts: list[str]) -> None:
    expected = Counter(word for text in texts for word in tokenizer._cut(text))
    assert count_words(iter(texts), tokenizer._cut) == expected


def test_words_come_as_often_as_they_were_counted() -> None:
    found = Counter(word for text in repeated(Counter({"Ġa": 7, "b": 3, "c": 1}), most=3) for word in text.split())
    assert found == {"Ġa": 7, "b": 3, "c": 1}


def test_another_cut_by_the_library_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="does not cut words"):
        count_words(iter(["the cat's mat"]), lambda text: [f"Ġ{word}" for word in text.split()])
