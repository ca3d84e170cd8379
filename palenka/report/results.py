"""Reads what a run left behind: result, metrics, evaluations and config, as typed records."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from statistics import fmean, mean
from typing import Any, TypeVar

import numpy as np
import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from palenka.evaluation.comparison import Outcomes
from palenka.evaluation.results import (
    TOLERANCE,
    check_samples,
    check_splits,
    contradictions,
    items_path,
    results_folder,
)
from palenka.evaluation.statistics import choice_outcomes, mean_error
from palenka.evaluation.ways import CAUSAL, WAYS, in_way, way_of
from palenka.finetuning.results import RecipeResults, read_finetuning
from palenka.runs.directory import find_run
from palenka.runs.records import read_log
from palenka.util.config import parse_yaml
from palenka.util.errors import UserError
from palenka.util.files import read_object, require_file
from palenka.util.former_names import with_present_names
from palenka.util.schedules import Weight

CROSS_ENTROPY, SAMPLES = "cross_entropy.json", "samples.json"
Stored = TypeVar("Stored", bound=BaseModel)
T = TypeVar("T")


class CrossEntropy(BaseModel):
    """Cross-entropy of a text: nats per token; bits per UTF-8 byte of the raw text, where all of it is predicted."""

    cross_entropy: float
    bits_per_byte: float | None = None
    tokens: int = 0
    domains: dict[str, "CrossEntropy"] = {}


class Parameters(BaseModel):
    """True parameter counts."""

    total: int
    non_embedding: int


class Words(BaseModel):
    """The ledger of a run (`runs/ledger.py`): words of its text, and of all that it learned from, each text once.

    unknown: why the words of a teacher, or of a text, are not known.
    not_eligible: of each track of BabyLM, why the run is none for it; nothing where it is one.
    """

    own_words: int
    unique_words: int
    unknown: dict[str, str] = {}
    not_eligible: dict[str, list[str]] = {}


class Result(BaseModel):
    """result.json: present when the run is complete."""

    architecture: str
    paradigms: list[str] = ["causal"]
    parameters: Parameters
    steps: int
    epochs: float
    tokens: int
    words: int
    ledger: Words | None = None
    best_step: int | None
    dev: CrossEntropy
    seconds: float
    tokens_per_second: float


class Training(BaseModel):
    """What the training of a model cost: its name, and FLOPs with its teachers' passes."""

    name: str
    flops: float


class Cost(BaseModel):
    """cost.json (`cost/record.py`): FLOPs of a run's training, of its teachers' passes, and of their own trainings.

    unknown: why the training of a teacher is not known.
    """

    student: float
    teachers: float
    trainings: dict[str, Training] = {}
    unknown: dict[str, str] = {}

    @property
    def of_trainings(self) -> float:
        """Of the teachers' trainings, as far as they are known."""
        return sum(training.flops for training in self.trainings.values())

    @property
    def total(self) -> float:
        """All that is known."""
        return self.student + self.teachers + self.of_trainings


class Subtask(BaseModel):
    """Accuracy (0…1) on one file of pairs; `baselines` where they were measured for that file."""

    accuracy: float
    stderr: float
    n: int
    ties: int = 0
    phenomenon: str | None = None
    field: str | None = None
    baselines: dict[str, float | None] = Field(default={}, alias="floors")


