"""Evaluation of models: choices against their baselines, predictions of people, cross-entropy on held-out text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palenka.data.integrity import read_prepared
from palenka.data.published import GATED, differences
from palenka.evaluation.baselines import measure_baselines
from palenka.evaluation.cross_entropy import cross_entropy, window_settings
from palenka.evaluation.display import table
from palenka.evaluation.items import Task
from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.official.minicons_scorer import MiniconsScorer
from palenka.evaluation.protocols import PROTOCOLS, Protocol
from palenka.evaluation.results import known_cross_entropy, known_result, known_samples, results_folder, write_records
from palenka.evaluation.samples import SETTINGS, write_samples
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.second_opinion import agreement
from palenka.evaluation.tasks import EvaluationTask, kind_of, read_task
from palenka.evaluation.tasks.choices import Choices
from palenka.evaluation.texts import Text, check_texts, encode, encode_masked
from palenka.evaluation.ways import CAUSAL, Part, Way, ways_of
from palenka.paradigms import DOOR
from palenka.paradigms._learned import learned
from palenka.runs.directory import find_run
from palenka.runs.milestones import milestones_of
from palenka.runs.records import read_log
from palenka.util.errors import UserError
from palenka.util.files import make_folder, require_writable, write_json
from palenka.util.paths import evaluation_root

CROSS_ENTROPY, SAMPLES = "cross_entropy", "samples"
OF_MODELS = (CROSS_ENTROPY, SAMPLES)
"""What is asked of a model by name, as tasks are, and has no folder of items."""
WRITES_NOTHING = "a model predicts what is hidden, and writes nothing"
NO_BASELINES = {"zipf": None, "ngram": None}
OWN_SCORER = "palenka"
SCORERS = (OWN_SCORER, "minicons")
Texts = dict[tuple[str, str, bool, bool], list[Text]]
"""By the tokenizer's fingerprint, the task's name, whether a masked model reads them, and whether with words."""
VERSION = 2
"""To be raised when a change to the scoring changes numbers: earlier results are then evaluated again."""


def evaluate(
    models: Sequence[str],
    data: Path | None = None,
    tasks: Sequence[str] | None = None,
    protocol: str = "2024",
    details: bool = False,
    scorer: str = OWN_SCORER,
    out: Path | None = None,
    ways: Sequence[str] | None = None,
    fast: bool = False,
) -> list[EvaluatedModel]:
    """Evaluate models, write a result and the scores of all items for each task, and print a table for each model.

    What was evaluated before, with the same weights and items, is only shown, unless it is damaged.

    Args:
        models: names of runs, run directories, other folders of Hugging Face language models, causal or masked, or
            `hf:owner/name@revision`.
        data: folder of tasks; default `PALENKA_EVAL`.
        tasks: which of them; default those of the protocol's pipeline, cross-entropy and samples, if they can be had.
        protocol: whose tasks and rules; see `protocols.py`.
        details: also show phenomena, fields and subtasks.
        scorer: whose log-probabilities; those of another than our own are kept apart and compared with ours.
        out: folder for results, each model's in one of its name; default in the model's own.
        ways: in which the models are asked; default each that a model learned.
        fast: ask the milestones of these runs in their place, by default the year's fast sets.

    Returns:
        What was evaluated.

    Raises:
        UserError: anything of this is missing, damaged or unusable.
        OSError: results cannot be written.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol {protocol!r} is not known; known: {', '.join(PROTOCOLS)}")
    if scorer not in SCORERS:
        raise UserError(f"scorer {scorer!r} is not known; known: {', '.join(SCORERS)}")
    if scorer != OWN_SCORER:
        _check_scorer(scorer, tasks or (), data or evaluation_root())
    rules = PROTOCOLS[protocol]
    if fast and not rules.fast:
        raise UserError(f"--fast: there are no fast sets in {protocol}; --protocol 2025 and 2026 have some")
    names = [str(folder) for model in models for folder in _milestones(model)] if fast else models
    evaluated = [EvaluatedModel.find(name) for name in dict.fromkeys(names)]
    root = data or evaluation_root()
    read = _read_tasks(root, tasks, rules, rules.fast if fast else rules.tasks)
    if fast and tasks is None and not read:
        raise UserError(f"{root}: holds no fast set; palenka download evals-{protocol} fetches them")
    if scorer != OWN_SCORER:
        read = [task for task in read if not task.only_own_scorer]
    text, samples = (
        scorer == OWN_SCORER and (not fast if tasks is None else name in tasks) for name in OF_MODELS
    )  # fmt: skip
    for model in evaluated:
        if model.data_problem and tasks is not None and text:
            raise UserError(f"{model.folder}: cannot measure {CROSS_ENTROPY}: {model.data_problem}")
    asked = {str(model.folder): _ways(model, ways, scorer) for model in evaluated}
    if tasks is not None:
        _check_ways([way for of_model in asked.values() for way in of_model], read, samples)
    for model in evaluated:
        if out:
            model.place_results(out)
        for way in asked[str(model.folder)]:
            _require_place(model.results(protocol, way.folder))
    texts: Texts = {}
    for model in evaluated:
        scorers = Scorers(model.folder)
        for way in asked[str(model.folder)]:
            evaluator = Evaluator(model, protocol, scorer, texts, way, scorers)
            results = evaluator.results([task for task in read if _is_asked(task, way)])
            cross_entropy = evaluator.cross_entropy() if text and model.prepared and way.paradigm else None
            written = evaluator.samples() if samples and _is_causal(way) else None
            print(table(model, results, cross_entropy, protocol, details, way.name, written), flush=True)
            if scorer != OWN_SCORER:
                print(evaluator.agreement(read), flush=True)
        if samples and not any(map(_is_causal, asked[str(model.folder)])):
            print(f"{model.folder}: no samples: {WRITES_NOTHING}", flush=True)
    return evaluated


