"""The words that a model may have learned from, its teachers' and its tokenizer's too, and what BabyLM allows.

A *text* is the training text of a domain, known by the sha256 of its raw content, so that it counts once: under
whatever name and in whatever folder it was prepared, and whoever learned from it. All of it counts where
`data.fraction` shows the model a part: the tokenizer was made of the whole. Held-out text (dev, test) moves no weight,
and does not count; where one text was held out from in several ways, the largest rest counts. Texts that overlap
without being equal count in full, each.

    ledger.json   texts: of the model; teachers: of its teachers, and of theirs; {sha256: {name, words}}
                  unknown: {a teacher, or a folder of data: why its words are not known}

The rules (call for papers of 2025 and of 2026, and their questions and answers): whatever learned from language counts
with all that it learned from, a teacher and a tokenizer like the model itself, text in common once; at most 10M
(strict-small) or 100M words (strict). A model may see each 10 times (2025: ten times the track's words in all; 2026:
ten epochs).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palenka.data.integrity import read_prepared
from palenka.runs.directory import find_run
from palenka.util.config import read_yaml
from palenka.util.errors import UserError
from palenka.util.files import read_object
from palenka.util.paths import ROOT, data_root, runs_root
from palenka.util.text import listed

LEDGER = "ledger.json"
TRACKS = {"strict-small": 10_000_000, "strict": 100_000_000}
MOST_EPOCHS = 10

Texts = Mapping[str, Mapping[str, Any]]
"""By the sha256 of their raw content: `name` and `words`."""


@dataclass(frozen=True)
class Ledger:
    """What a model may have learned from; the fields are those of ledger.json."""

    texts: Texts = field(default_factory=dict)
    teachers: Texts = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def own_words(self) -> int:
        """Of the model's text."""
        return _words(self.texts)

    @property
    def unique_words(self) -> int:
        """Of all text, each counted once."""
        return _words(_union([self.texts, self.teachers]))


@dataclass(frozen=True)
class Account:
    """A ledger, and what the model sees of its text: words and epochs."""

    ledger: Ledger
    words_seen: int
    epochs: float

    @property
    def refusals(self) -> dict[str, list[str]]:
        """Why the model is none for a track of BabyLM; for each track a list, which is empty where it is one."""
        return {track: [*self._beyond(most)] for track, most in TRACKS.items()}

    def _beyond(self, most: int) -> Iterable[str]:
        for what, why in self.ledger.unknown.items():
            yield f"the words of {what} are not known ({why})"
        if (words := self.ledger.unique_words) > most:
            yield f"{words:,} words of text, of at most {most:,}"
        if self.words_seen > MOST_EPOCHS * most:
            yield f"{self.words_seen:,} words seen, of at most {MOST_EPOCHS * most:,} (2025)"
        if self.epochs > MOST_EPOCHS:
            yield f"{self.epochs:g} epochs, of at most {MOST_EPOCHS} (2026)"

    @property
    def lines(self) -> list[str]:
        """For people."""
        ledger = self.ledger
        besides = f", and {more:,} besides of teachers" if (more := ledger.unique_words - ledger.own_words) else ""
        at_least = "at least " if ledger.unknown else ""
        seen = f"{self.words_seen:,} seen in {self.epochs:g} epochs"
        verdicts = [
            f"BabyLM {track}: {f'not eligible: {listed(reasons)}' if reasons else 'within its limits'}"
            for track, reasons in self.refusals.items()
        ]
        return [f"words of text: {at_least}{ledger.own_words:,}{besides}; {seen}", *verdicts]

    def record(self) -> dict[str, Any]:
        """What result.json says of it."""
        return {
            "own_words": self.ledger.own_words,
            "unique_words": self.ledger.unique_words,
            "unknown": dict(self.ledger.unknown),
            "not_eligible": self.refusals,
        }


def account_of(run: Path) -> Account:
    """Of a finished run. Raises UserError: a file of it is damaged."""
    result = read_object(run / "result.json")
    return Account(read_ledger(run), result["words"], result["epochs"])


def read_ledger(folder: Path, untrained: Callable[[str], dict[str, Any] | None] = lambda run: None) -> Ledger:
    """Of a model folder: as recorded; of a run without a record, what its config and its data still say.

    Args:
        folder: a run, a milestone, or any other model folder.
        untrained: the config that trains a run which is not there, if one does.

    Raises:
        UserError: a file of it is damaged.
    """
    if (folder / LEDGER).exists():
        return Ledger(**read_object(folder / LEDGER))
    if not all((folder / name).exists() for name in ("identity.json", "config.yaml")):
        return Ledger(unknown={folder.name: f"it has no {LEDGER}, as models that were not trained here"})
    data = read_object(folder / "identity.json").get("data")
    return ledger_of(read_yaml(folder / "config.yaml"), untrained, data)


def ledger_of(
    config: Mapping[str, Any],
    untrained: Callable[[str], dict[str, Any] | None] = lambda run: None,
    data: str | None = None,
) -> Ledger:
    """Of a run that is trained by a config.

    Args:
        config: with its `data`, `teachers` and `paths`, as a resolved one has them.
        untrained: see `read_ledger`.
        data: the key of its prepared data; None: whatever is there.

    Raises:
        UserError: a file of a teacher is damaged.
    """
    paths, name = config.get("paths") or {}, config["data"]["name"]
    runs = ROOT / paths["runs"] if paths.get("runs") else runs_root()
    texts: Texts = {}
    unknown: dict[str, str] = {}
    try:
        texts = _texts_in((ROOT / paths["data"] if paths.get("data") else data_root()) / name, data)
    except UserError as problem:
        unknown[f"the data {name}"] = str(problem).partition("\n")[0]
    taught = [_of_teacher(str(teacher["run"]), runs, untrained) for teacher in config.get("teachers") or []]
    for ledger in taught:
        unknown |= ledger.unknown
    return Ledger(texts, _union(part for ledger in taught for part in (ledger.texts, ledger.teachers)), unknown)


def _of_teacher(run: str, runs: Path, untrained: Callable[[str], dict[str, Any] | None]) -> Ledger:
    try:
        folder = find_run(run, runs, base=ROOT)
    except UserError:
        config = untrained(run)
        return ledger_of(config, untrained) if config else Ledger(unknown={run: "it is not there"})
    return read_ledger(folder, untrained)


def _texts_in(folder: Path, key: str | None) -> Texts:
    record = read_prepared(folder)
    if key not in (None, record["key"]):
        raise UserError(f"{folder} holds other data now")
    domains = record["splits"]["train"]["domains"]
    return {
        record["identity"][f"train/{domain}"]: {"name": f"{record['name']}/{domain}", "words": of["words"]}
        for domain, of in domains.items()
    }


def _union(several: Iterable[Texts]) -> Texts:
    found: dict[str, Mapping[str, Any]] = {}
    for texts in several:
        for content, text in texts.items():
            found[content] = max(found.get(content, text), text, key=lambda of: int(of["words"]))
    return found


def _words(texts: Texts) -> int:
    return sum(text["words"] for text in texts.values())
