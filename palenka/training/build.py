"""The Distiller of a checked run: teachers, student and objectives, built on the device that they will run on."""

import sys

import torch
from transformers import PreTrainedModel

from palenka import objectives
from palenka.cost.estimate import flops_per_token
from palenka.models.folder import load_frozen
from palenka.models.huggingface import build_model, model_shape
from palenka.models.logits import check_student
from palenka.models.onednn import use_fast_layers
from palenka.objectives import Objective, ObjectiveConfig
from palenka.teachers.cached import RecordedTeachers
from palenka.teachers.live import Teachers
from palenka.training.loss_module import Distiller
from palenka.training.plan import Plan, TeacherPlan, Workload
from palenka.util.config import UserError
from palenka.util.hardware import DTYPES, compiler_problem
from palenka.util.seeds import seeded

COMPILE_FROM = {"cpu": 2e14, "cuda": 5e16}  # FLOPs of a whole training; below, it would take longer than it saves


def find_teachers(plan: Plan, device: torch.device) -> Teachers:
    """The trained teachers, or what was recorded of them."""
    return RecordedTeachers(plan.signal, device) if plan.signal else load_teachers(plan, device)


def load_teachers(work: Workload, device: torch.device) -> Teachers:
    """The trained teachers, in the precision of the training."""
    return _teachers(work, [load_frozen(teacher.folder, DTYPES[work.precision], device) for teacher in work.teachers])


def random_teachers(work: Workload, device: torch.device) -> Teachers:
    """Teachers of the same shapes with random weights, for measurements."""
    return _teachers(work, [_random_teacher(teacher, work, device) for teacher in work.teachers])


def _random_teacher(teacher: TeacherPlan, work: Workload, device: torch.device) -> PreTrainedModel:
    model = build_model(teacher.model, 0, device).to(DTYPES[work.precision])
    return model.eval().requires_grad_(False)


def _teachers(work: Workload, models: list[PreTrainedModel]) -> Teachers:
    for model in models:
        use_fast_layers(model, model.base_model)  # not the heads, which go through chunks together
    return Teachers(models, [teacher.shape.share for teacher in work.teachers], work.model.vocab_size)


def build_distiller(work: Workload, teachers: Teachers, device: torch.device) -> Distiller:
    """The student and the objectives with initial weights, in training mode."""
    student = build_model(work.model, work.config.seed, device)
    check_student(student)
    terms = {name: _build_objective(name, config, work) for name, config in work.config.terms.items()}
    return Distiller(student, teachers, terms).to(device).train()


def _build_objective(name: str, config: ObjectiveConfig, work: Workload) -> Objective:
    with seeded(work.config.seed, "objective", name):
        return objectives.find(name)(config, model_shape(work.model), work.teacher_shapes)


def is_to_be_compiled(plan: Plan, device: torch.device, speaks: bool) -> bool:
    """Whether a run compiles its parts: as the config says, or where it is long enough and a compiler is at hand.

    Args:
        plan: the run.
        device: it trains on.
        speaks: whether this process is the one that says when a compiler is missing.

    Raises:
        UserError: the config demands it, and it does not work here.
    """
    wanted = plan.config.training.compile
    tokens = plan.total_steps * plan.config.training.batch_size * plan.config.data.seq_length
    if wanted is False or (wanted == "auto" and flops_per_token(plan).of() * tokens < COMPILE_FROM[device.type]):
        return False
    problem = compiler_problem(device)
    if problem and wanted is True:
        raise UserError(f"training.compile: true, but compiling does not work here: {problem}")
    if problem and speaks:
        name = plan.config.name
        print(f"{name}: trained uncompiled, for compiling does not work here: {problem}", file=sys.stderr)
    return problem is None