class Evaluation(BaseModel):
    """A task's result: accuracy is the unweighted mean over subtasks, stderr that mean's.

    `way`: of asking the model. `path`: of the file that it was read from.
    """

    task: str
    way: str = CAUSAL
    path: Path | None = None
    protocol: str | int = Field(alias="convention")
    accuracy: float
    stderr: float
    n: int
    ties: int = 0
    chance: float = 0.5
    baselines: dict[str, float | None] = Field(default={}, alias="floors")
    subtasks: dict[str, Subtask]
    tie_items: dict[str, list[int]] = {}
    identity: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Of its task, and of the way unless that is causal: results of one name alone are compared."""
        return in_way(self.task, self.way)

    @cached_property
    def outcomes(self) -> Outcomes | None:
        """Outcome of every item, by subtask; None where the items were not kept."""
        return _read_outcomes(items_path(self.path), self) if self.path else None


class Prediction(BaseModel):
    """How well people are predicted: a correlation, or a share of variance."""

    value: float
    stderr: float


class Predictions(BaseModel):
    """The result of a task that has no right choices: what was predicted, by name."""

    task: str
    way: str = CAUSAL
    protocol: str | int = Field(alias="convention")
    n: int
    scores: dict[str, Prediction]
    identity: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return in_way(self.task, self.way)


class Correlation(BaseModel):
    """r of n pairs and its p; its 95 % interval, where there is one."""

    r: float
    p: float
    n: int
    low: float | None = None
    high: float | None = None


class WordAge(BaseModel):
    """Mean surprisals of a word at the milestones, in nats; when children (months) and the model (log10 words) know it.
    """

    word: str
    surprisals: list[float]
    child: float | None
    age: float | None
    is_determined: bool


class Milestone(BaseModel):
    name: str
    seen: int


class Acquisition(Predictions):
    """acquisition.json, with its words: at which ages a run and children know them, and how these go together."""

    milestones: list[Milestone]
    pipeline: Correlation
    determined: Correlation
    left_out: dict[str, int]
    words: list[WordAge]


class CrossEntropyFile(BaseModel):
    """evaluation/cross_entropy.json."""

    way: str = CAUSAL
    splits: dict[str, CrossEntropy]


class Sample(BaseModel):
    """What a model wrote after a prompt, or after nothing; `ended`: it came to an end by itself."""

    prompt: str
    text: str
    ended: bool


class SamplesFile(BaseModel):
    """evaluation/samples.json."""

    samples: list[Sample]


class Score(BaseModel):
    """An accuracy (0…1) and its standard error."""

    accuracy: float
    stderr: float


class GridTrial(BaseModel):
    """One trial of a grid; `dev` is None where it diverged, and so is `rank`."""

    label: str = Field(alias="cell")
    rank: int | None = None
    values: dict[str, float] = {}
    dev: CrossEntropy | None = None
    tasks: dict[str, Score] = {}


class Grid(BaseModel):
    """grid.json: the trials of a grid, ranked by dev cross-entropy, and those that were retrained."""

    name: str
    axes: dict[str, list[float]]
    trials: list[GridTrial] = Field(alias="cells")
    finalists: list[GridTrial]


@dataclass
class Run:
    """One run directory, read. `broken`: what is damaged of its evaluation, and so not among the results here."""

    folder: Path
    name: str
    config: dict[str, Any]
    config_text: str
    identity: dict[str, Any]
    environment: dict[str, Any]
    result: Result | None
    metrics: list[dict[str, Any]]
    evaluations: dict[str, Evaluation]
    cross_entropy: dict[str, CrossEntropy]
    predictions: dict[str, Predictions] = field(default_factory=dict)
    protocol: str = "2024"
    label: str = ""
    broken: list[str] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)
    finetuning: list[RecipeResults] = field(default_factory=list)
    pruned: dict[str, Any] = field(default_factory=dict)
    cost: Cost | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def energy(self) -> float | None:
        """Wh of its training at its processors' rated power, an estimate; None where that is not on record."""
        watts = self.environment.get("watts")
        return self.result.seconds * watts / 3600 if self.result and isinstance(watts, int | float) else None

    @property
    def distilled(self) -> bool:
        return bool(self.config.get("teachers"))

    @property
    def learned(self) -> list[str]:
        """The paradigms that it learned by, as its result says; of an unfinished run the name of its one."""
        if self.result:
            return self.result.paradigms
        return [self.paradigm["name"]]

    @property
    def paradigm(self) -> dict[str, Any]:
        """What its config says of how it learned, without what is not set."""
        given = self.config.get("paradigm") or "causal"
        return {"name": given} if isinstance(given, str) else {key: value for key, value in given.items() if value}

    @property
    def data_name(self) -> str:
        return str((self.config.get("data") or {}).get("name", "unknown data"))

    @property
    def seed(self) -> Any:
        return self.config.get("seed")

    @property
    def architecture(self) -> str:
        shape = self.config.get("student") or self.config.get("model") or {}
        return self.result.architecture if self.result else str(shape.get("architecture", "unknown"))

    @property
    def weights(self) -> dict[str, Weight]:
        """Weight of each objective term; empty where the config names none."""
        objective = self.config.get("objective") or {}
        return {term: Weight.model_validate((knobs or {}).get("weight", 1.0)) for term, knobs in objective.items()}

    @property
    def identity_hash(self) -> str:
        """sha256 of identity.json's content; empty where there is none."""
        content = json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest() if self.identity else ""

    @property
    def teachers(self) -> list[str]:
        return [str(teacher["run"]) for teacher in self.config.get("teachers") or []]

    @property
    def recorded(self) -> str:
        """What it was shown of its teachers' prediction, where they were not run: `top 128, 32 samples`."""
        cache = self.config.get("cached_logits") or {}
        found = [f"top {cache['top_k']}"] if cache else []
        return ", ".join(found + ([f"{cache['samples']} samples"] if cache.get("samples") else []))

    def is_among(self, names: Iterable[str]) -> bool:
        """Whether one of these names or paths means this run."""
        return not {self.name, str(self.folder)}.isdisjoint(names)

    @cached_property
    def outcomes(self) -> dict[str, Outcomes]:
        """Outcome of every item, by task and subtask, for the tasks that kept their items."""
        return {task: read for task, found in self.evaluations.items() if (read := found.outcomes) is not None}


