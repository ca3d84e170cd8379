"""How close students are to their teachers on dev text, by each term of a config.

    python benchmarks/dev_terms.py --config config/cpu/student-dskd-3M.yaml cpu/control-3M cpu/student-dskd-3M

What a term owns (projections, heads) is not part of an exported student. So for every student alike it is retrained
on training text, from the same initial values and for the same steps, while the student stays as it is: the figure
says how much of its teachers a student holds, not how well projections happen to fit it. One JSON line per student.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from palenka.cli import command
from palenka.data.batch import Batch
from palenka.models.folder import load_frozen
from palenka.models.outputs import model_shape
from palenka.runs.directory import find_run
from palenka.teachers.live import Teachers
from palenka.training.loss_module import LossModule, StepSize
from palenka.training.plan import Plan, load_plan
from palenka.training.schema import DistillConfig
from palenka.util.hardware import DTYPES, local_device
from palenka.util.seeds import seeded

BATCH = 32
LEARNING_RATE = 2e-3


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="data, teachers and terms")
    parser.add_argument("--steps", type=int, default=100, help="steps that a term's own parameters are trained for")
    parser.add_argument("--set", nargs="*", default=[], metavar="key.path=value", help="override keys of the config")
    parser.add_argument("students", nargs="+", metavar="RUN")
    arguments = parser.parse_args()
    plan = load_plan(arguments.config, arguments.set, DistillConfig)
    students = [find_run(student, plan.runs) for student in arguments.students]
    for student in students:
        print(json.dumps({"student": str(student.relative_to(plan.runs))} | measure(plan, student, arguments.steps)))


def measure(plan: Plan, folder: Path, steps: int) -> dict[str, float]:
    """Each term but the cross-entropy, a mean over the dev tokens."""
    device = local_device()
    student = load_frozen(folder, torch.float32, device)
    teachers = [load_frozen(teacher.folder, DTYPES[plan.precision], device) for teacher in plan.teachers]
    values = {}
    for name, config in plan.config.terms.items():
        if name == "hard_target":
            continue
        with seeded(plan.config.seed, "objective", name):
            shapes = [teacher.shape for teacher in plan.teachers]
            objective = plan.config.objective_class(name)(config, model_shape(plan.model), shapes).to(device)
        loss_module = LossModule(student, {name: objective}, Teachers(teachers))
        if any(True for _ in objective.parameters()):
            fit(loss_module, plan, steps)
        values[name] = round(dev_mean(loss_module, plan), 5)
    return values


def fit(loss_module: LossModule, plan: Plan, steps: int) -> None:
    """Train what the objective owns; the student is frozen."""
    optimizer = torch.optim.AdamW(loss_module.objectives.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    windows = plan.windows()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        batch = plan.paradigm.window_batch(windows, range(step * BATCH, (step + 1) * BATCH))
        loss, _ = run(loss_module, plan, batch, int(batch.counts.sum()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def dev_mean(loss_module: LossModule, plan: Plan) -> float:
    """The term's mean over all dev tokens."""
    batches = list(dev_batches(plan))
    tokens = sum(int(batch.counts.sum()) for batch in batches)
    return sum(run(loss_module, plan, batch, tokens)[1].item() for batch in batches)


def dev_batches(plan: Plan) -> Iterator[Batch]:
    windows = plan.dev_windows()
    for start in range(0, len(windows), BATCH):
        yield plan.paradigm.window_batch(windows, range(start, min(start + BATCH, len(windows))))


def run(loss_module: LossModule, plan: Plan, batch: Batch, tokens: int) -> tuple[Tensor, Tensor]:
    """Loss and terms of a batch, in the precision of the plan, as shares of a mean over `tokens`."""
    device, dtype = local_device(), DTYPES[plan.precision]
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        loss, terms = loss_module(batch.to(device), StepSize(tokens, len(batch)))
    return loss, terms


if __name__ == "__main__":
    main()
