"""Reading times: how well a model's surprisal at a word predicts how long people read it.

The `reading` task of the 2025 pipeline (babylm/evaluation-pipeline-2025) on the sentences of de Varda, Marelli and
Amenta, "Cloze probability, predictability ratings, and computational estimates for 205 English sentences", 2023. The
2024 pipeline has no such task: it is the same here, whatever the protocol.

The surprisal of a word after a text is the sum over its tokens, those of tok(word) without special tokens, of
−log P(token | context). The first token's context is tok(text), with the special tokens that the tokenizer adds by
itself, even one at the end. For each later token, the token before it is decoded and appended to the text, which is
tokenised again; and what is asked for is the first token of tok(decoded token) without special tokens. That is another
token than the word's own where decoding loses something: half of a character becomes "\ufffd", a leading space may go.
A masked model is shown three masks behind the text, and asked for the first of them: it does not know how long the word
is, nor what follows.

The scores are partial R² (see `correlation.partial_r2`), 0…1, where the pipeline prints percent:

    eye_tracking   mean over four measures, controlling for the word's frequency, length and place
    self_paced     self-paced reading times, controlling also for length and surprisal of the word before

A word is read in a sentence by the same people as the words around it: standard errors are over sentences.
"""

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.correlation import partial_r2
from palenka.evaluation.items import Records
from palenka.evaluation.results import is_finite
from palenka.evaluation.tasks import AskedModel, EvaluationTask
from palenka.evaluation.texts import Text, TextScorer, check_text
from palenka.util.errors import UserError
from palenka.util.files import require_file

READING = "reading"
FILE = "reading_data.csv"
TEXTS = ("item", "word", "prev_item", "prev_word")
EYE_TRACKING = ("RTfirstfix", "RTfirstpass", "RTgopast", "RTrightbound")
SELF_PACED = ("self_paced_reading_time",)
CONTROLS = ("Subtlex_log10", "length", "context_length")
MASKS = 3
SPILL_OVER = ("prev_length", "prev_surprisal")
NUMBERS = (*EYE_TRACKING, *SELF_PACED, *CONTROLS, "prev_length")
REGRESSIONS = {"eye_tracking": (EYE_TRACKING, CONTROLS), "self_paced": (SELF_PACED, CONTROLS + SPILL_OVER)}
MISSING = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"]
    + ["NULL", "NaN", "None", "n/a", "nan", "null"]
)
"""What pandas, which the pipeline reads the file with, takes for no value at all."""


class Word(NamedTuple):
    """A word and the text before it, each with the spaces that the file gives it."""

    text: str
    word: str