def read_runs(names: list[str], protocol: str = "2024", tell: Callable[[str], None] | None = None) -> list[Run]:
    """The runs of those names (a folder stands for all runs below it), labelled for display.

    Args:
        names: of runs, or of folders.
        protocol: of the evaluations.
        tell: is told of each run that cannot be read; the others are returned.

    Raises:
        UserError: a name is no run; no run can be read; or one cannot, and nobody would be told.
    """
    runs: dict[Path, Run] = {}
    damages: list[str] = []
    for name in names:
        found = _in_order(_readable(_folders(name), protocol, damages.append))
        runs |= {run.folder: run for run in found if run.folder not in runs}
    for damage in damages:
        if tell is None or not runs:
            raise UserError("\n".join(damages))
        tell(damage)
    set_labels(list(runs.values()))
    return list(runs.values())


def _readable(folders: Iterable[Path], protocol: str, tell: Callable[[str], None]) -> Iterator[Run]:
    for folder in folders:
        try:
            yield read_run(folder, protocol)
        except UserError as error:
            tell(str(error))


def read_grids(runs: list[Run]) -> list[Grid]:
    """The selections of the grids that any of the runs are trials of.

    Raises:
        UserError: a grid.json cannot be read.
    """
    paths = dict.fromkeys(run.folder.parent / "grid.json" for run in runs)
    return [validate(path, Grid, _read_object(path)) for path in paths if path.exists()]


def _with_present_terms(records: list[dict[str, Any]], config: dict[str, Any]) -> list[dict[str, Any]]:
    """Records in which the cross-entropy of a run without objectives has its present name; it was `hard_target`."""
    if "objective" in config:
        return records
    return [{"cross_entropy" if key == "hard_target" else key: record[key] for key in record} for record in records]


def read_run(folder: Path, protocol: str = "2024") -> Run:
    """Reads a run directory; what is not there yet is None or empty.

    Raises:
        UserError: a file that is there cannot be read; the message names it.
    """
    config_text, config = _read_yaml(folder / "config.yaml")
    evaluations, predictions, broken = read_evaluations(folder, protocol)
    folders = _folders_of_ways(folder, "2024")
    losses = [_read_whole(results / CROSS_ENTROPY, _read_losses, broken) for results in folders]
    written = [_read_whole(results / SAMPLES, _read_samples, broken) for results in folders]
    log = read_log(folder / "metrics.jsonl")
    return Run(
        folder=folder,
        name=str(config.get("name") or folder.name),
        config=with_present_names(config),
        config_text=config_text,
        identity=_read_object(folder / "identity.json"),
        environment=_read_object(folder / "environment.json"),
        result=_read_optional(folder / "result.json", Result),
        metrics=_with_present_terms(log.records, config),
        evaluations=evaluations,
        cross_entropy={in_way(name, of.way): split for of in losses if of for name, split in of.splits.items()},
        predictions=predictions,
        finetuning=read_finetuning(folder, broken),
        protocol=protocol,
        broken=broken,
        damages=log.damages,
        pruned=_read_object(folder / "pruned.json"),
        cost=_read_optional(folder / "cost.json", Cost),
        samples=next((of.samples for of in written if of), []),
    )


