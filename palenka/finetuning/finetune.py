"""Fine-tuning of models on tasks: what is asked is checked first, then done training by training, and shown."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.results import known_result, write_records
from palenka.finetuning import results
from palenka.finetuning.checkpoints import Checkpoints
from palenka.finetuning.classifier import Items, Pretrained
from palenka.finetuning.display import table
from palenka.finetuning.metrics import Metric
from palenka.finetuning.results import result_path
from palenka.finetuning.schema import Recipe
from palenka.finetuning.tasks import TASKS
from palenka.finetuning.texts import FOLDER, LabelledTexts, read_texts
from palenka.finetuning.training import Course, Training
from palenka.util.config import load
from palenka.util.errors import UserError
from palenka.util.files import make_folder, read_json, require_writable, sha256, write_json
from palenka.util.locks import held
from palenka.util.paths import evaluation_root
from palenka.util.seeds import named_seed
from palenka.util.text import did_you_mean, percent

VERSION = 1
"""To be raised when a change to training or scoring changes numbers: earlier results then do not count."""


def finetune(
    models: Sequence[str],
    recipe: Path,
    overrides: Sequence[str] = (),
    tasks: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    data: Path | None = None,
    from_scratch: bool = False,
    out: Path | None = None,
) -> list[EvaluatedModel]:
    """Fine-tune models, write a result and the predictions for each task and seed, and print a table for each model.

    What was done before, with the same weights, files and settings, is only shown.

    Args:
        models: names of runs, run directories, other folders of Hugging Face language models, causal or masked, or
            `hf:owner/name@revision`.
        recipe: a file of `config/finetuning/`, or one like it.
        overrides: `key.path=value` of its keys.
        tasks: which of the recipe's; default all.
        seeds: of the trainings.
        data: folder of evaluation data; default `PALENKA_EVAL`.
        from_scratch: begin with initial weights of the models' shapes, not with theirs.
        out: folder for results, each model's in one of its name; default in the model's own.

    Returns:
        What was fine-tuned.

    Raises:
        UserError: anything of this is missing, damaged or unusable, or a loss is not finite.
        OSError: results cannot be written.
    """
    config = load(recipe, overrides, Recipe)
    trainings = _trainings(config, _chosen(config, tasks), (data or evaluation_root()) / FOLDER)
    found = [EvaluatedModel.find(name) for name in dict.fromkeys(models)]
    works = []
    for model in found:
        if out:
            model.place_results(out)
        works.append(Work(model, config, from_scratch, list(dict.fromkeys(seeds))))
        works[-1].check(trainings)
    for work in works:
        for task in trainings:
            for seed in work.seeds:
                work.finish(task, seed)
        print(table(work.model.folder, results.of_recipe(config.name, from_scratch, work.done)), flush=True)
    return found


def _chosen(recipe: Recipe, tasks: Sequence[str] | None) -> list[str]:
    for name in tasks or ():
        if name not in recipe.tasks:
            known = did_you_mean(name, [*recipe.tasks])
            raise UserError(f"--tasks: {name!r} is not among the tasks of recipe {recipe.name}{known}")
    return [name for name in recipe.tasks if tasks is None or name in tasks]


@dataclass(frozen=True)
class TrainingTask:
    """What a classifier is trained for. `valid`: the items that it answers, by their task."""

    name: str
    train: LabelledTexts
    valid: dict[str, LabelledTexts]

    @property
    def files(self) -> dict[str, str]:
        """Their hashes."""
        return {texts.path.name: texts.sha256 for texts in (self.train, *self.valid.values())}


def _trainings(recipe: Recipe, names: list[str], folder: Path) -> list[TrainingTask]:
    """Read all files of the tasks; a classifier that is trained for several answers them all."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --data names the folder that it lies in")
    answered: dict[str, dict[str, LabelledTexts]] = {}
    for name in names:
        training = TASKS[name].training
        needed = [training, name] if recipe.selection == "valid" else [name]
        answered.setdefault(training, {}).update({each: read_texts(folder, each, "valid") for each in needed})
    return [TrainingTask(name, read_texts(folder, name, "train"), valid) for name, valid in answered.items()]