@dataclass(frozen=True)
class Reading(EvaluationTask):
    """The rows of the file: a word each, the word before it where that has a text before it, and numbers (rows,)."""

    only_own_scorer = True
    only_predictions = True

    path: Path
    lines: list[int]
    words: list[Word]
    previous: list[Word | None]
    numbers: dict[str, NDArray[np.float64]]

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.path.parent.name

    @cached_property
    def digest(self) -> str:
        """sha256 of all that is used of the rows, in order."""
        numbers = {name: values.tolist() for name, values in self.numbers.items()}
        return hashlib.sha256(json.dumps([self.words, self.previous, numbers]).encode()).hexdigest()

    @property
    def sentences(self) -> list[int]:
        """Number of each row's sentence: a word is in that of the word before it. (rows,)

        The file need not name its sentences. Two that begin with the same words count as one.
        """
        sentence: dict[Word | None, int] = {}
        for row in sorted(range(len(self.words)), key=lambda row: len(self.words[row].text)):
            sentence.setdefault(self.words[row], sentence.get(self.previous[row], row))
        return [sentence[word] for word in self.words]

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return folder.name == READING

    @classmethod
    def read(cls, folder: Path, protocol: str = "2024") -> "Reading":
        """Read and check the task's file, `reading_data.csv` in its folder.

        A missing text before a word becomes the text "None": that is what a sentence's first word "None" is read as.

        Raises:
            UserError: no such file, or a row that cannot be used, with its line; or too few rows for the regressions.
        """
        path = folder / FILE
        require_file(path)
        if not path.is_file():
            raise UserError(f"no task {folder.name!r}: looked for the file {path}")
        lines, words, previous = [], [], []
        numbers: dict[str, list[float]] = {name: [] for name in NUMBERS}
        for line, record in _records(path):
            where = f"{path}, line {line}"
            lines.append(line)
            words.append(Word(_text(record["item"]) or "None", _word(record, "word", where)))
            before = _text(record["prev_item"])
            previous.append(Word(before, _word(record, "prev_word", where)) if before else None)
            for name in NUMBERS:
                numbers[name].append(_number(record[name], name, where))
        task = cls(path, lines, words, previous, {name: np.array(values) for name, values in numbers.items()})
        _check_size(task)
        return task

    def measure(self, model: AskedModel, label: str) -> tuple[Iterable[dict[str, Any]], dict[str, Any]]:
        surprisals = score(self, model.own, label)
        return surprisals, summary(self, surprisals)

    def derive(self, records: Records) -> dict[str, Any]:
        _check_words(self, records)
        return summary(self, records)


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(1-based number of the last line, values by column) of each row."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            absent = [name for name in (*TEXTS, *NUMBERS) if name not in (reader.fieldnames or ())]
            if absent:
                raise UserError(f"{path}, line 1: no column {', '.join(absent)}")
            for record in reader:
                if None in record or None in record.values():
                    raise UserError(f"{path}, line {reader.line_num}: not as many values as there are columns")
                yield reader.line_num, record
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path}, line {reader.line_num + 1}: not CSV in UTF-8 ({error})") from None


def _text(value: str) -> str | None:
    return None if value in MISSING else value


def _word(record: dict[str, str], name: str, where: str) -> str:
    word = _text(record[name])
    if word is None:
        raise UserError(f"{where}: {name!r} is {record[name]!r}, which counts as missing; expected a word")
    return word


def _number(value: str, name: str, where: str) -> float:
    """A missing value is NaN."""
    if value in MISSING:
        return math.nan
    try:
        number = float(value)
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        raise UserError(f"{where}: {name!r} is {value!r}; expected a number, or nothing")
    return number


def _check_size(task: Reading) -> None:
    """Raise UserError unless every regression has more rows than coefficients."""
    has_previous = [0.0 if word else math.nan for word in task.previous]
    numbers = {**task.numbers, "prev_surprisal": np.array(has_previous)}
    for outcomes, controls in REGRESSIONS.values():
        coefficients = 2 + len(controls) + math.comb(len(controls), 2)
        for outcome in outcomes:
            rows = int((~np.isnan([numbers[name] for name in (outcome, *controls)]).any(0)).sum())
            if rows <= coefficients:
                raise UserError(f"{task.path}: {rows} rows can predict {outcome}; expected more than {coefficients}")


def encode_words(words: Sequence[Word], tokenizer: Any, is_masked: bool = False) -> list[list[Text]]:
    """For each word, a text a token: its context, the token asked for and, for a masked model, the masks behind it.

    Contexts, tokens asked for, and whole words may turn out empty; `score` refuses those.
    """
    masks, count = (tokenizer.mask_token * MASKS, MASKS) if is_masked else ("", 0)
    own_tokens = _ids(tokenizer, [word.word for word in words], special=False)
    pieces = {token: tokenizer.decode(token) for tokens in own_tokens.values() for token in tokens}
    first_tokens = {piece: ids[:1] for piece, ids in _ids(tokenizer, list(pieces.values()), special=False).items()}
    contexts, asked = [], []
    for text, word in words:
        tokens = own_tokens[word]
        contexts.append(list(accumulate([pieces[token] for token in tokens[:-1]], initial=text))[: len(tokens)])
        asked.append([tokens[:1], *(first_tokens[pieces[token]] for token in tokens[1:])][: len(tokens)])
    shown = _ids(tokenizer, [context + masks for of_word in contexts for context in of_word], special=not is_masked)
    return [
        [_text_of(shown[context + masks], token, count) for context, token in zip(*of_word, strict=True)]
        for of_word in zip(contexts, asked, strict=True)
    ]