def result_files(model: Path, data: Path, tasks: Sequence[str], protocol: str = "2024") -> list[Path]:
    """Where the results of tasks are to lie of a model in whose folder nothing is owed: of each way that it learned.

    Args:
        model: its folder.
        data: folder of tasks.
        tasks: their names.
        protocol: of the results.
    """
    kinds = {task: kind_of(data / PROTOCOLS[protocol].folder(task)) for task in tasks}
    return [
        results_folder(model, protocol, way.folder) / f"{task}.json"
        for way in ways_of(model, learned(model).part_names)
        for task, kind in kinds.items()
        if _is_owed(task, kind, way)
    ]


def _is_owed(task: str, kind: type[EvaluationTask] | None, way: Way) -> bool:
    if task in OF_MODELS:
        return _is_causal(way) if task == SAMPLES else way.paradigm is not None
    return kind is None or _is_asked(kind, way)


def _is_causal(way: Way) -> bool:
    """Whether a model that is asked so predicts the next token."""
    return way.paradigm is not None and DOOR.find(way.paradigm).attention == "causal"


def _is_asked(task: type[EvaluationTask] | EvaluationTask, way: Way) -> bool:
    return way.paradigm is not None or not task.only_predictions


def _milestones(run: str) -> list[Path]:
    """The folders of a run's milestones, in the order in which they were left."""
    folder = find_run(run)
    found = milestones_of(folder, read_log(folder / "metrics.jsonl").records)
    if not found:
        raise UserError(f"{folder}: has no milestones; evaluation.words in a run's config says when they are left")
    return [milestone.folder for milestone in found]


def _ways(model: EvaluatedModel, names: Sequence[str] | None, scorer: str) -> list[Way]:
    """How a model is asked; another scorer asks causal models alone."""
    ways = ways_of(model.folder, learned(model.folder).part_names, names)
    if scorer == OWN_SCORER:
        return ways
    found = [way for way in ways if way.name == CAUSAL]
    if not found or (names and len(found) < len(names)):
        raise UserError(
            f"{model.folder}: --scorer {scorer} asks in the way {CAUSAL} alone: minicons 0.3.39 scores masked models "
            "with transformers 4 only; leave --scorer out"
        )
    return found


