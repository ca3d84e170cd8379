"""Results of fine-tuning, as files of a model's folder:

    evaluation/finetuning/<recipe>/<task>/seed-<n>.json           the result, with the identity of what was measured
    evaluation/finetuning/<recipe>/<task>/seed-<n>.items.jsonl    {"id": "rte_0", "label": 1, "predicted": 0}: a line
                                                                  for each item, in the order of the valid file

A model of the same shape that was not trained before has its results in `<recipe>/from-scratch/`. `read_predictions`
gives predictions to those who hand them in, `read_finetuning` all results to those who show them.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from palenka.evaluation.items import Records
from palenka.evaluation.results import read_records, read_result, results_folder
from palenka.evaluation.statistics import mean_error
from palenka.finetuning.metrics import best_constant, count, measure, standard_error
from palenka.finetuning.tasks import TASKS, GlueTask
from palenka.util.errors import UserError
from palenka.util.text import listed

FINETUNING, FROM_SCRATCH = "finetuning", "from-scratch"


def recipe_folder(model: Path, recipe: str, from_scratch: bool = False) -> Path:
    """The folder of a recipe's results in that of a model, or of its results elsewhere."""
    return results_folder(model, FINETUNING) / recipe / (FROM_SCRATCH if from_scratch else "")


def result_path(folder: Path, task: str, seed: int) -> Path:
    """Of a task's result in a recipe's folder."""
    return folder / task / f"seed-{seed}.json"


def read_predictions(model: Path, recipe: str, task: str, seed: int) -> list[dict[str, Any]]:
    """A record {"id", "label", "predicted"} of each item of a task, in the order of its valid file.

    Args:
        model: its folder, or that of its results elsewhere.
        recipe: its name.
        task: its name.
        seed: of the training.

    Raises:
        UserError: there are none, or they are damaged.
    """
    path = result_path(recipe_folder(model, recipe), task, seed)
    if not path.exists():
        asked = f"--recipe config/finetuning/{recipe}.yaml --tasks {task} --seeds {seed}"
        raise UserError(f"{path}: missing; palenka finetune {model} {asked} makes it")
    return _read(path)[1]


def records_of(task: GlueTask, labels: list[int], predictions: list[int]) -> Records:
    """The records of a task's items."""
    return [
        {"id": f"{task.name}_{number}", "label": label, "predicted": predicted}
        for number, (label, predicted) in enumerate(zip(labels, predictions, strict=True))
    ]


def figures(task: GlueTask, records: Records) -> dict[str, Any]:
    """What predictions come to. Shares are of labels, in their order.

    Raises:
        UserError: a record is not one.
    """
    labels, predictions = ([record.get(key, -1) for record in records] for key in ("label", "predicted"))
    if any(type(label) is not int or not 0 <= label < task.labels for label in (*labels, *predictions)):
        raise UserError(f"a record has no label and prediction from 0 to {task.labels - 1}")
    counts = count(labels, predictions, task.labels)
    n = len(records)
    return {
        "metric": task.metric,
        "value": measure(task.metric, counts),
        "stderr": standard_error(task.metric, counts),
        "accuracy": measure("accuracy", counts),
        "n": n,
        "majority": best_constant(task.metric, counts),
        "labels": (counts.sum(axis=1) / n).tolist(),
        "predicted": (counts.sum(axis=0) / n).tolist(),
        "learned": bool((counts.sum(axis=0) > 0).sum() > 1),
    }


def _read(path: Path) -> tuple[dict[str, Any], Records]:
    """A result and its items. Raises UserError where they are damaged."""
    result = read_result(path)
    if result.get("task") not in TASKS:
        raise UserError(f"{path}: damaged: of no known task")
    task = TASKS[result["task"]]
    return result, read_records(path, result, lambda records: figures(task, records))


@dataclass(frozen=True)
class TaskResults:
    """A task's results, of one seed or several."""

    task: GlueTask
    by_seed: dict[int, dict[str, Any]]

    @property
    def values(self) -> list[float]:
        return [result["value"] for result in self.by_seed.values()]

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def stderr(self) -> float:
        """Over items, of one seed: the mean of all."""
        return mean(result["stderr"] for result in self.by_seed.values())

    @property
    def first(self) -> dict[str, Any]:
        """The result of one seed, for what all have in common."""
        return next(iter(self.by_seed.values()))

    @property
    def predicted(self) -> list[float]:
        """The share of predictions that each label has, over all seeds."""
        return [mean(shares) for shares in zip(*(of["predicted"] for of in self.by_seed.values()), strict=True)]

    @property
    def unlearned(self) -> list[int]:
        """Seeds whose classifier gives one answer to all items."""
        return [seed for seed, result in self.by_seed.items() if not result["learned"]]


