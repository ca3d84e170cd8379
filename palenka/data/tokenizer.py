"""The tokenizer: byte-level BPE over NFKC text, in which a line has the same tokens wherever it stands.

The pre-tokenizer first cuts a text after each newline and then gives every piece its leading space, so that a line
in the middle of a text (a turn of a dialogue, say) begins with the same `ĠThe` as a line alone, and a newline is a
token of its own (`Ċ`).

Text that happens to contain `<s>`, `</s>`, `<pad>` or `<mask>` literally: `encode_lines`, which makes the corpus'
tokens, reads it as plain characters, and training never learns a merge that spells one, so that a corpus cannot
inject a special token. Everybody else who calls the tokenizer gets Hugging Face's usual behaviour: the literal
becomes the special token.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from palenka.data.word_counts import count_words, repeated
from palenka.util.errors import UserError
from palenka.util.files import write_text

PAD, BOS, EOS, MASK = SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<mask>")
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256
LARGEST_VOCABULARY = 2**16

NORMALIZER = normalizers.NFKC()
PRE_TOKENIZER = pre_tokenizers.Sequence(
    [pre_tokenizers.Split("\n", "merged_with_previous"), pre_tokenizers.ByteLevel(add_prefix_space=True)]
)

PIECE = 1_000_000
"""Characters of a line that are tokenised at once."""
LONGEST_WORD = 200
"""Characters of a run of letters or of marks that the training of a tokenizer sees as one."""
_LONG_WORD = re.compile(rf"\w{{{LONGEST_WORD}}}(?=\w)|[^\w\s]{{{LONGEST_WORD}}}(?=[^\w\s])")

PROBES = (
    "The cat sat on the mat.",
    " A leading space, and  two inside.",
    "A: Did you go?\nB: No.",
    "one paragraph\n\nanother\n",
    "naïve café, ﬁne ½ ＡＢＣ 東京 Привет 🙂 e\u0301",
    "it's 3,141 'quoted' \"words\" -- and_so_on\ttab",
    "<s>begins</s> and ends <pad><mask>",
    "",
)


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train on lines (or longer pieces) of text, read once. The same texts give the same tokenizer, byte for byte.

    The library's trainer counts words, and takes no counts: it gets the counted words as often as they occur, which
    takes it a third of the time that it needs to find them in the text, and gives the same tokenizer.

    A text with fewer than `vocab_size` entries to offer gives a smaller vocabulary: see `len(tokenizer)`.
    """
    if not SMALLEST_VOCABULARY <= vocab_size <= LARGEST_VOCABULARY:
        raise ValueError(f"vocab_size is {vocab_size}: expected {SMALLEST_VOCABULARY} to {LARGEST_VOCABULARY}")
    backend = tokenizers.Tokenizer(models.BPE())
    words = count_words(_training_pieces(texts), _cut)
    backend.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    backend.train_from_iterator(repeated(words), _trainer(vocab_size))
    backend.normalizer, backend.pre_tokenizer, backend.decoder = NORMALIZER, PRE_TOKENIZER, decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        mask_token=MASK,
        clean_up_tokenization_spaces=False,
    )


def _trainer(vocab_size: int) -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )


def _cut(text: str) -> list[str]:
    """A text's words, as a trainer of the tokenizers library counts them."""
    return [word for word, _ in PRE_TOKENIZER.pre_tokenize_str(NORMALIZER.normalize_str(text))]


def _training_pieces(texts: Iterable[str]) -> Iterator[str]:
    """Texts without special tokens, long lines and words in pieces: the time that a word takes the trainer grows with
    the square of its length, ten seconds for 100 kB."""
    for text in texts:
        if len(text) <= LONGEST_WORD and text.isascii() and "<" not in text:
            yield text
            continue
        for piece in corpus_pieces(_without_special_tokens(text)):
            yield _LONG_WORD.sub(r"\g<0> ", piece) if len(piece) > LONGEST_WORD else piece


