"""Whether a training is long enough for its parts to be compiled, and whether that works here."""

import sys

import torch

from palenka.training.plan import Plan
from palenka.util.errors import UserError
from palenka.util.hardware import compiler_problem

COMPILE_FROM = {"cpu": 2e14, "cuda": 5e16}  # FLOPs of a whole training; below, it would take longer than it saves


def should_compile(plan: Plan, device: torch.device, warns: bool) -> bool:
    """Whether a run compiles its parts: as the config says, or if it is long enough and a compiler is available.

    Args:
        plan: the run.
        device: it trains on.
        warns: whether this process is the one that says when a compiler is missing.

    Raises:
        UserError: the config demands it, and it does not work here.
    """
    wanted = plan.config.training.compile
    if wanted is False or (wanted == "auto" and _flops(plan) < COMPILE_FROM[device.type]):
        return False
    problem = compiler_problem(device)
    if problem and wanted is True:
        raise UserError(f"training.compile: true, but compiling does not work here: {problem}")
    if problem and warns:
        name = plan.config.name
        print(f"{name}: torch.compile unavailable, running eager: {problem}", file=sys.stderr)
    return problem is None


def _flops(plan: Plan) -> float:
    """Of the whole training, roughly: 6 a token and parameter of the student, 2 of its teachers (arXiv 2001.08361)."""
    tokens = plan.total_steps * plan.tokens_per_step
    live = [] if plan.cached_logits else [teacher.parameters["total"] for teacher in plan.teachers]
    return tokens * (6.0 * plan.parameters["total"] + 2.0 * sum(live))