def read_evaluated(folder: Path, protocol: str = "2024") -> Run:
    """Reads a run directory, or of another model folder what its evaluation left there.

    Raises:
        UserError: a file that is there cannot be read, or a result is damaged.
    """
    if (folder / "config.yaml").exists():
        run = read_run(folder, protocol)
    else:
        run = Run(folder, folder.name, {}, "", {}, {}, None, [], {}, {}, {}, protocol)
        run.evaluations, run.predictions, run.broken = read_evaluations(folder, protocol)
    if run.broken:
        raise UserError("\n".join(run.broken))
    return run


def read_evaluations(
    folder: Path, protocol: str
) -> tuple[dict[str, Evaluation], dict[str, Predictions], list[str]]:
    """Results of a protocol, by task (and way): of choices, and of predictions of people; and what is said of broken
    ones."""
    broken: list[str] = []
    folders = _folders_of_ways(folder, protocol)
    paths = [path for results in folders for path in sorted(results.glob("*.json"))]
    found = [_read_whole(path, _read_evaluation, broken) for path in paths if path.name not in (CROSS_ENTROPY, SAMPLES)]
    evaluations = {result.name: result for result in found if isinstance(result, Evaluation)}
    predictions = {result.name: result for result in found if isinstance(result, Predictions)}
    for items in [path for results in folders for path in sorted(results.glob("*.items.jsonl"))]:
        if not (result := items.with_suffix("").with_suffix(".json")).exists():
            broken.append(f"{result}: missing, though its items are there (re-evaluate it)")
    return evaluations, predictions, broken


def _folders_of_ways(folder: Path, protocol: str) -> list[Path]:
    """Where results of a protocol may lie: of the way that the model learned first, and of others."""
    learned = _read_object(folder / "result.json").get("paradigms") or ()  # all else of it may be another's
    ways = dict.fromkeys(("", *WAYS, *map(way_of, learned)))
    return [results_folder(folder, protocol, way) for way in ways]


def _read_whole(path: Path, read: Callable[[Path], T], broken: list[str]) -> T | None:
    """The content of a results file, if there is one and it is whole; else the problem is added to `broken`."""
    try:
        return read(path) if path.exists() else None
    except UserError as error:
        broken.append(f"{error} (re-evaluate it)")
        return None


def _read_evaluation(path: Path) -> Evaluation | Predictions:
    content = _read_object(path)
    if "pipeline" in content:
        return validate(path, Acquisition, content | {"words": _read_items(items_path(path))})
    if "scores" in content:
        return validate(path, Predictions, content)
    found = validate(path, Evaluation, content | {"path": path})
    _check_whole(path, found)
    _ = found.outcomes  # read now, while damage can be told
    return found


def _check_whole(path: Path, found: Evaluation) -> None:
    """Raise UserError unless the subtasks of a result come to the whole."""
    subtasks = list(found.subtasks.values())
    if not subtasks:
        raise UserError(f"{path}: damaged: has no subtasks")
    expected = {
        "accuracy": mean(subtask.accuracy for subtask in subtasks),
        "stderr": mean_error([subtask.stderr for subtask in subtasks]),
        "n": sum(subtask.n for subtask in subtasks),
        "ties": sum(subtask.ties for subtask in subtasks),
    }
    if difference := next(contradictions(found.model_dump(), expected), None):
        raise UserError(f"{path}: damaged: {difference}")


def _read_losses(path: Path) -> CrossEntropyFile:
    content = _read_object(path)
    check_splits(path, content)
    return validate(path, CrossEntropyFile, content)


def _read_samples(path: Path) -> SamplesFile:
    content = _read_object(path)
    check_samples(path, content)
    return validate(path, SamplesFile, content)


