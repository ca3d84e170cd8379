"""The parts of a checked run, built on the device that they will run on: teachers, student, objectives, optimizer."""

import torch
from transformers import PreTrainedModel

from palenka import optimizers
from palenka.models.folder import load_frozen
from palenka.models.forward import check_heeds_masks
from palenka.models.fused_gelu import use_fused_gelu
from palenka.models.fused_llama import use_fused_layers
from palenka.models.huggingface import build_model
from palenka.models.logits import check_student
from palenka.models.onednn import use_onednn
from palenka.models.outputs import model_shape
from palenka.objectives import Objective, ObjectiveConfig
from palenka.optimizers import Optimizer
from palenka.teachers.keeping import KeepingTeachers
from palenka.teachers.live import Teachers
from palenka.teachers.replay import CachedTeachers
from palenka.training.loss_module import LossModule
from palenka.training.plan import Plan, TeacherPlan, Workload
from palenka.util.hardware import DTYPES
from palenka.util.seeds import seeded


def find_teachers(plan: Plan, device: torch.device) -> Teachers:
    """The trained teachers, or what was recorded of them.

    Raises:
        UserError: one that cannot teach, or nothing has been recorded.
    """
    if plan.cached_logits is not None:
        plan.cached_logits.check(plan.total_windows)
        return CachedTeachers(plan.cached_logits, device)
    teachers = load_teachers(plan, device)
    if plan.kept_states is None:
        return teachers
    plan.kept_states.open()
    return KeepingTeachers(teachers, plan.kept_states, plan.windows().first_positions, plan.total_windows)


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
        if work.config.sets_attention:
            check_heeds_masks(model)
        use_onednn(model, model.base_model)  # not the heads, which go through chunks together
    return Teachers(models, [teacher.shape.share for teacher in work.teachers], work.model.vocab_size)


def build_loss_module(work: Workload, teachers: Teachers, device: torch.device) -> LossModule:
    """The student and the objectives with initial weights."""
    return LossModule(build_student(work, device), build_objectives(work), teachers, work.taught)


def build_student(work: Workload, device: torch.device) -> PreTrainedModel:
    """The model that is trained, with initial weights, in training mode.

    Raises:
        UserError: its logits are more than a linear layer of its last states, or the paradigm has masks and it heeds
            none.
    """
    student = build_model(work.model, work.config.seed, device)
    check_student(student)
    if work.config.sets_attention:
        check_heeds_masks(student)
    use_fused_layers(student)
    use_fused_gelu(student)
    return student.train()


def build_objectives(work: Workload) -> dict[str, Objective]:
    """The terms of the loss, with initial weights of what they own."""
    return {name: _build_objective(name, config, work) for name, config in work.config.terms.items()}


def _build_objective(name: str, config: ObjectiveConfig, work: Workload) -> Objective:
    with seeded(work.config.seed, "objective", name):
        return work.config.objective_class(name)(config, model_shape(work.model), work.teacher_shapes)


def build_optimizer(work: Workload, loss: LossModule) -> Optimizer:
    """The optimizer of all that is trained."""
    return optimizers.build(work.config.training, loss)
