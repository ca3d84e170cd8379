"""What a search may cost in all: FLOPs of matrix products, as the cost model counts them, teachers included."""

import math
from collections.abc import Sequence
from pathlib import Path

from palenka.cost.estimate import flops_per_token
from palenka.runs.directory import Run
from palenka.search.space import BudgetConfig
from palenka.training.plan import make_plan, schema_of
from palenka.training.recipes import Recipe, find_recipe
from palenka.util.config import load
from palenka.util.errors import UserError


def flops_in(budget: BudgetConfig | None, runs: Path) -> float:
    """Infinite without a budget, and with one in hours: they are FLOPs when some were measured (`flops_in_hours`).

    Raises:
        UserError: what the run, or one of its teachers, cost is not known.
    """
    if budget is None or budget.hours:
        return math.inf
    return budget.flops if budget.flops is not None else _flops_of([budget.like or ""], runs, set())


def flops_in_hours(hours: float, finished: Sequence[tuple[float, float]]) -> float:
    """What hours of training come to at the rate of finished trials, each (FLOPs, seconds); infinite without any."""
    seconds = sum(took for _, took in finished)
    return 3600 * hours * sum(flops for flops, _ in finished) / seconds if seconds else math.inf


def _flops_of(names: Sequence[str], runs: Path, counted: set[str]) -> float:
    """Of the trainings of runs, of their teachers, and of theirs, each once."""
    total = 0.0
    for name in names:
        if name not in counted:
            counted.add(name)
            recipe = _recipe_of(name, runs)
            config = load(recipe.file, recipe.overrides, schema_of(recipe.file))
            plan = make_plan(config, f"budget.like: {name}", dry_run=True)
            total += plan.total_steps * plan.tokens_per_step * flops_per_token(plan).of()
            total += _flops_of([teacher.name for teacher in plan.teachers], runs, counted)
    return total


def _recipe_of(name: str, runs: Path) -> Recipe:
    file = Run(name, runs).path / "config.yaml"
    recipe = Recipe(file) if file.exists() else find_recipe(name)
    if recipe is None:
        raise UserError(f"budget.like: what the training of {name} cost is not known: {file} is missing, and no config "
                        "in config/ has that name")  # fmt: skip
    return recipe