def _text_of(shown: tuple[int, ...], token: tuple[int, ...], masks: int) -> Text:
    """A text of what is shown before a token, of which the last are masks, the first of them in the token's place."""
    before = len(shown) - masks
    return Text(shown[:before], token, after=shown[before + 1 :])


def _ids(tokenizer: Any, texts: Sequence[str], special: bool) -> dict[str, tuple[int, ...]]:
    distinct = list(dict.fromkeys(texts))
    encoded = tokenizer(distinct, add_special_tokens=special, return_attention_mask=False)["input_ids"] if texts else []
    return {text: tuple(ids) for text, ids in zip(distinct, encoded, strict=True)}


def score(task: Reading, scorer: TextScorer, label: str = "") -> list[dict[str, Any]]:
    """A record of each row: its 1-based number, and the surprisals of its word and the word before, in nats.

    Raises:
        UserError: a word that the model or its tokenizer cannot handle, with its line.
    """
    words = list(dict.fromkeys([*task.words, *(word for word in task.previous if word)]))
    is_masked = scorer.limits.frame is not None
    texts = dict(zip(words, encode_words(words, scorer.tokenizer, is_masked), strict=True))
    for line, *pair in zip(task.lines, task.words, task.previous, strict=True):
        for word in filter(None, pair):
            _check(scorer, texts[word], f"{task.path}, line {line}")
    owners = np.repeat(np.arange(len(words)), [len(texts[word]) for word in words])
    log_probs = scorer.score([text for word in words for text in texts[word]], label=label)
    surprisals: dict[Word | None, float] = dict(zip(words, (-np.bincount(owners, log_probs)).tolist(), strict=True))
    return [
        {"item": row, "surprisal": surprisals[word], "prev_surprisal": surprisals.get(previous)}
        for row, (word, previous) in enumerate(zip(task.words, task.previous, strict=True), 1)
    ]


def _check(scorer: TextScorer, texts: Sequence[Text], where: str) -> None:
    if not texts:
        raise UserError(f"{where}: {scorer.name}'s tokenizer gives no token for a word")
    for text in texts:
        if not text.context:
            raise UserError(f"{where}: {scorer.name}'s tokenizer gives no token for the text before a word")
        if not text.continuation:
            raise UserError(f"{where}: {scorer.name}'s tokenizer leaves nothing to score of a word")
        check_text(text, where, scorer.limits)


def summary(task: Reading, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{"n": rows, "scores": {name: {"value", "stderr"}}} of the records that `score` gives."""
    columns = {
        name: np.array([math.nan if record[name] is None else record[name] for record in records])
        for name in ("surprisal", "prev_surprisal")
    } | task.numbers
    scores = {
        name: partial_r2(
            [columns[outcome] for outcome in outcomes],
            columns["surprisal"],
            [columns[control] for control in controls],
            task.sentences,
        )
        for name, (outcomes, controls) in REGRESSIONS.items()
    }
    return {"n": len(records), "scores": {name: asdict(estimate) for name, estimate in scores.items()}}


def _check_words(task: Reading, records: Sequence[dict[str, Any]]) -> None:
    if len(records) != len(task.words):
        raise UserError(f"{len(records):,} records of {len(task.words):,} words")
    for number, (previous, record) in enumerate(zip(task.previous, records, strict=True), 1):
        before = record.get("prev_surprisal")
        holds = record.get("item") == number and is_finite(record.get("surprisal"))
        if not holds or not (is_finite(before) if previous else before is None):
            raise UserError(f"row {number}: its record holds no surprisals of it")
