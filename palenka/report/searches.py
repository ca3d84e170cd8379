"""Reads what a search left behind, as typed records."""

import math
from typing import Any

from pydantic import BaseModel

from palenka.report.importance import Importance, importance
from palenka.report.results import CrossEntropy, Run, validate
from palenka.util.files import read_object

DEFAULT = "default"  # among finalists, the run without the search


class SearchAxis(BaseModel):
    """An axis: its choices, or how its numbers are distributed."""

    choice: list[Any] | None = None
    log_uniform: list[float] | None = None
    log_normal: list[float] | None = None
    complement: bool = False

    @property
    def is_logarithmic(self) -> bool:
        return bool(self.log_uniform or self.log_normal)

    def position(self, value: Any) -> float:
        """Of a value: the place of a choice, or the number that was drawn."""
        if self.choice is not None:
            return float(self.choice.index(value))
        return 1 - float(value) if self.complement else float(value)


class SearchTrial(BaseModel):
    """One trial; `loss` is dev loss at the `share` of its training where it was pruned."""

    number: int
    state: str
    values: dict[str, Any]
    dev: CrossEntropy | None = None
    share: float = 0.0
    loss: float = math.inf
    flops: float | None = None

    @property
    def label(self) -> str:
        return f"trial-{self.number:03d}"

    @property
    def outcome(self) -> tuple[float, ...]:
        """To rank by: dev loss; behind all that finished what was pruned, the earlier the worse; last what diverged."""
        if self.dev:
            return 0, self.dev.cross_entropy
        return (1, -self.share, self.loss) if self.state == "pruned" else (2,)


class SearchFinalist(BaseModel):
    """A trial, or the run without the search, trained anew with a seed."""

    of: str
    state: str
    dev: float | None = None
    test: float | None = None


class Search(BaseModel):
    """search.json: the trials of a search, the finished ones first, by dev cross-entropy, and the finalists."""

    name: str
    sampler: str
    asked: int
    axes: dict[str, SearchAxis]
    trials: list[SearchTrial]
    finalists: list[SearchFinalist] = []
    flops: float = 0.0
    budget: float | None = None

    @property
    def finished(self) -> list[SearchTrial]:
        """Best first."""
        return [trial for trial in self.trials if trial.dev]

    @property
    def ended(self) -> list[SearchTrial]:
        """Those with an outcome: finished, pruned or diverged."""
        return [trial for trial in self.trials if trial.state in ("finished", "pruned", "diverged")]

    @property
    def retrained(self) -> list[str]:
        """Finalists of which a seed has finished, the run without the search among them."""
        return list(dict.fromkeys(finalist.of for finalist in self.finalists if finalist.dev is not None))

    def over(self, key: str) -> list[SearchTrial]:
        """The trials with an outcome that have an axis."""
        return [trial for trial in self.ended if key in trial.values]

    def importance_of(self, key: str) -> Importance | None:
        """None where there are too few trials to say."""
        axis, trials = self.axes[key], self.over(key)
        positions = [axis.position(trial.values[key]) for trial in trials]
        return importance(positions, [trial.outcome for trial in trials], axis.choice is not None)

    def importances(self) -> dict[str, Importance | None]:
        """Of each axis, the largest first, what allows no statement last."""
        found = {key: self.importance_of(key) for key in self.axes}
        return dict(sorted(found.items(), key=lambda item: -item[1].share if item[1] else 1.0))

    def losses(self, of: str, split: str) -> list[float]:
        """Of a finalist's seeds, as far as they are there."""
        found = [getattr(finalist, split) for finalist in self.finalists if finalist.of == of]
        return [loss for loss in found if loss is not None]


def read_searches(runs: list[Run]) -> list[Search]:
    """The searches that any of the runs are trials or finalists of.

    Raises:
        UserError: a search.json cannot be read.
    """
    folders = dict.fromkeys(folder for run in runs for folder in (run.folder.parent, run.folder.parent.parent))
    paths = [folder / "search.json" for folder in folders]
    return [validate(path, Search, read_object(path)) for path in paths if path.exists()]


def without_trials(runs: list[Run]) -> list[Run]:
    """The runs without trials whose finalists are there: the search shows them all, and its best are trained anew."""
    retrained = {run.folder.parent.parent for run in runs if run.folder.parent.name == "finalists"}
    searched = {folder for folder in retrained if (folder / "search.json").exists()}
    return [run for run in runs if run.folder.parent not in searched]
