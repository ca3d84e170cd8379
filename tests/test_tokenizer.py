"""The tokenizer: its design, its determinism, and that it comes back from a folder as it was."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from palenka.data import tokenizer as palenka_tokenizer
from palenka.data.tokenizer import (
    PROBES,
    SPECIAL_TOKENS,
    corpus_backend,
    encode_lines,
    load_tokenizer,
    save_tokenizer,
    tokenizer_sha256,
    train_tokenizer,
    vocabulary_sha256,
)
from palenka.util.errors import UserError

TEXT = [
    "The cat sat on the mat, and the dog sat on the cat.",
    "A: Did the dog see the cat?",
    "B: The cat saw the dog, he said.",
    "Naïve cafés serve the cat <s> and the dog </s>, <pad> and <mask>.",
] * 3

# Characters whose normal form no version of Unicode has changed: the two libraries compared here know different ones.
old_characters = st.characters(exclude_categories=["Cs", "Cc"]).filter(
    lambda character: unicodedata.ucd_3_2_0.category(character) != "Cn"
)
lines = st.text(old_characters, max_size=40).map(lambda text: " ".join(text.split())).filter(bool)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(iter(TEXT), 320)


@pytest.fixture(scope="module")
def backend(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    return corpus_backend(tokenizer)


def test_special_tokens_come_first(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.mask_token_id) == (
        0,
        1,
        2,
        3,
    )
    assert tokenizer.unk_token is None


def test_nothing_is_added_around_a_text(tokenizer: PreTrainedTokenizerFast) -> None:
    assert not set(tokenizer("The cat.")["input_ids"]) & {0, 1, 2, 3}


def test_each_line_begins_with_its_space_and_newlines_stand_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer.tokenize("A: the cat\nB: the dog")
    newline = tokens.index("Ċ")
    assert tokens[0] == "ĠA" and tokens[newline + 1] == "ĠB"
    assert tokens.count("Ċ") == 1 and not any("Ċ" in token for token in tokens if token != "Ċ")


@settings(deadline=None)
@given(first=lines, second=lines)
def test_a_line_has_the_same_tokens_wherever_it_stands(
    tokenizer: PreTrainedTokenizerFast, backend: Tokenizer, first: str, second: str
) -> None:
    alone = encode_lines(backend, [first, second, f"{first}\n{second}"])
    assert alone[2] == [*alone[0], tokenizer.convert_tokens_to_ids("Ċ"), *alone[1]]


@settings(deadline=None)
@given(line=lines)
def test_decoding_gives_the_normalised_line_back(
    tokenizer: PreTrainedTokenizerFast, backend: Tokenizer, line: str
) -> None:
    ids = encode_lines(backend, [line])[0]
    normal = unicodedata.normalize("NFKC", line)
    assert tokenizer.decode(ids) == (normal if normal.startswith(" ") else f" {normal}")


@settings(deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from([*SPECIAL_TOKENS, "<", "s", ">", "/", " ", "a", "＜s＞", "</", "mask", "\n"]), max_size=12
    )
)
def test_a_corpus_cannot_inject_special_tokens(backend: Tokenizer, pieces: list[str]) -> None:
    ids = encode_lines(backend, ["".join(pieces)])[0]
    assert not set(ids) & {0, 1, 2, 3}


def test_training_text_full_of_special_tokens_teaches_none() -> None:
    taught = train_tokenizer(iter(["x<s>x </s> ＜s＞ <mask>"] * 50), 300)
    assert not set(encode_lines(corpus_backend(taught), ["x<s>x </s> ＜s＞ <mask>"])[0]) & {0, 1, 2, 3}


def test_outside_a_corpus_special_tokens_are_read_as_such(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer("<s>the cat</s>")["input_ids"][0] == 1


@pytest.mark.slow
def test_a_word_of_a_megabyte_does_not_stop_the_training(tokenizer: PreTrainedTokenizerFast) -> None:
    """The trainer's time grows with the square of a word's length: days for this one."""
    words = ["ab" * 500_000, "-" * 100_000]
    taught = train_tokenizer(iter([*TEXT, *words]), 320)
    assert encode_lines(corpus_backend(taught), ["the cat"]) and "abababab" in taught.get_vocab()
    for word in words:
        assert taught.decode(encode_lines(corpus_backend(taught), [word])[0]) == f" {word}"


@settings(deadline=None)
@given(texts=st.lists(lines, max_size=4))
def test_other_text_is_trained_on_as_it_is(texts: list[str]) -> None:
    plain = [unicodedata.normalize("NFKC", text) for text in texts]
    assert list(palenka_tokenizer._training_pieces(plain)) == plain


def test_a_long_line_has_the_tokens_that_it_has_in_one_piece(
    backend: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [" ".join(TEXT), "the cat", "", "x" * 50 + " and the cat", "東京 e\u0301 \u0301the ½ cat " * 20]
    whole = encode_lines(backend, texts)
    for size in (1, 2, 7, 40):
        monkeypatch.setattr(palenka_tokenizer, "PIECE", size)
        assert encode_lines(backend, texts) == whole


def test_the_same_text_gives_the_same_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    again = train_tokenizer(iter(TEXT), 320)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_a_text_too_small_for_the_vocabulary_gives_a_smaller_one() -> None:
    assert len(train_tokenizer(iter(["ab ab"]), 1000)) == 4 + 256 + len(["Ġa", "Ġab"])


@pytest.mark.parametrize("vocab_size", [259, 65537])
def test_impossible_vocabularies_are_refused(vocab_size: int) -> None:
    with pytest.raises(ValueError, match="vocab_size"):
        train_tokenizer(iter(TEXT), vocab_size)


def test_a_saved_tokenizer_comes_back_as_it_was(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path / "once")
    save_tokenizer(load_tokenizer(tmp_path / "once"), tmp_path / "twice")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()
    assert tokenizer_sha256(tmp_path / "once") == tokenizer_sha256(tmp_path / "twice")
    reloaded = AutoTokenizer.from_pretrained(tmp_path / "twice")
    assert [reloaded(probe)["input_ids"] for probe in PROBES] == [tokenizer(probe)["input_ids"] for probe in PROBES]
    assert reloaded.decode(reloaded("it 's , so ?")["input_ids"]) == " it 's , so ?"


def test_saved_files_name_a_class_that_transformers_4_knows(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "backend" not in config
    assert {int(id_): entry["content"] for id_, entry in config["added_tokens_decoder"].items()} == dict(
        enumerate(SPECIAL_TOKENS)
    )


def test_a_tokenizer_that_does_not_come_back_alike_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = train_tokenizer(iter(["quite another text"] * 5), 300)
    monkeypatch.setattr(palenka_tokenizer, "load_tokenizer", lambda folder: other)
    with pytest.raises(RuntimeError, match="reloaded tokenizer"):
        save_tokenizer(tokenizer, tmp_path)


def test_hash_differs_where_ids_do(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path / "a")
    save_tokenizer(train_tokenizer(iter(TEXT), 300), tmp_path / "b")
    assert tokenizer_sha256(tmp_path / "a") != tokenizer_sha256(tmp_path / "b")


def _changed(backend: Tokenizer, folder: Path, change: str) -> str:
    """The hash of a vocabulary after a change to a copy of the tokenizer that `folder` then holds."""
    copy = Tokenizer.from_str(backend.to_str())
    {
        "nothing": lambda: None,
        "truncation": lambda: copy.enable_truncation(16),
        "padding": lambda: copy.enable_padding(length=16),
        "decoder": lambda: setattr(copy, "decoder", decoders.Fuse()),
        "post-processor": lambda: setattr(copy, "post_processor", processors.ByteLevel()),
        "normalizer": lambda: setattr(copy, "normalizer", normalizers.NFC()),
        "an added token": lambda: copy.add_tokens([AddedToken("goat")]),
    }[change]()
    folder.mkdir(exist_ok=True)
    copy.save(str(folder / "tokenizer.json"))
    return vocabulary_sha256(folder)


@pytest.mark.parametrize("change", ["truncation", "padding", "decoder", "post-processor"])
def test_what_changes_no_token_changes_no_vocabulary(backend: Tokenizer, tmp_path: Path, change: str) -> None:
    assert _changed(backend, tmp_path / "a", change) == _changed(backend, tmp_path / "b", "nothing")
    assert tokenizer_sha256(tmp_path / "a") != tokenizer_sha256(tmp_path / "b")


@pytest.mark.parametrize("change", ["normalizer", "an added token"])
def test_what_changes_tokens_is_another_vocabulary(backend: Tokenizer, tmp_path: Path, change: str) -> None:
    assert _changed(backend, tmp_path / "a", change) != _changed(backend, tmp_path / "b", "nothing")


def test_the_order_and_form_of_a_tokenizers_file_do_not_matter(backend: Tokenizer, tmp_path: Path) -> None:
    expected = _changed(backend, tmp_path, "nothing")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    model = content["model"]
    model["vocab"] = dict(reversed(model["vocab"].items()))
    model["merges"] = [" ".join(merge) for merge in model["merges"]]  # as tokenizers before 0.20 wrote them
    (tmp_path / "tokenizer.json").write_text(json.dumps(dict(reversed(content.items()))))
    assert vocabulary_sha256(tmp_path) == expected
    model["merges"].reverse()
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert vocabulary_sha256(tmp_path) != expected


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(UserError, match=r"tokenizer.json: holds no readable tokenizer"):
        vocabulary_sha256(tmp_path)