def _check_ways(ways: Sequence[Way], tasks: Sequence[EvaluationTask], samples: bool) -> None:
    """Refuse tasks that are asked for by name, and that no way that is asked has an answer to."""
    if samples and not any(map(_is_causal, ways)):
        names = ", ".join(dict.fromkeys(way.name for way in ways))
        raise UserError(f"{SAMPLES}: asked in the way {names}, {WRITES_NOTHING}")
    for task in tasks:
        if not any(_is_asked(task, way) for way in ways):
            names = ", ".join(dict.fromkeys(way.name for way in ways))
            raise UserError(f"{task.name}: asks for predictions of tokens, which are no scores of the way {names}")


def _check_scorer(scorer: str, tasks: Sequence[str], root: Path) -> None:
    """Refuse tasks that are asked for by name and that another scorer cannot be asked."""
    for name in tasks:
        kind = kind_of(root / name)
        if name in OF_MODELS or (kind and kind.only_own_scorer):
            raise UserError(f"--scorer {scorer}: scores only choices; leave {name} out of --tasks")


def _require_place(folder: Path) -> None:
    """Check that results can be written to a folder; raise OSError or UserError if not."""
    require_writable(folder, "nothing was scored; --out DIR writes the results elsewhere")
    for path in sorted(folder.glob("*.json*")):
        if not path.is_file():
            raise UserError(f"{path}: not a regular file, where a result may have to be written; move it away")


def _read_tasks(
    root: Path, names: Sequence[str] | None, rules: Protocol, default: Iterable[str]
) -> list[EvaluationTask]:
    """The tasks named, which must exist; or the default ones that exist, reporting those that do not."""
    named = None if names is None else [rules.task(name) for name in names if name not in OF_MODELS]
    folders = [root / rules.folder(name) for name in dict.fromkeys(default if named is None else named)]
    absent = [folder for folder in folders if not folder.is_dir()] if named is None else []
    if absent:
        print(f"skipped, no such folders in {root}: {', '.join(folder.name for folder in absent)}", flush=True)
        for advice in (GATED[folder.name] for folder in absent if folder.name in GATED):
            print(f"  {advice}", flush=True)
    for folder in folders:
        if folder.is_dir() and (wrong := differences(folder)):
            print(f"{folder}: not the published items, scores do not compare ({wrong})", flush=True)
    return [read_task(folder, rules.year) for folder in folders if folder not in absent]


@dataclass
class Scorers:
    """What scores a model's texts, loaded when it is needed first, and once for all ways of asking.

    `known`: scores of the choices of tasks, by the part of a way and the task's name: `fused` adds up what others have.
    """

    folder: Path
    known: dict[tuple[Part, str], NDArray[np.float64]] = field(default_factory=dict)

    @cached_property
    def own(self) -> dict[str, Scorer]:
        """By the paradigms that it learned."""
        return Scorer.load_each(self.folder)

    @cached_property
    def minicons(self) -> MiniconsScorer:
        return MiniconsScorer.load(self.folder)


