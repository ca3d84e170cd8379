"""Reading times: surprisals against the definition spelled out, the scores against two regressions."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from palenka import paradigms
from palenka.data.tokenizer import load_tokenizer
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.tasks.reading import NUMBERS, Reading, Word, encode_words, score, summary
from palenka.paradigms import Vocabulary
from palenka.util.errors import UserError

Row = dict[str, Any]
Write = Callable[..., Reading]


def rows_of(sentence: str, space: str = "", seed: int = 0) -> list[Row]:
    """A row for each word but the first; the numbers are random, and the first word's are not known."""
    parts, chance = sentence.split(), random.Random(f"{sentence} {seed}")
    rows = []
    for at in range(1, len(parts)):
        numbers = {name: round(chance.gauss(200, 40), 2) for name in NUMBERS}
        row = {"item": " ".join(parts[:at]), "word": space + parts[at], "prev_item": "", "prev_word": "", **numbers}
        if at > 1:
            row |= {"prev_item": " ".join(parts[: at - 1]), "prev_word": space + parts[at - 1]}
        else:
            row["prev_length"] = ""
        rows.append(row)
    return rows


SENTENCES = [
    "None likes the café by this “river”.",
    "The cat sees a dog, and every 😀 child paints.",
    "The cat likes one naïve farmer.",
    "A teacher remembers unbelievable letters about gardens.",
]
ROWS = [row for sentence in SENTENCES for row in rows_of(sentence)]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(rows) writes them to the folder `reading` and reads the task."""

    def write_and_read(rows: list[Row]) -> Reading:
        folder = tmp_path / "reading"
        folder.mkdir(exist_ok=True)
        with (folder / "reading_data.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return Reading.read(folder)

    return write_and_read


def changed(row: int, **values: Any) -> list[Row]:
    return [{**each, **values} if number == row else each for number, each in enumerate(ROWS)]


def test_texts_are_read_as_pandas_reads_them(write: Write) -> None:
    task = write(changed(7, item="", word=" sees, "))
    assert task.name == "reading"
    assert task.words[0] == Word("None", "likes")
    assert task.previous[:3] == [None, None, Word("None likes", "the")]  # the text "None" alone is no value
    assert task.words[7] == Word("None", " sees, ")
    assert np.isnan(task.numbers["prev_length"][0])
    assert task.numbers["RTgopast"][3] == ROWS[3]["RTgopast"]


def test_lines_are_the_file_s_own(write: Write) -> None:
    task = write([{**ROWS[0], "prev_word": "two\nlines"}, *ROWS[1:]])
    assert task.lines[:2] == [3, 4]


def test_the_digest_knows_every_used_value(write: Write) -> None:
    digest = write(ROWS).digest
    assert write(ROWS).digest == digest
    assert write([{**row, "P600": 3} for row in ROWS]).digest == digest
    for change in (
        {"item": "x"},
        {"word": "x"},
        {"prev_item": "x"},
        {"prev_word": "x"},
        {"length": 1},
        {"RTgopast": ""},
    ):
        assert write(changed(5, **change)).digest != digest


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"word": ""}, "line 7: 'word' is '', which counts as missing"),
        ({"word": "null"}, "line 7: 'word' is 'null', which"),
        ({"prev_word": "NA"}, "line 7: 'prev_word' is 'NA'"),
        ({"length": "long"}, "line 7: 'length' is 'long'; expected a number"),
        ({"RTgopast": "inf"}, "line 7: 'RTgopast' is 'inf'"),
        ({"RTgopast": " "}, "line 7: 'RTgopast' is ' '"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(write: Write, change: Row, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        write(changed(5, **change))


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, write: Write) -> None:
    with pytest.raises(UserError, match="no task 'reading'"):
        Reading.read(tmp_path / "reading")
    with pytest.raises(UserError, match="line 1: no column word, RTgopast"):
        write([{key: value for key, value in row.items() if key not in ("word", "RTgopast")} for row in ROWS])
    path = tmp_path / "reading" / "reading_data.csv"
    write(ROWS)
    whole = path.read_bytes()
    for content, problem in (
        (whole + b"a,b\r\n", f"line {len(ROWS) + 2}: not as many values"),
        (whole.replace(b"caf\xc3\xa9", b"caf\xe9"), "not CSV in UTF-8"),
        (b"", "line 1: no column item"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=problem):
            Reading.read(tmp_path / "reading")


def test_regressions_need_more_rows_than_coefficients(write: Write) -> None:
    # Five of the 26 rows know nothing of a word before: four sentences' first, and the one behind "None likes".
    assert len(ROWS) == 26
    write(ROWS[:-3])
    with pytest.raises(UserError, match="17 rows can predict self_paced_reading_time; expected more than 17"):
        write(ROWS[:-4])


def test_sentences_are_found_in_any_order(write: Write) -> None:
    order = random.Random(1).sample(range(len(ROWS)), len(ROWS))
    found = write([ROWS[number] for number in order]).sentences
    numbers = [number for number, sentence in enumerate(SENTENCES) for _ in sentence.split()[1:]]
    expected = [1 if numbers[place] == 2 else numbers[place] for place in order]  # "The cat" begins two of them
    # "None" alone is no text before a word: that sentence's first word stands alone.
    pairs = {(a, b) for a, b, place in zip(found, expected, order, strict=True) if place != 0}
    assert len(pairs) == 3 == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def with_bos(folder: Path) -> PreTrainedTokenizerFast:
    tokenizer = load_tokenizer(folder)
    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    return tokenizer


@pytest.fixture(params=["plain", "bos"])
def scorer(request: pytest.FixtureRequest, prepared_once: Path) -> Scorer:
    folder = prepared_once / "tokenizer"
    model = tiny.model(tiny.LLAMA)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6 if parameter.ndim > 1 else 1)
    return Scorer(model, load_tokenizer(folder) if request.param == "plain" else with_bos(folder), "a model")


def plain_surprisal(scorer: Scorer, text: str, word: str) -> float:
    """The definition, a token at a time."""

    def log_prob(context: str, token: int) -> float:
        with torch.inference_mode():
            logits = scorer.model(torch.tensor([scorer.tokenizer(context)["input_ids"]])).logits[0, -1].double()
        return float(logits.log_softmax(-1)[token])

    first, *later = scorer.tokenizer(word, add_special_tokens=False)["input_ids"]
    total = log_prob(text, first)
    text += scorer.tokenizer.decode(first)
    for token in later:
        piece = scorer.tokenizer.decode(token)
        total += log_prob(text, scorer.tokenizer(piece, add_special_tokens=False)["input_ids"][0])
        text += piece
    return -total


@pytest.mark.parametrize("space", ["", " "])
def test_surprisals_equal_the_definition(scorer: Scorer, write: Write, space: str) -> None:
    task = write([row for sentence in SENTENCES for row in rows_of(sentence, space)])
    records = score(task, scorer)
    assert [record["item"] for record in records] == list(range(1, len(task.words) + 1))
    for record, word, previous in zip(records, task.words, task.previous, strict=True):
        assert record["surprisal"] == pytest.approx(plain_surprisal(scorer, *word), abs=1e-4)
        if previous:
            assert record["prev_surprisal"] == pytest.approx(plain_surprisal(scorer, *previous), abs=1e-4)
        else:
            assert record["prev_surprisal"] is None


def test_half_characters_are_asked_for_as_the_replacement_character(prepared_once: Path) -> None:
    tokenizer = load_tokenizer(prepared_once / "tokenizer")
    own = tokenizer("😀", add_special_tokens=False)["input_ids"]
    [texts] = encode_words([Word("a", "😀")], tokenizer)
    replacement = tokenizer("\ufffd", add_special_tokens=False)["input_ids"]
    assert len(texts) == len(own) > 1
    assert [text.continuation for text in texts] == [(own[0],)] + [(replacement[0],)] * (len(own) - 1)
    assert texts[2].context == tuple(tokenizer(f"a{tokenizer.decode(own[0])}\ufffd")["input_ids"])


@pytest.mark.parametrize(("name", "distance"), [("masked", 0), ("mntp", 1)])
def test_a_masked_model_is_asked_for_the_first_of_three_masks(prepared_once: Path, name: str, distance: int) -> None:
    """Which stand behind the text, between what stands around every text."""
    tokenizer, model = load_tokenizer(prepared_once / "tokenizer"), tiny.model(tiny.LLAMA)
    scorer = Scorer(model, tokenizer, "a model", paradigms.of(paradigms.DOOR.read(name), Vocabulary.of(tokenizer)))
    word = Word("The cat", " understandably")
    [texts] = encode_words([word], tokenizer, is_masked=True)
    tokens, context = tokenizer(word.word, add_special_tokens=False)["input_ids"], word.text
    assert len(texts) == len(tokens) > 2
    for number, (found, token) in enumerate(zip(scorer.score(texts), tokens, strict=True)):
        asked = tokenizer(tokenizer.decode(token), add_special_tokens=False)["input_ids"][0] if number else token
        own = tokenizer(context, add_special_tokens=False)["input_ids"]
        shown = [tokenizer.bos_token_id, *own, *[tokenizer.mask_token_id] * 3, tokenizer.eos_token_id]
        everything = torch.zeros(1, 1, len(shown), len(shown))
        with torch.inference_mode():
            logits = model(torch.tensor([shown]), attention_mask=everything).logits[0, 1 + len(own) - distance]
        assert found == pytest.approx(float(logits.double().log_softmax(-1)[asked]), abs=1e-5)
        context += tokenizer.decode(token)


class Letters:
    """A token for each letter; a minus is no token, and decodes from 1."""

    bos_token_id = 0

    def __len__(self) -> int:
        return tiny.VOCABULARY

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text if letter != "-"] for text in texts]}

    def decode(self, token: int) -> str:
        return "-" if token == 1 else chr(token)


@pytest.mark.parametrize(
    ("text", "word", "problem"),
    [
        ("a", "--", "no token for a word"),
        ("--", "a", "no token for the text before a word"),
        ("a", "b\x01", "leaves nothing to score"),
        ("a", "\u01ff", "beyond the model's"),
        ("a" * 2000, "b", "positions"),
    ],
)
def test_words_that_a_model_cannot_take_are_named(write: Write, text: str, word: str, problem: str) -> None:
    task = write(changed(5, item=text, word=word))
    with pytest.raises(UserError, match=f"reading_data.csv, line 7: .*{problem}"):
        score(task, Scorer(tiny.model(tiny.LLAMA), Letters(), "a model"))


def plain_r2(outcome: Any, columns: list[Any]) -> float:
    design = np.stack([np.ones_like(outcome), *columns], axis=1)
    fitted = design @ np.linalg.lstsq(design, outcome)[0]
    return 1 - ((outcome - fitted) ** 2).sum() / ((outcome - outcome.mean()) ** 2).sum()


def plain_share(outcome: Any, predictor: Any, controls: list[Any]) -> float:
    kept = ~np.isnan([outcome, predictor, *controls]).any(0)
    outcome, predictor, *controls = (column[kept] for column in (outcome, predictor, *controls))
    baseline = [*controls, *(a * b for i, a in enumerate(controls) for b in controls[:i])]
    first, second = (plain_r2(outcome, columns) for columns in (baseline, [*baseline, predictor]))
    return (second - first) / (1 - first)


def test_the_scores_are_those_of_the_regressions_spelled_out(write: Write) -> None:
    rows = [row for seed in range(6) for sentence in SENTENCES for row in rows_of(sentence, seed=seed)]
    rows[3]["RTgopast"] = ""
    task = write(rows)
    chance = random.Random(0)
    records = [
        {"surprisal": chance.gauss(8, 3), "prev_surprisal": chance.gauss(8, 3) if previous else None}
        for previous in task.previous
    ]
    surprisal = np.array([record["surprisal"] for record in records])
    before = np.array([record["prev_surprisal"] for record in records], float)
    controls = [task.numbers[name] for name in ("Subtlex_log10", "length", "context_length")]
    eyes = ("RTfirstfix", "RTfirstpass", "RTgopast", "RTrightbound")
    eye_tracking = np.mean([plain_share(task.numbers[name], surprisal, controls) for name in eyes])
    times = task.numbers["self_paced_reading_time"]
    self_paced = plain_share(times, surprisal, [*controls, task.numbers["prev_length"], before])
    result = summary(task, records)
    assert result["n"] == len(rows)
    assert result["scores"]["eye_tracking"]["value"] == pytest.approx(eye_tracking, abs=1e-9)
    assert result["scores"]["self_paced"]["value"] == pytest.approx(self_paced, abs=1e-9)
    assert all(0 < each["stderr"] < 0.5 for each in result["scores"].values())
    json.dumps(result, allow_nan=False)