@dataclass(frozen=True)
class RecipeResults:
    """A model's results by a recipe. `missing`: tasks of the recipe without a result."""

    recipe: str
    from_scratch: bool
    tasks: dict[str, TaskResults]
    missing: list[str]

    @property
    def name(self) -> str:
        return f"{self.recipe} from scratch" if self.from_scratch else self.recipe

    @property
    def seeds(self) -> list[int]:
        """Those that all tasks have."""
        return sorted(set.intersection(*(set(of.by_seed) for of in self.tasks.values())))

    @property
    def mean(self) -> float:
        """The unweighted mean over tasks, of their means over seeds."""
        return mean(of.mean for of in self.tasks.values())

    @property
    def spread(self) -> float | None:
        """Standard deviation of that mean over the seeds that all tasks have."""
        means = [mean(of.by_seed[seed]["value"] for of in self.tasks.values()) for seed in self.seeds]
        return stdev(means) if len(means) > 1 else None

    @property
    def stderr(self) -> float:
        """Of the mean, over items, of one seed."""
        return mean_error([of.stderr for of in self.tasks.values()])

    @property
    def selection(self) -> list[str]:
        """Which items chose the epochs: `train`, `valid`."""
        return sorted({result["selection"] for of in self.tasks.values() for result in of.by_seed.values()})


def read_finetuning(model: Path, broken: list[str] | None = None) -> list[RecipeResults]:
    """All results of a model folder, by recipe.

    Args:
        model: its folder, or that of its results elsewhere.
        broken: is told of damaged results, which are left out.

    Raises:
        UserError: a result is damaged, and nobody would be told.
    """
    home = results_folder(model, FINETUNING)
    recipes = sorted({path.name for path in home.glob("*/") if path.is_dir()})
    read = [_read_recipe(model, recipe, scratch, broken) for recipe in recipes for scratch in (False, True)]
    return [results for results in read if results.tasks]


def _read_recipe(model: Path, recipe: str, from_scratch: bool, broken: list[str] | None) -> RecipeResults:
    folder = recipe_folder(model, recipe, from_scratch)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*/seed-*.json")):
        try:
            result, _ = _read(path)
        except UserError as error:
            if broken is None:
                raise
            broken.append(f"{error} (fine-tune it again)")
            continue
        found.setdefault(result["task"], {})[result["seed"]] = result
    return of_recipe(recipe, from_scratch, found)


def of_recipe(recipe: str, from_scratch: bool, found: dict[str, dict[int, dict[str, Any]]]) -> RecipeResults:
    """Results by task and seed, in the recipe's order of tasks, which the results themselves know."""
    wanted: list[str] = next((of["recipe_tasks"] for seeds in found.values() for of in seeds.values()), [])
    order = [*wanted, *(name for name in found if name not in wanted)]
    results = {name: TaskResults(TASKS[name], dict(sorted(found[name].items()))) for name in order if name in found}
    return RecipeResults(recipe, from_scratch, results, [name for name in wanted if name not in found])


def notes(found: RecipeResults) -> list[str]:
    """What has to be said beside the figures."""
    said = [
        f"{name} did not learn: one answer to all items with seed{'s' * (len(of.unlearned) > 1)} "
        f"{listed([str(seed) for seed in of.unlearned])}"
        for name, of in found.tasks.items()
        if of.unlearned
    ]
    truncated = {name: of.first["truncated"] for name, of in found.tasks.items() if of.first["truncated"]}
    if truncated:
        said.append("items longer than the model reads: " + ", ".join(f"{name} {n:,}" for name, n in truncated.items()))
    if "valid" in found.selection:
        said.append("the epoch was chosen by the very items that are reported (selection: valid): scores are too high")
    if found.missing:
        said.append(f"the mean is not that of the recipe, which has also {listed(found.missing)}")
    return said