@dataclass
class Evaluator:
    """Scores the items of tasks by a model that is asked in one way; `texts` are kept for those that come after it."""

    model: EvaluatedModel
    protocol: str
    scorer: str
    texts: Texts
    way: Way
    scorers: Scorers

    @property
    def own(self) -> Scorer:
        """For tasks that ask for predictions."""
        assert self.way.paradigm is not None
        return self.scorers.own[self.way.paradigm]

    def results(self, tasks: Sequence[EvaluationTask]) -> list[dict[str, Any]]:
        """The result of each task, from its file or measured and written."""
        baselines = self._baselines([task for task in tasks if isinstance(task, Task) and not task.has_ratios])
        results = []
        for task in tasks:
            result = self._result(task)
            if task.name in baselines:
                result["floors"] = baselines[task.name]
            write_json(self._path(task), result)  # at once: what ends the next task leaves this one
            results.append(result)
        return results

    def agreement(self, tasks: Sequence[EvaluationTask]) -> str:
        """Lines on how far another scorer's scores are from our own."""
        own = self.model.results(self.protocol, self.way.folder)
        lines = [
            agreement(task, own / f"{task.name}.json", self._path(task)) for task in tasks if isinstance(task, Choices)
        ]
        return "\n".join([f"  scored by {self.scorer}:", *lines])

    def cross_entropy(self) -> dict[str, Any]:
        """Measure dev and test text, unless already done, and write the file."""
        assert self.model.prepared is not None and self.way.paradigm is not None
        settings = window_settings(self.model.config)
        key = read_prepared(self.model.prepared)["key"]
        identity = {"model": self.model.fingerprint, "data": key, "windows": settings, "version": VERSION}
        path = self.model.results("2024", self.way.folder) / f"{CROSS_ENTROPY}.json"
        identity |= self.way.said
        if known := known_cross_entropy(path, identity):
            return known
        splits = cross_entropy(self.scorers.own[self.way.paradigm], self.model.prepared, settings)
        result = {"task": CROSS_ENTROPY, **self.way.said, "splits": splits, "identity": identity}
        make_folder(path.parent)
        write_json(path, result)
        return result

    def samples(self) -> list[dict[str, Any]]:
        """Have the model write, unless already done, and write the file."""
        assert self.way.paradigm is not None
        path = self.model.results("2024", self.way.folder) / f"{SAMPLES}.json"
        identity = {"model": self.model.fingerprint, **SETTINGS, "version": VERSION, **self.way.said}
        known = known_samples(path, identity)
        if known is None:
            written = write_samples(self.scorers.own[self.way.paradigm])
            known = {"task": SAMPLES, **self.way.said, "samples": written, "identity": identity}
            make_folder(path.parent)
            write_json(path, known)
        return list(known["samples"])

    def _baselines(self, tasks: list[Task]) -> dict[str, dict[str, Any]]:
        if self.model.prepared:
            return measure_baselines(self.model.prepared, tasks)
        return {task.name: NO_BASELINES for task in tasks}

    def _path(self, task: EvaluationTask) -> Path:
        """Our own results, or, in a folder of its name below, those of another scorer."""
        folder = "" if self.scorer == OWN_SCORER else self.scorer
        return self.model.results(self.protocol, self.way.folder) / folder / f"{task.name}.json"

    def _result(self, task: EvaluationTask) -> dict[str, Any]:
        """Score a task's items, unless already done, and keep the score of each."""
        identity = {
            "model": self.model.fingerprint, "items": task.digest, "convention": self.protocol, "version": VERSION,
        }  # fmt: skip
        identity |= self.way.said
        if self.scorer != OWN_SCORER:
            identity["scorer"] = self.scorer
        path = self._path(task)
        if known := known_result(path, identity, task.derive):
            return known
        records, found = task.measure(self, self._label(task))
        write_records(path, records)
        return {"task": task.name, "convention": self.protocol, **self.way.said, **found, "identity": identity}

    def score_choices(self, task: Task, label: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Score of each choice, in order, and how many tokens it is the sum of."""
        if self.scorer == "minicons":
            return self.scorers.minicons.score_items(task.items, self.protocol, label)
        scores = sum(self._scores(task, part, label) for part in self.way.parts)
        texts = self._texts(task, self.way.parts[-1])
        return np.asarray(scores), np.array([len(text.continuation) for text in texts])

    def _scores(self, task: Task, part: Part, label: str) -> NDArray[np.float64]:
        """Scores of the choices, in order, by a part of the way."""
        if (part, task.name) not in self.scorers.known:
            scorer, texts = self.scorers.own[part.paradigm], self._texts(task, part)
            check_texts(task.items, texts, task.name, scorer.limits)
            self.scorers.known[part, task.name] = scorer.score(texts, label=label)
        return self.scorers.known[part, task.name]

    def _texts(self, task: Task, part: Part) -> list[Text]:
        scorer = self.scorers.own[part.paradigm]
        key = self.model.tokenizer_fingerprint, task.name, scorer.is_causal, part.within_word
        if key not in self.texts:
            self.texts[key] = (
                encode(task.items, scorer.tokenizer, self.protocol) if scorer.is_causal else
                encode_masked(task.items, scorer.tokenizer, self.protocol, part.within_word)
            )  # fmt: skip
        return self.texts[key]

    def _label(self, task: EvaluationTask) -> str:
        way = "" if self.way.name == CAUSAL else f", {self.way.name}"
        return f"{self.model.folder.name}, {task.name}{way}"