class Work:
    """What is to be done for a model.

    Args:
        model: whose results they are.
        recipe: of the trainings.
        from_scratch: whether its weights are not used.
        seeds: of the trainings.
    """

    def __init__(self, model: EvaluatedModel, recipe: Recipe, from_scratch: bool, seeds: list[int]) -> None:
        self.model, self.recipe, self.from_scratch, self.seeds = model, recipe, from_scratch, seeds
        self.folder = results.recipe_folder(model.home, recipe.name, from_scratch)
        self.done: dict[str, dict[int, dict[str, Any]]] = {}  # by task and seed
        self._read: dict[Path, Items] = {}

    def check(self, trainings: list[TrainingTask]) -> None:
        """Raise UserError or OSError where a result has no place, or is that of other settings."""
        require_writable(self.folder, "nothing was trained; --out DIR writes the results elsewhere")
        for task in trainings:
            settings = self.recipe.settings(task.name)
            for path in (result_path(self.folder, name, seed) for name in task.valid for seed in self.seeds):
                identity = _identity_in(path)
                if identity and (differing := sorted(_differences(identity.get("settings"), settings))):
                    raise UserError(
                        f"{path}: a result of other settings under this name; nothing was changed. It differs in "
                        f"{', '.join(differing)}; choose another name (name=…), or move that folder away"
                    )

    @cached_property
    def pretrained(self) -> Pretrained:
        return Pretrained(self.model.folder, self.recipe, self.from_scratch)

    def finish(self, task: TrainingTask, seed: int) -> None:
        """Have the results of a training, from their files or by training."""
        identity = self._identity(task, seed)
        first = result_path(self.folder, next(iter(task.valid)), seed)
        make_folder(first.parent)
        with held(first.with_name(f".{first.stem}.lock"), lambda: print(f"{first}: another process is at it; waiting")):
            known = {name: found for name in task.valid if (found := self._known(name, identity, seed))}
            if len(known) < len(task.valid):
                known = self._train(task, seed, identity, Checkpoints(first, identity))
        for name, result in known.items():
            self.done.setdefault(name, {})[seed] = result

    def _identity(self, task: TrainingTask, seed: int) -> dict[str, Any]:
        model = self.model
        shape = [sha256(model.folder / "config.json"), model.tokenizer_fingerprint]
        return {
            "model": shape if self.from_scratch else model.fingerprint, "files": task.files,
            "settings": self.recipe.settings(task.name), "seed": seed, "version": VERSION,
        }  # fmt: skip

    def _known(self, name: str, identity: dict[str, Any], seed: int) -> dict[str, Any] | None:
        path = result_path(self.folder, name, seed)
        return known_result(path, identity, lambda records: results.figures(TASKS[name], records))

    def _train(
        self, task: TrainingTask, seed: int, identity: dict[str, Any], checkpoints: Checkpoints
    ) -> dict[str, dict[str, Any]]:
        started = time.monotonic()
        training = self._training(task, seed)
        course = training.run(checkpoints)
        written = {name: self._write(task, name, seed, course, identity) for name in task.valid}
        checkpoints.drop()
        shown = ", ".join(f"{name} {percent(of['value'])}" for name, of in written.items())
        took = f"at epoch {course.epoch} of {len(course.losses)}, {time.monotonic() - started:.0f} s"
        print(f"{training.label}: {shown} {took}", flush=True)
        return written

    def _training(self, task: TrainingTask, seed: int) -> Training:
        train, about = self._items(task.train), TASKS[task.name]
        reported = {name: self._items(texts) for name, texts in task.valid.items()}
        choosing: Items | str = task.name
        if self.recipe.selection == "train":
            chosen, others = held_out(len(train), self.recipe.held_out)
            choosing, train = train.some(chosen), train.some(others)
        metric: Metric = "f1" if self.recipe.select_by == "f1" and about.labels == 2 else about.metric
        return Training(
            self.pretrained.classifier(about.labels, seed), train, choosing, reported, metric, about.labels,
            self.recipe.hyperparameters(task.name), seed, f"{self.model.folder.name}, {task.name}, seed {seed}",
        )  # fmt: skip

    def _items(self, texts: LabelledTexts) -> Items:
        if texts.path not in self._read:
            self._read[texts.path] = self.pretrained.read(texts)
        return self._read[texts.path]

    def _write(
        self, task: TrainingTask, name: str, seed: int, course: Course, identity: dict[str, Any]
    ) -> dict[str, Any]:
        texts, path = task.valid[name], result_path(self.folder, name, seed)
        records = results.records_of(TASKS[name], texts.labels, course.predictions[name])
        result = {
            "task": name, "recipe": self.recipe.name, "recipe_tasks": [*self.recipe.tasks], "seed": seed,
            **results.figures(TASKS[name], records),
            "selection": self.recipe.selection, "epoch": course.epoch, "scores": course.scores, "losses": course.losses,
            "truncated": self._items(texts).truncated, "identity": identity,
        }  # fmt: skip
        write_records(path, records)
        write_json(path, result)
        return result


def held_out(count: int, share: float) -> tuple[list[int], list[int]]:
    """Numbers of the items of a training file that choose the epoch, and of the others, in order: the same for all
    seeds and models."""
    order = np.random.default_rng(named_seed(0, "finetuning", "held out")).permutation(count)
    size = min(max(1, round(share * count)), count - 1)
    return sorted(order[:size].tolist()), sorted(order[size:].tolist())


def _identity_in(path: Path) -> dict[str, Any]:
    """The identity of the result of a file, if there is one that can be read."""
    try:
        return dict(read_json(path)["identity"]) if path.exists() else {}
    except (UserError, KeyError, TypeError, ValueError):
        return {}


def _differences(one: Any, other: Any, key: str = "") -> Iterator[str]:
    """Key paths of what is not the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one.keys() | other.keys():
            yield from _differences(one.get(name), other.get(name), f"{key}.{name}" if key else name)
    elif one != other:
        yield key
