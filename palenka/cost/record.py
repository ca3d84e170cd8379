"""What the training of a finished run cost, on record: cost.json, beside result.json.

FLOPs are those of matrix products, as `estimate.py` counts them of a run's models, batches and steps, each step once.
What repeats is not in it: steps that a resume took again, dev evaluations, milestones.

    cost.json   student, teachers: FLOPs of the run's training, and of its teachers' forward passes in it
                trainings: what training its teachers cost, and theirs, each once: {sha256 of weights: {name, flops}}
                unknown: {a teacher: why that is not known}

The passes are those of the run alone: students of a grid, which equal their solo runs, share them. A run that reads its
teachers' logits from a cache has none: the cache was made once for all who read it.
"""

from pathlib import Path
from typing import Any

from palenka.cost.estimate import flops_per_token
from palenka.training.plan import Plan, TeacherPlan
from palenka.util.errors import UserError
from palenka.util.files import read_object, write_json

COST = "cost.json"


def record_cost(plan: Plan) -> None:
    """Write `cost.json` of a finished run; an unfinished one is left as it is.

    Raises:
        UserError: the record of a teacher, or the run's result, is damaged.
    """
    path = plan.folder / COST
    if (plan.folder / "result.json").exists() and _read(path) != (found := _cost_of(plan)):
        write_json(path, found)


def _read(path: Path) -> dict[str, Any] | None:
    """What is there; None of nothing, and of a record that is damaged, which is written anew."""
    try:
        return read_object(path) if path.exists() else None
    except UserError:
        return None


def _cost_of(plan: Plan) -> dict[str, Any]:
    tokens = read_object(plan.folder / "result.json")["steps"] * plan.tokens_per_step
    spent = flops_per_token(plan).times(tokens)
    trainings: dict[str, dict[str, Any]] = {}
    unknown: dict[str, str] = {}
    learns_from = plan.teachers if spent.teachers or plan.config.recorded else []  # of a control's, nothing is asked
    for teacher in learns_from:
        found = _cost_of_teacher(teacher)
        trainings |= found["trainings"]
        unknown |= found["unknown"]
    return {"student": spent.student, "teachers": spent.teachers, "trainings": trainings, "unknown": unknown}


def _cost_of_teacher(teacher: TeacherPlan) -> dict[str, Any]:
    """Trainings that led to a teacher, its own among them, and what is not known of them."""
    path = teacher.folder / COST
    if not path.exists():
        was_run = (teacher.folder / "identity.json").exists()
        why = "its training, started again, only writes it" if was_run else "it was not trained here"
        return {"trainings": {}, "unknown": {teacher.name: f"it has no {COST}: {why}"}}
    found = read_object(path)
    try:
        own = {teacher.weights_sha256: {"name": teacher.name, "flops": found["student"] + found["teachers"]}}
        return {"trainings": found["trainings"] | own, "unknown": found["unknown"]}
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged: a figure is missing or not a number ({error})") from None