def corpus_pieces(line: str) -> Iterator[str]:
    """A long line cut before spaces, where no token reaches across: each piece but the first begins with its space."""
    start = 0
    while len(line) - start > PIECE and (space := line.find(" ", start + PIECE)) > 0:
        yield line[start:space]
        start = space
    yield line[start:]


def _without_special_tokens(text: str) -> str:
    text = unicodedata.normalize("NFKC", text)
    if "<" in text:
        for token in SPECIAL_TOKENS:
            text = text.replace(token, " ")
    return text


def corpus_backend(tokenizer: PreTrainedTokenizerFast) -> tokenizers.Tokenizer:
    """A copy of the tokenizer's machinery that reads special tokens in a text as plain characters."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.encode_special_tokens = True
    return backend


def encode_lines(backend: tokenizers.Tokenizer, lines: list[str]) -> list[list[int]]:
    """Token ids of each line, on all cores. `backend` is `corpus_backend`'s. White space in a line is single spaces.

    What long lines need in passing is a multiple of their size: they go in pieces.
    """
    if max(map(len, lines), default=0) <= PIECE:
        return [encoding.ids for encoding in backend.encode_batch_fast(lines, add_special_tokens=False)]
    return [[token for piece in corpus_pieces(line) for token in _encode(backend, piece)] for line in lines]


def _encode(backend: tokenizers.Tokenizer, piece: str) -> list[int]:
    [encoding] = backend.encode_batch_fast([piece], add_special_tokens=False)
    return list(encoding.ids)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write `folder` so that `AutoTokenizer` of transformers 4.51 and of 5.x reads it alike, and prove it by reloading.

    Release 5 writes a class name and keys of its own, which release 4 cannot read; the files written here say the
    plain `PreTrainedTokenizerFast` that both know.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, "mask_token": MASK}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    config = {
        "added_tokens_decoder": {
            str(tokenizer.convert_tokens_to_ids(token)): {"content": token, **flags} for token in SPECIAL_TOKENS
        },
        **names,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_text(folder / "tokenizer.json", tokenizer.backend_tokenizer.to_str(pretty=True))
    write_text(folder / "tokenizer_config.json", _json(config))
    write_text(folder / "special_tokens_map.json", _json(names))
    _prove(tokenizer, folder)


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _prove(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    reloaded = load_tokenizer(folder)
    for probe in PROBES:
        before, after = tokenizer(probe)["input_ids"], reloaded(probe)["input_ids"]
        if before != after:
            raise RuntimeError(f"{folder}: the reloaded tokenizer reads {probe!r} as {after}, not as {before}")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "mask_token_id"):
        if getattr(tokenizer, name) != getattr(reloaded, name):
            raise RuntimeError(f"{folder}: the reloaded tokenizer has another {name}")
    if len(tokenizer) != len(reloaded):
        raise RuntimeError(f"{folder}: the reloaded tokenizer has {len(reloaded)} entries, not {len(tokenizer)}")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def tokenizer_sha256(folder: Path) -> str:
    """Hash of the file that decides ids."""
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()


def vocabulary_sha256(folder: Path) -> str:
    """Hash of what decides a text's tokens and their ids; models with the same one share a vocabulary.

    Truncation, padding, the way back to text and tokens added around a text do not: other tools leave theirs in the
    file, in another order or form of the same values.

    Raises:
        UserError: no tokenizer can be read there.
    """
    path = folder / "tokenizer.json"
    try:
        content = json.loads(tokenizers.Tokenizer.from_file(str(path)).to_str())
    except Exception as error:  # the library raises plain ones
        raise UserError(f"{path}: holds no readable tokenizer ({error})") from None
    decisive = {key: content[key] for key in ("model", "normalizer", "pre_tokenizer")}
    decisive["added_tokens"] = [
        {key: value for key, value in token.items() if key != "special"} for token in content["added_tokens"]
    ]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