def _folders(name: str) -> list[Path]:
    folder = find_run(name).resolve()
    if (folder / "config.yaml").exists():
        return [folder]
    # wandb writes files named config.yaml too, below a run's directory.
    below = sorted(path.parent for path in folder.rglob("config.yaml") if (path.parent / "identity.json").exists())
    if not below:
        raise UserError(f"{folder}: neither a run (there is no config.yaml) nor a folder with runs below it")
    return below


def _in_order(found: Iterable[Run]) -> list[Run]:
    """Teachers, then undistilled runs, then students, those with fewer terms first."""
    runs = list(found)
    teachers = {teacher for run in runs for teacher in run.teachers}
    return sorted(runs, key=lambda run: (run.distilled, not run.is_among(teachers), len(run.weights)))


def set_labels(runs: list[Run]) -> None:
    """Short names: without the folder that all of them share."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.folder) for run in runs]
    shared = common_folder(names)
    for run, name in zip(runs, names, strict=True):
        run.label = name.removeprefix(f"{shared}/") if shared else name


def common_folder(names: list[str]) -> str:
    """The folder that all of these nested names lie in ("" where there is none)."""
    parents = [name.split("/")[:-1] for name in names]
    shared: list[str] = []
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared)


def _read_text(path: Path) -> str:
    require_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: missing, so {path.parent} is not a run directory") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def _read_yaml(path: Path) -> tuple[str, dict[str, Any]]:
    text = _read_text(path)
    try:
        content = parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no mapping; expected the resolved config of a run")
    return text, content


def _read_optional(path: Path, schema: type[Stored]) -> Stored | None:
    return validate(path, schema, _read_object(path)) if path.exists() else None


def validate(path: Path, schema: type[Stored], content: dict[str, Any]) -> Stored:
    """The content of a file of ours as a record. Raises UserError: it is another."""
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise UserError(f"{path}: {problems}") from error


def _read_object(path: Path) -> dict[str, Any]:
    return read_object(path) if path.exists() else {}


def _read_items(path: Path) -> list[dict[str, Any]]:
    """The items of a task, in order."""
    records = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        try:
            records.append(from_json(line))  # a quarter of the time that json.loads takes
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not valid JSON ({error})") from error
    return records


def _read_outcomes(path: Path, evaluation: Evaluation) -> Outcomes | None:
    """Outcomes (1 right, a half for a tie of two, 0 wrong) in line order, by subtask; items of a cluster are one, their
    mean.

    None where the items were not kept.

    Raises:
        UserError: they are damaged, or do not give the accuracies in the task's file.
    """
    if not path.exists():
        return None
    found: dict[str, dict[str, list[float]]] = {name: {} for name in evaluation.subtasks}
    records = sorted(_read_items(path), key=_line_number)
    try:
        choices = [(good, *others) for record in records for good, *others in [record["scores"]] if others]
        scores = np.array([*chain.from_iterable(choices)]).astype(np.float64)
        of_items, _ = choice_outcomes([*map(len, choices)], scores)
        for record, outcome in zip(records, of_items.tolist(), strict=True):
            cluster = record.get("cluster", str(record["item"]))
            found.setdefault(record["subtask"], {}).setdefault(cluster, []).append(outcome)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: a line lacks subtask, item or scores, or holds no numbers there") from error
    outcomes = {name: [outcome for cluster in of.values() for outcome in cluster] for name, of in found.items()}
    if not _agree(outcomes, evaluation):
        raise UserError(f"{path}: contradicts the accuracies in {evaluation.task}.json beside it")
    return {name: np.array(list(map(_mean, clusters.values()))) for name, clusters in found.items()}


def _mean(cluster: list[float]) -> float:
    return mean(cluster) if len(cluster) > 1 else cluster[0]  # nearly all of them have one item, and `mean` is slow


def _line_number(record: dict[str, Any]) -> int:
    return record.get("item", 0) if isinstance(record.get("item"), int) else 0


def _agree(outcomes: dict[str, list[float]], evaluation: Evaluation) -> bool:
    return outcomes.keys() == evaluation.subtasks.keys() and all(
        len(outcomes[name]) == subtask.n > 0
        and sum(0 < outcome < 1 for outcome in outcomes[name]) == subtask.ties
        and abs(fmean(outcomes[name]) - subtask.accuracy) < TOLERANCE
        for name, subtask in evaluation.subtasks.items()
    )
